package kernel

import "testing"

// BenchmarkPeak is the ceiling of the matrix kernels: multiply-adds on
// registers, on all workers.
func BenchmarkPeak(b *testing.B) {
	if !avx2.supported {
		b.Skip("no AVX2")
	}
	p := newPool(b, 0)
	const rounds = 4096
	burn := func(_, _ int) { peakAVX2(rounds) }
	measure(b, float64(p.Workers()*rounds*12*8*2), func() { p.Run(p.Workers(), burn) })
}
