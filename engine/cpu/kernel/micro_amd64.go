package kernel

func avx2Micro() *micro[float32] {
	type tile = func(n, k int, a, b, c []float32, ldc, beta int)
	type gather = func(n, width, stride int, starts, offs, to []int, a, b, c []float32, cols, beta int)
	return &micro[float32]{
		mr: 6, nr: 16,
		tiles:     []tile{nil, tile1AVX2, tile2AVX2, tile3AVX2, tile4AVX2, tile5AVX2, tile6AVX2},
		gathers:   []gather{nil, gather1AVX2, gather2AVX2, gather3AVX2, gather4AVX2, gather5AVX2, gather6AVX2},
		copyPanel: copyPanelAVX2,
		transpose: transposeTail,
		winograd: winogradTransforms[float32]{
			input: winogradInputAVX2, delta: winogradDeltaAVX2, output: winogradOutputAVX2,
			filter: winogradFilterAVX2, filterGrad: winogradFilterGradAVX2,
		},
		folds: [...]func(n int, elements []int, p []float32, step int, dst []float32, dstStep int){nil, fold1AVX2, fold2AVX2, fold3AVX2, fold4AVX2},
	}
}

// transposeTail leaves to Go what does not fill a block of 8 elements, and
// the last elements where a block's unused lanes would pass the end of dst.
func transposeTail(rows, n int, dst []float32, dstStride int, src []float32, srcStride int) {
	whole := n &^ 7
	if rows < 8 && dstStride < 8 {
		whole = (n - 1) &^ 7
	}
	if whole > 0 {
		transposeAVX2(rows, whole, dst, dstStride, src, srcStride)
	}
	if whole < n {
		transpose(rows, n-whole, dst[whole*dstStride:], dstStride, src[whole:], srcStride)
	}
}
