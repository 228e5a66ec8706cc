package kernel

// keepMaxTail leaves to Go what does not fill a vector.
func keepMaxTail(top []float32, at []int32, v []float32, index int32) {
	whole := len(top) &^ 7
	inPieces(whole, func(i, j int) { keepMaxAVX2(top[i:j], at[i:j], v[i:j], int(index)) })
	keepMax(top[whole:], at[whole:], v[whole:], index)
}
