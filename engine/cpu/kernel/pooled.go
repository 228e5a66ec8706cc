package kernel

import (
	"fmt"
	"slices"
)

// PooledConv is a plan for dx, the gradient with respect to images of few
// channels, of a convolution whose result is pooled by its maxima. The gradient
// dy of that result is 0 but for one pixel and channel of each window, so it is
// given as the windows' values and places, and no more than these are
// multiplied: each value with the whole filter of its channel, as it lies in the
// patch of dx that the window reaches. Windows tile the result. A plan is used
// by one goroutine at a time.
type PooledConv[T Float] struct {
	pooledShape
	pool     *Pool
	micro    *micro[T]
	dx       extents
	channels []block // of the filter, that stay in the first-level cache
	vectors  []block // of a patch, that fit the registers
	groups   []block // of a row's windows, that are handled together
	taps     []int32 // for each pixel of a window: its place from the first one on, and where its filter lies
	begin    []int   // of each window's patch in a row's streams
	halves   []int   // of each four elements of a patch behind that

	run  func(worker, chunk int)
	call struct {
		ws, dx, v, packed []T
		at                []int32
	}
}

// pooledShape is the geometry of a PooledConv. The patches of a row of windows
// are stored side by side, a stream for each row of a patch. Where patches
// overlap there are several phases, each with streams of its own, so that those
// of every phase lie apart.
type pooledShape struct {
	ConvShape
	ph, pw      int // of a window
	down, along int // windows
	rows, cols  int // pixels of a patch
	row         int // elements of a patch's row, padded to groups of four
	width       int // elements of a patch, padded to whole vectors
	phases      int
	step        int // elements from window to window of a phase
	stream      int // elements of a stream
}

const (
	patchGroup   = 4    // elements that are stored together
	patchVector  = 8    // elements of a vector
	patchVectors = 8    // of a patch that are computed together
	patchWindows = 8    // of a row that are handled together
	maxPatches   = 6400 // elements of the filters that are used together
)

func newPooledShape(s ConvShape, ph, pw int) (pooledShape, error) {
	p := pooledShape{ConvShape: s, ph: ph, pw: pw}
	if err := s.check(InputGrad, Patches); err != nil {
		return p, err
	}
	oh, ow := s.Out()
	if ph < 1 || pw < 1 || oh%ph != 0 || ow%pw != 0 {
		return p, fmt.Errorf("conv2d: windows %d×%d do not tile %d×%d", ph, pw, oh, ow)
	}
	p.down, p.along = oh/ph, ow/pw
	p.rows, p.cols = (ph-1)*s.SH+(s.KH-1)*s.DH+1, (pw-1)*s.SW+(s.KW-1)*s.DW+1
	p.row = ceilDiv(p.cols*s.C, patchGroup) * patchGroup
	p.width = ceilDiv(p.rows*p.row, patchVector) * patchVector
	p.phases = ceilDiv(p.row, pw*s.SW*s.C)
	p.step = p.phases * pw * s.SW * s.C
	p.stream = ceilDiv(p.along, p.phases) * p.step
	return p, nil
}

// PooledShape is the shape of the packed filter for windows of ph×pw results:
// (O, ph·pw, width), the filter of each channel as it lies in the patch of each
// of a window's pixels. A patch's rows are padded to multiples of 4 elements and
// the whole of it to one of 8.
func (s ConvShape) PooledShape(ph, pw int) ([]int, error) {
	p, err := newPooledShape(s, ph, pw)
	return []int{s.O, ph * pw, p.width}, err
}

// PackPooled returns the function that packs a filter w (O,KH,KW,C) for windows
// of ph×pw results.
func PackPooled[T Float](s ConvShape, ph, pw int) (func(packed, w []T), error) {
	p, err := newPooledShape(s, ph, pw)
	return func(packed, w []T) {
		clear(packed[:s.O*ph*pw*p.width])
		for o := range s.O {
			for tap := range ph * pw {
				patch := packed[(o*ph*pw+tap)*p.width:]
				for k := range s.KH * s.KW {
					y, x := tap/pw*s.SH+k/s.KW*s.DH, tap%pw*s.SW+k%s.KW*s.DW
					copy(patch[y*p.row+x*s.C:][:s.C], w[(o*s.KH*s.KW+k)*s.C:])
				}
			}
		}
	}, err
}

// NewPooledConv plans the gradient for windows of ph×pw results.
func NewPooledConv[T Float](pool *Pool, s ConvShape, ph, pw int) (*PooledConv[T], error) {
	shape, err := newPooledShape(s, ph, pw)
	if err != nil {
		return nil, err
	}
	p := &PooledConv[T]{pooledShape: shape, pool: pool, micro: microFor[T](), dx: extents{s.H, s.W, s.C}}
	p.channels = blocks(s.O, max(1, maxPatches/(ph*pw*p.width)))
	p.groups = blocks(p.along, patchWindows)
	p.vectors = blocks(p.width/patchVector, patchVectors)
	_, ow := s.Out()
	for tap := range ph * pw {
		p.taps = append(p.taps, int32(tap/pw*ow+tap%pw), int32(tap*p.width))
	}
	for j := range p.along {
		p.begin = append(p.begin, j%p.phases*p.rows*p.stream+j/p.phases*p.step)
	}
	for e := 0; e < p.width; e += patchGroup {
		e := min(e, p.rows*p.row-patchGroup) // padding has no place of its own: the last group is stored over it
		p.halves = append(p.halves, e/p.row*p.stream+e%p.row)
	}
	p.run = p.chunk
	return p, nil
}

// streams is the number of elements of a row's streams.
func (p *pooledShape) streams() int { return p.phases * p.rows * p.stream }

// listed is the number of elements that the inner loop needs for its lists.
func (p *PooledConv[T]) listed() int {
	return 2 * roundUp(largest(p.channels)+patchVector) * largest(p.groups)
}

// scratch is one worker's share of the workspace.
func (p *PooledConv[T]) scratch() int {
	return roundUp(p.streams()) + p.listed()
}

// Workspace returns the number of elements that Run needs as scratch.
func (p *PooledConv[T]) Workspace() int { return p.pool.workers * p.scratch() }

// Run computes dx (N,H,W,C) from the values v (N,OH/ph,OW/pw,O), their places
// y·OW+x in the result, and a packed filter. A place outside of its window
// counts as none. It panics where a slice is too short.
func (p *PooledConv[T]) Run(ws, dx, v []T, at []int32, packed []T) {
	checkLen("workspace", len(ws), p.Workspace())
	checkLen("result", len(dx), p.N*p.dx.size())
	checkLen("values", len(v), p.N*p.down*p.along*p.O)
	checkLen("places", len(at), p.N*p.down*p.along*p.O)
	checkLen("packed filter", len(packed), p.O*p.ph*p.pw*p.width)
	p.call.ws, p.call.dx, p.call.v, p.call.at, p.call.packed = ws, dx, v, at, packed
	p.pool.Run(p.N, p.run)
	p.call.ws, p.call.dx, p.call.v, p.call.at, p.call.packed = nil, nil, nil, nil, nil
}

// chunk computes one image.
func (p *PooledConv[T]) chunk(worker, n int) {
	ws := p.call.ws[worker*p.scratch():][:p.scratch()]
	streams, list := ws[:p.streams()], ws[roundUp(p.streams()):]
	clear(streams) // what lies between patches stays 0
	dx := p.call.dx[n*p.dx.size():][:p.dx.size()]
	clear(dx)
	_, ow := p.Out()
	for _, c := range p.channels {
		for i := range p.down {
			row := (n*p.down+i)*p.along*p.O + c.from
			for _, j := range p.groups {
				v, at := p.call.v[row+j.from*p.O:], p.call.at[row+j.from*p.O:]
				for _, b := range p.vectors {
					filter := p.call.packed[c.from*p.ph*p.pw*p.width+b.from*patchVector:]
					p.micro.pooled[b.n](j.n, c.n, p.O, v, at, i*p.ph*ow+j.from*p.pw, p.pw, p.taps,
						filter, p.ph*p.pw*p.width, list, streams, p.begin[j.from:], p.halves[2*b.from:][:2*b.n])
				}
			}
			p.add(dx, streams, i)
		}
	}
}

// add adds the streams of a row of windows to dx.
func (p *PooledConv[T]) add(dx, streams []T, i int) {
	pitch, y := p.W*p.C, i*p.ph*p.SH-p.PH
	first, last := max(0, -y), min(p.rows, p.H-y) // rows of patches that lie in the image
	for phase := range p.phases {
		x := (phase*p.pw*p.SW - p.PW) * p.C
		skip, at := max(0, -x), max(0, x)
		if n := min(p.stream-skip, pitch-at); n > 0 && last > first {
			p.micro.addRows(last-first, n, dx[(y+first)*pitch+at:], pitch, streams[(phase*p.rows+first)*p.stream+skip:], p.stream)
		}
	}
}

// addRows adds n elements of each of so many rows of src to those of dst.
func addRows[T Float](rows, n int, dst []T, dstStride int, src []T, srcStride int) {
	for r := range rows {
		to, from := dst[r*dstStride:][:n], src[r*srcStride:][:n]
		for i, v := range from {
			to[i] += v
		}
	}
}

// pooled multiplies, for each of n windows, the values of so many channels with
// as many elements of their filters as halves has groups of four, and stores the
// sums: group h of window j at dst[begin[j]+halves[h]:], the last group first. Values and places lie
// stride apart from window to window, filters next from channel to channel.
// Window j's first pixel has the place first + j·advance; taps lists, for every
// pixel, its place from there on and where its filter begins. List has room for
// 2·roundUp(channels+8) elements for each window.
func pooled[T Float](n, channels, stride int, v []T, at []int32, first, advance int, taps []int32, w []T, next int, _, dst []T, begin, halves []int) {
	for j := range n {
		var sums [patchVector * patchVectors]T
		for c := range channels {
			x, place := v[j*stride+c], int(at[j*stride+c])-first-j*advance
			for t := 0; t < len(taps); t += 2 {
				if x != 0 && place == int(taps[t]) {
					f := w[c*next+int(taps[t+1]):][:len(halves)*patchGroup]
					for e, y := range f {
						sums[e] += x * y
					}
				}
			}
		}
		for h, to := range slices.Backward(halves) {
			copy(dst[begin[j]+to:][:patchGroup], sums[h*patchGroup:])
		}
	}
}
