package kernel

// ConvInputGrad is a plan for dx, the gradient of conv2d(x, w) with respect to
// x. For a block of input channels it multiplies the transposed weights with
// dy, which gives the gradient of every patch, and adds the patches up in
// padded channels (col2im). One worker owns an image's block of channels, so
// no two add to one place.
//
// A plan is used by one goroutine at a time.
type ConvInputGrad[T Float] struct {
	planes
	pool  *Pool
	micro *micro[T]

	outputs []block // of O: blocks of the inner dimension
	inputs  []block // of C, one to a chunk
	patches []split // of a block's channels times taps into tiles
	offset  []int   // of a block's weights among the packed ones
	packed  int

	images int // per chunk
	panels [][]run
	pixels int // columns of a chunk, a multiple of nr
	koff   []int

	backward, pack func(worker, chunk int)
	call           struct{ dx, dy, w, ws []T }
}

// maxPatches bounds the patch gradients of a chunk, in elements, so that they
// stay in the second-level cache.
const maxPatches = 1 << 16

// NewConvInputGrad plans the gradient of a convolution of the given shape.
func NewConvInputGrad[T Float](pool *Pool, s ConvShape) (*ConvInputGrad[T], error) {
	if err := s.Check(); err != nil {
		return nil, err
	}
	oh, ow := s.Out()
	g := &ConvInputGrad[T]{planes: newPlanes(s, oh), pool: pool, micro: microFor[T]()}
	nr := g.micro.nr
	g.images = 1
	if g.image < minPixels {
		g.images = min(s.N, minPixels/g.image)
	}
	total := g.images * oh * ow
	g.pixels = ceilDiv(total, nr) * nr
	g.panels = make([][]run, g.pixels/nr)
	for i := range g.panels {
		for col := 0; col < nr && i*nr+col < total; {
			image, at := (i*nr+col)/g.image, (i*nr+col)%g.image
			n := min(nr-col, g.image-at)
			g.panels[i] = append(g.panels[i], run{col, n, image*s.O*g.image + at})
			col += n
		}
	}
	g.outputs = blocks(s.O, blockK)
	for o := range largest(g.outputs) {
		g.koff = append(g.koff, o*g.image)
	}
	g.inputs = blocks(s.C, max(1, maxPatches/(g.window*g.pixels)))
	for _, in := range g.inputs {
		t := newSplit(in.n*g.window, g.micro.mr)
		g.patches = append(g.patches, t)
		g.offset = append(g.offset, g.packed)
		g.packed += s.O * t.tiles * g.micro.mr
	}
	g.backward, g.pack = g.backwardChunk, g.packBlock
	return g, nil
}

// PackedWeights returns the number of elements of packed weights.
func (g *ConvInputGrad[T]) PackedWeights() int { return g.packed }

// Workspace returns the number of elements that Run needs as scratch.
func (g *ConvInputGrad[T]) Workspace() int { return g.pool.workers * g.scratch() }

// scratch is one worker's share of the workspace: a panel, the patch
// gradients of a chunk, and one padded channel.
func (g *ConvInputGrad[T]) scratch() int {
	nr := g.micro.nr
	return roundUp(len(g.koff)*nr+nr) + roundUp(largest(g.inputs)*g.window*g.pixels) + roundUp(g.channel)
}

// PackWeights lays w (O,C,KH,KW) out for Run; packed has PackedWeights()
// elements. The layout differs from ConvForward's.
func (g *ConvInputGrad[T]) PackWeights(packed, w []T) {
	_, size, _ := g.sizes()
	checkLen("w", len(w), size)
	checkLen("packed weights", len(packed), g.packed)
	g.call.w, g.call.ws = w, packed
	g.pool.Run(len(g.inputs), g.pack)
	g.call.w, g.call.ws = nil, nil
}

func (g *ConvInputGrad[T]) packBlock(_, chunk int) {
	t, ld := g.patches[chunk], g.C*g.window
	for _, out := range g.outputs {
		dst := g.call.ws[g.offset[chunk]+out.from*t.tiles*g.micro.mr:]
		g.micro.packColumns(t, 0, t.tiles, out.n, dst, g.call.w[out.from*ld+g.inputs[chunk].from*g.window:], ld)
	}
}

// Run computes dx (N,C,H,W) from dy (N,O,OH,OW) and weights that PackWeights
// has laid out; ws has Workspace() elements. It panics where a slice is too
// short.
func (g *ConvInputGrad[T]) Run(ws, dx, dy, packed []T) {
	sizeX, _, sizeY := g.sizes()
	checkLen("workspace", len(ws), g.Workspace())
	checkLen("dx", len(dx), sizeX)
	checkLen("dy", len(dy), sizeY)
	checkLen("packed weights", len(packed), g.packed)
	g.call.dx, g.call.dy, g.call.w, g.call.ws = dx, dy[:sizeY], packed, ws
	g.pool.Run(ceilDiv(g.N, g.images)*len(g.inputs), g.backward)
	g.call.dx, g.call.dy, g.call.w, g.call.ws = nil, nil, nil, nil
}

func (g *ConvInputGrad[T]) backwardChunk(worker, chunk int) {
	n0, b := chunk/len(g.inputs)*g.images, chunk%len(g.inputs)
	n1 := min(n0+g.images, g.N)
	nr := g.micro.nr
	ws := g.call.ws[worker*g.scratch():][:g.scratch()]
	panel, ws := ws[:len(g.koff)*nr+nr], ws[roundUp(len(g.koff)*nr+nr):]
	patches, padded := ws, ws[roundUp(largest(g.inputs)*g.window*g.pixels):]

	g.patchGrads(panel, patches, n0, n1, b)
	for n := n0; n < n1; n++ {
		for c := range g.inputs[b].n {
			dx := g.call.dx[(n*g.C+g.inputs[b].from+c)*g.H*g.W:][:g.H*g.W]
			from := patches[c*g.window*g.pixels+(n-n0)*g.image:]
			if g.direct {
				copy(dx, from)
				continue
			}
			channel := padded[:g.channel]
			clear(channel)
			for t, at := range g.taps {
				g.micro.addRows(g.oh, g.ow, channel[at:], g.cols, from[t*g.pixels:], g.ow)
			}
			unpad(g.micro, &g.planes, dx, channel)
		}
	}
}

// patchGrads multiplies a block's transposed weights with images [n0, n1) of
// dy: patches is (channels of the block, KH, KW, pixels).
func (g *ConvInputGrad[T]) patchGrads(panel, patches []T, n0, n1, b int) {
	nr, t := g.micro.nr, g.patches[b]
	valid := (n1 - n0) * g.image
	beta := 0
	for _, out := range g.outputs {
		weights := g.call.w[g.offset[b]+out.from*t.tiles*g.micro.mr:]
		dy := g.call.dy[(n0*g.O+out.from)*g.image:]
		for i := 0; i*nr < valid; i++ {
			if valid-i*nr >= nr && len(g.panels[i]) == 1 {
				g.micro.copyPanel(out.n, panel, dy[g.panels[i][0].off:], g.image)
			} else {
				packRuns(nr, panel, dy, g.koff[:out.n], g.panels[i], valid-i*nr)
			}
			g.micro.panel(t, 0, t.tiles, out.n, weights, panel, patches[i*nr:], g.pixels, beta)
		}
		beta = 1
	}
}
