package passes

import "temper/engine/graph"

// precision writes float32 products at the precision that the target asks for.
// For bf16 it rounds their operands, and their results; the others become an
// attribute, which is the back end's to heed.
//
// Operands that are bf16 anyhow are multiplied as such where the product is
// rounded to bf16 too, which is what widen has made of a bf16 graph: products of
// bf16 are exact in float32, and so the result is the same up to the order of
// sums.
func precision(g *graph.Graph, t Target) (*graph.Graph, error) {
	return graph.Rewrite(g, func(c *graph.Copier, n *graph.Node, ins []*graph.Node) *graph.Node {
		switch {
		case n.Op() == graph.OpConvert && n.DType() == graph.BF16 && multiplies(ins[0]) && fromBF16(ins[0].In(0)) && fromBF16(ins[0].In(1)):
			a := *ins[0].Attrs()
			a.Precision = graph.PrecisionFloat32
			return c.Dst.Make(ins[0].Op(), a, toBF16(ins[0].In(0)), toBF16(ins[0].In(1)))
		case !multiplies(n) || n.DType() != graph.F32:
			return nil
		case t.Precision == graph.PrecisionBF16:
			return c.Dst.Make(n.Op(), *n.Attrs(), toBF16(ins[0]), toBF16(ins[1])).Convert(graph.F32)
		case t.Precision != graph.PrecisionFloat32:
			a := *n.Attrs()
			a.Precision = t.Precision
			return c.Dst.Make(n.Op(), a, ins...)
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
