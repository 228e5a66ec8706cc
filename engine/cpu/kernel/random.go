package kernel

import "temper/engine/rng"

// Words stores the words of a draw for len(dst) elements from first on.
func Words(dst []uint32, d rng.Draw, first uint32) { active.words(dst, d, first) }

// words computes each block of four once.
func words(dst []uint32, d rng.Draw, first uint32) {
	for len(dst) > 0 {
		block := d.Block(first >> 2)
		n := copy(dst, block[first&3:])
		dst, first = dst[n:], first+uint32(n)
	}
}
