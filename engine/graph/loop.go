package graph

// Loop runs a body trips times. The body gets the iteration's index (i32, from
// 0), the carried values and, for each scanned tensor (trips, …), its slice of
// the iteration; it returns the next carried values and values to be stacked.
// It may read any value built before. Loop returns the last carried values and
// the stacks (trips, …). A body is pure: nothing is assigned inside it. With
// nothing carried, the iterations are independent: they may run side by side.
func (g *Graph) Loop(trips int, carry, scan []*Node, body func(i *Node, carry, scan []*Node) (next, stack []*Node)) (last, stacks []*Node) {
	if g.check(carry...) || g.check(scan...) {
		_, stack := body(g.invalid, g.invalids(len(carry)), g.invalids(len(scan))) // to count the stacks
		return g.invalids(len(carry)), g.invalids(len(stack))
	}
	outer := g.cur
	b := g.newBlock(outer)
	g.cur = b
	ins := append(append([]*Node{}, carry...), scan...)
	b.params = append(b.params, g.param(0, I32, nil))
	for k, in := range ins {
		s := in.shape
		if k >= len(carry) && len(s) > 0 {
			s = s[1:]
		}
		b.params = append(b.params, g.param(k+1, in.dtype, s))
	}
	next, stack := body(b.params[0], b.params[1:1+len(carry)], b.params[1+len(carry):])
	bad := g.check(next...) || g.check(stack...)
	g.cur = outer
	if bad {
		return g.invalids(len(carry)), g.invalids(len(stack))
	}
	if len(next) != len(carry) {
		g.failf("loop: the body returns %d carried values of %d", len(next), len(carry))
		return g.invalids(len(carry)), g.invalids(len(stack))
	}
	b.results = append(append([]*Node{}, next...), stack...)
	l := g.MakeLoop(trips, len(carry), b, ins...)
	for i := range b.results {
		r := g.Make(OpGet, Attrs{Index: i}, l)
		if i < len(carry) {
			last = append(last, r)
		} else {
			stacks = append(stacks, r)
		}
	}
	return last, stacks
}

// MakeLoop adds a loop whose body is already built, for passes and the parser.
func (g *Graph) MakeLoop(trips, carry int, body *Block, ins ...*Node) *Node {
	if g.check(ins...) {
		return g.invalid
	}
	n := &Node{op: OpLoop, ins: ins, block: g.cur, body: body, attrs: Attrs{Trips: trips, Carry: carry}}
	if err := infer(n); err != nil {
		g.fail(err)
		return g.invalid
	}
	return g.add(n)
}

// OpenBody starts a loop body in the current block and makes it current; its
// parameters are the index and one of each given type. CloseBody ends it.
func (g *Graph) OpenBody(dtypes []DType, shapes []Shape) *Block {
	b := g.newBlock(g.cur)
	g.cur = b
	b.params = append(b.params, g.param(0, I32, nil))
	for i, t := range dtypes {
		b.params = append(b.params, g.param(i+1, t, shapes[i]))
	}
	return b
}

// CloseBody sets the current body's results and returns to the block around it.
func (g *Graph) CloseBody(results ...*Node) {
	b := g.cur
	if b.parent == nil {
		panic("BUG: graph: CloseBody at top level")
	}
	g.check(results...)
	b.results = results
	g.cur = b.parent
}

// param adds a parameter to the current block. Parameters are all different.
func (g *Graph) param(i int, t DType, s Shape) *Node {
	return g.add(&Node{op: OpParam, dtype: t, shape: s, attrs: Attrs{Index: i}, block: g.cur})
}

func (g *Graph) invalids(n int) []*Node {
	out := make([]*Node, n)
	for i := range out {
		out[i] = g.invalid
	}
	return out
}
