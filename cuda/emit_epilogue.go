package cuda

import (
	"fmt"
	"slices"
	"strings"

	"temper/engine/graph"
	"temper/engine/plan"
)

// An epilogue computes a fused group where a contraction, the step before it,
// has its sums: the result is stored only if something else reads it, and not
// read again. What the group adds up over rows is added up tile by tile, and a
// second kernel joins the tiles' parts, as behind reducingColumns.

// epilogue writes the kernels of a contraction with the group behind it, which
// groupBehind found. It returns false if the two have to stay apart.
func epilogue(p *plan.Plan, s *plan.Step, f *plan.Fused, t target) ([]Kernel, bool) {
	n := s.Op
	w := wayOf(p, n, s.Prologue)
	op := newTensorOp(n, w, t, true)
	turned := op.wgmma != nil && op.wgmma.turned || op.byTaps.rows > 0 // whose tiles do not follow one another along a row
	if op.parts > 1 || op.batch > 1 || f.Axes != nil && (turned || !overRows(f, op.n)) {
		return nil, false
	}
	e := newEmitter(p, f)
	e.producer, e.columns, e.linear, e.reads = n, op.n, true, []read{}
	e.params, e.buffers = op.params(), operands(p, n, w)
	for _, m := range f.Nodes {
		for _, in := range m.Ins() {
			if base(in) == n && !e.same(p.Operand(in).Strides) {
				return nil, false
			}
		}
	}
	e.args()
	if !onlyReadBy(p, n, f) {
		e.kept = "product"
		e.params = append(e.params, fmt.Sprintf("%v* __restrict__ %s", n.DType(), e.kept))
		e.buffers = append(e.buffers, p.Buffer(n))
	}
	if overwrites(p, operands(p, n, w), e) {
		return nil, false
	}
	before, after, join, scratch := e.rowParts(op)
	k := named(op.source(e.params, before, e.result(), after))
	k.Buffers, k.Numbers, k.Blocks, k.Shared, k.Scratch = e.buffers, []uint32{uint32(op.tiles)}, op.tiles, op.shared(), scratch
	k.Tiling = op.tiling()
	k.onWarpgroups(op.wgmma)
	if join == nil {
		return []Kernel{k}, true
	}
	return []Kernel{k, e.joining(join, op.n, op.tiles/op.across()).kernel().kernel(scratch)}, true
}

// readBy says whether a group reads a value.
func readBy(f *plan.Fused, n *graph.Node) bool {
	return slices.ContainsFunc(f.Nodes, func(m *graph.Node) bool {
		return slices.ContainsFunc(m.Ins(), func(in *graph.Node) bool { return base(in) == n })
	})
}

// overRows says whether a group's reductions leave the columns of a product, in
// f32.
func overRows(f *plan.Fused, columns int) bool {
	last := len(f.Space) - 1
	for _, n := range f.Nodes {
		if n.Op().Class() == graph.ClassReduce && n.DType() != graph.F32 {
			return false
		}
	}
	for a := range last {
		if f.Space[a] > 1 && !slices.Contains(f.Axes, a) {
			return false
		}
	}
	return f.Space[last] == columns && !slices.Contains(f.Axes, last)
}

// rowParts writes what stands before and after the contraction of a tile: each
// thread has the reductions of eight columns, and a tile leaves one row of parts.
// join is the body of the kernel that joins them.
func (e *emitter) rowParts(op *tensorOp) (before, after string, join []string, scratch int) {
	parts := op.tiles / op.across()
	e.eachReduction(func(n *graph.Node, i int) {
		before += fmt.Sprintf("    f32 s%d[8];\n    UNROLL for (u32 e = 0; e < 8; e++) s%d[e] = %s_start<f32>();\n", i, i, reducer(n))
		after += fmt.Sprintf("    store_part<tile, %d>(shared, s%d, (f32*)(scratch + %d), i, [](f32 a, f32 b) { return %s(a, b); });\n", op.n, i, scratch, joiner(n))
		var line string
		line, scratch = e.joinLine(n, parts, op.n, scratch)
		join = append(join, line)
	})
	if join != nil {
		e.params = append(e.params, "u8* __restrict__ scratch")
		e.buffers = append(e.buffers, Scratch)
	}
	return before, after, join, scratch
}

// result is the Result that computes the group's members.
func (e *emitter) result() string {
	body := e.body(6)
	outer := e.b
	e.b = new(strings.Builder)
	e.b.WriteString("[&](u32 row, u32 column, const f32 (&sums)[8]) {\n")
	e.line(5, "const u32 first = row * %du + column;", e.columns)
	for _, r := range e.reads {
		e.line(5, "%s", r)
	}
	e.eachStored(func(n *graph.Node, k int) { e.line(5, "%v r%d[8];", n.DType(), k) })
	if e.kept != "" {
		e.line(5, "%v kept[8];", e.producer.DType())
	}
	e.line(5, "UNROLL for (u32 e = 0; e < 8; e++) {")
	inside := "e"
	if e.columns%8 != 0 {
		inside = fmt.Sprintf("(column + e < %du ? e : 0)", e.columns)
	}
	e.line(6, "const u32 i = first + %s;", inside)
	e.index(6, "i", e.all(), body)
	e.line(6, "const %v y = convert<%v>(sums[e]);", e.producer.DType(), e.producer.DType())
	if e.kept != "" {
		e.line(6, "kept[e] = y;")
	}
	e.b.WriteString(body)
	e.line(5, "}")
	e.eachStored(func(_ *graph.Node, k int) { e.line(5, "store8<%d>(%s + first, column, r%d);", e.columns, e.out[k], k) })
	if e.kept != "" {
		e.line(5, "store8<%d>(%s + first, column, kept);", e.columns, e.kept)
	}
	e.b.WriteString("        }")
	text := e.b.String()
	e.b = outer
	return text
}

// beside is the expression for an element that an epilogue reads beside the
// sums: rows and what belongs to the columns are loaded eight at a time.
func (e *emitter) beside(o plan.Operand) string {
	last := len(o.Strides) - 1
	zero := func(strides []int) bool { return !slices.ContainsFunc(strides, func(s int) bool { return s != 0 }) }
	r := read{t: e.p.Buffers[o.Buffer].DType, from: e.arg[o.Buffer], count: 8, load: fmt.Sprintf("load8<%d>(%%s, %%s, column)", e.columns)}
	switch {
	case zero(o.Strides):
		r.at, r.count, r.load = "0", 0, ""
		return e.read(r)
	case e.same(o.Strides):
		r.at = "first"
		return e.read(r)
	case o.Strides[last] == 1 && zero(o.Strides[:last]) && e.f.Space[last] == e.columns:
		r.at = "column"
		return e.read(r)
	}
	return fmt.Sprintf("%s[%s]", e.arg[o.Buffer], e.offset(o.Strides))
}

// base is the node behind reshapes.
func base(n *graph.Node) *graph.Node {
	for n.Op() == graph.OpReshape {
		n = n.In(0)
	}
	return n
}

// onlyReadBy says whether nothing but a group reads a node's value.
func onlyReadBy(p *plan.Plan, n *graph.Node, f *plan.Fused) bool {
	for _, o := range p.Graph.Outputs() {
		if base(o.Node) == n {
			return false
		}
	}
	for _, a := range p.Graph.Assigns() {
		if base(a.Value) == n {
			return false
		}
	}
	return !readElsewhere(p.Steps, n, f)
}

// readElsewhere says whether steps read a node's value, the group f apart. Other
// groups may have the same members.
func readElsewhere(steps []plan.Step, n *graph.Node, f *plan.Fused) bool {
	reads := func(in *graph.Node) bool { return base(in) == n }
	for _, s := range steps {
		switch {
		case s.Fused != nil && s.Fused != f && readBy(s.Fused, n),
			s.Prologue != nil && readBy(s.Prologue, n),
			s.Op != nil && slices.ContainsFunc(s.Op.Ins(), reads):
			return true
		case s.Loop != nil:
			l := s.Loop.Node
			if slices.ContainsFunc(l.Ins(), reads) || slices.ContainsFunc(l.Body().Results(), reads) || readElsewhere(s.Loop.Steps, n, f) {
				return true
			}
		}
	}
	return false
}

// overwrites says whether an epilogue writes where its producer's operands lie:
// the plan may give the group their memory, since it runs when they have been
// read.
func overwrites(p *plan.Plan, operands []int, e *emitter) bool {
	var writes []int
	e.eachStored(func(m *graph.Node, _ int) { writes = append(writes, p.Buffer(m)) })
	for _, w := range writes {
		for _, r := range operands {
			if w == r || share(&p.Buffers[w], &p.Buffers[r]) {
				return true
			}
		}
	}
	return false
}
