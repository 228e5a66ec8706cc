package kernel

// columns are the kernels of matrices whose columns are channels: sums and
// look-ups down the rows, one lane a channel.
type columns struct {
	add    func(acc []float64, v []float32)
	sum    func(a []float32) float64
	argMax func(dst []int32, src []float32, taps []int32)
	spread func(dst, v []float32, at, taps []int32)
	gather func(dst []uint32, at []int32, src []uint32, columns, limit int)
}

// AddColumns adds each row of v (rows, len(acc)) to acc, in order.
func AddColumns(acc []float64, v []float32) { active.columns.add(acc, v) }

// Sum64 adds up v in float64.
func Sum64(v []float32) float64 { return active.columns.sum(v) }

// ArgMaxTaps finds, for every channel of dst, which of a window's elements is
// the first largest, NaN above all. Taps holds two numbers for each element of
// the window: where its channels begin in src, and the number to store.
func ArgMaxTaps(dst []int32, src []float32, taps []int32) { active.columns.argMax(dst, src, taps) }

// SpreadTaps undoes ArgMaxTaps: of a window's elements, channel i of the one
// whose number is at[i] becomes v[i], and the others' become 0.
func SpreadTaps(dst, v []float32, at, taps []int32) { active.columns.spread(dst, v, at, taps) }

// GatherRows is dst[k][i] = src[at[k][i]][i] for matrices of so many columns;
// indices are clamped to 0 … limit.
func GatherRows(dst []uint32, at []int32, src []uint32, columns, limit int) {
	if len(src) < (limit+1)*columns || len(at) < len(dst) {
		panic("BUG: kernel: gather from too short a matrix")
	}
	active.columns.gather(dst, at, src, columns, limit)
}

// wideLanes is the number of partial sums of Sum64, at every level.
const wideLanes = 16

// joinWide adds what did not fill the lanes, then the lanes.
func joinWide(lanes *[wideLanes]float64, rest []float32) float64 {
	sum := 0.0
	for _, x := range rest {
		sum += float64(x)
	}
	for _, x := range lanes {
		sum += x
	}
	return sum
}

var portableColumns = columns{
	add: func(acc []float64, v []float32) {
		for ; len(v) >= len(acc); v = v[len(acc):] {
			for i, x := range v[:len(acc)] {
				acc[i] += float64(x)
			}
		}
	},
	sum: func(a []float32) float64 {
		var lanes [wideLanes]float64
		whole := len(a) &^ (wideLanes - 1)
		for i, x := range a[:whole] {
			lanes[i%wideLanes] += float64(x)
		}
		return joinWide(&lanes, a[whole:])
	},
	argMax: func(dst []int32, src []float32, taps []int32) {
		for c := range dst {
			best, top := taps[1], src[int(taps[0])+c]
			for t := 2; t < len(taps); t += 2 {
				if v := src[int(taps[t])+c]; v > top || v != v && top == top {
					best, top = taps[t+1], v
				}
			}
			dst[c] = best
		}
	},
	spread: func(dst, v []float32, at, taps []int32) {
		for t := 0; t < len(taps); t += 2 {
			for i, x := range v {
				if at[i] != taps[t+1] {
					x = 0
				}
				dst[int(taps[t])+i] = x
			}
		}
	},
	gather: func(dst []uint32, at []int32, src []uint32, columns, limit int) {
		for k := 0; k < len(dst); k += columns {
			for i := range columns {
				dst[k+i] = src[min(max(int(at[k+i]), 0), limit)*columns+i]
			}
		}
	},
}
