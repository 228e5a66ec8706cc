package passes

import (
	"slices"

	"temper/engine/graph"
)

// splitSums writes a sum of what is linear in some values, with factors and
// summands that are the same for everything summed, as sums of those values:
// Σ(a·g + b·(x−m)) is a·Σg + b·(Σx − n·m). It does so where such a factor comes
// from another sum over the same elements, as in the gradient of batch norm: the
// elements are then read once, for both sums, and not again.
func splitSums(g *graph.Graph) (*graph.Graph, error) {
	summed := map[*graph.Node][][]int{} // the axes over which there is a sum already
	return graph.Rewrite(g, func(c *graph.Copier, n *graph.Node, ins []*graph.Node) *graph.Node {
		if n.Op() != graph.OpReduceSum || !n.DType().Float() {
			return nil
		}
		s := &linearSum{axes: n.Attrs().Axes, shape: n.Shape(), summed: summed}
		if s.add(ins[0], nil, false); !s.again(ins[0].Shape()) || len(s.values) > 4 {
			s.values = ins
		}
		for _, v := range s.values {
			summed[v] = append(summed[v], s.axes)
		}
		if slices.Equal(s.values, ins) {
			return nil
		}
		var total *graph.Node
		for i, v := range s.values {
			sum := c.Keep(n, []*graph.Node{v})
			if f := s.factors[i]; f != nil {
				sum = sum.Mul(f)
			}
			total = plus(total, sum)
		}
		if s.steady != nil {
			total = plus(total, s.steady.MulC(float64(ins[0].Size()/n.Size())))
		}
		return total
	})
}

// linearSum is a sum of values times factors, and of summands that are the same
// for everything that is summed.
type linearSum struct {
	axes    []int
	shape   graph.Shape // of the result, and of factors and summands
	values  []*graph.Node
	factors []*graph.Node // nil is 1
	steady  *graph.Node   // nil is 0

	summed map[*graph.Node][][]int
}

// add takes up v times a factor, or its negative.
func (s *linearSum) add(v, factor *graph.Node, negative bool) {
	there := slices.ContainsFunc(s.summed[v], func(axes []int) bool { return slices.Equal(axes, s.axes) })
	switch op := v.Op(); {
	case there:
	case op == graph.OpNeg:
		s.add(v.In(0), factor, !negative)
		return
	case op == graph.OpAdd, op == graph.OpSub:
		s.add(v.In(0), factor, negative)
		s.add(v.In(1), factor, negative != (op == graph.OpSub))
		return
	case op == graph.OpMul:
		for i := range 2 {
			if f := s.unchanging(v.In(i)); f != nil {
				if factor != nil {
					f = f.Mul(factor)
				}
				s.add(v.In(1-i), f, negative)
				return
			}
		}
	}
	f := s.unchanging(v)
	steady := f != nil
	switch {
	case steady && factor != nil:
		f = f.Mul(factor)
	case !steady:
		f = factor
	}
	if negative {
		if f == nil {
			f = v.C(-1).BroadcastTo(s.shape...)
		} else {
			f = f.Neg()
		}
	}
	if steady {
		s.steady = plus(s.steady, f)
		return
	}
	for i, u := range s.values {
		if u == v {
			one := v.C(1).BroadcastTo(s.shape...)
			if s.factors[i] == nil {
				s.factors[i] = one
			}
			if f == nil {
				f = one
			}
			s.factors[i] = s.factors[i].Add(f)
			return
		}
	}
	s.values, s.factors = append(s.values, v), append(s.factors, f)
}

// plus is a + b, where nil is 0.
func plus(a, b *graph.Node) *graph.Node {
	if a == nil {
		return b
	}
	return a.Add(b)
}

// unchanging is, in the result's shape, what is the same for everything summed;
// nil if v is not.
func (s *linearSum) unchanging(v *graph.Node) *graph.Node {
	if x, ok := splat(v); ok {
		return v.Graph().Const(v.DType(), []float64{x}, s.shape...)
	}
	if v.Op() != graph.OpBroadcast {
		return nil
	}
	for _, a := range s.axes {
		if v.In(0).Dim(a) != 1 {
			return nil
		}
	}
	return v.In(0).BroadcastTo(s.shape...)
}

// again says whether a factor or a summand comes from a sum over elements of the
// same shape.
func (s *linearSum) again(of graph.Shape) bool {
	seen := map[*graph.Node]bool{}
	var visit func(n *graph.Node) bool
	visit = func(n *graph.Node) bool {
		if n == nil || seen[n] {
			return false
		}
		seen[n] = true
		if n.Op() == graph.OpReduceSum && n.In(0).Shape().Equal(of) {
			return true
		}
		if n.Size() > s.shape.Size() || n.Op().Class() != graph.ClassElementwise && n.Op() != graph.OpBroadcast && n.Op() != graph.OpReshape {
			return false
		}
		for _, in := range n.Ins() {
			if visit(in) {
				return true
			}
		}
		return false
	}
	for _, f := range s.factors {
		if visit(f) {
			return true
		}
	}
	return false
}
