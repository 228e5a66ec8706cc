package kernel

import "math"

func portableVector[T Float]() *vector[T] {
	v := &vector[T]{
		vv: [binaryOps]func(dst, a, b []T){opAdd: addVV[T], opSub: subVV[T], opMul: mulVV[T], opDiv: divVV[T], opMax: maxVV[T], opMin: minVV[T]},
		unary: [unaryOps]func(dst, a []T){
			opNeg: neg[T], opSign: sign[T], opRelu: relu[T], opAbs: each(func(x T) T { return T(math.Abs(float64(x))) }),
			opFloor: each(func(x T) T { return T(math.Floor(float64(x))) }),
			opSqrt:  each(sqrt[T]),
			opExpm1: each(func(x T) T { return T(math.Expm1(float64(x))) }),
			opLog1p: each(func(x T) T { return T(math.Log1p(float64(x))) }),
		},
		compareVV: [compareOps]func(dst []uint8, a, b []T){opEq: eqVV[T], opNe: neVV[T], opLt: ltVV[T], opLe: leVV[T], opGt: gtVV[T], opGe: geVV[T]},
		selectVV:  selectVV[T],
		fromU8:    fromU8[T],
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

func selectVV[T Float](dst []T, mask []uint8, a, b []T) {
	for i, m := range mask {
		if m != 0 {
			dst[i] = a[i]
		} else {
			dst[i] = b[i]
		}
	}
}

func fromU8[T Float](dst []T, a []uint8) {
	for i, x := range a {
		dst[i] = T(x)
	}
}
