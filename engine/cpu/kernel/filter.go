package kernel

import "fmt"

// Direction says which of a convolution's results is computed with a packed
// filter.
type Direction uint8

// The directions.
const (
	Forward   Direction = iota // y from x
	InputGrad                  // dx, the gradient with respect to x, from dy
)

// Algorithm is a way to compute a convolution.
type Algorithm uint8

// The algorithms.
const (
	// Direct multiplies rows of pixels with the filter: any shape.
	Direct Algorithm = iota
	// Winograd is F(4×4,3×3) or F(4×4,5×5): 36 or 64 multiplications for 16·9 or
	// 16·25, some of the precision, and only shapes that CanWinograd accepts.
	Winograd
	// Patches multiplies single pixels with the whole filter and adds up: the
	// gradient with respect to images of at most MaxPatchChannels channels.
	Patches
)

// CanWinograd reports whether Winograd can compute a convolution and its
// gradients: 3×3 or 5×5 taps, stride and dilation 1, multiples of Lanes channels.
func (s ConvShape) CanWinograd() bool {
	return (s.KH == 3 || s.KH == 5) && s.KW == s.KH && s.SH == 1 && s.SW == 1 && s.DH == 1 && s.DW == 1 && s.C%Lanes == 0 && s.O%Lanes == 0
}

// channels returns the numbers of channels that a direction takes and gives.
func (s ConvShape) channels(d Direction) (from, to int) {
	if d == InputGrad {
		return s.O, s.C
	}
	return s.C, s.O
}

// PackedShape is the shape of a packed filter. With the channels that the
// direction takes and gives called k and m, it is (m/16, KH·KW·k, 16) for
// Direct, panels of 16 of the given channels padded with zeros, and
// ((KH+3)², m/16·k + 1, 16) for Winograd, the transformed filters G·w·Gᵀ in panels and a
// row of zeros that keeps points off each other's lines of the cache, and
// (KH·KW·m/16, k, 16) for Patches, panels of taps and channels. The
// input gradient's filters are turned by half a turn; where it is direct and
// has strides, the taps that meet the same pixels modulo the strides (kh·DH mod
// SH, kw·DW mod SW) stand together, in the order of these remainders.
func (s ConvShape) PackedShape(d Direction, a Algorithm) []int {
	k, m := s.channels(d)
	if a == Winograd {
		return []int{s.points(), m/Lanes*k + 1, Lanes}
	}
	if a == Patches {
		return []int{ceilDiv(s.KH*s.KW*m, Lanes), k, Lanes}
	}
	return []int{ceilDiv(m, Lanes), s.KH * s.KW * k, Lanes}
}

// points is the number of points of Winograd's tiles.
func (s ConvShape) points() int { return (tileSide + s.KH - 1) * (tileSide + s.KW - 1) }

func product(shape []int) int {
	n := 1
	for _, d := range shape {
		n *= d
	}
	return n
}

// FilterPack is a plan that lays a filter out for one direction and algorithm
// of a convolution. A plan is used by one goroutine at a time.
type FilterPack[T Float] struct {
	ConvShape
	direction Direction
	algorithm Algorithm
	pool      *Pool
	micro     *micro[T]
	depth     int   // channels that the direction takes
	width     int   // channels that it gives
	panels    int   // of these
	size      int   // of the packed filter
	taps      []int // in the packed order, direct input gradient only
	panel     func(worker, chunk int)
	call      struct{ ws, packed, w []T }
}

// packDepth is how many channels Winograd's packing transposes at a time.
const packDepth = 64

// NewFilterPack plans the packing of a filter.
func NewFilterPack[T Float](pool *Pool, s ConvShape, d Direction, a Algorithm) (*FilterPack[T], error) {
	if err := s.check(d, a); err != nil {
		return nil, err
	}
	p := &FilterPack[T]{ConvShape: s, direction: d, algorithm: a, pool: pool, micro: microFor[T]()}
	p.depth, p.width = s.channels(d)
	p.size = product(s.PackedShape(d, a))
	p.panels = ceilDiv(p.width, Lanes)
	switch {
	case a == Patches:
		p.width *= s.KH * s.KW
		p.panels = ceilDiv(p.width, Lanes)
		p.panel = p.patches
	case a == Winograd && d == InputGrad:
		p.panel = p.winogradTurned
	case a == Winograd:
		p.panel = p.winograd
	case d == InputGrad:
		h, w := inputGradAxis(s.H, s.KH, s.SH, s.PH, s.DH), inputGradAxis(s.W, s.KW, s.SW, s.PW, s.DW)
		for _, ph := range h.phases {
			for _, pw := range w.phases {
				for _, kh := range ph.taps {
					for _, kw := range pw.taps {
						p.taps = append(p.taps, kh*s.KW+kw)
					}
				}
			}
		}
		p.panel = p.turned
	default:
		p.panel = p.direct
	}
	return p, nil
}

func (s ConvShape) check(d Direction, a Algorithm) error {
	if err := s.Check(); err != nil {
		return err
	}
	if a == Patches && (d != InputGrad || s.C > MaxPatchChannels) {
		return fmt.Errorf("conv2d: no patches for %d channels, direction %d", s.C, d)
	}
	if a == Winograd && !s.CanWinograd() {
		return fmt.Errorf("conv2d: no Winograd for %d to %d channels, kernel %d×%d, stride (%d, %d), dilation (%d, %d)",
			s.C, s.O, s.KH, s.KW, s.SH, s.SW, s.DH, s.DW)
	}
	return nil
}

// Size returns the number of elements of the packed filter.
func (p *FilterPack[T]) Size() int { return p.size }

// pitch is the distance of Winograd's points.
func (p *FilterPack[T]) pitch() int { return p.size / p.points() }

// Workspace returns the number of elements that Run needs as scratch.
func (p *FilterPack[T]) Workspace() int {
	if p.algorithm == Winograd && p.direction == Forward {
		return p.pool.workers * p.scratch()
	}
	return 0
}

// scratch holds a panel's taps (KH·KW, packDepth, Lanes).
func (p *FilterPack[T]) scratch() int { return p.KH * p.KW * min(p.depth, packDepth) * Lanes }

// Run packs w (O,KH,KW,C); packed has Size() elements and ws Workspace(). It
// panics where a slice is too short.
func (p *FilterPack[T]) Run(ws, packed, w []T) {
	_, size, _ := p.sizes()
	checkLen("workspace", len(ws), p.Workspace())
	checkLen("packed filter", len(packed), p.Size())
	checkLen("filter", len(w), size)
	p.call.ws, p.call.packed, p.call.w = ws, packed, w[:size]
	if p.algorithm == Winograd {
		for i := range p.points() {
			clear(packed[(i+1)*p.pitch()-Lanes : (i+1)*p.pitch()])
		}
	}
	p.pool.Run(p.panels, p.panel)
	p.call.ws, p.call.packed, p.call.w = nil, nil, nil
}

// lanes returns the number of channels of a panel, and clears what will hold
// the panel if these are not all.
func (p *FilterPack[T]) lanes(panel int, dst []T) int {
	n := min(Lanes, p.width-panel*Lanes)
	if n < Lanes {
		clear(dst)
	}
	return n
}

func (p *FilterPack[T]) direct(_, panel int) {
	k := p.KH * p.KW * p.C
	dst := p.call.packed[panel*k*Lanes:][:k*Lanes]
	n := p.lanes(panel, dst)
	for k0 := 0; k0 < k; k0 += blockK { // a block's rows stay in the first-level cache
		p.micro.packLanes(n, min(blockK, k-k0), dst[k0*Lanes:], Lanes, p.call.w[panel*Lanes*k+k0:], k)
	}
	if n < Lanes { // packLanes may have left anything in a group of 8
		for i := range k {
			clear(dst[i*Lanes+n : (i+1)*Lanes])
		}
	}
}

func (p *FilterPack[T]) turned(_, panel int) {
	size := len(p.taps) * p.O * Lanes
	dst := p.call.packed[panel*size:][:size]
	n := p.lanes(panel, dst)
	for i, tap := range p.taps {
		for o := range p.O {
			copy(dst[(i*p.O+o)*Lanes:][:n], p.call.w[(o*len(p.taps)+tap)*p.C+panel*Lanes:])
		}
	}
}

func (p *FilterPack[T]) patches(_, panel int) {
	dst := p.call.packed[panel*p.O*Lanes:][:p.O*Lanes]
	n := p.lanes(panel, dst)
	for o := range p.O {
		copy(dst[o*Lanes:][:n], p.call.w[o*p.width+panel*Lanes:])
	}
}

func (p *FilterPack[T]) winograd(worker, panel int) {
	buf := p.call.ws[worker*p.scratch():][:p.scratch()]
	taps := p.KH * p.KW
	w := p.call.w[panel*Lanes*taps*p.C:]
	for c := 0; c < p.C; c += packDepth {
		n := min(packDepth, p.C-c)
		for tap := range taps {
			p.micro.packLanes(Lanes, n, buf[tap*n*Lanes:][:n*Lanes], Lanes, w[tap*p.C+c:], taps*p.C)
		}
		p.micro.winogradOf(p.KH).filter(n*Lanes, buf, 0, n*Lanes, p.call.packed[(panel*p.C+c)*Lanes:], p.pitch())
	}
}

func (p *FilterPack[T]) winogradTurned(_, panel int) {
	taps := p.KH * p.KW
	for o := range p.O {
		w := p.call.w[o*taps*p.C:][:taps*p.C]
		p.micro.winogradOf(p.KH).filter(Lanes, w, (taps-1)*p.C+panel*Lanes, -p.C, p.call.packed[(panel*p.O+o)*Lanes:], p.pitch())
	}
}
