package cpu

import (
	"math"
	"unsafe"

	"temper/engine/cpu/kernel"
	"temper/engine/graph"
)

// view walks memory: element (i0,…) lies at offset + Σ iₖ·strides[k].
type view struct {
	offset  int
	strides []int
}

// copyView copies rows lo to hi-1 (of the first axis) from src to dst, both
// walked by their own strides over shape. It serves every operation that only
// moves data.
func copyView(size int, shape graph.Shape, dst, src view, d, s unsafe.Pointer, lo, hi int) {
	switch size {
	case 4:
		copyViewT[uint32](shape, dst, src, d, s, lo, hi)
	case 8:
		copyViewT[uint64](shape, dst, src, d, s, lo, hi)
	case 2:
		copyViewT[uint16](shape, dst, src, d, s, lo, hi)
	default:
		copyViewT[uint8](shape, dst, src, d, s, lo, hi)
	}
}

// maxRank bounds the axes of a tensor that is moved.
const maxRank = 16

func copyViewT[T any](shape graph.Shape, dst, src view, d, s unsafe.Pointer, lo, hi int) {
	var idx [maxRank]int
	last := len(shape) - 1
	run, ds, ss := shape[last], dst.strides[last], src.strides[last]
	rows := (hi - lo) * shape[1:].Size() / run
	if last == 0 {
		run, rows = hi-lo, 1
	}
	idx[0] = lo
	do, so := dst.offset+lo*dst.strides[0], src.offset+lo*src.strides[0]
	for range rows {
		for i := range run {
			*elem[T](d, do+i*ds) = *elem[T](s, so+i*ss)
		}
		for i := last - 1; i >= 0; i-- {
			idx[i]++
			do += dst.strides[i]
			so += src.strides[i]
			if idx[i] < shape[i] || i == 0 {
				break
			}
			do -= shape[i] * dst.strides[i]
			so -= shape[i] * src.strides[i]
			idx[i] = 0
		}
	}
}

func elem[T any](p unsafe.Pointer, i int) *T {
	var t T
	return (*T)(unsafe.Add(p, i*int(unsafe.Sizeof(t))))
}

// move runs strided copies of whole operands into the result's buffer, after
// clearing it where the copies do not cover it.
type move struct {
	shape    graph.Shape
	dst, src view
	from     int // buffer
}

func (c *code) moves(n *graph.Node, clearFirst bool, ms ...move) func() {
	to, size := c.plan.Buffer(n), n.DType().Size()
	var runs []func()
	for _, m := range ms {
		if len(m.shape) == 0 {
			m.shape, m.dst.strides, m.src.strides = graph.Shape{1}, []int{0}, []int{0}
		}
		rowSize := m.shape.Size() / m.shape[0]
		runs = append(runs, c.chunked(m.shape[0], max(1, elementsPerChunk/rowSize), func(_, lo, hi int) {
			copyView(size, m.shape, m.dst, m.src, c.base[to], c.base[m.from], lo, hi)
		}))
	}
	return func() {
		if clearFirst {
			clear(c.bytes(to))
		}
		for _, r := range runs {
			r()
		}
	}
}

// plain is the view of a row-major tensor.
func plain(s graph.Shape) view { return view{0, s.Strides()} }

func (c *code) movement(n *graph.Node) func() {
	x, a := n.In(0), n.Attrs()
	m := move{shape: n.Shape(), dst: plain(n.Shape()), src: plain(x.Shape()), from: c.plan.Buffer(x)}
	switch n.Op() {
	case graph.OpTranspose:
		st := make([]int, n.Rank())
		for i, axis := range a.Axes {
			st[i] = m.src.strides[axis]
		}
		m.src.strides = st
		if f := c.matrices(n, m); f != nil {
			return f
		}
	case graph.OpSlice:
		for i := range a.Lo {
			m.src.offset += a.Lo[i] * m.src.strides[i]
			m.src.strides[i] *= a.Step[i]
		}
	case graph.OpReverse:
		for _, i := range a.Axes {
			m.src.offset += (x.Dim(i) - 1) * m.src.strides[i]
			m.src.strides[i] = -m.src.strides[i]
		}
	case graph.OpPad:
		m.shape = x.Shape()
		for i := range a.Lo {
			m.dst.offset += a.Lo[i] * m.dst.strides[i]
			m.dst.strides[i] *= a.Step[i]
		}
		return c.moves(n, true, m)
	case graph.OpConcat:
		var ms []move
		at := 0
		for _, in := range n.Ins() {
			d := plain(n.Shape())
			d.offset = at * d.strides[a.Axis]
			at += in.Dim(a.Axis)
			ms = append(ms, move{shape: in.Shape(), dst: d, src: plain(in.Shape()), from: c.plan.Buffer(in)})
		}
		return c.moves(n, false, ms...)
	}
	return c.moves(n, false, m)
}

// matrices is a transposition of the last axes of many matrices, as between
// filters (O,C,kh,kw) and (O,kh,kw,C); nil if m is nothing of the kind.
func (c *code) matrices(n *graph.Node, m move) func() {
	shape, strides := collapse(n.Shape(), m.src.strides)
	if len(shape) == 2 {
		shape, strides = append([]int{1}, shape...), append([]int{0}, strides...)
	}
	if n.DType() != graph.F32 || len(shape) != 3 || strides[1] != 1 || shape[1] < 8 || shape[2] < 8 {
		return nil
	}
	rows, cols := shape[1], shape[2]
	to := c.plan.Buffer(n)
	return c.chunked(shape[0], max(1, elementsPerChunk/(rows*cols)), func(_, lo, hi int) {
		dst, src := slice[float32](c, to), slice[float32](c, m.from)
		for i := lo; i < hi; i++ {
			kernel.Transpose(dst[i*rows*cols:], src[i*strides[0]:], rows, cols, strides[2])
		}
	})
}

// collapse joins neighbouring axes that strides walk as one.
func collapse(shape, strides []int) (s, st []int) {
	for i, d := range shape {
		k := len(s) - 1
		switch {
		case d == 1:
		case k >= 0 && st[k] == strides[i]*d:
			s[k] *= d
			st[k] = strides[i]
		default:
			s, st = append(s, d), append(st, strides[i])
		}
	}
	return s, st
}

// window is dyn-slice and dyn-pad: per row, a strided copy whose offset is read
// from the starts.
func (c *code) window(n *graph.Node) func() {
	x, starts := n.In(0), n.In(1)
	to, from, st := c.plan.Buffer(n), c.plan.Buffer(x), c.plan.Buffer(starts)
	pad := n.Op() == graph.OpDynPad
	small, large := n.Shape()[1:], x.Shape()[1:]
	if pad {
		small, large = large, small
	}
	r, size := len(small), n.DType().Size()
	rowTo, rowFrom := n.Size()/n.Dim(0), x.Size()/x.Dim(0)
	ls, ss := view{0, large.Strides()}, view{0, small.Strides()}
	run := c.chunked(n.Dim(0), max(1, elementsPerChunk/small.Size()), func(_, lo, hi int) {
		at := slice[int32](c, st)
		for row := lo; row < hi; row++ {
			off := 0
			for i := range r {
				off += min(max(int(at[row*r+i]), 0), large[i]-small[i]) * ls.strides[i]
			}
			d := unsafe.Add(c.base[to], row*rowTo*size)
			s := unsafe.Add(c.base[from], row*rowFrom*size)
			dv, sv := ss, ls
			if pad {
				dv, sv = ls, ss
				dv.offset = off
			} else {
				sv.offset = off
			}
			copyView(size, small, dv, sv, d, s, 0, small[0])
		}
	})
	return func() {
		if pad {
			clear(c.bytes(to))
		}
		run()
	}
}

// axisLines describes the lines of a tensor along an axis: outer × inner lines
// of extent elements, stride inner apart.
func axisLines(s graph.Shape, axis int) (outer, extent, inner int) {
	return s[:axis].Size(), s[axis], s[axis+1:].Size()
}

// gather is take-along-axis with clamped indices.
func (c *code) gather(n *graph.Node) func() {
	switch n.DType().Size() {
	case 4:
		return gatherT[uint32](c, n)
	case 8:
		return gatherT[uint64](c, n)
	case 2:
		return gatherT[uint16](c, n)
	}
	return gatherT[uint8](c, n)
}

func gatherT[T any](c *code, n *graph.Node) func() {
	x := n.In(0)
	to, from, ix := c.plan.Buffer(n), c.plan.Buffer(x), c.plan.Buffer(n.In(1))
	outer, m, inner := axisLines(n.Shape(), n.Attrs().Axis)
	_, extent, _ := axisLines(x.Shape(), n.Attrs().Axis)
	if n.DType().Size() == 4 && inner >= 4 && x.Size() <= math.MaxInt32 {
		return c.chunked(outer, max(1, elementsPerChunk/(m*inner)), func(_, lo, hi int) {
			y, v, idx := slice[uint32](c, to), slice[uint32](c, from), slice[int32](c, ix)
			for o := lo; o < hi; o++ {
				kernel.GatherRows(y[o*m*inner:][:m*inner], idx[o*m*inner:], v[o*extent*inner:], inner, extent-1)
			}
		})
	}
	return c.chunked(outer, max(1, elementsPerChunk/(m*inner)), func(_, lo, hi int) {
		y, v, idx := slice[T](c, to), slice[T](c, from), slice[int32](c, ix)
		for o := lo; o < hi; o++ {
			src := v[o*extent*inner:][:extent*inner]
			dst, at := y[o*m*inner:][:m*inner], idx[o*m*inner:][:m*inner]
			for k := 0; k < len(dst); k += inner {
				for i := range inner {
					dst[k+i] = src[min(max(int(at[k+i]), 0), extent-1)*inner+i]
				}
			}
		}
	})
}

// scatter adds each element at its index; one worker owns all lines that end
// in the same place.
func (c *code) scatter(n *graph.Node) func() {
	if f := c.unpool(n); f != nil {
		return f
	}
	switch n.DType() {
	case graph.F32:
		return scatterT[float32](c, n)
	case graph.F64:
		return scatterT[float64](c, n)
	case graph.U8:
		return scatterT[uint8](c, n)
	case graph.I32:
		return scatterT[int32](c, n)
	case graph.U32:
		return scatterT[uint32](c, n)
	}
	return nil
}

func scatterT[T float | integer](c *code, n *graph.Node) func() {
	x := n.In(0)
	to, from, ix := c.plan.Buffer(n), c.plan.Buffer(x), c.plan.Buffer(n.In(1))
	outer, extent, inner := axisLines(n.Shape(), n.Attrs().Axis)
	_, m, _ := axisLines(x.Shape(), n.Attrs().Axis)
	return c.chunked(outer, max(1, elementsPerChunk/(extent*inner)), func(_, lo, hi int) {
		y, v, idx := slice[T](c, to), slice[T](c, from), slice[int32](c, ix)
		clear(y[lo*extent*inner : hi*extent*inner])
		for o := lo; o < hi; o++ {
			dst := y[o*extent*inner:][:extent*inner]
			src, at := v[o*m*inner:][:m*inner], idx[o*m*inner:][:m*inner]
			for k := 0; k < len(src); k += inner {
				for i := range inner {
					dst[min(max(int(at[k+i]), 0), extent-1)*inner+i] += src[k+i]
				}
			}
		}
	})
}

// along runs a function on every line of an axis: argmax, argsort, cumsum.
func (c *code) along(n *graph.Node) func() {
	if n.Op() == graph.OpArgSort && n.In(0).DType() == graph.F32 {
		return c.argSortFloats(n)
	}
	switch n.In(0).DType() {
	case graph.F32:
		return alongT[float32](c, n)
	case graph.F64:
		return alongT[float64](c, n)
	case graph.I32:
		return alongT[int32](c, n)
	case graph.U32:
		return alongT[uint32](c, n)
	case graph.U8:
		return alongT[uint8](c, n)
	}
	return nil
}

func alongT[T float | integer](c *code, n *graph.Node) func() {
	x := n.In(0)
	to, from := c.plan.Buffer(n), c.plan.Buffer(x)
	outer, m, inner := axisLines(x.Shape(), n.Attrs().Axis)
	desc := n.Attrs().Descending
	return c.chunked(outer*inner, max(1, elementsPerChunk/m), func(_, lo, hi int) {
		v := slice[T](c, from)
		for l := lo; l < hi; l++ {
			o, i := l/inner, l%inner
			line := v[o*m*inner+i:]
			switch n.Op() {
			case graph.OpArgMax:
				slice[int32](c, to)[l] = argMax(line, m, inner)
			case graph.OpCumSum:
				y, sum := slice[T](c, to)[o*m*inner+i:], T(0)
				for k := range m {
					sum += line[k*inner]
					y[k*inner] = sum
				}
			case graph.OpArgSort:
				argSort(slice[int32](c, to)[o*m*inner+i:], line, m, inner, desc)
			}
		}
	})
}

// above says whether a stands above b in an order that has NaN on top.
func above[T float | integer](a, b T) bool { return a > b || a != a && b == b }

func argMax[T float | integer](line []T, m, step int) int32 {
	best := 0
	for k := 1; k < m; k++ {
		if above(line[k*step], line[best*step]) {
			best = k
		}
	}
	return int32(best)
}
