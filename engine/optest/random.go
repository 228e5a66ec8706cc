package optest

import (
	"slices"
	"strings"

	"temper/engine/graph"
	"temper/engine/interp"
	"temper/engine/rng"
)

// Random makes a small program that is different for each seed: element-wise
// functions, movement, reductions, products, convolutions, layers of a network
// and their gradients, random numbers, loops in loops, assignments; in f32, with
// integers beside it, detours in f64 and, for every fourth seed, in bf16. It is
// meant for tests that compare two ways of running one program, so it is
// well-conditioned: values stay within a few hundred, and nothing that jumps is
// applied to a rounded value, but for the rounding to bf16: see RandomTolerance.
func Random(seed uint32) *graph.Graph {
	m := &maker{g: graph.New("random"), s: rng.NewStream(seed, "optest.Random", 0), bound: map[*graph.Node]float64{}, halves: seed%4 == 3}
	d := extents[m.s.IntN(len(extents))]
	m.dims = d
	for i, shape := range []graph.Shape{{d.last}, {d.rows, d.last}, {4, d.rows, d.last}, {d.images, d.channels, d.height, d.width}} {
		x := m.g.Input(string(rune('a'+i)), graph.F32, shape...)
		m.exact = append(m.exact, x)
		m.add(x, 1)
	}
	m.add(m.g.Scalar("alpha", graph.F32), 1)
	m.addInts()
	for i, shape := range []graph.Shape{{d.rows, d.last}, {d.rows, d.last}, {d.channels, d.channels, 3, 3}, {d.last}} {
		w := m.g.State("w"+string(rune('0'+i)), graph.F32, shape...)
		m.states = append(m.states, w)
		m.add(w, 1)
	}
	m.draw = graph.Draw{Seed: m.g.Scalar("seed", graph.U32), IDs: m.g.Input("ids", graph.U32, 4), Step: m.g.Scalar("step", graph.U32), Iter: m.g.Const(graph.U32, []float64{0})}
	for range 10 + m.s.IntN(15) {
		m.step()
	}
	m.assign()
	for i := range 3 {
		m.g.Output("last"+string(rune('0'+i)), m.vals[len(m.vals)-1-i])
	}
	m.outputs()
	return m.g
}

// RandomTolerance is how far results of Random may be from the interpreter's:
// for programs with bf16, whose rounding turns a last bit into 2⁻⁸, it finds
// what is plainly wrong.
func RandomTolerance(g *graph.Graph) Tolerance {
	if hasBF16(g) {
		return Tolerance{Rel: 1 << 19, Abs: 1 << 19, Floor: 0.1}
	}
	return Tolerance{Rel: 2000, Abs: 2000, Floor: 1e-3}
}

func hasBF16(g *graph.Graph) bool { return strings.Contains(g.String(), "bf16") }

// extents are those of programs' inputs: of odd extents, of such that fill
// vectors, and of such that fill tiles and have reductions made in parts.
var extents = []dims{{3, 5, 2, 3, 6, 5}, {3, 5, 2, 3, 6, 5}, {4, 8, 2, 8, 6, 4}, {8, 16, 4, 16, 8, 8}}

type dims struct{ rows, last, images, channels, height, width int }

// RandomFeed draws what a program of Random is fed, or any other whose inputs
// stand at top level: floats from [-1, 1), small integers, any words.
func RandomFeed(g *graph.Graph, seed uint32) interp.Feed {
	feed := interp.Feed{}
	for i, n := range g.Root().Nodes() {
		switch n.Op() {
		case graph.OpInput, graph.OpState, graph.OpScalar:
			o := operand{shape: n.Shape(), t: n.DType(), gen: uniform(-1, 1)}
			switch t := n.DType(); {
			case t == graph.U32:
				o.gen = words()
			case t == graph.Bool:
				o.gen = ints(0, 1)
			case t.Int():
				o.gen = ints(0, 9)
			}
			feed[interp.Key(n)] = o.draw("optest.RandomFeed", int(seed)<<8+i, n.DType())
		}
	}
	return feed
}

// maker holds the values that the next step may use and, for each, a bound of
// its size.
type maker struct {
	g     *graph.Graph
	s     *rng.Stream
	vals  nodes
	bound map[*graph.Node]float64
	draw  graph.Draw
	depth int // of loops

	dims
	exact  nodes // of vals, what is not rounded
	ints   nodes // of i32, u32 and u8
	states nodes // in the order of their names
	halves bool  // make detours in bf16
}

const maxBound, maxSize = 300, 5000

// add makes n usable, squashed where it may be large and summed where it is
// long.
func (m *maker) add(n *graph.Node, bound float64) {
	if n.Size() > maxSize {
		axis := slices.Index(n.Shape(), slices.Max(n.Shape()))
		bound *= float64(n.Dim(axis))
		n = n.Sum(axis)
	}
	if bound > maxBound {
		n, bound = n.Tanh(), 1
	}
	m.bound[n] = bound
	if !slices.Contains(m.vals, n) {
		m.vals = append(m.vals, n)
	}
}

func (m *maker) pick() *graph.Node { return m.vals[m.s.IntN(len(m.vals))] }

// pickRank picks a value with at least so many axes, which some input has.
func (m *maker) pickRank(least int) *graph.Node {
	for {
		if n := m.pick(); n.Rank() >= least {
			return n
		}
	}
}

// fit picks a value and squashes it to (-1, 1) and to n's shape.
func (m *maker) fit(n *graph.Node) *graph.Node {
	for range 20 {
		if v := m.pick(); v != n && v.Shape().Equal(n.Shape()) {
			return v.Tanh()
		}
	}
	return n.Add(m.pick().Sum()).Tanh()
}

func (m *maker) constant(shape ...int) *graph.Node {
	return m.g.Const(graph.F32, uniform(-1, 1)(m.s, graph.F32, graph.Shape(shape).Size()), shape...)
}

// step adds one operation, or a loop.
func (m *maker) step() {
	steps := []func(){
		m.unary, m.unary, m.binary, m.binary, m.binary, m.choose, m.move, m.move, m.join, m.index, m.reduce, m.reduce, m.product, m.conv, m.random,
		m.layer, m.pool, m.window, m.integer, m.integer, m.order, m.detour,
	}
	if m.depth < 2 {
		steps = append(steps, m.loop, m.loop)
	}
	steps[m.s.IntN(len(steps))]()
}

func (m *maker) unary() {
	x := m.pick()
	b := m.bound[x]
	switch m.s.IntN(11) {
	case 0:
		m.add(x.Tanh(), 1)
	case 1:
		m.add(x.Sigmoid(), 1)
	case 2:
		m.add(x.ReLU(), b)
	case 3:
		m.add(x.Neg(), b)
	case 4:
		m.add(x.Abs(), b)
	case 5:
		m.add(x.Abs().AddC(0.5).Sqrt(), b+1)
	case 6:
		m.add(x.Tanh().Exp(), 3)
	case 7:
		m.add(x.Tanh().Expm1(), 3)
	case 8:
		m.add(x.Abs().Log1p(), b)
	case 9:
		m.add(x.Abs().AddC(0.5).Log(), b+1)
	case 10:
		m.add(x.StopGradient().MulC(0.75).AddC(0.25), b+1)
	}
}

func (m *maker) binary() {
	x := m.pick()
	y := m.pick()
	if len(x.Shape()) > 0 && len(y.Shape()) > 0 { // make the shapes fit, mostly by broadcasting
		switch y.Dim(-1) {
		case 1, x.Dim(-1):
			y = y.Reshape(-1, y.Dim(-1)).Slice(0, 0, 1).Reshape(y.Dim(-1))
		default:
			y = y.Sum()
		}
	}
	a, b := m.bound[x], m.bound[y]
	if b == 0 { // y is new
		y, b = y.Tanh(), 1
	}
	switch m.s.IntN(7) {
	case 0:
		m.add(x.Add(y), a+b)
	case 1:
		m.add(x.Sub(y), a+b)
	case 2:
		m.add(x.Mul(y), a*b)
	case 3:
		m.add(x.Div(y.Abs().AddC(1)), a)
	case 4:
		m.add(x.Max(y), max(a, b))
	case 5:
		m.add(y.Min(x), max(a, b))
	case 6:
		m.add(x.Abs().AddC(0.5).MinC(4).Pow(y.Tanh()), 4)
	}
}

// choose selects by position, which is exact.
func (m *maker) choose() {
	x := m.pickRank(1)
	axis := m.s.IntN(x.Rank())
	at := m.g.Iota(graph.I32, axis, x.Shape()...)
	c := at.Lt(at.C(float64(m.s.IntN(x.Dim(axis) + 1))))
	if m.s.IntN(2) == 0 {
		c = at.And(at.C(1)).Eq(at.C(0)).Xor(c)
	}
	m.add(graph.Select(c, x, m.fit(x)), max(m.bound[x], 1))
}

func (m *maker) move() {
	x := m.pickRank(1)
	b, r := m.bound[x], x.Rank()
	lo, hi, step := make([]int, r), make([]int, r), make([]int, r)
	switch m.s.IntN(6) {
	case 0:
		m.add(x.Transpose(m.s.Perm(r)...), b)
	case 1:
		m.add(x.Reverse(m.s.IntN(r)), b)
	case 2:
		for i, d := range x.Shape() {
			lo[i] = m.s.IntN((d + 1) / 2)
			hi[i] = d - m.s.IntN((d+1-lo[i])/2+1)/2
			step[i] = 1 + m.s.IntN(2)
		}
		m.add(x.SliceND(lo, hi, step), b)
	case 3:
		for i := range x.Shape() {
			lo[i], hi[i], step[i] = m.s.IntN(2), m.s.IntN(2), 1+m.s.IntN(2)
		}
		m.add(x.PadND(lo, hi, step), b)
	case 4:
		m.add(x.Reshape(-1, x.Dim(-1)), b)
	case 5:
		m.add(x.Expand(0).BroadcastTo(append([]int{2}, x.Shape()...)...), b)
	}
}

func (m *maker) join() {
	x := m.pickRank(1)
	m.add(graph.Concat(m.s.IntN(x.Rank()), x, m.fit(x)), max(m.bound[x], 1))
}

// index gathers, scatters or adds up along an axis.
func (m *maker) index() {
	x := m.pickRank(1)
	axis := m.s.IntN(x.Rank())
	n := 1 + m.s.IntN(5)
	s := x.Shape().With(axis, n)
	idx := m.g.Const(graph.I32, ints(0, x.Dim(axis)-1)(m.s, graph.I32, s.Size()), s...)
	switch m.s.IntN(3) {
	case 0:
		m.add(x.Gather(axis, idx), m.bound[x])
	case 1:
		m.add(x.Gather(axis, idx).ScatterAdd(axis, idx, x.Dim(axis)), m.bound[x]*float64(n))
	case 2:
		m.add(x.CumSum(axis), m.bound[x]*float64(x.Dim(axis)))
	}
}

// reduce takes care that no result is 0 but for rounding.
func (m *maker) reduce() {
	x := m.pickRank(1)
	axes := m.s.Perm(x.Rank())[:1+m.s.IntN(x.Rank())]
	switch b := m.bound[x]; m.s.IntN(5) {
	case 0:
		m.add(x.Sum(axes...), b*float64(x.Size()))
	case 1:
		m.add(x.Mean(axes...), b)
	case 2:
		m.add(x.ReduceMaxKeep(axes...), b)
	case 3:
		m.add(x.Sub(x.MeanKeep(axes...).MulC(0.5)), 2*b)
	case 4:
		z := x.Tanh()
		m.add(z.Sub(z.Exp().SumKeep(axes...).Log()).SubC(1), 10)
	}
}

func (m *maker) product() {
	x := m.pickRank(2)
	if x.Rank() > 3 {
		x = x.Reshape(-1, x.Dim(-2), x.Dim(-1))
	}
	x = x.Tanh()
	if m.s.IntN(2) == 0 {
		m.add(graph.MatMul(x, x, false, true), float64(x.Dim(-1)))
		return
	}
	w := m.constant(append(slices.Clone(x.Shape()[:x.Rank()-2]), x.Dim(-1), 1+m.s.IntN(6))...)
	m.add(x.MatMul(w), float64(x.Dim(-1)))
}

func (m *maker) conv() {
	x := m.pickRank(4)
	x = x.Reshape(-1, x.Dim(-3), x.Dim(-2), x.Dim(-1)).Tanh()
	win, h, w := m.geometry(x)
	f := m.constant(1+m.s.IntN(9), x.Dim(1), h, w)
	m.add(x.Conv2D(f, win), float64(x.Dim(1)*h*w))
}

// geometry is that of a convolution of x, with a filter of (h,w).
func (m *maker) geometry(x *graph.Node) (win graph.Window, h, w int) {
	if m.s.IntN(2) == 0 { // the usual ones
		k := 1 + 2*m.s.IntN(2)
		return graph.Square(1+m.s.IntN(2), k/2), k, k
	}
	var k [2]int
	for i := range k {
		k[i] = 1 + m.s.IntN(4)
		win.Stride[i], win.Dilation[i], win.Pad[i] = 1+m.s.IntN(3), 1+m.s.IntN(2), m.s.IntN(k[i]+1)
		if reach := (k[i]-1)*win.Dilation[i] + 1; x.Dim(2+i)+2*win.Pad[i] < reach {
			win.Pad[i] = reach
		}
	}
	return win, k[0], k[1]
}

func (m *maker) random() {
	site := "site" + string(rune('0'+m.s.IntN(10)))
	m.add(m.draw.Uniform(site, 1+m.s.IntN(4), m.last), 1)
}
