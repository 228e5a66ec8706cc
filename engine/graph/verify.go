package graph

import "fmt"

// Verify checks everything that the rest of temper relies on: operands stand
// before their users and are visible to them, types follow from the rules,
// equal nodes are one, bodies are closed, assignments are sound. Every pass
// must give a graph that it accepts.
func Verify(g *Graph) error {
	if g.err != nil {
		return g.err
	}
	if g.cur != g.root {
		return fmt.Errorf("graph %q: a loop body is still open", g.name)
	}
	v := &verifier{g: g, seen: map[*Node]bool{}}
	if err := v.block(g.root); err != nil {
		return fmt.Errorf("graph %q: %w", g.name, err)
	}
	for _, o := range g.outputs {
		if !v.seen[o.Node] || o.Node.block != g.root {
			return fmt.Errorf("graph %q: output %q is not a node of its top level", g.name, o.Name)
		}
	}
	states := map[*Node]bool{}
	for _, a := range g.assigns {
		s := a.State
		if s.op != OpState || !v.seen[s] || !v.seen[a.Value] || a.Value.block != g.root || states[s] ||
			s.dtype != a.Value.dtype || !s.shape.Equal(a.Value.shape) {
			return fmt.Errorf("graph %q: unsound assignment to %q", g.name, s.attrs.Name)
		}
		states[s] = true
	}
	return nil
}

type verifier struct {
	g    *Graph
	seen map[*Node]bool
}

func (v *verifier) block(b *Block) error {
	keys := map[string]*Node{}
	for _, n := range b.nodes {
		if n.block != b || n.g() != v.g {
			return fmt.Errorf("node %d (%v) stands in a block that is not its own", n.id, n.op)
		}
		for _, in := range n.ins {
			if !v.seen[in] || !in.block.Encloses(b) {
				return fmt.Errorf("node %d (%v) reads node %d, which is not visible before it", n.id, n.op, in.id)
			}
		}
		if n.op == OpLoop {
			if err := v.block(n.body); err != nil {
				return err
			}
			for _, r := range n.body.results {
				if !v.seen[r] || !r.block.Encloses(n.body) {
					return fmt.Errorf("loop %d yields a value that is not visible in its body", n.id)
				}
			}
		} else if n.op != OpParam {
			if twin := keys[n.key]; twin != nil {
				return fmt.Errorf("nodes %d and %d (%v) are equal", twin.id, n.id, n.op)
			}
			keys[n.key] = n
		}
		if err := reinfer(n); err != nil {
			return err
		}
		v.seen[n] = true
	}
	return nil
}

func reinfer(n *Node) error {
	m := *n
	if err := infer(&m); err != nil {
		return fmt.Errorf("node %d: %w", n.id, err)
	}
	if m.dtype != n.dtype || !m.shape.Equal(n.shape) {
		return fmt.Errorf("node %d (%v) has type %s: the rules give %s", n.id, n.op, n.typed(), m.typed())
	}
	return nil
}
