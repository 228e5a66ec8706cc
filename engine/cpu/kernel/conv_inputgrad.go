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
	inputs  []block // of C
	patches []split // of a block's channels times taps into tiles
	offset  []int   // of a block's weights among the packed ones
	packed  int

	// A chunk is some images and one of several shares of the blocks of C.
	images int
	shares []block
	panels [][]run
	pixels int // of a row of patch gradients, those of the chunk and some unused
	koff   []int

	backward, pack func(worker, chunk int)
	call           struct{ dx, dy, w, ws []T }
}

const (
	// maxPatches bounds the patch gradients of a block, in elements, so that
	// they stay in the second-level cache.
	maxPatches = 1 << 16

	// minChunks is the number of chunks below which a small batch's blocks
	// are shared out; each share packs dy again.
	minChunks = 16
)

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
	g.panels = make([][]run, ceilDiv(total, nr))
	// An odd number of panels to a row: rows a power of two apart would fall
	// on the same lines of the cache.
	g.pixels = (len(g.panels) | 1) * nr
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
	g.shares = blocks(len(g.inputs), ceilDiv(len(g.inputs), ceilDiv(minChunks, ceilDiv(s.N, g.images))))
	g.backward, g.pack = g.backwardChunk, g.packBlock
	return g, nil
}

// PackedWeights returns the number of elements of packed weights.
func (g *ConvInputGrad[T]) PackedWeights() int { return g.packed }

// Workspace returns the number of elements that Run needs as scratch.
func (g *ConvInputGrad[T]) Workspace() int { return g.pool.workers * g.scratch() }

// scratch is one worker's share of the workspace: the packed panels of a
// chunk, the patch gradients of a block, and one padded channel.
func (g *ConvInputGrad[T]) scratch() int {
	return g.panelSize() + roundUp(largest(g.inputs)*g.window*g.pixels) + roundUp(g.channel)
}

func (g *ConvInputGrad[T]) panelSize() int { return roundUp(g.O * len(g.panels) * g.micro.nr) }

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
	g.pool.Run(ceilDiv(g.N, g.images)*len(g.shares), g.backward)
	g.call.dx, g.call.dy, g.call.w, g.call.ws = nil, nil, nil, nil
}

func (g *ConvInputGrad[T]) backwardChunk(worker, chunk int) {
	n0, share := chunk/len(g.shares)*g.images, g.shares[chunk%len(g.shares)]
	n1 := min(n0+g.images, g.N)
	ws := g.call.ws[worker*g.scratch():][:g.scratch()]
	panels, ws := ws[:g.panelSize()], ws[g.panelSize():]
	patches, padded := ws, ws[roundUp(largest(g.inputs)*g.window*g.pixels):]

	for b := share.from; b < share.from+share.n; b++ {
		g.patchGrads(patches, panels, n0, n1, b, share)
		for n := n0; n < n1; n++ {
			for c := range g.inputs[b].n {
				dx := g.call.dx[(n*g.C+g.inputs[b].from+c)*g.H*g.W:][:g.H*g.W]
				g.fold(dx, patches[c*g.window*g.pixels+(n-n0)*g.image:], padded[:g.channel])
			}
		}
	}
}

// patchGrads multiplies a block's transposed weights with images [n0, n1) of
// dy: patches is (channels of the block, KH, KW, pixels). The first block of a
// share packs the panels of dy, and keeps them only if there are more.
func (g *ConvInputGrad[T]) patchGrads(patches, panels []T, n0, n1, b int, share block) {
	nr, t := g.micro.nr, g.patches[b]
	valid := (n1 - n0) * g.image
	for _, out := range g.outputs {
		weights := g.call.w[g.offset[b]+out.from*t.tiles*g.micro.mr:]
		for i := 0; i*nr < valid; i++ {
			panel := panels
			if share.n > 1 {
				panel = panels[(out.from*len(g.panels)+i*out.n)*nr:]
			}
			if b == share.from {
				g.packPanel(panel, g.call.dy[(n0*g.O+out.from)*g.image:], out.n, i, valid)
			}
			g.micro.panel(t, 0, t.tiles, out.n, weights, panel, patches[i*nr:], g.pixels, min(1, out.from))
		}
	}
}

// packPanel packs panel i of a chunk of valid pixels over some outputs.
func (g *ConvInputGrad[T]) packPanel(panel, dy []T, outputs, i, valid int) {
	nr, runs := g.micro.nr, g.panels[i]
	if valid-i*nr >= nr && len(runs) == 1 {
		g.micro.copyPanel(outputs, panel, dy[runs[0].off:], g.image)
	} else {
		packRuns(nr, panel, dy, g.koff[:outputs], runs, valid-i*nr)
	}
}

// fold adds the patch gradients of one channel up to dx (H, W).
func (g *ConvInputGrad[T]) fold(dx, patches, padded []T) {
	if g.direct {
		copy(dx, patches)
		return
	}
	clear(padded)
	for t, at := range g.taps {
		g.micro.addRows(g.oh, g.ow, padded[at:], g.cols, patches[t*g.pixels:], g.ow)
	}
	unpad(g.micro, &g.planes, dx, padded)
}
