package passes

import (
	"slices"

	"temper/engine/graph"
)

// narrow moves element-wise operations above the broadcasts of all their
// operands: the scalar arithmetic on ε, learning rates and per-channel
// statistics is then done once an operand, not once an element.
func narrow(g *graph.Graph) (*graph.Graph, error) {
	return graph.Rewrite(g, func(c *graph.Copier, n *graph.Node, ins []*graph.Node) *graph.Node {
		if n.Op().Class() != graph.ClassElementwise || n.Rank() == 0 {
			return nil
		}
		small, ok := narrowShape(n, ins)
		if !ok {
			return nil
		}
		args := make([]*graph.Node, len(ins))
		for i, in := range ins {
			if v, ok := splat(in); ok {
				args[i] = c.Dst.Const(in.DType(), []float64{v}, small...)
			} else {
				args[i] = in.In(0).BroadcastTo(small...)
			}
		}
		return c.Keep(n.WithShape(small), args).BroadcastTo(n.Shape()...)
	})
}

// narrowShape is the common shape under the operands' broadcasts, if every
// operand is a broadcast or a splat and the result gets smaller by it.
func narrowShape(n *graph.Node, ins []*graph.Node) (graph.Shape, bool) {
	small := graph.Shape(slices.Repeat([]int{1}, n.Rank()))
	wide := false
	for _, in := range ins {
		if _, ok := splat(in); ok {
			continue
		}
		if in.Op() != graph.OpBroadcast {
			return nil, false
		}
		wide = true
		for i, d := range in.In(0).Shape() {
			small[i] = max(small[i], d)
		}
	}
	return small, wide && small.Size() < n.Size()
}
