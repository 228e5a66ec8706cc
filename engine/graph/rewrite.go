package graph

import (
	"fmt"
	"slices"
)

// Copier carries a rewrite from one graph to a new one.
type Copier struct {
	Dst  *Graph // the new graph; its current block is the copy of the old node's
	img  map[*Node]*Node
	drop map[*Node][]bool // loop results to leave out
	from DType            // with to: an element type to be replaced; InvalidType: none
	to   DType
	// recast says how a loop carries a value in another form; nil, or a nil
	// result: as it is.
	recast func(loop *Node, carried int, operand *Node) *Recast
	forms  map[*Node][]*Recast // by new loop
}

// Recast is another form of a carried value: the same elements in another
// order. In makes the form, of the operand and of every next value; Out undoes
// it, for the parameter and the loop's result.
type Recast struct{ In, Out func(*Node) *Node }

// Image is the copy of a node already passed, nil if there is none.
func (c *Copier) Image(old *Node) *Node { return c.img[old] }

// Keep copies one node as it is, with new operands.
func (c *Copier) Keep(n *Node, ins []*Node) *Node {
	return c.Dst.MakeTyped(n.op, n.attrs, c.dtype(n.dtype), n.shape, ins...)
}

// dtype is the element type that stands for t.
func (c *Copier) dtype(t DType) DType {
	if t == c.from {
		return c.to
	}
	return t
}

// At runs f with an enclosing block current, so that what it makes stands
// there: hoisting.
func (c *Copier) At(b *Block, f func() *Node) *Node {
	if !b.Encloses(c.Dst.cur) {
		panic("BUG: graph: Copier.At: not an enclosing block")
	}
	cur := c.Dst.cur
	c.Dst.cur = b
	n := f()
	c.Dst.cur = cur
	return n
}

// Current is the block of the new graph that is being filled.
func (c *Copier) Current() *Block { return c.Dst.cur }

// RewriteCarried is Rewrite with a say in the form in which loops carry their
// values: recast is asked for each one, with its new operand.
func RewriteCarried(g *Graph, fn func(c *Copier, n *Node, ins []*Node) *Node, recast func(loop *Node, carried int, operand *Node) *Recast) (*Graph, error) {
	if err := g.Err(); err != nil {
		return nil, err
	}
	c := &Copier{Dst: New(g.name), img: map[*Node]*Node{}, recast: recast, forms: map[*Node][]*Recast{}}
	return c.run(g, fn)
}

// Rewrite builds a new graph from the nodes that g's outputs and assignments
// need. For each of them, operands first, fn gives the node that stands for it
// (nil: a copy); loops are entered by Rewrite itself. Sharing equal nodes and
// dropping dead ones comes with every rewrite.
func Rewrite(g *Graph, fn func(c *Copier, n *Node, ins []*Node) *Node) (*Graph, error) {
	return RewriteCarried(g, fn, nil)
}

func (c *Copier) run(g *Graph, fn func(c *Copier, n *Node, ins []*Node) *Node) (*Graph, error) {
	live := c.live(g)
	c.block(g.root, live, fn)
	for _, o := range g.outputs {
		c.Dst.Output(o.Name, c.img[o.Node])
	}
	for _, a := range g.assigns {
		c.Dst.Assign(c.img[a.State], c.img[a.Value])
	}
	if c.Dst.err == nil {
		c.Dst.root.sweep(Live(c.Dst))
	}
	return c.Dst, c.Dst.err
}

// sweep forgets the nodes that nothing needs: what a rewrite built and then
// did not use.
func (b *Block) sweep(live map[*Node]bool) {
	b.nodes = slices.DeleteFunc(b.nodes, func(n *Node) bool {
		dead := !live[n] && n.op != OpParam
		if dead {
			delete(b.interns, n.key)
		}
		return dead
	})
	for _, n := range b.nodes {
		if n.body != nil {
			n.body.sweep(live)
		}
	}
}

func (c *Copier) block(b *Block, live map[*Node]bool, fn func(*Copier, *Node, []*Node) *Node) {
	for _, n := range b.nodes {
		if !live[n] || n.op == OpParam {
			continue
		}
		ins := make([]*Node, len(n.ins))
		for i, in := range n.ins {
			ins[i] = c.img[in]
		}
		var m *Node
		if n.op == OpLoop {
			m = c.loop(n, ins, live, fn)
		} else if m = fn(c, n, ins); m == nil {
			m = c.Keep(n, ins)
		}
		m = m.Named(n.label)
		if f := c.form(n, ins); f != nil {
			m = f.Out(m).Named(n.label)
		}
		c.img[n] = m
	}
}

// form is the form of the carried value that a get reads, nil if it is plain.
func (c *Copier) form(n *Node, ins []*Node) *Recast {
	if n.op != OpGet || c.forms == nil || n.attrs.Index >= n.ins[0].attrs.Carry {
		return nil
	}
	return c.forms[ins[0]][n.attrs.Index]
}

func (c *Copier) loop(n *Node, ins []*Node, live map[*Node]bool, fn func(*Copier, *Node, []*Node) *Node) *Node {
	drop := c.drop[n]
	dropped := func(i int) bool { return drop != nil && i < len(drop) && drop[i] }
	carry := 0
	var keptIns, params []*Node
	var forms []*Recast // of the carried values
	for i, in := range ins {
		if i < n.attrs.Carry && dropped(i) {
			continue
		}
		if i < n.attrs.Carry {
			carry++
			var f *Recast
			if c.recast != nil {
				f = c.recast(n, i, in)
			}
			if forms = append(forms, f); f != nil {
				in = f.In(in)
			}
		}
		keptIns, params = append(keptIns, in), append(params, n.body.params[1+i])
	}
	dtypes, shapes := make([]DType, len(params)), make([]Shape, len(params))
	for i, p := range params {
		dtypes[i], shapes[i] = c.dtype(p.dtype), p.shape
		if i < carry {
			shapes[i] = keptIns[i].shape
		}
	}
	body := c.Dst.OpenBody(dtypes, shapes)
	c.img[n.body.params[0]] = body.params[0].Named(n.body.params[0].label)
	for i, p := range params {
		q := body.params[i+1].Named(p.label)
		if i < carry && forms[i] != nil {
			q = forms[i].Out(q)
		}
		c.img[p] = q
	}
	c.block(n.body, live, fn)
	var results []*Node
	for i, r := range n.body.results {
		if dropped(i) {
			continue
		}
		m := c.img[r]
		if k := len(results); k < carry && forms[k] != nil {
			m = forms[k].In(m)
		}
		results = append(results, m)
	}
	c.Dst.CloseBody(results...)
	m := c.Dst.MakeLoop(n.attrs.Trips, carry, body, keptIns...)
	if c.forms != nil {
		c.forms[m] = forms
	}
	return m
}

// Live is the set of nodes that g's outputs and assignments need. A loop that
// is needed needs its whole yield.
func Live(g *Graph) map[*Node]bool { return (&Copier{}).live(g) }

func (c *Copier) live(g *Graph) map[*Node]bool {
	live := map[*Node]bool{}
	var mark func(*Node)
	mark = func(n *Node) {
		if live[n] {
			return
		}
		live[n] = true
		drop := c.drop[n]
		for i, in := range n.ins {
			if drop == nil || i >= n.attrs.Carry || !drop[i] {
				mark(in)
			}
		}
		if n.body != nil {
			for i, r := range n.body.results {
				if drop == nil || !drop[i] {
					mark(r)
				}
			}
		}
	}
	for _, o := range g.outputs {
		mark(o.Node)
	}
	for _, a := range g.assigns {
		mark(a.State)
		mark(a.Value)
	}
	return live
}

// DropResults copies g without the loop results marked in drop, by loop. A
// dropped carried value goes with its operand and parameter; it must be needed
// by nothing that stays.
func DropResults(g *Graph, drop map[*Node][]bool) (*Graph, error) {
	if err := g.Err(); err != nil {
		return nil, err
	}
	c := &Copier{Dst: New(g.name), img: map[*Node]*Node{}, drop: drop}
	return c.run(g, func(c *Copier, n *Node, ins []*Node) *Node {
		d := drop[nodeLoop(n)]
		if n.op != OpGet || d == nil {
			return nil
		}
		index := 0
		for i := range n.attrs.Index {
			if !d[i] {
				index++
			}
		}
		return c.Dst.Make(OpGet, Attrs{Index: index}, ins...)
	})
}

// Retype copies g with one floating-point type in place of another, states
// included: a float64 run of a float32 program. What comes from outside keeps
// its type, and is converted where it enters: inputs, scalars, random numbers.
func Retype(g *Graph, from, to DType) (*Graph, error) {
	if err := g.Err(); err != nil {
		return nil, err
	}
	if !from.Float() || !to.Float() {
		return nil, fmt.Errorf("retype %v to %v: both must be floating-point types", from, to)
	}
	c := &Copier{Dst: New(g.name), img: map[*Node]*Node{}, from: from, to: to}
	h, err := c.run(g, func(c *Copier, n *Node, ins []*Node) *Node {
		if n.dtype != from {
			return nil
		}
		switch n.op {
		case OpInput, OpScalar, OpNormal:
			return c.Dst.MakeTyped(n.op, n.attrs, n.dtype, n.shape, ins...).Convert(to)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for _, n := range g.root.nodes { // what nothing needs may still be fed and set
		if c.img[n] == nil && (n.op == OpInput || n.op == OpScalar) {
			h.MakeTyped(n.op, n.attrs, n.dtype, n.shape)
		}
	}
	return h, h.Err()
}

// nodeLoop is the loop that a get reads, else nil.
func nodeLoop(n *Node) *Node {
	if n.op == OpGet {
		return n.ins[0]
	}
	return nil
}

// WithShape describes the same operation with another declared shape, for
// Copier.Keep. It is no node of any graph.
func (n *Node) WithShape(s Shape) *Node {
	m := *n
	m.shape = s
	return &m
}
