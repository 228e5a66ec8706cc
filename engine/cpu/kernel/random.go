package kernel

import "temper/engine/rng"

// randomFill is a level's set of fills with random numbers.
type randomFill struct {
	words   func(dst []uint32, d rng.Draw, first uint32)
	uniform func(dst []float32, d rng.Draw, first uint32)
	normal  func(dst []float32, d rng.Draw, first uint32)
}

var portableRandom = randomFill{words: words, uniform: uniform, normal: normal}

// Words stores the words of a draw for len(dst) elements from first on.
func Words(dst []uint32, d rng.Draw, first uint32) { active.random.words(dst, d, first) }

// Uniform stores U[0, 1) draws: rng.Uniform of the words.
func Uniform(dst []float32, d rng.Draw, first uint32) { active.random.uniform(dst, d, first) }

// Normal stores N(0, 1) draws: rng.Normal of the words.
func Normal(dst []float32, d rng.Draw, first uint32) { active.random.normal(dst, d, first) }

// words computes each block of four once.
func words(dst []uint32, d rng.Draw, first uint32) {
	for len(dst) > 0 {
		block := d.Block(first >> 2)
		n := copy(dst, block[first&3:])
		dst, first = dst[n:], first+uint32(n)
	}
}

func uniform(dst []float32, d rng.Draw, first uint32) {
	var buf [4]uint32
	for len(dst) > 0 {
		n := min(len(dst), len(buf)-int(first&3))
		words(buf[:n], d, first)
		for i, w := range buf[:n] {
			dst[i] = rng.Uniform(w)
		}
		dst, first = dst[n:], first+uint32(n)
	}
}

func normal(dst []float32, d rng.Draw, first uint32) {
	var buf [4]uint32
	for len(dst) > 0 {
		n := min(len(dst), len(buf)-int(first&3))
		words(buf[:n], d, first)
		for i, w := range buf[:n] {
			dst[i] = rng.Normal(w)
		}
		dst, first = dst[n:], first+uint32(n)
	}
}
