package interp

import "temper/engine/graph"

// unpacked calls f for every element of a filter (O,kh,kw,C) with its position
// and that in the packed form, Winograd's excepted; see graph.PackedShape.
func unpacked(w graph.Shape, a *graph.Attrs, f func(from, to int)) {
	if a.Algorithm == graph.Patches {
		row := w[1:].Size()
		for i := range w.Size() {
			f(i, (i%row/graph.Lanes*w[0]+i/row)*graph.Lanes+i%row%graph.Lanes)
		}
		return
	}
	if a.Algorithm == graph.Pooled {
		pooled(w, a, f)
		return
	}
	k, m := w[3], w[0]
	if a.InputGrad {
		k, m = m, k
	}
	panels := (m + graph.Lanes - 1) / graph.Lanes
	panel := graph.PackedShape(w, a).Size() / panels
	first := 0 // of a group, in the inner dimension
	for _, taps := range graph.PackedTaps(w, a) {
		for rank, tap := range taps {
			for o := range w[0] {
				for c := range w[3] {
					lane, row := o, c
					if a.InputGrad {
						lane, row = c, o
					}
					at := lane / graph.Lanes * panel
					if row += first + rank*k; a.Algorithm == graph.Pairs {
						at += (row/2*graph.Lanes+lane%graph.Lanes)*2 + row%2
					} else {
						at += row*graph.Lanes + lane%graph.Lanes
					}
					f(((o*w[1]+tap[0])*w[2]+tap[1])*w[3]+c, at)
				}
			}
		}
		if first += len(taps) * k; a.Algorithm == graph.Pairs {
			first = graph.PairDepth(first)
		}
	}
}

// pooled is unpacked for Pooled, where each element stands once for every pixel
// of a window.
func pooled(w graph.Shape, a *graph.Attrs, f func(from, to int)) {
	_, row := graph.PooledPatch(w, a)
	shape := graph.PackedShape(w, a)
	for i := range w.Size() {
		c, kw, kh, o := i%w[3], i/w[3]%w[2], i/w[3]/w[2]%w[1], i/w[1:].Size()
		for tap := range shape[1] {
			y, x := tap/a.Pool[1]*a.Stride[0]+kh*a.Dilation[0], tap%a.Pool[1]*a.Stride[1]+kw*a.Dilation[1]
			f(i, (o*shape[1]+tap)*shape[2]+y*row+x*w[3]+c)
		}
	}
}

// unpooled puts values to the places in windows that they were found at. A place
// outside of its window counts as none.
func unpooled(v, at *Tensor, pool [2]int) *Tensor {
	s := v.Shape
	y := New(v.DType, graph.Shape{s[0], s[1] * pool[0], s[2] * pool[1], s[3]})
	for i, x := range v.Data {
		c, q, p, n := i%s[3], i/s[3]%s[2], i/s[3]/s[2]%s[1], i/s[1:].Size()
		width := s[2] * pool[1]
		h, w := int(at.Data[i])/width, int(at.Data[i])%width
		if at.Data[i] >= 0 && h/pool[0] == p && w/pool[1] == q {
			y.Data[((n*s[1]*pool[0]+h)*width+w)*s[3]+c] = x
		}
	}
	return y
}

func packFilter(y []float64, n *graph.Node, w *Tensor) {
	a := n.Attrs()
	if a.Algorithm != graph.Winograd {
		unpacked(w.Shape, a, func(from, to int) { y[to] = w.Data[from] })
		return
	}
	size := len(y) / graph.PackedShape(w.Shape, a)[0]
	for o := range w.Shape[0] {
		for c := range w.Shape[3] {
			side := w.Shape[1]
			taps := matrix{make([]float64, side*side), side}
			lane, row, rows := o, c, w.Shape[3]
			if a.InputGrad {
				lane, row, rows = c, o, w.Shape[0]
			}
			for t := range taps.v {
				at := t
				if a.InputGrad {
					at = len(taps.v) - 1 - t
				}
				taps.v[t] = w.Data[(o*len(taps.v)+at)*w.Shape[3]+c]
			}
			for p, v := range sandwich(winogradG[side], taps).v {
				y[p*size+(lane/graph.Lanes*rows+row)*graph.Lanes+lane%graph.Lanes] = v
			}
		}
	}
}

func packedConv(y []float64, n *graph.Node, ins []*Tensor) {
	a, from, packed := *n.Attrs(), ins[0], ins[1]
	if a.Algorithm == graph.Pooled {
		from = unpooled(from, ins[2], a.Pool)
	}
	a.Layout = graph.NHWC
	if a.Algorithm == graph.Winograd {
		winograd(y, n, from, packed)
		return
	}
	ws := n.FilterShape()
	w := make([]float64, ws.Size())
	unpacked(ws, &a, func(to, at int) { w[to] = packed.Data[at] })
	if a.InputGrad {
		taps(n.Shape(), ws, from.Shape, &a, func(x, v, o int) { y[x] += from.Data[o] * w[v] })
	} else {
		taps(from.Shape, ws, n.Shape(), &a, func(x, v, o int) { y[o] += from.Data[x] * w[v] })
	}
}

// matrix is row-major.
type matrix struct {
	v    []float64
	cols int
}

func (m matrix) rows() int { return len(m.v) / m.cols }

func (m matrix) mul(b matrix) matrix {
	y := matrix{make([]float64, m.rows()*b.cols), b.cols}
	for i := range m.rows() {
		for j := range b.cols {
			for k := range m.cols {
				y.v[i*b.cols+j] += m.v[i*m.cols+k] * b.v[k*b.cols+j]
			}
		}
	}
	return y
}

func (m matrix) transposed() matrix {
	y := matrix{make([]float64, len(m.v)), m.rows()}
	for i := range m.rows() {
		for j := range m.cols {
			y.v[j*y.cols+i] = m.v[i*m.cols+j]
		}
	}
	return y
}

// sandwich is m·x·mᵀ.
func sandwich(m, x matrix) matrix { return m.mul(x).mul(m.transposed()) }

// The matrices of F(4×4,3×3) and F(4×4,5×5), by the taps of a side, named as
// Lavin and Gray do (CVPR 2016).
var (
	winogradG = map[int]matrix{
		3: {[]float64{
			1. / 4, 0, 0,
			-1. / 6, -1. / 6, -1. / 6,
			-1. / 6, 1. / 6, -1. / 6,
			1. / 24, 1. / 12, 1. / 6,
			1. / 24, -1. / 12, 1. / 6,
			0, 0, 1,
		}, 3},
		5: {[]float64{
			-1, 0, 0, 0, 0,
			-2. / 9, -2. / 9, -2. / 9, -2. / 9, -2. / 9,
			-2. / 9, 2. / 9, -2. / 9, 2. / 9, -2. / 9,
			1. / 90, 1. / 45, 2. / 45, 4. / 45, 8. / 45,
			1. / 90, -1. / 45, 2. / 45, -4. / 45, 8. / 45,
			32. / 45, 16. / 45, 8. / 45, 4. / 45, 2. / 45,
			32. / 45, -16. / 45, 8. / 45, -4. / 45, 2. / 45,
			0, 0, 0, 0, 1,
		}, 5},
	}
	winogradB = map[int]matrix{ // its transpose
		3: {[]float64{
			4, 0, -5, 0, 1, 0,
			0, -4, -4, 1, 1, 0,
			0, 4, -4, -1, 1, 0,
			0, -2, -1, 2, 1, 0,
			0, 2, -1, -2, 1, 0,
			0, 4, 0, -5, 0, 1,
		}, 6},
		5: {[]float64{
			-1, 0, 21. / 4, 0, -21. / 4, 0, 1, 0,
			0, 1, 1, -17. / 4, -17. / 4, 1, 1, 0,
			0, -1, 1, 17. / 4, -17. / 4, -1, 1, 0,
			0, 1. / 2, 1. / 4, -5. / 2, -5. / 4, 2, 1, 0,
			0, -1. / 2, 1. / 4, 5. / 2, -5. / 4, -2, 1, 0,
			0, 2, 4, -5. / 2, -5, 1. / 2, 1, 0,
			0, -2, 4, 5. / 2, -5, -1. / 2, 1, 0,
			0, -1, 0, 21. / 4, 0, -21. / 4, 0, 1,
		}, 8},
	}
	winogradA = map[int]matrix{ // its transpose
		3: {[]float64{
			1, 1, 1, 1, 1, 0,
			0, 1, -1, 2, -2, 0,
			0, 1, 1, 4, 4, 0,
			0, 1, -1, 8, -8, 1,
		}, 6},
		5: {[]float64{
			1, 1, 1, 1, 1, 1, 1, 0,
			0, 1, -1, 2, -2, 1. / 2, -1. / 2, 0,
			0, 1, 1, 4, 4, 1. / 4, 1. / 4, 0,
			0, 1, -1, 8, -8, 1. / 8, -1. / 8, 1,
		}, 8},
	}
)

// winograd computes 4×4 results at a time, from a window of elements.
func winograd(out []float64, n *graph.Node, in, packed *Tensor) {
	x, y := imageOf(graph.NHWC, in.Shape), imageOf(graph.NHWC, n.Shape())
	pad, taps := n.Attrs().Pad, n.Attrs().Kernel[0]
	if n.Attrs().InputGrad {
		pad = [2]int{taps - 1 - pad[0], taps - 1 - pad[1]}
	}
	const side = 4
	window := side + taps - 1
	points := window * window
	size := len(packed.Data) / points
	y.positions(func(image, o, p, q int) {
		if p%side != 0 || q%side != 0 {
			return
		}
		sum := matrix{make([]float64, points), window}
		for c := range x.c {
			tile := matrix{make([]float64, points), window}
			for t := range points {
				if h, w := p-pad[0]+t/window, q-pad[1]+t%window; h >= 0 && h < x.h && w >= 0 && w < x.w {
					tile.v[t] = in.Data[x.at(image, c, h, w)]
				}
			}
			for t, v := range sandwich(winogradB[taps], tile).v {
				sum.v[t] += v * packed.Data[t*size+(o/graph.Lanes*x.c+c)*graph.Lanes+o%graph.Lanes]
			}
		}
		for t, v := range sandwich(winogradA[taps], sum).v {
			if h, w := p+t/side, q+t%side; h < y.h && w < y.w {
				out[y.at(image, o, h, w)] = v
			}
		}
	})
}
