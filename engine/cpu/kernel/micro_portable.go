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
		gathers:   make([]func(width int, starts, offs []int, a, b, c []T, beta int), portableMR+1),
		copyPanel: copyPanel[T],
		copyRuns:  func(dst, src []T, koff []int, runs []run) { copyRuns(portableNR, dst, src, koff, runs) },
		transpose: transpose[T],
		addRows:   addRows[T],
		copyRows:  copyRows[T], spreadRows: spreadRows[T],
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

// gatherRows computes len(offs) rows one after the other.
func gatherRows[T Float](width int, starts, offs []int, a, b, c []T, beta int) {
	for r, off := range offs {
		var s0, s1, s2, s3, s4, s5, s6, s7 T
		w := b
		for _, start := range starts {
			for _, v := range a[start+off:][:width] {
				p := (*[portableNR]T)(w)
				w = w[portableNR:]
				s0 += v * p[0]
				s1 += v * p[1]
				s2 += v * p[2]
				s3 += v * p[3]
				s4 += v * p[4]
				s5 += v * p[5]
				s6 += v * p[6]
				s7 += v * p[7]
			}
		}
		to := (*[portableNR]T)(c[r*portableNR:])
		for j, s := range [portableNR]T{s0, s1, s2, s3, s4, s5, s6, s7} {
			if beta == 0 {
				to[j] = s
			} else {
				to[j] += s
			}
		}
	}
}

func copyPanel[T Float](k int, dst, src []T, stride int) {
	for i := range k {
		*(*[portableNR]T)(dst[i*portableNR:]) = *(*[portableNR]T)(src[i*stride:])
	}
}

func copyRuns[T Float](nr int, dst, src []T, koff []int, runs []run) {
	for k, o := range koff {
		for _, r := range runs {
			copy(dst[k*nr+r.col:][:r.n], src[o+r.off:])
		}
	}
}

func transpose[T Float](rows, n int, dst []T, dstStride int, src []T, srcStride int) {
	for r := range rows {
		for k, v := range src[r*srcStride:][:n] {
			dst[k*dstStride+r] = v
		}
	}
}

func addRows[T Float](rows, width int, dst []T, dstStride int, src []T, srcStride int) {
	for r := range rows {
		d, s := dst[r*dstStride:][:width], src[r*srcStride:][:width]
		for i, v := range s {
			d[i] += v
		}
	}
}

func copyRows[T Float](rows, width int, dst []T, dstStride int, src []T, srcStride, step int) {
	for r := range rows {
		d, s := dst[r*dstStride:][:width], src[r*srcStride:][:(width-1)*step+1]
		if step == 1 {
			copy(d, s)
			continue
		}
		for i := range d {
			d[i] = s[i*step]
		}
	}
}

func spreadRows[T Float](rows, width int, dst []T, dstStride, step int, src []T, srcStride int) {
	for r := range rows {
		d, s := dst[r*dstStride:][:(width-1)*step+1], src[r*srcStride:][:width]
		if step == 1 {
			copy(d, s)
			continue
		}
		for i, v := range s {
			d[i*step] = v
		}
	}
}
