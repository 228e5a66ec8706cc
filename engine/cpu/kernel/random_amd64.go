package kernel

import "temper/engine/rng"

// wordsAVX2 computes eight blocks at a time, and single ones at either end.
func wordsAVX2(dst []uint32, d rng.Draw, first uint32) {
	head := min(len(dst), int(-first&3))
	words(dst[:head], d, first)
	dst, first = dst[head:], first+uint32(head)
	whole := len(dst) &^ 31
	if uint64(first)+uint64(whole) > 1<<32 {
		whole = 0 // elements start again from 0: leave that to Go
	}
	state := [...]uint32{d.Seed, d.Site, d.ID, d.Step, d.Iter, first >> 2}
	for i := 0; i < whole; i += pieceLen {
		n := min(pieceLen, whole-i)
		philoxAVX2(dst[i:i+n], state[:])
		state[5] += uint32(n / 4)
	}
	words(dst[whole:], d, first+uint32(whole))
}
