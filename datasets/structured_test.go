package datasets

import (
	"math"
	"slices"
	"testing"
)

func generate(t *testing.T, s Structured, seed uint32) (train, test *Patches) {
	t.Helper()
	train, test, err := s.Generate(seed)
	if err != nil {
		t.Fatal(err)
	}
	return train, test
}

// patch returns patch p of example i.
func (p *Patches) patch(i, patch int) []float64 {
	in := p.Info()
	x := p.Example(i).F32
	out := make([]float64, in.Channels)
	for d := range out {
		out[d] = float64(x[d*in.Width+patch])
	}
	return out
}

func TestStructuredFeaturesAreOrthonormal(t *testing.T) {
	for _, s := range []Structured{
		DefaultStructured(), {K: 10, D: 20, P: 2, R: 1, N: 1, Alpha: 1, Beta: 1, TrainN: 10, TestN: 10},
		{K: 100, D: 200, P: 2, R: 1, N: 1, Alpha: 1, Beta: 1, TrainN: 100, TestN: 100}, // as many as there is room for: one pass leaves errors of 1e-13
	} {
		train, _ := generate(t, s, 3)
		all := slices.Concat(train.U, train.V)
		if len(train.U) != s.K || len(all) != 2*s.K {
			t.Fatalf("%d robust and %d features in all, want %d and %d", len(train.U), len(all), s.K, 2*s.K)
		}
		for i, a := range all {
			for j, b := range all {
				want := 0.0
				if i == j {
					want = 1
				}
				if math.Abs(dot(a, b)-want) > 3e-15 {
					t.Errorf("<f%d, f%d> = %g", i, j, dot(a, b))
				}
			}
		}
	}
}

// Without noise every patch is a coefficient times the feature that the ground
// truth names.
func TestStructuredPatchesCarryTheirFeature(t *testing.T) {
	s := DefaultStructured()
	s.NoiseStd = 0
	s.R, s.N = 3, 78
	train, test := generate(t, s, 1)
	for _, set := range []*Patches{train, test} {
		lo, hi := [2]float64{9, 9}, [2]float64{}
		for i := range set.Len() {
			if n := count(set.Robust[i]); n != s.R {
				t.Fatalf("%d robust patches, want %d", n, s.R)
			}
			for p := range s.P {
				feature, mean, kind := set.V[set.Label(i)], s.Beta, 0
				if set.Robust[i][p] {
					feature, mean, kind = set.U[set.Label(i)], s.Alpha, 1
				}
				x := set.patch(i, p)
				c := dot(x, feature)
				for d := range x {
					if math.Abs(x[d]-c*feature[d]) > 1e-6 {
						t.Fatalf("example %d patch %d is not along its feature", i, p)
					}
				}
				lo[kind], hi[kind] = min(lo[kind], c/mean), max(hi[kind], c/mean)
			}
		}
		for kind := range lo {
			if lo[kind] < 0.9-1e-6 || hi[kind] > 1.1+1e-6 || lo[kind] > 0.93 || hi[kind] < 1.07 {
				t.Errorf("coefficients span %g..%g of their mean, want 0.9..1.1", lo[kind], hi[kind])
			}
		}
	}
}

func count(mark []bool) (n int) {
	for _, m := range mark {
		if m {
			n++
		}
	}
	return n
}

func TestStructuredNoiseAndPositions(t *testing.T) {
	s := DefaultStructured()
	_, test := generate(t, s, 5)
	var sum, sum2, n float64
	at := make([]int, s.P)
	for i := range test.Len() {
		for p := range s.P {
			if test.Robust[i][p] {
				at[p]++
			}
			x := test.patch(i, p)
			// Directions of other classes hold noise alone.
			other := test.V[(test.Label(i)+1)%int32(s.K)]
			z := dot(x, other)
			sum, sum2, n = sum+z, sum2+z*z, n+1
		}
	}
	if mean, std := sum/n, math.Sqrt(sum2/n); math.Abs(mean) > 1.2e-3 || math.Abs(std-s.NoiseStd) > 1e-3 {
		t.Errorf("noise has mean %g and standard deviation %g, want 0 and %g", mean, std, s.NoiseStd)
	}
	if m := slices.Max(at); m > 12 { // 200 draws among 81: 2.5 on average
		t.Errorf("one position holds the robust patch %d times of 200", m)
	}
}

// Every example, of either set, has noise of its own.
func TestStructuredNoiseIsTheExamples(t *testing.T) {
	s := DefaultStructured()
	s.Jitter = 0
	train, test := generate(t, s, 5)
	seen := map[float64]bool{}
	for _, set := range []*Patches{train, test} {
		for i := range set.Len() {
			feature, c := set.V[set.Label(i)], s.Beta
			if set.Robust[i][0] {
				feature, c = set.U[set.Label(i)], s.Alpha
			}
			first := math.Round(1e5 * (set.patch(i, 0)[0] - c*feature[0])) // its first coordinate, in 1e-5 of ±0.1
			if seen[first] {
				first += 0.5 // one coincidence is none
			}
			seen[first] = true
		}
	}
	if len(seen) < 200 {
		t.Errorf("240 examples have %d different noises", len(seen))
	}
}

func TestStructuredLabelsAreBalanced(t *testing.T) {
	s := DefaultStructured()
	s.TrainN = 42
	train, test := generate(t, s, 2)
	for _, set := range []*Patches{train, test} {
		n := make([]int, s.K)
		for _, y := range set.Labels() {
			n[y]++
		}
		if slices.Max(n)-slices.Min(n) > 1 {
			t.Errorf("class counts %v", n)
		}
	}
	if slices.IsSorted(train.Labels()) {
		t.Error("labels are not shuffled")
	}
}

// The streams are separate: features do not move with the sizes, nor an
// example's positions and noise with the number of examples.
func TestStructuredStreamsAreSeparate(t *testing.T) {
	s := DefaultStructured()
	small, smallTest := generate(t, s, 9)
	again, _ := generate(t, s, 9)
	if !slices.Equal(small.Values().F32, again.Values().F32) {
		t.Error("the same seed gave other data")
	}
	s.TrainN = 400
	large, largeTest := generate(t, s, 9)
	if !slices.Equal(small.U[0], large.U[0]) || !slices.Equal(smallTest.Values().F32, largeTest.Values().F32) {
		t.Error("features or the test set changed with the number of training examples")
	}
	for i := range small.Len() {
		if !slices.Equal(small.Robust[i], large.Robust[i]) {
			t.Error("positions changed with the number of examples")
		}
	}
	if slices.Equal(small.Robust[3], smallTest.Robust[3]) && slices.Equal(small.Robust[4], smallTest.Robust[4]) {
		t.Error("training and test set share positions")
	}
	other, _ := generate(t, s, 10)
	if slices.Equal(large.U[0], other.U[0]) {
		t.Error("the seed does not change the features")
	}
}

func TestStructuredValidate(t *testing.T) {
	for _, c := range []struct {
		change func(*Structured)
		err    string
	}{
		{func(s *Structured) {}, ""},
		{func(s *Structured) { s.R, s.N = 0, 81 }, ""},
		{func(s *Structured) { s.K = 1 }, "k = 1 classes"},
		{func(s *Structured) { s.D = 9 }, "d = 9 < 2k = 10"},
		{func(s *Structured) { s.D = 1 << 20 }, "at most 4096"},
		{func(s *Structured) { s.P = 0 }, "p = 0"},
		{func(s *Structured) { s.R = -1; s.N = 82 }, "r = -1"},
		{func(s *Structured) { s.N = 79 }, "r + n = 1 + 79 is not p = 81"},
		{func(s *Structured) { s.Alpha = 0 }, "alpha = 0"},
		{func(s *Structured) { s.Beta = math.Inf(1) }, "beta = +Inf"},
		{func(s *Structured) { s.Jitter = 1 }, "jitter = 1"},
		{func(s *Structured) { s.Jitter = math.NaN() }, "jitter = NaN"},
		{func(s *Structured) { s.NoiseStd = math.NaN() }, "noise standard deviation = NaN"},
		{func(s *Structured) { s.TrainN = 4 }, "4 training"},
		{func(s *Structured) { s.TestN = 1 << 30 }, "exceed"},
		{func(s *Structured) { *s = Structured{} }, "k = 0 classes"},
	} {
		s := DefaultStructured()
		c.change(&s)
		wantError(t, s.Validate(), c.err)
	}
}
