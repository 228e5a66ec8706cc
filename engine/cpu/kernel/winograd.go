package kernel

// tiling cuts images of results into tiles of 4×4 pixels, each of which needs a
// window of the source; the tiles of the whole batch are numbered in order.
type tiling struct {
	window    int // pixels of the source along a side: 6 for a 3×3 filter, 8 for 5×5
	images    int
	src, dst  extents
	top, left int // padding of the source, may be negative
	down      int // tiles of a column
	along     int // tiles of a row
}

const tileSide = 4 // results of a tile along a side

// newTiling is for results dst of a convolution of src.
func newTiling(s ConvShape, d Direction) tiling {
	oh, ow := s.Out()
	t := tiling{window: tileSide + s.KH - 1, images: s.N, src: extents{s.H, s.W, s.C}, dst: extents{oh, ow, s.O}, top: s.PH, left: s.PW}
	if d == InputGrad {
		t.src, t.dst, t.top, t.left = t.dst, t.src, s.KH-1-s.PH, s.KW-1-s.PW
	}
	t.down, t.along = ceilDiv(t.dst.h, tileSide), ceilDiv(t.dst.w, tileSide)
	return t
}

func (t *tiling) tiles() int { return t.images * t.down * t.along }

// points is the number of points of a transformed tile.
func (t *tiling) points() int { return t.window * t.window }

// tileRows is where a worker keeps a tile's rows: a local array would move to
// the heap at every call.
type tileRows [8]int

// pixels finds n×n pixels of an image of extents e from (y, x) on: each row's
// place, and the mask of the columns that are inside.
func (rows *tileRows) pixels(e extents, image, y, x, n int) (mask int) {
	for i := range n {
		rows[i] = outside
		if y+i >= 0 && y+i < e.h {
			rows[i] = image*e.size() + ((y+i)*e.w+x)*e.c
		}
		if x+i >= 0 && x+i < e.w {
			mask |= 1 << i
		}
	}
	return mask
}

// pointArray has an array (panels, tiles, Lanes) for each point of the
// transformed tiles. They lie an odd number of cache lines apart, lest the
// stores of a transform fall on the same lines of the cache.
type pointArray struct{ points, panels, tiles int }

func (a pointArray) panelStride() int { return a.tiles * Lanes }
func (a pointArray) stride() int      { return (a.panels*a.tiles | 1) * Lanes }
func (a pointArray) size() int        { return a.points * a.stride() }

// winogradConv transforms tiles of the source, multiplies each of the
// points of all tiles with the filter's, and transforms back. What is between
// fits the second-level cache where each chunk of tiles goes through all three
// steps at once; where the filter does not, all workers take each step
// together, so that it is read once.
type winogradConv[T Float] struct {
	tiling
	pool       *Pool
	micro      *micro[T]
	transforms *winogradTransforms[T]

	together  bool
	steps     []block // of the tiles: chunks, or what is done together
	in, out   pointArray
	starts    []int // of the inner dimension's panels
	lanes     []int // t·Lanes, of tile t in a panel
	multiples int   // panels of results to a chunk of the second step
	zeros     []T
	rows      []tileRows // a worker

	run, transform, multiply, restore func(worker, chunk int)
	call                              struct{ ws, dst, src, packed []T }
	step                              block
}

const (
	maxFilter    = 1 << 20 // elements of transformed filters that chunks may read again and again
	chunkTiles   = 48      // of a chunk, at most
	minTiles     = 18      // of a chunk, unless there are fewer
	cachedFilter = 160e3   // elements of a filter that shares the second-level cache with a chunk's arrays …
	cachedArrays = 125e3   // … of so many elements
	stepTiles    = 512     // of a step that is taken together
	stepElements = 6 << 20 // of both point arrays of such a step, unless tiles are few
	tileChunk    = 8       // tiles that are transformed as one chunk
)

func newWinogradConv[T Float](pool *Pool, s ConvShape, d Direction) *winogradConv[T] {
	g := &winogradConv[T]{tiling: newTiling(s, d), pool: pool, micro: microFor[T]()}
	g.transforms = g.micro.winogradOf(s.KH)
	tiles, points, channels := g.tiles(), g.points(), g.src.c+g.dst.c
	g.together = points*g.src.c*g.dst.c > maxFilter
	size := chunkTiles
	switch {
	case g.together:
		size = min(stepTiles, max(64, stepElements/(points*channels)))
	case points*g.src.c*g.dst.c <= cachedFilter:
		size = min(size, max(minTiles, cachedArrays/(points*channels)))
	}
	if !g.together {
		size = min(size, ceilDiv(tiles, pool.workers))
	}
	g.steps = blocks(tiles, size)
	if !g.together {
		g.steps = groups(tiles, size, len(g.micro.gathers)-1)
	}
	size = largest(g.steps)
	g.in, g.out = pointArray{points, g.src.c / Lanes, size}, pointArray{points, g.dst.c / Lanes, size}
	for p := range g.in.panels {
		g.starts = append(g.starts, p*g.in.panelStride())
	}
	for t := range size {
		g.lanes = append(g.lanes, t*Lanes)
	}
	g.multiples = min(g.out.panels, max(1, chunkWork/(g.src.c*Lanes*size)))
	g.zeros = make([]T, g.window*g.src.c)
	g.rows = make([]tileRows, pool.workers)
	g.run, g.transform, g.multiply, g.restore = g.chunk, g.transformChunk, g.multiplyChunk, g.restoreChunk
	return g
}

// Workspace implements Conv.
func (g *winogradConv[T]) Workspace() int {
	if g.together {
		return g.scratch()
	}
	return g.pool.workers * g.scratch()
}

func (g *winogradConv[T]) scratch() int { return g.in.size() + g.out.size() }

// Run implements Conv.
func (g *winogradConv[T]) Run(ws, dst, src, packed []T) {
	checkLen("workspace", len(ws), g.Workspace())
	checkLen("result", len(dst), g.images*g.dst.size())
	checkLen("source", len(src), g.images*g.src.size())
	checkLen("packed filter", len(packed), g.points()*g.filterPitch())
	g.call.ws, g.call.dst, g.call.src, g.call.packed = ws, dst, src, packed
	if g.together {
		for _, g.step = range g.steps {
			g.pool.Run(ceilDiv(g.step.n, tileChunk), g.transform)
			g.pool.Run(g.points()*ceilDiv(g.out.panels, g.multiples), g.multiply)
			g.pool.Run(ceilDiv(g.step.n, tileChunk), g.restore)
		}
	} else {
		g.pool.Run(len(g.steps), g.run)
	}
	g.call.ws, g.call.dst, g.call.src, g.call.packed = nil, nil, nil, nil
}

// filterPitch is the distance of the points of a packed filter.
func (g *winogradConv[T]) filterPitch() int { return (g.out.panels*g.src.c + 1) * Lanes }

// chunk takes a chunk's tiles through all steps.
func (g *winogradConv[T]) chunk(worker, chunk int) {
	s := g.steps[chunk]
	ws := g.call.ws[worker*g.scratch():][:g.scratch()]
	in, out := ws[:g.in.size()], ws[g.in.size():]
	g.transformTiles(worker, in, s.from, 0, s.n)
	for p := range g.points() {
		g.multiplyPoint(p, 0, g.out.panels, out, in, s.n)
	}
	g.restoreTiles(out, s.from, 0, s.n)
}

func (g *winogradConv[T]) transformChunk(worker, chunk int) {
	t := chunk * tileChunk
	g.transformTiles(worker, g.call.ws, g.step.from, t, min(t+tileChunk, g.step.n))
}

func (g *winogradConv[T]) multiplyChunk(_, chunk int) {
	p, from := chunk%g.points(), chunk/g.points()*g.multiples
	g.multiplyPoint(p, from, min(from+g.multiples, g.out.panels), g.call.ws[g.in.size():], g.call.ws, g.step.n)
}

func (g *winogradConv[T]) restoreChunk(_, chunk int) {
	t := chunk * tileChunk
	g.restoreTiles(g.call.ws[g.in.size():], g.step.from, t, min(t+tileChunk, g.step.n))
}

// transformTiles transforms tiles [t0, t1), counted from tile first on.
func (g *winogradConv[T]) transformTiles(worker int, in []T, first, t0, t1 int) {
	rows := &g.rows[worker]
	for t := t0; t < t1; t++ {
		n, i, j := g.place(first + t)
		mask := rows.pixels(g.src, n, i*tileSide-g.top, j*tileSide-g.left, g.window)
		g.transforms.input(g.in.panels, rows[:g.window], mask, g.src.c, g.call.src, g.zeros, in[t*Lanes:], g.in.stride(), g.in.panelStride())
	}
}

// place returns a tile's image, row and column.
func (t *tiling) place(tile int) (n, i, j int) {
	row := tile / t.along
	return row / t.down, row % t.down, tile % t.along
}

// multiplyPoint multiplies one point of n tiles with panels [from, to) of the
// filter, so much of the inner dimension at a time that a panel stays in the
// first-level cache.
func (g *winogradConv[T]) multiplyPoint(p, from, to int, out, in []T, n int) {
	const most = blockK / Lanes
	a, c := in[p*g.in.stride():], out[p*g.out.stride():]
	for k := 0; k < g.in.panels; k += most {
		starts := g.starts[k:min(k+most, g.in.panels)]
		filter := g.call.packed[p*g.filterPitch()+(from*g.src.c+k*Lanes)*Lanes:]
		g.micro.gather(Lanes, 1, starts, g.lanes[:n], g.lanes[:n], a, filter, c[from*g.out.panelStride():],
			g.src.c*Lanes, g.out.panelStride(), (to-from)*Lanes, min(k, 1))
	}
}

// restoreTiles transforms products back to results.
func (g *winogradConv[T]) restoreTiles(out []T, first, t0, t1 int) {
	pitch := g.dst.w * g.dst.c
	for t := t0; t < t1; t++ {
		n, i, j := g.place(first + t)
		dst := g.call.dst[n*g.dst.size()+i*tileSide*pitch+j*tileSide*g.dst.c:]
		g.transforms.output(g.out.panels, out[t*Lanes:], g.out.stride(), g.out.panelStride(),
			dst, pitch, g.dst.c, min(tileSide, g.dst.h-i*tileSide), min(tileSide, g.dst.w-j*tileSide))
	}
}
