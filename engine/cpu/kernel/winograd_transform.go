package kernel

// winogradTransforms are the transforms of Winograd's F(4×4,3×3) or F(4×4,5×5):
// Lavin and Gray, "Fast algorithms for convolutional neural networks", CVPR
// 2016. They work on whole panels of Lanes channels: the points of a panel lie
// pointStride apart, panels lie panelStride apart. Here k is the number of a
// filter's taps along an axis, 3 or 5, and n = k + 3 that of a tile's points.
//
// Pixels of images are found by row: rows holds where each row of a tile
// begins in x, or outside; pixels lie step apart, and bit j of mask says that
// column j is inside. zero has room for a row and holds zeros.
type winogradTransforms[T Float] struct {
	// input writes Bᵀ·d·B for n×n pixels d.
	input func(panels int, rows []int, mask, step int, x, zero, dst []T, pointStride, panelStride int)

	// delta writes A·d·Aᵀ for 4×4 pixels d.
	delta func(panels int, rows []int, mask, step int, x, zero, dst []T, pointStride, panelStride int)

	// output writes the first height rows and width columns of Aᵀ·m·A for
	// n×n points m, to rows that lie rowStride and pixels that lie step apart.
	output func(panels int, src []T, pointStride, panelStride int, dst []T, rowStride, step, height, width int)

	// filter writes G·w·Gᵀ for many k×k filters w side by side, whose taps lie
	// tapStride apart in src, from first on. Their number is a multiple of Lanes.
	filter func(filters int, src []T, first, tapStride int, dst []T, pointStride int)

	// filterGrad writes Gᵀ·u·G for so many times n×n points u side by side.
	filterGrad func(filters int, src []T, pointStride int, dst []T, tapStride int)
}

// outside marks a row that lies outside of the image.
const outside = -1 << 31

// oneDimension holds the one-dimensional transforms of a family, products with
// Bᵀ, A, Aᵀ, G and Gᵀ. They take and give the first k, n or 4 of 8 numbers.
type oneDimension[T Float] struct {
	k, n                                     int
	input, delta, output, filter, filterGrad func(d *[8]T) [8]T
}

// taps3 has the interpolation points 0, ±1, ±2 and ∞.
func taps3[T Float]() oneDimension[T] {
	return oneDimension[T]{3, 6, inputTransform[T], deltaTransform[T], outputTransform[T], filterTransform[T], filterGradTransform[T]}
}

// taps5 has ±1/2 too.
func taps5[T Float]() oneDimension[T] {
	return oneDimension[T]{5, 8, inputTransform5[T], deltaTransform5[T], outputTransform5[T], filterTransform5[T], filterGradTransform5[T]}
}

func portableWinograd[T Float](f oneDimension[T]) winogradTransforms[T] {
	return winogradTransforms[T]{
		input: func(panels int, rows []int, mask, step int, x, zero, dst []T, pointStride, panelStride int) {
			f.fromPixels(f.input, panels, rows, mask, step, x, dst, pointStride, panelStride)
		},
		delta: func(panels int, rows []int, mask, step int, x, zero, dst []T, pointStride, panelStride int) {
			f.fromPixels(f.delta, panels, rows, mask, step, x, dst, pointStride, panelStride)
		},
		output:     f.toPixels,
		filter:     f.filterPoints,
		filterGrad: f.filterTaps,
	}
}

// fromPixels transforms rows of pixels to n×n points, channel by channel.
func (f oneDimension[T]) fromPixels(transform func(d *[8]T) [8]T, panels int, rows []int, mask, step int, x, dst []T, pointStride, panelStride int) {
	for c := range panels * Lanes {
		var half [8][8]T
		for j := range rows {
			var d [8]T
			for i := range rows {
				if mask>>j&1 != 0 && rows[i] != outside {
					d[i] = x[rows[i]+j*step+c]
				}
			}
			for i, v := range transform(&d) {
				half[i][j] = v
			}
		}
		at := dst[c/Lanes*panelStride+c%Lanes:]
		for i := range f.n {
			row := transform(&half[i])
			for j := range f.n {
				at[(i*f.n+j)*pointStride] = row[j]
			}
		}
	}
}

func (f oneDimension[T]) toPixels(panels int, src []T, pointStride, panelStride int, dst []T, rowStride, step, height, width int) {
	for c := range panels * Lanes {
		var half [tileSide][8]T
		at := src[c/Lanes*panelStride+c%Lanes:]
		for j := range f.n {
			var m [8]T
			for i := range f.n {
				m[i] = at[(i*f.n+j)*pointStride]
			}
			m = f.output(&m)
			for i := range half {
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
		var half [8][8]T
		for j := range f.k {
			var w [8]T
			for i := range f.k {
				w[i] = src[first+(i*f.k+j)*tapStride+c]
			}
			for i, v := range f.filter(&w) {
				half[i][j] = v
			}
		}
		for i := range f.n {
			row := f.filter(&half[i])
			for j := range f.n {
				dst[(i*f.n+j)*pointStride+c] = row[j]
			}
		}
	}
}

func (f oneDimension[T]) filterTaps(filters int, src []T, pointStride int, dst []T, tapStride int) {
	for c := range filters {
		var half [5][8]T
		for j := range f.n {
			var u [8]T
			for i := range f.n {
				u[i] = src[(i*f.n+j)*pointStride+c]
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

func inputTransform[T Float](d *[8]T) [8]T {
	a, b := d[4]-4*d[2], d[3]-4*d[1]
	c, e := d[4]-d[2], 2*(d[3]-d[1])
	return [8]T{4*d[0] - 5*d[2] + d[4], a + b, a - b, c + e, c - e, 4*d[1] - 5*d[3] + d[5]}
}

func deltaTransform[T Float](d *[8]T) [8]T {
	a, b := d[0]+d[2], d[1]+d[3]
	c, e := d[0]+4*d[2], 2*d[1]+8*d[3]
	return [8]T{d[0], a + b, a - b, c + e, c - e, d[3]}
}

func outputTransform[T Float](m *[8]T) [8]T {
	a, b, c, e := m[1]+m[2], m[1]-m[2], m[3]+m[4], m[3]-m[4]
	return [8]T{m[0] + a + c, b + 2*e, a + 4*c, b + 8*e + m[5]}
}

func filterTransform[T Float](w *[8]T) [8]T {
	a := w[0] + w[2]
	c, e := w[0]/24+w[2]/6, w[1]/12
	return [8]T{w[0] / 4, -(a + w[1]) / 6, -(a - w[1]) / 6, c + e, c - e, w[2]}
}

func filterGradTransform[T Float](u *[8]T) [8]T {
	a, b, c, e := u[1]+u[2], u[2]-u[1], u[3]+u[4], u[3]-u[4]
	return [8]T{u[0]/4 - a/6 + c/24, b/6 + e/12, u[5] - a/6 + c/6}
}

func inputTransform5[T Float](d *[8]T) [8]T {
	a, b := d[2]-4.25*d[4]+d[6], d[1]-4.25*d[3]+d[5]
	c, e := d[2]/4-1.25*d[4]+d[6], d[1]/2-2.5*d[3]+2*d[5]
	g, h := 4*d[2]-5*d[4]+d[6], 2*d[1]-2.5*d[3]+d[5]/2
	return [8]T{d[6] - d[0] + 5.25*(d[2]-d[4]), a + b, a - b, c + e, c - e, g + h, g - h, d[7] - d[1] + 5.25*(d[3]-d[5])}
}

func deltaTransform5[T Float](d *[8]T) [8]T {
	a, b := d[0]+d[2], d[1]+d[3]
	c, e := d[0]+4*d[2], 2*d[1]+8*d[3]
	g, h := d[0]+d[2]/4, d[1]/2+d[3]/8
	return [8]T{d[0], a + b, a - b, c + e, c - e, g + h, g - h, d[3]}
}

func outputTransform5[T Float](m *[8]T) [8]T {
	a, b, c, e, g, h := m[1]+m[2], m[1]-m[2], m[3]+m[4], m[3]-m[4], m[5]+m[6], m[5]-m[6]
	return [8]T{m[0] + a + c + g, b + 2*e + h/2, a + 4*c + g/4, b + 8*e + h/8 + m[7]}
}

func filterTransform5[T Float](w *[8]T) [8]T {
	a, b := w[0]+w[2]+w[4], w[1]+w[3]
	c, e := w[0]+4*w[2]+16*w[4], 2*w[1]+8*w[3]
	g, h := 16*w[0]+4*w[2]+w[4], 8*w[1]+2*w[3]
	return [8]T{-w[0], (a + b) * (-2. / 9), (a - b) * (-2. / 9), (c + e) / 90, (c - e) / 90, (g + h) * (2. / 45), (g - h) * (2. / 45), w[4]}
}

func filterGradTransform5[T Float](u *[8]T) [8]T {
	a, b := (u[1]+u[2])*(-2./9), (u[1]-u[2])*(-2./9)
	c, e := (u[3]+u[4])/90, (u[3]-u[4])/90
	g, h := (u[5]+u[6])*(2./45), (u[5]-u[6])*(2./45)
	return [8]T{a + c + 16*g - u[0], b + 2*e + 8*h, a + 4*c + 4*g, b + 8*e + 2*h, a + 16*c + g + u[7]}
}
