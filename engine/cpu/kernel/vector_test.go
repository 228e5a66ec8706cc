package kernel

import (
	"math"
	"testing"

	"temper/engine/rng"
)

var specials = []float32{
	0, float32(math.Copysign(0, -1)), 1, -1, 0.5, -0.5, 1.5, -1.5, 2.5, float32(math.Inf(1)), float32(math.Inf(-1)), float32(math.NaN()),
	math.SmallestNonzeroFloat32, -math.SmallestNonzeroFloat32, 0x1p-126, 0x1.fffffcp-127, -0x1p-130, math.MaxFloat32, -math.MaxFloat32,
	1 << 23, -(1 << 23), 1<<23 - 0.5, 1 << 31, -(1 << 31), 1 << 30, 3e38, 88.72, 88.73, -87.3, -87.4, -103.9, -104, 10, -10, 0.625, -0.625,
}

// operands returns n values: every special value, then random ones of many
// magnitudes. Rotated lists make all pairs of special values meet.
func operands[T Float](n, rotate int) []T {
	s := rng.NewStream(uint32(rotate), "operands", uint32(n))
	v := make([]T, n)
	for i := range v {
		if i < 2*len(specials) {
			v[i] = T(specials[(i+rotate)%len(specials)])
		} else {
			v[i] = T(s.Normal()) * T(math.Pow(2, float64(s.IntN(40)-20)))
		}
	}
	return v
}

// sameBits tells zeros apart and takes all NaN for one.
func sameBits[T Float](a, b T) bool {
	if a != a || b != b {
		return a != a && b != b
	}
	return a == b && math.Signbit(float64(a)) == math.Signbit(float64(b))
}

// checkLoop runs a loop for many lengths, with operands off a vector's
// boundary and then in place, and compares each element with want.
func checkLoop[T Float](t *testing.T, name string, run func(dst, a, b []T), want func(a, b T) T) {
	t.Helper()
	for _, n := range []int{0, 1, 2, 7, 8, 9, 15, 31, 32, 33, 63, 64, 100, 1<<14 + 77} {
		for rotate := range specials {
			if n > 100 && rotate > 0 {
				break
			}
			a, b := operands[T](n, rotate), operands[T](n+3, 7)
			check := func(dst guarded[T]) {
				t.Helper()
				dst.check(t, name)
				for i, got := range dst.v {
					if w := want(a[i], b[i]); !sameBits(got, w) {
						t.Fatalf("%s(%v, %v) = %v, want %v (element %d of %d)", name, a[i], b[i], got, w, i, n)
					}
				}
			}
			dst := newGuarded[T](n)
			run(dst.v, a, b)
			check(dst)
			copy(dst.v, a)
			run(dst.v, dst.v, b)
			check(dst)
		}
	}
}

func TestBinary(t *testing.T) {
	eachLevel(t, func(t *testing.T) {
		testBinary[float32](t)
		testBinary[float64](t)
	})
}

// In float32, an operation in float64 rounded once more is correctly rounded.
func testBinary[T Float](t *testing.T) {
	pick := func(better func(a, b float64) bool) func(a, b float64) float64 {
		return func(a, b float64) float64 {
			if a != a || b != b {
				return math.NaN()
			}
			if better(a, b) {
				return a
			}
			return b
		}
	}
	for _, op := range []struct {
		name string
		vv   func(dst, a, b []T)
		want func(a, b float64) float64
	}{
		{"add", Add[T], func(a, b float64) float64 { return a + b }},
		{"sub", Sub[T], func(a, b float64) float64 { return a - b }},
		{"mul", Mul[T], func(a, b float64) float64 { return a * b }},
		{"div", Div[T], func(a, b float64) float64 { return a / b }},
		{"max", Max[T], pick(func(a, b float64) bool { return a > b })},
		{"min", Min[T], pick(func(a, b float64) bool { return a < b })},
	} {
		want := func(a, b T) T { return T(op.want(float64(a), float64(b))) }
		checkLoop(t, op.name, op.vv, want)
	}
}

func TestUnary(t *testing.T) {
	eachLevel(t, func(t *testing.T) {
		testUnary[float32](t)
		testUnary[float64](t)
	})
}

func testUnary[T Float](t *testing.T) {
	for _, op := range []struct {
		name string
		run  func(dst, a []T)
		want func(a float64) float64
	}{
		{"neg", Neg[T], func(a float64) float64 { return math.Copysign(a, -math.Copysign(1, a)) }},
		{"abs", Abs[T], math.Abs},
		{"floor", Floor[T], math.Floor},
		{"sqrt", Sqrt[T], math.Sqrt},
		{"sign", Sign[T], func(a float64) float64 {
			switch {
			case a > 0:
				return 1
			case a < 0:
				return -1
			}
			return 0
		}},
		{"relu", Relu[T], func(a float64) float64 {
			if a < 0 {
				return 0
			}
			return a
		}},
	} {
		checkLoop(t, op.name, func(dst, a, _ []T) { op.run(dst, a) }, func(a, _ T) T { return T(op.want(float64(a))) })
	}
}

func TestCompareAndSelect(t *testing.T) {
	eachLevel(t, func(t *testing.T) {
		testCompare[float32](t)
		testCompare[float64](t)
	})
}

func testCompare[T Float](t *testing.T) {
	for _, op := range []struct {
		name string
		vv   func(dst []uint8, a, b []T)
		want func(a, b T) bool
	}{
		{"eq", Eq[T], func(a, b T) bool { return a == b }},
		{"ne", Ne[T], func(a, b T) bool { return a != b }},
		{"lt", Lt[T], func(a, b T) bool { return a < b }},
		{"le", Le[T], func(a, b T) bool { return a <= b }},
		{"gt", Gt[T], func(a, b T) bool { return a > b }},
		{"ge", Ge[T], func(a, b T) bool { return a >= b }},
	} {
		// Each comparison chooses between its operands, through the mask.
		mask := make([]uint8, 1<<15)
		for i := range mask {
			mask[i] = 77
		}
		untouched := func(n int) {
			t.Helper()
			for i, m := range mask[:n+40] {
				if i < n && m > 1 || i >= n && m != 77 {
					t.Fatalf("%s: byte %d of %d is %d", op.name, i, n, m)
				}
				mask[i] = 77
			}
		}
		choose := func(a, b, x, y T) T {
			if op.want(a, b) {
				return x
			}
			return y
		}
		checkLoop(t, op.name, func(dst, a, b []T) {
			op.vv(mask[:len(dst)], a, b)
			Select(dst, mask, a, b)
			untouched(len(dst))
		}, func(a, b T) T { return choose(a, b, a, b) })
	}
}

func TestFromU8(t *testing.T) {
	eachLevel(t, func(t *testing.T) {
		for _, n := range []int{0, 1, 7, 8, 9, 256, 40000} {
			bytes := make([]uint8, n)
			for i := range n {
				bytes[i] = uint8(i)
			}
			dst := newGuarded[float32](n)
			FromU8(dst.v, bytes)
			dst.check(t, "conversion")
			for i, x := range dst.v {
				if x != float32(bytes[i]) {
					t.Fatalf("byte %d becomes %v", bytes[i], x)
				}
			}
		}
	})
}

// ulps is the distance of got from want in units of the last place of a
// float32 of want's size.
func ulps(got float32, want float64) float64 {
	if want != want {
		if got != got {
			return 0
		}
		return math.Inf(1)
	}
	if w := float32(want); got == w && (w == 0 || math.IsInf(float64(w), 0)) {
		return 0
	} else if math.IsInf(float64(w), 0) || math.IsInf(float64(got), 0) || got != got {
		return math.Inf(1)
	}
	_, e := math.Frexp(want)
	return abs(float64(got)-want) / math.Ldexp(1, max(e, -125)-24)
}

// Each function against float64 over all magnitudes of both signs.
func TestTranscendental(t *testing.T) {
	var a []float32
	a = append(a, specials...)
	for b := uint32(0); b < 0x7f800000; b += 10007 {
		a = append(a, math.Float32frombits(b), math.Float32frombits(b|1<<31))
	}
	for x := -110.0; x < 110; x += 1.0 / 1024 { // where they are not constant
		a = append(a, float32(x))
	}
	for _, op := range []struct {
		name string
		run  func(dst, a []float32)
		of   func(float64) float64
		ulps float64
	}{
		{"exp", Exp[float32], math.Exp, 1},
		{"log", Log[float32], math.Log, 1},
		{"tanh", Tanh[float32], math.Tanh, 2},
		{"sigmoid", Sigmoid[float32], func(x float64) float64 { return 1 / (1 + math.Exp(-x)) }, 2},
		{"expm1", Expm1[float32], math.Expm1, 1},
		{"log1p", Log1p[float32], math.Log1p, 1},
	} {
		var first []float32
		eachLevel(t, func(t *testing.T) {
			dst := make([]float32, len(a))
			op.run(dst, a)
			worst, at := 0.0, float32(0)
			for i, x := range a {
				if u := ulps(dst[i], op.of(float64(x))); u > worst {
					worst, at = u, x
				}
				if first != nil && !sameBits(first[i], dst[i]) {
					t.Fatalf("%s(%v) = %v, on the other level %v", op.name, x, dst[i], first[i])
				}
			}
			if worst > op.ulps {
				t.Errorf("%s(%v) is off by %.2f ulp", op.name, at, worst)
			}
			t.Logf("%s: %.3f ulp at %v", op.name, worst, at)
			first = dst
			// A partial vector gives the same.
			for i := range 100 {
				part := make([]float32, 5)
				if op.run(part, a[i:i+5]); !sameBits(part[0], dst[i]) || !sameBits(part[4], dst[i+4]) {
					t.Fatalf("%s of 5 elements at %d gives other bits", op.name, i)
				}
			}
		})
	}
	zero := float32(math.Copysign(0, -1))
	for name, run := range map[string]func(dst, a []float32){"tanh": Tanh[float32], "expm1": Expm1[float32], "log1p": Log1p[float32]} {
		dst := []float32{1}
		if run(dst, []float32{zero}); !sameBits(dst[0], zero) {
			t.Errorf("%s(-0) = %v", name, dst[0])
		}
	}
}

func TestTranscendental64(t *testing.T) {
	a := operands[float64](1000, 0)
	dst := make([]float64, len(a))
	for _, op := range []struct {
		name string
		run  func(dst, a []float64)
		of   func(float64) float64
	}{
		{"exp", Exp[float64], math.Exp}, {"log", Log[float64], math.Log}, {"tanh", Tanh[float64], math.Tanh},
		{"sigmoid", Sigmoid[float64], func(x float64) float64 { return 1 / (1 + math.Exp(-x)) }},
		{"expm1", Expm1[float64], math.Expm1}, {"log1p", Log1p[float64], math.Log1p},
	} {
		op.run(dst, a)
		for i, x := range a {
			want := op.of(x)
			if d := abs(dst[i] - want); d > 4e-16*abs(want)+0x1p-1021 && !sameBits(dst[i], want) {
				t.Errorf("%s(%v) = %v, want %v", op.name, x, dst[i], want)
			}
		}
	}
}

func TestVectorAllocatesNothing(t *testing.T) {
	eachLevel(t, func(t *testing.T) {
		a, b, m := make([]float32, 20000), make([]float32, 20000), make([]uint8, 20000)
		d, w := make([]float64, 100), make([]uint32, 20000)
		n := testing.AllocsPerRun(10, func() {
			Add(a, a, b)
			Exp(a, a)
			Lt(m, a, b)
			Select(a, m, a, b)
			FromU8(a, m)
			Tanh(d, d)
			Words(w, rng.Draw{}, 3)
		})
		if n != 0 {
			t.Errorf("%v allocations", n)
		}
	})
}

func TestVectorRefusesShortOperands(t *testing.T) {
	dst, short, mask := make([]float32, 9), make([]float32, 8), make([]uint8, 9)
	for name, call := range map[string]func(){
		"a":       func() { Add(dst, short, dst) },
		"b":       func() { Add(dst, dst, short) },
		"unary":   func() { Exp(dst, short) },
		"compare": func() { Lt(mask, dst, short) },
		"select":  func() { Select(dst, mask[:8], dst, dst) },
		"convert": func() { FromU8(dst, mask[:8]) },
	} {
		mustPanic(t, name, call)
	}
}

// Random words are those of package rng, wherever a draw is cut.
func TestWords(t *testing.T) {
	eachLevel(t, func(t *testing.T) {
		d := rng.Draw{Seed: 1, Site: rng.Site("kernel"), ID: 5, Step: 9, Iter: 2}
		for _, first := range []uint32{0, 1, 3, 4, 1001, 1<<32 - 5, 1<<32 - 128, 1<<32 - 64} {
			for _, n := range []int{0, 1, 3, 4, 5, 63, 64, 65, 200, 1000} {
				w := make([]uint32, n)
				Words(w, d, first)
				for i := range n {
					if want := d.Word(first + uint32(i)); w[i] != want {
						t.Fatalf("element %d from %d: %x, want word %x", i, first, w[i], want)
					}
				}
			}
		}
	})
}

func BenchmarkVector(b *testing.B) {
	const n = 4096
	x, y, z, m, w := make([]float32, n), make([]float32, n), make([]float32, n), make([]uint8, n), make([]uint32, n)
	s := rng.NewStream(1, "bench", 0)
	for i := range x {
		x[i], y[i], m[i] = s.Normal(), s.Normal(), uint8(i&1)
	}
	pos := make([]float32, n)
	Abs(pos, x)
	for _, c := range []struct {
		name string
		run  func()
	}{
		{"add", func() { Add(z, x, y) }}, {"div", func() { Div(z, x, y) }},
		{"max", func() { Max(z, x, y) }}, {"relu", func() { Relu(z, x) }}, {"sqrt", func() { Sqrt(z, pos) }},
		{"sign", func() { Sign(z, x) }}, {"exp", func() { Exp(z, x) }}, {"log", func() { Log(z, pos) }},
		{"tanh", func() { Tanh(z, x) }}, {"sigmoid", func() { Sigmoid(z, x) }}, {"expm1", func() { Expm1(z, x) }},
		{"lt", func() { Lt(m, x, y) }}, {"select", func() { Select(z, m, x, y) }},
		{"u8", func() { FromU8(z, m) }}, {"words", func() { Words(w, rng.Draw{}, 0) }},
	} {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				c.run()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/element")
		})
	}
}
