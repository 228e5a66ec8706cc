package kernel

import (
	"math"
	"testing"
	"unsafe"

	"temper/engine/rng"
)

// Every chain gives the same bits as the Go loops, for any number of elements,
// and touches nothing outside its slots.
func TestChain(t *testing.T) {
	eachLevel(t, func(t *testing.T) {
		s := rng.NewStream(1, "chain", 0)
		for n := range 70 {
			testChain(t, n, s.Uint32)
		}
		testChain(t, 512, s.Uint32)
	})
}

func FuzzChain(f *testing.F) {
	f.Add(uint16(37), uint32(1))
	f.Fuzz(func(t *testing.T, n uint16, seed uint32) {
		s := rng.NewStream(seed, "chain", 0)
		testChain(t, int(n%600), s.Uint32)
	})
}

// testChain draws a chain of all operations and elements, many special.
func testChain(t *testing.T, n int, draw func() uint32) {
	t.Helper()
	const slots = 5
	var code []ChainStep
	slot := func() int { return int(draw() % slots) }
	code = append(code, ChainStep{ChainLoad, slot(), 0})
	for range 40 {
		op := ChainOp(draw() % uint32(ChainEnd))
		if op >= ChainEq { // a comparison must precede a selection, and nothing else
			code = append(code, ChainStep{ChainEq + ChainOp(draw()%6), slot(), 0})
			op = ChainSelect
		}
		code = append(code, ChainStep{op, slot(), slot()})
	}
	code = append(code, ChainStep{ChainStore, slot(), 0}, ChainStep{Op: ChainEnd})
	fence := newFence[float32](t)
	var got, want []unsafe.Pointer
	var a, b [][]float32
	for range slots {
		v := make([]float32, max(n, 1))
		for i := range v {
			if v[i] = float32(int32(draw())) * 0x1p-30; draw()%4 == 0 {
				v[i] = specials[draw()%uint32(len(specials))]
			}
		}
		a, b = append(a, fence.copy(v[:n])), append(b, v)
		got, want = append(got, unsafe.Pointer(unsafe.SliceData(a[len(a)-1]))), append(want, unsafe.Pointer(&v[0]))
	}
	Chain(code, got, n)
	portableChain(&code[0], (**float32)(unsafe.Pointer(&want[0])), n)
	for k := range a {
		for i, x := range a[k] {
			if math.Float32bits(x) != math.Float32bits(b[k][i]) && (x == x || b[k][i] == b[k][i]) {
				t.Fatalf("%d elements, slot %d, element %d: %v, want %v, of %v", n, k, i, x, b[k][i], code)
			}
		}
	}
}
