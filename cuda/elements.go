package cuda

import (
	"encoding/binary"
	"math"

	"temper/engine/graph"
	"temper/engine/plan"
)

// constant writes the elements of a const buffer as they stand in memory.
func constant(b *plan.Buffer) []byte {
	mem := make([]byte, 0, b.Bytes())
	for i := range b.Shape.Size() {
		mem = appendElement(mem, b.DType, b.Element(i))
	}
	return mem
}

func appendElement(mem []byte, t graph.DType, v float64) []byte {
	le := binary.LittleEndian
	switch t {
	case graph.F32:
		return le.AppendUint32(mem, math.Float32bits(float32(v)))
	case graph.F64:
		return le.AppendUint64(mem, math.Float64bits(v))
	case graph.BF16:
		bits := math.Float32bits(float32(v))
		if v != v {
			return le.AppendUint16(mem, uint16(bits>>16|0x40)) // stays NaN
		}
		return le.AppendUint16(mem, uint16((bits+0x7fff+bits>>16&1)>>16)) // to nearest, ties to even
	case graph.I32, graph.U32:
		return le.AppendUint32(mem, uint32(int64(v)))
	}
	return append(mem, uint8(int64(v))) // u8, bool
}
