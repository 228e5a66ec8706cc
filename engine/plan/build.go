package plan

import (
	"slices"

	"temper/engine/graph"
)

// Options say what the device wants, and switch parts of planning off, for tests
// that compare with and without.
type Options struct {
	NoFusion  bool // every operation is a step of its own
	NoReuse   bool // every temporary keeps its own memory
	NoInPlace bool // carried values and state are always copied
	// LessTraffic is for devices that compute faster than they read memory, with
	// kernels that compute groups behind contractions (traffic.go).
	LessTraffic bool
	// Prologues is for those whose convolutions can compute a group on the image's
	// way into them (prologue.go). It comes with LessTraffic.
	Prologues bool
	// Branches is for devices that run two branches of the schedule at once, or
	// groups (branches.go).
	Branches bool
}

// Build plans a graph that passes.Run has been through.
func Build(g *graph.Graph, o Options) *Plan {
	b := &builder{
		p:         &Plan{Graph: g, loc: map[*graph.Node]int{}},
		o:         o,
		live:      graph.Live(g),
		inMem:     map[*graph.Node]bool{},
		outside:   map[*graph.Node]bool{},
		uses:      map[int][]use{},
		written:   map[int]int{},
		moved:     map[int]int{},
		old:       map[*graph.Node][]*graph.Node{},
		prologues: map[*graph.Node]*Fused{},
		spots:     map[int]spot{},
		began:     map[int]int{},
		ended:     map[int]int{},
	}
	b.readers = readersOf(b.live)
	b.materialise()
	b.replaced()
	b.p.Steps = b.block(g.Root())
	b.finish()
	b.rename(b.p.Steps)
	b.place()
	return b.p
}

type builder struct {
	p       *Plan
	o       Options
	live    map[*graph.Node]bool
	inMem   map[*graph.Node]bool // values that must exist as a whole,
	outside map[*graph.Node]bool // some of them because they leave their block
	now     int                  // schedule time
	apart   int                  // parallel loops around what is being planned

	readers map[*graph.Node][]*graph.Node
	uses    map[int][]use // reads of each buffer
	written map[int]int   // time of each buffer's (last) write
	moved   map[int]int   // where values were redirected

	prologues map[*graph.Node]*Fused // of convolutions

	old map[*graph.Node][]*graph.Node // what a value replaces, in states or a loop

	region       int          // the last one
	spots        map[int]spot // by time
	began, ended map[int]int  // of the regions
}

// use is one read of a buffer.
type use struct {
	time  int
	fused *Fused // the reading group, if it reads element by element
}

// materialise marks the values that something other than an element-wise
// member reads: kernels, loops, outputs, assignments.
func (b *builder) materialise() {
	mark := func(n *graph.Node, outside bool) {
		for n.Op() == graph.OpReshape {
			n = n.In(0)
		}
		b.inMem[n] = true
		if outside {
			b.outside[n] = true
		}
	}
	for n := range b.live {
		if !elementwise(n) {
			for _, in := range n.Ins() {
				mark(in, false)
			}
		}
		if n.Body() != nil {
			for _, r := range n.Body().Results() {
				mark(r, true)
			}
		}
	}
	for _, o := range b.p.Graph.Outputs() {
		mark(o.Node, true)
	}
	for _, a := range b.p.Graph.Assigns() {
		mark(a.Value, true)
	}
}

// elementwise reports whether n reads its operands through strides.
func elementwise(n *graph.Node) bool {
	c := n.Op().Class()
	return c == graph.ClassElementwise || c == graph.ClassReduce || n.Op() == graph.OpBroadcast
}

// inline reports whether n is no step: its users read through it.
func (b *builder) inline(n *graph.Node) bool {
	switch n.Op() {
	case graph.OpReshape, graph.OpGet:
		return true
	case graph.OpBroadcast:
		return !b.inMem[n]
	}
	return n.Op().Class() == graph.ClassLeaf
}

// block schedules one block's live nodes.
func (b *builder) block(blk *graph.Block) []Step {
	var nodes []*graph.Node
	for _, n := range blk.Nodes() {
		if b.live[n] && !b.inline(n) {
			nodes = append(nodes, n)
		}
	}
	var steps []Step
	groups := fuse(nodes, b.o.NoFusion, b.inline)
	b.recompute(groups)
	if b.o.LessTraffic {
		groups = b.follow(groups)
	}
	groups, spots := b.regions(groups)
	b.sets(groups, spots)
	for i, g := range groups {
		if len(g.nodes) == 0 { // whoever wants its values computes them
			continue
		}
		b.now++
		b.enter(spots[g])
		switch n := g.nodes[0]; {
		case g.fused:
			if b.o.LessTraffic && i > 0 && b.behind(g, groups[i-1]) {
				b.readOperands(groups[i-1].nodes[0]) // the two may run at once
			}
			s := b.fused(g)
			if at := spots[g]; at.set {
				s.Set = at.region
			} else {
				s.Region, s.Branch = at.region, at.branch
			}
			steps = append(steps, s)
		case n.Op() == graph.OpLoop && n.Attrs().Carry == 0:
			steps = append(steps, Step{Loop: b.parallel(n)})
		case n.Op() == graph.OpLoop:
			steps = append(steps, b.loop(n)...)
		default:
			b.readOperands(n)
			b.define(n)
			steps = append(steps, Step{Op: n, Prologue: b.prologues[n], Region: spots[g].region, Branch: spots[g].branch})
		}
	}
	return steps
}

// readersOf lists, for each node, the live nodes that take it as an operand.
func readersOf(live map[*graph.Node]bool) map[*graph.Node][]*graph.Node {
	readers := map[*graph.Node][]*graph.Node{}
	for n := range live {
		for _, in := range n.Ins() {
			readers[in] = append(readers[in], n)
		}
	}
	return readers
}

func (b *builder) fused(g *group) Step {
	f := &Fused{Space: g.space, Nodes: g.nodes, Axes: g.axes, Stored: g.stored}
	b.readMembers(f, f)
	for _, n := range g.stored {
		b.define(n)
	}
	return Step{Fused: f}
}

// readMembers notes what a group reads, element by element or not.
func (b *builder) readMembers(f, elementwise *Fused) {
	for _, n := range f.Nodes {
		for _, in := range n.Ins() {
			if slices.Contains(f.Nodes, in) {
				continue
			}
			if base := b.base(in); base != nil {
				b.read(b.value(base), elementwise)
			}
		}
	}
}

// readOperands notes what an operation reads.
func (b *builder) readOperands(n *graph.Node) {
	for i, in := range n.Ins() {
		if f := b.prologues[n]; i == 0 && f != nil {
			b.readMembers(f, nil)
		} else {
			b.read(b.value(in), nil)
		}
	}
}

// base is the value in memory under a fused operand; nil for an immediate.
func (b *builder) base(n *graph.Node) *graph.Node {
	for n.Op() == graph.OpBroadcast && !b.inMem[n] {
		n = n.In(0)
	}
	if _, ok := immediate(n); ok {
		return nil
	}
	return n
}

// loop schedules a loop: initial values are copied into the carried buffers,
// the steps run, and the next values are copied back.
func (b *builder) loop(n *graph.Node) []Step {
	body, carry := n.Body(), n.Attrs().Carry
	var steps []Step
	carried := make([]int, carry)
	for i := range carry {
		src := b.value(n.In(i))
		b.read(src, nil)
		p := body.Params()[1+i]
		carried[i] = b.add(Buffer{Kind: Temp, DType: p.DType(), Shape: p.Shape(), Node: p})
		b.p.loc[p] = carried[i]
		steps = append(steps, Step{Copy: &Copy{Dst: carried[i], Src: src}})
	}
	b.now++
	start := b.now
	l := &Loop{Node: n, Index: b.add(Buffer{Kind: Temp, DType: graph.I32, Node: body.Params()[0]})}
	b.p.loc[body.Params()[0]] = l.Index
	for i := carry; i < len(n.Ins()); i++ {
		p := body.Params()[1+i]
		part := b.add(Buffer{Kind: Temp, DType: p.DType(), Shape: p.Shape(), Node: p})
		b.p.loc[p] = part
		whole := b.value(n.In(i))
		b.read(whole, nil)
		l.Scan = append(l.Scan, Slice{Whole: whole, Part: part})
	}
	stacks := b.stacks(n)
	l.Steps = b.block(body)
	b.now++
	saved, parts := b.saveStacked(body.Results()[carry:], carried)
	l.Steps = append(l.Steps, saved...)
	l.Steps = append(l.Steps, b.replaceAll(carried, body.Results()[:carry], start)...)
	for i, part := range parts {
		if part < 0 {
			part = b.value(body.Results()[carry+i])
			b.read(part, nil)
		}
		l.Stack = append(l.Stack, Slice{Whole: stacks[i], Part: part})
	}
	b.now++
	b.keep(start, slices.Concat(carried, stacks, []int{l.Index}))
	b.bindResults(n, carried, stacks)
	return append(steps, Step{Loop: l})
}

// stacks makes the buffers of a loop's stacked results.
func (b *builder) stacks(n *graph.Node) []int {
	var stacks []int
	for _, r := range n.Body().Results()[n.Attrs().Carry:] {
		shape := append(graph.Shape{n.Attrs().Trips}, r.Shape()...)
		stacks = append(stacks, b.add(Buffer{Kind: Temp, DType: r.DType(), Shape: shape, Node: n}))
	}
	return stacks
}

// keep ends a loop that began at start. What it holds, and what it reads from
// around it, lives to its end: the next iteration reads it again.
func (b *builder) keep(start int, holds []int) {
	for _, i := range holds {
		b.read(i, nil)
	}
	for i, us := range b.uses {
		if b.p.Buffers[i].From < start && slices.ContainsFunc(us, func(u use) bool { return u.time >= start }) {
			b.read(i, nil)
		}
	}
}

// parallel schedules a loop that carries nothing. What it yields is computed
// right in its slice of the stack, which no other iteration touches: the stack
// lives as long as all that the loop reads, so that it overlaps none of that.
func (b *builder) parallel(n *graph.Node) *Loop {
	body := n.Body()
	stacks := b.stacks(n)
	b.now++
	start := b.now
	b.apart++
	l := &Loop{Node: n, Parallel: true, Index: b.add(Buffer{Kind: Temp, DType: graph.I32, Node: body.Params()[0]})}
	b.p.loc[body.Params()[0]] = l.Index
	for i, in := range n.Ins() {
		p := body.Params()[1+i]
		part := b.add(Buffer{Kind: View, DType: p.DType(), Shape: p.Shape(), Node: p})
		b.p.loc[p] = part
		whole := b.value(in)
		b.read(whole, nil)
		l.Scan = append(l.Scan, Slice{Whole: whole, Part: part})
	}
	l.Steps = b.block(body)
	b.now++
	for i, r := range body.Results() {
		part := b.value(r)
		if buf := &b.p.Buffers[part]; buf.Kind == Temp && buf.From >= start && part != l.Index {
			buf.Kind = View
		} else { // it is not computed here, or yielded twice
			s := b.copyOut(part)
			part = s.Copy.Dst
			b.p.Buffers[part].Kind = View
			l.Steps = append(l.Steps, s)
		}
		l.Stack = append(l.Stack, Slice{Whole: stacks[i], Part: part})
	}
	b.now++
	b.keep(start, append(stacks, l.Index))
	b.apart--
	b.bindResults(n, nil, stacks)
	return l
}

func (b *builder) bindResults(n *graph.Node, carried, stacks []int) {
	for _, m := range n.Block().Nodes() {
		if m.Op() == graph.OpGet && m.In(0) == n {
			if i := m.Attrs().Index; i < len(carried) {
				b.p.loc[m] = carried[i]
			} else {
				b.p.loc[m] = stacks[i-len(carried)]
			}
		}
	}
}

// saveStacked copies away the carried values that are to be stacked as they
// were, before they are replaced. The part of every other result is -1.
func (b *builder) saveStacked(results []*graph.Node, carried []int) (steps []Step, parts []int) {
	for _, r := range results {
		part := b.value(r)
		if slices.Contains(carried, part) {
			steps = append(steps, b.copyOut(part))
			part = steps[len(steps)-1].Copy.Dst
			b.read(part, nil)
		} else {
			part = -1
		}
		parts = append(parts, part)
	}
	return steps, parts
}

// copyOut copies a buffer to a new temporary.
func (b *builder) copyOut(src int) Step {
	tmp := b.add(Buffer{Kind: Temp, DType: b.p.Buffers[src].DType, Shape: b.p.Buffers[src].Shape, Node: b.p.Buffers[src].Node})
	b.read(src, nil)
	b.read(tmp, nil)
	return Step{Copy: &Copy{Dst: tmp, Src: src}}
}

// replaceAll gives each destination buffer its next value at once: in place
// where that is safe, else by a copy. A value that stands in another's
// destination (a swap) is copied away first.
func (b *builder) replaceAll(dsts []int, values []*graph.Node, since int) []Step {
	for i, v := range values {
		if src := b.value(v); src != dsts[i] && slices.Contains(dsts, src) {
			b.read(src, nil) // so that it is not overwritten in place
		}
	}
	var before, steps []Step
	for i, dst := range dsts {
		src := b.value(values[i])
		if src == dst || b.redirect(dst, src, since) {
			continue
		}
		if slices.Contains(dsts, src) {
			before = append(before, b.copyOut(src))
			src = before[len(before)-1].Copy.Dst
		}
		b.read(src, nil)
		b.written[dst] = b.now
		steps = append(steps, Step{Copy: &Copy{Dst: dst, Src: src}})
	}
	return append(before, steps...)
}

// redirect lets the step that computes src write straight into dst, if nothing
// reads dst's old value after it; in that very step only a fused group may,
// which reads each element before it writes it.
func (b *builder) redirect(dst, src, since int) bool {
	made := b.written[src]
	if b.o.NoInPlace || b.p.Buffers[src].Kind != Temp || made < since || b.p.Buffers[src].From != made {
		return false // not computed here, or written by a copy too (a loop's carried value)
	}
	var group *Fused
	for _, s := range b.uses[dst] {
		if s.time > made || b.apartFrom(s.time, made) {
			return false
		}
		if s.time == made {
			if s.fused == nil {
				return false
			}
			group = s.fused
		}
	}
	if group != nil && !b.readsBefore(group, dst, src) {
		return false
	}
	for n, i := range b.p.loc {
		if i == src {
			b.p.loc[n] = dst
		}
	}
	b.uses[dst] = append(b.uses[dst], b.uses[src]...)
	b.written[dst] = made
	b.p.Buffers[src].Kind = dropped
	b.moved[src] = dst
	return true
}

// rename has copies and loops, which name buffers, name those that values were
// redirected to.
func (b *builder) rename(steps []Step) {
	to := func(i *int) {
		for dst, moved := b.moved[*i]; moved; dst, moved = b.moved[*i] {
			*i = dst
		}
	}
	for _, s := range steps {
		switch {
		case s.Copy != nil:
			to(&s.Copy.Src)
			to(&s.Copy.Dst)
		case s.Loop != nil:
			for _, list := range [][]Slice{s.Loop.Scan, s.Loop.Stack} {
				for i := range list {
					to(&list[i].Whole)
					to(&list[i].Part)
				}
			}
			b.rename(s.Loop.Steps)
		}
	}
}

// dropped marks a buffer whose value was redirected; finish removes it.
const dropped Kind = 255

// readsBefore reports whether in a group every member that reads dst, at its
// own element, stands before or is the one that writes src.
func (b *builder) readsBefore(f *Fused, dst, src int) bool {
	write := slices.IndexFunc(f.Nodes, func(n *graph.Node) bool { i, ok := b.p.loc[n]; return ok && i == src })
	if write < 0 || f.Nodes[write].Op().Class() == graph.ClassReduce {
		return false
	}
	for i, n := range f.Nodes {
		for _, in := range n.Ins() {
			base := b.base(in)
			if base == nil || slices.Contains(f.Nodes, base) {
				continue
			}
			late := i > write || n.Op().Class() == graph.ClassReduce // reductions may run behind all else
			if b.value(base) == dst && (late || base != in || !b.p.Buffers[dst].Shape.Equal(f.Space)) {
				return false
			}
		}
	}
	return b.p.Buffers[dst].DType == b.p.Buffers[src].DType
}

// value is the buffer that holds n, made on first demand for leaves.
func (b *builder) value(n *graph.Node) int {
	if i, ok := b.p.loc[n]; ok {
		return i
	}
	buf := Buffer{DType: n.DType(), Shape: n.Shape(), Name: n.Attrs().Name, Node: n}
	switch n.Op() {
	case graph.OpReshape:
		return b.value(n.In(0))
	case graph.OpInput:
		buf.Kind = Input
	case graph.OpState:
		buf.Kind = State
	case graph.OpScalar:
		buf.Kind = Scalar
	case graph.OpConst:
		buf.Kind = Const
	case graph.OpIota:
		buf.Kind = Const
		if !b.inMem[n] {
			buf.Shape = graph.Shape{n.Dim(n.Attrs().Axis)}
		}
	default:
		panic("BUG: plan: " + n.Op().String() + " is read before it is computed")
	}
	i := b.add(buf)
	b.p.loc[n] = i
	return i
}

// add makes a buffer that is alive from now on.
func (b *builder) add(buf Buffer) int {
	buf.From, buf.To = b.now, b.now
	buf.Private = buf.Kind == Temp && b.apart > 0
	b.p.Buffers = append(b.p.Buffers, buf)
	return len(b.p.Buffers) - 1
}

// define makes the buffer of a value that the current step computes.
func (b *builder) define(n *graph.Node) {
	i := b.add(Buffer{Kind: Temp, DType: n.DType(), Shape: n.Shape(), Node: n})
	b.p.loc[n] = i
	b.written[i] = b.now
}

func (b *builder) read(i int, f *Fused) {
	b.uses[i] = append(b.uses[i], use{b.now, f})
}

// finish writes the new states, keeps the outputs alive to the end, and
// settles the buffers' lives.
func (b *builder) finish() {
	b.now++
	var dsts []int
	var values []*graph.Node
	for _, a := range b.p.Graph.Assigns() {
		dsts, values = append(dsts, b.value(a.State)), append(values, a.Value)
	}
	saved := map[int]int{} // states read by an output: the output is the old value
	for _, o := range b.p.Graph.Outputs() {
		if i := b.value(o.Node); slices.Contains(dsts, i) && saved[i] == 0 {
			s := b.copyOut(i)
			saved[i] = s.Copy.Dst
			b.p.Steps = append(b.p.Steps, s)
		}
	}
	b.p.Steps = append(b.p.Steps, b.replaceAll(dsts, values, 0)...)
	b.now++
	for _, o := range b.p.Graph.Outputs() {
		i := b.value(o.Node)
		if s, ok := saved[i]; ok && b.isOld(o.Node) {
			i = s
		}
		b.read(i, nil)
		b.p.Outputs = append(b.p.Outputs, Output{Name: o.Name, Buffer: i, DType: o.Node.DType(), Shape: o.Node.Shape()})
	}
	for i, us := range b.uses {
		for _, u := range us {
			b.p.Buffers[i].To = max(b.p.Buffers[i].To, u.time)
		}
	}
	for i, t := range b.written {
		b.p.Buffers[i].To = max(b.p.Buffers[i].To, t)
		b.occupy(i, t)
	}
	for i, us := range b.uses {
		for _, u := range us {
			b.occupy(i, u.time)
		}
	}
}

// isOld reports whether an output is a state as it was before the step, seen
// through reshapes.
func (b *builder) isOld(n *graph.Node) bool {
	for n.Op() == graph.OpReshape {
		n = n.In(0)
	}
	return n.Op() == graph.OpState
}
