package kernel

var avx2Columns = columns{add: addColumnsWhole, sum: sumWide, max: maxTaps, spread: spreadTaps, gather: gatherPieces}

// addColumnsWhole does multiples of 8 columns in assembly and the rest here.
func addColumnsWhole(acc []float64, v []float32) {
	n := len(acc)
	whole := n &^ 7
	rows := len(v) / n
	for step := max(1, pieceLen/n); rows > 0 && whole > 0; rows -= step {
		k := min(rows, step)
		addColumnsAVX2(acc[:whole], v, k, n)
		for c := whole; c < n; c++ {
			for r := range k {
				acc[c] += float64(v[r*n+c])
			}
		}
		v = v[k*n:]
	}
	if whole == 0 {
		portableColumns.add(acc, v)
	}
}

func maxTaps(at []int32, top, image []float32, w *Windows) {
	maxTapsAVX2(w.N, at, top, image, w.Taps, w.Channels, w.Step, w.Next)
}

func spreadTaps(image, v []float32, at []int32, w *Windows) {
	spreadTapsAVX2(w.N, image, v, at, w.Taps, w.Channels, w.Step, w.Next)
}

func sumWide(a []float32) float64 {
	var lanes [wideLanes]float64
	whole := len(a) &^ (wideLanes - 1)
	inPieces(whole, func(i, j int) { addWideAVX2(lanes[:], a[i:j]) })
	return joinWide(&lanes, a[whole:])
}

func gatherPieces(dst []uint32, at []int32, src []uint32, columns, limit int) {
	step := max(1, pieceLen/columns) * columns
	for ; len(dst) > 0; dst, at = dst[min(step, len(dst)):], at[min(step, len(at)):] {
		gatherRowsAVX2(dst[:min(step, len(dst))], at, src, columns, limit)
	}
}
