package kernel

import "temper/engine/rng"

// Words stores the words of a draw for len(dst) elements from first on. A
// block of four words is computed once.
func Words(dst []uint32, d rng.Draw, first uint32) {
	for len(dst) > 0 {
		block := d.Block(first >> 2)
		n := copy(dst, block[first&3:])
		dst, first = dst[n:], first+uint32(n)
	}
}

// Uniform stores U[0, 1) draws: rng.Uniform of the words.
func Uniform(dst []float32, d rng.Draw, first uint32) {
	fromWords(dst, d, first, rng.Uniform)
}

// Normal stores N(0, 1) draws: rng.Normal of the words.
func Normal(dst []float32, d rng.Draw, first uint32) {
	fromWords(dst, d, first, rng.Normal)
}

func fromWords(dst []float32, d rng.Draw, first uint32, of func(uint32) float32) {
	var words [64]uint32
	for len(dst) > 0 {
		n := min(len(dst), len(words))
		Words(words[:n], d, first)
		for i, w := range words[:n] {
			dst[i] = of(w)
		}
		dst, first = dst[n:], first+uint32(n)
	}
}
