package rng

import "math/bits"

// Philox constants: two multipliers and two Weyl increments of the key.
const (
	mul0, mul1   = 0xD2511F53, 0xCD9E8D57
	weyl0, weyl1 = 0x9E3779B9, 0xBB67AE85
	rounds       = 10
)

// Block returns the four words of Philox 4x32-10 for one key and counter.
func Block(key [2]uint32, ctr [4]uint32) [4]uint32 {
	for range rounds {
		h0, l0 := bits.Mul32(mul0, ctr[0])
		h1, l1 := bits.Mul32(mul1, ctr[2])
		ctr = [4]uint32{h1 ^ ctr[1] ^ key[0], l1, h0 ^ ctr[3] ^ key[1], l0}
		key[0] += weyl0
		key[1] += weyl1
	}
	return ctr
}

// Draw names one family of random words: everything but the element index.
type Draw struct {
	Seed, Site     uint32
	ID, Step, Iter uint32
}

// Block returns words 4b to 4b+3 of the draw.
func (d Draw) Block(b uint32) [4]uint32 {
	return Block([2]uint32{d.Seed, d.Site}, [4]uint32{d.ID, d.Step, d.Iter, b})
}

// Word returns the draw's word for one element.
func (d Draw) Word(element uint32) uint32 {
	return d.Block(element >> 2)[element&3]
}

// Site turns the name of a place that draws random numbers into the word that
// separates its draws from all others (FNV-1a, 32 bits).
func Site(name string) uint32 {
	h := uint32(2166136261)
	for i := range len(name) {
		h = (h ^ uint32(name[i])) * 16777619
	}
	return h
}

// Stream hands out the words of one Draw in order, for host code that wants a
// sequence (shuffles, synthetic data). It is not safe for concurrent use.
type Stream struct {
	draw Draw
	next uint32
	buf  [4]uint32
}

// NewStream starts a sequence for a seed, a named site and an index that
// separates sequences of the same site (an epoch, say).
func NewStream(seed uint32, site string, index uint32) *Stream {
	return &Stream{draw: Draw{Seed: seed, Site: Site(site), Step: index}}
}

// Uint32 returns the next word.
func (s *Stream) Uint32() uint32 {
	if s.next&3 == 0 {
		s.buf = s.draw.Block(s.next >> 2)
	}
	w := s.buf[s.next&3]
	s.next++
	if s.next == 0 {
		s.draw.Iter++
	}
	return w
}

// Uniform returns the next draw from U[0, 1).
func (s *Stream) Uniform() float32 { return Uniform(s.Uint32()) }

// Normal returns the next draw from N(0, 1).
func (s *Stream) Normal() float32 { return Normal(s.Uint32()) }

// IntN returns the next draw uniform on 0 … n-1, without modulo bias.
func (s *Stream) IntN(n int) int {
	if n <= 0 || int64(n) > 1<<32-1 {
		panic("BUG: rng.IntN: n out of range")
	}
	m := uint32(n)
	reject := -m % m // 2³² mod n: words below it would favour small results
	for {
		hi, lo := bits.Mul32(s.Uint32(), m)
		if lo >= reject {
			return int(hi)
		}
	}
}

// Perm returns a random permutation of 0 … n-1 (Fisher–Yates).
func (s *Stream) Perm(n int) []int {
	p := make([]int, n)
	for i := range p {
		j := s.IntN(i + 1)
		p[i] = p[j]
		p[j] = i
	}
	return p
}
