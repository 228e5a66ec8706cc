package passes

import (
	"math"
	"slices"

	"temper/engine/graph"
)

// sums takes the sum of a linear expression apart where it then follows from
// sums that are computed before: Σ(a+b) = Σa + Σb, Σ(-a) = -Σa, Σ(f·a) = f·Σa
// for a factor that is the same wherever is summed, and Σ(x - mean x) = 0. The
// gradient of batch norm's mean is such a sum; known beforehand, it spares a walk
// over the images. Only rounding changes, and what is not finite.
//
// A sum of a itself is made where a walk over a sums something else, as that of
// a·b: it costs little beside it.
func sums(g *graph.Graph) (*graph.Graph, error) {
	l := linear{known: map[*graph.Node][]*graph.Node{}, beside: map[*graph.Node][]*graph.Node{}}
	return graph.Rewrite(g, func(c *graph.Copier, n *graph.Node, ins []*graph.Node) *graph.Node {
		if n.Op() != graph.OpReduceSum || !n.DType().Float() {
			return nil
		}
		l.dst, l.axes, l.block = c.Dst, n.Attrs().Axes, c.Current()
		switch s, ok := l.sum(ins[0]); {
		case ok && s == nil:
			return c.Dst.Const(n.DType(), []float64{0}, n.Shape()...)
		case ok:
			return s
		}
		return l.make(ins[0])
	})
}

// linear finds sums over some axes.
type linear struct {
	dst    *graph.Graph
	axes   []int
	block  *graph.Block                  // where they are needed
	known  map[*graph.Node][]*graph.Node // the sums of a value so far
	beside map[*graph.Node][]*graph.Node // those of element-wise values that read it
}

// make makes the sum of x.
func (l *linear) make(x *graph.Node) *graph.Node {
	s := l.dst.Make(graph.OpReduceSum, graph.Attrs{Axes: l.axes}, x)
	l.known[x] = append(l.known[x], s)
	if x.Op().Class() == graph.ClassElementwise {
		for _, in := range x.Ins() {
			l.beside[in] = append(l.beside[in], s)
		}
	}
	return s
}

// visible is a sum over the axes that can be read, nil if there is none.
func (l *linear) visible(sums []*graph.Node) *graph.Node {
	for _, s := range sums {
		if slices.Equal(s.Attrs().Axes, l.axes) && s.Block().Encloses(l.block) {
			return s
		}
	}
	return nil
}

// sum is the sum of x, nil for 0, if it follows from sums that are there.
func (l *linear) sum(x *graph.Node) (*graph.Node, bool) {
	if s := l.visible(l.known[x]); s != nil {
		return s, true
	}
	switch x.Op() {
	case graph.OpNeg:
		s, ok := l.sum(x.In(0))
		if s != nil {
			s = s.Neg()
		}
		return s, ok
	case graph.OpAdd:
		a, ok := l.sum(x.In(0))
		b, also := l.sum(x.In(1))
		switch {
		case a == nil:
			a = b
		case b != nil:
			a = a.Add(b)
		}
		return a, ok && also
	case graph.OpSub:
		return nil, l.deviation(x)
	case graph.OpMul:
		for i := range 2 {
			f := x.In(i)
			if f.Op() != graph.OpBroadcast || !l.single(f.In(0)) {
				continue
			}
			s, ok := l.sum(x.In(1 - i))
			if s != nil {
				s = s.Mul(f.In(0).BroadcastTo(s.Shape()...))
			}
			return s, ok
		}
	}
	if s := l.visible(l.beside[x]); s != nil && s.Block() == l.block {
		return l.make(x), true
	}
	return nil, false
}

// single reports whether f has one element along the axes.
func (l *linear) single(f *graph.Node) bool {
	return !slices.ContainsFunc(l.axes, func(a int) bool { return f.Dim(a) != 1 })
}

// deviation reports whether d is x less the mean of x, over the axes.
func (l *linear) deviation(d *graph.Node) bool {
	x, mean := d.In(0), d.In(1)
	if mean.Op() != graph.OpBroadcast || mean.In(0).Op() != graph.OpMul {
		return false
	}
	count := 1.0
	for _, a := range l.axes {
		count *= float64(x.Dim(a))
	}
	for i, s := range mean.In(0).Ins() {
		v, ok := splat(mean.In(0).In(1 - i))
		if ok && math.Abs(v*count-1) < 1e-7 && s.Op() == graph.OpReduceSum && s.In(0) == x && slices.Equal(s.Attrs().Axes, l.axes) {
			return true
		}
	}
	return false
}
