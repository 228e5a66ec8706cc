package kernel

// winogradTransforms are the transforms of Winograd's F(4×4,3×3): Lavin and
// Gray, "Fast algorithms for convolutional neural networks", CVPR 2016. They
// work on whole panels of Lanes channels: the 36 points of a panel lie
// pointStride apart, panels lie panelStride apart.
//
// Pixels of images are found by row: rows holds where each row of a tile
// begins in x, or outside; pixels lie step apart, and bit j of mask says that
// column j is inside. zero has room for a row and holds zeros.
type winogradTransforms[T Float] struct {
	// input writes Bᵀ·d·B for a 6×6 tile d.
	input func(panels int, rows []int, mask, step int, x, zero, dst []T, pointStride, panelStride int)

	// delta writes A·d·Aᵀ for a 4×4 tile d.
	delta func(panels int, rows []int, mask, step int, x, zero, dst []T, pointStride, panelStride int)

	// output writes the first height rows and width columns of Aᵀ·m·A for
	// 6×6 points m, to rows that lie rowStride and pixels that lie step apart.
	output func(panels int, src []T, pointStride, panelStride int, dst []T, rowStride, step, height, width int)

	// filter writes G·w·Gᵀ for n 3×3 filters w side by side, whose taps lie
	// tapStride apart in src, from first on. n is a multiple of Lanes.
	filter func(n int, src []T, first, tapStride int, dst []T, pointStride int)

	// filterGrad writes Gᵀ·u·G for n times 6×6 points u side by side.
	filterGrad func(n int, src []T, pointStride int, dst []T, tapStride int)
}

// outside marks a row that lies outside of the image.
const outside = -1 << 31

const points = 36 // of a tile

func portableWinograd[T Float]() winogradTransforms[T] {
	return winogradTransforms[T]{
		input: func(panels int, rows []int, mask, step int, x, zero, dst []T, pointStride, panelStride int) {
			fromPixels(inputTransform[T], 6, panels, rows, mask, step, x, dst, pointStride, panelStride)
		},
		delta: func(panels int, rows []int, mask, step int, x, zero, dst []T, pointStride, panelStride int) {
			fromPixels(deltaTransform[T], 4, panels, rows, mask, step, x, dst, pointStride, panelStride)
		},
		output:     toPixels[T],
		filter:     filterPoints[T],
		filterGrad: filterTaps[T],
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

func toPixels[T Float](panels int, src []T, pointStride, panelStride int, dst []T, rowStride, step, height, width int) {
	for c := range panels * Lanes {
		var half [4][6]T
		at := src[c/Lanes*panelStride+c%Lanes:]
		for j := range 6 {
			var m [6]T
			for i := range m {
				m[i] = at[(i*6+j)*pointStride]
			}
			for i, v := range outputTransform(&m) {
				half[i][j] = v
			}
		}
		for i := range height {
			row := outputTransform(&half[i])
			for j := range width {
				dst[i*rowStride+j*step+c] = row[j]
			}
		}
	}
}

func filterPoints[T Float](n int, src []T, first, tapStride int, dst []T, pointStride int) {
	for c := range n {
		var half [6][3]T
		for j := range 3 {
			var w [3]T
			for i := range w {
				w[i] = src[first+(i*3+j)*tapStride+c]
			}
			for i, v := range filterTransform(&w) {
				half[i][j] = v
			}
		}
		for i := range half {
			for j, v := range filterTransform(&half[i]) {
				dst[(i*6+j)*pointStride+c] = v
			}
		}
	}
}

func filterTaps[T Float](n int, src []T, pointStride int, dst []T, tapStride int) {
	for c := range n {
		var half [3][6]T
		for j := range 6 {
			var u [6]T
			for i := range u {
				u[i] = src[(i*6+j)*pointStride+c]
			}
			for i, v := range filterGradTransform(&u) {
				half[i][j] = v
			}
		}
		for i := range half {
			for j, v := range filterGradTransform(&half[i]) {
				dst[(i*3+j)*tapStride+c] = v
			}
		}
	}
}

// The one-dimensional transforms are products with the matrices Bᵀ, A, Aᵀ, G
// and Gᵀ for the interpolation points 0, ±1, ±2 and ∞.

func inputTransform[T Float](d *[6]T) [6]T {
	a, b := d[4]-4*d[2], d[3]-4*d[1]
	c, e := d[4]-d[2], 2*(d[3]-d[1])
	return [6]T{4*d[0] - 5*d[2] + d[4], a + b, a - b, c + e, c - e, 4*d[1] - 5*d[3] + d[5]}
}

func deltaTransform[T Float](d *[6]T) [6]T { // of the first four
	a, b := d[0]+d[2], d[1]+d[3]
	c, e := d[0]+4*d[2], 2*d[1]+8*d[3]
	return [6]T{d[0], a + b, a - b, c + e, c - e, d[3]}
}

func outputTransform[T Float](m *[6]T) [4]T {
	a, b, c, e := m[1]+m[2], m[1]-m[2], m[3]+m[4], m[3]-m[4]
	return [4]T{m[0] + a + c, b + 2*e, a + 4*c, b + 8*e + m[5]}
}

func filterTransform[T Float](w *[3]T) [6]T {
	a := w[0] + w[2]
	c, e := w[0]/24+w[2]/6, w[1]/12
	return [6]T{w[0] / 4, -(a + w[1]) / 6, -(a - w[1]) / 6, c + e, c - e, w[2]}
}

func filterGradTransform[T Float](u *[6]T) [3]T {
	a, b, c, e := u[1]+u[2], u[2]-u[1], u[3]+u[4], u[3]-u[4]
	return [3]T{u[0]/4 - a/6 + c/24, b/6 + e/12, u[5] - a/6 + c/6}
}
