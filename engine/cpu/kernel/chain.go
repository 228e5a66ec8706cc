package kernel

import (
	"math"
	"unsafe"
)

// ChainOp is what one step of a chain does to the accumulator, x, with the
// elements of slot A, a, and of slot B, b. Arithmetic is that of the functions of
// the same names.
type ChainOp int

// The operations of a chain.
const (
	ChainLoad  ChainOp = iota // a
	ChainStore                // a becomes x
	ChainAdd                  // x + a
	ChainSub                  // x - a
	ChainMul                  // x · a
	ChainDiv                  // x / a
	ChainMax                  // Max of x and a
	ChainMin                  // Min of x and a
	ChainAddTo                // a + x, and so on
	ChainSubTo
	ChainMulTo
	ChainDivTo
	ChainMaxTo
	ChainMinTo
	ChainNeg
	ChainAbs
	ChainRelu
	ChainFloor
	ChainSqrt
	ChainSign
	ChainEq // whether x = a, and so on: for ChainSelect alone
	ChainNe
	ChainLt
	ChainLe
	ChainGt
	ChainGe
	ChainSelect // a where x is true, b elsewhere
	ChainEnd    // the last step
)

// ChainStep is one step of a chain. A and B are slots.
type ChainStep struct {
	Op   ChainOp
	A, B int
}

// Chain takes n elements through a chain of steps, so many at a time that the
// accumulator stays in registers. Slot i begins at slots[i]. A slot that a step
// writes may be one that others read, but must not overlap it otherwise. The last
// step is ChainEnd. Elements are computed as by one call for each step.
func Chain(code []ChainStep, slots []unsafe.Pointer, n int) {
	if n > 0 {
		active.chain(&code[0], (**float32)(unsafe.Pointer(&slots[0])), n)
	}
}

// chainBlock is the number of elements that go through a chain at a time.
const chainBlock = 32

func portableChain(first *ChainStep, slots **float32, n int) {
	var acc [chainBlock]float32
	var mask [chainBlock]uint8
	for at := 0; at < n; at += chainBlock {
		k := min(chainBlock, n-at)
		x, m := acc[:k], mask[:k]
		slot := func(i int) []float32 {
			p := *(**float32)(unsafe.Add(unsafe.Pointer(slots), i*int(unsafe.Sizeof(slots))))
			return unsafe.Slice((*float32)(unsafe.Add(unsafe.Pointer(p), 4*at)), k)
		}
		for s := first; s.Op != ChainEnd; s = (*ChainStep)(unsafe.Add(unsafe.Pointer(s), unsafe.Sizeof(*s))) {
			switch s.Op {
			case ChainLoad:
				copy(x, slot(s.A))
			case ChainStore:
				copy(slot(s.A), x)
			case ChainSelect:
				selectVV(x, m, slot(s.A), slot(s.B))
			case ChainNeg, ChainAbs, ChainRelu, ChainFloor, ChainSqrt, ChainSign:
				chainUnary(s.Op, x)
			case ChainEq, ChainNe, ChainLt, ChainLe, ChainGt, ChainGe:
				chainCompare(s.Op, m, x, slot(s.A))
			case ChainAddTo, ChainSubTo, ChainMulTo, ChainDivTo, ChainMaxTo, ChainMinTo:
				chainBinary(s.Op-(ChainAddTo-ChainAdd), x, slot(s.A), x)
			default:
				chainBinary(s.Op, x, x, slot(s.A))
			}
		}
	}
}

func chainBinary(op ChainOp, dst, a, b []float32) {
	switch op {
	case ChainAdd:
		addVV(dst, a, b)
	case ChainSub:
		subVV(dst, a, b)
	case ChainMul:
		mulVV(dst, a, b)
	case ChainDiv:
		divVV(dst, a, b)
	case ChainMax:
		maxVV(dst, a, b)
	case ChainMin:
		minVV(dst, a, b)
	}
}

func chainUnary(op ChainOp, x []float32) {
	switch op {
	case ChainNeg:
		neg(x, x)
	case ChainRelu:
		relu(x, x)
	case ChainSign:
		sign(x, x)
	case ChainAbs:
		for i, v := range x {
			x[i] = float32(math.Abs(float64(v)))
		}
	case ChainFloor:
		for i, v := range x {
			x[i] = float32(math.Floor(float64(v)))
		}
	case ChainSqrt:
		for i, v := range x {
			x[i] = sqrt(v)
		}
	}
}

func chainCompare(op ChainOp, dst []uint8, a, b []float32) {
	switch op {
	case ChainEq:
		eqVV(dst, a, b)
	case ChainNe:
		neVV(dst, a, b)
	case ChainLt:
		ltVV(dst, a, b)
	case ChainLe:
		leVV(dst, a, b)
	case ChainGt:
		gtVV(dst, a, b)
	case ChainGe:
		geVV(dst, a, b)
	}
}
