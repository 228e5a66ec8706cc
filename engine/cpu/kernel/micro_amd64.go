package kernel

func avx2Micro() *micro[float32] {
	type tile = func(n, k int, a, b, c []float32, ldc, beta int)
	type gather = func(n, width, stride int, starts, offs, to []int, a, b, c []float32, nextB, nextC, cols, beta int)
	return &micro[float32]{
		mr: 6, nr: 16,
		tiles:     []tile{nil, tile1AVX2, tile2AVX2, tile3AVX2, tile4AVX2, tile5AVX2, tile6AVX2},
		gathers:   []gather{nil, gather1AVX2, gather2AVX2, gather3AVX2, gather4AVX2, gather5AVX2, gather6AVX2},
		columns:   Lanes,
		copyPanel: copyPanelAVX2,
		copyLanes: copyPanelAVX2,
		transpose: transposeTail,
		winograd: winogradTransforms[float32]{
			input: winogradInputAVX2, delta: winogradDeltaAVX2, output: winogradOutputAVX2,
			filter: winogradFilterAVX2, filterGrad: winogradFilterGradAVX2,
		},
		winograd5: winogradTransforms[float32]{
			input: winogradInput5AVX2, delta: winogradDelta5AVX2, output: winogradOutput5AVX2,
			filter: taps5[float32]().filterPoints, filterGrad: taps5[float32]().filterTaps,
		},
		folds:   [...]func(n int, elements []int, p []float32, step int, dst []float32, dstStep int){nil, fold1AVX2, fold2AVX2, fold3AVX2, fold4AVX2},
		pooled:  [...]pooledLoop[float32]{nil, pooled1AVX2, pooled2AVX2, pooled3AVX2, pooled4AVX2, pooled5AVX2, pooled6AVX2, pooled7AVX2, pooled8AVX2},
		addRows: addRowsAVX2,
	}
}

// avx512Micro has no transposition of its own: its tiles are as high as that of
// AVX2.
func avx512Micro() *micro[float32] {
	m := avx2Micro()
	m.mr, m.nr = 8, 32
	m.tiles = []func(n, k int, a, b, c []float32, ldc, beta int){nil,
		tile1AVX512, tile2AVX512, tile3AVX512, tile4AVX512, tile5AVX512, tile6AVX512, tile7AVX512, tile8AVX512}
	m.gathers = []func(n, width, stride int, starts, offs, to []int, a, b, c []float32, nextB, nextC, cols, beta int){nil,
		gather1AVX512, gather2AVX512, gather3AVX512, gather4AVX512, gather5AVX512, gather6AVX512, gather7AVX512, gather8AVX512}
	m.columns = 2 * Lanes
	m.copyPanel = copyPanelAVX512
	m.winograd = winogradTransforms[float32]{
		input: winogradInputAVX512, delta: winogradDeltaAVX512, output: winogradOutputAVX512,
		filter: winogradFilterAVX512, filterGrad: winogradFilterGradAVX512,
	}
	m.winograd5.input, m.winograd5.delta, m.winograd5.output = winogradInput5AVX512, winogradDelta5AVX512, winogradOutput5AVX512
	return m
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
