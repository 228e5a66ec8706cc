package kernel

import (
	"fmt"
)

// The functions of this file work on consecutive elements. dst sets the
// number of elements; the operands are at least as long, and may be dst itself
// but must not overlap it otherwise. Each arithmetic operation is rounded on
// its own, and levels agree to the last bit.

type binaryOp int

const (
	opAdd binaryOp = iota
	opSub
	opMul
	opDiv
	opMax
	opMin
	binaryOps
)

type unaryOp int

const (
	opNeg unaryOp = iota
	opAbs
	opSign
	opRelu
	opFloor
	opSqrt
	opExp
	opLog
	opTanh
	opSigmoid
	opExpm1
	opLog1p
	unaryOps
)

type compareOp int

const (
	opEq compareOp = iota
	opNe
	opLt
	opLe
	opGt
	opGe
	compareOps
)

// vector is a level's set of element-wise loops. Operands are as long as dst.
type vector[T Float] struct {
	vv    [binaryOps]func(dst, a, b []T)
	unary [unaryOps]func(dst, a []T)

	compareVV [compareOps]func(dst []uint8, a, b []T)

	selectVV func(dst []T, mask []uint8, a, b []T)

	fromU8 func(dst []T, a []uint8)
}

// vectorFor returns the active level's loops for T.
func vectorFor[T Float]() *vector[T] {
	if v, ok := any(active.v32).(*vector[T]); ok {
		return v
	}
	return any(active.v64).(*vector[T])
}

// cut shortens an operand to the length of dst.
func cut[T any](a []T, n int) []T {
	if len(a) < n {
		panic(fmt.Sprintf("BUG: kernel: operand of %d elements for a result of %d", len(a), n))
	}
	return a[:n]
}

// inPieces calls do for consecutive ranges of n elements, so short that an
// assembly loop, which cannot be preempted, takes some microseconds.
func inPieces(n int, do func(i, j int)) {
	for i := 0; i < n; i += pieceLen {
		do(i, min(i+pieceLen, n))
	}
}

const pieceLen = 1 << 14

func binary[T Float](op binaryOp, dst, a, b []T) {
	f := vectorFor[T]().vv[op]
	a, b = cut(a, len(dst)), cut(b, len(dst))
	inPieces(len(dst), func(i, j int) { f(dst[i:j], a[i:j], b[i:j]) })
}

func unary[T Float](op unaryOp, dst, a []T) {
	f := vectorFor[T]().unary[op]
	a = cut(a, len(dst))
	inPieces(len(dst), func(i, j int) { f(dst[i:j], a[i:j]) })
}

func compare[T Float](op compareOp, dst []uint8, a, b []T) {
	f := vectorFor[T]().compareVV[op]
	a, b = cut(a, len(dst)), cut(b, len(dst))
	inPieces(len(dst), func(i, j int) { f(dst[i:j], a[i:j], b[i:j]) })
}

// Add stores a + b.
func Add[T Float](dst, a, b []T) { binary(opAdd, dst, a, b) }

// Sub stores a - b.
func Sub[T Float](dst, a, b []T) { binary(opSub, dst, a, b) }

// Mul stores a · b.
func Mul[T Float](dst, a, b []T) { binary(opMul, dst, a, b) }

// Div stores a / b.
func Div[T Float](dst, a, b []T) { binary(opDiv, dst, a, b) }

// Max stores the greater of a and b, NaN if either is NaN, and b if they are
// equal (which tells 0 from -0).
func Max[T Float](dst, a, b []T) { binary(opMax, dst, a, b) }

// Min stores the lesser of a and b, NaN if either is NaN, and b if they are
// equal.
func Min[T Float](dst, a, b []T) { binary(opMin, dst, a, b) }

// Neg stores -a.
func Neg[T Float](dst, a []T) { unary(opNeg, dst, a) }

// Abs stores |a|.
func Abs[T Float](dst, a []T) { unary(opAbs, dst, a) }

// Sign stores -1, 0 or 1; 0 for both zeros and, as PyTorch, for NaN.
func Sign[T Float](dst, a []T) { unary(opSign, dst, a) }

// Relu stores 0 where a < 0 and a elsewhere: -0 and NaN pass.
func Relu[T Float](dst, a []T) { unary(opRelu, dst, a) }

// Floor stores the greatest integer not above a.
func Floor[T Float](dst, a []T) { unary(opFloor, dst, a) }

// Sqrt stores the square root, correctly rounded.
func Sqrt[T Float](dst, a []T) { unary(opSqrt, dst, a) }

// Exp stores eᵃ, to 1 ulp in float32.
func Exp[T Float](dst, a []T) { unary(opExp, dst, a) }

// Log stores the natural logarithm, to 1 ulp in float32.
func Log[T Float](dst, a []T) { unary(opLog, dst, a) }

// Tanh stores the hyperbolic tangent, to 2 ulp in float32.
func Tanh[T Float](dst, a []T) { unary(opTanh, dst, a) }

// Sigmoid stores 1 / (1 + e⁻ᵃ), to 2 ulp in float32.
func Sigmoid[T Float](dst, a []T) { unary(opSigmoid, dst, a) }

// Expm1 stores eᵃ - 1, to 1 ulp in float32.
func Expm1[T Float](dst, a []T) { unary(opExpm1, dst, a) }

// Log1p stores ln(1 + a), to 1 ulp in float32.
func Log1p[T Float](dst, a []T) { unary(opLog1p, dst, a) }

// Eq stores 1 where a = b and 0 elsewhere; a comparison with NaN is false.
func Eq[T Float](dst []uint8, a, b []T) { compare(opEq, dst, a, b) }

// Ne stores 1 where a ≠ b, NaN included, and 0 elsewhere.
func Ne[T Float](dst []uint8, a, b []T) { compare(opNe, dst, a, b) }

// Lt stores 1 where a < b and 0 elsewhere.
func Lt[T Float](dst []uint8, a, b []T) { compare(opLt, dst, a, b) }

// Le stores 1 where a ≤ b and 0 elsewhere.
func Le[T Float](dst []uint8, a, b []T) { compare(opLe, dst, a, b) }

// Gt stores 1 where a > b and 0 elsewhere.
func Gt[T Float](dst []uint8, a, b []T) { compare(opGt, dst, a, b) }

// Ge stores 1 where a ≥ b and 0 elsewhere.
func Ge[T Float](dst []uint8, a, b []T) { compare(opGe, dst, a, b) }

// Select stores a where mask is not 0 and b elsewhere.
func Select[T Float](dst []T, mask []uint8, a, b []T) {
	f := vectorFor[T]().selectVV
	mask, a, b = cut(mask, len(dst)), cut(a, len(dst)), cut(b, len(dst))
	inPieces(len(dst), func(i, j int) { f(dst[i:j], mask[i:j], a[i:j], b[i:j]) })
}

func bit(b bool) uint8 {
	if b {
		return 1
	}
	return 0
}

// FromU8 converts bytes, exactly.
func FromU8[T Float](dst []T, a []uint8) {
	f := vectorFor[T]().fromU8
	a = cut(a, len(dst))
	inPieces(len(dst), func(i, j int) { f(dst[i:j], a[i:j]) })
}
