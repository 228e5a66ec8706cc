package cpu

import (
	"math"
	"unsafe"

	"temper/engine/cpu/kernel"
	"temper/engine/graph"
	"temper/engine/rng"
)

// vector finds the call for an element-wise operation on the types at hand,
// nil if there is none. Floating-point arithmetic rounds after every
// operation; it is written so that the compiler may not fuse two into one.
func vector(n *graph.Node) vectorFunc {
	t := n.In(0).DType()
	if n.Op() == graph.OpSelect {
		t = n.DType()
	}
	switch n.Op() {
	case graph.OpConvert:
		return convert(t, n.DType())
	case graph.OpNormal:
		return map1(rng.Normal)
	case graph.OpNot:
		return map1(func(x uint8) uint8 { return x ^ 1 })
	case graph.OpBroadcast, graph.OpStopGradient:
		return copyOf(t.Size())
	case graph.OpSelect:
		return selectOf(t.Size())
	}
	switch t {
	case graph.F32:
		return floatOps[float32](n.Op())
	case graph.F64:
		return floatOps[float64](n.Op())
	case graph.I32:
		return intOps[int32](n.Op())
	case graph.U32:
		return intOps[uint32](n.Op())
	case graph.U8:
		return intOps[uint8](n.Op())
	case graph.Bool:
		return boolOps(n.Op())
	}
	return nil
}

// map1 makes a call of a function on one element.
func map1[T, R any](f func(T) R) vectorFunc {
	return func(d, a, _, _ unsafe.Pointer, n int) {
		x, y := unsafe.Slice((*T)(a), n), unsafe.Slice((*R)(d), n)
		for i, v := range x {
			y[i] = f(v)
		}
	}
}

// map2 makes a call of a function on two elements.
func map2[T, R any](f func(a, b T) R) vectorFunc {
	return func(d, a, b, _ unsafe.Pointer, n int) {
		x, z, y := unsafe.Slice((*T)(a), n), unsafe.Slice((*T)(b), n), unsafe.Slice((*R)(d), n)
		for i, v := range x {
			y[i] = f(v, z[i])
		}
	}
}

// loop1 and loop2 make calls of functions on whole slices.
func loop1[T any](f func(y, x []T)) vectorFunc {
	return func(d, a, _, _ unsafe.Pointer, n int) { f(unsafe.Slice((*T)(d), n), unsafe.Slice((*T)(a), n)) }
}

func loop2[T any](f func(y, a, b []T)) vectorFunc {
	return func(d, a, b, _ unsafe.Pointer, n int) {
		f(unsafe.Slice((*T)(d), n), unsafe.Slice((*T)(a), n), unsafe.Slice((*T)(b), n))
	}
}

type float = kernel.Float
type integer interface{ ~int32 | ~uint32 | ~uint8 }

func truth(b bool) uint8 {
	if b {
		return 1
	}
	return 0
}

// compareInts are the comparisons of integers and bool.
func compareInts[T integer](op graph.Op) vectorFunc {
	switch op {
	case graph.OpEq:
		return map2(func(a, b T) uint8 { return truth(a == b) })
	case graph.OpNe:
		return map2(func(a, b T) uint8 { return truth(a != b) })
	case graph.OpLt:
		return map2(func(a, b T) uint8 { return truth(a < b) })
	case graph.OpLe:
		return map2(func(a, b T) uint8 { return truth(a <= b) })
	case graph.OpGt:
		return map2(func(a, b T) uint8 { return truth(a > b) })
	case graph.OpGe:
		return map2(func(a, b T) uint8 { return truth(a >= b) })
	}
	return nil
}

// compareFloats make calls of the kernels' comparisons.
func compareFloats[T float](f func(y []uint8, a, b []T)) vectorFunc {
	return func(d, a, b, _ unsafe.Pointer, n int) {
		f(unsafe.Slice((*uint8)(d), n), unsafe.Slice((*T)(a), n), unsafe.Slice((*T)(b), n))
	}
}

func floatOps[T float](op graph.Op) vectorFunc {
	switch op {
	case graph.OpNeg:
		return loop1(kernel.Neg[T])
	case graph.OpAbs:
		return loop1(kernel.Abs[T])
	case graph.OpSign:
		return loop1(kernel.Sign[T])
	case graph.OpExp:
		return loop1(kernel.Exp[T])
	case graph.OpExpm1:
		return loop1(kernel.Expm1[T])
	case graph.OpLog:
		return loop1(kernel.Log[T])
	case graph.OpLog1p:
		return loop1(kernel.Log1p[T])
	case graph.OpSqrt:
		return loop1(kernel.Sqrt[T])
	case graph.OpTanh:
		return loop1(kernel.Tanh[T])
	case graph.OpSigmoid:
		return loop1(kernel.Sigmoid[T])
	case graph.OpFloor:
		return loop1(kernel.Floor[T])
	case graph.OpReLU:
		return loop1(kernel.Relu[T])
	case graph.OpAdd:
		return loop2(kernel.Add[T])
	case graph.OpSub:
		return loop2(kernel.Sub[T])
	case graph.OpMul:
		return loop2(kernel.Mul[T])
	case graph.OpDiv:
		return loop2(kernel.Div[T])
	case graph.OpPow:
		return map2(func(a, b T) T { return T(kernel.Pow(float64(a), float64(b))) })
	case graph.OpMax:
		return loop2(kernel.Max[T])
	case graph.OpMin:
		return loop2(kernel.Min[T])
	case graph.OpEq:
		return compareFloats(kernel.Eq[T])
	case graph.OpNe:
		return compareFloats(kernel.Ne[T])
	case graph.OpLt:
		return compareFloats(kernel.Lt[T])
	case graph.OpLe:
		return compareFloats(kernel.Le[T])
	case graph.OpGt:
		return compareFloats(kernel.Gt[T])
	case graph.OpGe:
		return compareFloats(kernel.Ge[T])
	}
	return nil
}

func intOps[T integer](op graph.Op) vectorFunc {
	switch op {
	case graph.OpNeg:
		return map1(func(x T) T { return -x })
	case graph.OpAbs:
		return map1(func(x T) T {
			if x < 0 {
				return -x
			}
			return x
		})
	case graph.OpAdd:
		return map2(func(a, b T) T { return a + b })
	case graph.OpSub:
		return map2(func(a, b T) T { return a - b })
	case graph.OpMul:
		return map2(func(a, b T) T { return a * b })
	case graph.OpDiv:
		return map2(func(a, b T) T {
			if b == 0 {
				return 0
			}
			return a / b
		})
	case graph.OpMax:
		return map2(func(a, b T) T { return max(a, b) })
	case graph.OpMin:
		return map2(func(a, b T) T { return min(a, b) })
	case graph.OpAnd:
		return map2(func(a, b T) T { return a & b })
	case graph.OpOr:
		return map2(func(a, b T) T { return a | b })
	case graph.OpXor:
		return map2(func(a, b T) T { return a ^ b })
	case graph.OpShl:
		return map2(func(a, b T) T { return a << uint32(b) })
	case graph.OpShr:
		return map2(func(a, b T) T { return a >> uint32(b) })
	}
	return compareInts[T](op)
}

func boolOps(op graph.Op) vectorFunc {
	switch op {
	case graph.OpAnd, graph.OpOr, graph.OpXor:
		return intOps[uint8](op)
	}
	return compareInts[uint8](op)
}

func copyOf(size int) vectorFunc {
	return func(d, a, _, _ unsafe.Pointer, n int) {
		copy(unsafe.Slice((*byte)(d), n*size), unsafe.Slice((*byte)(a), n*size))
	}
}

func selectOf(size int) vectorFunc {
	switch size {
	case 4:
		return selectWords[float32]
	case 8:
		return selectWords[float64]
	case 2:
		return selectShort[uint16]
	}
	return selectShort[uint8]
}

// selectWords moves bits: integers of the same width go through it too.
func selectWords[T float](d, c, a, b unsafe.Pointer, n int) {
	kernel.Select(unsafe.Slice((*T)(d), n), unsafe.Slice((*uint8)(c), n), unsafe.Slice((*T)(a), n), unsafe.Slice((*T)(b), n))
}

func selectShort[T any](d, c, a, b unsafe.Pointer, n int) {
	y, m := unsafe.Slice((*T)(d), n), unsafe.Slice((*uint8)(c), n)
	x, z := unsafe.Slice((*T)(a), n), unsafe.Slice((*T)(b), n)
	for i, t := range m {
		v := z[i]
		if t != 0 {
			v = x[i]
		}
		y[i] = v
	}
}

func convert(from, to graph.DType) vectorFunc {
	switch from {
	case graph.F32:
		if to == graph.BF16 {
			return func(d, a, _, _ unsafe.Pointer, n int) {
				kernel.ToBF16(unsafe.Slice((*kernel.BF16)(d), n), unsafe.Slice((*float32)(a), n))
			}
		}
		return convertFloat[float32](to)
	case graph.BF16:
		if to == graph.F32 {
			return func(d, a, _, _ unsafe.Pointer, n int) {
				kernel.FromBF16(unsafe.Slice((*float32)(d), n), unsafe.Slice((*kernel.BF16)(a), n))
			}
		}
	case graph.F64:
		return convertFloat[float64](to)
	case graph.I32:
		return convertInt[int32](to)
	case graph.U32:
		return convertInt[uint32](to)
	case graph.U8, graph.Bool:
		if to == graph.F32 {
			return func(d, a, _, _ unsafe.Pointer, n int) {
				kernel.FromU8(unsafe.Slice((*float32)(d), n), unsafe.Slice((*uint8)(a), n))
			}
		}
		return convertInt[uint8](to)
	}
	return nil
}

func convertFloat[T float](to graph.DType) vectorFunc {
	switch to {
	case graph.F32:
		return map1(func(x T) float32 { return float32(x) })
	case graph.F64:
		return map1(func(x T) float64 { return float64(x) })
	case graph.I32:
		return map1(func(x T) int32 { return int32(saturate(float64(x), math.MinInt32, math.MaxInt32)) })
	case graph.U32:
		return map1(func(x T) uint32 { return uint32(saturate(float64(x), 0, math.MaxUint32)) })
	case graph.U8:
		return map1(func(x T) uint8 { return uint8(saturate(float64(x), 0, math.MaxUint8)) })
	case graph.Bool:
		return map1(func(x T) uint8 { return truth(x != 0) })
	}
	return nil
}

// saturate truncates into a range; NaN is 0.
func saturate(x, lo, hi float64) int64 {
	if x != x {
		return 0
	}
	return int64(min(max(x, lo), hi))
}

func convertInt[T integer](to graph.DType) vectorFunc {
	switch to {
	case graph.F32:
		return map1(func(x T) float32 { return float32(x) })
	case graph.F64:
		return map1(func(x T) float64 { return float64(x) })
	case graph.I32:
		return map1(func(x T) int32 { return int32(x) })
	case graph.U32:
		return map1(func(x T) uint32 { return uint32(x) })
	case graph.U8:
		return map1(func(x T) uint8 { return uint8(x) })
	case graph.Bool:
		return map1(func(x T) uint8 { return truth(x != 0) })
	}
	return nil
}
