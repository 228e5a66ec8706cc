package nn

import (
	"fmt"

	"temper/engine/autodiff"
	"temper/engine/graph"
)

// Leaf is one named node of a Tree.
type Leaf struct {
	Name string
	Node *graph.Node
}

// Tree is an ordered list of named nodes: a model's parameters, its buffers,
// their gradients, an optimiser's slots. Names are unique. Trees are values:
// no function of this package changes one that it is given.
type Tree []Leaf

// Get is the node of that name, nil if there is none.
func (t Tree) Get(name string) *graph.Node {
	for _, l := range t {
		if l.Name == name {
			return l.Node
		}
	}
	return nil
}

// Nodes lists the nodes in order, as autodiff and loops want them.
func (t Tree) Nodes() []*graph.Node {
	nodes := make([]*graph.Node, len(t))
	for i, l := range t {
		nodes[i] = l.Node
	}
	return nodes
}

// With is t with other nodes under the same names, in order. Surplus nodes are
// ignored, so that With(loop results) takes the front of a longer list.
func (t Tree) With(nodes []*graph.Node) Tree {
	if len(nodes) < len(t) {
		panic(fmt.Sprintf("BUG: nn: %d nodes for a tree of %d", len(nodes), len(t)))
	}
	return t.Map(func(i int, _ Leaf) *graph.Node { return nodes[i] })
}

// Map is t with f(i, leaf i) in place of each node.
func (t Tree) Map(f func(i int, l Leaf) *graph.Node) Tree {
	out := make(Tree, len(t))
	for i, l := range t {
		out[i] = Leaf{l.Name, f(i, l)}
	}
	return out
}

// Grad is the gradient of the scalar y with respect to every node of t.
func Grad(y *graph.Node, t Tree) Tree { return t.With(autodiff.Grad(y, t.Nodes()...)) }

// Assign replaces each state by the value of the same place when the step is
// done.
func Assign(states, values Tree) {
	for i, s := range states {
		if s.Node != values[i].Node { // a buffer that the mode leaves alone
			s.Node.Graph().Assign(s.Node, values[i].Node)
		}
	}
}

// Average is the moving average (1−weight)·average + weight·t, leaf by leaf:
// EMA with a constant weight, SWA with weight 1/(n+1) after n averaged weights.
// A weight of 1 gives t itself, and 0 the average, both to the bit. Leaves of
// integer type are taken from t.
func Average(average, t Tree, weight *graph.Node) Tree {
	whole := weight.Ge(weight.C(1))
	return average.Map(func(i int, l Leaf) *graph.Node {
		if !l.Node.DType().Float() {
			return t[i].Node
		}
		return graph.Select(whole, t[i].Node, l.Node.Add(t[i].Node.Sub(l.Node).Mul(weight)))
	})
}
