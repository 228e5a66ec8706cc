package kernel

// ConvFilterGrad is a plan for dw, the gradient of a convolution with respect
// to its filter: one of the two implementations below. The order in which
// products are added up follows from the shape alone. A plan is used by one
// goroutine at a time.
type ConvFilterGrad[T Float] interface {
	// Workspace returns the number of elements that Run needs as scratch.
	Workspace() int
	// Run computes dw (O,KH,KW,C) from x (N,H,W,C) and dy (N,OH,OW,O). It
	// panics where a slice is too short.
	Run(ws, dw, x, dy []T)
}

// NewConvFilterGrad plans the gradient of a convolution's filter.
func NewConvFilterGrad[T Float](pool *Pool, s ConvShape, a Algorithm) (ConvFilterGrad[T], error) {
	if err := s.check(Forward, a); err != nil {
		return nil, err
	}
	if a == Winograd {
		return newWinogradFilterGrad[T](pool, s), nil
	}
	return newDirectFilterGrad[T](pool, s), nil
}

// directFilterGrad is a matrix product whose inner dimension runs over all
// results of the batch: rows are taps and input channels, read through tables
// from a padded copy of x or in place, and columns are output channels, packed
// from dy.
//
// The batch is cut into parts, their number fixed by the shape. Each part sums
// into an array of its own, and these are added in order.
type directFilterGrad[T Float] struct {
	ConvShape
	pool  *Pool
	micro *micro[T]

	vertical, across axis
	oh, ow           int
	inPlace          bool
	depth            int // KH·KW·C
	panels           int // of O
	parts            []block
	inputs           []inputBlock
	group            int     // images that are taken together
	steps            []block // of their rows of results: a panel of dy stays in the first-level cache
	starts           []int   // of the rows of results of these images
	channels         int     // of a pixel where it is read
	padded           int     // elements of the padded copy

	partial, reduce func(worker, chunk int)
	call            struct{ dw, x, dy, sums, ws []T }
}

// inputBlock is a range of input channels with the tables of its rows.
type inputBlock struct {
	block
	offs, to []int
}

const (
	maxParts     = 16      // of a batch
	maxPartials  = 2 << 20 // elements of all parts' sums, if there is more than one
	maxCopied    = 1 << 16 // elements of the padded copy, unless an image has more in one channel
	blockRows    = 576     // rows of a block: what packing dy is spread over
	reduceRows   = 64      // of a chunk of the last sum, a multiple of 8
	minGroupRows = 256     // results of images taken together
)

func newDirectFilterGrad[T Float](pool *Pool, s ConvShape) *directFilterGrad[T] {
	g := &directFilterGrad[T]{ConvShape: s, pool: pool, micro: microFor[T]()}
	g.oh, g.ow = s.Out()
	g.vertical = forwardAxis(g.oh, s.KH, s.SH, s.PH, s.DH)
	g.across = forwardAxis(g.ow, s.KW, s.SW, s.PW, s.DW)
	g.inPlace = g.vertical.inside(s.H) && g.across.inside(s.W)
	g.depth, g.panels = s.KH*s.KW*s.C, ceilDiv(s.O, Lanes)
	g.parts = blocks(s.N, ceilDiv(s.N, max(1, min(maxParts, maxPartials/g.partSize()))))
	g.group = min(largest(g.parts), ceilDiv(minGroupRows, g.oh*g.ow))
	g.steps = blocks(g.group*g.oh, max(1, blockK/g.ow))
	g.lay()
	g.partial, g.reduce = g.partialChunk, g.reduceChunk
	return g
}

// lay cuts the input channels into blocks and finds the tables.
func (g *directFilterGrad[T]) lay() {
	s := &g.ConvShape
	rows, cols := g.vertical.span(g.oh), g.across.span(g.ow)
	list := blocks(s.C, max(1, min(ceilDiv(blockRows, s.KH*s.KW), maxCopied/(g.group*rows*cols))))
	channels, origin := largest(list), 0
	if g.inPlace {
		rows, cols, channels = s.H, s.W, s.C
		origin = (g.vertical.first*cols + g.across.first) * channels
	} else {
		g.padded = g.group * rows * cols * channels
	}
	g.channels = channels
	for n := range g.group {
		for i := range g.oh {
			g.starts = append(g.starts, origin+(n*rows+i*s.SH)*cols*channels)
		}
	}
	for _, b := range list {
		in := inputBlock{block: b}
		for kh := range s.KH {
			for kw := range s.KW {
				for c := range b.n {
					at := c
					if g.inPlace {
						at = b.from + c
					}
					in.offs = append(in.offs, (kh*s.DH*cols+kw*s.DW)*channels+at)
					in.to = append(in.to, ((kh*s.KW+kw)*s.C+b.from+c)*Lanes)
				}
			}
		}
		g.inputs = append(g.inputs, in)
	}
}

// partSize is the number of elements of one part's sums: (panels, depth, Lanes).
func (g *directFilterGrad[T]) partSize() int { return g.panels * g.depth * Lanes }

// Workspace implements ConvFilterGrad.
func (g *directFilterGrad[T]) Workspace() int {
	return roundUp(len(g.parts)*g.partSize()) + g.pool.workers*g.scratch()
}

// panelSize is the number of elements of a packed panel of dy.
func (g *directFilterGrad[T]) panelSize() int { return largest(g.steps) * g.ow * Lanes }

// panelsSize is that of the panels that are multiplied at a time.
func (g *directFilterGrad[T]) panelsSize() int { return g.micro.columns / Lanes * g.panelSize() }

// scratch is one worker's share of the workspace: panels and a padded copy.
func (g *directFilterGrad[T]) scratch() int { return g.panelsSize() + roundUp(g.padded) }

// Run implements ConvFilterGrad.
func (g *directFilterGrad[T]) Run(ws, dw, x, dy []T) {
	sizeX, sizeW, sizeY := g.sizes()
	checkLen("workspace", len(ws), g.Workspace())
	checkLen("filter gradient", len(dw), sizeW)
	checkLen("x", len(x), sizeX)
	checkLen("dy", len(dy), sizeY)
	sums := len(g.parts) * g.partSize()
	g.call.dw, g.call.x, g.call.dy = dw, x, dy
	g.call.sums, g.call.ws = ws[:sums], ws[roundUp(sums):]
	g.pool.Run(len(g.parts)*len(g.inputs), g.partial)
	g.pool.Run(ceilDiv(g.depth, reduceRows), g.reduce)
	g.call.dw, g.call.x, g.call.dy, g.call.sums, g.call.ws = nil, nil, nil, nil, nil
}

// partialChunk sums one part of the batch for one block of input channels.
func (g *directFilterGrad[T]) partialChunk(worker, chunk int) {
	part, in := g.parts[chunk/len(g.inputs)], &g.inputs[chunk%len(g.inputs)]
	sums := g.call.sums[chunk/len(g.inputs)*g.partSize():][:g.partSize()]
	ws := g.call.ws[worker*g.scratch():][:g.scratch()]
	panels, padded := ws[:g.panelsSize()], ws[g.panelsSize():]
	beta := 0
	for n := part.from; n < part.from+part.n; n += g.group {
		images := min(g.group, part.from+part.n-n)
		x := padded
		if g.inPlace {
			x = g.call.x[n*g.H*g.W*g.C:]
		} else {
			g.pad(padded, in.block, n, images)
		}
		for _, step := range g.steps {
			rows := min(step.n, images*g.oh-step.from)
			if rows <= 0 {
				break
			}
			dy := g.call.dy[(n*g.oh+step.from)*g.ow*g.O:]
			for o := 0; o < g.panels*Lanes; o += g.micro.columns {
				cols := min(g.micro.columns, g.panels*Lanes-o)
				for c := 0; c < cols; c += Lanes {
					packPanel(g.micro, panels[c/Lanes*g.panelSize():], dy[o+c:], rows*g.ow, min(Lanes, g.O-o-c), g.O)
				}
				g.micro.gather(g.ow, g.SW*g.channels, g.starts[step.from:][:rows], in.offs, in.to, x, panels, sums[o*g.depth:],
					g.panelSize(), g.depth*Lanes, cols, beta)
			}
			beta = 1
		}
	}
}

// pad copies a block of the channels of some images.
func (g *directFilterGrad[T]) pad(dst []T, in block, n0, images int) {
	rows, cols := g.vertical.span(g.oh), g.across.span(g.ow)
	channels := g.channels
	left, right := min(cols, g.PW), min(cols, g.W+g.PW)
	for n := range images {
		for r := range rows {
			row := dst[(n*rows+r)*cols*channels:][:cols*channels]
			y := r - g.PH
			if y < 0 || y >= g.H || left == right {
				clear(row)
				continue
			}
			clear(row[:left*channels])
			clear(row[right*channels:])
			src := g.call.x[(((n0+n)*g.H+y)*g.W+left-g.PW)*g.C+in.from:]
			copyBlocks(row[left*channels:], src, right-left, in.n, channels, g.C)
		}
	}
}

// copyBlocks copies rows of n elements.
func copyBlocks[T Float](dst, src []T, rows, n, dstStride, srcStride int) {
	if n == dstStride && n == srcStride {
		copy(dst[:rows*n], src)
		return
	}
	for r := range rows {
		copy(dst[r*dstStride:][:n], src[r*srcStride:])
	}
}

// packPanel packs columns of rows that lie stride apart into a panel, padded
// with zeros.
func packPanel[T Float](m *micro[T], dst, src []T, rows, columns, stride int) {
	if columns == Lanes {
		m.copyLanes(rows, dst, src, stride)
		return
	}
	for r := range rows {
		to := (*[Lanes]T)(dst[r*Lanes:])
		*to = [Lanes]T{}
		copy(to[:], src[r*stride:][:columns])
	}
}

// reduceChunk adds the parts' sums, in order, for some rows, and turns them
// into columns of dw.
func (g *directFilterGrad[T]) reduceChunk(_, chunk int) {
	row := chunk * reduceRows
	rows := min(reduceRows, g.depth-row)
	for p := range g.panels {
		at := (p*g.depth + row) * Lanes
		sums := g.call.sums[at:][:rows*Lanes]
		for i := 1; i < len(g.parts); i++ {
			Add(sums, sums, g.call.sums[i*g.partSize()+at:])
		}
		turnPanel(g.micro, g.call.dw[p*Lanes*g.depth+row:], sums, min(Lanes, g.O-p*Lanes), rows, g.depth)
	}
}

// turnPanel stores n columns of a panel as rows that lie ld apart.
func turnPanel[T Float](m *micro[T], dst, panel []T, n, rows, ld int) {
	whole := rows &^ 7
	for r := 0; r < whole; r += 8 {
		m.transpose(8, n, dst[r:], ld, panel[r*Lanes:], Lanes)
	}
	transpose(rows-whole, n, dst[whole:], ld, panel[whole*Lanes:], Lanes)
}

// winogradFilterGrad transforms tiles of x and of dy and multiplies, for each
// of the points, the one's channels with the other's; the inner dimension
// runs over tiles, in order. The sums are transformed to the filter's taps: at the
// end, or, where all tiles are multiplied in one step, block by block, so that they
// never leave the cache.
type winogradFilterGrad[T Float] struct {
	tiling
	taps       int // of a filter
	pool       *Pool
	micro      *micro[T]
	transforms *winogradTransforms[T]
	steps      []block // of the tiles
	in, delta  pointArray
	start      []int // one 0
	offs, to   []int // of each input channel in a panel
	zeros      []T
	rows       []tileRows // a worker

	transform, multiply, restore, block func(worker, chunk int)
	call                                struct{ dw, x, dy, ws []T }
	step                                int
}

const (
	gradTiles    = 256     // of a step: a panel of theirs stays in the first-level cache
	gradElements = 3 << 20 // of both point arrays, unless tiles are few
)

func newWinogradFilterGrad[T Float](pool *Pool, s ConvShape) *winogradFilterGrad[T] {
	g := &winogradFilterGrad[T]{tiling: newTiling(s, Forward), taps: s.KH * s.KW, pool: pool, micro: microFor[T](), start: []int{0}}
	g.transforms = g.micro.winogradOf(s.KH)
	g.steps = blocks(g.tiles(), min(gradTiles, max(64, gradElements/(g.points()*(s.C+s.O)))))
	size := largest(g.steps)
	g.in, g.delta = pointArray{g.points(), s.C / Lanes, size}, pointArray{g.points(), s.O / Lanes, size}
	for c := range s.C {
		g.offs = append(g.offs, c/Lanes*g.in.panelStride()+c%Lanes)
		g.to = append(g.to, c*Lanes)
	}
	g.zeros = make([]T, g.window*max(s.C, s.O))
	g.rows = make([]tileRows, pool.workers)
	g.transform, g.multiply, g.restore, g.block = g.transformChunk, g.multiplyChunk, g.restoreChunk, g.blockChunk
	return g
}

// sums is the number of elements of the products: (points, O/Lanes, C, Lanes). There
// are none where blocks are multiplied.
func (g *winogradFilterGrad[T]) sums() int {
	if g.blocked() {
		return 0
	}
	return g.points() * g.src.c * g.dst.c
}

// blocked reports whether one step does it all.
func (g *winogradFilterGrad[T]) blocked() bool { return len(g.steps) == 1 }

// depth is the number of input channels that are restored at a time.
func (g *winogradFilterGrad[T]) depth() int { return min(g.src.c, packDepth) }

// scratch is one worker's share of the workspace: taps (k·k, depth, Lanes) and,
// where it multiplies blocks, the products of some panels (panels, points, depth, Lanes).
func (g *winogradFilterGrad[T]) scratch() int {
	n := g.taps * g.depth() * Lanes
	if g.blocked() {
		n += g.together() * g.blockSize()
	}
	return n
}

// blockSize is the number of elements of a panel's block of products. Points lie
// an odd number of lines apart.
func (g *winogradFilterGrad[T]) blockSize() int { return g.points() * (g.depth() + 1) * Lanes }

// Workspace implements ConvFilterGrad.
func (g *winogradFilterGrad[T]) Workspace() int {
	return g.sums() + g.in.size() + g.delta.size() + g.pool.workers*g.scratch()
}

// Run implements ConvFilterGrad.
func (g *winogradFilterGrad[T]) Run(ws, dw, x, dy []T) {
	checkLen("workspace", len(ws), g.Workspace())
	checkLen("filter gradient", len(dw), g.taps*g.src.c*g.dst.c)
	checkLen("x", len(x), g.images*g.src.size())
	checkLen("dy", len(dy), g.images*g.dst.size())
	g.call.dw, g.call.x, g.call.dy, g.call.ws = dw, x, dy, ws
	for g.step = range g.steps {
		g.pool.Run(ceilDiv(g.steps[g.step].n, tileChunk), g.transform)
		if !g.blocked() {
			g.pool.Run(g.points()*ceilDiv(g.delta.panels, g.together()), g.multiply)
		}
	}
	if g.blocked() {
		g.pool.Run(ceilDiv(g.src.c, packDepth)*ceilDiv(g.delta.panels, g.together()), g.block)
	} else {
		g.pool.Run(g.delta.panels, g.restore)
	}
	g.call.dw, g.call.x, g.call.dy, g.call.ws = nil, nil, nil, nil
}

// arrays returns the parts of the workspace.
func (g *winogradFilterGrad[T]) arrays() (sums, in, delta, scratch []T) {
	ws := g.call.ws
	sums, ws = ws[:g.sums()], ws[g.sums():]
	in, ws = ws[:g.in.size()], ws[g.in.size():]
	return sums, in, ws[:g.delta.size()], ws[g.delta.size():]
}

func (g *winogradFilterGrad[T]) transformChunk(worker, chunk int) {
	step, rows := g.steps[g.step], &g.rows[worker]
	_, in, delta, _ := g.arrays()
	for t := chunk * tileChunk; t < min((chunk+1)*tileChunk, step.n); t++ {
		n, i, j := g.place(step.from + t)
		mask := rows.pixels(g.src, n, i*tileSide-g.top, j*tileSide-g.left, g.window)
		g.transforms.input(g.in.panels, rows[:g.window], mask, g.src.c, g.call.x, g.zeros, in[t*Lanes:], g.in.stride(), g.in.panelStride())
		mask = rows.pixels(g.dst, n, i*tileSide, j*tileSide, tileSide)
		g.transforms.delta(g.delta.panels, rows[:tileSide], mask, g.dst.c, g.call.dy, g.zeros, delta[t*Lanes:], g.delta.stride(), g.delta.panelStride())
	}
}

func (g *winogradFilterGrad[T]) multiplyChunk(_, chunk int) {
	p, panel := chunk%g.points(), chunk/g.points()*g.together()
	sums, in, delta, _ := g.arrays()
	g.micro.gather(g.steps[g.step].n, Lanes, g.start, g.offs, g.to,
		in[p*g.in.stride():], delta[p*g.delta.stride()+panel*g.delta.panelStride():], sums[(p*g.delta.panels+panel)*g.src.c*Lanes:],
		g.delta.panelStride(), g.src.c*Lanes, min(g.together(), g.delta.panels-panel)*Lanes, min(g.step, 1))
}

// together is the number of panels that are multiplied at a time.
func (g *winogradFilterGrad[T]) together() int { return g.micro.columns / Lanes }

func (g *winogradFilterGrad[T]) restoreChunk(worker, panel int) {
	sums, _, _, scratch := g.arrays()
	taps := scratch[worker*g.scratch():][:g.scratch()]
	for c := 0; c < g.src.c; c += packDepth {
		g.restoreTaps(sums[(panel*g.src.c+c)*Lanes:], g.delta.panels*g.src.c*Lanes, taps, panel, c)
	}
}

// blockChunk multiplies all points of some input channels with those of some
// panels, and restores their taps.
func (g *winogradFilterGrad[T]) blockChunk(worker, chunk int) {
	each := ceilDiv(g.delta.panels, g.together())
	c, panel := chunk/each*packDepth, chunk%each*g.together()
	n, panels := min(packDepth, g.src.c-c), min(g.together(), g.delta.panels-panel)
	_, in, delta, scratch := g.arrays()
	scratch = scratch[worker*g.scratch():][:g.scratch()]
	sums, taps := scratch[:g.together()*g.blockSize()], scratch[g.together()*g.blockSize():]
	pitch := g.blockSize() / g.points()
	for p := range g.points() {
		g.micro.gather(g.steps[0].n, Lanes, g.start, g.offs[c:c+n], g.to[:n],
			in[p*g.in.stride():], delta[p*g.delta.stride()+panel*g.delta.panelStride():], sums[p*pitch:],
			g.delta.panelStride(), g.blockSize(), panels*Lanes, 0)
	}
	for i := range panels {
		g.restoreTaps(sums[i*g.blockSize():], pitch, taps, panel+i, c)
	}
}

// restoreTaps transforms the sums of a panel, from input channel c on, and turns
// them into rows of dw.
func (g *winogradFilterGrad[T]) restoreTaps(sums []T, pitch int, taps []T, panel, c int) {
	n, channels := min(packDepth, g.src.c-c), g.src.c
	dw := g.call.dw[panel*Lanes*g.taps*channels+c:]
	g.transforms.filterGrad(n*Lanes, sums, pitch, taps, n*Lanes)
	for tap := range g.taps {
		turnPanel(g.micro, dw[tap*channels:], taps[tap*n*Lanes:], Lanes, n, g.taps*channels)
	}
}
