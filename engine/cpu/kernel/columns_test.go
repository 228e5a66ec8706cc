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

func TestArgMaxTaps(t *testing.T) { eachLevel(t, testArgMaxTaps) }

func testArgMaxTaps(t *testing.T) {
	for _, columns := range []int{1, 5, 8, 11, 16, 32, 100} {
		for seed := range uint32(20) {
			src := matrix(seed, 9*columns)
			for i := range src { // ties
				if i%3 == 0 {
					src[i] = 0.5
				}
			}
			for n := 1; n <= 9; n++ {
				var taps []int32
				for k := range n {
					taps = append(taps, int32((8-k)*columns), int32(100+k))
				}
				got, want := make([]int32, columns), make([]int32, columns)
				ArgMaxTaps(got, src, taps)
				portableColumns.argMax(want, src, taps)
				if !slices.Equal(got, want) {
					t.Fatalf("%d columns, %d taps: %v, want %v", columns, n, got, want)
				}
			}
		}
	}
}

// The portable one is held to a definition of its own.
func TestArgMaxTapsByHand(t *testing.T) {
	nan := float32(math.NaN())
	src := []float32{1, 3, nan, 2, 3, 5, nan, nan}
	var got [2]int32
	ArgMaxTaps(got[:], src, []int32{0, 10, 2, 11, 4, 12, 6, 13}) // pairs (1,3), (NaN,2), (3,5), (NaN,NaN)
	if got != [2]int32{11, 13} {
		t.Errorf("%v, want the first NaN of each column: 11, 13", got)
	}
}

func TestSpreadTaps(t *testing.T) { eachLevel(t, testSpreadTaps) }

// What is spread to the places of the largest elements lies there and nowhere
// else, and nothing is written outside the window.
func testSpreadTaps(t *testing.T) {
	for _, columns := range []int{1, 5, 8, 11, 16, 32, 100} {
		src, v := matrix(3, 6*columns), make([]float32, columns)
		at, got := make([]int32, columns), make([]float32, 6*columns)
		for i := range v {
			v[i] = float32(i + 1)
		}
		for i := range got {
			got[i] = -1
		}
		taps := []int32{0, 7, int32(2 * columns), 9, int32(4 * columns), 8}
		ArgMaxTaps(at, src, taps)
		SpreadTaps(got, v, at, taps)
		for i, g := range got {
			tap, c := i/columns, i%columns
			want := float32(-1) // rows 1, 3 and 5 are not in the window
			if tap%2 == 0 {
				want = 0
				if at[c] == taps[tap+1] {
					want = v[c]
				}
			}
			if g != want {
				t.Fatalf("%d columns: element %d is %v, want %v", columns, i, g, want)
			}
		}
	}
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

func BenchmarkArgMaxTaps(b *testing.B) {
	dst, src := make([]int32, 32), make([]float32, 4*32)
	b.SetBytes(4 * 32)
	for b.Loop() {
		ArgMaxTaps(dst, src, []int32{0, 0, 32, 1, 64, 2, 96, 3})
	}
}
