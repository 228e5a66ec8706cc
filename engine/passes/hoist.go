package passes

import "temper/engine/graph"

// hoist moves what does not depend on the iteration out of loop bodies, as far
// out as its operands allow: the clean forward pass of TRADES, a filter's
// transform, ε's arithmetic. Broadcasts stay: they cost nothing where they are
// used and would cost memory outside.
func hoist(g *graph.Graph) (*graph.Graph, error) {
	return graph.Rewrite(g, func(c *graph.Copier, n *graph.Node, ins []*graph.Node) *graph.Node {
		if n.Op() == graph.OpGet || n.Op() == graph.OpBroadcast {
			return nil
		}
		b := c.Current()
		for b.Parent() != nil && visible(b.Parent(), ins) {
			b = b.Parent()
		}
		if b == c.Current() {
			return nil
		}
		return c.At(b, func() *graph.Node {
			for i, in := range ins {
				ins[i] = lift(b, in)
			}
			return c.Keep(n, ins)
		})
	})
}

// visible reports whether all operands can be read in b, seeing through the
// broadcasts that stayed behind.
func visible(b *graph.Block, ins []*graph.Node) bool {
	for _, in := range ins {
		if in.Op() == graph.OpBroadcast && in.In(0).Block().Encloses(b) {
			continue
		}
		if !in.Block().Encloses(b) {
			return false
		}
	}
	return true
}

// lift repeats in b a broadcast that stayed behind in a body.
func lift(b *graph.Block, in *graph.Node) *graph.Node {
	if in.Op() == graph.OpBroadcast && !in.Block().Encloses(b) {
		return in.In(0).BroadcastTo(in.Shape()...)
	}
	return in
}
