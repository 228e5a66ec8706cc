package passes

import "temper/engine/graph"

// widen writes arithmetic on bf16 as what it means: float32 arithmetic whose
// result is rounded to bf16. Movement stays in bf16. A back end that has bf16
// kernels recognises the conversions around an operation.
func widen(g *graph.Graph) (*graph.Graph, error) {
	return graph.Rewrite(g, func(c *graph.Copier, n *graph.Node, ins []*graph.Node) *graph.Node {
		if n.Op() == graph.OpConvert && (n.DType() == graph.BF16 || ins[0].DType() == graph.BF16) {
			return ins[0].Convert(graph.F32).Convert(n.DType()) // to and from float32 only
		}
		if movesOnly(n) {
			return nil
		}
		any := n.DType() == graph.BF16
		wide := make([]*graph.Node, len(ins))
		for i, in := range ins {
			wide[i] = in
			if in.DType() == graph.BF16 {
				wide[i], any = in.Convert(graph.F32), true
			}
		}
		if !any {
			return nil
		}
		return c.Keep(n, wide).Convert(n.DType())
	})
}

// movesOnly reports whether n computes nothing that is rounded.
func movesOnly(n *graph.Node) bool {
	switch n.Op() {
	case graph.OpConvert, graph.OpSelect, graph.OpStopGradient, graph.OpGet:
		return true
	}
	c := n.Op().Class()
	return c == graph.ClassLeaf || c == graph.ClassMovement
}
