package passes

import (
	"slices"

	"temper/engine/graph"
)

// deadCode copies the live nodes and drops from loops the results that nobody
// takes: stacked ones without a use, and carried ones that only feed
// themselves. In an attack this frees the loop of everything but the ascent.
func deadCode(g *graph.Graph) (*graph.Graph, error) {
	for {
		dead := deadResults(g)
		if len(dead) == 0 {
			return graph.Rewrite(g, func(*graph.Copier, *graph.Node, []*graph.Node) *graph.Node { return nil })
		}
		var err error
		if g, err = graph.DropResults(g, dead); err != nil {
			return nil, err
		}
	}
}

// deadResults lists, per loop, the results to drop.
func deadResults(g *graph.Graph) map[*graph.Node][]bool {
	taken := map[*graph.Node]map[int]bool{}
	var loops []*graph.Node
	live := graph.Live(g)
	for n := range live {
		switch n.Op() {
		case graph.OpLoop:
			loops = append(loops, n)
		case graph.OpGet:
			if taken[n.In(0)] == nil {
				taken[n.In(0)] = map[int]bool{}
			}
			taken[n.In(0)][n.Attrs().Index] = true
		}
	}
	dead := map[*graph.Node][]bool{}
	for _, l := range loops {
		if drop, any := deadOf(l, taken[l]); any {
			dead[l] = drop
		}
	}
	return dead
}

// deadOf marks the results of one loop that are neither taken nor needed, from
// iteration to iteration, by one that is.
func deadOf(l *graph.Node, taken map[int]bool) (drop []bool, any bool) {
	results, carry := l.Body().Results(), l.Attrs().Carry
	needed := make([]bool, len(results))
	params := map[*graph.Node]int{}
	for i := range carry {
		params[l.Body().Params()[1+i]] = i
	}
	seen := map[*graph.Node]bool{}
	var visit func(n *graph.Node)
	need := func(i int) {
		if !needed[i] {
			needed[i] = true
			visit(results[i])
		}
	}
	visit = func(n *graph.Node) {
		if seen[n] {
			return
		}
		seen[n] = true
		if i, ok := params[n]; ok {
			need(i)
		}
		for _, in := range n.Ins() {
			visit(in)
		}
		if n.Body() != nil {
			for _, r := range n.Body().Results() {
				visit(r)
			}
		}
	}
	for i := range results {
		if taken[i] {
			need(i)
		}
	}
	if carry > 0 && !slices.Contains(needed[:carry], true) {
		need(0) // a loop that carries nothing is another kind: its iterations run side by side
	}
	drop = make([]bool, len(results))
	for i := range results {
		drop[i] = !needed[i]
		any = any || drop[i]
	}
	return drop, any
}

// strip removes stop-gradient.
func strip(g *graph.Graph) (*graph.Graph, error) {
	return graph.Rewrite(g, func(_ *graph.Copier, n *graph.Node, ins []*graph.Node) *graph.Node {
		if n.Op() == graph.OpStopGradient {
			return ins[0]
		}
		return nil
	})
}
