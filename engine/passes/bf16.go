package passes

import "temper/engine/graph"

// bf16Products multiplies bf16 operands as such where the product is rounded to
// bf16 anyhow, which is what widen has made of a bf16 graph: products of bf16
// are exact in float32, and so the result is the same up to the order of sums.
// With Autocast it rounds the operands of all float32 contractions, and their
// results, to bf16.
func bf16Products(g *graph.Graph, t Target) (*graph.Graph, error) {
	return graph.Rewrite(g, func(c *graph.Copier, n *graph.Node, ins []*graph.Node) *graph.Node {
		switch {
		case t.Autocast && multiplies(n) && n.DType() == graph.F32:
			return c.Dst.Make(n.Op(), *n.Attrs(), toBF16(ins[0]), toBF16(ins[1])).Convert(graph.F32)
		case n.Op() == graph.OpConvert && n.DType() == graph.BF16 && multiplies(ins[0]) && fromBF16(ins[0].In(0)) && fromBF16(ins[0].In(1)):
			return c.Dst.Make(ins[0].Op(), *ins[0].Attrs(), toBF16(ins[0].In(0)), toBF16(ins[0].In(1)))
		}
		return nil
	})
}

// multiplies reports whether n is a contraction that back ends have in bf16.
func multiplies(n *graph.Node) bool {
	switch n.Op() {
	case graph.OpMatMul, graph.OpConv2D, graph.OpConv2DInputGrad, graph.OpConv2DFilterGrad:
		return true
	}
	return false
}

// fromBF16 reports whether n is a bf16 value in float32.
func fromBF16(n *graph.Node) bool {
	return n.Op() == graph.OpConvert && n.DType() == graph.F32 && n.In(0).DType() == graph.BF16
}

// toBF16 rounds n, or takes what it was before it became a float32.
func toBF16(n *graph.Node) *graph.Node {
	if fromBF16(n) {
		return n.In(0)
	}
	return n.Convert(graph.BF16)
}
