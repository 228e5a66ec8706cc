package autodiff

import (
	"fmt"

	"temper/engine/graph"
)

// A rule builds what node n, whose adjoint is dy, adds to the adjoint of its
// floating-point operand i. It is only called for operands that need one.
type rule func(n *graph.Node, i int, dy *graph.Node) *graph.Node

// zero says that no derivative flows through an operation.
var zero rule

// rules has one entry for each operation.
var rules = map[graph.Op]rule{
	// Leaves have no operands.
	graph.OpInput: zero, graph.OpState: zero, graph.OpScalar: zero,
	graph.OpConst: zero, graph.OpIota: zero, graph.OpParam: zero,

	// Piecewise constant, or of integers or bool.
	graph.OpSign: zero, graph.OpFloor: zero, graph.OpNot: zero, graph.OpNormal: zero,
	graph.OpAnd: zero, graph.OpOr: zero, graph.OpXor: zero, graph.OpShl: zero, graph.OpShr: zero,
	graph.OpEq: zero, graph.OpNe: zero, graph.OpLt: zero, graph.OpLe: zero, graph.OpGt: zero, graph.OpGe: zero,
	graph.OpArgMax: zero, graph.OpArgSort: zero, graph.OpPoolArgMax: zero, graph.OpRandom: zero,

	graph.OpPackFilter: zero, graph.OpPackedConv2D: zero, // written by a pass, when derivatives are taken

	graph.OpStopGradient: zero, // by its meaning
	graph.OpLoop:         zero, // has no value of its own
	graph.OpGet:          throughLoop,

	graph.OpNeg:     func(n *graph.Node, _ int, dy *graph.Node) *graph.Node { return dy.Neg() },
	graph.OpAbs:     func(n *graph.Node, _ int, dy *graph.Node) *graph.Node { return dy.Mul(n.In(0).Sign()) },
	graph.OpExp:     func(n *graph.Node, _ int, dy *graph.Node) *graph.Node { return dy.Mul(n) },
	graph.OpExpm1:   func(n *graph.Node, _ int, dy *graph.Node) *graph.Node { return dy.Mul(n.AddC(1)) },
	graph.OpLog:     func(n *graph.Node, _ int, dy *graph.Node) *graph.Node { return dy.Div(n.In(0)) },
	graph.OpLog1p:   func(n *graph.Node, _ int, dy *graph.Node) *graph.Node { return dy.Div(n.In(0).AddC(1)) },
	graph.OpSqrt:    func(n *graph.Node, _ int, dy *graph.Node) *graph.Node { return dy.Div(n.MulC(2)) },
	graph.OpTanh:    func(n *graph.Node, _ int, dy *graph.Node) *graph.Node { return dy.Mul(n.C(1).Sub(n.Square())) },
	graph.OpSigmoid: func(n *graph.Node, _ int, dy *graph.Node) *graph.Node { return dy.Mul(n.Mul(n.C(1).Sub(n))) },
	graph.OpReLU:    func(n *graph.Node, _ int, dy *graph.Node) *graph.Node { return graph.Select(n.Le(n.C(0)), n.C(0), dy) },
	graph.OpConvert: func(n *graph.Node, _ int, dy *graph.Node) *graph.Node { return dy.Convert(n.In(0).DType()) },

	graph.OpAdd:    func(_ *graph.Node, _ int, dy *graph.Node) *graph.Node { return dy },
	graph.OpSub:    sub,
	graph.OpMul:    func(n *graph.Node, i int, dy *graph.Node) *graph.Node { return dy.Mul(n.In(1 - i)) },
	graph.OpDiv:    div,
	graph.OpPow:    pow,
	graph.OpMax:    maxMin,
	graph.OpMin:    maxMin,
	graph.OpSelect: sel,

	graph.OpReduceSum: func(n *graph.Node, _ int, dy *graph.Node) *graph.Node { return dy.BroadcastTo(n.In(0).Shape()...) },
	graph.OpReduceMax: reduceMax,
	graph.OpCumSum:    cumSum,

	graph.OpBroadcast:  broadcast,
	graph.OpReshape:    func(n *graph.Node, _ int, dy *graph.Node) *graph.Node { return dy.Reshape(n.In(0).Shape()...) },
	graph.OpTranspose:  transpose,
	graph.OpSlice:      slice,
	graph.OpPad:        pad,
	graph.OpReverse:    func(n *graph.Node, _ int, dy *graph.Node) *graph.Node { return like(n, dy) },
	graph.OpConcat:     concat,
	graph.OpGather:     gather,
	graph.OpScatterAdd: scatterAdd,
	graph.OpDynSlice:   dynSlice,
	graph.OpDynPad:     dynPad,

	graph.OpMatMul:           matMul,
	graph.OpConv2D:           conv2D,
	graph.OpConv2DInputGrad:  conv2DInputGrad,
	graph.OpConv2DFilterGrad: conv2DFilterGrad,
}

// like applies n's operation and attributes to other operands.
func like(n *graph.Node, ins ...*graph.Node) *graph.Node {
	return n.Graph().Make(n.Op(), *n.Attrs(), ins...)
}

func throughLoop(n *graph.Node, _ int, _ *graph.Node) *graph.Node {
	n.Graph().Fail(fmt.Errorf("derivative through a loop (its result %d): apply stop-gradient to the result, or unroll the loop by building its body %d times", n.Attrs().Index, n.In(0).Attrs().Trips))
	return n.C(0)
}

func sub(_ *graph.Node, i int, dy *graph.Node) *graph.Node {
	if i == 0 {
		return dy
	}
	return dy.Neg()
}

func div(n *graph.Node, i int, dy *graph.Node) *graph.Node {
	b := n.In(1)
	if i == 0 {
		return dy.Div(b)
	}
	return dy.Mul(n.Div(b)).Neg()
}

// pow follows PyTorch where the formulas have no value: the base's derivative
// is 0 for the exponent 0, the exponent's is 0 for the base 0 unless the
// exponent is negative.
func pow(n *graph.Node, i int, dy *graph.Node) *graph.Node {
	x, b, nought := n.In(0), n.In(1), n.C(0)
	if i == 0 {
		return graph.Select(b.Eq(nought), nought, dy.Mul(b.Mul(x.Pow(b.SubC(1)))))
	}
	return graph.Select(x.Eq(nought).And(b.Ge(nought)), nought, dy.Mul(n.Mul(x.Log())))
}

// maxMin gives the derivative to the operand that won, half to each if equal.
func maxMin(n *graph.Node, i int, dy *graph.Node) *graph.Node {
	a, b := n.In(i), n.In(1-i)
	lost := a.Lt(b)
	if n.Op() == graph.OpMin {
		lost = a.Gt(b)
	}
	return graph.Select(lost, n.C(0), graph.Select(a.Eq(b), dy.MulC(0.5), dy))
}

func sel(n *graph.Node, i int, dy *graph.Node) *graph.Node {
	if i == 1 {
		return graph.Select(n.In(0), dy, n.C(0))
	}
	return graph.Select(n.In(0), n.C(0), dy)
}

// reduceMax shares the derivative evenly among the largest.
func reduceMax(n *graph.Node, _ int, dy *graph.Node) *graph.Node {
	largest := n.In(0).Eq(n)
	count := largest.Convert(n.DType()).SumKeep(n.Attrs().Axes...)
	return graph.Select(largest, dy.Div(count), n.C(0))
}

func cumSum(n *graph.Node, _ int, dy *graph.Node) *graph.Node {
	axis := n.Attrs().Axis
	return dy.Reverse(axis).CumSum(axis).Reverse(axis)
}

func broadcast(n *graph.Node, _ int, dy *graph.Node) *graph.Node {
	var axes []int
	for i, d := range n.In(0).Shape() {
		if d != n.Dim(i) {
			axes = append(axes, i)
		}
	}
	if axes == nil { // a broadcast to its own shape, which only Make builds
		return dy
	}
	return dy.SumKeep(axes...)
}

func transpose(n *graph.Node, _ int, dy *graph.Node) *graph.Node {
	inverse := make([]int, n.Rank())
	for i, a := range n.Attrs().Axes {
		inverse[a] = i
	}
	return dy.Transpose(inverse...)
}

// slice pads with what was cut off; behind the last element taken that is
// more than beyond Hi where the step does not divide.
func slice(n *graph.Node, _ int, dy *graph.Node) *graph.Node {
	a := n.Attrs()
	hi := make([]int, n.Rank())
	for i, d := range n.In(0).Shape() {
		hi[i] = d - (a.Lo[i] + (n.Dim(i)-1)*a.Step[i] + 1)
	}
	return dy.PadND(a.Lo, hi, a.Step)
}

func pad(n *graph.Node, _ int, dy *graph.Node) *graph.Node {
	a := n.Attrs()
	hi := make([]int, n.Rank())
	for i, d := range n.Shape() {
		hi[i] = d - a.Hi[i]
	}
	return dy.SliceND(a.Lo, hi, a.Step)
}

func concat(n *graph.Node, i int, dy *graph.Node) *graph.Node {
	axis, lo := n.Attrs().Axis, 0
	for _, in := range n.Ins()[:i] {
		lo += in.Dim(axis)
	}
	return dy.Slice(axis, lo, lo+n.In(i).Dim(axis))
}

func gather(n *graph.Node, _ int, dy *graph.Node) *graph.Node {
	axis := n.Attrs().Axis
	return dy.ScatterAdd(axis, n.In(1), n.In(0).Dim(axis))
}

func scatterAdd(n *graph.Node, _ int, dy *graph.Node) *graph.Node {
	return dy.Gather(n.Attrs().Axis, n.In(1))
}

func dynSlice(n *graph.Node, _ int, dy *graph.Node) *graph.Node {
	return dy.DynPad(n.In(1), n.In(0).Shape()[1:]...)
}

func dynPad(n *graph.Node, _ int, dy *graph.Node) *graph.Node {
	return dy.DynSlice(n.In(1), n.In(0).Shape()[1:]...)
}

// matMul: for C = A·B, dA = dC·Bᵀ and dB = Aᵀ·dC, and the transposes of these
// for operands that are themselves taken transposed.
func matMul(n *graph.Node, i int, dy *graph.Node) *graph.Node {
	a, b, ta, tb := n.In(0), n.In(1), n.Attrs().TA, n.Attrs().TB
	switch {
	case i == 0 && ta:
		return graph.MatMul(b, dy, tb, true)
	case i == 0:
		return graph.MatMul(dy, b, false, !tb)
	case tb:
		return graph.MatMul(dy, a, true, ta)
	default:
		return graph.MatMul(a, dy, !ta, false)
	}
}

// A convolution ties three tensors, y = x*w, and is linear in x and in w. Each
// of the three operations computes one of (y, dx, dw) from the two others, so
// each one's derivatives are the two others with its adjoint in its own place.

func conv2D(n *graph.Node, i int, dy *graph.Node) *graph.Node {
	if i == 0 {
		return conv(graph.OpConv2DInputGrad, n, dy, n.In(1), n.In(0))
	}
	return conv(graph.OpConv2DFilterGrad, n, n.In(0), dy, n.In(1))
}

// n = dx of (y's adjoint, w).
func conv2DInputGrad(n *graph.Node, i int, dx *graph.Node) *graph.Node {
	if i == 0 {
		return conv(graph.OpConv2D, n, dx, n.In(1), nil)
	}
	return conv(graph.OpConv2DFilterGrad, n, dx, n.In(0), n.In(1))
}

// n = dw of (x, y's adjoint).
func conv2DFilterGrad(n *graph.Node, i int, dw *graph.Node) *graph.Node {
	if i == 0 {
		return conv(graph.OpConv2DInputGrad, n, n.In(1), dw, n.In(0))
	}
	return conv(graph.OpConv2D, n, n.In(0), dw, nil)
}

// conv makes one of the three with n's geometry. For the two gradients, size
// is a tensor whose (h,w) the result has.
func conv(op graph.Op, n, a, b, size *graph.Node) *graph.Node {
	attrs := *n.Attrs()
	attrs.Size = nil
	if size != nil {
		s := attrs.Layout.Spatial()
		attrs.Size = size.Shape()[s : s+2]
	}
	return n.Graph().Make(op, attrs, a, b)
}
