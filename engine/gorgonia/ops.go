package gorgonia

import (
	"math"
	"slices"
	"strings"

	G "gorgonia.org/gorgonia"
	"gorgonia.org/tensor"

	"temper/engine/graph"
)

// rule imports a node of one type of operation, whose operands are imported.
type rule func(i *importer, n *G.Node, in []*graph.Node) *graph.Node

// rules has what can be imported, by the name of the operation's type.
var rules = map[string]rule{
	"constantScalar": constant,
	"constantTensor": constant,
	"sizeOp":         sizeOf,

	"elemUnaryOp": one,
	"elemBinOp":   two,
	"minBetween":  func(i *importer, n *G.Node, in []*graph.Node) *graph.Node { return in[0].Min(in[1]) },
	"maxBetween":  func(i *importer, n *G.Node, in []*graph.Node) *graph.Node { return in[0].Max(in[1]) },

	"sumOp": func(i *importer, n *G.Node, in []*graph.Node) *graph.Node { return in[0].Sum(i.numbers(n, "along")...) },
	"maxOp": func(i *importer, n *G.Node, in []*graph.Node) *graph.Node {
		return in[0].ReduceMax(i.numbers(n, "along")...)
	},
	"softmaxOp":           softmax,
	"globalAveragePoolOp": func(i *importer, n *G.Node, in []*graph.Node) *graph.Node { return in[0].MeanKeep(2, 3) },
	"maxPoolOp":           maxPool,
	"avgPoolOp":           avgPool,
	"upsampleOp":          upsample,

	"reshapeOp": func(i *importer, n *G.Node, in []*graph.Node) *graph.Node { return reshape(in[0], n.Shape()) },
	"transposeOp": func(i *importer, n *G.Node, in []*graph.Node) *graph.Node {
		return in[0].Transpose(i.numbers(n, "pattern")...)
	},
	"repeatOp": repeat,
	"sliceOp":  slice,
	"concatOp": concat,

	"linAlgBinOp": product,
	"im2colOp":    im2col,
}

// reshape forgets the reshapes that lie below it.
func reshape(x *graph.Node, s tensor.Shape) *graph.Node {
	for x.Op() == graph.OpReshape {
		x = x.In(0)
	}
	return x.Reshape(s...)
}

func constant(i *importer, n *G.Node, in []*graph.Node) *graph.Node {
	v := n.Value()
	t, s := dtypes[v.Dtype()], graph.Shape(v.Shape())
	if !t.Float() {
		return i.failf("gorgonia constant %q is of type %v: only float32 and float64 can be imported", n.Name(), v.Dtype())
	}
	b, err := contents(v, t, s)
	if err != nil {
		return i.failf("gorgonia constant %q: %w", n.Name(), err)
	}
	return i.g.Const(t, floats(t, b), s...)
}

// sizeOf is the extent of an axis as a number of the operand's type.
func sizeOf(i *importer, n *G.Node, in []*graph.Node) *graph.Node {
	return in[0].C(float64(in[0].Dim(i.number(n, "axis"))))
}

var unaries = map[string]func(x *graph.Node) *graph.Node{
	"abs": (*graph.Node).Abs, "sign": (*graph.Node).Sign, "floor": (*graph.Node).Floor, "neg": (*graph.Node).Neg,
	"exp": (*graph.Node).Exp, "expm1": (*graph.Node).Expm1, "ln": (*graph.Node).Log, "log1p": (*graph.Node).Log1p,
	"square": (*graph.Node).Square, "sqrt": (*graph.Node).Sqrt, "tanh": (*graph.Node).Tanh, "sigmoid": (*graph.Node).Sigmoid,
	"ceil":    func(x *graph.Node) *graph.Node { return x.Neg().Floor().Neg() },
	"log2":    func(x *graph.Node) *graph.Node { return x.Log().DivC(math.Ln2) },
	"cube":    func(x *graph.Node) *graph.Node { return x.Mul(x).Mul(x) },
	"inv":     func(x *graph.Node) *graph.Node { return x.C(1).Div(x) },
	"invSqrt": func(x *graph.Node) *graph.Node { return x.C(1).Div(x.Sqrt()) },
	// log(1+eˣ) without overflow; max, not ReLU, gives the derivative ½ at 0.
	"softplus": func(x *graph.Node) *graph.Node { return x.MaxC(0).Add(x.Abs().Neg().Exp().Log1p()) },
}

// one applies a function of one operand, element by element; two, one of two.
func one(i *importer, n *G.Node, in []*graph.Node) *graph.Node {
	f := unaries[n.Op().String()]
	if f == nil {
		return i.unknown(n)
	}
	return f(in[0])
}

var binaries = map[string]func(x, y *graph.Node) *graph.Node{
	"+": (*graph.Node).Add, "-": (*graph.Node).Sub, "⊙": (*graph.Node).Mul, "÷": (*graph.Node).Div, "^": (*graph.Node).Pow,
	"<": (*graph.Node).Lt, ">": (*graph.Node).Gt, "<=": (*graph.Node).Le, ">=": (*graph.Node).Ge, "==": (*graph.Node).Eq, "!=": (*graph.Node).Ne,
}

// symbol is the sign of an element-wise operation of two operands, "" for
// other nodes.
func symbol(n *G.Node) string {
	if n.Op() == nil || typeName(n.Op()) != "elemBinOp" {
		return ""
	}
	sign, _, _ := strings.Cut(n.Op().String(), " ")
	return sign
}

func two(i *importer, n *G.Node, in []*graph.Node) *graph.Node {
	f := binaries[symbol(n)]
	if f == nil {
		return i.unknown(n)
	}
	x, y := in[0], in[1]
	out := f(fit(x, n.Shape()), fit(y, n.Shape()))
	if i.flag(n, "retSame") {
		return out.Convert(x.DType())
	}
	return out
}

// fit gives an operand the result's shape where it has as many elements: for
// gorgonia (n), (n,1) and (1,n) are the same.
func fit(x *graph.Node, s tensor.Shape) *graph.Node {
	if x.Size() == graph.Shape(s).Size() {
		return x.Reshape(s...)
	}
	return x
}

// rectifier lifts x ⊙ (x ≥ 0). It returns nil for any other node.
func (i *importer) rectifier(n *G.Node) *graph.Node {
	if symbol(n) != "⊙" {
		return nil
	}
	kids := children(n)
	for k, mask := range kids {
		x := kids[1-k]
		if symbol(mask) != ">=" {
			continue
		}
		if of := children(mask); of[0] == x && isZero(of[1]) {
			return i.node(x).ReLU()
		}
	}
	return nil
}

func isZero(n *G.Node) bool {
	return n.Op() != nil && typeName(n.Op()) == "constantScalar" && (n.Value().Data() == float32(0) || n.Value().Data() == float64(0))
}

// softmax is along the axis named, else along the last one, or the first of a
// column vector.
func softmax(i *importer, n *G.Node, in []*graph.Node) *graph.Node {
	x, axis := in[0], i.number(n, "axis")
	if axis == -1 && tensor.Shape(x.Shape()).IsColVec() {
		axis = 0
	}
	z := x.Sub(x.ReduceMaxKeep(axis).StopGradient())
	if i.flag(n, "isLog") {
		return z.Sub(z.Exp().SumKeep(axis).Log())
	}
	e := z.Exp()
	return e.Div(e.SumKeep(axis))
}

func maxPool(i *importer, n *G.Node, in []*graph.Node) *graph.Node {
	pad := i.pair(n, "padNorth", "padWest")
	if pad != i.pair(n, "padSouth", "padEast") {
		return i.failf("gorgonia node %q: max-pooling with different padding on opposite sides cannot be imported", n.Name())
	}
	return in[0].MaxPool(i.pair(n, "h", "w"), graph.Window{Stride: i.pair(n, "strideH", "strideW"), Pad: pad})
}

// avgPool is the mean of each window. Whether padding would count, their
// documentation does not say.
func avgPool(i *importer, n *G.Node, in []*graph.Node) *graph.Node {
	if i.pair(n, "padNorth", "padWest") != [2]int{} || i.pair(n, "padSouth", "padEast") != [2]int{} {
		return i.failf("gorgonia node %q: average-pooling with padding cannot be imported", n.Name())
	}
	return in[0].AvgPool(i.pair(n, "h", "w"), graph.Window{Stride: i.pair(n, "strideH", "strideW")})
}

// upsample repeats each pixel both ways.
func upsample(i *importer, n *G.Node, in []*graph.Node) *graph.Node {
	x, k := in[0], i.number(n, "stride")+1
	s := x.Shape()
	return x.Reshape(s[0], s[1], s[2], 1, s[3], 1).BroadcastTo(s[0], s[1], s[2], k, s[3], k).Reshape(s[0], s[1], s[2]*k, s[3]*k)
}

// repeat writes each element of one axis several times over. How often follows
// from the shapes, so the second operand is not needed.
func repeat(i *importer, n *G.Node, in []*graph.Node) *graph.Node {
	x, to := in[0], graph.Shape(n.Shape())
	for x.Rank() < len(to) {
		x = x.Expand(x.Rank())
	}
	for axis, d := range x.Shape() {
		if d != to[axis] && d != 1 {
			return x.Expand(axis + 1).BroadcastTo(slices.Insert(slices.Clone(x.Shape()), axis+1, to[axis]/d)...).Reshape(to...)
		}
	}
	return x.BroadcastTo(to...)
}

// slice takes elements of one axis, which it removes if one is left.
func slice(i *importer, n *G.Node, in []*graph.Node) *graph.Node {
	x, axis := in[0], i.number(n, "along")
	s := n.Op().(interface{ IsSlice() tensor.Slice }).IsSlice()
	if s == nil || s.End() <= s.Start() {
		return x
	}
	lo, hi, step := make([]int, x.Rank()), slices.Clone(x.Shape()), slices.Repeat([]int{1}, x.Rank())
	lo[axis], hi[axis], step[axis] = s.Start(), s.End(), max(s.Step(), 1)
	y := x.SliceND(lo, hi, step)
	if y.Dim(axis) > 1 {
		return y
	}
	return y.Reshape(slices.Delete(slices.Clone(y.Shape()), axis, axis+1)...)
}

func concat(i *importer, n *G.Node, in []*graph.Node) *graph.Node {
	return graph.Concat(i.number(n, "axis"), in...)
}

// The values of gorgonia's āBinaryOperator.
const (
	matMul = iota
	matVecMul
	vecDot
	outerProd
	batchedMatMul
)

// product is one of gorgonia's five products. A vector may be a matrix of one
// row or column there.
func product(i *importer, n *G.Node, in []*graph.Node) *graph.Node {
	x, y := in[0], in[1]
	ta, tb := i.flag(n, "transA"), i.flag(n, "transB")
	switch i.number(n, "āBinaryOperator") {
	case matMul:
		return graph.MatMul(x, y, ta, tb)
	case matVecMul:
		return graph.MatMul(x, y.Reshape(-1, 1), ta, false).Reshape(n.Shape()...)
	case vecDot:
		return x.Reshape(-1).Mul(y.Reshape(-1)).Sum()
	case outerProd:
		return x.Reshape(-1, 1).Mul(y.Reshape(1, -1))
	case batchedMatMul:
		x, y = x.Reshape(-1, x.Dim(-2), x.Dim(-1)), y.Reshape(-1, y.Dim(-2), y.Dim(-1))
		return graph.MatMul(x, y, ta, tb).Reshape(n.Shape()...)
	}
	return i.unknown(n)
}

// window is the geometry of an im2col.
func (i *importer) window(n *G.Node) graph.Window {
	return graph.Window{Stride: i.pair(n, "strideH", "strideW"), Pad: i.pair(n, "padH", "padW"), Dilation: i.pair(n, "dilationH", "dilationW")}
}

// convolution lifts what Conv2d builds, x (N,C,H,W) with filter (O,C,h,w):
//
//	transpose(0,3,1,2)                    (N,O,oh,ow)
//	└ reshape                             (N,oh,ow,O)
//	  └ matrix product, second transposed (N·oh·ow,O)
//	    ├ reshape                         (N·oh·ow,C·h·w)
//	    │ └ im2col of x                   (N,oh,ow,C·h·w)
//	    └ the filter                      (O,C·h·w)
//
// It returns nil for any other node.
func (i *importer) convolution(n *G.Node) *graph.Node {
	grid := i.below(n, "transposeOp")
	mul := i.below(grid, "reshapeOp")
	rows := i.below(mul, "linAlgBinOp")
	cols := i.below(rows, "reshapeOp")
	image := i.below(cols, "im2colOp")
	if image == nil || !slices.Equal(i.numbers(n, "pattern"), []int{0, 3, 1, 2}) ||
		i.number(mul, "āBinaryOperator") != matMul || i.flag(mul, "transA") || !i.flag(mul, "transB") {
		return nil
	}
	c, s := cols.Shape(), grid.Shape()
	if len(s) != 4 || !slices.Equal(s[:3], c[:3]) || rows.Shape()[1] != c[3] {
		return nil
	}
	x, k := i.node(image), i.pair(cols, "h", "w")
	w := reshape(i.node(children(mul)[1]), tensor.Shape{s[3], x.Dim(1), k[0], k[1]})
	return x.Conv2D(w, i.window(cols))
}

// below is the first operand of a node of that type, nil for other nodes.
func (i *importer) below(n *G.Node, op string) *G.Node {
	if n == nil || n.Op() == nil || typeName(n.Op()) != op {
		return nil
	}
	return children(n)[0]
}

// im2col on its own is a convolution of each channel with the filters that
// pick one element of the window.
func im2col(i *importer, n *G.Node, in []*graph.Node) *graph.Node {
	x, k := in[0], i.pair(n, "h", "w")
	size := k[0] * k[1]
	pick := make([]float64, size*size)
	for e := range size {
		pick[e*size+e] = 1
	}
	s := n.Shape() // (N,oh,ow,C·h·w)
	y := x.Reshape(x.Dim(0)*x.Dim(1), 1, x.Dim(2), x.Dim(3)).
		Conv2D(i.g.Const(x.DType(), pick, size, 1, k[0], k[1]), i.window(n))
	return y.Reshape(s[0], s[3], s[1], s[2]).Transpose(0, 2, 3, 1)
}
