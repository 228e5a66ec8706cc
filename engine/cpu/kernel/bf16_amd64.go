package kernel

var avx2Halves = halves{
	round: func(dst []BF16, src []float32) {
		whole := len(dst) &^ 15
		inPieces(whole, func(i, j int) { roundAVX2(dst[i:j], src[i:j]) })
		portableHalves.round(dst[whole:], src[whole:])
	},
	widen: func(dst []float32, src []BF16) {
		whole := len(dst) &^ 15
		inPieces(whole, func(i, j int) { widenAVX2(dst[i:j], src[i:j]) })
		portableHalves.widen(dst[whole:], src[whole:])
	},
}

// amxPairs has the matrix tiles' loop; what moves words about is AVX2.
var amxPairs = &pairs{multiply: multiplyAMX, interleave: interleaveAVX2, transpose: transposeTail}
