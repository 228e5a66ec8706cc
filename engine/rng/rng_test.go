package rng

import (
	"math"
	"testing"
)

// The known-answer vectors that the authors of Philox publish with Random123.
func TestPublishedVectors(t *testing.T) {
	const f = 0xffffffff
	for _, c := range []struct {
		ctr  [4]uint32
		key  [2]uint32
		want [4]uint32
	}{
		{[4]uint32{}, [2]uint32{}, [4]uint32{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
		{[4]uint32{f, f, f, f}, [2]uint32{f, f}, [4]uint32{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
		{[4]uint32{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, [2]uint32{0xa4093822, 0x299f31d0},
			[4]uint32{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
	} {
		if got := Block(c.key, c.ctr); got != c.want {
			t.Errorf("Block(%x, %x) = %x, want %x", c.key, c.ctr, got, c.want)
		}
	}
}

func TestStreamIsTheDraw(t *testing.T) {
	s := NewStream(7, "here", 3)
	d := Draw{Seed: 7, Site: Site("here"), Step: 3}
	for i := range uint32(9) {
		if got, want := s.Uint32(), d.Word(i); got != want {
			t.Fatalf("word %d: %x, want %x", i, got, want)
		}
	}
}

func TestUniformRange(t *testing.T) {
	if got := Uniform(0xffffffff); got != 1-0x1p-24 {
		t.Errorf("largest uniform is %v", got)
	}
	if got := Uniform(0xff); got != 0 {
		t.Errorf("smallest uniform is %v", got)
	}
}

// Normal must be the inverse of the distribution function, not merely have
// the right moments: each tested word is mapped back through erfc.
func TestNormalInvertsTheDistribution(t *testing.T) {
	for m := uint32(0); m < 1<<23; m += 997 {
		p := (float64(m) + 0.5) / (1 << 24)
		z := float64(Normal(m << 9))
		if z < 0 || Normal(m<<9|0x100) != -float32(z) {
			t.Fatalf("Normal(%#x) = %v: the sign bit does not mirror it", m<<9, z)
		}
		want := math.Sqrt2 * math.Erfinv(1-2*p)
		if math.Abs(z-want) > 4e-7*math.Max(1, want) {
			t.Fatalf("Normal at tail probability %g = %v, want %v", p, z, want)
		}
	}
}

func TestNormalTail(t *testing.T) {
	if z := Normal(0); z < 5.2 || z > 5.5 {
		t.Errorf("largest normal is %v", z)
	}
}

func TestMoments(t *testing.T) {
	s := NewStream(1, "moments", 0)
	const n = 1 << 18
	var m1, m2, m4 float64
	for range n {
		z := float64(s.Normal())
		m1, m2, m4 = m1+z, m2+z*z, m4+z*z*z*z
	}
	if m := m1 / n; math.Abs(m) > 0.008 {
		t.Errorf("mean %v", m)
	}
	if v := m2 / n; math.Abs(v-1) > 0.012 {
		t.Errorf("variance %v", v)
	}
	if k := m4 / n; math.Abs(k-3) > 0.12 {
		t.Errorf("fourth moment %v", k)
	}
}

func TestPermIsUniform(t *testing.T) {
	s := NewStream(2, "perm", 0)
	count := map[[3]int]int{}
	const n = 6000
	for range n {
		p := s.Perm(3)
		count[[3]int(p)]++
	}
	if len(count) != 6 {
		t.Fatalf("%d of 6 permutations seen", len(count))
	}
	for p, c := range count {
		if c < n/6-150 || c > n/6+150 {
			t.Errorf("permutation %v drawn %d times of %d", p, c, n)
		}
	}
}
