package graph

import (
	"fmt"
	"strings"
)

// Precision is how products of float32 are computed: of matrices, of images
// with filters, and the gradients of these. Whatever it is, sums are float32's,
// and so is everything else: weights, statistics, losses, perturbations.
type Precision uint8

// The precisions; behind each the error that is declared for it, relative to
// the sum of the products' absolute values.
const (
	PrecisionFloat32 Precision = iota // float32 arithmetic: the reference
	PrecisionTF32x3                   // operands split into two TF32 numbers each: 2⁻²¹
	PrecisionTF32                     // operands rounded to TF32's 11 bits: 2⁻¹⁰
	PrecisionBF16                     // operands and results rounded to bf16's 8 bits: 2⁻⁷; and images that networks carry past convolutions
)

var precisionNames = []string{"float32", "tf32x3", "tf32", "bf16"}

func (p Precision) String() string { return precisionNames[p] }

// Precisions names them all, the most exact first.
func Precisions() []string { return precisionNames[:len(precisionNames):len(precisionNames)] }

// ParsePrecision is the inverse of String.
func ParsePrecision(s string) (Precision, error) {
	for i, name := range precisionNames {
		if s == name {
			return Precision(i), nil
		}
	}
	return 0, fmt.Errorf("unknown precision %q: want one of %s", s, strings.Join(precisionNames, ", "))
}
