package graph

import (
	"fmt"
	"slices"
)

// infer checks a node's operands and attributes and sets its type. For ops
// whose type is declared (leaves, convert, broadcast, reshape), it checks the
// declaration.
func infer(n *Node) error {
	info := opTable[n.op]
	if info.arity >= 0 && len(n.ins) != info.arity || info.arity < 0 && len(n.ins) == 0 {
		return fmt.Errorf("%v of %d operands: it takes %d", n.op, len(n.ins), info.arity)
	}
	for _, in := range n.ins {
		if in.op == OpLoop && n.op != OpGet {
			return fmt.Errorf("%v of a loop: take one of its results with get", n.op)
		}
	}
	if err := inferRules[n.op](n); err != nil {
		return fmt.Errorf("%v: %w", n.op, err)
	}
	return checkExtents(n)
}

// maxElements bounds a tensor, so that no size computed from a shape overflows.
const maxElements = 1 << 40

func checkExtents(n *Node) error {
	size := 1
	for _, d := range n.shape {
		if d < 1 {
			return fmt.Errorf("%v: shape %v has an empty axis", n.op, n.shape)
		}
		if d > maxElements/size {
			return fmt.Errorf("%v: shape %v has more than 2⁴⁰ elements", n.op, n.shape)
		}
		size *= d
	}
	return nil
}

var inferRules [opCount]func(*Node) error

func init() {
	set := func(rule func(*Node) error, ops ...Op) {
		for _, op := range ops {
			inferRules[op] = rule
		}
	}
	set(inferNamed, OpInput, OpState)
	set(inferScalar, OpScalar)
	set(inferConst, OpConst)
	set(inferIota, OpIota)
	set(inferDeclared, OpParam)
	set(unary(DType.Float), OpSign, OpExp, OpExpm1, OpLog, OpLog1p, OpSqrt, OpTanh, OpSigmoid, OpFloor, OpReLU)
	set(unary(arithmetic), OpNeg, OpAbs)
	set(unary(isBool), OpNot)
	set(unary(anyType), OpStopGradient)
	set(inferNormal, OpNormal)
	set(inferConvert, OpConvert)
	set(binary(arithmetic, false), OpAdd, OpSub, OpMul, OpDiv, OpMax, OpMin)
	set(binary(DType.Float, false), OpPow)
	set(binary(logical, false), OpAnd, OpOr, OpXor)
	set(binary(DType.Int, false), OpShl, OpShr)
	set(binary(anyType, true), OpEq, OpNe, OpLt, OpLe, OpGt, OpGe)
	set(inferSelect, OpSelect)
	set(inferReduce, OpReduceSum, OpReduceMax)
	set(inferArg, OpArgMax, OpArgSort)
	set(inferCumSum, OpCumSum)
	set(inferBroadcast, OpBroadcast)
	set(inferReshape, OpReshape)
	set(inferTranspose, OpTranspose)
	set(inferSlice, OpSlice)
	set(inferPad, OpPad)
	set(inferReverse, OpReverse)
	set(inferConcat, OpConcat)
	set(inferGather, OpGather)
	set(inferScatterAdd, OpScatterAdd)
	set(inferDynSlice, OpDynSlice)
	set(inferDynPad, OpDynPad)
	set(inferMatMul, OpMatMul)
	set(inferConv2D, OpConv2D)
	set(inferConv2DInputGrad, OpConv2DInputGrad)
	set(inferConv2DFilterGrad, OpConv2DFilterGrad)
	set(inferPackFilter, OpPackFilter)
	set(inferPackedConv2D, OpPackedConv2D)
	set(inferPoolArgMax, OpPoolArgMax)
	set(inferRandom, OpRandom)
	set(inferLoop, OpLoop)
	set(inferGet, OpGet)
}

func arithmetic(t DType) bool { return t != Bool && t != InvalidType }
func logical(t DType) bool    { return t == Bool || t.Int() }
func isBool(t DType) bool     { return t == Bool }
func anyType(t DType) bool    { return t != InvalidType }

// set gives the node its type.
func (n *Node) setType(t DType, s Shape) error {
	n.dtype, n.shape = t, s
	return nil
}

func inferDeclared(n *Node) error {
	if n.dtype == InvalidType {
		return fmt.Errorf("no element type")
	}
	return nil
}

func inferNamed(n *Node) error {
	if n.attrs.Name == "" {
		return fmt.Errorf("no name")
	}
	for b := n.block; b != nil; b = b.parent {
		for _, o := range b.nodes {
			if o.op == n.op && o.attrs.Name == n.attrs.Name && (o.dtype != n.dtype || !o.shape.Equal(n.shape)) {
				return fmt.Errorf("%q is %s here and %s before", n.attrs.Name, n.typed(), o.typed())
			}
		}
	}
	return inferDeclared(n)
}

func inferScalar(n *Node) error {
	if len(n.shape) != 0 || n.dtype.Size() != 4 {
		return fmt.Errorf("%q is %s: a scalar of the step block is f32, i32 or u32", n.attrs.Name, n.typed())
	}
	return inferNamed(n)
}

func inferConst(n *Node) error {
	if k := len(n.attrs.Values); k != 1 && k != n.shape.Size() {
		return fmt.Errorf("%d values for shape %v", k, n.shape)
	}
	for _, v := range n.attrs.Values {
		if !n.dtype.holds(v) {
			return fmt.Errorf("%v is no value of type %v", v, n.dtype)
		}
	}
	return inferDeclared(n)
}

func inferIota(n *Node) error {
	if !n.dtype.Int() && !n.dtype.Float() {
		return fmt.Errorf("of type %v", n.dtype)
	}
	return checkAxes(n.shape, n.attrs.Axis)
}

func checkAxes(s Shape, axes ...int) error {
	for i, a := range axes {
		if a < 0 || a >= len(s) {
			return fmt.Errorf("axis %d of shape %v", a, s)
		}
		if slices.Contains(axes[:i], a) {
			return fmt.Errorf("axis %d is named twice", a)
		}
	}
	return nil
}

func unary(ok func(DType) bool) func(*Node) error {
	return func(n *Node) error {
		x := n.ins[0]
		if !ok(x.dtype) {
			return fmt.Errorf("of %s", x.typed())
		}
		return n.setType(x.dtype, x.shape)
	}
}

func inferNormal(n *Node) error {
	if n.ins[0].dtype != U32 {
		return fmt.Errorf("of %s: want random words, u32", n.ins[0].typed())
	}
	return n.setType(F32, n.ins[0].shape)
}

func inferConvert(n *Node) error {
	n.shape = n.ins[0].shape
	return inferDeclared(n)
}

func binary(ok func(DType) bool, compare bool) func(*Node) error {
	return func(n *Node) error {
		a, b := n.ins[0], n.ins[1]
		if a.dtype != b.dtype || !a.shape.Equal(b.shape) {
			return fmt.Errorf("of %s and %s", a.typed(), b.typed())
		}
		if !ok(a.dtype) {
			return fmt.Errorf("of %s", a.typed())
		}
		if compare {
			return n.setType(Bool, a.shape)
		}
		return n.setType(a.dtype, a.shape)
	}
}

func inferSelect(n *Node) error {
	c, a, b := n.ins[0], n.ins[1], n.ins[2]
	if c.dtype != Bool || a.dtype != b.dtype || !c.shape.Equal(a.shape) || !a.shape.Equal(b.shape) {
		return fmt.Errorf("of %s, %s and %s", c.typed(), a.typed(), b.typed())
	}
	return n.setType(a.dtype, a.shape)
}

func inferReduce(n *Node) error {
	x := n.ins[0]
	if err := checkAxes(x.shape, n.attrs.Axes...); err != nil {
		return err
	}
	if len(n.attrs.Axes) == 0 || !slices.IsSorted(n.attrs.Axes) {
		return fmt.Errorf("axes %v: want at least one, ascending", n.attrs.Axes)
	}
	if !arithmetic(x.dtype) || x.dtype == U8 {
		return fmt.Errorf("of %s: convert it first", x.typed())
	}
	s := slices.Clone(x.shape)
	for _, a := range n.attrs.Axes {
		s[a] = 1
	}
	return n.setType(x.dtype, s)
}

func inferArg(n *Node) error {
	x := n.ins[0]
	if !arithmetic(x.dtype) {
		return fmt.Errorf("of %s", x.typed())
	}
	if err := checkAxes(x.shape, n.attrs.Axis); err != nil {
		return err
	}
	if n.op == OpArgMax {
		return n.setType(I32, x.shape.With(n.attrs.Axis, 1))
	}
	return n.setType(I32, x.shape)
}

func inferCumSum(n *Node) error {
	x := n.ins[0]
	if !arithmetic(x.dtype) {
		return fmt.Errorf("of %s", x.typed())
	}
	n.dtype, n.shape = x.dtype, x.shape
	return checkAxes(x.shape, n.attrs.Axis)
}

func inferBroadcast(n *Node) error {
	x := n.ins[0]
	if len(x.shape) != len(n.shape) {
		return fmt.Errorf("%s to shape %v: the rank differs", x.typed(), n.shape)
	}
	for i, d := range x.shape {
		if d != n.shape[i] && d != 1 {
			return fmt.Errorf("%s to shape %v: axis %d is neither equal nor 1", x.typed(), n.shape, i)
		}
	}
	n.dtype = x.dtype
	return nil
}

func inferReshape(n *Node) error {
	x := n.ins[0]
	if x.Size() != n.shape.Size() {
		return fmt.Errorf("%s to shape %v: %d elements are not %d", x.typed(), n.shape, x.Size(), n.shape.Size())
	}
	n.dtype = x.dtype
	return nil
}

func inferTranspose(n *Node) error {
	x := n.ins[0]
	if len(n.attrs.Axes) != len(x.shape) {
		return fmt.Errorf("%s by axes %v", x.typed(), n.attrs.Axes)
	}
	if err := checkAxes(x.shape, n.attrs.Axes...); err != nil {
		return err
	}
	s := make(Shape, len(x.shape))
	for i, a := range n.attrs.Axes {
		s[i] = x.shape[a]
	}
	return n.setType(x.dtype, s)
}

func inferSlice(n *Node) error {
	x, a := n.ins[0], &n.attrs
	if len(a.Lo) != len(x.shape) || len(a.Hi) != len(x.shape) || len(a.Step) != len(x.shape) {
		return fmt.Errorf("%s from %v to %v step %v: want one of each for every axis", x.typed(), a.Lo, a.Hi, a.Step)
	}
	s := make(Shape, len(x.shape))
	for i, d := range x.shape {
		if a.Lo[i] < 0 || a.Hi[i] > d || a.Lo[i] >= a.Hi[i] || a.Step[i] < 1 {
			return fmt.Errorf("%s from %v to %v step %v: axis %d", x.typed(), a.Lo, a.Hi, a.Step, i)
		}
		s[i] = (a.Hi[i] - a.Lo[i] + a.Step[i] - 1) / a.Step[i]
	}
	return n.setType(x.dtype, s)
}

func inferPad(n *Node) error {
	x, a := n.ins[0], &n.attrs
	if len(a.Lo) != len(x.shape) || len(a.Hi) != len(x.shape) || len(a.Step) != len(x.shape) {
		return fmt.Errorf("%s by %v and %v step %v: want one of each for every axis", x.typed(), a.Lo, a.Hi, a.Step)
	}
	s := make(Shape, len(x.shape))
	for i, d := range x.shape {
		if a.Lo[i] < 0 || a.Hi[i] < 0 || a.Step[i] < 1 {
			return fmt.Errorf("%s by %v and %v step %v: axis %d", x.typed(), a.Lo, a.Hi, a.Step, i)
		}
		s[i] = a.Lo[i] + (d-1)*a.Step[i] + 1 + a.Hi[i]
	}
	return n.setType(x.dtype, s)
}

func inferReverse(n *Node) error {
	x := n.ins[0]
	n.dtype, n.shape = x.dtype, x.shape
	return checkAxes(x.shape, n.attrs.Axes...)
}

func inferConcat(n *Node) error {
	x, axis := n.ins[0], n.attrs.Axis
	if err := checkAxes(x.shape, axis); err != nil {
		return err
	}
	d := 0
	for _, in := range n.ins {
		if in.dtype != x.dtype || len(in.shape) != len(x.shape) || !in.shape.With(axis, 1).Equal(x.shape.With(axis, 1)) {
			return fmt.Errorf("of %s and %s along axis %d", x.typed(), in.typed(), axis)
		}
		d += in.shape[axis]
	}
	return n.setType(x.dtype, x.shape.With(axis, d))
}

// checkIndex checks that idx is an i32 tensor that agrees with x off the axis.
func checkIndex(x, idx *Node, axis int) error {
	if err := checkAxes(x.shape, axis); err != nil {
		return err
	}
	if idx.dtype != I32 || len(idx.shape) != len(x.shape) || !idx.shape.With(axis, 1).Equal(x.shape.With(axis, 1)) {
		return fmt.Errorf("of %s with indices %s along axis %d", x.typed(), idx.typed(), axis)
	}
	return nil
}

func inferGather(n *Node) error {
	n.dtype, n.shape = n.ins[0].dtype, n.ins[1].shape
	return checkIndex(n.ins[0], n.ins[1], n.attrs.Axis)
}

func inferScatterAdd(n *Node) error {
	upd, idx, axis := n.ins[0], n.ins[1], n.attrs.Axis
	if err := checkIndex(upd, idx, axis); err != nil {
		return err
	}
	if !upd.shape.Equal(idx.shape) || !arithmetic(upd.dtype) {
		return fmt.Errorf("of %s with indices %s", upd.typed(), idx.typed())
	}
	if len(n.attrs.Size) != 1 {
		return fmt.Errorf("size %v: want the result's extent along the axis", n.attrs.Size)
	}
	return n.setType(upd.dtype, upd.shape.With(axis, n.attrs.Size[0]))
}

// dynWindow checks (x (N,…), starts (N,r)) and the attribute Size (r).
func dynWindow(n *Node) (x *Node, err error) {
	x, st := n.ins[0], n.ins[1]
	r := len(x.shape) - 1
	if r < 1 || st.dtype != I32 || !st.shape.Equal(Shape{x.shape[0], r}) || len(n.attrs.Size) != r {
		return nil, fmt.Errorf("of %s with starts %s and size %v", x.typed(), st.typed(), n.attrs.Size)
	}
	return x, nil
}

func inferDynSlice(n *Node) error {
	x, err := dynWindow(n)
	if err != nil {
		return err
	}
	for i, d := range n.attrs.Size {
		if d > x.shape[i+1] {
			return fmt.Errorf("window %v of %s", n.attrs.Size, x.typed())
		}
	}
	return n.setType(x.dtype, append(Shape{x.shape[0]}, n.attrs.Size...))
}

func inferDynPad(n *Node) error {
	x, err := dynWindow(n)
	if err != nil {
		return err
	}
	for i, d := range n.attrs.Size {
		if d < x.shape[i+1] {
			return fmt.Errorf("window %s in zeros of %v", x.typed(), n.attrs.Size)
		}
	}
	return n.setType(x.dtype, append(Shape{x.shape[0]}, n.attrs.Size...))
}

func inferMatMul(n *Node) error {
	a, b := n.ins[0], n.ins[1]
	r := len(a.shape)
	if a.dtype != b.dtype || !a.dtype.Float() || r != len(b.shape) || r < 2 || r > 3 || r == 3 && a.shape[0] != b.shape[0] {
		return fmt.Errorf("of %s and %s", a.typed(), b.typed())
	}
	m, ka := a.shape[r-2], a.shape[r-1]
	if n.attrs.TA {
		m, ka = ka, m
	}
	kb, c := b.shape[r-2], b.shape[r-1]
	if n.attrs.TB {
		kb, c = c, kb
	}
	if ka != kb {
		return fmt.Errorf("of %s and %s (transposed: %v, %v): %d is not %d", a.typed(), b.typed(), n.attrs.TA, n.attrs.TB, ka, kb)
	}
	return n.setType(a.dtype, append(slices.Clone(a.shape[:r-2]), m, c))
}

// convOut is the number of windows along one axis, or an error.
func convOut(in, k, stride, pad, dil int) (int, error) {
	if stride < 1 || pad < 0 || dil < 1 {
		return 0, fmt.Errorf("stride %d, padding %d, dilation %d", stride, pad, dil)
	}
	span := (k-1)*dil + 1
	if in+2*pad < span {
		return 0, fmt.Errorf("kernel of %d (dilation %d) is larger than the input of %d with padding %d", k, dil, in, pad)
	}
	return (in+2*pad-span)/stride + 1, nil
}

// convShape is the output shape of x (N,C,H,W) with w (O,C,kh,kw), or of
// (N,H,W,C) with (O,kh,kw,C).
func convShape(x, w Shape, a *Attrs) (Shape, error) {
	c, s := a.Layout.Channel(), a.Layout.Spatial()
	if len(x) != 4 || len(w) != 4 || x[c] != w[c] {
		if a.Layout == NHWC {
			return nil, fmt.Errorf("input %v with filter %v: want (N,H,W,C) and (O,kh,kw,C)", x, w)
		}
		return nil, fmt.Errorf("input %v with filter %v: want (N,C,H,W) and (O,C,kh,kw)", x, w)
	}
	var out [2]int
	for i := range out {
		d, err := convOut(x[s+i], w[s+i], a.Stride[i], a.Pad[i], a.Dilation[i])
		if err != nil {
			return nil, err
		}
		out[i] = d
	}
	return a.Layout.Shape(x[0], w[0], out[0], out[1]), nil
}

func floats(a, b *Node) error {
	if a.dtype != b.dtype || !a.dtype.Float() || len(a.shape) != 4 || len(b.shape) != 4 {
		return fmt.Errorf("of %s and %s", a.typed(), b.typed())
	}
	return nil
}

func inferConv2D(n *Node) error {
	x, w := n.ins[0], n.ins[1]
	if err := floats(x, w); err != nil {
		return err
	}
	s, err := convShape(x.shape, w.shape, &n.attrs)
	if err != nil {
		return err
	}
	return n.setType(x.dtype, s)
}

// The two gradients name the extents that their operands do not tell: Size is
// the input's (H,W), or the filter's (kh,kw).
func inferConv2DInputGrad(n *Node) error {
	dy, w := n.ins[0], n.ins[1]
	if err := floats(dy, w); err != nil {
		return err
	}
	if len(n.attrs.Size) != 2 {
		return fmt.Errorf("size %v: want the input's (h,w)", n.attrs.Size)
	}
	l := n.attrs.Layout
	s := l.Shape(dy.shape[0], w.shape[l.Channel()], n.attrs.Size[0], n.attrs.Size[1])
	return n.gradType(s, s, w.shape, dy.shape)
}

func inferConv2DFilterGrad(n *Node) error {
	x, dy := n.ins[0], n.ins[1]
	if err := floats(x, dy); err != nil {
		return err
	}
	if len(n.attrs.Size) != 2 {
		return fmt.Errorf("size %v: want the filter's (h,w)", n.attrs.Size)
	}
	c := n.attrs.Layout.Channel()
	s := n.attrs.Layout.Shape(dy.shape[c], x.shape[c], n.attrs.Size[0], n.attrs.Size[1])
	return n.gradType(s, x.shape, s, dy.shape)
}

func (n *Node) gradType(s, x, w, dy Shape) error {
	got, err := convShape(x, w, &n.attrs)
	if err != nil {
		return err
	}
	if !got.Equal(dy) {
		return fmt.Errorf("output gradient of shape %v: input %v and filter %v give %v", dy, x, w, got)
	}
	return n.setType(n.ins[0].dtype, s)
}

func inferPackFilter(n *Node) error {
	w := n.ins[0]
	if !w.dtype.Float() || len(w.shape) != 4 {
		return fmt.Errorf("of %s: want a filter (O,kh,kw,C)", w.typed())
	}
	if !serves(w.shape, &n.attrs) {
		return fmt.Errorf("filter %v, stride %v, dilation %v, input-grad %v: not for %v", w.shape, n.attrs.Stride, n.attrs.Dilation, n.attrs.InputGrad, n.attrs.Algorithm)
	}
	return n.setType(w.dtype, PackedShape(w.shape, &n.attrs))
}

// serves reports whether an algorithm can use a filter.
func serves(w Shape, a *Attrs) bool {
	switch a.Algorithm {
	case Winograd:
		return CanWinograd(w, a)
	case Patches:
		return CanPatches(w, a)
	case Pooled:
		return CanPatches(w, a) && a.Pool[0] > 0 && a.Pool[1] > 0
	}
	return true
}

// FilterShape is the shape (O,kh,kw,C) of the filter that a packed-conv2d's
// operand was made of.
func (n *Node) FilterShape() Shape {
	k := n.attrs.Kernel
	if n.attrs.InputGrad {
		return Shape{n.ins[0].shape[3], k[0], k[1], n.attrs.Size[2]}
	}
	return Shape{n.attrs.Size[2], k[0], k[1], n.ins[0].shape[3]}
}

func inferPackedConv2D(n *Node) error {
	pooled := n.attrs.Algorithm == Pooled
	want := 2
	if pooled {
		want = 3
	}
	if len(n.ins) != want {
		return fmt.Errorf("%v of %d operands: %v takes %d", n.op, len(n.ins), n.attrs.Algorithm, want)
	}
	from, packed := n.ins[0], n.ins[1]
	if len(from.shape) != 4 || !from.dtype.Float() || packed.dtype != from.dtype || len(n.attrs.Size) != 3 {
		return fmt.Errorf("of %s and %s to %v: want (N,h,w,c), a packed filter and (h,w,c)", from.typed(), packed.typed(), n.attrs.Size)
	}
	w := n.FilterShape()
	if !serves(w, &n.attrs) {
		return fmt.Errorf("filter %v: not for %v", w, n.attrs.Algorithm)
	}
	if want := PackedShape(w, &n.attrs); !want.Equal(packed.shape) {
		return fmt.Errorf("packed filter %v: filter %v gives %v", packed.shape, w, want)
	}
	to := append(Shape{from.shape[0]}, n.attrs.Size...)
	x, y := from.shape, to
	if n.attrs.InputGrad {
		x, y = y, x
	}
	if pooled {
		if at := n.ins[2]; at.dtype != I32 || !at.shape.Equal(from.shape) {
			return fmt.Errorf("places %s: want %v%v, one for each value", at.typed(), I32, from.shape)
		}
		y = Shape{y[0], y[1] * n.attrs.Pool[0], y[2] * n.attrs.Pool[1], y[3]}
	}
	a := n.attrs
	a.Layout = NHWC
	got, err := convShape(x, w, &a)
	if err != nil {
		return err
	}
	if !got.Equal(y) {
		return fmt.Errorf("result of shape %v: input %v and filter %v give %v", y, x, w, got)
	}
	return n.setType(from.dtype, to)
}

func inferPoolArgMax(n *Node) error {
	x, a := n.ins[0], n.attrs
	if len(x.shape) != 4 || !arithmetic(x.dtype) {
		return fmt.Errorf("of %s: want four axes", x.typed())
	}
	if a.Pad[0] >= a.Kernel[0] || a.Pad[1] >= a.Kernel[1] {
		return fmt.Errorf("padding %v of kernel %v: a window may hold no element", a.Pad, a.Kernel)
	}
	a.Dilation = [2]int{1, 1}
	c := x.shape[a.Layout.Channel()]
	w := a.Layout.Shape(c, c, a.Kernel[0], a.Kernel[1])
	s, err := convShape(x.shape, w, &a)
	if err != nil {
		return err
	}
	return n.setType(I32, s)
}

func inferRandom(n *Node) error {
	for i, in := range n.ins {
		rank := 0
		if i == 1 {
			rank = 1
		}
		if in.dtype != U32 || len(in.shape) != rank {
			return fmt.Errorf("operand %d is %s: want u32 scalars seed, step and iteration and the u32 ids (N)", i, in.typed())
		}
	}
	if n.attrs.Name == "" {
		return fmt.Errorf("no site name")
	}
	return n.setType(U32, append(Shape{n.ins[1].shape[0]}, n.attrs.Size...))
}

// inferLoop checks the body against the operands; the loop itself has no
// value, its results are taken with get. A loop that carries nothing is one
// whose iterations are independent.
func inferLoop(n *Node) error {
	if n.attrs.Trips < 1 {
		return fmt.Errorf("%d iterations: want at least 1", n.attrs.Trips)
	}
	b := n.body
	if b == nil || n.attrs.Carry < 0 || n.attrs.Carry > len(n.ins) || len(b.params) != len(n.ins)+1 || len(b.results) < n.attrs.Carry {
		return fmt.Errorf("body and operands do not fit: %d carried of %d", n.attrs.Carry, len(n.ins))
	}
	for i, in := range n.ins {
		want := in.shape
		if i >= n.attrs.Carry {
			if len(in.shape) == 0 || in.shape[0] != n.attrs.Trips {
				return fmt.Errorf("scanned operand %s: its first axis is not the %d iterations", in.typed(), n.attrs.Trips)
			}
			want = in.shape[1:]
		}
		if p := b.params[i+1]; p.dtype != in.dtype || !p.shape.Equal(want) {
			return fmt.Errorf("parameter %s for operand %s", p.typed(), in.typed())
		}
	}
	for i := range n.attrs.Carry {
		if r, p := b.results[i], b.params[i+1]; r.dtype != p.dtype || !r.shape.Equal(p.shape) {
			return fmt.Errorf("carried value %d is %s and becomes %s", i, p.typed(), r.typed())
		}
	}
	return nil
}

func inferGet(n *Node) error {
	l := n.ins[0]
	if l.op != OpLoop || n.attrs.Index < 0 || n.attrs.Index >= len(l.body.results) {
		return fmt.Errorf("result %d of %v", n.attrs.Index, l.op)
	}
	r := l.body.results[n.attrs.Index]
	if n.attrs.Index < l.attrs.Carry {
		return n.setType(r.dtype, r.shape)
	}
	return n.setType(r.dtype, append(Shape{l.attrs.Trips}, r.shape...))
}
