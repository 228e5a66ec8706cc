package passes

import "temper/engine/graph"

// storage keeps in bf16, where products are rounded to it, what networks otherwise
// carry past convolutions in float32: a sum of two images that are bf16 themselves,
// as of a residual and its shortcut; and the gradient of a convolution's result,
// which is rounded for the convolution's gradients and is read rounded by whatever
// else reads it. PyTorch's autocast rounds both too. Filters, which have masters in
// float32, and perturbations are neither.
func storage(g *graph.Graph, t Target) (*graph.Graph, error) {
	if t.Precision != graph.PrecisionBF16 {
		return g, nil
	}
	gradients := map[*graph.Node]bool{}
	eachNode(g.Root(), func(n *graph.Node) {
		if dy := gradientOfResult(n); dy != nil && dy.Op() == graph.OpConvert && dy.In(0).Op().Class() != graph.ClassLeaf {
			gradients[dy.In(0)] = true
		}
	})
	return graph.Rewrite(g, func(c *graph.Copier, n *graph.Node, ins []*graph.Node) *graph.Node {
		if n.Op() == graph.OpConvert && n.DType() == graph.BF16 {
			return toBF16(ins[0])
		}
		for i, in := range n.Ins() {
			if gradients[in] {
				ins[i] = toBF16(ins[i]).Convert(graph.F32)
			}
		}
		kept := c.Keep(n, ins)
		if n.Op() == graph.OpAdd && n.Rank() == 4 && fromBF16(ins[0]) && fromBF16(ins[1]) {
			return toBF16(kept).Convert(graph.F32)
		}
		return kept
	})
}

// gradientOfResult is the gradient of a convolution's result if n is a gradient of
// the convolution, else nil.
func gradientOfResult(n *graph.Node) *graph.Node {
	switch n.Op() {
	case graph.OpConv2DInputGrad:
		return n.In(0)
	case graph.OpConv2DFilterGrad:
		return n.In(1)
	}
	return nil
}

// eachNode calls fn for the nodes of a block and of the loops in it.
func eachNode(b *graph.Block, fn func(n *graph.Node)) {
	for _, n := range b.Nodes() {
		fn(n)
		if n.Op() == graph.OpLoop {
			eachNode(n.Body(), fn)
		}
	}
}
