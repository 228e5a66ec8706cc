package interp

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	"temper/engine/graph"
)

// Tensor is a value: a type, a shape and the elements in row-major order. All
// types are held as float64, which holds each of them exactly; bool as 0 or 1.
type Tensor struct {
	DType graph.DType
	Shape graph.Shape
	Data  []float64
}

// New returns a tensor of the given elements: one for all, or all of them; none
// means zeros.
func New(t graph.DType, shape graph.Shape, data ...float64) *Tensor {
	x := &Tensor{DType: t, Shape: slices.Clone(shape)}
	switch n := shape.Size(); len(data) {
	case n:
		x.Data = slices.Clone(data)
	case 0:
		x.Data = make([]float64, n)
	case 1:
		x.Data = slices.Repeat(data, n)
	default:
		panic(fmt.Sprintf("BUG: interp: %d values for shape %v", len(data), shape))
	}
	return x
}

// Round returns v as an element of type t holds it: floats to nearest even,
// integers and bool as Convert defines for a float.
func Round(t graph.DType, v float64) float64 {
	switch t {
	case graph.F32:
		return float64(float32(v))
	case graph.BF16:
		return float64(math.Float32frombits(uint32(bf16(v)) << 16))
	case graph.I32:
		return saturate(v, math.MinInt32, math.MaxInt32)
	case graph.U32:
		return saturate(v, 0, math.MaxUint32)
	case graph.U8:
		return saturate(v, 0, math.MaxUint8)
	case graph.Bool:
		return truth(v != 0)
	}
	return v
}

func saturate(v, lo, hi float64) float64 {
	if math.IsNaN(v) {
		return 0
	}
	return min(max(math.Trunc(v), lo), hi) + 0 // +0 turns -0 into 0
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// bf16 rounds the float32 nearest to v to its upper half, ties to even.
func bf16(v float64) uint16 {
	b := math.Float32bits(float32(v))
	if v != v {
		return uint16(b>>16) | 0x40 // rounding must not carry a NaN into infinity
	}
	return uint16((b + 0x7fff + b>>16&1) >> 16)
}

// Bytes is the tensor as a back end holds it: little-endian elements of its
// type, row-major.
func (x *Tensor) Bytes() []byte {
	le := binary.LittleEndian
	b := make([]byte, 0, len(x.Data)*x.DType.Size())
	for _, v := range x.Data {
		switch x.DType {
		case graph.F32:
			b = le.AppendUint32(b, math.Float32bits(float32(v)))
		case graph.F64:
			b = le.AppendUint64(b, math.Float64bits(v))
		case graph.BF16:
			b = le.AppendUint16(b, bf16(v))
		case graph.I32:
			b = le.AppendUint32(b, uint32(int32(v)))
		case graph.U32:
			b = le.AppendUint32(b, uint32(v))
		default: // u8, bool
			b = append(b, uint8(v))
		}
	}
	return b
}

// FromBytes is the inverse of Bytes. It fails if the length does not fit.
func FromBytes(t graph.DType, shape graph.Shape, b []byte) (*Tensor, error) {
	x := New(t, shape)
	if want := len(x.Data) * t.Size(); len(b) != want {
		return nil, fmt.Errorf("%d bytes for a tensor of type %v%v: want %d", len(b), t, shape, want)
	}
	le := binary.LittleEndian
	for i := range x.Data {
		e := b[i*t.Size():]
		switch t {
		case graph.F32:
			x.Data[i] = float64(math.Float32frombits(le.Uint32(e)))
		case graph.F64:
			x.Data[i] = math.Float64frombits(le.Uint64(e))
		case graph.BF16:
			x.Data[i] = float64(math.Float32frombits(uint32(le.Uint16(e)) << 16))
		case graph.I32:
			x.Data[i] = float64(int32(le.Uint32(e)))
		case graph.U32:
			x.Data[i] = float64(le.Uint32(e))
		default:
			x.Data[i] = float64(e[0])
		}
	}
	return x, nil
}

// each calls f for every element: its position in row-major order and its
// indices, which f must not keep.
func each(s graph.Shape, f func(i int, at []int)) {
	at := make([]int, len(s))
	for i := range s.Size() {
		f(i, at)
		for a := len(s) - 1; a >= 0; a-- {
			if at[a]++; at[a] < s[a] {
				break
			}
			at[a] = 0
		}
	}
}

// pos is the row-major position of indices.
func pos(s graph.Shape, at []int) int {
	p := 0
	for a, d := range s {
		p = p*d + at[a]
	}
	return p
}

// lines calls f for every line along an axis with the positions of its
// elements, which f must not keep.
func lines(s graph.Shape, axis int, f func(line []int)) {
	stride := s.Strides()[axis]
	line := make([]int, s[axis])
	each(s.With(axis, 1), func(_ int, at []int) {
		p := pos(s, at)
		for k := range line {
			line[k] = p + k*stride
		}
		f(line)
	})
}
