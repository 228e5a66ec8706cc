package optest

import (
	"fmt"
	"math"

	"temper/engine/graph"
	"temper/engine/interp"
)

// Tolerance bounds the error of a floating-point result, in units of the last
// place of 1: 2⁻²³ for f32, 2⁻⁵² for f64, 2⁻⁷ for bf16. The zero Tolerance
// asks for equal values. Whatever it is, NaN and ±Inf must be met exactly; if
// it is not zero, results below the smallest normal number may be flushed.
type Tolerance struct {
	Rel        float64 // times the element
	Abs        float64 // times the tensor's largest finite element
	Floor      float64 // itself, whatever the type: for what may be 0 but for rounding
	SignedZero bool    // -0 and 0 differ
}

func unit(t graph.DType) (ulp, normal float64) {
	switch t {
	case graph.F32:
		return 0x1p-23, 0x1p-126
	case graph.F64:
		return 0x1p-52, 0x1p-1022
	case graph.BF16:
		return 0x1p-7, 0x1p-126
	}
	return 0, 0
}

// Compare reports the worst element of got that is farther from want than the
// tolerance; nil if there is none. Types other than floating-point must be
// equal.
func (tol Tolerance) Compare(want, got *interp.Tensor) error {
	if got == nil {
		return fmt.Errorf("no result: want %v%v", want.DType, want.Shape)
	}
	if got.DType != want.DType || !got.Shape.Equal(want.Shape) || len(got.Data) != len(want.Data) {
		return fmt.Errorf("result %v%v of %d elements: want %v%v", got.DType, got.Shape, len(got.Data), want.DType, want.Shape)
	}
	ulp, normal := unit(want.DType)
	largest := 0.0
	for _, w := range want.Data {
		if a := math.Abs(w); a > largest && !math.IsInf(w, 0) {
			largest = a
		}
	}
	worst, at, bad := 0.0, -1, 0
	for i, w := range want.Data {
		bound := ulp*(tol.Rel*math.Abs(w)+tol.Abs*largest) + tol.Floor
		if tol.Rel > 0 || tol.Abs > 0 {
			bound += normal
		}
		if e := tol.excess(w, got.Data[i], bound); e > 1 {
			bad++
			if e > worst {
				worst, at = e, i
			}
		}
	}
	if bad == 0 {
		return nil
	}
	return fmt.Errorf("%d of %d elements differ, the worst %.3g times the bound: element %d of %v%v is %v, want %v",
		bad, len(want.Data), worst, at, want.DType, want.Shape, got.Data[at], want.Data[at])
}

// excess is the error over the bound.
func (tol Tolerance) excess(want, got, bound float64) float64 {
	switch {
	case want != want || got != got || math.IsInf(want, 0) || math.IsInf(got, 0):
		if want == got || want != want && got != got {
			return 0
		}
		return math.Inf(1)
	case want == got:
		if tol.SignedZero && math.Signbit(want) != math.Signbit(got) {
			return math.Inf(1)
		}
		return 0
	}
	return math.Abs(got-want) / bound
}
