package gorgonia

import (
	"encoding/binary"
	"fmt"
	"math"
	"reflect"
	"slices"
	"unsafe"

	G "gorgonia.org/gorgonia"
	"gorgonia.org/tensor"

	"temper/engine"
	"temper/engine/graph"
)

// dtypes are the element types that both sides have.
var dtypes = map[tensor.Dtype]graph.DType{
	tensor.Float32: graph.F32, tensor.Float64: graph.F64, tensor.Int32: graph.I32,
	tensor.Uint8: graph.U8, tensor.Bool: graph.Bool,
}

// theirType is the inverse of dtypes.
func theirType(t graph.DType) (tensor.Dtype, bool) {
	for theirs, ours := range dtypes {
		if ours == t {
			return theirs, true
		}
	}
	return tensor.Dtype{}, false
}

// contents are a value's elements, row-major, after checking their type and
// shape, in which axes of extent 1 do not count. They are its own memory where
// they lie so, else a copy.
func contents(v G.Value, t graph.DType, s graph.Shape) ([]byte, error) {
	shape := graph.Shape(v.Shape())
	if dtypes[v.Dtype()] != t || !squeezed(shape).Equal(squeezed(s)) {
		return nil, fmt.Errorf("got a value of %v%v, want %v%v", v.Dtype(), shape, t, s)
	}
	d, ok := v.(*tensor.Dense)
	if !ok {
		d = tensor.New(tensor.FromScalar(v.Data()))
	}
	b, err := engine.DenseBytes(d, t, shape)
	if err != nil && !d.IsMasked() { // its layout
		return gathered(d, t.Size()), nil
	}
	return b, err
}

// squeezed leaves out the axes of extent 1.
func squeezed(s graph.Shape) graph.Shape {
	return slices.DeleteFunc(slices.Clone(s), func(d int) bool { return d == 1 })
}

// gathered copies the elements of a transposed or sliced tensor in row-major
// order, one after the other: tensor's own copying is not relied upon.
func gathered(d *tensor.Dense, size int) []byte {
	data := reflect.ValueOf(d.Data())
	from := unsafe.Slice((*byte)(data.UnsafePointer()), data.Len()*size)
	shape, strides := graph.Shape(d.Shape()), d.Strides()
	out := make([]byte, 0, shape.Size()*size)
	var walk func(axis, at int)
	walk = func(axis, at int) {
		if axis == len(shape) {
			out = append(out, from[at*size:][:size]...)
			return
		}
		for i := range shape[axis] {
			walk(axis+1, at+i*strides[axis])
		}
	}
	walk(0, 0)
	return out
}

// value makes a value of theirs over the elements, without a copy unless it is
// a scalar.
func value(t graph.DType, s graph.Shape, b []byte) (G.Value, error) {
	d, err := engine.Dense(t, s, b)
	if err != nil || len(s) > 0 {
		return d, err
	}
	switch v := d.Data().(type) {
	case float32:
		return G.NewF32(v), nil
	case float64:
		return G.NewF64(v), nil
	case int32:
		return G.NewI32(v), nil
	case uint8:
		return G.NewU8(v), nil
	default:
		return G.NewB(v.(bool)), nil
	}
}

// floats are float32 or float64 elements as numbers.
func floats(t graph.DType, b []byte) []float64 {
	out := make([]float64, len(b)/t.Size())
	for i := range out {
		if t == graph.F32 {
			out[i] = float64(math.Float32frombits(binary.LittleEndian.Uint32(b[4*i:])))
		} else {
			out[i] = math.Float64frombits(binary.LittleEndian.Uint64(b[8*i:]))
		}
	}
	return out
}
