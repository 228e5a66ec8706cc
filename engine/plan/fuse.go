package plan

import (
	"slices"

	"temper/engine/graph"
)

// Limits of one fused group: beyond them a group's working set leaves the
// fastest memory (CPU: the first-level cache; GPU: the registers).
const maxMembers = 96

// group is a set of nodes that run as one step, while groups are formed.
type group struct {
	nodes []*graph.Node
	fused bool
	space graph.Shape
	axes  []int // of its reductions
	needs []*group
	// members that something reads from memory; set by recompute
	stored []*graph.Node
	into   *group // the group that it was merged into
	seen   int    // last visit of a search
}

func (g *group) root() *group {
	for g.into != nil {
		g = g.into
	}
	return g
}

// fuser forms the groups of one block.
type fuser struct {
	of     map[*graph.Node]*group
	groups []*group
	reader map[*graph.Node]*group // the last fused group that reads a value from outside
	visit  int
	off    bool // every node for itself
	inline func(*graph.Node) bool
}

// fuse partitions a block's nodes. Nodes for which inline is true are no steps
// of their own: their users read through them.
func fuse(nodes []*graph.Node, off bool, inline func(*graph.Node) bool) []*group {
	f := &fuser{of: map[*graph.Node]*group{}, reader: map[*graph.Node]*group{}, off: off, inline: inline}
	for _, n := range nodes {
		f.place(n)
	}
	return f.ordered()
}

func (f *fuser) place(n *graph.Node) {
	g := &group{nodes: []*graph.Node{n}}
	switch class := n.Op().Class(); {
	case class == graph.ClassElementwise, n.Op() == graph.OpBroadcast:
		g.fused, g.space = true, n.Shape()
	case class == graph.ClassReduce:
		g.fused, g.space, g.axes = true, n.In(0).Shape(), n.Attrs().Axes
	}
	f.of[n] = g
	f.groups = append(f.groups, g)
	f.reads(n, func(in *graph.Node) {
		if d := f.of[in]; d != nil {
			g.needs = append(g.needs, d.root())
		}
	})
	if !g.fused || f.off {
		return
	}
	for _, in := range n.Ins() {
		for _, p := range []*group{f.of[in], f.reader[in]} {
			if p != nil {
				g = f.tryMerge(p.root(), g)
			}
		}
	}
	for _, in := range n.Ins() {
		if p := f.of[in]; walked(in) && (p == nil || p.root() != g) {
			f.reader[in] = g
		}
	}
}

// walked reports whether reading n from outside a group costs a walk over
// memory, which two groups had better share.
func walked(n *graph.Node) bool {
	switch n.Op() {
	case graph.OpConst, graph.OpIota, graph.OpScalar, graph.OpBroadcast:
		return false
	}
	return true
}

// tryMerge joins g to an earlier group if they may run as one.
func (f *fuser) tryMerge(p, g *group) *group {
	if p != g && f.canMerge(p, g) {
		return f.merge(p, g)
	}
	return g
}

// canMerge reports whether two groups may run as one: the same space, the same
// reduced axes, nothing read but element by element, no third group between.
func (f *fuser) canMerge(a, b *group) bool {
	if !a.fused || !b.fused || !a.space.Equal(b.space) || len(a.nodes)+len(b.nodes) > maxMembers {
		return false
	}
	if a.axes != nil && b.axes != nil && !slices.Equal(a.axes, b.axes) {
		return false
	}
	return !f.readsWhole(a, b) && !f.readsWhole(b, a) && !f.between(a, b) && !f.between(b, a)
}

// readsWhole reports whether b reads a value of a that is not there element by
// element: a reduction, or a member seen through a reshape or a broadcast.
func (f *fuser) readsWhole(a, b *group) bool {
	for _, n := range b.nodes {
		for _, in := range n.Ins() {
			base := in
			for f.inline(base) && len(base.Ins()) > 0 {
				base = base.In(0)
			}
			p := f.of[base]
			if p != nil && p.root() == a && (base != in || base.Op().Class() == graph.ClassReduce) {
				return true
			}
		}
	}
	return false
}

// between reports whether b needs a through a third group.
func (f *fuser) between(a, b *group) bool {
	f.visit++
	b.seen = f.visit
	for _, d := range f.deps(b) {
		if d != a && f.reaches(d, a) {
			return true
		}
	}
	return false
}

func (f *fuser) reaches(g, a *group) bool {
	if g == a {
		return true
	}
	if g.seen == f.visit {
		return false
	}
	g.seen = f.visit
	for _, d := range f.deps(g) {
		if f.reaches(d, a) {
			return true
		}
	}
	return false
}

// deps lists the groups of the block that g's nodes read, directly, through
// inlined nodes, or by capture in a loop's body.
func (f *fuser) deps(g *group) []*group {
	live := g.needs[:0]
	for _, d := range g.needs {
		d = d.root()
		if d != g && !slices.Contains(live, d) {
			live = append(live, d)
		}
	}
	g.needs = live
	return live
}

// reads calls fn for every node of the block that n needs.
func (f *fuser) reads(n *graph.Node, fn func(*graph.Node)) {
	visit := func(in *graph.Node) {
		for f.inline(in) && len(in.Ins()) > 0 {
			in = in.In(0)
		}
		fn(in)
	}
	for _, in := range n.Ins() {
		visit(in)
	}
	if n.Body() != nil {
		captured(n.Body(), visit)
	}
}

// captured calls fn for every node that a body, or a body inside it, reads
// from outside itself.
func captured(b *graph.Block, fn func(*graph.Node)) {
	outside := func(in *graph.Node) {
		if !b.Encloses(in.Block()) {
			fn(in)
		}
	}
	for _, n := range b.Nodes() {
		for _, in := range n.Ins() {
			outside(in)
		}
		if n.Body() != nil {
			captured(n.Body(), outside)
		}
	}
	for _, r := range b.Results() {
		outside(r)
	}
}

func (f *fuser) merge(a, b *group) *group {
	a.nodes = append(a.nodes, b.nodes...)
	slices.SortFunc(a.nodes, func(x, y *graph.Node) int { return x.ID() - y.ID() })
	if a.axes == nil {
		a.axes = b.axes
	}
	a.needs = append(a.needs, b.needs...)
	b.nodes, b.needs, b.into = nil, nil, a
	return a
}

// ordered lists the groups so that each stands behind those it reads, and
// otherwise in the order in which they were written.
func (f *fuser) ordered() []*group {
	var out []*group
	done := map[*group]bool{}
	var visit func(g *group)
	visit = func(g *group) {
		if done[g] || len(g.nodes) == 0 {
			return
		}
		done[g] = true
		deps := slices.Clone(f.deps(g))
		slices.SortFunc(deps, func(x, y *group) int { return x.nodes[0].ID() - y.nodes[0].ID() })
		for _, d := range deps {
			visit(d)
		}
		out = append(out, g)
	}
	for _, g := range f.groups {
		visit(g)
	}
	return out
}
