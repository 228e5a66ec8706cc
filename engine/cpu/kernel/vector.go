package kernel

import (
	"fmt"
	"math"
)

// The functions of this file work on consecutive elements. dst sets the
// number of elements; the operands are at least as long, and may be dst itself
// but must not overlap it otherwise. Each arithmetic operation is rounded on
// its own, and levels agree to the last bit.
//
// A suffix says which operand is a scalar: AddS has a slice and a scalar,
// SSub a scalar and a slice.

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
	opRsqrt
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
	vs    [binaryOps]func(dst, a []T, s T)
	sv    [binaryOps]func(dst []T, s T, a []T) // opSub and opDiv only
	unary [unaryOps]func(dst, a []T)

	compareVV [compareOps]func(dst []uint8, a, b []T)
	compareVS [compareOps]func(dst []uint8, a []T, s T)

	selectVV func(dst []T, mask []uint8, a, b []T)
	selectVS func(dst []T, mask []uint8, a []T, s T)
	selectSV func(dst []T, mask []uint8, s T, b []T)

	fill    func(dst []T, s T)
	fromU8  func(dst []T, a []uint8)
	fromI32 func(dst []T, a []int32)
	axpy    func(dst []T, s T, a []T)
	sum     func(a []T) T
	maxOf   func(a []T) T
}

// masks is a level's set of loops over masks.
type masks struct {
	and, or func(dst, a, b []uint8)
	not     func(dst, a []uint8)
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

func binaryVS[T Float](op binaryOp, dst, a []T, s T) {
	f := vectorFor[T]().vs[op]
	a = cut(a, len(dst))
	inPieces(len(dst), func(i, j int) { f(dst[i:j], a[i:j], s) })
}

func binarySV[T Float](op binaryOp, dst []T, s T, a []T) {
	f := vectorFor[T]().sv[op]
	a = cut(a, len(dst))
	inPieces(len(dst), func(i, j int) { f(dst[i:j], s, a[i:j]) })
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

func compareVS[T Float](op compareOp, dst []uint8, a []T, s T) {
	f := vectorFor[T]().compareVS[op]
	a = cut(a, len(dst))
	inPieces(len(dst), func(i, j int) { f(dst[i:j], a[i:j], s) })
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

// AddS stores a + s.
func AddS[T Float](dst, a []T, s T) { binaryVS(opAdd, dst, a, s) }

// SubS stores a - s.
func SubS[T Float](dst, a []T, s T) { binaryVS(opSub, dst, a, s) }

// MulS stores a · s.
func MulS[T Float](dst, a []T, s T) { binaryVS(opMul, dst, a, s) }

// DivS stores a / s.
func DivS[T Float](dst, a []T, s T) { binaryVS(opDiv, dst, a, s) }

// MaxS is Max with b = s.
func MaxS[T Float](dst, a []T, s T) { binaryVS(opMax, dst, a, s) }

// MinS is Min with b = s.
func MinS[T Float](dst, a []T, s T) { binaryVS(opMin, dst, a, s) }

// SSub stores s - a.
func SSub[T Float](dst []T, s T, a []T) { binarySV(opSub, dst, s, a) }

// SDiv stores s / a.
func SDiv[T Float](dst []T, s T, a []T) { binarySV(opDiv, dst, s, a) }

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

// Rsqrt stores 1 / √a, both operations correctly rounded.
func Rsqrt[T Float](dst, a []T) { unary(opRsqrt, dst, a) }

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

// EqS is Eq with b = s.
func EqS[T Float](dst []uint8, a []T, s T) { compareVS(opEq, dst, a, s) }

// NeS is Ne with b = s.
func NeS[T Float](dst []uint8, a []T, s T) { compareVS(opNe, dst, a, s) }

// LtS is Lt with b = s.
func LtS[T Float](dst []uint8, a []T, s T) { compareVS(opLt, dst, a, s) }

// LeS is Le with b = s.
func LeS[T Float](dst []uint8, a []T, s T) { compareVS(opLe, dst, a, s) }

// GtS is Gt with b = s.
func GtS[T Float](dst []uint8, a []T, s T) { compareVS(opGt, dst, a, s) }

// GeS is Ge with b = s.
func GeS[T Float](dst []uint8, a []T, s T) { compareVS(opGe, dst, a, s) }

// Select stores a where mask is not 0 and b elsewhere.
func Select[T Float](dst []T, mask []uint8, a, b []T) {
	f := vectorFor[T]().selectVV
	mask, a, b = cut(mask, len(dst)), cut(a, len(dst)), cut(b, len(dst))
	inPieces(len(dst), func(i, j int) { f(dst[i:j], mask[i:j], a[i:j], b[i:j]) })
}

// SelectS stores a where mask is not 0 and s elsewhere.
func SelectS[T Float](dst []T, mask []uint8, a []T, s T) {
	f := vectorFor[T]().selectVS
	mask, a = cut(mask, len(dst)), cut(a, len(dst))
	inPieces(len(dst), func(i, j int) { f(dst[i:j], mask[i:j], a[i:j], s) })
}

// SSelect stores s where mask is not 0 and b elsewhere.
func SSelect[T Float](dst []T, mask []uint8, s T, b []T) {
	f := vectorFor[T]().selectSV
	mask, b = cut(mask, len(dst)), cut(b, len(dst))
	inPieces(len(dst), func(i, j int) { f(dst[i:j], mask[i:j], s, b[i:j]) })
}

// SSelectS stores s where mask is not 0 and t elsewhere.
func SSelectS[T Float](dst []T, mask []uint8, s, t T) {
	Fill(dst, t)
	SSelect(dst, mask, s, dst)
}

// And stores 1 where both masks are not 0 and 0 elsewhere.
func And(dst, a, b []uint8) {
	a, b = cut(a, len(dst)), cut(b, len(dst))
	inPieces(len(dst), func(i, j int) { active.masks.and(dst[i:j], a[i:j], b[i:j]) })
}

// Or stores 1 where a mask is not 0 and 0 elsewhere.
func Or(dst, a, b []uint8) {
	a, b = cut(a, len(dst)), cut(b, len(dst))
	inPieces(len(dst), func(i, j int) { active.masks.or(dst[i:j], a[i:j], b[i:j]) })
}

// Not stores 1 where the mask is 0 and 0 elsewhere.
func Not(dst, a []uint8) {
	a = cut(a, len(dst))
	inPieces(len(dst), func(i, j int) { active.masks.not(dst[i:j], a[i:j]) })
}

func bit(b bool) uint8 {
	if b {
		return 1
	}
	return 0
}

// Fill stores s everywhere.
func Fill[T Float](dst []T, s T) {
	f := vectorFor[T]().fill
	inPieces(len(dst), func(i, j int) { f(dst[i:j], s) })
}

// FromU8 converts bytes, exactly.
func FromU8[T Float](dst []T, a []uint8) {
	f := vectorFor[T]().fromU8
	a = cut(a, len(dst))
	inPieces(len(dst), func(i, j int) { f(dst[i:j], a[i:j]) })
}

// FromI32 converts integers, to the nearest.
func FromI32[T Float](dst []T, a []int32) {
	f := vectorFor[T]().fromI32
	a = cut(a, len(dst))
	inPieces(len(dst), func(i, j int) { f(dst[i:j], a[i:j]) })
}

// ToI32 converts to integers: towards zero, what is out of range to the
// nearest integer in range, and NaN to 0.
func ToI32[T Float](dst []int32, a []T) {
	a = cut(a, len(dst))
	for i, x := range a {
		switch {
		case x >= 1<<31:
			dst[i] = 1<<31 - 1
		case x > -(1 << 31):
			dst[i] = int32(x)
		case x <= -(1 << 31):
			dst[i] = -1 << 31
		default:
			dst[i] = 0
		}
	}
}

// Axpy adds s · a to dst, rounding the product and the sum.
func Axpy[T Float](dst []T, s T, a []T) {
	f := vectorFor[T]().axpy
	a = cut(a, len(dst))
	inPieces(len(dst), func(i, j int) { f(dst[i:j], s, a[i:j]) })
}

// laneCount is the number of partial results of a reduction: element i goes
// to lane i mod laneCount, and the upper half of the lanes is then joined to
// the lower until one is left.
const laneCount = 32

// Sum adds the elements in an order that depends on their number only: 32
// interleaved partial sums, added pairwise, the upper half to the lower.
func Sum[T Float](a []T) T { return vectorFor[T]().sum(a) }

// MaxOf returns the greatest element, NaN if there is one, and -Inf for an
// empty slice.
func MaxOf[T Float](a []T) T { return vectorFor[T]().maxOf(a) }

func joinSum[T Float](lanes []T) T {
	for n := len(lanes) / 2; n > 0; n /= 2 {
		addVV(lanes[:n], lanes[:n], lanes[n:])
	}
	return lanes[0]
}

func joinMax[T Float](lanes []T) T {
	for n := len(lanes) / 2; n > 0; n /= 2 {
		maxVV(lanes[:n], lanes[:n], lanes[n:])
	}
	return lanes[0]
}

// noMax is what MaxOf starts its lanes with.
func noMax[T Float]() (lanes [laneCount]T) {
	fill(lanes[:], T(math.Inf(-1)))
	return lanes
}
