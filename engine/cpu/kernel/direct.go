package kernel

// Conv is a plan for the result y of a convolution, or for the gradient dx
// with respect to its images: a directConv, winogradConv or patchConv. A plan is
// used by one goroutine at a time.
type Conv[T Float] interface {
	// Workspace returns the number of elements that Run needs as scratch.
	Workspace() int
	// Run computes y (N,OH,OW,O) from x (N,H,W,C), or dx from dy, and a packed
	// filter. It panics where a slice is too short.
	Run(ws, dst, src, packed []T)
}

// NewConv plans one direction of a convolution.
func NewConv[T Float](pool *Pool, s ConvShape, d Direction, a Algorithm) (Conv[T], error) {
	if err := s.check(d, a); err != nil {
		return nil, err
	}
	switch a {
	case Winograd:
		return newWinogradConv[T](pool, s, d), nil
	case Patches:
		return newPatchConv[T](pool, s), nil
	}
	return newDirectConv[T](pool, s, d), nil
}

// axis is one spatial dimension of a convolution as the direct kernels walk
// it. Unit u is what result position u·to+phase needs of the source: under
// each of the phase's taps, position first + u·from + the tap's offset. The
// result y has one phase; the gradient dx has as many as the stride, and each
// tap belongs to one of them.
type axis struct {
	units    int
	first    int // may be negative: padding
	from, to int // steps of the source and of the result from unit to unit
	extent   int // positions that one unit spans
	phases   []axisPhase
}

type axisPhase struct {
	at      int   // of the result
	taps    []int // by rising offset
	offsets []int // not negative
}

func forwardAxis(out, kernel, stride, pad, dilation int) axis {
	a := axis{units: out, first: -pad, from: stride, to: 1, extent: (kernel-1)*dilation + 1, phases: make([]axisPhase, 1)}
	for k := range kernel {
		a.phases[0].taps = append(a.phases[0].taps, k)
		a.phases[0].offsets = append(a.phases[0].offsets, k*dilation)
	}
	return a
}

// inputGradAxis lists the phases by the remainder of their taps' positions.
func inputGradAxis(size, kernel, stride, pad, dilation int) axis {
	a := axis{units: ceilDiv(size, stride), from: 1, to: stride, phases: make([]axisPhase, stride)}
	last := 0
	for q := range a.phases {
		p := &a.phases[q]
		p.at = ((q-pad)%stride + stride) % stride
		for k := kernel - 1; k >= 0; k-- {
			if k*dilation%stride == q {
				p.taps = append(p.taps, k)
				offset := (p.at + pad - k*dilation) / stride // exact
				p.offsets = append(p.offsets, offset)
				a.first, last = min(a.first, offset), max(last, offset)
			}
		}
	}
	a.extent = last - a.first + 1
	for _, p := range a.phases {
		for i := range p.offsets {
			p.offsets[i] -= a.first
		}
	}
	return a
}

// inside reports whether all units read the source only where it is.
func (a *axis) inside(size int) bool {
	return a.first >= 0 && a.first+(a.units-1)*a.from+a.extent <= size
}

// span is the number of source positions that n units need.
func (a *axis) span(n int) int { return (n-1)*a.from + a.extent }

// reach is the number of units below n whose result in a phase is one of size.
func (a *axis) reach(p *axisPhase, n, size int) int {
	return min(n, max(0, ceilDiv(size-p.at, a.to)))
}

// extents are those of an image.
type extents struct{ h, w, c int }

func (e extents) size() int { return e.h * e.w * e.c }

// directConv multiplies rows of pixels with the filter: rows of A are pixels
// of the source, found through tables in a padded copy or, where there is no
// padding, in place; the inner dimension runs over taps and channels.
type directConv[T Float] struct {
	pool     *Pool
	micro    *micro[T]
	images   int // of the batch
	src, dst extents
	vertical axis
	across   axis
	depth    int // rows of a packed panel
	inPlace  bool

	// A chunk is either some whole images or a band of units of one image.
	group, band, bands int
	shares             int     // of the result's channels, each a chunk, where images alone are too few
	padded             extents // of one image or band of a chunk
	phases             []directPhase

	run  func(worker, chunk int)
	call struct{ ws, dst, src, packed []T }
}

// directPhase is one phase of either axis.
type directPhase struct {
	vertical, across *axisPhase
	width            int     // results of a unit row
	offs, to         []int   // of each result of a chunk
	blocks           []inner // none where no tap reads the source: the results are 0
}

// inner is a block of the inner dimension: elements starts[s]+i, i < width, of
// a row, which meet the packed filter from row k on.
type inner struct {
	starts   []int
	width, k int
}

const (
	minPixels  = 256     // of a chunk, unless the batch ends
	maxPixels  = 2048    // of a chunk, unless a row is longer
	maxPadded  = 1 << 17 // elements of the padded copy of a chunk, unless a band of one row is larger
	maxSegment = 384     // elements of the inner dimension that follow one another
	minChunks  = 8       // where nothing is copied
)

func newDirectConv[T Float](pool *Pool, s ConvShape, d Direction) *directConv[T] {
	oh, ow := s.Out()
	f := &directConv[T]{pool: pool, micro: microFor[T](), images: s.N}
	f.src, f.dst = extents{s.H, s.W, s.C}, extents{oh, ow, s.O}
	if d == InputGrad {
		f.src, f.dst = f.dst, f.src
		f.vertical = inputGradAxis(s.H, s.KH, s.SH, s.PH, s.DH)
		f.across = inputGradAxis(s.W, s.KW, s.SW, s.PW, s.DW)
	} else {
		f.vertical = forwardAxis(oh, s.KH, s.SH, s.PH, s.DH)
		f.across = forwardAxis(ow, s.KW, s.SW, s.PW, s.DW)
	}
	f.depth = s.KH * s.KW * f.src.c
	f.inPlace = f.vertical.inside(f.src.h) && f.across.inside(f.src.w)
	f.cut()
	f.lay()
	f.run = f.chunk
	return f
}

// cut chooses the chunks.
func (f *directConv[T]) cut() {
	units, pixels := f.vertical.units, f.dst.h*f.dst.w
	f.group, f.band = 1, units
	perRow := f.across.span(f.across.units) * f.src.c
	if pixels < minPixels {
		image := f.vertical.span(units) * perRow
		f.group = min(f.images, ceilDiv(minPixels, pixels), max(1, maxPadded/image))
	}
	for f.group == 1 && f.band > 1 && (f.band*f.vertical.to*f.dst.w > maxPixels || f.vertical.span(f.band)*perRow > maxPadded) {
		f.band = ceilDiv(f.band, 2)
	}
	f.bands = ceilDiv(units, f.band)
	f.band = ceilDiv(units, f.bands)
	f.bands = ceilDiv(units, f.band)
	f.padded = extents{f.vertical.span(f.band), f.across.span(f.across.units), f.src.c}
	f.shares = 1
	if chunks := ceilDiv(f.images, f.group) * f.bands; f.inPlace && f.pool.workers > 1 && chunks < minChunks {
		f.shares = min(ceilDiv(minChunks, chunks), ceilDiv(f.dst.c, f.micro.columns))
	}
}

// lay finds the tables of every phase.
func (f *directConv[T]) lay() {
	image, pitch, origin := f.padded.size(), f.padded.w*f.src.c, 0
	if f.inPlace {
		image, pitch = f.src.size(), f.src.w*f.src.c
		origin = f.vertical.first*pitch + f.across.first*f.src.c
	}
	k := 0
	for i := range f.vertical.phases {
		for j := range f.across.phases {
			p := directPhase{vertical: &f.vertical.phases[i], across: &f.across.phases[j]}
			p.width = f.across.reach(p.across, f.across.units, f.dst.w)
			for n := range f.group {
				for u := range f.vertical.reach(p.vertical, f.band, f.dst.h) {
					for v := range p.width {
						p.offs = append(p.offs, origin+n*image+u*f.vertical.from*pitch+v*f.across.from*f.src.c)
						y, x := u*f.vertical.to+p.vertical.at, v*f.across.to+p.across.at
						p.to = append(p.to, n*f.dst.size()+(y*f.dst.w+x)*f.dst.c)
					}
				}
			}
			p.blocks = innerBlocks(p.vertical.offsets, p.across.offsets, pitch, f.src.c, k)
			k += len(p.vertical.taps) * len(p.across.taps) * f.src.c
			f.phases = append(f.phases, p)
		}
	}
}

// innerBlocks lists the elements under the taps in the packed order, in blocks
// short enough for a panel of the filter to stay in the first-level cache.
func innerBlocks(rows, cols []int, pitch, channels, k int) []inner {
	var segments []int
	width := channels
	together := len(cols) > 0 && cols[len(cols)-1]-cols[0] == len(cols)-1
	if together {
		width, cols = len(cols)*channels, cols[:1]
	}
	for _, r := range rows {
		for _, c := range cols {
			segments = append(segments, r*pitch+c*channels)
		}
	}
	if len(segments) == 0 {
		return nil
	}
	var list []inner
	if width <= maxSegment {
		for _, b := range blocks(len(segments), max(1, maxSegment/width)) {
			list = append(list, inner{segments[b.from : b.from+b.n], width, k + b.from*width})
		}
		return list
	}
	for i, s := range segments {
		for _, b := range blocks(width, maxSegment) {
			list = append(list, inner{[]int{s + b.from}, b.n, k + i*width + b.from})
		}
	}
	return list
}

// Workspace implements Conv.
func (f *directConv[T]) Workspace() int { return f.pool.workers * f.scratch() }

// scratch is one worker's share of the workspace: a chunk's padded copy.
func (f *directConv[T]) scratch() int {
	if f.inPlace {
		return 0
	}
	return roundUp(f.group * f.padded.size())
}

// roundUp keeps parts of a workspace on cache lines.
func roundUp(n int) int { return (n + 15) &^ 15 }

// Run implements Conv.
func (f *directConv[T]) Run(ws, dst, src, packed []T) {
	checkLen("workspace", len(ws), f.Workspace())
	checkLen("result", len(dst), f.images*f.dst.size())
	checkLen("source", len(src), f.images*f.src.size())
	checkLen("packed filter", len(packed), ceilDiv(f.dst.c, Lanes)*f.depth*Lanes)
	f.call.ws, f.call.dst, f.call.src, f.call.packed = ws, dst, src, packed
	f.pool.Run(ceilDiv(f.images, f.group)*f.bands*f.shares, f.run)
	f.call.ws, f.call.dst, f.call.src, f.call.packed = nil, nil, nil, nil
}

func (f *directConv[T]) chunk(worker, chunk int) {
	share := chunk % f.shares
	chunk /= f.shares
	n0, u0 := chunk/f.bands*f.group, chunk%f.bands*f.band
	images, units := min(f.group, f.images-n0), min(f.band, f.vertical.units-u0)
	src := f.call.src[n0*f.src.size():]
	if f.inPlace {
		src = src[u0*f.vertical.from*f.src.w*f.src.c:]
	} else {
		padded := f.call.ws[worker*f.scratch():][:f.scratch()]
		y, rows := f.vertical.first+u0*f.vertical.from, f.vertical.span(units)
		for n := range images {
			padImage(padded[n*f.padded.size():], src[n*f.src.size():], f.src, y, rows, f.across.first, f.padded.w)
		}
		src = padded
	}
	dst := f.call.dst[n0*f.dst.size()+u0*f.vertical.to*f.dst.w*f.dst.c:]
	for i := range f.phases {
		p := &f.phases[i]
		rows := f.vertical.reach(p.vertical, units, f.dst.h-u0*f.vertical.to)
		f.phase(p, images*rows*p.width, dst, src, f.firstOf(share), f.firstOf(share+1))
	}
}

// firstOf is the first channel of a share.
func (f *directConv[T]) firstOf(share int) int {
	wide := ceilDiv(f.dst.c, f.micro.columns)
	return min(f.dst.c, wide*share/f.shares*f.micro.columns)
}

// phase computes the first n results of a phase, channels c0 to c1-1. It takes
// the filter as it lies in memory, panel by panel, so that it can be fetched
// ahead.
func (f *directConv[T]) phase(p *directPhase, n int, dst, src []T, c0, c1 int) {
	if n == 0 {
		return
	}
	if p.blocks == nil {
		for _, to := range p.to[:n] {
			clear(dst[to+c0 : to+c1])
		}
		return
	}
	for c := c0; c < c1; c += f.micro.columns {
		for i := range p.blocks {
			b := &p.blocks[i]
			filter := f.call.packed[(c/Lanes*f.depth+b.k)*Lanes:]
			f.micro.gather(b.width, 1, b.starts, p.offs[:n], p.to[:n], src, filter, dst[c:],
				f.depth*Lanes, Lanes, min(f.micro.columns, f.dst.c-c), min(i, 1))
		}
	}
}

// padImage copies rows of an image from row y and column x on, with zeros for
// what lies outside.
func padImage[T Float](dst, src []T, e extents, y, rows, x, cols int) {
	left, right := min(cols, max(0, -x)), min(cols, max(0, e.w-x))
	pitch := cols * e.c
	for r := range rows {
		row := dst[r*pitch:][:pitch]
		if y+r < 0 || y+r >= e.h || left >= right {
			clear(row)
			continue
		}
		clear(row[:left*e.c])
		copy(row[left*e.c:right*e.c], src[((y+r)*e.w+x+left)*e.c:])
		clear(row[right*e.c:])
	}
}
