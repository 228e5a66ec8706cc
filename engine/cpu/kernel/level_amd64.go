package kernel

import "golang.org/x/sys/cpu"

// levels lists the kernel sets of this build, best first.
var levels = []*level{avx2, portable}

// avx2 is the level of processors with 256-bit vectors and fused
// multiply-add (x86-64-v3).
var avx2 = &level{
	name:      "avx2",
	supported: cpu.X86.HasAVX2 && cpu.X86.HasFMA,
	f32:       avx2Micro(),
	f64:       portableMicro[float64](),
	v32:       avx2Vector(),
	v64:       portableVector[float64](),
	masks:     avx2Masks,
	random:    avx2Random,
	columns:   avx2Columns,
	peak:      peakAVX2,
}
