package kernel

// ConvFilterGrad is a plan for dw, the gradient of conv2d(x, w) with respect
// to w. It is a matrix product whose inner dimension runs over all output
// pixels of the batch: rows are input channels and taps, read in place from
// padded channels, and columns are output channels, packed from dy.
//
// The batch is cut into parts, their number fixed by the shape. Each part sums
// into a buffer of its own, and the buffers are added in order, so that the
// result does not depend on the workers.
//
// A plan is used by one goroutine at a time.
type ConvFilterGrad[T Float] struct {
	planes
	pool  *Pool
	micro *micro[T]

	parts   []block // of N
	inputs  []block // of C
	slots   int     // channels in the largest of these
	tiles   []split // of a block's channels times taps
	koff    []int
	columns int // panels of nr output channels

	images int     // padded at a time
	starts []int   // where the output rows of these images begin in padded channels
	steps  []block // of starts: rows whose panel of dy stays in the first-level cache
	padded int

	partial, reduce func(worker, chunk int)
	call            struct{ dw, x, dy, sums, ws []T }
}

const (
	maxParts    = 16      // of a batch
	maxPartials = 2 << 20 // elements of all parts' buffers, if there is more than one
	maxPadded   = 1 << 16 // elements of padded channels, unless one is larger
	blockRows   = 144     // channels times taps of a block: what packing dy is spread over
	reduceRows  = 64      // of a chunk of the last sum, a multiple of 8
)

// NewConvFilterGrad plans the gradient of a convolution of the given shape.
func NewConvFilterGrad[T Float](pool *Pool, s ConvShape) (*ConvFilterGrad[T], error) {
	if err := s.Check(); err != nil {
		return nil, err
	}
	oh, ow := s.Out()
	g := &ConvFilterGrad[T]{planes: newPlanes(s, oh), pool: pool, micro: microFor[T]()}
	mr, nr := g.micro.mr, g.micro.nr
	g.columns = ceilDiv(s.O, nr)
	g.parts = blocks(s.N, ceilDiv(s.N, max(1, min(maxParts, maxPartials/g.partSize()))))
	g.images = 1
	if g.image < minPixels {
		g.images = min(largest(g.parts), ceilDiv(minPixels, g.image))
	}
	g.inputs = blocks(s.C, max(1, min(ceilDiv(blockRows, g.window), maxPadded/(g.images*g.channel))))
	for _, in := range g.inputs {
		g.tiles = append(g.tiles, newSplit(in.n*g.window, mr))
	}
	g.slots = largest(g.inputs)
	g.koff = g.koffs(g.slots)
	for i := range g.images {
		for r := range oh {
			start := i*g.slots*g.channel + r*g.cols
			if g.direct {
				start = i*s.C*g.image + r*ow
			}
			g.starts = append(g.starts, start)
		}
	}
	g.steps = blocks(len(g.starts), max(1, blockK/ow))
	if !g.direct {
		g.padded = g.images * g.slots * g.channel
	}
	g.partial, g.reduce = g.partialChunk, g.reduceChunk
	return g, nil
}

// partSize is the number of elements of one part's sums: (columns, C·KH·KW, nr).
func (g *ConvFilterGrad[T]) partSize() int { return g.columns * g.C * g.window * g.micro.nr }

// Workspace returns the number of elements that Run needs as scratch.
func (g *ConvFilterGrad[T]) Workspace() int {
	return roundUp(len(g.parts)*g.partSize()) + g.pool.workers*g.scratch()
}

// panelSize is the number of elements of a packed panel of dy.
func (g *ConvFilterGrad[T]) panelSize() int { return largest(g.steps) * g.ow * g.micro.nr }

// scratch is one worker's share of the workspace: a panel and padded channels.
func (g *ConvFilterGrad[T]) scratch() int { return roundUp(g.panelSize()) + roundUp(g.padded) }

// Run computes dw (O,C,KH,KW) from x (N,C,H,W) and dy (N,O,OH,OW); ws has
// Workspace() elements. It panics where a slice is too short.
func (g *ConvFilterGrad[T]) Run(ws, dw, x, dy []T) {
	sizeX, sizeW, sizeY := g.sizes()
	checkLen("workspace", len(ws), g.Workspace())
	checkLen("dw", len(dw), sizeW)
	checkLen("x", len(x), sizeX)
	checkLen("dy", len(dy), sizeY)
	sums := len(g.parts) * g.partSize()
	g.call.dw, g.call.x, g.call.dy = dw, x, dy
	g.call.sums, g.call.ws = ws[:sums], ws[roundUp(sums):]
	g.pool.Run(len(g.parts)*len(g.inputs), g.partial)
	g.pool.Run(ceilDiv(g.C*g.window, reduceRows), g.reduce)
	g.call.dw, g.call.x, g.call.dy, g.call.sums, g.call.ws = nil, nil, nil, nil, nil
}

// partialChunk sums one part of the batch for one block of input channels.
func (g *ConvFilterGrad[T]) partialChunk(worker, chunk int) {
	part, b := chunk/len(g.inputs), chunk%len(g.inputs)
	in := g.inputs[b]
	ws := g.call.ws[worker*g.scratch():][:g.scratch()]
	panel, padded := ws[:g.panelSize()], ws[roundUp(g.panelSize()):]
	sums := g.call.sums[part*g.partSize():][:g.partSize()]

	beta := 0
	from, to := g.parts[part].from, g.parts[part].from+g.parts[part].n
	for n0 := from; n0 < to; n0 += g.images {
		n1 := min(n0+g.images, to)
		x := padded
		if g.direct {
			x = g.call.x[(n0*g.C+in.from)*g.image:]
		} else {
			padImages(g.micro, &g.planes, padded, g.call.x, in, g.slots, n0, n1, 0)
		}
		for _, step := range g.steps {
			rows := min(step.n, (n1-n0)*g.oh-step.from)
			if rows <= 0 {
				break
			}
			for col := range g.columns {
				g.packOutputs(panel, n0, step.from, rows, col)
				g.addTiles(sums, panel, x, g.starts[step.from:][:rows], b, col, beta)
			}
			beta = 1
		}
	}
}

// packOutputs packs one panel of output channels over some rows of pixels,
// counted from image n0 on.
func (g *ConvFilterGrad[T]) packOutputs(panel []T, n0, row, rows, col int) {
	nr := g.micro.nr
	o := col * nr
	for rows > 0 {
		n, r := n0+row/g.oh, row%g.oh
		take := min(rows, g.oh-r)
		dy := g.call.dy[(n*g.O+o)*g.image+r*g.ow:]
		g.micro.packLanes(min(nr, g.O-o), take*g.ow, panel, nr, dy, g.image)
		panel = panel[take*g.ow*nr:]
		row, rows = row+take, rows-take
	}
}

// addTiles multiplies a block's rows with one panel and adds to its sums.
func (g *ConvFilterGrad[T]) addTiles(sums, panel, x []T, starts []int, b, col, beta int) {
	nr := g.micro.nr
	sums = sums[(col*g.C+g.inputs[b].from)*g.window*nr:]
	t := g.tiles[b]
	for i := range t.tiles {
		r0, r1 := t.start(i), t.start(i+1)
		g.micro.gathers[r1-r0](g.ow, starts, g.koff[r0:r1], x, panel, sums[r0*nr:r1*nr], beta)
	}
}

// reduceChunk adds the parts' sums, in order, for some rows of C·KH·KW, and
// turns them into rows of dw.
func (g *ConvFilterGrad[T]) reduceChunk(_, chunk int) {
	nr, all := g.micro.nr, g.C*g.window
	row := chunk * reduceRows
	rows := min(reduceRows, all-row)
	for col := range g.columns {
		at := (col*all + row) * nr
		sums := g.call.sums[at:][:rows*nr]
		for p := 1; p < len(g.parts); p++ {
			g.micro.addRows(1, rows*nr, sums, 0, g.call.sums[p*g.partSize()+at:], 0)
		}
		o := min(nr, g.O-col*nr)
		dw := g.call.dw[col*nr*all+row:]
		whole := rows &^ 7
		for r := 0; r < whole; r += 8 {
			g.micro.transpose(8, o, dw[r:], all, sums[r*nr:], nr)
		}
		transpose(rows-whole, o, dw[whole:], all, sums[whole*nr:], nr)
	}
}
