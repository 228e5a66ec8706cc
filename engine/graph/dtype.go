package graph

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// DType is the type of a tensor's elements.
type DType uint8

// The element types. BF16 is a storage type: arithmetic on it is float32's.
const (
	InvalidType DType = iota
	F32
	F64
	BF16
	I32
	U32
	U8
	Bool
)

var dtypeNames = [...]string{"invalid", "f32", "f64", "bf16", "i32", "u32", "u8", "bool"}
var dtypeSizes = [...]int{0, 4, 8, 2, 4, 4, 1, 1}

func (t DType) String() string { return dtypeNames[t] }

// Size is the number of bytes of one element.
func (t DType) Size() int { return dtypeSizes[t] }

// Float reports whether t is a floating-point type; only these have gradients.
func (t DType) Float() bool { return t == F32 || t == F64 || t == BF16 }

// Int reports whether t is an integer type, Bool not included.
func (t DType) Int() bool { return t == I32 || t == U32 || t == U8 }

// holds reports whether an element of type t can be v. Floating-point types
// round, so they can be any.
func (t DType) holds(v float64) bool {
	switch t {
	case I32:
		return v == float64(int32(v))
	case U32:
		return v >= 0 && v == float64(uint32(v))
	case U8:
		return v >= 0 && v == float64(uint8(v))
	case Bool:
		return v == 0 || v == 1
	}
	return true
}

// ParseDType is the inverse of String.
func ParseDType(s string) (DType, error) {
	if i := slices.Index(dtypeNames[:], s); i > 0 {
		return DType(i), nil
	}
	return InvalidType, fmt.Errorf("unknown element type %q: want one of %s", s, strings.Join(dtypeNames[1:], ", "))
}

// Shape lists a tensor's extents, outermost axis first. A scalar's is empty.
type Shape []int

// Size is the number of elements.
func (s Shape) Size() int {
	n := 1
	for _, d := range s {
		n *= d
	}
	return n
}

// Equal reports whether two shapes are the same.
func (s Shape) Equal(t Shape) bool { return slices.Equal(s, t) }

// Strides returns the row-major strides in elements.
func (s Shape) Strides() []int {
	st := make([]int, len(s))
	n := 1
	for i := len(s) - 1; i >= 0; i-- {
		st[i] = n
		n *= s[i]
	}
	return st
}

// With returns a copy of s whose axis has extent d.
func (s Shape) With(axis, d int) Shape {
	t := slices.Clone(s)
	t[axis] = d
	return t
}

// String writes "[2,3]".
func (s Shape) String() string {
	parts := make([]string, len(s))
	for i, d := range s {
		parts[i] = strconv.Itoa(d)
	}
	return "[" + strings.Join(parts, ",") + "]"
}

// broadcastShape is numpy's rule: align at the right, extents equal or 1.
func broadcastShape(a, b Shape) (Shape, bool) {
	if len(a) < len(b) {
		a, b = b, a
	}
	out := slices.Clone(a)
	off := len(a) - len(b)
	for i, d := range b {
		switch e := a[off+i]; {
		case d == e || d == 1:
		case e == 1:
			out[off+i] = d
		default:
			return nil, false
		}
	}
	return out, true
}
