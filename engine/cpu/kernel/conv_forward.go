package kernel

// ConvForward is a plan for y = conv2d(x, w). It is an implicit matrix
// product: rows are output channels, columns are output pixels, and the inner
// dimension runs over input channels and taps. Panels of pixels are packed
// straight from padded channels; the matrix of all patches never exists.
//
// A plan is used by one goroutine at a time.
type ConvForward[T Float] struct {
	planes
	pool  *Pool
	micro *micro[T]

	outputs split   // of O into tiles
	inputs  []block // of C: blocks of the inner dimension
	slots   int     // channels in the largest of these
	koff    []int   // of one such block

	// A chunk is either whole images or a band of rows of one image.
	images, bandRows, bands int
	panels                  []pixels
	padded                  int // elements of the padded channels of a chunk

	forward, pack func(worker, chunk int)
	call          struct{ y, x, w, ws []T }
}

// pixels is one panel of columns: consecutive output pixels of a chunk.
type pixels struct {
	from []run // where they are read: offsets into padded channels
	to   []run // where they are stored: offsets into y
}

const (
	minPixels = 256  // of a chunk, unless the batch ends
	maxPixels = 2048 // of a chunk, unless a row is longer
)

// NewConvForward plans a convolution of the given shape.
func NewConvForward[T Float](pool *Pool, s ConvShape) (*ConvForward[T], error) {
	if err := s.Check(); err != nil {
		return nil, err
	}
	f := &ConvForward[T]{pool: pool, micro: microFor[T]()}
	oh, ow := s.Out()
	f.images, f.bandRows, f.bands = 1, oh, 1
	if oh*ow < minPixels {
		f.images = min(s.N, ceilDiv(minPixels, oh*ow))
	} else if oh*ow > maxPixels {
		f.bands = ceilDiv(oh, max(1, maxPixels/ow))
		f.bandRows = ceilDiv(oh, f.bands)
		f.bands = ceilDiv(oh, f.bandRows)
	}
	f.planes = newPlanes(s, f.bandRows)
	f.outputs = newSplit(s.O, f.micro.mr)
	f.inputs = blocks(s.C, max(1, blockK/f.window))
	f.slots = largest(f.inputs)
	f.koff = f.koffs(f.slots)
	f.padded = f.images*f.slots*f.channel + f.micro.nr
	if f.direct {
		f.padded = 0
	}
	f.layPanels()
	f.forward, f.pack = f.forwardChunk, f.packTile
	return f, nil
}

// layPanels finds the runs of every panel of a full chunk.
func (f *ConvForward[T]) layPanels() {
	nr := f.micro.nr
	total := f.images * f.bandRows * f.ow
	f.panels = make([]pixels, ceilDiv(total, nr))
	for i := range f.panels {
		panel := &f.panels[i]
		for col := 0; col < nr && i*nr+col < total; {
			pixel := i*nr + col
			image, row, x := pixel/(f.bandRows*f.ow), pixel/f.ow%f.bandRows, pixel%f.ow
			n := min(nr-col, total-pixel, f.ow-x)
			from := image*f.slots*f.channel + row*f.cols + x
			if f.direct {
				from = image*f.C*f.image + row*f.ow + x
			}
			panel.from = appendRun(panel.from, run{col, n, from})
			panel.to = appendRun(panel.to, run{col, n, image*f.O*f.image + row*f.ow + x})
			col += n
		}
	}
}

// appendRun joins the run to the last one where it continues it.
func appendRun(runs []run, r run) []run {
	if n := len(runs); n > 0 {
		last := &runs[n-1]
		if last.col+last.n == r.col && last.off+last.n == r.off {
			last.n += r.n
			return runs
		}
	}
	return append(runs, r)
}

// PackedWeights returns the number of elements of packed weights.
func (f *ConvForward[T]) PackedWeights() int {
	return f.C * f.window * f.outputs.tiles * f.micro.mr
}

// Workspace returns the number of elements that Run needs as scratch.
func (f *ConvForward[T]) Workspace() int { return f.pool.workers * f.scratch() }

// scratch is one worker's share of the workspace: a panel, padded channels,
// and the results of a panel that is stored piecemeal.
func (f *ConvForward[T]) scratch() int {
	nr := f.micro.nr
	return roundUp(len(f.koff)*nr+nr) + roundUp(f.padded) + roundUp(f.O*nr)
}

// roundUp keeps parts of a workspace on cache lines.
func roundUp(n int) int { return (n + 15) &^ 15 }

// PackWeights lays w (O,C,KH,KW) out for Run; packed has PackedWeights()
// elements.
func (f *ConvForward[T]) PackWeights(packed, w []T) {
	_, size, _ := f.sizes()
	checkLen("w", len(w), size)
	checkLen("packed weights", len(packed), f.PackedWeights())
	f.call.w, f.call.ws = w, packed
	f.pool.Run(f.outputs.tiles, f.pack)
	f.call.w, f.call.ws = nil, nil
}

func (f *ConvForward[T]) packTile(_, tile int) {
	depth := f.C * f.window
	for _, in := range f.inputs {
		from, k := in.from*f.window, in.n*f.window
		f.micro.packRows(f.outputs, tile, tile+1, k, f.packedBlock(f.call.ws, in), f.call.w[from:], depth)
	}
}

// packedBlock is the part of packed weights that belongs to some inputs.
func (f *ConvForward[T]) packedBlock(packed []T, in block) []T {
	return packed[in.from*f.window*f.outputs.tiles*f.micro.mr:]
}

// Run computes y (N,O,OH,OW) from x (N,C,H,W) and weights that PackWeights
// has laid out; ws has Workspace() elements. It panics where a slice is too
// short.
func (f *ConvForward[T]) Run(ws, y, x, packed []T) {
	sizeX, _, sizeY := f.sizes()
	checkLen("workspace", len(ws), f.Workspace())
	checkLen("y", len(y), sizeY)
	checkLen("x", len(x), sizeX)
	checkLen("packed weights", len(packed), f.PackedWeights())
	f.call.y, f.call.x, f.call.w, f.call.ws = y, x[:sizeX], packed, ws
	f.pool.Run(ceilDiv(f.N, f.images)*f.bands, f.forward)
	f.call.y, f.call.x, f.call.w, f.call.ws = nil, nil, nil, nil
}

func (f *ConvForward[T]) forwardChunk(worker, chunk int) {
	n0, row0 := chunk/f.bands*f.images, chunk%f.bands*f.bandRows
	n1, rows := min(n0+f.images, f.N), min(f.bandRows, f.oh-row0)
	valid := (n1 - n0) * rows * f.ow
	ws := f.call.ws[worker*f.scratch():][:f.scratch()]
	nr := f.micro.nr
	panel, ws := ws[:len(f.koff)*nr+nr], ws[roundUp(len(f.koff)*nr+nr):]
	padded, apart := ws[:f.padded], ws[roundUp(f.padded):]

	y := f.call.y[n0*f.O*f.image+row0*f.ow:]
	beta := 0
	for _, in := range f.inputs {
		k := in.n * f.window
		weights := f.packedBlock(f.call.w, in)
		from := padded
		if f.direct {
			from = f.call.x[(n0*f.C+in.from)*f.image+row0*f.ow:]
		} else {
			padImages(f.micro, &f.planes, padded, f.call.x, in, f.slots, n0, n1, row0)
		}
		for i := 0; i*nr < valid; i++ {
			f.packPixels(panel, from, f.koff[:k], f.panels[i].from, valid-i*nr)
			to := f.panels[i].to
			if len(to) == 1 && valid-i*nr >= nr {
				f.micro.panel(f.outputs, 0, f.outputs.tiles, k, weights, panel, y[to[0].off:], f.image, beta)
				continue
			}
			f.micro.panel(f.outputs, 0, f.outputs.tiles, k, weights, panel, apart, nr, 0)
			for _, r := range to {
				if n := min(r.n, valid-i*nr-r.col); n > 0 {
					f.micro.store(f.O, r.col, n, y[r.off:], f.image, apart, beta)
				}
			}
		}
		beta = 1
	}
}

// packPixels packs one panel. Padded channels have room behind them, x itself
// has not: there, only a whole run is read fast.
func (f *ConvForward[T]) packPixels(panel, from []T, koff []int, runs []run, valid int) {
	if !f.direct || len(runs) == 1 && valid >= f.micro.nr {
		f.micro.copyRuns(panel, from, koff, runs)
	} else {
		packRuns(f.micro.nr, panel, from, koff, runs, valid)
	}
}

// packRuns is copyRuns for the first valid columns, touching nothing else.
func packRuns[T Float](nr int, panel, from []T, koff []int, runs []run, valid int) {
	for _, r := range runs {
		n := min(r.n, valid-r.col)
		if n <= 0 {
			return
		}
		for k, o := range koff {
			copy(panel[k*nr+r.col:][:n], from[o+r.off:])
		}
	}
}
