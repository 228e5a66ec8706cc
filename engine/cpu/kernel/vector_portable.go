package kernel

import "math"

func portableVector[T Float]() *vector[T] {
	v := &vector[T]{
		vv: [binaryOps]func(dst, a, b []T){opAdd: addVV[T], opSub: subVV[T], opMul: mulVV[T], opDiv: divVV[T], opMax: maxVV[T], opMin: minVV[T]},
		vs: [binaryOps]func(dst, a []T, s T){opAdd: addVS[T], opSub: subVS[T], opMul: mulVS[T], opDiv: divVS[T], opMax: maxVS[T], opMin: minVS[T]},
		sv: [binaryOps]func(dst []T, s T, a []T){opSub: subSV[T], opDiv: divSV[T]},
		unary: [unaryOps]func(dst, a []T){
			opNeg: neg[T], opSign: sign[T], opRelu: relu[T], opAbs: each(func(x T) T { return T(math.Abs(float64(x))) }),
			opFloor: each(func(x T) T { return T(math.Floor(float64(x))) }),
			opSqrt:  each(sqrt[T]), opRsqrt: each(func(x T) T { return 1 / sqrt(x) }),
			opExpm1: each(func(x T) T { return T(math.Expm1(float64(x))) }),
			opLog1p: each(func(x T) T { return T(math.Log1p(float64(x))) }),
		},
		compareVV: [compareOps]func(dst []uint8, a, b []T){opEq: eqVV[T], opNe: neVV[T], opLt: ltVV[T], opLe: leVV[T], opGt: gtVV[T], opGe: geVV[T]},
		compareVS: [compareOps]func(dst []uint8, a []T, s T){opEq: eqVS[T], opNe: neVS[T], opLt: ltVS[T], opLe: leVS[T], opGt: gtVS[T], opGe: geVS[T]},
		selectVV:  selectVV[T], selectVS: selectVS[T], selectSV: selectSV[T],
		fill: fill[T], fromU8: convert[T, uint8], fromI32: convert[T, int32],
		axpy: axpy[T], sum: sum[T], maxOf: maxOf[T],
	}
	switch f := any(&v.unary).(type) {
	case *[unaryOps]func(dst, a []float32):
		f[opExp], f[opLog], f[opTanh], f[opSigmoid] = each(exp32), each(log32), each(tanh32), each(sigmoid32)
	case *[unaryOps]func(dst, a []float64):
		f[opExp], f[opLog], f[opTanh], f[opSigmoid] = each(math.Exp), each(log64), each(math.Tanh), each(sigmoid64)
	}
	return v
}

// each makes a loop of a function of one element.
func each[T Float](f func(T) T) func(dst, a []T) {
	return func(dst, a []T) {
		for i, x := range a {
			dst[i] = f(x)
		}
	}
}

// sqrt is correctly rounded in float32 too: double rounding is harmless here.
func sqrt[T Float](x T) T { return T(math.Sqrt(float64(x))) }

func addVV[T Float](dst, a, b []T) {
	for i, x := range a {
		dst[i] = x + b[i]
	}
}

func subVV[T Float](dst, a, b []T) {
	for i, x := range a {
		dst[i] = x - b[i]
	}
}

func mulVV[T Float](dst, a, b []T) {
	for i, x := range a {
		dst[i] = x * b[i]
	}
}

func divVV[T Float](dst, a, b []T) {
	for i, x := range a {
		dst[i] = x / b[i]
	}
}

func maxVV[T Float](dst, a, b []T) {
	for i, x := range a {
		dst[i] = greater(x, b[i])
	}
}

func minVV[T Float](dst, a, b []T) {
	for i, x := range a {
		dst[i] = lesser(x, b[i])
	}
}

// greater returns b if they are equal, and a NaN if there is one.
func greater[T Float](a, b T) T {
	if a > b || a != a {
		return a
	}
	return b
}

func lesser[T Float](a, b T) T {
	if a < b || a != a {
		return a
	}
	return b
}

func addVS[T Float](dst, a []T, s T) {
	for i, x := range a {
		dst[i] = x + s
	}
}

func subVS[T Float](dst, a []T, s T) {
	for i, x := range a {
		dst[i] = x - s
	}
}

func mulVS[T Float](dst, a []T, s T) {
	for i, x := range a {
		dst[i] = x * s
	}
}

func divVS[T Float](dst, a []T, s T) {
	for i, x := range a {
		dst[i] = x / s
	}
}

func maxVS[T Float](dst, a []T, s T) {
	for i, x := range a {
		dst[i] = greater(x, s)
	}
}

func minVS[T Float](dst, a []T, s T) {
	for i, x := range a {
		dst[i] = lesser(x, s)
	}
}

func subSV[T Float](dst []T, s T, a []T) {
	for i, x := range a {
		dst[i] = s - x
	}
}

func divSV[T Float](dst []T, s T, a []T) {
	for i, x := range a {
		dst[i] = s / x
	}
}

func neg[T Float](dst, a []T) {
	for i, x := range a {
		dst[i] = -x
	}
}

func sign[T Float](dst, a []T) {
	for i, x := range a {
		switch {
		case x > 0:
			x = 1
		case x < 0:
			x = -1
		default:
			x = 0
		}
		dst[i] = x
	}
}

func relu[T Float](dst, a []T) {
	for i, x := range a {
		if x < 0 {
			x = 0
		}
		dst[i] = x
	}
}

func eqVV[T Float](dst []uint8, a, b []T) {
	for i, x := range a {
		dst[i] = bit(x == b[i])
	}
}

func neVV[T Float](dst []uint8, a, b []T) {
	for i, x := range a {
		dst[i] = bit(x != b[i])
	}
}

func ltVV[T Float](dst []uint8, a, b []T) {
	for i, x := range a {
		dst[i] = bit(x < b[i])
	}
}

func leVV[T Float](dst []uint8, a, b []T) {
	for i, x := range a {
		dst[i] = bit(x <= b[i])
	}
}

func gtVV[T Float](dst []uint8, a, b []T) { ltVV(dst, b, a) }
func geVV[T Float](dst []uint8, a, b []T) { leVV(dst, b, a) }

func eqVS[T Float](dst []uint8, a []T, s T) {
	for i, x := range a {
		dst[i] = bit(x == s)
	}
}

func neVS[T Float](dst []uint8, a []T, s T) {
	for i, x := range a {
		dst[i] = bit(x != s)
	}
}

func ltVS[T Float](dst []uint8, a []T, s T) {
	for i, x := range a {
		dst[i] = bit(x < s)
	}
}

func leVS[T Float](dst []uint8, a []T, s T) {
	for i, x := range a {
		dst[i] = bit(x <= s)
	}
}

func gtVS[T Float](dst []uint8, a []T, s T) {
	for i, x := range a {
		dst[i] = bit(x > s)
	}
}

func geVS[T Float](dst []uint8, a []T, s T) {
	for i, x := range a {
		dst[i] = bit(x >= s)
	}
}

func selectVV[T Float](dst []T, mask []uint8, a, b []T) {
	for i, m := range mask {
		if m != 0 {
			dst[i] = a[i]
		} else {
			dst[i] = b[i]
		}
	}
}

func selectVS[T Float](dst []T, mask []uint8, a []T, s T) {
	for i, m := range mask {
		if m != 0 {
			dst[i] = a[i]
		} else {
			dst[i] = s
		}
	}
}

func selectSV[T Float](dst []T, mask []uint8, s T, b []T) {
	for i, m := range mask {
		if m != 0 {
			dst[i] = s
		} else {
			dst[i] = b[i]
		}
	}
}

func fill[T Float](dst []T, s T) {
	for i := range dst {
		dst[i] = s
	}
}

func convert[T Float, S uint8 | int32](dst []T, a []S) {
	for i, x := range a {
		dst[i] = T(x)
	}
}

func axpy[T Float](dst []T, s T, a []T) {
	for i, x := range a {
		dst[i] += T(s * x) // the conversion keeps the compiler from fusing
	}
}

func sum[T Float](a []T) T {
	var lanes [laneCount]T
	addLanes(lanes[:], a)
	return joinSum(lanes[:])
}

func addLanes[T Float](lanes, a []T) {
	for i, x := range a {
		lanes[i%laneCount] += x
	}
}

func maxOf[T Float](a []T) T {
	lanes := noMax[T]()
	maxLanes(lanes[:], a)
	return joinMax(lanes[:])
}

func maxLanes[T Float](lanes, a []T) {
	for i, x := range a {
		lanes[i%laneCount] = greater(x, lanes[i%laneCount])
	}
}

var portableMasks = masks{and: and, or: or, not: not}

func and(dst, a, b []uint8) {
	for i, x := range a {
		dst[i] = bit(x != 0 && b[i] != 0)
	}
}

func or(dst, a, b []uint8) {
	for i, x := range a {
		dst[i] = bit(x|b[i] != 0)
	}
}

func not(dst, a []uint8) {
	for i, x := range a {
		dst[i] = bit(x == 0)
	}
}
