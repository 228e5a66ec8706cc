package graph

import (
	"fmt"
	"math"
	"slices"
)

// Input declares a tensor that is fed anew each step.
func (g *Graph) Input(name string, t DType, shape ...int) *Node {
	return g.MakeTyped(OpInput, Attrs{Name: name}, t, shape)
}

// State declares a tensor that lives on the device from step to step.
func (g *Graph) State(name string, t DType, shape ...int) *Node {
	return g.MakeTyped(OpState, Attrs{Name: name}, t, shape)
}

// Scalar declares a number of the step block: what may change from step to
// step without recompiling (learning rate, ε, step counter, seed).
func (g *Graph) Scalar(name string, t DType) *Node {
	return g.MakeTyped(OpScalar, Attrs{Name: name}, t, nil)
}

// Const is a tensor known at compile time: one value for all elements, or one
// for each in row-major order.
func (g *Graph) Const(t DType, values []float64, shape ...int) *Node {
	other := func(v float64) bool { return math.Float64bits(v) != math.Float64bits(values[0]) } // tells -0 from 0
	if len(values) > 1 && !slices.ContainsFunc(values, other) {
		values = values[:1] // one form for a splat, so that equal constants are one node
	}
	return g.MakeTyped(OpConst, Attrs{Values: slices.Clone(values)}, t, shape)
}

// C is the scalar constant v of n's element type.
func (n *Node) C(v float64) *Node { return n.g().Const(n.typeOr(F32), []float64{v}) }

func (n *Node) typeOr(t DType) DType {
	if n.poison() {
		return t
	}
	return n.dtype
}

// Iota counts 0, 1, 2, … along one axis of the shape.
func (g *Graph) Iota(t DType, axis int, shape ...int) *Node {
	return g.MakeTyped(OpIota, Attrs{Axis: axis}, t, shape)
}

func (n *Node) unary(op Op) *Node { return n.g().Make(op, Attrs{}, n) }

// Element-wise functions of one operand.

func (n *Node) Neg() *Node     { return n.unary(OpNeg) }     // Neg is -n.
func (n *Node) Abs() *Node     { return n.unary(OpAbs) }     // Abs is |n|.
func (n *Node) Sign() *Node    { return n.unary(OpSign) }    // Sign is -1, 0 or 1; its derivative is 0.
func (n *Node) Exp() *Node     { return n.unary(OpExp) }     // Exp is eⁿ.
func (n *Node) Expm1() *Node   { return n.unary(OpExpm1) }   // Expm1 is eⁿ-1.
func (n *Node) Log() *Node     { return n.unary(OpLog) }     // Log is the natural logarithm.
func (n *Node) Log1p() *Node   { return n.unary(OpLog1p) }   // Log1p is log(1+n).
func (n *Node) Sqrt() *Node    { return n.unary(OpSqrt) }    // Sqrt is the square root.
func (n *Node) Tanh() *Node    { return n.unary(OpTanh) }    // Tanh is the hyperbolic tangent.
func (n *Node) Sigmoid() *Node { return n.unary(OpSigmoid) } // Sigmoid is 1/(1+e⁻ⁿ).
func (n *Node) Floor() *Node   { return n.unary(OpFloor) }   // Floor rounds down; its derivative is 0.
func (n *Node) ReLU() *Node    { return n.unary(OpReLU) }    // ReLU is max(n,0); its derivative at 0 is 0.
func (n *Node) Not() *Node     { return n.unary(OpNot) }     // Not negates bool.
func (n *Node) Square() *Node  { return n.Mul(n) }           // Square is n².

// StopGradient is n itself; no derivative flows through it.
func (n *Node) StopGradient() *Node { return n.unary(OpStopGradient) }

// Convert changes the element type. Float to integer truncates toward zero and
// saturates (NaN becomes 0); anything to bool is "not zero".
func (n *Node) Convert(t DType) *Node {
	if n.dtype == t {
		return n
	}
	return n.g().MakeTyped(OpConvert, Attrs{}, t, nil, n)
}

// binary broadcasts both operands to one shape by numpy's rule first.
func (n *Node) binary(op Op, m *Node) *Node {
	g := n.g()
	if g.check(n, m) {
		return g.invalid
	}
	s, ok := broadcastShape(n.shape, m.shape)
	if !ok {
		g.failf("%v of %s and %s: the shapes do not broadcast", op, n.typed(), m.typed())
		return g.invalid
	}
	return g.Make(op, Attrs{}, n.BroadcastTo(s...), m.BroadcastTo(s...))
}

// Element-wise functions of two operands, broadcast by numpy's rule.

func (n *Node) Add(m *Node) *Node { return n.binary(OpAdd, m) } // Add is n+m.
func (n *Node) Sub(m *Node) *Node { return n.binary(OpSub, m) } // Sub is n-m.
func (n *Node) Mul(m *Node) *Node { return n.binary(OpMul, m) } // Mul is n·m.
func (n *Node) Div(m *Node) *Node { return n.binary(OpDiv, m) } // Div is n/m; integers truncate, and by 0 give 0.
func (n *Node) Pow(m *Node) *Node { return n.binary(OpPow, m) } // Pow is n to the power m.
func (n *Node) Max(m *Node) *Node { return n.binary(OpMax, m) } // Max passes NaN on; a tie halves the gradient.
func (n *Node) Min(m *Node) *Node { return n.binary(OpMin, m) } // Min passes NaN on; a tie halves the gradient.
func (n *Node) And(m *Node) *Node { return n.binary(OpAnd, m) } // And is of bool, or bitwise.
func (n *Node) Or(m *Node) *Node  { return n.binary(OpOr, m) }  // Or is of bool, or bitwise.
func (n *Node) Xor(m *Node) *Node { return n.binary(OpXor, m) } // Xor is of bool, or bitwise.
func (n *Node) Shl(m *Node) *Node { return n.binary(OpShl, m) } // Shl shifts integers left, by 0 to their width or more.
func (n *Node) Shr(m *Node) *Node { return n.binary(OpShr, m) } // Shr shifts right, i32 with its sign.
func (n *Node) Eq(m *Node) *Node  { return n.binary(OpEq, m) }  // Eq is n = m, of bool type.
func (n *Node) Ne(m *Node) *Node  { return n.binary(OpNe, m) }  // Ne is n ≠ m.
func (n *Node) Lt(m *Node) *Node  { return n.binary(OpLt, m) }  // Lt is n < m.
func (n *Node) Le(m *Node) *Node  { return n.binary(OpLe, m) }  // Le is n ≤ m.
func (n *Node) Gt(m *Node) *Node  { return n.binary(OpGt, m) }  // Gt is n > m.
func (n *Node) Ge(m *Node) *Node  { return n.binary(OpGe, m) }  // Ge is n ≥ m.

// The same with a constant.

func (n *Node) AddC(c float64) *Node { return n.Add(n.C(c)) } // AddC is n+c.
func (n *Node) SubC(c float64) *Node { return n.Sub(n.C(c)) } // SubC is n-c.
func (n *Node) MulC(c float64) *Node { return n.Mul(n.C(c)) } // MulC is n·c.
func (n *Node) DivC(c float64) *Node { return n.Div(n.C(c)) } // DivC is n/c.
func (n *Node) PowC(c float64) *Node { return n.Pow(n.C(c)) } // PowC is n to the power c.
func (n *Node) MaxC(c float64) *Node { return n.Max(n.C(c)) } // MaxC is max(n, c).
func (n *Node) MinC(c float64) *Node { return n.Min(n.C(c)) } // MinC is min(n, c).

// Select is a where c is true and b elsewhere, all broadcast to one shape.
func Select(c, a, b *Node) *Node {
	g := c.g()
	if g.check(c, a, b) {
		return g.invalid
	}
	s, ok := broadcastShape(a.shape, b.shape)
	if ok {
		s, ok = broadcastShape(s, c.shape)
	}
	if !ok {
		g.failf("select of %s, %s and %s: the shapes do not broadcast", c.typed(), a.typed(), b.typed())
		return g.invalid
	}
	return g.Make(OpSelect, Attrs{}, c.BroadcastTo(s...), a.BroadcastTo(s...), b.BroadcastTo(s...))
}

// Clamp limits n to [lo, hi]. Like PyTorch's clamp it passes NaN on, and its
// gradient is 1 on the closed interval and 0 outside.
func (n *Node) Clamp(lo, hi *Node) *Node {
	return Select(n.Lt(lo), lo, Select(n.Gt(hi), hi, n))
}

// ClampC is Clamp between constants.
func (n *Node) ClampC(lo, hi float64) *Node { return n.Clamp(n.C(lo), n.C(hi)) }

// axes resolves negative axes, sorts them, and takes none as all.
func (n *Node) axes(axes []int) []int {
	out := slices.Clone(axes)
	for i, a := range out {
		if a < 0 {
			out[i] = a + len(n.shape)
		}
	}
	if len(out) == 0 {
		for i := range n.shape {
			out = append(out, i)
		}
	}
	slices.Sort(out)
	return out
}

func (n *Node) axis(a int) int {
	if a < 0 {
		return a + len(n.shape)
	}
	return a
}

func (n *Node) reduce(op Op, axes []int) *Node {
	if n.poison() || len(n.shape) == 0 {
		return n
	}
	return n.g().Make(op, Attrs{Axes: n.axes(axes)}, n)
}

// drop removes axes of extent 1.
func (n *Node) drop(axes []int) *Node {
	var s Shape
	for i, d := range n.shape {
		if !slices.Contains(axes, i) {
			s = append(s, d)
		}
	}
	return n.Reshape(s...)
}

// Sum adds along the axes (all, if none is named) and removes them.
func (n *Node) Sum(axes ...int) *Node { return n.SumKeep(axes...).drop(n.axes(axes)) }

// SumKeep is Sum, leaving each summed axis with extent 1.
func (n *Node) SumKeep(axes ...int) *Node { return n.reduce(OpReduceSum, axes) }

// ReduceMax is the maximum along the axes (all, if none is named), which it
// removes. NaN wins. Ties share the gradient evenly, as PyTorch's amax.
func (n *Node) ReduceMax(axes ...int) *Node { return n.ReduceMaxKeep(axes...).drop(n.axes(axes)) }

// ReduceMaxKeep is ReduceMax, leaving each axis with extent 1.
func (n *Node) ReduceMaxKeep(axes ...int) *Node { return n.reduce(OpReduceMax, axes) }

// Mean averages along the axes (all, if none is named) and removes them.
func (n *Node) Mean(axes ...int) *Node { return n.averaged(n.Sum(axes...)) }

// MeanKeep is Mean, leaving each averaged axis with extent 1.
func (n *Node) MeanKeep(axes ...int) *Node { return n.averaged(n.SumKeep(axes...)) }

func (n *Node) averaged(sum *Node) *Node {
	return sum.DivC(float64(n.Size()) / float64(max(sum.Size(), 1)))
}

// ArgMax is the index (i32) of the first of the largest along an axis, which
// it removes.
func (n *Node) ArgMax(axis int) *Node {
	a := n.axis(axis)
	return n.g().Make(OpArgMax, Attrs{Axis: a}, n).drop([]int{a})
}

// ArgSort is the stable permutation (i32) that sorts along an axis.
func (n *Node) ArgSort(axis int, descending bool) *Node {
	return n.g().Make(OpArgSort, Attrs{Axis: n.axis(axis), Descending: descending}, n)
}

// CumSum adds up along an axis, each element included in its own sum.
func (n *Node) CumSum(axis int) *Node {
	return n.g().Make(OpCumSum, Attrs{Axis: n.axis(axis)}, n)
}

// BroadcastTo repeats n to a shape by numpy's rule.
func (n *Node) BroadcastTo(shape ...int) *Node {
	g := n.g()
	if g.check(n) || n.shape.Equal(shape) {
		return n
	}
	if k := len(shape) - len(n.shape); k > 0 {
		n = n.Reshape(append(slices.Repeat([]int{1}, k), n.shape...)...)
	}
	if n.shape.Equal(shape) {
		return n
	}
	if c := n.splat(shape); c != nil {
		return c
	}
	return g.MakeTyped(OpBroadcast, Attrs{}, n.dtype, slices.Clone(shape), n)
}

// splat is the constant of one value in another shape, or nil if n is none or
// the shape does not fit: the movement then says why.
func (n *Node) splat(s Shape) *Node {
	if n.op != OpConst || len(n.attrs.Values) != 1 || n.shape.Size() != 1 && n.shape.Size() != s.Size() {
		return nil
	}
	return n.g().Const(n.dtype, n.attrs.Values, s...)
}

// Reshape keeps the row-major order of the elements. One extent may be -1: it
// is what remains.
func (n *Node) Reshape(shape ...int) *Node {
	if n.poison() {
		return n
	}
	s := Shape(slices.Clone(shape))
	if i := slices.Index(s, -1); i >= 0 {
		s[i] = 1
		s[i] = n.Size() / max(s.Size(), 1)
	}
	if n.shape.Equal(s) {
		return n
	}
	if c := n.splat(s); c != nil {
		return c
	}
	return n.g().MakeTyped(OpReshape, Attrs{}, n.dtype, s, n)
}

// Flatten joins all axes from the given one on.
func (n *Node) Flatten(from int) *Node {
	if n.poison() {
		return n
	}
	if from < 0 || from > n.Rank() {
		n.g().failf("flatten from axis %d of %s", from, n.typed())
		return n.g().invalid
	}
	return n.Reshape(append(slices.Clone(n.shape[:from]), -1)...)
}

// Expand inserts an axis of extent 1.
func (n *Node) Expand(axis int) *Node {
	if n.poison() {
		return n
	}
	return n.Reshape(slices.Insert(slices.Clone(n.shape), axis, 1)...)
}

// Transpose permutes the axes: result axis i is n's axis axes[i].
func (n *Node) Transpose(axes ...int) *Node {
	return n.g().Make(OpTranspose, Attrs{Axes: slices.Clone(axes)}, n)
}

// Slice takes elements lo to hi-1 of one axis.
func (n *Node) Slice(axis, lo, hi int) *Node {
	if n.poison() {
		return n
	}
	axis = n.axis(axis)
	los, his, steps := make([]int, n.Rank()), slices.Clone(n.shape), slices.Repeat([]int{1}, n.Rank())
	if err := checkAxes(n.shape, axis); err != nil {
		n.g().fail(fmt.Errorf("slice: %w", err))
		return n.g().invalid
	}
	los[axis], his[axis] = lo, hi
	return n.SliceND(los, his, steps)
}

// SliceND takes elements lo, lo+step, … below hi of every axis.
func (n *Node) SliceND(lo, hi, step []int) *Node {
	return n.g().Make(OpSlice, Attrs{Lo: slices.Clone(lo), Hi: slices.Clone(hi), Step: slices.Clone(step)}, n)
}

// PadND puts zeros around: lo before and hi after each axis, and step-1
// between neighbours.
func (n *Node) PadND(lo, hi, step []int) *Node {
	return n.g().Make(OpPad, Attrs{Lo: slices.Clone(lo), Hi: slices.Clone(hi), Step: slices.Clone(step)}, n)
}

// Reverse turns the axes' order around.
func (n *Node) Reverse(axes ...int) *Node {
	return n.g().Make(OpReverse, Attrs{Axes: n.axes(axes)}, n)
}

// Concat joins tensors along an axis.
func Concat(axis int, ns ...*Node) *Node {
	return ns[0].g().Make(OpConcat, Attrs{Axis: ns[0].axis(axis)}, slices.Clone(ns)...)
}

// Gather takes, along an axis, the elements that idx (i32, n's shape off the
// axis) names: result[…,i,…] = n[…,idx[…,i,…],…], as PyTorch's gather.
// Indices outside the axis are clamped into it.
func (n *Node) Gather(axis int, idx *Node) *Node {
	return n.g().Make(OpGather, Attrs{Axis: n.axis(axis)}, n, idx)
}

// ScatterAdd is Gather's adjoint: n's elements added at idx, clamped likewise,
// into zeros whose axis has the given extent.
func (n *Node) ScatterAdd(axis int, idx *Node, extent int) *Node {
	return n.g().Make(OpScatterAdd, Attrs{Axis: n.axis(axis), Size: []int{extent}}, n, idx)
}

// DynSlice takes a window of the given size out of each row: n is (N,d1…dr),
// starts (N,r) of i32, clamped so that the window lies inside.
func (n *Node) DynSlice(starts *Node, size ...int) *Node {
	return n.g().Make(OpDynSlice, Attrs{Size: slices.Clone(size)}, n, starts)
}

// DynPad is DynSlice's adjoint: each row placed at its start in zeros of the
// given size.
func (n *Node) DynPad(starts *Node, size ...int) *Node {
	return n.g().Make(OpDynPad, Attrs{Size: slices.Clone(size)}, n, starts)
}

// MatMul is (…,M,K)·(…,K,N) for rank 2, or 3 with equal first axes.
func (n *Node) MatMul(m *Node) *Node { return MatMul(n, m, false, false) }

// MatMul multiplies, taking the transpose of an operand's last two axes first
// where asked.
func MatMul(a, b *Node, ta, tb bool) *Node {
	return a.g().Make(OpMatMul, Attrs{TA: ta, TB: tb}, a, b)
}

// Window is the geometry of a convolution, (h,w) each. A zero Stride or
// Dilation means 1. Pad is on both sides.
type Window struct{ Stride, Pad, Dilation [2]int }

// Square is the geometry with the same stride and padding both ways.
func Square(stride, pad int) Window {
	return Window{Stride: [2]int{stride, stride}, Pad: [2]int{pad, pad}}
}

func (w Window) attrs() Attrs {
	one := func(p [2]int) [2]int {
		if p == [2]int{} {
			return [2]int{1, 1}
		}
		return p
	}
	return Attrs{Stride: one(w.Stride), Pad: w.Pad, Dilation: one(w.Dilation)}
}

// Conv2D correlates n (N,C,H,W) with filters w (O,C,kh,kw).
func (n *Node) Conv2D(w *Node, win Window) *Node {
	return n.g().Make(OpConv2D, win.attrs(), n, w)
}

// MaxPool is the maximum over windows (PyTorch's max_pool2d): the index of the
// first maximum, then a gather, so that every derivative is closed.
func (n *Node) MaxPool(kernel [2]int, win Window) *Node {
	if n.poison() {
		return n
	}
	a := win.attrs()
	idx := n.g().Make(OpPoolArgMax, Attrs{Kernel: kernel, Stride: a.Stride, Pad: a.Pad}, n)
	if idx.poison() {
		return idx
	}
	s := idx.shape
	flat := n.Reshape(s[0], s[1], -1).Gather(2, idx.Reshape(s[0], s[1], -1))
	return flat.Reshape(s...)
}

// AvgPool is the mean over windows, padding counted as zeros (PyTorch's
// avg_pool2d): a convolution with a constant filter, channel by channel.
func (n *Node) AvgPool(kernel [2]int, win Window) *Node {
	if n.poison() || n.Rank() != 4 {
		n.g().failf("average pooling of %s: want (N,C,H,W)", n.typed())
		return n.g().invalid
	}
	s := n.shape
	area := float64(kernel[0] * kernel[1])
	w := n.g().Const(n.dtype, []float64{1 / area}, 1, 1, kernel[0], kernel[1])
	y := n.Reshape(s[0]*s[1], 1, s[2], s[3]).Conv2D(w, win)
	return y.Reshape(s[0], s[1], y.Dim(-2), y.Dim(-1))
}

// OneHot is 1 of type t at each index of n (i32) along a new last axis, else 0.
func (n *Node) OneHot(classes int, t DType) *Node {
	if n.poison() {
		return n
	}
	s := append(slices.Clone(n.shape), classes)
	return n.g().Iota(I32, len(s)-1, s...).Eq(n.Expand(n.Rank())).Convert(t)
}

// Draw holds the operands of random numbers: u32 scalars seed, step and
// iteration, and the samples' ids (N).
type Draw struct{ Seed, IDs, Step, Iter *Node }

// Words are random words (u32) of shape (N, size…), a pure function of the
// draw and of the site's name: a sample's words depend on no other sample.
func (d Draw) Words(site string, size ...int) *Node {
	return d.Seed.g().Make(OpRandom, Attrs{Name: site, Size: slices.Clone(size)}, d.Seed, d.IDs, d.Step, d.Iter)
}

// Uniform draws from U[0,1) in float32: 24 bits of a word, exactly scaled.
func (d Draw) Uniform(site string, size ...int) *Node {
	w := d.Words(site, size...)
	return w.Shr(w.C(8)).Convert(F32).MulC(0x1p-24)
}

// Normal draws from N(0,1) in float32.
func (d Draw) Normal(site string, size ...int) *Node {
	return d.Words(site, size...).unary(OpNormal)
}
