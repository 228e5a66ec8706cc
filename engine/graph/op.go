package graph

// Op is an operation. The table below says all there is to say about each one
// that does not depend on its operands; infer.go derives its result's type.
type Op uint8

// The operations. Adding one takes four steps: a constant here, its line in
// the table, its rule in infer.go, and a case in engine/optest, which then
// fails until every back end and autodiff know it.
const (
	OpInvalid Op = iota

	// Leaves.
	OpInput  // fed anew each step; Name
	OpState  // lives on the device from step to step; Name
	OpScalar // a number of the step block (learning rate, ε, step, seed); Name
	OpConst  // Values: one for all elements, or all of them
	OpIota   // 0, 1, 2, … along Axis
	OpParam  // a parameter of a loop body

	// Element-wise, one operand.
	OpNeg
	OpAbs
	OpSign // -1, 0, 1; 0 for 0 and, as PyTorch's, for NaN
	OpExp
	OpExpm1
	OpLog
	OpLog1p
	OpSqrt
	OpTanh
	OpSigmoid
	OpFloor
	OpReLU    // max(x, 0) with derivative 0 at 0
	OpNot     // of bool
	OpNormal  // random word (u32) to N(0,1) (f32): rng.Normal
	OpConvert // to DType: float to int truncates and saturates
	OpStopGradient

	// Element-wise, two operands of one type.
	OpAdd
	OpSub
	OpMul
	OpDiv // integers truncate; an integer divided by 0 is 0
	OpPow
	OpMax
	OpMin
	OpAnd // of bool or integers, as are Or and Xor
	OpOr
	OpXor
	OpShl // of integers; the count is taken as unsigned; by the width or more it gives 0
	OpShr // with its sign for i32, so that by the width or more it gives 0 or -1
	OpEq  // compare: result is bool
	OpNe
	OpLt
	OpLe
	OpGt
	OpGe

	OpSelect // (bool c, a, b): c ? a : b

	// Along axes. Reductions keep the axis with extent 1.
	OpReduceSum
	OpReduceMax
	OpArgMax  // first of the largest along Axis: i32; NaN wins
	OpCumSum  // inclusive, along Axis
	OpArgSort // stable permutation along Axis: i32; Descending; NaN is the largest

	// Movement.
	OpBroadcast // extents equal or 1, to Shape
	OpReshape   // to Shape
	OpTranspose // Axes: result axis i is operand axis Axes[i]
	OpSlice     // Lo, Hi, Step for each axis
	OpPad       // with zeros: Lo and Hi around, Step-1 between the elements
	OpReverse   // along Axes
	OpConcat    // along Axis
	OpGather    // (x, i32 index): along Axis; indices are clamped into range
	OpScatterAdd
	OpDynSlice // (x (N,…), i32 starts (N,r)): a window of Shape in each row
	OpDynPad   // its adjoint: each row's window placed in zeros of Shape

	// Contractions.
	OpMatMul // (…,M,K)·(…,K,N), each optionally transposed
	OpConv2D // (N,C,H,W) * (O,C,kh,kw); Stride, Pad, Dilation, Layout
	OpConv2DInputGrad
	OpConv2DFilterGrad
	OpPackFilter   // (O,kh,kw,C): see PackedShape
	OpPackedConv2D // (N,h,w,c) with a packed filter: conv2d or conv2d-input-grad in NHWC; for Pooled also i32 places
	OpPoolArgMax   // (N,C,H,W): i32 index h·W+w of each window's first maximum

	OpRandom // (seed, ids (N), step, iteration): u32 words (N, Shape…), site Name

	OpLoop // Trips times Body
	OpGet  // result Index of a loop

	opCount
)

// Class groups operations that the compiler treats alike.
type Class uint8

// The classes.
const (
	ClassLeaf        Class = iota
	ClassElementwise       // result element i needs only the operands' elements i
	ClassReduce
	ClassMovement
	ClassContraction
	ClassOther
)

type opInfo struct {
	name  string
	arity int // -1: one or more
	class Class
	attrs string // the fields of Attrs that the op has, space-separated, in print order
}

var opTable = [opCount]opInfo{
	OpInvalid: {"invalid", 0, ClassOther, ""},

	OpInput:  {"input", 0, ClassLeaf, "name"},
	OpState:  {"state", 0, ClassLeaf, "name"},
	OpScalar: {"scalar", 0, ClassLeaf, "name"},
	OpConst:  {"const", 0, ClassLeaf, "values"},
	OpIota:   {"iota", 0, ClassLeaf, "axis"},
	OpParam:  {"param", 0, ClassLeaf, "index"},

	OpNeg:          {"neg", 1, ClassElementwise, ""},
	OpAbs:          {"abs", 1, ClassElementwise, ""},
	OpSign:         {"sign", 1, ClassElementwise, ""},
	OpExp:          {"exp", 1, ClassElementwise, ""},
	OpExpm1:        {"expm1", 1, ClassElementwise, ""},
	OpLog:          {"log", 1, ClassElementwise, ""},
	OpLog1p:        {"log1p", 1, ClassElementwise, ""},
	OpSqrt:         {"sqrt", 1, ClassElementwise, ""},
	OpTanh:         {"tanh", 1, ClassElementwise, ""},
	OpSigmoid:      {"sigmoid", 1, ClassElementwise, ""},
	OpFloor:        {"floor", 1, ClassElementwise, ""},
	OpReLU:         {"relu", 1, ClassElementwise, ""},
	OpNot:          {"not", 1, ClassElementwise, ""},
	OpNormal:       {"normal", 1, ClassElementwise, ""},
	OpConvert:      {"convert", 1, ClassElementwise, ""},
	OpStopGradient: {"stop-gradient", 1, ClassElementwise, ""},

	OpAdd: {"add", 2, ClassElementwise, ""},
	OpSub: {"sub", 2, ClassElementwise, ""},
	OpMul: {"mul", 2, ClassElementwise, ""},
	OpDiv: {"div", 2, ClassElementwise, ""},
	OpPow: {"pow", 2, ClassElementwise, ""},
	OpMax: {"max", 2, ClassElementwise, ""},
	OpMin: {"min", 2, ClassElementwise, ""},
	OpAnd: {"and", 2, ClassElementwise, ""},
	OpOr:  {"or", 2, ClassElementwise, ""},
	OpXor: {"xor", 2, ClassElementwise, ""},
	OpShl: {"shl", 2, ClassElementwise, ""},
	OpShr: {"shr", 2, ClassElementwise, ""},
	OpEq:  {"eq", 2, ClassElementwise, ""},
	OpNe:  {"ne", 2, ClassElementwise, ""},
	OpLt:  {"lt", 2, ClassElementwise, ""},
	OpLe:  {"le", 2, ClassElementwise, ""},
	OpGt:  {"gt", 2, ClassElementwise, ""},
	OpGe:  {"ge", 2, ClassElementwise, ""},

	OpSelect: {"select", 3, ClassElementwise, ""},

	OpReduceSum: {"reduce-sum", 1, ClassReduce, "axes"},
	OpReduceMax: {"reduce-max", 1, ClassReduce, "axes"},
	OpArgMax:    {"argmax", 1, ClassOther, "axis"},
	OpCumSum:    {"cumsum", 1, ClassOther, "axis"},
	OpArgSort:   {"argsort", 1, ClassOther, "axis descending"},

	OpBroadcast:  {"broadcast", 1, ClassMovement, ""},
	OpReshape:    {"reshape", 1, ClassMovement, ""},
	OpTranspose:  {"transpose", 1, ClassMovement, "axes"},
	OpSlice:      {"slice", 1, ClassMovement, "lo hi step"},
	OpPad:        {"pad", 1, ClassMovement, "lo hi step"},
	OpReverse:    {"reverse", 1, ClassMovement, "axes"},
	OpConcat:     {"concat", -1, ClassMovement, "axis"},
	OpGather:     {"gather", 2, ClassMovement, "axis"},
	OpScatterAdd: {"scatter-add", 2, ClassOther, "axis size"},
	OpDynSlice:   {"dyn-slice", 2, ClassMovement, "size"},
	OpDynPad:     {"dyn-pad", 2, ClassMovement, "size"},

	OpMatMul:           {"matmul", 2, ClassContraction, "ta tb precision"},
	OpConv2D:           {"conv2d", 2, ClassContraction, "stride pad dilation layout precision"},
	OpConv2DInputGrad:  {"conv2d-input-grad", 2, ClassContraction, "stride pad dilation size layout precision"},
	OpConv2DFilterGrad: {"conv2d-filter-grad", 2, ClassContraction, "stride pad dilation size layout algorithm precision"},
	OpPackFilter:       {"pack-filter", 1, ClassOther, "stride dilation algorithm pool input-grad"},
	OpPackedConv2D:     {"packed-conv2d", -1, ClassContraction, "kernel stride pad dilation size algorithm pool input-grad"},
	OpPoolArgMax:       {"pool-argmax", 1, ClassOther, "kernel stride pad layout"},

	OpRandom: {"random", 4, ClassOther, "name size"},

	OpLoop: {"loop", -1, ClassOther, "trips carry"},
	OpGet:  {"get", 1, ClassOther, "index"},
}

func (op Op) String() string { return opTable[op].name }

// Class says how the compiler treats op.
func (op Op) Class() Class { return opTable[op].class }

// Ops lists every operation, for tests that must cover them all.
func Ops() []Op {
	ops := make([]Op, 0, opCount-1)
	for op := OpInvalid + 1; op < opCount; op++ {
		ops = append(ops, op)
	}
	return ops
}

var opByName = func() map[string]Op {
	m := map[string]Op{}
	for op, info := range opTable {
		m[info.name] = Op(op)
	}
	return m
}()
