package passes

import "temper/engine/graph"

// foldAffine moves a factor per output channel from behind a convolution into
// its filter, and through a subtraction in between: batch norm with frozen
// statistics then costs one addition. It leaves a convolution alone whose
// result is used elsewhere or which the factor depends on (batch statistics).
func foldAffine(g *graph.Graph) (*graph.Graph, error) {
	uses := useCounts(g)
	scaled := map[*graph.Node]bool{} // old convolutions whose factor has moved
	return graph.Rewrite(g, func(c *graph.Copier, n *graph.Node, ins []*graph.Node) *graph.Node {
		if n.Op() != graph.OpMul {
			return nil
		}
		for i := range 2 {
			y, s := n.In(i), ins[1-i]
			conv, shift := y, (*graph.Node)(nil)
			if y.Op() == graph.OpSub && uses[y] == 1 {
				conv, shift = y.In(0), y.In(1)
			}
			if conv.Op() != graph.OpConv2D || uses[conv] != 1 || conv.Block() != n.Block() || scaled[conv] {
				continue
			}
			factor, ok := perChannel(s)
			if !ok {
				continue
			}
			var offset *graph.Node
			if shift != nil {
				if offset, ok = perChannel(c.Image(shift)); !ok {
					continue
				}
			}
			image := c.Image(conv)
			if image.Op() != graph.OpConv2D || dependsOn(s, image) || offset != nil && dependsOn(offset, image) {
				continue
			}
			scaled[conv] = true
			x, w := image.In(0), image.In(1)
			out := c.Keep(conv, []*graph.Node{x, w.Mul(factor.Reshape(w.Dim(0), 1, 1, 1))})
			if offset != nil {
				out = out.Sub(offset.Mul(factor))
			}
			return out
		}
		return nil
	})
}

// perChannel is the (1,O,1,1) tensor under a broadcast to (N,O,H,W).
func perChannel(s *graph.Node) (*graph.Node, bool) {
	if s.Op() != graph.OpBroadcast || s.Rank() != 4 {
		return nil, false
	}
	v := s.In(0)
	return v, v.Dim(0) == 1 && v.Dim(2) == 1 && v.Dim(3) == 1 && v.Dim(1) == s.Dim(1)
}

// useCounts counts, for each live node, the operands, results, outputs and
// assignments that read it.
func useCounts(g *graph.Graph) map[*graph.Node]int {
	uses := map[*graph.Node]int{}
	for n := range graph.Live(g) {
		for _, in := range n.Ins() {
			uses[in]++
		}
		if n.Body() != nil {
			for _, r := range n.Body().Results() {
				uses[r]++
			}
		}
	}
	for _, o := range g.Outputs() {
		uses[o.Node]++
	}
	for _, a := range g.Assigns() {
		uses[a.Value]++
	}
	return uses
}

// dependsOn reports whether n's value needs m's.
func dependsOn(n, m *graph.Node) bool {
	seen := map[*graph.Node]bool{}
	var visit func(*graph.Node) bool
	visit = func(n *graph.Node) bool {
		if n == m {
			return true
		}
		if seen[n] || n.ID() < m.ID() && n.Body() == nil && n.Block() == m.Block() {
			return false
		}
		seen[n] = true
		for _, in := range n.Ins() {
			if visit(in) {
				return true
			}
		}
		if n.Body() != nil {
			for _, r := range n.Body().Results() {
				if visit(r) {
					return true
				}
			}
		}
		return false
	}
	return visit(n)
}
