package autodiff

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"temper/engine/graph"
)

// Grad returns the derivatives of y, a floating-point scalar, with respect to
// each node of wrt, in wrt's types and shapes. It is VJP with the cotangent 1.
func Grad(y *graph.Node, wrt ...*graph.Node) []*graph.Node {
	g := y.Graph()
	if g.Err() == nil && (!y.DType().Float() || y.Rank() != 0) {
		g.Fail(fmt.Errorf("gradient of %v%v: only a floating-point scalar has one; take the sum or the mean first", y.DType(), y.Shape()))
	}
	return VJP([]*graph.Node{y}, []*graph.Node{y.C(1)}, wrt...)
}

// VJP returns, for each node of wrt, the sum over i of dys[i]ᵀ·(∂ys[i]/∂wrt):
// the vector-Jacobian product with cotangents dys of ys' types and shapes.
//
// The nodes of wrt may be inputs, state, scalars or intermediate values; the
// derivative with respect to one includes what flows through the others. One
// on which no y depends gets zeros. A node gets an adjoint only if it lies
// between wrt and ys, so nothing is computed for the sake of other derivatives.
//
// In a loop's body, the parameters and what stands outside are constants but
// for wrt and what is computed from it. Through a finished loop there is no
// derivative: that is an error of the graph.
func VJP(ys, dys []*graph.Node, wrt ...*graph.Node) []*graph.Node {
	if len(wrt) == 0 {
		return nil
	}
	g := wrt[0].Graph()
	if err := check(ys, dys, wrt); err != nil {
		g.Fail(err)
	}
	if g.Err() != nil {
		return slices.Repeat([]*graph.Node{wrt[0].C(0)}, len(wrt)) // invalid nodes, by the error
	}
	order := ancestors(ys)
	active := dependent(order, wrt)
	adj := map[*graph.Node]*graph.Node{}
	push := func(n, d *graph.Node) {
		if old := adj[n]; old != nil {
			d = old.Add(d)
		}
		adj[n] = d
	}
	for i, y := range ys {
		if active[y] {
			push(y, dys[i])
		}
	}
	for _, n := range slices.Backward(order) {
		dy, rule := adj[n], rules[n.Op()]
		if dy == nil || rule == nil || g.Err() != nil { // nothing flows through what is of wrt itself but has no derivative
			continue
		}
		for i, in := range n.Ins() {
			if active[in] {
				push(in, rule(n, i, dy))
			}
		}
	}
	grads := make([]*graph.Node, len(wrt))
	for i, w := range wrt {
		if grads[i] = adj[w]; grads[i] == nil {
			grads[i] = g.Const(w.DType(), []float64{0}, w.Shape()...)
		}
	}
	return grads
}

func check(ys, dys, wrt []*graph.Node) error {
	if len(ys) != len(dys) {
		return fmt.Errorf("derivative of %d values with %d cotangents", len(ys), len(dys))
	}
	for i, y := range ys {
		if d := dys[i]; y.DType() != d.DType() || !y.Shape().Equal(d.Shape()) {
			return fmt.Errorf("derivative of a value of type %v%v with a cotangent of type %v%v", y.DType(), y.Shape(), d.DType(), d.Shape())
		}
	}
	for _, n := range slices.Concat(ys, dys, wrt) {
		if n.Graph() != wrt[0].Graph() {
			return fmt.Errorf("derivative across two graphs, %q and %q", wrt[0].Graph().Name(), n.Graph().Name())
		}
	}
	for _, w := range wrt {
		if !w.DType().Float() {
			return fmt.Errorf("derivative with respect to %v %v%v: only floating-point values have one", w.Op(), w.DType(), w.Shape())
		}
	}
	return nil
}

// ancestors are the nodes that ys are computed from, loop bodies included, in
// the order of their creation: operands before users.
func ancestors(ys []*graph.Node) []*graph.Node {
	seen := map[*graph.Node]bool{}
	todo := slices.Clone(ys)
	for len(todo) > 0 {
		n := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if seen[n] {
			continue
		}
		seen[n] = true
		todo = append(todo, n.Ins()...)
		if b := n.Body(); b != nil {
			todo = append(todo, b.Results()...)
		}
	}
	return slices.SortedFunc(maps.Keys(seen), func(a, b *graph.Node) int { return cmp.Compare(a.ID(), b.ID()) })
}

// dependent marks the nodes through which a derivative with respect to wrt
// flows. A loop passes the mark from operands to parameters and from one
// iteration's results to the next one's parameters, hence the repetition.
func dependent(order, wrt []*graph.Node) map[*graph.Node]bool {
	active := map[*graph.Node]bool{}
	for _, w := range wrt {
		active[w] = true
	}
	for changed := true; changed; {
		changed = false
		mark := func(n *graph.Node) {
			if !active[n] {
				active[n] = true
				changed = true
			}
		}
		for _, n := range order {
			switch {
			case n.Op() == graph.OpLoop:
				params, results := n.Body().Params()[1:], n.Body().Results()
				for i, in := range n.Ins() {
					if active[in] || i < n.Attrs().Carry && active[results[i]] {
						mark(params[i])
					}
				}
				if slices.ContainsFunc(results, func(r *graph.Node) bool { return active[r] }) {
					mark(n)
				}
			case n.Op() == graph.OpGet:
				if active[n.In(0).Body().Results()[n.Attrs().Index]] {
					mark(n)
				}
			case n.DType().Float() && rules[n.Op()] != nil && slices.ContainsFunc(n.Ins(), func(in *graph.Node) bool { return active[in] }):
				mark(n)
			}
		}
	}
	return active
}
