package plan

import (
	"slices"

	"temper/engine/graph"
)

// maxRecomputed bounds the operations that a group computes again for a value.
const maxRecomputed = 16

// recomputer lets groups compute again what they would read from memory, where
// that moves less: the value of an earlier group, from what that group read. So a
// normalised image is never stored, but computed from the convolution's result
// by whoever wants it.
type recomputer struct {
	b      *builder
	within map[*graph.Node][]*group // the groups that compute a node, the one that may store it first
}

// recompute changes the groups of a block, which stand in the order of the
// schedule, and says which values they store.
func (b *builder) recompute(groups []*group) {
	r := &recomputer{b, map[*graph.Node][]*group{}}
	for _, g := range groups {
		for _, n := range g.nodes {
			r.within[n] = append(r.within[n], g)
		}
	}
	if b.o.LessTraffic && !b.o.NoFusion {
		for _, gathered := range []bool{false, true} { // last, when it is known what else groups store
			for _, g := range groups {
				for _, n := range slices.Clone(g.nodes) {
					if b.inMem[n] == gathered && (!gathered || r.within[n][0] == g && b.onlyGathered(n)) {
						r.consider(g, n)
					}
				}
			}
		}
	}
	for i := len(groups) - 1; i >= 0; i-- {
		if g := groups[i]; g.fused {
			r.settle(g)
		}
	}
}

// consider has all groups that read n, a member of g, compute it if they read
// and write less then.
func (r *recomputer) consider(g *group, n *graph.Node) {
	if !g.fused || !n.Shape().Equal(g.space) || n.Op().Class() == graph.ClassReduce {
		return
	}
	readers, ok := r.readers(n)
	if !ok || len(readers) == 0 {
		return
	}
	best := recomputation{}
	all := func(*graph.Node) bool { return false }
	narrow := func(in *graph.Node) bool { return r.b.inMem[in] || bytes(in) < bytes(n) }
	for _, stop := range []func(in *graph.Node) bool{all, narrow} {
		if c, ok := r.recomputation(g, n, readers, stop); ok && c.saved > best.saved {
			best = c
		}
	}
	if best.saved <= 0 {
		return
	}
	for _, d := range readers {
		if !d.fused {
			r.b.takeOver(d.nodes[0], best.prologue)
			continue
		}
		for _, m := range best.needed {
			if !slices.Contains(d.nodes, m) {
				d.nodes = append(d.nodes, m)
				r.within[m] = append(r.within[m], d)
			}
		}
		slices.SortFunc(d.nodes, func(x, y *graph.Node) int { return x.ID() - y.ID() })
	}
}

// recomputation is a way of having readers compute a value: its members, what they
// do for contractions, and the bytes that it saves.
type recomputation struct {
	needed   []*graph.Node
	prologue *Fused
	saved    int
}

// recomputation finds what readers of n, a member of g, compute, from what g reads
// and from the members at which to stop. It returns false if they cannot.
func (r *recomputer) recomputation(g *group, n *graph.Node, readers []*group, stop func(in *graph.Node) bool) (c recomputation, ok bool) {
	needed, outside, ok := r.closure(g, n, stop)
	if !ok {
		return c, false
	}
	size := bytes(n)
	c.needed, c.saved = needed, size // by not writing it
	for _, o := range outside {
		if slices.Contains(g.nodes, o) && !r.stored(o) {
			c.saved -= bytes(o)
		}
	}
	if r.onlyFor(g, n) {
		for _, o := range outside {
			c.saved += bytes(o)
		}
	}
	for _, d := range readers {
		if !d.fused {
			if c.prologue, ok = r.b.prologue(n, needed); !ok {
				return c, false
			}
			c.saved += size - gathering(d.nodes[0], c.prologue)
			for _, o := range outside {
				c.saved -= bytes(o)
			}
			continue
		}
		if !d.space.Equal(g.space) || len(d.nodes)+len(needed) > maxMembers {
			return c, false
		}
		c.saved += size
		for _, o := range outside {
			if !r.reads(d, o) {
				c.saved -= bytes(o)
			}
		}
	}
	return c, true
}

// bytes is the size of a value.
func bytes(n *graph.Node) int { return n.Size() * n.DType().Size() }

// onlyFor says whether a group computes nothing but n that is read from memory.
func (r *recomputer) onlyFor(g *group, n *graph.Node) bool {
	return !slices.ContainsFunc(g.nodes, func(m *graph.Node) bool { return m != n && r.within[m][0] == g && r.stored(m) })
}

// readers lists the groups that read n from memory. It returns false if something
// else does, or reads it other than element by element.
func (r *recomputer) readers(n *graph.Node) (readers []*group, ok bool) {
	for _, user := range r.b.readers[n] {
		if r.b.prologues[user] != nil && user.In(0) == n {
			continue
		}
		groups := r.within[user]
		if len(groups) == 0 { // a reshape, a broadcast, or in another block
			return nil, false
		}
		for _, d := range groups {
			if !slices.Contains(d.nodes, n) && !slices.Contains(readers, d) {
				readers = append(readers, d)
			}
		}
	}
	return readers, true
}

// closure lists the members of g that n is computed from, itself last, and the
// values that they read from memory, members at which to stop included. It returns
// false where computing n again is not cheap, or would keep what could be
// overwritten.
func (r *recomputer) closure(g *group, n *graph.Node, stop func(in *graph.Node) bool) (needed, outside []*graph.Node, ok bool) {
	if !cheap(n) {
		return nil, nil, false
	}
	for _, in := range n.Ins() {
		if slices.Contains(g.nodes, in) && !stop(in) {
			more, beyond, ok := r.closure(g, in, stop)
			if !ok {
				return nil, nil, false
			}
			needed, outside = union(needed, more), union(outside, beyond)
			continue
		}
		base := r.b.base(in)
		if base == nil {
			continue
		}
		for base.Op() == graph.OpReshape {
			base = base.In(0)
		}
		if base.Size() == g.space.Size() && (base.Op() == graph.OpState || base.Op() == graph.OpParam) {
			return nil, nil, false
		}
		outside = union(outside, []*graph.Node{base})
	}
	needed = union(needed, []*graph.Node{n})
	return needed, outside, len(needed) <= maxRecomputed
}

// union appends what is new.
func union(a, b []*graph.Node) []*graph.Node {
	for _, n := range b {
		if !slices.Contains(a, n) {
			a = append(a, n)
		}
	}
	return a
}

// reads says whether a group reads a value from memory anyway.
func (r *recomputer) reads(g *group, o *graph.Node) bool {
	for _, n := range g.nodes {
		for _, in := range n.Ins() {
			if slices.Contains(g.nodes, in) {
				continue
			}
			for in.Op() == graph.OpReshape || in.Op() == graph.OpBroadcast && !r.b.inMem[in] {
				in = in.In(0)
			}
			if in == o {
				return true
			}
		}
	}
	return false
}

// settle finds what a group stores, and drops the members that nothing needs.
// The groups behind it are settled.
func (r *recomputer) settle(g *group) {
	needed := map[*graph.Node]bool{}
	for _, n := range slices.Backward(g.nodes) {
		if r.within[n][0] == g && r.stored(n) {
			g.stored = append(g.stored, n)
			needed[n] = true
		}
		if needed[n] {
			for _, in := range n.Ins() {
				needed[in] = true
			}
		}
	}
	slices.Reverse(g.stored)
	g.nodes = slices.DeleteFunc(g.nodes, func(n *graph.Node) bool {
		if !needed[n] {
			i := slices.Index(r.within[n], g)
			r.within[n] = slices.Delete(slices.Clone(r.within[n]), i, i+1)
		}
		return !needed[n]
	})
}

// stored says whether something reads n from memory.
func (r *recomputer) stored(n *graph.Node) bool {
	if r.b.inMem[n] || n.Op().Class() == graph.ClassReduce {
		return true
	}
	readers, elementwise := r.readers(n)
	return len(readers) > 0 || !elementwise
}

// cheap says whether computing a value again costs less than reading it.
func cheap(n *graph.Node) bool {
	switch n.Op() {
	case graph.OpNeg, graph.OpAbs, graph.OpSign, graph.OpReLU, graph.OpNot, graph.OpConvert, graph.OpAdd, graph.OpSub, graph.OpMul, graph.OpMax, graph.OpMin,
		graph.OpEq, graph.OpNe, graph.OpLt, graph.OpLe, graph.OpGt, graph.OpGe, graph.OpAnd, graph.OpOr, graph.OpXor, graph.OpSelect:
		return true
	}
	return false
}

// behind says whether a group reads, element by element or through reshapes, the
// result of a contraction.
func (b *builder) behind(g, c *group) bool {
	return !c.fused && len(c.nodes) == 1 && c.nodes[0].Op().Class() == graph.ClassContraction && slices.Contains(b.inputs(g), c.nodes[0])
}

// inputs lists what a group reads, other than through strides.
func (b *builder) inputs(g *group) (inputs []*graph.Node) {
	for _, n := range g.nodes {
		for i, in := range n.Ins() {
			if f := b.prologues[n]; i == 0 && f != nil {
				inputs = append(inputs, b.inputs(&group{nodes: f.Nodes})...)
				continue
			}
			for b.inline(in) && len(in.Ins()) > 0 {
				in = in.In(0)
			}
			if !slices.Contains(g.nodes, in) {
				inputs = append(inputs, in)
			}
		}
	}
	return inputs
}

// follow puts groups right behind the contractions that they read, where nothing
// else has to be computed in between.
func (b *builder) follow(groups []*group) []*group {
	at := map[*graph.Node]int{} // the place of the group that makes a node available
	for i, g := range groups {
		for _, n := range g.nodes {
			if _, made := at[n]; !made {
				at[n] = i
			}
		}
	}
	moved := map[*group]bool{}
	var out []*group
	for i, g := range groups {
		if moved[g] {
			continue
		}
		if len(g.nodes) > 0 {
			out = append(out, g)
		}
		for _, d := range groups[i+1:] {
			ready := func(in *graph.Node) bool { k, here := at[in]; return !here || k <= i || moved[groups[k]] }
			if d.fused && !moved[d] && b.behind(d, g) && !slices.ContainsFunc(b.inputs(d), func(in *graph.Node) bool { return !ready(in) }) {
				moved[d] = true
				out = append(out, d)
				break
			}
		}
	}
	return out
}
