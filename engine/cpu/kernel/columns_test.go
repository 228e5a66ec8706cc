package kernel

import (
	"math"
	"slices"
	"testing"

	"temper/engine/rng"
)

// matrix draws rows×columns numbers, every few of them special.
func matrix(seed uint32, n int) []float32 {
	s, out := rng.NewStream(seed, "columns", 0), make([]float32, n)
	special := []float32{float32(math.NaN()), float32(math.Inf(1)), float32(math.Inf(-1)), 0, float32(math.Copysign(0, -1)), 1e-40}
	for i := range out {
		out[i] = s.Normal()
		if s.IntN(9) == 0 {
			out[i] = special[s.IntN(len(special))]
		}
	}
	return out
}

func same64(a, b float64) bool { return a == b || a != a && b != b }

func TestAddColumns(t *testing.T) { eachLevel(t, testAddColumns) }

// Down a column the order is fixed, so the sums are the same bits at every level.
func testAddColumns(t *testing.T) {
	for _, columns := range []int{1, 3, 7, 8, 9, 16, 24, 31, 64, 100, 513} {
		for _, rows := range []int{1, 2, 5, 40} {
			v := matrix(uint32(columns), columns*rows)
			got, want := make([]float64, columns), make([]float64, columns)
			for i := range want {
				got[i], want[i] = float64(i), float64(i)
				for r := range rows {
					want[i] += float64(v[r*columns+i])
				}
			}
			AddColumns(got, v)
			if !slices.EqualFunc(got, want, same64) {
				t.Errorf("%d×%d: %v, want %v", rows, columns, got, want)
			}
		}
	}
}

func TestSum64(t *testing.T) { eachLevel(t, testSum64) }

func testSum64(t *testing.T) {
	for _, n := range []int{0, 1, 15, 16, 17, 100, 40000} {
		s, v, want := rng.NewStream(1, "sum", 0), make([]float32, n), 0.0
		for i := range v {
			v[i] = s.Normal()
			want += float64(v[i])
		}
		got := Sum64(v)
		if math.Abs(got-want) > 1e-11*float64(n+1) {
			t.Errorf("%d elements: %v, want %v", n, got, want)
		}
		if same := portableColumns.sum(v); got != same {
			t.Errorf("%d elements: %v, portably %v", n, got, same)
		}
	}
}

func TestMaxTaps(t *testing.T) { eachLevel(t, testMaxTaps) }

// windows are n of so many elements that overlap or lie apart, with their
// image's length.
func windows(n, elements, channels, step int) (*Windows, int) {
	w := &Windows{N: n, Channels: channels, Step: step * channels, Next: 3}
	for k := range elements {
		w.Taps = append(w.Taps, int32(2*k*channels), int32(100+k))
	}
	return w, (2*(elements-1) + (n-1)*step + 1) * channels
}

func testMaxTaps(t *testing.T) {
	for _, channels := range []int{1, 5, 8, 11, 16, 32, 41, 100} {
		for seed := range uint32(12) {
			for elements := 1; elements <= 9; elements++ {
				w, size := windows(1+int(seed)%3, elements, channels, 1+int(seed)%5)
				image := matrix(seed, size)
				for i := range image { // ties
					if i%3 == 0 {
						image[i] = 0.5
					}
				}
				fence, n := newFence[float32](t), w.N*channels
				got, want, top, most := make([]int32, n), make([]int32, n), fence.new(n), make([]float32, n)
				MaxTaps(got, top, fence.copy(image), w)
				portableColumns.max(want, most, image, w)
				again := make([]int32, n)
				MaxTaps(again, nil, image, w)
				if !slices.Equal(got, want) || !slices.Equal(again, want) || !same(top, most) {
					t.Fatalf("%d channels, %d elements: %v, %v, want %v", channels, elements, got, again, want)
				}
			}
		}
	}
}

// The portable one is held to a definition of its own.
func TestMaxTapsByHand(t *testing.T) {
	nan := float32(math.NaN())
	image := []float32{1, 3, nan, 2, 3, 5, nan, nan}
	var at [2]int32
	var top [2]float32
	w := &Windows{N: 1, Channels: 2, Taps: []int32{0, 10, 2, 11, 4, 12, 6, 13}}
	portableColumns.max(at[:], top[:], image, w) // pairs (1,3), (NaN,2), (3,5), (NaN,NaN)
	if at != [2]int32{11, 13} || top[0] == top[0] || top[1] == top[1] {
		t.Errorf("%v, %v, want the first NaN of each column: 11, 13", at, top)
	}
}

func TestSpreadTaps(t *testing.T) { eachLevel(t, testSpreadTaps) }

// What is spread to the places of the largest elements lies there and nowhere
// else, and nothing is written outside the windows.
func testSpreadTaps(t *testing.T) {
	for _, channels := range []int{1, 5, 8, 11, 16, 32, 100} {
		w, size := windows(3, 3, channels, 6) // pixels 0, 2 and 4 of six
		size += channels
		fence, n := newFence[float32](t), 3*channels
		v, at, got := fence.new(n), make([]int32, n), fence.new(size)
		for i := range v {
			v[i] = float32(i + 1)
		}
		for i := range got {
			got[i] = -1
		}
		MaxTaps(at, nil, matrix(3, size), w)
		SpreadTaps(got, v, at, w)
		for i, g := range got {
			pixel, c := i/channels, i%channels
			j, tap := pixel/6, pixel%6
			want := float32(-1)
			if tap%2 == 0 && j < 3 {
				want = 0
				if at[j*channels+c] == int32(100+tap/2+3*j) {
					want = v[j*channels+c]
				}
			}
			if g != want {
				t.Fatalf("%d channels: element %d is %v, want %v", channels, i, g, want)
			}
		}
	}
}

func TestWindowsRefuse(t *testing.T) {
	w, size := windows(3, 3, 8, 6)
	at, v, image := make([]int32, 24), make([]float32, 24), make([]float32, size)
	mustPanic(t, "image", func() { MaxTaps(at, nil, image[:size-1], w) })
	mustPanic(t, "places", func() { MaxTaps(at[:23], nil, image, w) })
	mustPanic(t, "values", func() { MaxTaps(at, v[:23:23], image, w) })
	mustPanic(t, "spread", func() { SpreadTaps(image[:size-1], v, at, w) })
}

func TestGatherRows(t *testing.T) { eachLevel(t, testGatherRows) }

func testGatherRows(t *testing.T) {
	for _, columns := range []int{1, 3, 8, 9, 32, 70} {
		const limit, rows = 6, 5
		s := rng.NewStream(uint32(columns), "gather", 0)
		src, at := make([]uint32, (limit+1)*columns), make([]int32, rows*columns)
		for i := range src {
			src[i] = s.Uint32()
		}
		for i := range at {
			at[i] = int32(s.IntN(limit+5)) - 2 // some out of range
		}
		got := make([]uint32, rows*columns)
		GatherRows(got, at, src, columns, limit)
		for i, g := range got {
			if want := src[min(max(int(at[i]), 0), limit)*columns+i%columns]; g != want {
				t.Fatalf("%d columns: element %d is %d, want %d", columns, i, g, want)
			}
		}
	}
}

func BenchmarkAddColumns(b *testing.B) {
	acc, v := make([]float64, 64), make([]float32, 64*1024)
	b.SetBytes(int64(4 * len(v)))
	for b.Loop() {
		AddColumns(acc, v)
	}
}

func BenchmarkGatherRows(b *testing.B) {
	const columns, rows = 32, 256
	dst, at, src := make([]uint32, rows*columns), make([]int32, rows*columns), make([]uint32, 4*rows*columns)
	for i := range at {
		at[i] = int32(4*(i/columns) + i%4)
	}
	b.SetBytes(4 * rows * columns)
	for b.Loop() {
		GatherRows(dst, at, src, columns, 4*rows-1)
	}
}

func BenchmarkMaxTaps(b *testing.B) {
	w := &Windows{N: 16, Channels: 32, Taps: []int32{0, 0, 32, 1, 1024, 32, 1056, 33}, Step: 64, Next: 2}
	at, top, image := make([]int32, 16*32), make([]float32, 16*32), make([]float32, 2*32*32)
	b.SetBytes(4 * 2 * 32 * 32)
	for b.Loop() {
		MaxTaps(at, top, image, w)
	}
}
