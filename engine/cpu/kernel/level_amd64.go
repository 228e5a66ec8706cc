package kernel

import "golang.org/x/sys/cpu"

// levels lists the kernel sets of this build, best first.
var levels = []*level{amx, avx512, avx2, portable}

// amx is avx512 with products of bf16 on matrix tiles. The tiles' loop has not
// run yet, on no processor: a disassembler reads its bytes as meant, and what
// feeds it is tested with its portable twin.
var amx = func() *level {
	l := *avx512
	l.name, l.pairs = "amx", amxPairs
	l.supported = avx512.supported && cpu.X86.HasAMXTile && cpu.X86.HasAMXBF16 && permitTiles()
	return &l
}()

// avx512 is the level of processors with 512-bit vectors (x86-64-v4). Matrix
// products and convolutions use them; what is bound by memory stays with AVX2.
// So far it has run on an emulated processor only, which passes TestGemm,
// TestConv and TestConvSpecialValues; its speed is not known.
var avx512 = &level{
	name:      "avx512",
	supported: cpu.X86.HasAVX512F && cpu.X86.HasAVX512DQ && cpu.X86.HasAVX512BW && cpu.X86.HasAVX512VL && avx2.supported,
	f32:       avx512Micro(),
	f64:       avx2.f64,
	v32:       avx2.v32,
	v64:       avx2.v64,
	words:     avx2.words,
	columns:   avx2.columns,
	chain:     avx2.chain,
	halves:    avx2.halves,
	peak:      func(rounds int) { peakAVX512(rounds / 2) }, // of twice as many lanes
}

// avx2 is the level of processors with 256-bit vectors and fused
// multiply-add (x86-64-v3).
var avx2 = &level{
	name:      "avx2",
	supported: cpu.X86.HasAVX2 && cpu.X86.HasFMA,
	f32:       avx2Micro(),
	f64:       portableMicro[float64](),
	v32:       avx2Vector(),
	v64:       portableVector[float64](),
	words:     wordsAVX2,
	columns:   avx2Columns,
	chain:     chainAVX2,
	halves:    avx2Halves,
	peak:      peakAVX2,
}
