package kernel

// The portable tile is 4 rows by 8 columns: one row's sums and an element of
// A fit the registers of any 64-bit processor.
const (
	portableMR = 4
	portableNR = 8
)

func portableMicro[T Float]() *micro[T] {
	m := &micro[T]{
		mr: portableMR, nr: portableNR,
		tiles:     make([]func(n, k int, a, b, c []T, ldc, beta int), portableMR+1),
		gathers:   make([]func(n, width, stride int, starts, offs, to []int, a, b, c []T, nextB, nextC, cols, beta int), portableMR+1),
		columns:   Lanes,
		copyPanel: copyPanel[T],
		copyLanes: copyLanes[T],
		transpose: transpose[T],
		winograd:  portableWinograd(taps3[T]()),
		winograd5: portableWinograd(taps5[T]()),
	}
	for c := 1; c <= MaxPatchChannels; c++ {
		m.folds[c] = fold[T](c)
	}
	m.addRows = addRows[T]
	for k := 1; k <= patchVectors; k++ {
		m.pooled[k] = pooled[T]
	}
	for h := 1; h <= portableMR; h++ {
		m.tiles[h] = func(n, k int, a, b, c []T, ldc, beta int) {
			for t := range n {
				for r := range h {
					mulRow(k, a[t*k*portableMR+r:], b, (*[portableNR]T)(c[(t*h+r)*ldc:]), beta)
				}
			}
		}
		m.gathers[h] = gatherRows[T]
	}
	return m
}

// mulRow computes one row of a tile; a holds its elements portableMR apart.
func mulRow[T Float](k int, a, b []T, c *[portableNR]T, beta int) {
	var s0, s1, s2, s3, s4, s5, s6, s7 T
	for i := range k {
		v, w := a[i*portableMR], (*[portableNR]T)(b[i*portableNR:])
		s0 += v * w[0]
		s1 += v * w[1]
		s2 += v * w[2]
		s3 += v * w[3]
		s4 += v * w[4]
		s5 += v * w[5]
		s6 += v * w[6]
		s7 += v * w[7]
	}
	if beta == 0 {
		*c = [portableNR]T{s0, s1, s2, s3, s4, s5, s6, s7}
		return
	}
	for j, s := range [portableNR]T{s0, s1, s2, s3, s4, s5, s6, s7} {
		c[j] += s
	}
}

// gatherRows computes row after row, half a panel at a time.
func gatherRows[T Float](n, width, stride int, starts, offs, to []int, a, b, c []T, _, _, cols, beta int) {
	for r, off := range offs {
		for half := 0; half < cols; half += portableNR {
			var s0, s1, s2, s3, s4, s5, s6, s7 T
			w := b[half:]
			for _, start := range starts {
				v := a[start+off:]
				for i := range width {
					x, p := v[i*stride], (*[portableNR]T)(w)
					w = w[min(len(w), Lanes):]
					s0 += x * p[0]
					s1 += x * p[1]
					s2 += x * p[2]
					s3 += x * p[3]
					s4 += x * p[4]
					s5 += x * p[5]
					s6 += x * p[6]
					s7 += x * p[7]
				}
			}
			sums := [portableNR]T{s0, s1, s2, s3, s4, s5, s6, s7}
			d := c[to[r]+half:][:min(portableNR, cols-half)]
			if beta == 0 {
				copy(d, sums[:])
				continue
			}
			for j := range d {
				d[j] += sums[j]
			}
		}
	}
}

func copyPanel[T Float](k int, dst, src []T, stride int) {
	for i := range k {
		*(*[portableNR]T)(dst[i*portableNR:]) = *(*[portableNR]T)(src[i*stride:])
	}
}

func copyLanes[T Float](k int, dst, src []T, stride int) {
	for i := range k {
		*(*[Lanes]T)(dst[i*Lanes:]) = *(*[Lanes]T)(src[i*stride:])
	}
}

func transpose[T Float](rows, n int, dst []T, dstStride int, src []T, srcStride int) {
	for r := range rows {
		for k, v := range src[r*srcStride:][:n] {
			dst[k*dstStride+r] = v
		}
	}
}
