package passes

import (
	"math"
	"slices"

	"temper/engine/graph"
)

// sums takes the sum of a linear expression apart where it then follows from
// sums that are computed before anyway: Σ(a+b) = Σa + Σb, Σ(-a) = -Σa,
// Σ(f·a) = f·Σa for a factor that is the same wherever is summed, and
// Σ(x - mean x) = 0. The gradient of batch norm's mean is such a sum; known
// beforehand, it spares a walk over the images. Only rounding changes.
//
// Where the target wants less traffic, a sum may be new beside one of deviations
// from the mean: that of what batch norm's gradient starts from is computed
// together with the other sum of its elements, and spares the walk all the same.
func sums(g *graph.Graph, t Target) (*graph.Graph, error) {
	known := map[*graph.Node][]*graph.Node{} // the sums of a value so far
	return graph.Rewrite(g, func(c *graph.Copier, n *graph.Node, ins []*graph.Node) *graph.Node {
		if n.Op() != graph.OpReduceSum || !n.DType().Float() {
			return nil
		}
		l := linear{axes: n.Attrs().Axes, block: c.Current(), known: known}
		s, ok := l.sum(ins[0])
		if !ok && t.LessTraffic {
			l.add = func(x *graph.Node) *graph.Node { return c.Keep(n, []*graph.Node{x}) }
			if s, ok = l.sum(ins[0]); ok && l.deviates && l.added != nil {
				known[l.added] = append(known[l.added], l.sumAdded)
			} else {
				ok = false
			}
		}
		switch {
		case ok && s == nil:
			return c.Dst.Const(n.DType(), []float64{0}, n.Shape()...)
		case ok:
			return s
		}
		s = c.Keep(n, ins)
		known[ins[0]] = append(known[ins[0]], s)
		return s
	})
}

// linear finds sums over some axes.
type linear struct {
	axes  []int
	block *graph.Block // where they are needed
	known map[*graph.Node][]*graph.Node

	deviates        bool                            // some part is deviations from the mean: 0
	add             func(x *graph.Node) *graph.Node // makes a sum; nil if none may be added,
	added, sumAdded *graph.Node                     // or else the one value whose sum was
}

// sum is the sum of x, nil for 0, if it follows from sums that are there.
func (l *linear) sum(x *graph.Node) (*graph.Node, bool) {
	for _, s := range l.known[x] {
		if slices.Equal(s.Attrs().Axes, l.axes) && s.Block().Encloses(l.block) {
			return s, true
		}
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
		if l.deviation(x) {
			l.deviates = true
			return nil, true
		}
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
	switch {
	case l.add == nil || l.added != nil && l.added != x:
		return nil, false
	case l.added == nil:
		l.added, l.sumAdded = x, l.add(x)
	}
	return l.sumAdded, true
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
