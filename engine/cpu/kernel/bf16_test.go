//go:build unix

package kernel

import (
	"math"
	"slices"
	"testing"

	"temper/engine/rng"
)

// eachBF16 runs a test on every level here that has products of bf16.
func eachBF16(t *testing.T, test func(t *testing.T)) {
	eachLevel(t, func(t *testing.T) {
		if HasBF16() {
			test(t)
		}
	})
}

// fencedBF16 is newFence's slice of n elements, all of which are NaN.
func fencedBF16(f *fenced[float32], n int) []BF16 {
	all := elements(f.new((n + 1) / 2))
	for i := range all {
		all[i] = 0x7fc0
	}
	if f.turn%2 == 1 {
		return all[len(all)-n:]
	}
	return all[:n:n]
}

func fencedCopy(f *fenced[float32], v []BF16) []BF16 {
	w := fencedBF16(f, len(v))
	copy(w, v)
	return w
}

func randomBF16(s *rng.Stream, n int) []BF16 {
	v := make([]BF16, n)
	portableHalves.round(v, random[float32](s, n))
	return v
}

// specialFloats are where rounding and conversion go wrong.
func specialFloats() []float32 {
	v := []float32{0, float32(math.Copysign(0, -1)), 1, -1, float32(math.Inf(1)), float32(math.Inf(-1)), math.MaxFloat32, -math.MaxFloat32, math.SmallestNonzeroFloat32}
	for _, bits := range []uint32{
		0x7fc00000, 0xffc00001, 0x7f800001, 0xff80ffff, 0x7fffffff, // NaNs
		0x3f808000, 0x3f818000, 0x3f808001, 0x3f817fff, 0xbf808000, // ties to even, and beside them
		0x7f7f8000, 0x7f7f7fff, 0x00008000, 0x00018000, 0x80007fff, 0x007fffff, 0x00400000,
	} {
		v = append(v, math.Float32frombits(bits))
	}
	return v
}

// All levels convert to the same bits: those of RoundBF16 and Float32.
func TestHalves(t *testing.T) {
	s := rng.NewStream(1, "halves", 0)
	eachLevel(t, func(t *testing.T) {
		for _, n := range []int{0, 1, 15, 16, 17, 47, 48, 16384 + 33} {
			x := make([]float32, n)
			for i := range x {
				x[i] = math.Float32frombits(s.Uint32())
			}
			copy(x, specialFloats())
			fence := newFence[float32](t)
			got := fencedBF16(fence, n)
			ToBF16(got, fence.copy(x))
			for i, b := range got {
				if want := RoundBF16(x[i]); b != want {
					t.Fatalf("%d of %d: %x becomes %x, want %x", i, n, math.Float32bits(x[i]), b, want)
				}
			}
			back := fence.new(n)
			FromBF16(back, fencedCopy(fence, got))
			for i, v := range back {
				if math.Float32bits(v) != uint32(got[i])<<16 {
					t.Fatalf("%d of %d: %x becomes %x", i, n, got[i], math.Float32bits(v))
				}
			}
		}
	})
}

// The matrix tiles give the bits of their portable twin; with subnormal numbers
// they give what their being taken for zero gives.
func TestTiles(t *testing.T) {
	s := rng.NewStream(1, "tiles", 0)
	eachBF16(t, func(t *testing.T) {
		for _, c := range []struct{ blocks, steps, panels, beta int }{{1, 1, 1, 0}, {1, 1, 2, 1}, {2, 3, 2, 0}, {3, 2, 1, 1}} {
			words := c.steps * stepWords
			lda := rowWords(words)
			rows := c.blocks * tallRows
			a, b := randomBF16(s, 2*rows*lda), randomBF16(s, 2*c.panels*words*Lanes)
			before := random[float32](s, rows*blockCols)
			a[7], a[2*lda+4], b[3] = 0x7f80, 0x7fc0, 0xff80 // ∞, NaN, -∞
			fence := newFence[float32](t)
			run := func(p *pairs) []float32 {
				dst := fence.copy(before)
				p.block(rows, words, fence.copy(wordsOf(a)), fence.copy(wordsOf(b)), c.panels, words*Lanes, dst, c.beta)
				return dst
			}
			want, got := run(portablePairs), run(active.pairs)
			if !same(got, want) {
				t.Fatalf("%+v: other bits than the portable twin's", c)
			}
			for i := range a {
				a[i] = a[i]&0x8000 | 0x3f80 // ±1
				if i%3 == 0 {
					a[i] = 1 // the smallest
				}
			}
			for i := range b {
				b[i] = b[i]&0x8000 | 0x3f80
			}
			want, got = run(portablePairs), run(active.pairs)
			for i, v := range got {
				if d := abs(float64(v) - float64(want[i])); !(d <= 0x1p-120*float64(words)) {
					t.Fatalf("%+v, subnormal: %v, want %v", c, v, want[i])
				}
			}
		}
	})
}

// closeBF16 reports whether got is the sum want, computed in float32 and rounded;
// mass is that of the terms' absolute values.
func closeBF16(got BF16, want, mass float64) bool {
	return abs(float64(got.Float32())-want) <= 0x1p-8*abs(want)+tolerance[float32](mass)
}

func TestGemmBF16(t *testing.T) {
	s := rng.NewStream(1, "gemm bf16", 0)
	cases := []struct{ m, n, k int }{{1, 1, 1}, {32, 32, 32}, {33, 17, 31}, {7, 40, 65}, {70, 5, 2}, {300, 33, 40}, {16, 130, 1100}}
	for range 8 {
		cases = append(cases, struct{ m, n, k int }{1 + s.IntN(80), 1 + s.IntN(80), 1 + s.IntN(80)})
	}
	eachBF16(t, func(t *testing.T) {
		for i, c := range cases {
			transA, transB, pad := i&1 != 0, i&2 != 0, i%3
			ra, ca, rb, cb := c.m, c.k, c.k, c.n
			if transA {
				ra, ca = ca, ra
			}
			if transB {
				rb, cb = cb, rb
			}
			lda, ldb, ldc := ca+pad, cb+pad, c.n+pad
			a, b := randomBF16(s, (ra-1)*lda+ca), randomBF16(s, (rb-1)*ldb+cb)
			var first []BF16
			for _, workers := range []int{1, 3} {
				pool := NewPool(workers)
				g := NewGemmBF16(pool, c.m, c.n, c.k, transA, transB)
				fence := newFence[float32](t)
				dst := fencedBF16(fence, (c.m-1)*ldc+c.n)
				g.Run(fence.new(g.Workspace()), fencedCopy(fence, a), lda, fencedCopy(fence, b), ldb, dst, ldc)
				pool.Close()
				if first == nil {
					first = dst
				} else if !slices.Equal(first, dst) {
					t.Fatalf("%+v: %d workers give other bits than one", c, workers)
				}
			}
			for at, got := range first {
				row, col := at/ldc, at%ldc
				if col >= c.n {
					if got != 0x7fc0 {
						t.Fatalf("%+v: wrote between rows", c)
					}
					continue
				}
				want, mass := 0.0, 0.0
				for l := range c.k {
					ia, ib := row*lda+l, l*ldb+col
					if transA {
						ia = l*lda + row
					}
					if transB {
						ib = col*ldb + l
					}
					p := float64(a[ia].Float32()) * float64(b[ib].Float32())
					want, mass = want+p, mass+abs(p)
				}
				if !closeBF16(got, want, mass) {
					t.Fatalf("%+v, transposed %v and %v: [%d,%d] is %v, want %v", c, transA, transB, row, col, got.Float32(), want)
				}
			}
		}
	})
}

// runConvBF16 is runConv.
func runConvBF16(t *testing.T, s ConvShape, workers int, x, w, dy []BF16) [3][]BF16 {
	t.Helper()
	pool := NewPool(workers)
	defer pool.Close()
	fence := newFence[float32](t)
	sizeX, _, sizeY := s.sizes()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	var out [3][]BF16
	for d, src := range [][]BF16{x, dy} {
		pack, err := NewFilterPackBF16(pool, s, Direction(d))
		must(err)
		k, err := NewConvBF16(pool, s, Direction(d))
		must(err)
		packed := fencedBF16(fence, product(s.PackedBF16(Direction(d))))
		pack.Run(fence.new(pack.Workspace()), packed, fencedCopy(fence, w))
		out[d] = fencedBF16(fence, []int{sizeY, sizeX}[d])
		k.Run(fence.new(k.Workspace()), out[d], fencedCopy(fence, src), packed)
	}
	g, err := NewConvFilterGradBF16(pool, s)
	must(err)
	out[2] = fencedBF16(fence, len(w))
	g.Run(fence.new(g.Workspace()), out[2], fencedCopy(fence, x), fencedCopy(fence, dy))
	return out
}

func TestConvBF16(t *testing.T) {
	cases := []ConvShape{
		square(1, 1, 1, 1, 1, 1, 0, 1),
		square(2, 3, 8, 5, 3, 1, 1, 1),
		square(3, 1, 28, 16, 4, 2, 1, 1), // overlapping phases
		square(5, 30, 4, 20, 3, 1, 1, 1),
		square(9, 17, 7, 33, 1, 1, 0, 1),
		square(3, 5, 11, 6, 1, 2, 0, 1),  // phases without taps
		square(2, 3, 12, 4, 3, 2, 1, 2),  // dilation 2 with stride 2
		square(2, 2, 7, 3, 3, 1, 4, 1),   // padding beyond kernel - 1
		square(2, 2, 10, 3, 2, 3, 0, 1),  // stride beyond kernel
		square(20, 1, 2, 3, 2, 1, 0, 1),  // one pixel an image
		square(1, 1, 5, 2, 5, 1, 6, 1),   // kernel as large as the image
		square(1, 150, 4, 9, 3, 1, 1, 1), // several steps
		square(2, 3, 4, 70, 2, 1, 0, 1),  // several panels
		square(17, 2, 16, 2, 3, 1, 1, 1), // more images than parts
		square(1, 3, 90, 2, 1, 2, 0, 1),  // bands
		square(300, 20, 1, 10, 1, 1, 0, 1),
		{N: 2, C: 3, H: 9, W: 14, O: 4, KH: 2, KW: 5, SH: 2, SW: 3, PH: 1, PW: 3, DH: 3, DW: 1},
	}
	s := rng.NewStream(1, "conv bf16 shapes", 0)
	for len(cases) < 40 {
		c := randomShape(func(n int) int { return s.IntN(n) })
		if c.Check() == nil {
			cases = append(cases, c)
		}
	}
	if testing.Short() {
		cases = cases[:17]
	}
	eachBF16(t, func(t *testing.T) {
		for i, c := range cases {
			stream := rng.NewStream(uint32(i), "conv bf16", 0)
			sizeX, sizeW, sizeY := c.sizes()
			x, w, dy := randomBF16(stream, sizeX), randomBF16(stream, sizeW), randomBF16(stream, sizeY)
			wide := func(v []BF16) []float32 {
				f := make([]float32, len(v))
				portableHalves.widen(f, v)
				return f
			}
			want, mass := reference(c, wide(x), wide(w), wide(dy))
			got, again := runConvBF16(t, c, 1, x, w, dy), runConvBF16(t, c, 3, x, w, dy)
			for i, what := range results {
				if !slices.Equal(got[i], again[i]) {
					t.Fatalf("%+v %s: 3 workers give other bits than one", c, what)
				}
				for at, v := range got[i] {
					if !closeBF16(v, want[i][at], mass[i][at]) {
						t.Fatalf("%+v %s: element %d is %v, want %v", c, what, at, v.Float32(), want[i][at])
					}
				}
			}
		}
	})
}

func TestBF16NoAllocation(t *testing.T) {
	eachBF16(t, func(t *testing.T) {
		pool := NewPool(1)
		defer pool.Close()
		s := square(2, 17, 5, 20, 3, 1, 1, 1)
		sizeX, sizeW, sizeY := s.sizes()
		x, w, dy := make([]BF16, sizeX), make([]BF16, sizeW), make([]BF16, sizeY)
		pack, _ := NewFilterPackBF16(pool, s, InputGrad)
		conv, _ := NewConvBF16(pool, s, InputGrad)
		grad, _ := NewConvFilterGradBF16(pool, s)
		gemm := NewGemmBF16(pool, 9, 17, 5, true, false)
		packed := make([]BF16, product(s.PackedBF16(InputGrad)))
		ws := make([]float32, max(pack.Workspace(), conv.Workspace(), grad.Workspace(), gemm.Workspace()))
		if n := testing.AllocsPerRun(2, func() {
			pack.Run(ws, packed, w)
			conv.Run(ws, x, dy, packed)
			grad.Run(ws, w, x, dy)
			gemm.Run(ws, x, 9, w, 17, dy, 17)
		}); n > 0 {
			t.Errorf("%v allocations", n)
		}
	})
}
