package kernel

// patchConv computes dx for images of few channels, of which a panel would be
// nearly empty. Each pixel of dy is multiplied with the whole filter, which
// gives the gradient of the patch that it was computed from; a pixel of dx is
// the sum of its elements of all patches.
type patchConv[T Float] struct {
	pool     *Pool
	micro    *micro[T]
	images   int // of the batch
	dy, dx   extents
	vertical axis
	across   axis
	width    int // of a patch: KH·KW·C in whole panels

	band, bands int // units of dx in a chunk
	rows, cols  int // pixels of dy in a chunk, with those outside
	left, right int // of these columns, the first inside and the first behind
	offs, to    []int
	start       []int // one 0
	phases      []patchPhase

	run  func(worker, chunk int)
	call struct{ ws, dst, src, packed []T }
}

// patchPhase is one phase of either axis: where the elements lie that are
// added up, from the first pixel of a unit on.
type patchPhase struct {
	vertical, across *axisPhase
	elements         []int
}

// MaxPatchChannels is the largest number of image channels that Patches takes.
const MaxPatchChannels = 4

func newPatchConv[T Float](pool *Pool, s ConvShape) *patchConv[T] {
	oh, ow := s.Out()
	f := &patchConv[T]{pool: pool, micro: microFor[T](), images: s.N, dy: extents{oh, ow, s.O}, dx: extents{s.H, s.W, s.C}, start: []int{0}}
	f.vertical = inputGradAxis(s.H, s.KH, s.SH, s.PH, s.DH)
	f.across = inputGradAxis(s.W, s.KW, s.SW, s.PW, s.DW)
	f.width = ceilDiv(s.KH*s.KW*s.C, Lanes) * Lanes
	f.cols = f.across.span(f.across.units)
	f.left, f.right = min(f.cols, -f.across.first), min(f.cols, ow-f.across.first)
	f.band = f.vertical.units
	for f.band > 1 && f.vertical.span(f.band)*f.cols*f.width > maxPadded {
		f.band = ceilDiv(f.band, 2)
	}
	f.bands = ceilDiv(f.vertical.units, f.band)
	f.rows = f.vertical.span(f.band)
	for i := f.left; i < f.right; i++ {
		f.offs = append(f.offs, (i-f.left)*s.O)
		f.to = append(f.to, i*f.width)
	}
	for i := range f.vertical.phases {
		for j := range f.across.phases {
			p := patchPhase{vertical: &f.vertical.phases[i], across: &f.across.phases[j]}
			for k, kh := range p.vertical.taps {
				for l, kw := range p.across.taps {
					p.elements = append(p.elements, (p.vertical.offsets[k]*f.cols+p.across.offsets[l])*f.width+(kh*s.KW+kw)*s.C)
				}
			}
			f.phases = append(f.phases, p)
		}
	}
	f.run = f.chunk
	return f
}

// Workspace implements Conv.
func (f *patchConv[T]) Workspace() int { return f.pool.workers * f.scratch() }

// scratch holds a chunk's patches, and what foldings may read behind them.
func (f *patchConv[T]) scratch() int { return roundUp(f.rows*f.cols*f.width + MaxPatchChannels) }

// Run implements Conv.
func (f *patchConv[T]) Run(ws, dst, src, packed []T) {
	checkLen("workspace", len(ws), f.Workspace())
	checkLen("result", len(dst), f.images*f.dx.size())
	checkLen("source", len(src), f.images*f.dy.size())
	checkLen("packed filter", len(packed), f.width*f.dy.c)
	f.call.ws, f.call.dst, f.call.src, f.call.packed = ws, dst, src, packed
	f.pool.Run(f.images*f.bands, f.run)
	f.call.ws, f.call.dst, f.call.src, f.call.packed = nil, nil, nil, nil
}

func (f *patchConv[T]) chunk(worker, chunk int) {
	n, u0 := chunk/f.bands, chunk%f.bands*f.band
	units := min(f.band, f.vertical.units-u0)
	patches := f.call.ws[worker*f.scratch():][:f.scratch()]
	for r := range f.vertical.span(units) {
		f.patchRow(patches[r*f.cols*f.width:][:f.cols*f.width], n, f.vertical.first+u0+r)
	}
	clear(patches[f.rows*f.cols*f.width:])
	dst := f.call.dst[n*f.dx.size():][:f.dx.size()]
	for i := range f.phases {
		p := &f.phases[i]
		width := f.across.reach(p.across, f.across.units, f.dx.w)
		for u := range f.vertical.reach(p.vertical, units, f.dx.h-u0*f.vertical.to) {
			y := (u0+u)*f.vertical.to + p.vertical.at
			if width > 0 {
				f.micro.folds[f.dx.c](width, p.elements, patches[u*f.cols*f.width:], f.width, dst[(y*f.dx.w+p.across.at)*f.dx.c:], f.across.to*f.dx.c)
			}
		}
	}
}

// patchRow computes the patches of row y of dy, which may lie outside.
func (f *patchConv[T]) patchRow(row []T, n, y int) {
	if y < 0 || y >= f.dy.h || len(f.offs) == 0 {
		clear(row)
		return
	}
	clear(row[:f.left*f.width])
	clear(row[f.right*f.width:])
	src := f.call.src[(n*f.dy.h+y)*f.dy.w*f.dy.c:]
	f.micro.gather(f.dy.c, 1, f.start, f.offs, f.to, src, f.call.packed, row, f.dy.c*Lanes, Lanes, f.width, 0)
}

// fold adds up, for each of n pixels of c channels, the elements that begin at
// elements of p; pixels lie step apart in p and dstStep in dst.
func fold[T Float](c int) func(n int, elements []int, p []T, step int, dst []T, dstStep int) {
	return func(n int, elements []int, p []T, step int, dst []T, dstStep int) {
		for i := range n {
			for j := range c {
				var sum T
				for _, e := range elements {
					sum += p[i*step+e+j]
				}
				dst[i*dstStep+j] = sum
			}
		}
	}
}
