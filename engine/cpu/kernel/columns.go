package kernel

// columns are the kernels of matrices whose columns are channels: sums and
// look-ups down the rows, one lane a channel.
type columns struct {
	add    func(acc []float64, v []float32)
	sum    func(a []float32) float64
	max    func(at []int32, top, image []float32, w *Windows)
	spread func(image, v []float32, at []int32, w *Windows)
	gather func(dst []uint32, at []int32, src []uint32, columns, limit int)
}

// AddColumns adds each row of v (rows, len(acc)) to acc, in order.
func AddColumns(acc []float64, v []float32) { active.columns.add(acc, v) }

// Sum64 adds up v in float64.
func Sum64(v []float32) float64 { return active.columns.sum(v) }

// Windows is a row of n windows of an image whose pixels have so many channels.
// Taps holds two numbers for each element of the first window: where its
// channels begin in the image, and its number. From window to window they grow
// by Step and by Next.
type Windows struct {
	N, Channels int
	Taps        []int32
	Step, Next  int
}

// MaxTaps finds, for every window and channel, which of its elements is the
// first largest, NaN above all: its number is stored in at (N,Channels) and,
// unless top is nil, its value in top.
func MaxTaps(at []int32, top, image []float32, w *Windows) {
	w.check(len(at), len(image))
	if top != nil {
		top = top[:w.N*w.Channels]
	}
	active.columns.max(at, top, image, w)
}

// SpreadTaps undoes MaxTaps: of a window's elements, channel i of the one whose
// number is at[i] becomes v[i], and the others' become 0.
func SpreadTaps(image, v []float32, at []int32, w *Windows) {
	w.check(min(len(v), len(at)), len(image))
	active.columns.spread(image, v, at, w)
}

// check panics where slices are too short. Taps lie at rising places.
func (w *Windows) check(values, image int) {
	last := int(w.Taps[len(w.Taps)-2]) + (w.N-1)*w.Step + w.Channels
	if values < w.N*w.Channels || image < last {
		panic("BUG: kernel: windows reach behind the image")
	}
}

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
	max: func(at []int32, top, image []float32, w *Windows) {
		for i := range w.N * w.Channels {
			j, c := i/w.Channels, i%w.Channels
			best, most := w.Taps[1], image[int(w.Taps[0])+j*w.Step+c]
			for t := 2; t < len(w.Taps); t += 2 {
				if v := image[int(w.Taps[t])+j*w.Step+c]; v > most || v != v && most == most {
					best, most = w.Taps[t+1], v
				}
			}
			at[i] = best + int32(j*w.Next)
			if top != nil {
				top[i] = most
			}
		}
	},
	spread: func(image, v []float32, at []int32, w *Windows) {
		for i := range w.N * w.Channels {
			j, c := i/w.Channels, i%w.Channels
			for t := 0; t < len(w.Taps); t += 2 {
				x := v[i]
				if at[i] != w.Taps[t+1]+int32(j*w.Next) {
					x = 0
				}
				image[int(w.Taps[t])+j*w.Step+c] = x
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
