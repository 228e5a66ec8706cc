package kernel

import (
	"testing"

	"temper/engine/rng"
)

// gemmCase is one product with everything that may vary about it.
type gemmCase struct {
	m, n, k        int
	transA, transB bool
	beta           int
	pad            int // of each leading dimension
}

// testGemm compares a product with its definition. All slices lie between pages
// that cannot be touched.
func testGemm[T Float](t *testing.T, c gemmCase, seed uint32) {
	t.Helper()
	s := rng.NewStream(seed, "gemm", 0)
	ra, ca, rb, cb := c.m, c.k, c.k, c.n
	if c.transA {
		ra, ca = ca, ra
	}
	if c.transB {
		rb, cb = cb, rb
	}
	lda, ldb, ldc := ca+c.pad, cb+c.pad, c.n+c.pad
	size := func(rows, cols, ld int) int {
		if rows == 0 {
			return 0
		}
		return (rows-1)*ld + cols
	}
	a, b := random[T](s, size(ra, ca, lda)), random[T](s, size(rb, cb, ldb))
	before := random[T](s, size(c.m, c.n, ldc))

	var first []T
	fence := newFence[T](t)
	for _, workers := range []int{1, 3} {
		pool := NewPool(workers)
		g := NewGemm[T](pool, c.m, c.n, c.k, c.transA, c.transB)
		dst := fence.copy(before)
		g.Run(fence.new(g.Workspace()), fence.copy(a), lda, fence.copy(b), ldb, c.beta, dst, ldc)
		pool.Close()
		if first == nil {
			first = dst
		} else if !same(first, dst) {
			t.Fatalf("%+v: %d workers give other bits than one", c, workers)
		}
	}
	for i := range c.m {
		for j := range ldc {
			at := i*ldc + j
			if at >= len(first) {
				break
			}
			if j >= c.n {
				if first[at] != before[at] {
					t.Fatalf("%+v: wrote between rows, at %d,%d", c, i, j)
				}
				continue
			}
			want := float64(c.beta) * float64(before[at])
			mass := abs(want)
			for l := range c.k {
				ia, ib := i*lda+l, l*ldb+j
				if c.transA {
					ia = l*lda + i
				}
				if c.transB {
					ib = j*ldb + l
				}
				p := float64(a[ia]) * float64(b[ib])
				want += p
				mass += abs(p)
			}
			if d := abs(float64(first[at]) - want); !(d <= tolerance[T](mass)) {
				t.Fatalf("%+v: c[%d,%d] = %v, want %v", c, i, j, first[at], want)
			}
		}
	}
}

func TestGemm(t *testing.T) {
	eachLevel(t, func(t *testing.T) {
		cases := []gemmCase{
			{m: 1, n: 1, k: 1}, {m: 6, n: 16, k: 4}, {m: 7, n: 17, k: 257, pad: 3},
			{m: 128, n: 10, k: 100}, {m: 10, n: 100, k: 128, transA: true},
			{m: 32, n: 100, k: 784, transB: true, beta: 1},
			{m: 0, n: 3, k: 3}, {m: 3, n: 0, k: 3}, {m: 3, n: 4, k: 0, pad: 1}, {m: 3, n: 4, k: 0, beta: 1},
			{m: 130, n: 150, k: 20}, {m: 121, n: 3, k: 1030, transB: true},
		}
		s := rng.NewStream(1, "gemm shapes", 0)
		for range 60 {
			cases = append(cases, gemmCase{
				m: 1 + s.IntN(40), n: 1 + s.IntN(50), k: 1 + s.IntN(60),
				transA: s.IntN(2) == 0, transB: s.IntN(2) == 0, beta: s.IntN(2), pad: s.IntN(3),
			})
		}
		for i, c := range cases {
			testGemm[float32](t, c, uint32(i))
			testGemm[float64](t, c, uint32(i))
		}
	})
}

// An inner dimension too long to be packed at once is taken in parts.
func TestGemmInParts(t *testing.T) {
	c := gemmCase{m: 7, n: 170, k: 23000, beta: 1}
	g := NewGemm[float32](newPool(t, 1), c.m, c.n, c.k, false, false)
	if g.depth >= c.k || g.depth%blockK != 0 {
		t.Fatalf("packs %d of %d at a time", g.depth, c.k)
	}
	testGemm[float32](t, c, 1)
}

func TestGemmBatch(t *testing.T) {
	s := rng.NewStream(1, "batch", 0)
	const batch, m, n, k = 3, 5, 7, 9
	a, b := random[float64](s, batch*m*k), random[float64](s, k*n)
	g := NewGemm[float64](newPool(t, 1), m, n, k, false, false)
	got, want := make([]float64, batch*m*n), make([]float64, batch*m*n)
	ws := make([]float64, g.Workspace())
	g.RunBatch(batch, ws, a, k, m*k, b, n, 0, 0, got, n, m*n)
	for i := range batch {
		g.Run(ws, a[i*m*k:], k, b, n, 0, want[i*m*n:], n)
	}
	if !same(got, want) {
		t.Errorf("batch gives %v, single products %v", got, want)
	}
}

func TestGemmRefusesShortSlices(t *testing.T) {
	g := NewGemm[float32](newPool(t, 1), 4, 5, 6, false, true)
	ws, a, b, c := make([]float32, g.Workspace()), make([]float32, 24), make([]float32, 30), make([]float32, 20)
	g.Run(ws, a, 6, b, 6, 0, c, 5)
	for name, call := range map[string]func(){
		"workspace": func() { g.Run(ws[1:], a, 6, b, 6, 0, c, 5) },
		"a":         func() { g.Run(ws, a[1:], 6, b, 6, 0, c, 5) },
		"b":         func() { g.Run(ws, a, 6, b[1:], 6, 0, c, 5) },
		"c":         func() { g.Run(ws, a, 6, b, 6, 0, c[1:], 5) },
		"lda":       func() { g.Run(ws, a, 5, b, 6, 0, c, 5) },
		"beta":      func() { g.Run(ws, a, 6, b, 6, 2, c, 5) },
		"shape":     func() { NewGemm[float32](newPool(t, 1), -1, 5, 6, false, true) },
	} {
		mustPanic(t, name, call)
	}
}

func mustPanic(t *testing.T, what string, call func()) {
	t.Helper()
	defer func() {
		if recover() == nil {
			t.Errorf("%s: no panic", what)
		}
	}()
	call()
}

func TestGemmAllocatesNothing(t *testing.T) {
	g := NewGemm[float32](newPool(t, 2), 30, 40, 300, false, true)
	ws, a, b, c := make([]float32, g.Workspace()), make([]float32, 9000), make([]float32, 12000), make([]float32, 1200)
	if n := testing.AllocsPerRun(20, func() { g.Run(ws, a, 300, b, 300, 0, c, 40) }); n != 0 {
		t.Errorf("%v allocations a run", n)
	}
}

func FuzzGemm(f *testing.F) {
	f.Add(uint16(7), uint16(17), uint16(257), uint8(5))
	f.Fuzz(func(t *testing.T, m, n, k uint16, flags uint8) {
		testGemm[float32](t, gemmCase{
			m: int(m % 150), n: int(n % 150), k: int(k % 600),
			transA: flags&1 > 0, transB: flags&2 > 0, beta: int(flags >> 2 & 1), pad: int(flags >> 3 & 3),
		}, 1)
	})
}

func BenchmarkGemm(b *testing.B) {
	for _, c := range []struct {
		m, n, k        int
		transA, transB bool
	}{
		{1024, 1024, 1024, false, false}, {256, 256, 256, false, false},
		{128, 100, 784, false, true}, {128, 784, 100, false, false}, {100, 784, 128, true, false},
		{128, 10, 100, false, true}, {10, 100, 128, true, false}, {128, 512, 512, false, true},
	} {
		b.Run(label("%dx%dx%d", c.m, c.n, c.k), func(b *testing.B) {
			pool := newPool(b, benchWorkers())
			g := NewGemm[float32](pool, c.m, c.n, c.k, c.transA, c.transB)
			ws, x, y, z := make([]float32, g.Workspace()), make([]float32, c.m*c.k), make([]float32, c.k*c.n), make([]float32, c.m*c.n)
			lda, ldb := c.k, c.n
			if c.transA {
				lda = c.m
			}
			if c.transB {
				ldb = c.k
			}
			measure(b, pool, 2*float64(c.m)*float64(c.n)*float64(c.k), func() { g.Run(ws, x, lda, y, ldb, 0, z, c.n) })
		})
	}
}
