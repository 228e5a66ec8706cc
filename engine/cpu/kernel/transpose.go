package kernel

// Transpose stores src (cols, rows), a matrix whose rows lie ld apart, as
// dst (rows, cols).
func Transpose(dst, src []float32, rows, cols, ld int) {
	if rows == 0 || cols == 0 {
		return
	}
	checkLen("transpose", len(dst), rows*cols)
	checkLen("transpose", len(src), (cols-1)*ld+rows)
	whole := cols &^ 7
	for c := 0; c < whole; c += 8 {
		active.f32.transpose(8, rows, dst[c:], cols, src[c*ld:], ld)
	}
	if whole < cols {
		transpose(cols-whole, rows, dst[whole:], cols, src[whole*ld:], ld)
	}
}
