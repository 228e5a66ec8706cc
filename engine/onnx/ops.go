package onnx

import (
	"fmt"
	"math"
	"slices"

	"temper/engine/graph"
)

// direct are the element-wise operations that ONNX has by another name, and the
// operands that it has them for.
var direct = map[graph.Op]counterpart{
	graph.OpNeg: {"Neg", floating}, graph.OpAbs: {"Abs", floating}, graph.OpSign: {"Sign", floating}, graph.OpExp: {"Exp", floating},
	graph.OpLog: {"Log", floating}, graph.OpSqrt: {"Sqrt", floating}, graph.OpTanh: {"Tanh", floating}, graph.OpSigmoid: {"Sigmoid", floating},
	graph.OpFloor: {"Floor", floating}, graph.OpReLU: {"Relu", floating}, graph.OpNot: {"Not", whatever},
	graph.OpAdd: {"Add", numeric}, graph.OpSub: {"Sub", numeric}, graph.OpMul: {"Mul", numeric}, graph.OpDiv: {"Div", floating},
	graph.OpPow: {"Pow", floating}, graph.OpMax: {"Max", numeric}, graph.OpMin: {"Min", numeric},
	graph.OpEq: {"Equal", whatever}, graph.OpLt: {"Less", numeric}, graph.OpLe: {"LessOrEqual", numeric},
	graph.OpGt: {"Greater", numeric}, graph.OpGe: {"GreaterOrEqual", numeric}, graph.OpSelect: {"Where", whatever},
}

type counterpart struct {
	name  string
	takes func(n *graph.Node) bool
}

func floating(n *graph.Node) bool { return n.DType().Float() }
func numeric(n *graph.Node) bool  { return n.In(0).DType() != graph.Bool }
func whatever(*graph.Node) bool   { return true }

// emitters are the other operations.
var emitters map[graph.Op]func(t *writer, n *graph.Node) (string, error)

func init() { // not in the declaration: they call value, which reads it
	emitters = map[graph.Op]func(t *writer, n *graph.Node) (string, error){
		graph.OpState: (*writer).state, graph.OpConst: (*writer).splat, graph.OpIota: (*writer).expand, graph.OpBroadcast: (*writer).expand,
		graph.OpConvert: (*writer).convert, graph.OpReshape: (*writer).reshape, graph.OpTranspose: (*writer).transpose,
		graph.OpReduceSum: (*writer).reduceSum, graph.OpReduceMax: (*writer).reduceMax, graph.OpArgMax: (*writer).argMax, graph.OpCumSum: (*writer).cumSum,
		graph.OpSlice: (*writer).slice, graph.OpPad: (*writer).pad, graph.OpReverse: (*writer).reverse, graph.OpConcat: (*writer).concat,
		graph.OpGather: (*writer).gather, graph.OpMatMul: (*writer).matMul, graph.OpConv2D: (*writer).conv2D,
		graph.OpNe:  (*writer).notEqual,
		graph.OpAnd: logical("And"), graph.OpOr: logical("Or"), graph.OpXor: logical("Xor"),
	}
}

// value is the name of a node's value, which it makes if it is not there.
func (t *writer) value(n *graph.Node) (string, error) {
	if name, ok := t.names[n]; ok {
		return name, nil
	}
	name, err := t.make(n)
	if err == nil {
		t.names[n] = name
	}
	return name, err
}

func (t *writer) make(n *graph.Node) (string, error) {
	if _, ok := elementTypes[n.DType()]; !ok {
		return "", fmt.Errorf("%s: ONNX has no counterpart of type %v here", describe(n), n.DType())
	}
	if n.Op() == graph.OpStopGradient {
		return t.value(n.In(0))
	}
	if d, ok := direct[n.Op()]; ok && d.takes(n) {
		return t.elementwise(d.name, n)
	}
	if emit := emitters[n.Op()]; emit != nil {
		return emit(t, n)
	}
	return "", fmt.Errorf("%s: ONNX has no counterpart", describe(n))
}

// name is what a node's value is named after.
func (t *writer) name(n *graph.Node) string {
	if n.Label() != "" {
		return n.Label()
	}
	return n.Op().String()
}

func (t *writer) values(nodes []*graph.Node) ([]string, error) {
	out := make([]string, len(nodes))
	for i, n := range nodes {
		var err error
		if out[i], err = t.value(n); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// elementwise lets ONNX broadcast the operands that were broadcast here, unless
// all were.
func (t *writer) elementwise(op string, n *graph.Node) (string, error) {
	names := make([]string, len(n.Ins()))
	whole := false
	for i, in := range n.Ins() {
		name, err := t.narrow(in)
		if err != nil {
			return "", err
		}
		names[i] = name
		whole = whole || name == t.names[in]
	}
	if !whole {
		var err error
		if names[0], err = t.value(n.In(0)); err != nil {
			return "", err
		}
	}
	return t.emit(op, t.name(n), names), nil
}

// narrow is the value of n, or one that broadcasts to it.
func (t *writer) narrow(n *graph.Node) (string, error) {
	switch {
	case n.Op() == graph.OpBroadcast:
		return t.value(n.In(0))
	case n.Op() == graph.OpIota:
		return t.iota(n)
	case n.Op() == graph.OpConst && len(n.Attrs().Values) == 1 && n.Rank() > 0:
		return t.scalar(n)
	}
	return t.value(n)
}

// scalar is the one value of a constant.
func (t *writer) scalar(n *graph.Node) (string, error) {
	if n.Attrs().Values[0] != t.pair[n].Attrs().Values[0] {
		return "", fmt.Errorf("%s: its value depends on the batch size: what the graph makes of one example depends on the others", describe(n))
	}
	return t.numbers("constant", n.DType(), nil, n.Attrs().Values), nil
}

// splat is a constant in its full shape.
func (t *writer) splat(n *graph.Node) (string, error) {
	if len(n.Attrs().Values) > 1 {
		if !slices.Equal(n.Attrs().Values, t.pair[n].Attrs().Values) {
			return "", fmt.Errorf("%s: its values depend on the batch size: what the graph makes of one example depends on the others", describe(n))
		}
		return t.numbers("constant", n.DType(), n.Shape(), n.Attrs().Values), nil
	}
	one, err := t.scalar(n)
	if err != nil || n.Rank() == 0 {
		return one, err
	}
	return t.expanded(n, one)
}

// iota is 0, 1, 2, … along its axis, of extent 1 along the others.
func (t *writer) iota(n *graph.Node) (string, error) {
	axis := n.Attrs().Axis
	dims, err := t.dims(n)
	if err != nil {
		return "", err
	}
	if dims[axis].batch > 0 {
		return "", fmt.Errorf("%s: counts along the batch, so that what the graph makes of an example depends on its place", describe(n))
	}
	shape := slices.Repeat([]int{1}, n.Rank())
	shape[axis] = n.Dim(axis)
	values := make([]float64, n.Dim(axis))
	for i := range values {
		values[i] = float64(i)
	}
	return t.numbers("iota", n.DType(), shape, values), nil
}

// expand is a broadcast in its full shape.
func (t *writer) expand(n *graph.Node) (string, error) {
	from, err := t.narrow(n)
	if err != nil {
		return "", err
	}
	return t.expanded(n, from)
}

func (t *writer) expanded(n *graph.Node, from string) (string, error) {
	dims, err := t.dims(n)
	if err != nil {
		return "", err
	}
	shape, err := t.shape(t.name(n), dims)
	if err != nil {
		return "", err
	}
	return t.emit("Expand", t.name(n), []string{from, shape}), nil
}

func (t *writer) state(n *graph.Node) (string, error) {
	name := n.Attrs().Name
	data, err := t.options.State(name)
	if err != nil {
		return "", fmt.Errorf("state %q: %w", name, err)
	}
	if want := n.Size() * n.DType().Size(); len(data) != want {
		return "", fmt.Errorf("state %q: %d bytes, %v%v takes %d", name, len(data), n.DType(), n.Shape(), want)
	}
	name = t.unique(name)
	t.weights = append(t.weights, tensor{tensorHead(name, elementTypes[n.DType()], n.Shape()), data})
	return name, nil
}

// convert refuses float to integer, which saturates here and is anything in
// ONNX.
func (t *writer) convert(n *graph.Node) (string, error) {
	if n.In(0).DType().Float() && n.DType().Int() {
		return "", fmt.Errorf("%s from %v: ONNX leaves open what happens beyond the type's range", describe(n), n.In(0).DType())
	}
	from, err := t.value(n.In(0))
	if err != nil {
		return "", err
	}
	return t.emit("Cast", t.name(n), []string{from}, attribute{"to", int(elementTypes[n.DType()])}), nil
}

// notEqual is not(equal).
func (t *writer) notEqual(n *graph.Node) (string, error) {
	same, err := t.elementwise("Equal", n)
	if err != nil {
		return "", err
	}
	return t.emit("Not", t.name(n), []string{same}), nil
}

// logical is an operation of bool; of integers ONNX has none until opset 18.
func logical(op string) func(t *writer, n *graph.Node) (string, error) {
	return func(t *writer, n *graph.Node) (string, error) {
		if n.DType() != graph.Bool {
			return "", fmt.Errorf("%s: opset %d has no counterpart for integers", describe(n), Opset)
		}
		return t.elementwise(op, n)
	}
}

// reshape skips the reshapes below it.
func (t *writer) reshape(n *graph.Node) (string, error) {
	from := n.In(0)
	for from.Op() == graph.OpReshape {
		from = from.In(0)
	}
	name, shape, err := t.unshaped(from)
	if err != nil {
		return "", err
	}
	if shape.Equal(n.Shape()) {
		return name, nil
	}
	return t.reshaped(n, name)
}

// unshaped is the value of n in any shape. A max pool is a gather of positions
// that is flat and reshaped: here it is the pool itself.
func (t *writer) unshaped(n *graph.Node) (string, graph.Shape, error) {
	if x, pool := maxPool(n); pool != nil {
		name, err := t.pool(x, pool)
		return name, pool.Shape(), err
	}
	name, err := t.value(n)
	return name, n.Shape(), err
}

// reshaped gives a value the shape of n.
func (t *writer) reshaped(n *graph.Node, from string) (string, error) {
	dims, err := t.dims(n)
	if err != nil {
		return "", err
	}
	moving := 0
	flat := extents(dims)
	for i, d := range dims {
		if d.batch > 0 {
			moving++
			flat[i] = -1
		}
	}
	var shape string
	if moving <= 1 {
		shape = t.ints(t.name(n)+".shape", flat...)
	} else if shape, err = t.shape(t.name(n), dims); err != nil {
		return "", err
	}
	return t.emit("Reshape", t.name(n), []string{from, shape}), nil
}

func (t *writer) transpose(n *graph.Node) (string, error) {
	from, err := t.value(n.In(0))
	if err != nil {
		return "", err
	}
	return t.emit("Transpose", t.name(n), []string{from}, attribute{"perm", n.Attrs().Axes}), nil
}

// overBatch refuses to take several examples together: along these axes of n's
// first operand.
func (t *writer) overBatch(n *graph.Node, axes ...int) error {
	return t.overBatchOf(n, n.In(0), axes...)
}

func (t *writer) overBatchOf(n, in *graph.Node, axes ...int) error {
	dims, err := t.dims(in)
	if err != nil {
		return err
	}
	for _, a := range axes {
		if dims[a].batch > 0 {
			return fmt.Errorf("%s: goes over the batch, so that what the graph makes of one example depends on the others", describe(n))
		}
	}
	return nil
}

// reduceSum refuses integers, whose overflow wraps here and is anything in ONNX.
func (t *writer) reduceSum(n *graph.Node) (string, error) {
	if !n.DType().Float() {
		return "", fmt.Errorf("%s: ONNX leaves open what happens beyond the type's range", describe(n))
	}
	from, err := t.value(n.In(0))
	if err == nil {
		err = t.overBatch(n, n.Attrs().Axes...)
	}
	if err != nil {
		return "", err
	}
	var axes []int64
	for _, a := range n.Attrs().Axes {
		axes = append(axes, int64(a))
	}
	return t.emit("ReduceSum", t.name(n), []string{from, t.ints("axes", axes...)}, attribute{"keepdims", 1}), nil
}

func (t *writer) reduceMax(n *graph.Node) (string, error) {
	from, err := t.value(n.In(0))
	if err == nil {
		err = t.overBatch(n, n.Attrs().Axes...)
	}
	if err != nil {
		return "", err
	}
	return t.emit("ReduceMax", t.name(n), []string{from}, attribute{"axes", n.Attrs().Axes}, attribute{"keepdims", 1}), nil
}

func (t *writer) argMax(n *graph.Node) (string, error) {
	from, err := t.value(n.In(0))
	if err == nil {
		err = t.overBatch(n, n.Attrs().Axis)
	}
	if err != nil {
		return "", err
	}
	wide := t.emit("ArgMax", t.name(n), []string{from}, attribute{"axis", n.Attrs().Axis}, attribute{"keepdims", 1})
	return t.emit("Cast", t.name(n), []string{wide}, attribute{"to", typeInt32}), nil
}

func (t *writer) cumSum(n *graph.Node) (string, error) {
	from, err := t.value(n.In(0))
	if err == nil {
		err = t.overBatch(n, n.Attrs().Axis)
	}
	if err != nil {
		return "", err
	}
	return t.emit("CumSum", t.name(n), []string{from, t.ints("axis", int64(n.Attrs().Axis))}), nil
}

// whole reports whether a slice or pad leaves the axes alone that depend on the
// batch.
func (t *writer) whole(n *graph.Node) (dims []dim, err error) {
	a, from := n.Attrs(), n.In(0)
	if dims, err = t.dims(from); err != nil {
		return nil, err
	}
	for i, d := range dims {
		if d.batch > 0 && n.Dim(i) != from.Dim(i) {
			return nil, fmt.Errorf("%s: cuts the batch", describe(n))
		}
	}
	if b := t.pair[n].Attrs(); !slices.Equal(a.Lo, b.Lo) || !slices.Equal(a.Step, b.Step) {
		return nil, fmt.Errorf("%s: cuts the batch", describe(n))
	}
	return dims, nil
}

func (t *writer) slice(n *graph.Node) (string, error) {
	dims, err := t.whole(n)
	if err != nil {
		return "", err
	}
	var axes, lo, hi, step []int64
	for i, d := range dims {
		if a := n.Attrs(); d.batch == 0 && n.Dim(i) != d.fixed {
			axes, lo, hi, step = append(axes, int64(i)), append(lo, int64(a.Lo[i])), append(hi, int64(a.Hi[i])), append(step, int64(a.Step[i]))
		}
	}
	return t.sliced(n, lo, hi, axes, step)
}

func (t *writer) sliced(n *graph.Node, lo, hi, axes, step []int64) (string, error) {
	from, err := t.value(n.In(0))
	if err != nil || len(axes) == 0 {
		return from, err
	}
	return t.emit("Slice", t.name(n), []string{from, t.ints("starts", lo...), t.ints("ends", hi...), t.ints("axes", axes...), t.ints("steps", step...)}), nil
}

func (t *writer) reverse(n *graph.Node) (string, error) {
	if err := t.overBatch(n, n.Attrs().Axes...); err != nil {
		return "", err
	}
	var axes, lo, hi, step []int64
	for _, a := range n.Attrs().Axes {
		axes, lo, hi, step = append(axes, int64(a)), append(lo, -1), append(hi, math.MinInt64), append(step, -1)
	}
	return t.sliced(n, lo, hi, axes, step)
}

func (t *writer) pad(n *graph.Node) (string, error) {
	if _, err := t.whole(n); err != nil {
		return "", err
	}
	a := n.Attrs()
	if slices.ContainsFunc(a.Step, func(s int) bool { return s != 1 }) {
		return "", fmt.Errorf("%s: ONNX has no counterpart of zeros between the elements", describe(n))
	}
	from, err := t.value(n.In(0))
	if err != nil {
		return "", err
	}
	var around []int64
	for _, p := range slices.Concat(a.Lo, a.Hi) {
		around = append(around, int64(p))
	}
	return t.emit("Pad", t.name(n), []string{from, t.ints("pads", around...)}), nil
}

func (t *writer) concat(n *graph.Node) (string, error) {
	if err := t.overBatch(n, n.Attrs().Axis); err != nil {
		return "", err
	}
	from, err := t.values(n.Ins())
	if err != nil {
		return "", err
	}
	return t.emit("Concat", t.name(n), from, attribute{"axis", n.Attrs().Axis}), nil
}

// gather clamps its indices into the axis, which ONNX does not do by itself.
func (t *writer) gather(n *graph.Node) (string, error) {
	if x, pool := maxPool(n); pool != nil {
		name, err := t.pool(x, pool)
		if err != nil {
			return "", err
		}
		return t.reshaped(n, name)
	}
	if err := t.overBatch(n, n.Attrs().Axis); err != nil {
		return "", err
	}
	from, err := t.values(n.Ins())
	if err != nil {
		return "", err
	}
	low := t.numbers("first", graph.I32, nil, []float64{0})
	high := t.numbers("last", graph.I32, nil, []float64{float64(n.In(0).Dim(n.Attrs().Axis) - 1)})
	index := t.emit("Clip", "index", []string{from[1], low, high})
	return t.emit("GatherElements", t.name(n), []string{from[0], index}, attribute{"axis", n.Attrs().Axis}), nil
}

// maxPool recognises what [graph.Node.MaxPool] builds: the gather, along flat
// positions, of the first maximum of each window. It returns the images and the
// pool-argmax, or nil.
func maxPool(n *graph.Node) (x, pool *graph.Node) {
	if n.Op() != graph.OpGather || n.Attrs().Axis != 2 || n.Rank() != 3 {
		return nil, nil
	}
	x, pool = n.In(0), n.In(1)
	for x.Op() == graph.OpReshape {
		x = x.In(0)
	}
	for pool.Op() == graph.OpReshape {
		pool = pool.In(0)
	}
	if pool.Op() != graph.OpPoolArgMax || pool.In(0) != x || pool.Attrs().Layout != graph.NCHW {
		return nil, nil
	}
	return x, pool
}

// pool is the max pool of x with the windows of a pool-argmax, whose name it
// takes.
func (t *writer) pool(x, pool *graph.Node) (string, error) {
	if name, ok := t.names[pool]; ok {
		return name, nil
	}
	from, err := t.value(x)
	if err != nil {
		return "", err
	}
	a := pool.Attrs()
	name := t.emit("MaxPool", "max-pool", []string{from}, attribute{"kernel_shape", a.Kernel[:]}, attribute{"strides", a.Stride[:]}, around(a.Pad))
	t.names[pool] = name
	return name, nil
}

// around is the same padding on both sides, (h,w).
func around(p [2]int) attribute { return attribute{"pads", []int{p[0], p[1], p[0], p[1]}} }

// matMul of matrices is a Gemm, which takes transposes as it is told.
func (t *writer) matMul(n *graph.Node) (string, error) {
	a := n.Attrs()
	inner := n.Rank() - 1 // the axis of the first operand that is summed over
	if a.TA {
		inner--
	}
	if err := t.overBatch(n, inner); err != nil {
		return "", err
	}
	from, err := t.values(n.Ins())
	if err != nil {
		return "", err
	}
	flag := map[bool]int{true: 1}
	if n.Rank() == 2 {
		return t.emit("Gemm", t.name(n), from, attribute{"transA", flag[a.TA]}, attribute{"transB", flag[a.TB]}), nil
	}
	for i, transposed := range []bool{a.TA, a.TB} {
		if transposed {
			from[i] = t.emit("Transpose", t.name(n), from[i:i+1], attribute{"perm", []int{0, 2, 1}})
		}
	}
	return t.emit("MatMul", t.name(n), from), nil
}

func (t *writer) conv2D(n *graph.Node) (string, error) {
	a := n.Attrs()
	if a.Layout != graph.NCHW {
		return "", fmt.Errorf("%s in layout %v: ONNX has (N,C,H,W)", describe(n), a.Layout)
	}
	err := t.overBatch(n, 1, 2, 3)
	if err == nil {
		err = t.overBatchOf(n, n.In(1), 0, 1, 2, 3)
	}
	if err != nil {
		return "", err
	}
	from, err := t.values(n.Ins())
	if err != nil {
		return "", err
	}
	kernel := n.In(1).Shape()[2:]
	return t.emit("Conv", t.name(n), from, attribute{"kernel_shape", []int(kernel)}, attribute{"strides", a.Stride[:]},
		around(a.Pad), attribute{"dilations", a.Dilation[:]}), nil
}
