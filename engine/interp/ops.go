package interp

import (
	"fmt"
	"math"
	"sort"

	"temper/engine/graph"
	"temper/engine/rng"
)

// eval computes the elements of one operation's result.
func eval(n *graph.Node, ins []*Tensor) []float64 {
	a, t := n.Attrs(), n.DType()
	y := make([]float64, n.Size())
	switch op := n.Op(); op {
	case graph.OpConst:
		return a.Values
	case graph.OpIota:
		each(n.Shape(), func(i int, at []int) { y[i] = wrap(t, int64(at[a.Axis])) })
	case graph.OpSelect:
		for i, c := range ins[0].Data {
			if c != 0 {
				y[i] = ins[1].Data[i]
			} else {
				y[i] = ins[2].Data[i]
			}
		}
	case graph.OpReduceSum, graph.OpReduceMax:
		reduce(y, n, ins[0])
	case graph.OpArgMax:
		l := 0
		lines(ins[0].Shape, a.Axis, func(line []int) {
			y[l] = float64(argMax(ins[0].Data, line))
			l++
		})
	case graph.OpCumSum:
		lines(ins[0].Shape, a.Axis, func(line []int) {
			sum := 0.0
			for _, p := range line {
				sum = apply2(graph.OpAdd, t, sum, ins[0].Data[p])
				y[p] = sum
			}
		})
	case graph.OpArgSort:
		lines(ins[0].Shape, a.Axis, func(line []int) { argSort(y, ins[0].Data, line, a.Descending) })
	case graph.OpBroadcast, graph.OpReshape, graph.OpTranspose, graph.OpSlice, graph.OpReverse, graph.OpGather, graph.OpDynSlice:
		take(y, n, ins)
	case graph.OpPad, graph.OpConcat, graph.OpScatterAdd, graph.OpDynPad:
		place(y, n, ins)
	case graph.OpMatMul:
		matMul(y, n, ins[0], ins[1])
	case graph.OpConv2D:
		taps(ins[0].Shape, ins[1].Shape, n.Shape(), a, func(x, w, o int) { y[o] += ins[0].Data[x] * ins[1].Data[w] })
	case graph.OpConv2DInputGrad: // (dy, w)
		taps(n.Shape(), ins[1].Shape, ins[0].Shape, a, func(x, w, o int) { y[x] += ins[0].Data[o] * ins[1].Data[w] })
	case graph.OpConv2DFilterGrad: // (x, dy)
		taps(ins[0].Shape, n.Shape(), ins[1].Shape, a, func(x, w, o int) { y[w] += ins[0].Data[x] * ins[1].Data[o] })
	case graph.OpPackFilter:
		packFilter(y, n, ins[0])
	case graph.OpPackedConv2D:
		packedConv(y, n, ins)
	case graph.OpPoolArgMax:
		poolArgMax(y, n, ins[0])
	case graph.OpRandom:
		random(y, n, ins)
	default:
		switch len(ins) {
		case 1:
			for i, v := range ins[0].Data {
				y[i] = apply1(op, ins[0].DType, t, v)
			}
		case 2:
			for i, v := range ins[0].Data {
				y[i] = apply2(op, ins[0].DType, v, ins[1].Data[i])
			}
		}
	}
	return y
}

// apply1 is an element-wise function from type s to type t.
func apply1(op graph.Op, s, t graph.DType, v float64) float64 {
	switch op {
	case graph.OpNeg:
		if t.Int() {
			return wrap(t, -int64(v))
		}
		return -v
	case graph.OpAbs:
		if t.Int() {
			return wrap(t, int64(math.Abs(v)))
		}
		return math.Abs(v)
	case graph.OpSign:
		return truth(v > 0) - truth(v < 0)
	case graph.OpExp:
		return math.Exp(v)
	case graph.OpExpm1:
		return math.Expm1(v)
	case graph.OpLog:
		return log(v)
	case graph.OpLog1p:
		return math.Log1p(v)
	case graph.OpSqrt:
		return math.Sqrt(v)
	case graph.OpTanh:
		return math.Tanh(v)
	case graph.OpSigmoid:
		return 1 / (1 + math.Exp(-v))
	case graph.OpFloor:
		return math.Floor(v)
	case graph.OpReLU:
		return max(v, 0)
	case graph.OpNot:
		return 1 - v
	case graph.OpNormal:
		return float64(rng.Normal(uint32(v)))
	case graph.OpConvert:
		switch {
		case t.Float(): // not rounded here
			return v
		case t.Int() && s.Int():
			return wrap(t, int64(v))
		}
		return Round(t, v)
	case graph.OpStopGradient:
		return v
	}
	panic(fmt.Sprintf("BUG: interp: no meaning for %v", op))
}

// On amd64 math.Log takes subnormal numbers for larger ones; math.Pow is built
// on it. log and pow scale them by 2⁵² first.

const (
	smallestNormal = 0x1p-1022
	subnormalScale = 52
)

func log(x float64) float64 {
	if 0 < x && x < smallestNormal {
		return math.Log(math.Ldexp(x, subnormalScale)) - subnormalScale*math.Ln2
	}
	return math.Log(x)
}

func pow(x, y float64) float64 {
	if x != 0 && math.Abs(x) < smallestNormal {
		return math.Pow(math.Ldexp(x, subnormalScale), y) * math.Exp2(-subnormalScale*y)
	}
	return math.Pow(x, y)
}

// apply2 is an element-wise function of two values of type t; comparisons
// give 0 or 1.
func apply2(op graph.Op, t graph.DType, a, b float64) float64 {
	switch op {
	case graph.OpMax:
		return max(a, b)
	case graph.OpMin:
		return min(a, b)
	case graph.OpEq:
		return truth(a == b)
	case graph.OpNe:
		return truth(a != b)
	case graph.OpLt:
		return truth(a < b)
	case graph.OpLe:
		return truth(a <= b)
	case graph.OpGt:
		return truth(a > b)
	case graph.OpGe:
		return truth(a >= b)
	}
	if !t.Float() {
		return wrap(t, integer(op, t, int64(a), int64(b)))
	}
	switch op {
	case graph.OpAdd:
		return a + b
	case graph.OpSub:
		return a - b
	case graph.OpMul:
		return a * b
	case graph.OpDiv:
		return a / b
	case graph.OpPow:
		return pow(a, b)
	}
	panic(fmt.Sprintf("BUG: interp: no meaning for %v of %v", op, t))
}

// integer computes in 64 bits; the caller wraps the result.
func integer(op graph.Op, t graph.DType, a, b int64) int64 {
	switch op {
	case graph.OpAdd:
		return a + b
	case graph.OpSub:
		return a - b
	case graph.OpMul:
		return a * b
	case graph.OpDiv:
		if b == 0 {
			return 0
		}
		return a / b
	case graph.OpAnd:
		return a & b
	case graph.OpOr:
		return a | b
	case graph.OpXor:
		return a ^ b
	case graph.OpShl: // a count of the width or more shifts all bits out of it
		return a << uint32(b)
	case graph.OpShr:
		return a >> uint32(b)
	}
	panic(fmt.Sprintf("BUG: interp: no meaning for %v of %v", op, t))
}

// wrap keeps the low bits.
func wrap(t graph.DType, v int64) float64 {
	switch t {
	case graph.I32:
		return float64(int32(v))
	case graph.U32:
		return float64(uint32(v))
	case graph.U8:
		return float64(uint8(v))
	}
	return float64(v) // bool: 0 or 1
}

func reduce(y []float64, n *graph.Node, x *Tensor) {
	op := graph.OpAdd
	if n.Op() == graph.OpReduceMax {
		op = graph.OpMax
		for i := range y {
			y[i] = math.Inf(-1)
		}
	}
	dst := make([]int, n.Rank())
	each(x.Shape, func(i int, at []int) {
		copy(dst, at)
		for _, a := range n.Attrs().Axes {
			dst[a] = 0
		}
		p := pos(n.Shape(), dst)
		y[p] = apply2(op, x.DType, y[p], x.Data[i])
	})
}

// above says whether a stands above b in an ordering that has NaN on top.
func above(a, b float64) bool { return a > b || a != a && b == b }

// argMax is the index within line of the first of the largest.
func argMax(x []float64, line []int) int {
	best := 0
	for k, p := range line {
		if above(x[p], x[line[best]]) {
			best = k
		}
	}
	return best
}

func argSort(y, x []float64, line []int, descending bool) {
	order := make([]int, len(line))
	for k := range order {
		order[k] = k
	}
	sort.SliceStable(order, func(i, j int) bool {
		a, b := x[line[order[i]]], x[line[order[j]]]
		if descending {
			return above(a, b)
		}
		return above(b, a)
	})
	for k, o := range order {
		y[line[k]] = float64(o)
	}
}

// take computes the operations whose result is, element by element, an element
// of the first operand: it finds that element's indices.
func take(y []float64, n *graph.Node, ins []*Tensor) {
	a, x := n.Attrs(), ins[0]
	src := make([]int, len(x.Shape))
	each(n.Shape(), func(i int, at []int) {
		if n.Op() == graph.OpReshape {
			y[i] = x.Data[i]
			return
		}
		copy(src, at)
		switch n.Op() {
		case graph.OpBroadcast:
			for k, d := range x.Shape {
				src[k] = min(at[k], d-1)
			}
		case graph.OpTranspose:
			for k, from := range a.Axes {
				src[from] = at[k]
			}
		case graph.OpSlice:
			for k := range src {
				src[k] = a.Lo[k] + at[k]*a.Step[k]
			}
		case graph.OpReverse:
			for _, k := range a.Axes {
				src[k] = x.Shape[k] - 1 - at[k]
			}
		case graph.OpGather:
			src[a.Axis] = clamp(ins[1].Data[i], x.Shape[a.Axis]-1)
		case graph.OpDynSlice:
			for k := 1; k < len(src); k++ {
				src[k] += start(ins[1], at[0], k, x.Shape[k]-n.Dim(k))
			}
		}
		y[i] = x.Data[pos(x.Shape, src)]
	})
}

// place computes the operations that put or add their operands' elements into
// zeros.
func place(y []float64, n *graph.Node, ins []*Tensor) {
	a := n.Attrs()
	offset := 0 // along Axis, for concat
	for _, x := range ins {
		if n.Op() != graph.OpConcat && x != ins[0] {
			break // indices
		}
		dst := make([]int, len(x.Shape))
		each(x.Shape, func(i int, at []int) {
			copy(dst, at)
			switch n.Op() {
			case graph.OpConcat:
				dst[a.Axis] += offset
			case graph.OpPad:
				for k := range dst {
					dst[k] = a.Lo[k] + at[k]*a.Step[k]
				}
			case graph.OpScatterAdd:
				dst[a.Axis] = clamp(ins[1].Data[i], n.Dim(a.Axis)-1)
			case graph.OpDynPad:
				for k := 1; k < len(dst); k++ {
					dst[k] += start(ins[1], at[0], k, n.Dim(k)-x.Shape[k])
				}
			}
			p := pos(n.Shape(), dst)
			if n.Op() == graph.OpScatterAdd {
				y[p] = apply2(graph.OpAdd, n.DType(), y[p], x.Data[i])
			} else {
				y[p] = x.Data[i]
			}
		})
		if n.Op() == graph.OpConcat {
			offset += x.Shape[a.Axis]
		}
	}
}

// clamp limits an index to 0 … hi.
func clamp(v float64, hi int) int { return int(min(max(v, 0), float64(hi))) }

// start is where row n's window begins along axis k, 1 the first.
func start(starts *Tensor, n, k, room int) int {
	return clamp(starts.Data[n*starts.Shape[1]+k-1], room)
}

func matMul(y []float64, n *graph.Node, a, b *Tensor) {
	attrs, r := n.Attrs(), n.Rank()
	k := a.Shape[r-1]
	if attrs.TA {
		k = a.Shape[r-2]
	}
	get := func(x *Tensor, batch, i, j int, transposed bool) float64 {
		if transposed {
			i, j = j, i
		}
		return x.Data[(batch*x.Shape[r-2]+i)*x.Shape[r-1]+j]
	}
	each(n.Shape(), func(o int, at []int) {
		batch := o / (n.Dim(-2) * n.Dim(-1))
		for l := range k {
			y[o] += get(a, batch, at[r-2], l, attrs.TA) * get(b, batch, l, at[r-1], attrs.TB)
		}
	})
}

// image walks a tensor of images or filters in either layout: its extents and
// strides as (n,c,h,w).
type image struct{ n, c, h, w, sn, sc, sh, sw int }

func imageOf(l graph.Layout, s graph.Shape) image {
	t, c, h := s.Strides(), l.Channel(), l.Spatial()
	return image{s[0], s[c], s[h], s[h+1], t[0], t[c], t[h], t[h+1]}
}

func (m *image) at(n, c, h, w int) int { return n*m.sn + c*m.sc + h*m.sh + w*m.sw }

// positions calls f for every element of m, in the order (n,c,h,w).
func (m *image) positions(f func(n, c, h, w int)) {
	for n := range m.n {
		for c := range m.c {
			for h := range m.h {
				for w := range m.w {
					f(n, c, h, w)
				}
			}
		}
	}
}

// taps calls f for every product that a convolution of x with w adds up to y,
// with the three positions in memory.
func taps(xs, ws, ys graph.Shape, a *graph.Attrs, f func(x, w, y int)) {
	x, w, y := imageOf(a.Layout, xs), imageOf(a.Layout, ws), imageOf(a.Layout, ys)
	y.positions(func(n, o, p, q int) {
		for i := range w.h {
			for j := range w.w {
				h := p*a.Stride[0] - a.Pad[0] + i*a.Dilation[0]
				v := q*a.Stride[1] - a.Pad[1] + j*a.Dilation[1]
				if h < 0 || h >= x.h || v < 0 || v >= x.w {
					continue
				}
				for c := range w.c {
					f(x.at(n, c, h, v), w.at(o, c, i, j), y.at(n, o, p, q))
				}
			}
		}
	})
}

func poolArgMax(out []float64, n *graph.Node, in *Tensor) {
	a := n.Attrs()
	x, y := imageOf(a.Layout, in.Shape), imageOf(a.Layout, n.Shape())
	y.positions(func(n, c, p, q int) {
		best := -1
		var top float64
		for i := range a.Kernel[0] {
			for j := range a.Kernel[1] {
				h, w := p*a.Stride[0]-a.Pad[0]+i, q*a.Stride[1]-a.Pad[1]+j
				if h < 0 || h >= x.h || w < 0 || w >= x.w {
					continue
				}
				if v := in.Data[x.at(n, c, h, w)]; best < 0 || above(v, top) {
					best, top = h*x.w+w, v
				}
			}
		}
		out[y.at(n, c, p, q)] = float64(best)
	})
}

// random fills (N, size…): the element index counts within each sample.
func random(y []float64, n *graph.Node, ins []*Tensor) {
	word := func(i, at int) uint32 { return uint32(ins[i].Data[at]) }
	size := len(y) / n.Dim(0)
	for i := range y {
		d := rng.Draw{Seed: word(0, 0), Site: rng.Site(n.Attrs().Name), ID: word(1, i/size), Step: word(2, 0), Iter: word(3, 0)}
		y[i] = float64(d.Word(uint32(i % size)))
	}
}
