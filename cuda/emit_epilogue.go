package cuda

import (
	"fmt"
	"slices"
	"strings"

	"temper/engine/graph"
	"temper/engine/plan"
)

// An epilogue computes a fused group where a contraction, the step before it,
// has its sums: the result is never stored, nor read again.

// epilogue writes the kernel of a contraction with the group behind it. It
// returns false if the two have to stay apart.
func epilogue(p *plan.Plan, n *graph.Node, f *plan.Fused) (Kernel, bool) {
	if !onTensorTiles(n) || f.Axes != nil || f.Space.Size() != n.Size() || !onlyReadBy(p, n, f) || overwrites(p, n, f) {
		return Kernel{}, false
	}
	op := newTensorOp(n)
	if op.parts > 1 || op.batch > 1 {
		return Kernel{}, false
	}
	e := &emitter{p: p, f: f, b: new(strings.Builder), member: map[*graph.Node]int{}, arg: map[int]string{}, producer: n, columns: op.n,
		linear: true, vector: []string{}, params: op.params(), buffers: []int{p.Buffer(n.In(0)), p.Buffer(n.In(1))}}
	for i, m := range f.Nodes {
		e.member[m] = i
		for _, in := range m.Ins() {
			if base(in) == n && !e.same(p.Operand(in).Strides) {
				return Kernel{}, false
			}
		}
	}
	e.args()
	k := named(op.source(e.params, e.result()))
	items := op.tiles
	k.Buffers, k.Numbers, k.Blocks, k.Shared = e.buffers, []uint32{uint32(items)}, items, op.shared()
	return k, true
}

// result is the Result that computes the group's members.
func (e *emitter) result() string {
	body := e.body(6)
	outer := e.b
	e.b = new(strings.Builder)
	e.b.WriteString("[&](u32 row, u32 column, const f32 (&sums)[8]) {\n")
	e.line(5, "const u32 first = row * %du + column;", e.columns)
	for _, d := range e.vector {
		e.line(5, "%s", d)
	}
	for k, n := range e.f.Stored {
		e.line(5, "%v r%d[8];", n.DType(), k)
	}
	e.line(5, "UNROLL for (u32 e = 0; e < 8; e++) {")
	inside := "e"
	if e.columns%8 != 0 {
		inside = fmt.Sprintf("(column + e < %du ? e : 0)", e.columns)
	}
	e.line(6, "const u32 i = first + %s;", inside)
	e.index(6, "i", e.all(), body)
	e.line(6, "const %v y = convert<%v>(sums[e]);", e.producer.DType(), e.producer.DType())
	e.b.WriteString(body)
	e.line(5, "}")
	for k := range e.f.Stored {
		e.line(5, "store8<%d>(%s + first, column, r%d);", e.columns, e.out[k], k)
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
	t := e.p.Buffers[o.Buffer].DType
	switch {
	case zero(o.Strides):
		return e.declare("const %v NAME = %s[0];", "", t, e.arg[o.Buffer])
	case e.same(o.Strides):
		return e.declare("%v NAME[8]; load8<%d>(NAME, %s + first, column);", "[e]", t, e.columns, e.arg[o.Buffer])
	case o.Strides[last] == 1 && zero(o.Strides[:last]) && e.f.Space[last] == e.columns:
		return e.declare("%v NAME[8]; load8<%d>(NAME, %s + column, column);", "[e]", t, e.columns, e.arg[o.Buffer])
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
	return readOnlyBy(p.Graph.Root(), n, f)
}

func readOnlyBy(b *graph.Block, n *graph.Node, f *plan.Fused) bool {
	reads := func(in *graph.Node) bool { return base(in) == n }
	if slices.ContainsFunc(b.Results(), reads) {
		return false
	}
	for _, user := range b.Nodes() {
		if user.Op() != graph.OpReshape && slices.ContainsFunc(user.Ins(), reads) && !slices.Contains(f.Nodes, user) {
			return false
		}
		if user.Body() != nil && !readOnlyBy(user.Body(), n, f) {
			return false
		}
	}
	return true
}

// overwrites says whether a group writes where its producer's operands lie: the
// plan may give it their memory, since it runs when they have been read.
func overwrites(p *plan.Plan, n *graph.Node, f *plan.Fused) bool {
	_, writes := Args(p, f)
	for _, w := range writes {
		for _, in := range n.Ins() {
			r := p.Buffer(in)
			a, b := &p.Buffers[w], &p.Buffers[r]
			if w == r || a.Kind == plan.Temp && b.Kind == plan.Temp && a.Offset < b.Offset+b.Bytes() && b.Offset < a.Offset+a.Bytes() {
				return true
			}
		}
	}
	return false
}
