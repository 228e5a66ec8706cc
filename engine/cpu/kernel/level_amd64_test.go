package kernel

func init() {
	peaks[avx2] = struct {
		run        func(rounds int)
		operations int
	}{peakAVX2, 12 * 8 * 2}
}
