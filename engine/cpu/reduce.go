package cpu

import (
	"math"
	"unsafe"

	"temper/engine/cpu/kernel"
	"temper/engine/graph"
)

// reduction is one reduction of a fused group. It sums in float64: partial sums
// of a part of the space first, then the parts in order, so that the result
// depends on the shape alone; where the first axis is not reduced, on the shape
// of what is reduced for one row, so that it is the same in a smaller batch.
type reduction struct {
	src     int   // slot
	buffer  int   // of the result
	strides []int // of the result by the collapsed axes, 0 where reduced
	dtype   graph.DType
	max     bool
	size    int       // elements of the result
	acc     []float64 // parts × size; one part if parts write apart
}

func (b *programBuilder) reduction(n *graph.Node, src int) *reduction {
	strides := n.Shape().Strides()
	for _, a := range n.Attrs().Axes {
		strides[a] = 0
	}
	return &reduction{src: src, buffer: b.c.plan.Buffer(n), strides: b.collapsed(strides), dtype: n.DType(),
		max: n.Op() == graph.OpReduceMax, size: n.Size()}
}

// Bounds on the parts of a reducing group.
const (
	minPart        = 8 * maxTile // elements
	maxParts       = 64
	maxAccumulated = 1 << 21 // partial results of all parts
)

// reducing runs a group that has reductions. The space is cut into parts, whose
// number follows from the shape: between rows, along the axes before the first
// that is reduced, or else along the first collapsed axis.
func (p *program) reducing() func() {
	rows, apart := 1, p.reduces[0].strides[0] != 0
	for k := 0; k < len(p.dims) && p.reduces[0].strides[k] != 0; k++ {
		rows *= p.dims[k]
	}
	if !apart {
		rows = p.dims[0]
	}
	inner := p.size / rows
	parts := max(1, min(rows, maxParts, p.size/minPart))
	for _, r := range p.reduces {
		if !apart {
			parts = max(1, min(parts, maxAccumulated/r.size))
		}
	}
	for _, r := range p.reduces {
		if apart {
			r.acc = make([]float64, r.size)
		} else {
			r.acc = make([]float64, parts*r.size)
		}
		*p.code.held += 8 * len(r.acc)
	}
	part := func(worker, k int) {
		s := &p.scratch[worker]
		lo, hi := rows*k/parts*inner, rows*(k+1)/parts*inner
		unit := hi - lo // a row never meets others in a tile's sum
		if apart {
			unit = max(inner, p.tile/inner*inner)
		}
		for end := lo; end < hi; {
			at := end
			end = min(hi, end+unit)
			for ; at < end; at += p.tile {
				n := min(p.tile, end-at)
				p.compute(s, at, n)
				for _, r := range p.reduces {
					acc := r.acc
					if !apart {
						acc = acc[k*r.size:][:r.size]
					}
					p.accumulate(s, r, acc, at, n)
				}
			}
		}
	}
	return func() {
		p.start()
		for _, r := range p.reduces {
			r.reset()
		}
		if parts == 1 {
			part(0, 0)
		} else {
			p.code.dev.pool.Run(parts, part)
		}
		for _, r := range p.reduces {
			r.finish(p.code)
		}
	}
}

func (r *reduction) reset() {
	if !r.max {
		clear(r.acc)
		return
	}
	for i := range r.acc {
		r.acc[i] = math.Inf(-1)
	}
}

// accumulate adds one tile to the partial results.
func (p *program) accumulate(s *scratch, r *reduction, acc []float64, at, n int) {
	last := len(p.dims) - 1
	off, rest := 0, at
	for i := last; i >= 0; i-- {
		s.idx[i] = rest % p.dims[i]
		rest /= p.dims[i]
		off += s.idx[i] * r.strides[i]
	}
	size := p.slots[r.src].size
	for done := 0; done < n; {
		run := min(n-done, p.dims[last]-s.idx[last])
		if rows := r.rows(p, s, n-done); rows > 1 {
			kernel.AddColumns(acc[off:][:p.dims[last]], unsafe.Slice((*float32)(unsafe.Add(s.addr[r.src], done*size)), rows*p.dims[last]))
			run = rows * p.dims[last]
			s.idx[last-1] += rows - 1
		} else {
			r.run(acc[off:], unsafe.Add(s.addr[r.src], done*size), run, r.strides[last])
		}
		done += run // no pointer behind the last element: it may lie in another object
		run = (run-1)%p.dims[last] + 1
		off += run * r.strides[last]
		s.idx[last] += run
		for i := last; i > 0 && s.idx[i] == p.dims[i]; i-- {
			off += r.strides[i-1] - p.dims[i]*r.strides[i]
			s.idx[i] = 0
			s.idx[i-1]++
		}
	}
}

// rows is the number of whole rows, of the n elements to come, that are added
// to the same row of results.
func (r *reduction) rows(p *program, s *scratch, n int) int {
	last := len(p.dims) - 1
	if r.max || r.dtype != graph.F32 || last == 0 || s.idx[last] > 0 || r.strides[last] != 1 || r.strides[last-1] != 0 {
		return 0
	}
	return min(n/p.dims[last], p.dims[last-1]-s.idx[last-1])
}

// run adds n neighbouring elements: to one result, or each to its own.
func (r *reduction) run(acc []float64, src unsafe.Pointer, n, stride int) {
	switch r.dtype {
	case graph.F32:
		reduceRun(acc, unsafe.Slice((*float32)(src), n), stride, r.max)
	case graph.F64:
		reduceRun(acc, unsafe.Slice((*float64)(src), n), stride, r.max)
	case graph.I32:
		reduceRun(acc, unsafe.Slice((*int32)(src), n), stride, r.max)
	case graph.U32:
		reduceRun(acc, unsafe.Slice((*uint32)(src), n), stride, r.max)
	}
}

func reduceRun[T float32 | float64 | int32 | uint32](acc []float64, v []T, stride int, isMax bool) {
	switch {
	case isMax && stride == 0:
		m := acc[0]
		for _, x := range v {
			if y := float64(x); !(y <= m) {
				m = maxNaN(m, y)
			}
		}
		acc[0] = m
	case isMax:
		for i, x := range v {
			acc[i] = maxNaN(acc[i], float64(x))
		}
	case stride == 0:
		if f, ok := any(v).([]float32); ok {
			acc[0] += kernel.Sum64(f)
		} else {
			acc[0] += sumRun(v)
		}
	default:
		acc = acc[:len(v)]
		for i, x := range v {
			acc[i] += float64(x)
		}
	}
}

// sumRun adds in four lanes.
func sumRun[T float32 | float64 | int32 | uint32](v []T) float64 {
	var a, b, c, d float64
	for ; len(v) >= 4; v = v[4:] {
		a += float64(v[0])
		b += float64(v[1])
		c += float64(v[2])
		d += float64(v[3])
	}
	for _, x := range v {
		a += float64(x)
	}
	return (a + b) + (c + d)
}

// maxNaN is the larger; NaN wins and stays.
func maxNaN(m, x float64) float64 {
	if x > m || x != x {
		return x
	}
	return m
}

// finish joins the parts and writes the result.
func (r *reduction) finish(c *code) {
	for i := range r.size {
		v := r.acc[i]
		for k := r.size + i; k < len(r.acc); k += r.size {
			if r.max {
				v = maxNaN(v, r.acc[k])
			} else {
				v += r.acc[k]
			}
		}
		r.acc[i] = v
	}
	switch r.dtype {
	case graph.F32:
		store(slice[float32](c, r.buffer), r.acc)
	case graph.F64:
		store(slice[float64](c, r.buffer), r.acc)
	case graph.I32:
		for i, d := 0, slice[int32](c, r.buffer); i < len(d); i++ {
			d[i] = int32(int64(r.acc[i]))
		}
	case graph.U32:
		for i, d := 0, slice[uint32](c, r.buffer); i < len(d); i++ {
			d[i] = uint32(int64(r.acc[i]))
		}
	}
}

func store[T float32 | float64](dst []T, acc []float64) {
	for i := range dst {
		dst[i] = T(acc[i])
	}
}
