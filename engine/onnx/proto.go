package onnx

import (
	"encoding/binary"
	"math"

	"google.golang.org/protobuf/encoding/protowire"

	"temper/engine/graph"
)

// message is the encoding of one protocol-buffer message. The numbers of the
// fields are those of onnx.proto.
type message []byte

func (m *message) int(field protowire.Number, v int64) {
	*m = protowire.AppendVarint(protowire.AppendTag(*m, field, protowire.VarintType), uint64(v))
}

func (m *message) string(field protowire.Number, s string) {
	*m = protowire.AppendString(protowire.AppendTag(*m, field, protowire.BytesType), s)
}

func (m *message) bytes(field protowire.Number, b []byte) {
	*m = protowire.AppendBytes(protowire.AppendTag(*m, field, protowire.BytesType), b)
}

// open appends the tag and length of a field whose n bytes follow.
func (m *message) open(field protowire.Number, n int) {
	*m = protowire.AppendVarint(protowire.AppendTag(*m, field, protowire.BytesType), uint64(n))
}

// Element types of TensorProto.
const (
	typeFloat  = 1
	typeUint8  = 2
	typeInt32  = 6
	typeInt64  = 7
	typeBool   = 9
	typeDouble = 11
	typeUint32 = 12
)

var elementTypes = map[graph.DType]int64{
	graph.F32: typeFloat, graph.F64: typeDouble, graph.I32: typeInt32,
	graph.U32: typeUint32, graph.U8: typeUint8, graph.Bool: typeBool,
}

// tensorHead is a TensorProto but for its elements, which rawData tags.
func tensorHead(name string, elem int64, shape []int) message {
	var m message
	for _, d := range shape {
		m.int(1, int64(d))
	}
	m.int(2, elem)
	if name != "" {
		m.string(8, name)
	}
	return m
}

const rawData = 9 // field of TensorProto

// int64s is the little-endian form of numbers.
func int64s(values []int64) []byte {
	var b []byte
	for _, v := range values {
		b = binary.LittleEndian.AppendUint64(b, uint64(v))
	}
	return b
}

// constant is the little-endian form of a constant's values.
func constant(t graph.DType, values []float64) []byte {
	var b []byte
	for _, v := range values {
		switch t {
		case graph.F32:
			b = binary.LittleEndian.AppendUint32(b, math.Float32bits(float32(v)))
		case graph.F64:
			b = binary.LittleEndian.AppendUint64(b, math.Float64bits(v))
		case graph.I32:
			b = binary.LittleEndian.AppendUint32(b, uint32(int32(v)))
		case graph.U32:
			b = binary.LittleEndian.AppendUint32(b, uint32(v))
		default: // u8, bool
			b = append(b, byte(v))
		}
	}
	return b
}

// attribute is an attribute of a node: an AttributeProto.
type attribute struct {
	name  string
	value any // int, []int
}

func (a attribute) encode() message {
	var m message
	m.string(1, a.name)
	switch v := a.value.(type) {
	case int:
		m.int(3, int64(v))
		m.int(20, 2) // INT
	case []int:
		for _, x := range v {
			m.int(8, int64(x))
		}
		m.int(20, 7) // INTS
	}
	return m
}

// node is a NodeProto.
func node(op, name string, ins, outs []string, attrs []attribute) message {
	var m message
	for _, s := range ins {
		m.string(1, s)
	}
	for _, s := range outs {
		m.string(2, s)
	}
	m.string(3, name)
	m.string(4, op)
	for _, a := range attrs {
		m.bytes(5, a.encode())
	}
	return m
}

// valueInfo is the ValueInfoProto of an input or output.
func valueInfo(name string, elem int64, dims []dim) message {
	var shape message
	for _, d := range dims {
		var m message
		if d.batch == 0 {
			m.int(1, int64(d.fixed))
		} else {
			m.string(2, d.String())
		}
		shape.bytes(1, m)
	}
	var tensor, typ, info message
	tensor.int(1, elem)
	tensor.bytes(2, shape)
	typ.bytes(1, tensor)
	info.string(1, name)
	info.bytes(2, typ)
	return info
}
