package kernel

// winogradTransforms are the transforms of Winograd's F(4×4,3×3), or of
// F(2×2,5×5), which has the same points: Lavin and Gray, "Fast algorithms for
// convolutional neural networks", CVPR 2016. They work on whole panels of Lanes
// channels: the 36 points of a panel lie pointStride apart, panels lie
// panelStride apart. Here k is the number of a filter's taps along an axis, 3 or
// 5, and n = 7 - k that of a tile's results.
//
// Pixels of images are found by row: rows holds where each row of a tile
// begins in x, or outside; pixels lie step apart, and bit j of mask says that
// column j is inside. zero has room for a row and holds zeros.
type winogradTransforms[T Float] struct {
	// input writes Bᵀ·d·B for a 6×6 tile d.
	input func(panels int, rows []int, mask, step int, x, zero, dst []T, pointStride, panelStride int)

	// delta writes A·d·Aᵀ for an n×n tile d.
	delta func(panels int, rows []int, mask, step int, x, zero, dst []T, pointStride, panelStride int)

	// output writes the first height rows and width columns of Aᵀ·m·A for
	// 6×6 points m, to rows that lie rowStride and pixels that lie step apart.
	output func(panels int, src []T, pointStride, panelStride int, dst []T, rowStride, step, height, width int)

	// filter writes G·w·Gᵀ for many k×k filters w side by side, whose taps lie
	// tapStride apart in src, from first on. Their number is a multiple of Lanes.
	filter func(filters int, src []T, first, tapStride int, dst []T, pointStride int)

	// filterGrad writes Gᵀ·u·G for so many times 6×6 points u side by side.
	filterGrad func(filters int, src []T, pointStride int, dst []T, tapStride int)
}

// outside marks a row that lies outside of the image.
const outside = -1 << 31

const points = 36 // of a tile

// oneDimension holds the one-dimensional transforms of a family, products with
// the matrices A, Aᵀ, G and Gᵀ for the interpolation points 0, ±1, ±2 and ∞. They
// take and give the first n or k of 6 numbers, or all.
type oneDimension[T Float] struct {
	k, n                              int
	delta, output, filter, filterGrad func(d *[6]T) [6]T
}

func taps3[T Float]() oneDimension[T] {
	return oneDimension[T]{3, 4, deltaTransform[T], outputTransform[T], filterTransform[T], filterGradTransform[T]}
}

func taps5[T Float]() oneDimension[T] {
	return oneDimension[T]{5, 2, deltaTransform5[T], outputTransform5[T], filterTransform5[T], filterGradTransform5[T]}
}

func portableWinograd[T Float](f oneDimension[T]) winogradTransforms[T] {
	return winogradTransforms[T]{
		input: func(panels int, rows []int, mask, step int, x, zero, dst []T, pointStride, panelStride int) {
			fromPixels(inputTransform[T], 6, panels, rows, mask, step, x, dst, pointStride, panelStride)
		},
		delta: func(panels int, rows []int, mask, step int, x, zero, dst []T, pointStride, panelStride int) {
			fromPixels(f.delta, f.n, panels, rows, mask, step, x, dst, pointStride, panelStride)
		},
		output:     f.toPixels,
		filter:     f.filterPoints,
		filterGrad: f.filterTaps,
	}
}

// fromPixels transforms n×n pixels to 6×6 points, channel by channel.
func fromPixels[T Float](transform func(d *[6]T) [6]T, n, panels int, rows []int, mask, step int, x, dst []T, pointStride, panelStride int) {
	for c := range panels * Lanes {
		var half [6][6]T
		for j := range n {
			var d [6]T
			for i := range n {
				if mask>>j&1 != 0 && rows[i] != outside {
					d[i] = x[rows[i]+j*step+c]
				}
			}
			for i, v := range transform(&d) {
				half[i][j] = v
			}
		}
		at := dst[c/Lanes*panelStride+c%Lanes:]
		for i := range half {
			for j, v := range transform(&half[i]) {
				at[(i*6+j)*pointStride] = v
			}
		}
	}
}

func (f oneDimension[T]) toPixels(panels int, src []T, pointStride, panelStride int, dst []T, rowStride, step, height, width int) {
	for c := range panels * Lanes {
		var half [4][6]T
		at := src[c/Lanes*panelStride+c%Lanes:]
		for j := range 6 {
			var m [6]T
			for i := range m {
				m[i] = at[(i*6+j)*pointStride]
			}
			m = f.output(&m)
			for i := range f.n {
				half[i][j] = m[i]
			}
		}
		for i := range height {
			row := f.output(&half[i])
			for j := range width {
				dst[i*rowStride+j*step+c] = row[j]
			}
		}
	}
}

func (f oneDimension[T]) filterPoints(filters int, src []T, first, tapStride int, dst []T, pointStride int) {
	for c := range filters {
		var half [6][6]T
		for j := range f.k {
			var w [6]T
			for i := range f.k {
				w[i] = src[first+(i*f.k+j)*tapStride+c]
			}
			for i, v := range f.filter(&w) {
				half[i][j] = v
			}
		}
		for i := range half {
			for j, v := range f.filter(&half[i]) {
				dst[(i*6+j)*pointStride+c] = v
			}
		}
	}
}

func (f oneDimension[T]) filterTaps(filters int, src []T, pointStride int, dst []T, tapStride int) {
	for c := range filters {
		var half [5][6]T
		for j := range 6 {
			var u [6]T
			for i := range u {
				u[i] = src[(i*6+j)*pointStride+c]
			}
			u = f.filterGrad(&u)
			for i := range f.k {
				half[i][j] = u[i]
			}
		}
		for i := range f.k {
			row := f.filterGrad(&half[i])
			for j := range f.k {
				dst[(i*f.k+j)*tapStride+c] = row[j]
			}
		}
	}
}

// inputTransform is the product with Bᵀ, for both families.
func inputTransform[T Float](d *[6]T) [6]T {
	a, b := d[4]-4*d[2], d[3]-4*d[1]
	c, e := d[4]-d[2], 2*(d[3]-d[1])
	return [6]T{4*d[0] - 5*d[2] + d[4], a + b, a - b, c + e, c - e, 4*d[1] - 5*d[3] + d[5]}
}

func deltaTransform[T Float](d *[6]T) [6]T {
	a, b := d[0]+d[2], d[1]+d[3]
	c, e := d[0]+4*d[2], 2*d[1]+8*d[3]
	return [6]T{d[0], a + b, a - b, c + e, c - e, d[3]}
}

func outputTransform[T Float](m *[6]T) [6]T {
	a, b, c, e := m[1]+m[2], m[1]-m[2], m[3]+m[4], m[3]-m[4]
	return [6]T{m[0] + a + c, b + 2*e, a + 4*c, b + 8*e + m[5]}
}

func filterTransform[T Float](w *[6]T) [6]T {
	a := w[0] + w[2]
	c, e := w[0]/24+w[2]/6, w[1]/12
	return [6]T{w[0] / 4, -(a + w[1]) / 6, -(a - w[1]) / 6, c + e, c - e, w[2]}
}

func filterGradTransform[T Float](u *[6]T) [6]T {
	a, b, c, e := u[1]+u[2], u[2]-u[1], u[3]+u[4], u[3]-u[4]
	return [6]T{u[0]/4 - a/6 + c/24, b/6 + e/12, u[5] - a/6 + c/6}
}

func deltaTransform5[T Float](d *[6]T) [6]T {
	return [6]T{d[0], d[0] + d[1], d[0] - d[1], d[0] + 2*d[1], d[0] - 2*d[1], d[1]}
}

func outputTransform5[T Float](m *[6]T) [6]T {
	return [6]T{m[0] + (m[1] + m[2]) + (m[3] + m[4]), (m[1] - m[2]) + 2*(m[3]-m[4]) + m[5]}
}

func filterTransform5[T Float](w *[6]T) [6]T {
	a, b := w[0]+w[2]+w[4], w[1]+w[3]
	c, e := w[0]/24+w[2]/6+w[4]*2/3, w[1]/12+w[3]/3
	return [6]T{w[0] / 4, -(a + b) / 6, -(a - b) / 6, c + e, c - e, w[4]}
}

func filterGradTransform5[T Float](u *[6]T) [6]T {
	a, b, c, e := u[1]+u[2], u[2]-u[1], u[3]+u[4], u[3]-u[4]
	return [6]T{u[0]/4 - a/6 + c/24, b/6 + e/12, c/6 - a/6, b/6 + e/3, u[5] - a/6 + c*2/3}
}
