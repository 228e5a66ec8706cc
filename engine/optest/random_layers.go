package optest

import (
	"temper/engine/autodiff"
	"temper/engine/graph"
)

// image picks a value as images, within (-1, 1).
func (m *maker) image() *graph.Node {
	x := m.pickRank(4)
	return x.Reshape(-1, x.Dim(-3), x.Dim(-2), x.Dim(-1)).Tanh()
}

// layer is a convolution and what networks have behind it, as far as the coin
// says: a bias or a normalisation by the batch, an activation, a second
// convolution, a shortcut; with the gradients of the images and the filters.
func (m *maker) layer() {
	x := m.image().StopGradient()
	win, h, w := m.geometry(x)
	f := m.constant(8*(1+m.s.IntN(2)), x.Dim(1), h, w)
	if s := m.states[2]; m.s.IntN(2) == 0 && s.Dim(1) == x.Dim(1) {
		f, win = s, graph.Square(1+m.s.IntN(2), 1)
	}
	wrt := nodes{x, f}
	y := m.behind(x.Conv2D(f, win))
	if m.s.IntN(2) == 0 {
		k := 1 + 2*m.s.IntN(2)
		f := m.constant(f.Dim(0), f.Dim(0), k, k)
		wrt = append(wrt, f)
		if m.s.IntN(2) == 0 {
			y = m.behind(y.Conv2D(f, graph.Square(1, k/2)).Add(y))
		} else {
			y = m.behind(y.Conv2D(f, graph.Square(1+m.s.IntN(2), k/2)))
		}
	}
	y = y.Tanh()
	m.add(y, 1)
	if m.s.IntN(2) == 0 {
		return
	}
	for _, d := range autodiff.VJP(nodes{y}, nodes{m.fit(y)}, wrt...) {
		m.add(d.AddC(0.5).Tanh(), 1) // it may be 0 but for rounding
	}
}

// behind is what stands behind a convolution.
func (m *maker) behind(y *graph.Node) *graph.Node {
	c := y.Dim(1)
	switch m.s.IntN(4) {
	case 0:
		y = y.Add(m.constant(c, 1, 1))
	case 1, 2:
		mean := y.MeanKeep(0, 2, 3)
		centred := y.Sub(mean)
		variance := centred.Square().MeanKeep(0, 2, 3)
		if m.s.IntN(2) == 0 {
			variance = y.Square().MeanKeep(0, 2, 3).Sub(mean.Square()).Abs()
		}
		y = centred.Div(variance.AddC(0.1).Sqrt()).Mul(m.constant(c, 1, 1)).Add(m.constant(c, 1, 1))
		m.add(variance.MulC(0.01).AddC(0.5).Tanh(), 1)
	}
	switch m.s.IntN(3) {
	case 0:
		return y.ReLU()
	case 1:
		return y.Mul(y.Sigmoid())
	}
	return y
}

// pool takes windows' maxima or means, with a gradient now and then.
func (m *maker) pool() {
	x := m.pickRank(4)
	b := m.bound[x]
	x = x.Reshape(-1, x.Dim(-3), x.Dim(-2), x.Dim(-1))
	k := [2]int{min(2+m.s.IntN(2), x.Dim(2)), min(2, x.Dim(3))}
	win := graph.Window{Stride: [2]int{1 + m.s.IntN(2), 2}, Pad: [2]int{m.s.IntN(k[0]/2 + 1), 0}}
	var y *graph.Node
	if m.s.IntN(2) == 0 {
		y = x.AvgPool(k, win)
	} else {
		y = x.MaxPool(k, win)
	}
	m.add(y, b)
	if m.s.IntN(2) == 0 {
		m.add(autodiff.VJP(nodes{y}, nodes{m.fit(y)}, x)[0].AddC(0.5).Tanh(), 1)
	}
}

// window takes a window out of each row, or puts one back.
func (m *maker) window() {
	x := m.pickRank(2)
	starts := m.g.Const(graph.I32, ints(-1, 3)(m.s, graph.I32, x.Dim(0)*(x.Rank()-1)), x.Dim(0), x.Rank()-1)
	size := make([]int, x.Rank()-1)
	for i := range size {
		size[i] = 1 + m.s.IntN(x.Dim(i+1))
	}
	y := x.DynSlice(starts, size...)
	m.add(y, m.bound[x])
	if m.s.IntN(2) == 0 {
		m.add(y.DynPad(starts, x.Shape()[1:]...), m.bound[x])
	}
}

// order sorts, or finds the largest, where that is exact.
func (m *maker) order() {
	x := m.exact[m.s.IntN(len(m.exact))]
	axis := m.s.IntN(x.Rank())
	if m.s.IntN(2) == 0 {
		order := x.ArgSort(axis, m.s.IntN(2) == 0)
		m.addInt(order)
		m.add(x.Gather(axis, order), m.bound[x])
		return
	}
	m.addInt(x.ArgMax(axis))
}

// detour computes in f64, or in bf16, and comes back.
func (m *maker) detour() {
	t := graph.F64
	if m.halves && m.s.IntN(2) == 0 {
		t = graph.BF16
	}
	x := m.pickRank(1)
	bound := m.bound[x]
	if bound > room {
		x, bound = x.Tanh(), 1
	}
	x = x.Convert(t)
	for range 1 + m.s.IntN(3) {
		axis := m.s.IntN(max(x.Rank(), 1))
		switch kind := m.s.IntN(10); {
		case kind == 0:
			x, bound = x.Tanh(), 1
		case kind == 1:
			x = x.ReLU()
		case kind == 2:
			x, bound = x.Add(m.fit(x.Convert(graph.F32)).Convert(t)), bound+1
		case kind == 3:
			x = x.Mul(m.fit(x.Convert(graph.F32)).Convert(t))
		case x.Rank() == 0:
			x = x.Neg()
		case kind == 4:
			x, bound = x.Sum(axis), bound*float64(x.Dim(axis))
		case kind == 5:
			x = x.ReduceMaxKeep(axis)
		case kind == 6:
			x = x.Transpose(m.s.Perm(x.Rank())...)
		case kind == 7:
			x = graph.Concat(axis, x, x.MulC(-0.5))
		case x.Rank() == 4:
			x = x.Tanh()
			win, h, w := m.geometry(x)
			x, bound = x.Conv2D(m.constant(1+m.s.IntN(8), x.Dim(1), h, w).Convert(t), win), float64(x.Dim(1)*h*w)
		case x.Rank() == 2 || x.Rank() == 3:
			x = x.Tanh()
			x, bound = graph.MatMul(x, x, kind == 8, kind != 8), float64(x.Size())
		}
	}
	m.add(x.Convert(graph.F32), bound)
}

// addInts declares the inputs of integers.
func (m *maker) addInts() {
	m.addInt(m.g.Input("k", graph.I32, m.rows, m.last))
	m.addInt(m.g.Input("u", graph.U32, m.last))
	m.addInt(m.g.Input("bytes", graph.U8, 4, m.rows, m.last))
}

func (m *maker) addInt(n *graph.Node) {
	if n.Size() > maxSize {
		return
	}
	m.ints = append(m.ints, n)
}

func (m *maker) pickInt() *graph.Node { return m.ints[m.s.IntN(len(m.ints))] }

// integer computes with integers, which is exact, and lets the results choose or
// become floats.
func (m *maker) integer() {
	x := m.pickInt()
	t := x.DType()
	y := m.pickInt()
	if y = y.Convert(t); !y.Shape().Equal(x.Shape()) {
		y = m.g.Const(t, ints(0, 40)(m.s, t, x.Size()), x.Shape()...)
	}
	binary := []func(*graph.Node) *graph.Node{x.Add, x.Sub, x.Mul, x.Div, x.Max, x.Min, x.And, x.Or, x.Xor, x.Shl, x.Shr}
	compare := []func(*graph.Node) *graph.Node{x.Eq, x.Ne, x.Lt, x.Le, x.Gt, x.Ge}
	kind := m.s.IntN(14)
	switch {
	case kind < 4:
		m.addInt(binary[m.s.IntN(len(binary))](y))
	case kind == 4:
		m.addInt(x.Convert([]graph.DType{graph.I32, graph.U32, graph.U8}[m.s.IntN(3)]))
	case kind == 5:
		m.addInt(m.exact[m.s.IntN(len(m.exact))].MulC(8).Convert(graph.I32))
	case kind < 8:
		m.add(x.And(x.C(15)).Convert(graph.F32), 15)
	case kind == 8:
		c := compare[m.s.IntN(len(compare))](y)
		m.addInt(graph.Select(c.Not(), x, y.Neg()))
		m.add(c.Convert(graph.F32), 1)
	case x.Rank() == 0:
		m.addInt(x.Neg())
	case kind == 9 && t != graph.U8:
		m.addInt(x.Sum(m.s.IntN(x.Rank())))
	case kind == 10 && t != graph.U8:
		m.addInt(x.ReduceMax(m.s.IntN(x.Rank())))
	case kind == 11:
		m.addInt(x.CumSum(m.s.IntN(x.Rank())))
	case kind == 12:
		m.addInt(x.ArgSort(m.s.IntN(x.Rank()), m.s.IntN(2) == 0))
	default:
		m.addInt(x.Transpose(m.s.Perm(x.Rank())...))
	}
}
