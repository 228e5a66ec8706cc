package optest

import (
	"math"
	"slices"

	"temper/engine/graph"
	"temper/engine/rng"
)

// gen draws n elements for a tensor of type t. The caller rounds them to t.
type gen func(s *rng.Stream, t graph.DType, n int) []float64

// draws makes the elements one by one.
func draws(f func(s *rng.Stream) float64) gen {
	return func(s *rng.Stream, _ graph.DType, n int) []float64 {
		x := make([]float64, n)
		for i := range x {
			x[i] = f(s)
		}
		return x
	}
}

func uniform(lo, hi float64) gen {
	return draws(func(s *rng.Stream) float64 { return lo + (hi-lo)*float64(s.Uniform()) })
}

// away is uniform on [lo, hi] but for the multiples of every, from which it
// keeps a distance of 0.1: kinks and jumps.
func away(every, lo, hi float64) gen {
	return draws(func(s *rng.Stream) float64 {
		for {
			v := lo + (hi-lo)*float64(s.Uniform())
			if math.Abs(v-every*math.Round(v/every)) >= 0.1 {
				return v
			}
		}
	})
}

// apart draws elements in random order that are all at least a distance of
// gap apart, shifted by a fraction of the gap: no ties, no near ties.
func apart(gap, shift float64) gen {
	return func(s *rng.Stream, _ graph.DType, n int) []float64 {
		x := make([]float64, n)
		for i, k := range s.Perm(n) {
			x[i] = (float64(k-n/2) + shift) * gap
		}
		return x
	}
}

// ints is uniform on lo … hi.
func ints(lo, hi int) gen {
	return draws(func(s *rng.Stream) float64 { return float64(lo + s.IntN(hi-lo+1)) })
}

// words are any 32 bits.
func words() gen { return draws(func(s *rng.Stream) float64 { return float64(s.Uint32()) }) }

// list repeats the values.
func list(v ...float64) gen {
	return func(_ *rng.Stream, _ graph.DType, n int) []float64 {
		return slices.Repeat(v, n/len(v)+1)[:n]
	}
}

// values suits the type: what an operation that only moves elements is fed.
func values() gen {
	return func(s *rng.Stream, t graph.DType, n int) []float64 {
		switch {
		case t.Float():
			return uniform(-1, 2)(s, t, n)
		case t == graph.Bool:
			return ints(0, 1)(s, t, n)
		case t == graph.I32:
			return draws(func(s *rng.Stream) float64 { return float64(int32(s.Uint32())) })(s, t, n)
		}
		return draws(func(s *rng.Stream) float64 { return float64(s.Uint32() % 256) })(s, t, n)
	}
}

// special are the values at which code goes wrong, of each type. There are
// nSpecial of them; shorter lists repeat.
func special() gen {
	return func(s *rng.Stream, t graph.DType, n int) []float64 { return list(specials(t)...)(s, t, n) }
}

const nSpecial = 24

func specials(t graph.DType) []float64 {
	inf := math.Inf(1)
	tiny, normal, large := 0x1p-149, 0x1p-126, math.MaxFloat32
	switch t {
	case graph.I32:
		return []float64{math.MinInt32, math.MinInt32 + 1, -65537, -33, -5, -1, 0, 1, 2, 7, 31, 32, 33, 65537, math.MaxInt32}
	case graph.U32:
		return []float64{0, 1, 2, 7, 31, 32, 33, 65537, 1 << 31, math.MaxUint32 - 1, math.MaxUint32}
	case graph.U8:
		return []float64{0, 1, 2, 7, 8, 9, 127, 128, 200, 255}
	case graph.Bool:
		return []float64{0, 1}
	case graph.F64:
		tiny, normal, large = 0x1p-1074, 0x1p-1022, math.MaxFloat64
	case graph.BF16:
		tiny, large = 0x1p-133, 0x1.fep127
	}
	return []float64{
		math.NaN(), inf, -inf, 0, math.Copysign(0, -1), tiny, -tiny, normal, -normal, normal / 2, large, -large,
		1, -1, 0.5, -0.5, 2, -2, 1.5, -2.5, 3, -3, 1e-3, -100,
	}
}
