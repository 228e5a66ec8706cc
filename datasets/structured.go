package datasets

import (
	"fmt"
	"math"

	"temper/engine/rng"
)

const structuredName = "structured"

// Structured describes the patch data of Li and Li, "Adversarial Training Can
// Provably Improve Robustness" (ICLR 2025): each of K classes owns a robust
// feature u_y and a non-robust feature v_y, all 2K of them orthonormal in R^D.
// An example has P patches in R^D at random positions; R of them are
// a·Alpha·u_y + ξ and N of them b·Beta·v_y + ξ, with a, b ~ U[1-Jitter,
// 1+Jitter] drawn for each patch and ξ ~ N(0, NoiseStd²·I).
type Structured struct {
	K, D, P, R, N int
	Alpha, Beta   float64 // mean coefficients of u and v
	Jitter        float64 // relative half-width of the coefficients
	NoiseStd      float64 // standard deviation of one noise coordinate
	TrainN, TestN int     // number of examples
}

// DefaultStructured returns the reference run: 5 classes, 81 patches in R^16,
// one robust patch of coefficient 1.3 and 80 non-robust ones of 0.5.
func DefaultStructured() Structured {
	return Structured{K: 5, D: 16, P: 81, R: 1, N: 80, Alpha: 1.3, Beta: 0.5,
		Jitter: 0.1, NoiseStd: 0.03, TrainN: 40, TestN: 200}
}

// Validate returns an error that names the first constraint that s violates.
func (s Structured) Validate() error {
	const maxElements = 1 << 30
	positive := func(x float64) bool { return x > 0 && !math.IsInf(x, 1) }
	n := max(s.TrainN, s.TestN)
	violated := ""
	switch {
	case s.K < 2 || s.K > 1<<10:
		violated = fmt.Sprintf("k = %d classes, 2 to 1024 are possible", s.K)
	case s.D < 2*s.K:
		violated = fmt.Sprintf("d = %d < 2k = %d: the 2k features cannot be orthonormal", s.D, 2*s.K)
	case s.D > 1<<12:
		violated = fmt.Sprintf("d = %d dimensions, at most 4096 are possible", s.D)
	case s.P < 1 || s.R < 0 || s.N < 0:
		violated = fmt.Sprintf("p = %d, r = %d, n = %d: p must be at least 1, r and n at least 0", s.P, s.R, s.N)
	case s.R+s.N != s.P:
		violated = fmt.Sprintf("r + n = %d + %d is not p = %d", s.R, s.N, s.P)
	case !positive(s.Alpha):
		violated = fmt.Sprintf("alpha = %g must be positive and finite", s.Alpha)
	case !positive(s.Beta):
		violated = fmt.Sprintf("beta = %g must be positive and finite", s.Beta)
	case !(s.Jitter >= 0 && s.Jitter < 1):
		violated = fmt.Sprintf("jitter = %g is outside [0, 1)", s.Jitter)
	case s.NoiseStd != 0 && !positive(s.NoiseStd):
		violated = fmt.Sprintf("noise standard deviation = %g must be finite and at least 0", s.NoiseStd)
	case s.TrainN < s.K || s.TestN < s.K:
		violated = fmt.Sprintf("%d training and %d test examples: each must be at least k = %d", s.TrainN, s.TestN, s.K)
	case n > maxElements/s.D/s.P:
		violated = fmt.Sprintf("%d examples of %dx%d exceed %d elements", n, s.D, s.P, maxElements)
	default:
		return nil
	}
	return fmt.Errorf("structured data: %s", violated)
}

// Patches is a structured set with its ground truth. As an image an example is
// (C=D, H=1, W=P): a 1×1 convolution acts on each patch alone.
type Patches struct {
	*Set
	U, V   [][]float64 // (K,D): the robust and the non-robust features
	Robust [][]bool    // (examples, P): whether a patch carries u
}

// Generate draws the training and the test set. Features, labels, positions,
// coefficients and noise come from separate random streams, and every example
// from its own, so that features do not change with the sizes, nor positions,
// coefficients and noise of an example with the number of others. Labels are
// balanced to within one example.
func (s Structured) Generate(seed uint32) (train, test *Patches, err error) {
	if err := s.Validate(); err != nil {
		return nil, nil, err
	}
	f := orthonormal(2*s.K, s.D, rng.NewStream(seed, "structured.features", 0))
	u, v := f[:s.K], f[s.K:]
	if train, err = s.draw(seed, Train, s.TrainN, u, v); err != nil {
		return nil, nil, err
	}
	test, err = s.draw(seed, Test, s.TestN, u, v)
	return train, test, err
}

// draw makes one split of n examples.
func (s Structured) draw(seed uint32, split Split, n int, u, v [][]float64) (*Patches, error) {
	part := uint32(0)
	if split == Test {
		part = 1
	}
	labels := make([]int32, n)
	for i, j := range rng.NewStream(seed, "structured.labels", part).Perm(n) {
		labels[i] = int32(j % s.K)
	}
	x := make([]float32, n*s.D*s.P)
	robust := make([][]bool, n)
	for i, y := range labels {
		index := 2*uint32(i) + part
		robust[i] = choose(s.R, s.P, rng.NewStream(seed, "structured.positions", index))
		coef := rng.NewStream(seed, "structured.coefficients", index)
		noise := rng.NewStream(seed, "structured.noise", index)
		example := x[i*s.D*s.P : (i+1)*s.D*s.P] // (D,P)
		for p := range s.P {
			feature, mean := v[y], s.Beta
			if robust[i][p] {
				feature, mean = u[y], s.Alpha
			}
			// The conversions forbid fused multiply-add: the same bits everywhere.
			c := float64(mean * (1 + float64(s.Jitter*(2*float64(coef.Uniform())-1))))
			for d := range s.D {
				example[d*s.P+p] = float32(float64(c*feature[d]) + float64(s.NoiseStd*float64(noise.Normal())))
			}
		}
	}
	info := Info{Name: structuredName, Split: split, DType: Float32, Channels: s.D, Height: 1, Width: s.P, Classes: numbered(s.K)}
	set, err := NewSet(info, Values{F32: x}, labels)
	if err != nil {
		return nil, err
	}
	return &Patches{Set: set, U: u, V: v, Robust: robust}, nil
}

// choose marks r of p positions, every choice equally likely.
func choose(r, p int, s *rng.Stream) []bool {
	mark := make([]bool, p)
	for _, i := range s.Perm(p)[:r] {
		mark[i] = true
	}
	return mark
}

// orthonormal returns n orthonormal vectors of R^d, uniformly distributed:
// normal vectors through Gram–Schmidt, twice, so that rounding of the first
// pass is removed by the second.
func orthonormal(n, d int, s *rng.Stream) [][]float64 {
	basis := make([][]float64, 0, n)
	for len(basis) < n {
		w := make([]float64, d)
		for i := range w {
			w[i] = float64(s.Normal())
		}
		for range 2 {
			for _, b := range basis {
				c := dot(w, b)
				for i := range w {
					w[i] -= float64(c * b[i])
				}
			}
		}
		norm := math.Sqrt(dot(w, w))
		if norm < 1e-6 {
			continue // the draw lies in the span of the others
		}
		for i := range w {
			w[i] /= norm
		}
		basis = append(basis, w)
	}
	return basis
}

func dot(a, b []float64) float64 {
	sum := 0.0
	for i := range a {
		sum += float64(a[i] * b[i])
	}
	return sum
}
