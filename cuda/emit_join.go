package cuda

import (
	"fmt"
	"slices"
	"strings"

	"temper/engine/graph"
	"temper/engine/plan"
)

// joint is the second kernel of a group that reduces: it joins the parts which
// blocks, or tiles of a contraction, left in scratch memory. Small groups right
// behind, such as what makes a scale of a channel's variance, are computed in it:
// the thread that has stored a column's results computes that column's element of
// each group. So they need no launch of their own.
type joint struct {
	*emitter           // params, buffers and body
	results, width int // columns, and how many of them a block joins
	groups         int // that follow
	reads, writes  []access
}

// access is how a kernel's threads touch a buffer.
type access struct {
	buffer int
	own    bool // each the element of its own column, and no other
}

// joining is the kernel that joins parts.
func (e *emitter) joining(join []string, results, parts int) *joint {
	j := &joint{emitter: &emitter{p: e.p, f: e.f, b: new(strings.Builder), prefix: e.prefix, grid: e.grid}, results: results, width: joinWidth(parts)}
	for k, n := range e.f.Stored {
		if n.Op().Class() == graph.ClassReduce {
			j.params = append(j.params, fmt.Sprintf("%v* %s", n.DType(), e.out[k]))
			j.buffers = append(j.buffers, e.p.Buffer(n))
			j.writes = append(j.writes, access{e.p.Buffer(n), true})
		}
	}
	j.params, j.buffers = append(j.params, "const u8* scratch"), append(j.buffers, Scratch)
	for _, line := range join {
		j.line(1, "%s", line)
	}
	return j
}

func (j *joint) kernel() GroupKernel {
	e := *j.emitter
	e.b = new(strings.Builder)
	e.b.WriteString(j.b.String())
	if j.groups > 0 {
		e.line(1, "}")
	}
	k := e.kernel(j.results, ceil(j.results, j.width))
	k.joint = j
	return k
}

// follow takes the groups that begin a schedule, behind the step that the parts are
// of, as far as they may follow, and returns how many.
func (j *joint) follow(behind []plan.Step, of *plan.Step) int {
	for _, s := range behind {
		if s.Fused == nil || !s.SameBranch(of) || j.groups == smallGroups || len(j.params)+pointers(j.p, &s) > maxPointers || !j.may(s.Fused) {
			break
		}
		j.add(s.Fused)
	}
	return j.groups
}

// may says whether a group may follow. What it shares with what runs before it, in
// other blocks at the same time, is of its own column.
func (j *joint) may(f *plan.Fused) bool {
	if f.Axes != nil || f.Space.Size() > j.results {
		return false
	}
	reads, writes := accesses(j.p, f)
	for _, w := range writes {
		if j.clash(w, j.reads) || j.clash(w, j.writes) {
			return false
		}
	}
	return !slices.ContainsFunc(reads, func(r access) bool { return j.clash(r, j.writes) })
}

// accesses lists what a group's threads touch.
func accesses(p *plan.Plan, f *plan.Fused) (reads, writes []access) {
	e := &emitter{f: f}
	for _, n := range f.Nodes {
		for _, in := range n.Ins() {
			if slices.Contains(f.Nodes, in) {
				continue
			}
			if o := p.Operand(in); !o.Immediate {
				reads = append(reads, access{o.Buffer, e.same(o.Strides)})
			}
		}
	}
	for _, n := range f.Stored {
		writes = append(writes, access{p.Buffer(n), true})
	}
	return reads, writes
}

// clash says whether two threads may touch the same memory.
func (j *joint) clash(a access, others []access) bool {
	return slices.ContainsFunc(others, func(o access) bool {
		x, y := &j.p.Buffers[a.buffer], &j.p.Buffers[o.buffer]
		switch {
		case a.buffer != o.buffer && (x.Kind == plan.View || y.Kind == plan.View):
			return true
		case a.buffer != o.buffer && !share(x, y):
			return false
		}
		same := a.buffer == o.buffer || x.Offset == y.Offset && x.DType.Size() == y.DType.Size()
		return !same || !a.own || !o.own
	})
}

// share says whether the memory of two temporaries overlaps.
func share(a, b *plan.Buffer) bool {
	return a.Kind == plan.Temp && b.Kind == plan.Temp && a.Private == b.Private && a.Offset < b.Offset+b.Bytes() && b.Offset < a.Offset+a.Bytes()
}

// add lets a group follow.
func (j *joint) add(f *plan.Fused) {
	if j.groups == 0 {
		j.line(1, "for (u32 i = blockIdx.x * %du + threadIdx.x; threadIdx.x < %du && i < n; i += gridDim.x * %du) {", j.width, j.width, j.width)
	}
	e := newEmitter(j.p, f)
	e.prefix, e.linear = fmt.Sprintf("g%d_", j.groups), true
	e.args()
	body := e.body(3)
	open := "{"
	if n := f.Space.Size(); n < j.results {
		open = fmt.Sprintf("if (i < %du) {", n)
	}
	e.line(2, "%s", open)
	e.index(3, "i", e.all(), body)
	j.b.WriteString(e.b.String() + body + "    }\n")
	j.params, j.buffers = append(j.params, e.params...), append(j.buffers, e.buffers...)
	reads, writes := accesses(j.p, f)
	j.reads, j.writes = append(j.reads, reads...), append(j.writes, writes...)
	j.groups++
}
