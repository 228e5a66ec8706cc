package engine

import (
	"fmt"
	"unsafe"

	"gorgonia.org/tensor"

	"temper/engine/graph"
)

// *tensor.Dense of gorgonia.org/tensor is the host container at temper's
// border. It is never computed with.

var denseTypes = map[graph.DType]tensor.Dtype{
	graph.F32: tensor.Float32, graph.F64: tensor.Float64, graph.I32: tensor.Int32,
	graph.U32: tensor.Uint32, graph.U8: tensor.Uint8, graph.Bool: tensor.Bool,
}

// Bytes views a slice's memory as bytes, without a copy.
func Bytes[T any](s []T) []byte {
	if len(s) == 0 {
		return nil
	}
	return unsafe.Slice((*byte)(unsafe.Pointer(&s[0])), len(s)*int(unsafe.Sizeof(s[0])))
}

// view is Bytes' inverse. The memory must be aligned for T.
func view[T any](b []byte) []T {
	var t T
	return unsafe.Slice((*T)(unsafe.Pointer(unsafe.SliceData(b))), len(b)/int(unsafe.Sizeof(t)))
}

// Dense wraps row-major elements as a tensor, without a copy. The memory must
// be aligned for the element type, as what Fetch and Bytes return is.
func Dense(t graph.DType, shape graph.Shape, b []byte) (*tensor.Dense, error) {
	if len(b) != shape.Size()*t.Size() {
		return nil, fmt.Errorf("%d bytes for %v%v", len(b), t, shape)
	}
	var backing any
	switch t {
	case graph.F32:
		backing = view[float32](b)
	case graph.F64:
		backing = view[float64](b)
	case graph.I32:
		backing = view[int32](b)
	case graph.U32:
		backing = view[uint32](b)
	case graph.U8:
		backing = view[uint8](b)
	case graph.Bool:
		backing = view[bool](b)
	default:
		return nil, fmt.Errorf("a *tensor.Dense cannot hold %v: convert it in the graph", t)
	}
	if len(shape) == 0 {
		return tensor.New(tensor.FromScalar(scalarOf(backing))), nil
	}
	return tensor.New(tensor.WithShape(shape...), tensor.WithBacking(backing)), nil
}

func scalarOf(backing any) any {
	switch s := backing.(type) {
	case []float32:
		return s[0]
	case []float64:
		return s[0]
	case []int32:
		return s[0]
	case []uint32:
		return s[0]
	case []uint8:
		return s[0]
	case []bool:
		return s[0]
	}
	panic("BUG: engine: scalar of an unknown type")
}

// DenseBytes views a tensor's elements as bytes, without a copy, after checking
// that it has the type and shape that is wanted and lies row-major in one piece.
func DenseBytes(t *tensor.Dense, want graph.DType, shape graph.Shape) ([]byte, error) {
	switch {
	case t == nil:
		return nil, fmt.Errorf("got no tensor, want %v%v", want, shape)
	case t.Dtype() != denseTypes[want] || !shape.Equal(graph.Shape(t.Shape())):
		return nil, fmt.Errorf("got a tensor of %v%v, want %v%v", t.Dtype(), graph.Shape(t.Shape()), want, shape)
	case t.IsMasked():
		return nil, fmt.Errorf("the tensor has a mask: fill the masked elements first")
	}
	strides := shape.Strides()
	for i, s := range t.Strides() {
		if s != strides[i] && shape[i] > 1 {
			return nil, fmt.Errorf("the tensor's strides %v are not row-major: materialise it first", t.Strides())
		}
	}
	size := shape.Size() // a view's data may go on behind its last element
	switch v := t.Data().(type) {
	case []float32:
		return Bytes(v[:size]), nil
	case []float64:
		return Bytes(v[:size]), nil
	case []int32:
		return Bytes(v[:size]), nil
	case []uint32:
		return Bytes(v[:size]), nil
	case []uint8:
		return v[:size], nil
	case []bool:
		return Bytes(v[:size]), nil
	case float32:
		return Bytes([]float32{v}), nil
	case float64:
		return Bytes([]float64{v}), nil
	case int32:
		return Bytes([]int32{v}), nil
	case uint32:
		return Bytes([]uint32{v}), nil
	case uint8:
		return []byte{v}, nil
	case bool:
		return Bytes([]bool{v}), nil
	}
	return nil, fmt.Errorf("a tensor backed by %T", t.Data())
}
