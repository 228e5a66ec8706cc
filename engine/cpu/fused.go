package cpu

import (
	"fmt"
	"slices"
	"unsafe"

	"temper/engine/cpu/kernel"
	"temper/engine/graph"
	"temper/engine/plan"
)

// maxTile is the number of elements on which a fused group works at a time, or
// nearly: a dozen float32 registers of it fit the first-level cache.
const maxTile = 512

// A fused group is compiled to a vector program. Its slots are what calls read
// and write, one tile each: splats (filled once a run), registers (scratch of a
// worker), and memory walked in place.
type slotKind uint8

const (
	register slotKind = iota
	splat             // a register that holds one value for the whole run
	pattern           // a register that holds the same row, over and over, for the whole run
	direct            // memory whose elements lie as the space's do
	strided           // a register filled from memory before each tile
)

type slot struct {
	kind    slotKind
	size    int // of an element, bytes
	reg     int // all but direct: which scratch
	buffer  int // direct, pattern, strided, splat of a buffer
	imm     bool
	bits    uint64 // splat of a constant: its element
	dtype   graph.DType
	strides []int // strided: by the collapsed axes
}

// call is one member at work on one tile.
type call struct {
	op         graph.Op
	fn         vectorFunc
	d, a, b, c int                // slots; unused ones are 0
	inputs     int                // so many of a, b and c are used
	chain      []kernel.ChainStep // instead of all above: calls in a row
}

// vectorFunc computes n elements at d from those at a, b and c.
type vectorFunc func(d, a, b, c unsafe.Pointer, n int)

type program struct {
	code    *code
	dims    []int // the collapsed space
	size    int
	tile    int // elements of a tile: whole rows, where a pattern repeats them
	slots   []slot
	calls   []call
	reduces []*reduction
	regs    int
	scratch []scratch // one a worker
}

// scratch is the slots' addresses for a worker's tile.
type scratch struct {
	addr []unsafe.Pointer
	idx  []int
	_    [64]byte // keep workers' headers on different cache lines
}

func (c *code) fused(f *plan.Fused) (func(), error) {
	b := &programBuilder{p: &program{code: c, size: f.Space.Size()}, c: c, f: f, of: map[*graph.Node]int{}, ext: map[string]int{}}
	if err := b.build(); err != nil {
		return nil, err
	}
	p := b.p
	p.prepare()
	if len(p.reduces) > 0 {
		return p.reducing(), nil
	}
	run := c.chunked(p.size, elementsPerChunk/maxTile*p.tile, func(worker, lo, hi int) {
		s := &p.scratch[worker]
		for at := lo; at < hi; at += p.tile {
			p.compute(s, at, min(p.tile, hi-at))
		}
	})
	return func() {
		p.start()
		run()
	}, nil
}

// elementsPerChunk is the work between two looks at the pool's counter.
const elementsPerChunk = 16 * maxTile

// registerSize is room for a tile of the widest type in use, and two lines of
// the cache that keep registers a multiple of a page apart from each other's
// lines.
func (p *program) registerSize() int {
	widest := 0
	for i := range p.slots {
		widest = max(widest, p.slots[i].size)
	}
	return maxTile*widest + 128
}

// prepare makes the workers' scratch. The registers' memory is shared with the
// other groups, so that it stays in the first-level cache.
func (p *program) prepare() {
	p.scratch = make([]scratch, p.code.dev.pool.Workers())
	for i := range p.scratch {
		p.scratch[i] = scratch{addr: make([]unsafe.Pointer, len(p.slots)), idx: make([]int, len(p.dims))}
		if t := &p.code.scratch.tiles[i]; len(*t) < p.regs*p.registerSize() {
			*p.code.held -= len(*t)
			*t = p.code.alloc(p.regs * p.registerSize())
		}
	}
}

// start finds the registers, and fills those that hold one value for the whole
// run.
func (p *program) start() {
	size := p.registerSize()
	for w := range p.scratch {
		s := &p.scratch[w]
		for k := range p.slots {
			sl := &p.slots[k]
			if sl.kind == direct {
				continue
			}
			s.addr[k] = unsafe.Pointer(&p.code.scratch.tiles[w][sl.reg*size])
			switch n := min(p.tile, p.size); {
			case sl.kind == splat && sl.imm:
				repeat(s.addr[k], unsafe.Pointer(&sl.bits), sl.size, n)
			case sl.kind == splat:
				repeat(s.addr[k], p.code.base[sl.buffer], sl.size, n)
			case sl.kind == pattern:
				p.gather(s, sl, s.addr[k], 0, n)
			}
		}
	}
}

// compute computes n elements, a tile, from element at on.
func (p *program) compute(s *scratch, at, n int) {
	for k := range p.slots {
		switch sl := &p.slots[k]; sl.kind {
		case direct:
			s.addr[k] = unsafe.Add(p.code.base[sl.buffer], at*sl.size)
		case strided:
			p.gather(s, sl, s.addr[k], at, n)
		}
	}
	for i := range p.calls {
		p.calls[i].run(s.addr, n)
	}
}

// gather fills a register with n elements of a broadcast operand.
func (p *program) gather(s *scratch, sl *slot, dst unsafe.Pointer, at, n int) {
	last := len(p.dims) - 1
	off, rest := 0, at
	for i := last; i >= 0; i-- {
		s.idx[i] = rest % p.dims[i]
		rest /= p.dims[i]
		off += s.idx[i] * sl.strides[i]
	}
	base := p.code.base[sl.buffer]
	for n > 0 {
		run := min(n, p.dims[last]-s.idx[last])
		moveRun(dst, unsafe.Add(base, off*sl.size), sl.size, sl.strides[last], run)
		dst = unsafe.Add(dst, run*sl.size)
		n -= run
		off += run * sl.strides[last]
		s.idx[last] += run
		for i := last; i > 0 && s.idx[i] == p.dims[i]; i-- {
			off += sl.strides[i-1] - p.dims[i]*sl.strides[i]
			s.idx[i] = 0
			s.idx[i-1]++
		}
	}
}

// moveRun copies n elements whose sources lie stride elements apart.
func moveRun(dst, src unsafe.Pointer, size, stride, n int) {
	switch {
	case stride == 0:
		repeat(dst, src, size, n)
	case stride == 1:
		copy(unsafe.Slice((*byte)(dst), n*size), unsafe.Slice((*byte)(src), n*size))
	case size == 4:
		pick[uint32](dst, src, stride, n)
	case size == 8:
		pick[uint64](dst, src, stride, n)
	case size == 2:
		pick[uint16](dst, src, stride, n)
	default:
		pick[uint8](dst, src, stride, n)
	}
}

func pick[T any](dst, src unsafe.Pointer, stride, n int) {
	d := unsafe.Slice((*T)(dst), n)
	s := unsafe.Slice((*T)(src), (n-1)*stride+1)
	for i, j := 0, 0; i < len(d); i, j = i+1, j+stride {
		d[i] = s[j]
	}
}

// repeat writes one element n times.
func repeat(dst, src unsafe.Pointer, size, n int) {
	switch size {
	case 4:
		repeatT[uint32](dst, src, n)
	case 8:
		repeatT[uint64](dst, src, n)
	case 2:
		repeatT[uint16](dst, src, n)
	default:
		repeatT[uint8](dst, src, n)
	}
}

func repeatT[T any](dst, src unsafe.Pointer, n int) {
	d := unsafe.Slice((*T)(dst), n)
	d[0] = *(*T)(src)
	for k := 1; k < n; k *= 2 {
		copy(d[k:], d[:k])
	}
}

// programBuilder compiles one group.
type programBuilder struct {
	p    *program
	c    *code
	f    *plan.Fused
	of   map[*graph.Node]int // slot of each member
	ext  map[string]int      // slot of each outside operand, by its description
	axes [][]int             // the space's axes behind each collapsed one
	left map[*graph.Node]int // reads of a member that are still to come
	free []int               // registers
}

func (b *programBuilder) build() error {
	b.collapse()
	b.left = map[*graph.Node]int{}
	for _, n := range b.f.Nodes {
		for _, in := range n.Ins() {
			b.left[in]++
		}
	}
	for _, n := range b.f.Nodes {
		ins := make([]int, 3)
		for i, in := range n.Ins() {
			ins[i] = b.operand(in)
		}
		if n.Op().Class() == graph.ClassReduce {
			b.p.reduces = append(b.p.reduces, b.reduction(n, ins[0]))
			b.done(n)
			continue
		}
		fn := vector(n)
		if fn == nil {
			return fmt.Errorf("the CPU has no %v of %v", n.Op(), n.In(0).DType())
		}
		d := b.result(n)
		b.p.calls = append(b.p.calls, call{op: n.Op(), fn: fn, d: d, a: ins[0], b: ins[1], c: ins[2], inputs: len(n.Ins())})
		b.done(n)
	}
	b.patterns()
	b.p.link()
	return nil
}

// patterns finds the operands that are the same in each row of the space, as
// what belongs to a channel is where the channels are last, and fits the tile to
// the rows, so that they need not be read again for each tile.
func (b *programBuilder) patterns() {
	p, row := b.p, last(b.p.dims)
	p.tile = maxTile
	for i := range p.slots {
		s := &p.slots[i]
		if s.kind == strided && row <= maxTile && last(s.strides) == 1 && !slices.ContainsFunc(s.strides[:len(s.strides)-1], func(x int) bool { return x != 0 }) {
			s.kind = pattern
			p.tile = maxTile / row * row
		}
	}
}

// result is the slot that a member writes: memory if other steps read it, else
// a register.
func (b *programBuilder) result(n *graph.Node) int {
	s := slot{size: n.DType().Size(), dtype: n.DType()}
	if slices.Contains(b.f.Stored, n) {
		s.kind, s.buffer = direct, b.c.plan.Buffer(n)
	} else {
		s.reg = b.register()
	}
	b.of[n] = b.add(s)
	return b.of[n]
}

func (b *programBuilder) add(s slot) int {
	b.p.slots = append(b.p.slots, s)
	return len(b.p.slots) - 1
}

func (b *programBuilder) register() int {
	if k := len(b.free); k > 0 && len(b.p.reduces) == 0 {
		r := b.free[k-1]
		b.free = b.free[:k-1]
		return r
	}
	b.p.regs++
	return b.p.regs - 1
}

// done frees the registers of operands that n read last. A register that a
// reduction reads stays: reductions run behind all calls.
func (b *programBuilder) done(n *graph.Node) {
	for _, in := range n.Ins() {
		b.left[in]--
		k, member := b.of[in]
		if member && b.left[in] == 0 && b.p.slots[k].kind == register && !b.reduced(k) {
			b.free = append(b.free, b.p.slots[k].reg)
		}
	}
}

func (b *programBuilder) reduced(slot int) bool {
	return slices.ContainsFunc(b.p.reduces, func(r *reduction) bool { return r.src == slot })
}

// operand is the slot of a value that a member reads.
func (b *programBuilder) operand(n *graph.Node) int {
	if k, ok := b.of[n]; ok {
		return k
	}
	o := b.c.plan.Operand(n)
	key := fmt.Sprint(o, n.DType())
	if k, ok := b.ext[key]; ok {
		return k
	}
	s := slot{size: n.DType().Size(), dtype: n.DType(), buffer: o.Buffer, imm: o.Immediate}
	switch {
	case o.Immediate:
		s.kind = splat
		one := plan.Buffer{DType: s.dtype}
		fill((*[8]byte)(unsafe.Pointer(&s.bits))[:], &one, func(int) float64 { return o.Value })
	default:
		s.strides = b.collapsed(o.Strides)
		s.kind = strided
		if contiguous(s.strides, b.p.dims) {
			s.kind = direct
		} else if !slices.ContainsFunc(s.strides, func(x int) bool { return x != 0 }) {
			s.kind = splat
		}
	}
	if s.kind != direct {
		b.p.regs++
		s.reg = b.p.regs - 1
	}
	k := b.add(s)
	b.ext[key] = k
	return k
}

// collapse joins neighbouring axes that every operand and reduction walks as
// one, so that inner runs are long.
func (b *programBuilder) collapse() {
	f := b.f
	views := [][]int{f.Space.Strides()}
	for _, n := range f.Nodes {
		for _, in := range n.Ins() {
			if slices.Contains(f.Nodes, in) {
				continue
			}
			if o := b.c.plan.Operand(in); !o.Immediate {
				views = append(views, o.Strides)
			}
		}
	}
	rows := f.Axes != nil && !slices.Contains(f.Axes, 0) // of which each is reduced
	for i, d := range f.Space {
		if d == 1 && (i > 0 || !rows) {
			continue
		}
		k := len(b.axes) - 1
		join := k >= 0 && slices.Contains(f.Axes, i) == slices.Contains(f.Axes, b.axes[k][0])
		for _, v := range views {
			join = join && v[last(b.axes[k])] == v[i]*d
		}
		if join {
			b.axes[k] = append(b.axes[k], i)
		} else {
			b.axes = append(b.axes, []int{i})
		}
	}
	if len(b.axes) == 0 {
		b.p.dims = []int{1}
	}
	for _, g := range b.axes {
		d := 1
		for _, i := range g {
			d *= f.Space[i]
		}
		b.p.dims = append(b.p.dims, d)
	}
}

func last(s []int) int { return s[len(s)-1] }

// collapsed gives the strides of a view by the collapsed axes.
func (b *programBuilder) collapsed(strides []int) []int {
	out := make([]int, len(b.p.dims))
	for k, g := range b.axes {
		out[k] = strides[last(g)]
	}
	return out
}

// contiguous reports whether strides walk memory in the order of the space.
func contiguous(strides, dims []int) bool {
	want := 1
	for i := len(dims) - 1; i >= 0; i-- {
		if dims[i] > 1 && strides[i] != want {
			return false
		}
		want *= dims[i]
	}
	return true
}
