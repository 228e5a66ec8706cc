package cuda

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"temper/engine/graph"
	"temper/engine/plan"
	"temper/kernels"
)

// GroupKernel is a kernel of a fused group. Its parameters are the buffers that
// the group reads, then those that it writes, in the order of Args, then the
// number of work items.
type GroupKernel struct {
	Source string // CUDA C++, in which NAME stands for the kernel's name
	Args   []int  // plan's buffers, or Scratch
	Items  int
	Blocks int // for which there is work; fewer take more than one turn
	PerSM  int // blocks of a multiprocessor that are worth starting; 0: turnsPerSM
	// Multiple is a number that the grid's blocks have to be a multiple of; 0: any.
	Multiple int

	joint *joint // if it joins the parts of reductions
}

// GroupKernels writes the CUDA C++ of one fused group: a kernel, or two, and how
// much scratch memory they need, in bytes. Unit puts them behind the headers of
// package kernels, which define the types and the element functions.
//
// Without reductions a thread takes four neighbours, or one element where the
// rows do not divide so. Where few elements are reduced, a thread takes a
// result. Where many are, threads of a block go down columns side by side, and
// join what they have in a fixed tree; where there are too few columns to fill
// a GPU, several blocks share the rows of a column, and a second kernel joins
// their parts.
func GroupKernels(p *plan.Plan, f *plan.Fused) (kernels []GroupKernel, scratch int) {
	return newEmitter(p, f).kernels()
}

func (e *emitter) kernels() (kernels []GroupKernel, scratch int) {
	e.args()
	switch {
	case e.f.Axes == nil:
		return []GroupKernel{e.elementwise()}, e.base
	case reduced(e.f) <= shortReduction || !e.neighbouring():
		return []GroupKernel{e.reducing()}, e.base
	}
	return e.reducingColumns()
}

func newEmitter(p *plan.Plan, f *plan.Fused) *emitter {
	e := &emitter{p: p, f: f, b: new(strings.Builder), member: map[*graph.Node]int{}, arg: map[int]string{}, grid: grid{"blockIdx.x", "gridDim.x"}}
	for i, n := range f.Nodes {
		e.member[n] = i
	}
	return e
}

// smallGroup is the number of elements up to which groups without reductions, and
// copies, run one behind the other in one kernel, smallRows that of groups that
// reduce short rows, and smallGroups the number of such steps: on what belongs to a
// layer's channels, or to the loss, launches take the time.
const (
	smallGroup  = 2048
	smallRows   = 4 * smallGroup
	smallGroups = 16
)

// maxPointers bounds a kernel's arguments: 4 KiB of them.
const maxPointers = 480

// pointers is the number of a step's.
func pointers(p *plan.Plan, s *plan.Step) int {
	if s.Copy != nil {
		return 2
	}
	reads, writes := Args(p, s.Fused)
	return len(reads) + len(writes)
}

// small is the number of steps that begin a schedule and that one kernel runs.
func small(p *plan.Plan, steps []plan.Step) int {
	n, room := 0, maxPointers
	for n < min(len(steps), smallGroups) && steps[n].SameBranch(&steps[0]) && isSmall(p, &steps[n]) {
		if room -= pointers(p, &steps[n]); room < 0 {
			break
		}
		n++
	}
	return n
}

func isSmall(p *plan.Plan, s *plan.Step) bool {
	switch f := s.Fused; {
	case s.Copy != nil:
		return p.Buffers[s.Copy.Dst].Shape.Size() <= smallGroup
	case f == nil:
		return false
	case f.Axes != nil && reduced(f) <= shortReduction:
		return f.Space.Size() <= smallRows
	case f.Axes != nil:
		e := &emitter{f: f}
		return f.Space.Size() <= smallGroup && e.neighbouring() && e.inColumns().blocks() == 1
	default:
		return f.Space.Size() <= smallGroup
	}
}

// inTurn writes a kernel, of one block, that runs small steps one behind the other.
func inTurn(p *plan.Plan, steps []plan.Step) GroupKernel {
	all := &emitter{b: new(strings.Builder)}
	var shared []string
	for i, s := range steps {
		e := &emitter{p: p, b: new(strings.Builder)}
		if s.Fused != nil {
			e = newEmitter(p, s.Fused)
		}
		e.prefix, e.grid, e.shared = fmt.Sprintf("g%d_", i), grid{}, &shared
		if s.Copy != nil {
			e.copied(s.Copy)
		} else {
			e.kernels()
		}
		if i > 0 {
			all.line(1, "__syncthreads();  // what stands above has been stored")
		}
		all.b.WriteString(e.b.String())
		all.params, all.buffers = append(all.params, e.params...), append(all.buffers, e.buffers...)
	}
	code := all.b
	all.b = new(strings.Builder)
	for _, d := range shared {
		all.line(1, "%s", d)
	}
	all.b.WriteString(code.String())
	return all.kernel(1, 1)
}

// copied copies a buffer.
func (e *emitter) copied(c *plan.Copy) {
	t := e.p.Buffers[c.Dst].DType
	e.params = []string{fmt.Sprintf("const %v* %sfrom", t, e.prefix), fmt.Sprintf("%v* %sto", t, e.prefix)}
	e.buffers = []int{c.Src, c.Dst}
	e.each("i", e.p.Buffers[c.Dst].Shape.Size())
	e.line(2, "%sto[i] = %sfrom[i];", e.prefix, e.prefix)
	e.line(1, "}")
}

// kernel finishes a kernel whose body has been written.
func (e *emitter) kernel(items, blocks int) GroupKernel {
	bounds := ""
	if e.perSM > 0 {
		bounds = fmt.Sprintf("__launch_bounds__(BLOCK, %d) ", e.perSM)
	}
	source := fmt.Sprintf("extern \"C\" __global__ void %sNAME(%s, u32 n) {\n  wait_for_turn();\n%s}\nEXPORT(NAME)\n", bounds, strings.Join(e.params, ", "), e.b)
	return GroupKernel{Source: source, Args: e.buffers, Items: items, Blocks: blocks, PerSM: e.perSM, Multiple: e.multiple}
}

// BlockThreads is the number of threads of the blocks that kernels run in, BLOCK
// in the device header.
const BlockThreads = 256

// shortReduction is the number of elements up to which one thread reduces them.
const shortReduction = 32

// reduced is the number of elements that make one result.
func reduced(f *plan.Fused) int {
	n := 1
	for _, a := range f.Axes {
		n *= f.Space[a]
	}
	return n
}

// Unit is the translation unit of some kernels.
func Unit(sources ...string) string {
	var all strings.Builder
	for _, h := range kernels.Headers {
		fmt.Fprintf(&all, "#include %q\n", h)
	}
	return all.String() + "\n" + strings.Join(sources, "\n")
}

// Args lists the plan's buffers that a fused group's kernel takes: first those
// it reads, then those it writes.
func Args(p *plan.Plan, f *plan.Fused) (reads, writes []int) {
	for _, n := range f.Nodes {
		for _, in := range n.Ins() {
			if slices.Contains(f.Nodes, in) {
				continue
			}
			if o := p.Operand(in); !o.Immediate && !slices.Contains(reads, o.Buffer) {
				reads = append(reads, o.Buffer)
			}
		}
	}
	for _, n := range f.Stored {
		writes = append(writes, p.Buffer(n))
	}
	return reads, writes
}

type emitter struct {
	p       *plan.Plan
	f       *plan.Fused
	b       *strings.Builder
	member  map[*graph.Node]int
	params  []string
	buffers []int          // of the parameters
	arg     map[int]string // buffer to name
	out     []string       // names of the stored members' buffers
	reads   []read         // the neighbours that a body reads; nil outside of vectors
	linear  bool           // i is the current element's position in the space

	producer *graph.Node // whose sums an epilogue starts from
	columns  int         // of them
	kept     string      // the buffer that stores them, if any

	gathered *graph.Node // the image that is computed on its way

	prefix   string    // of the parameters' names, in kernels of several groups
	grid     grid      // the blocks that run the group's code
	perSM    int       // blocks of a multiprocessor, for which registers suffice; 0: as the compiler likes
	multiple int       // of which the number of blocks has to be one; 0: any
	shared   *[]string // declarations of its shared memory, if they stand before the code of several groups
	base     int       // of its scratch memory
}

// grid is how a group's code knows which of its blocks it runs in, and how many there
// are; of a single one it knows nothing.
type grid struct{ block, blocks string }

func (e *emitter) line(indent int, format string, args ...any) {
	e.b.WriteString(strings.Repeat("  ", indent))
	fmt.Fprintf(e.b, format, args...)
	e.b.WriteByte('\n')
}

// args names the kernel's parameters. A buffer that is written in place is
// read through its written name, without __restrict__. Nothing that is only read
// has that either: the compiler would take it for constant while the kernel
// exists, which begins before it is its turn.
func (e *emitter) args() {
	reads, writes := Args(e.p, e.f)
	for _, i := range reads {
		if slices.Contains(writes, i) || e.producer != nil && i == e.p.Buffer(e.producer) {
			continue
		}
		e.arg[i] = fmt.Sprintf("%sin%d", e.prefix, len(e.params))
		e.params = append(e.params, fmt.Sprintf("const %v* %s", e.p.Buffers[i].DType, e.arg[i]))
		e.buffers = append(e.buffers, i)
	}
	for k, i := range writes {
		name := fmt.Sprintf("%sout%d", e.prefix, k)
		e.out = append(e.out, name)
		if e.producer != nil && e.f.Stored[k].Op().Class() == graph.ClassReduce {
			continue // which the second kernel stores
		}
		qualifier := "__restrict__ "
		if slices.Contains(reads, i) {
			e.arg[i] = name
		}
		if slices.Contains(reads, i) || e.prefix != "" {
			qualifier = ""
		}
		e.params = append(e.params, fmt.Sprintf("%v* %s%s", e.p.Buffers[i].DType, qualifier, name))
		e.buffers = append(e.buffers, i)
	}
}

func (e *emitter) all() []int {
	axes := make([]int, len(e.f.Space))
	for i := range axes {
		axes[i] = i
	}
	return axes
}

// index splits a linear index over some axes of the space into x0, x1, …, as
// far as the body asks for them.
func (e *emitter) index(indent int, from string, axes []int, body string) {
	rest := 1
	for _, a := range axes {
		rest *= e.f.Space[a]
	}
	for k, a := range axes {
		rest /= e.f.Space[a]
		expr := from
		if rest > 1 {
			expr = fmt.Sprintf("%s / %du", from, rest)
		}
		if k > 0 {
			expr = fmt.Sprintf("%s %% %du", expr, e.f.Space[a])
		}
		if name := fmt.Sprintf("x%d", a); mentions(body, name) {
			e.line(indent, "const u32 %s = %s;", name, expr)
		}
	}
}

func mentions(code, name string) bool {
	return regexp.MustCompile(`\b` + name + `\b`).MatchString(code)
}

// body computes the members in order and stores those that are stored. It does
// not name them: layers that differ in their names alone share their kernels.
func (e *emitter) body(indent int) string {
	outer := e.b
	e.b = new(strings.Builder)
	for _, n := range e.f.Nodes {
		if n.Op().Class() == graph.ClassReduce {
			s := fmt.Sprintf("s%d", e.member[n])
			if e.producer != nil { // of eight columns
				s += "[e]"
			}
			e.line(indent, "%s = %s(%s, %s);", s, joiner(n), s, e.operand(n.In(0)))
			continue
		}
		args := make([]string, len(n.Ins()))
		for i, in := range n.Ins() {
			args[i] = e.operand(in)
		}
		e.line(indent, "const %v t%d = %s(%s);", n.DType(), e.member[n], function(n), strings.Join(args, ", "))
		switch k := slices.Index(e.f.Stored, n); {
		case k >= 0 && e.reads != nil:
			e.line(indent, "r%d[e] = t%d;", k, e.member[n])
		case k >= 0:
			e.line(indent, "%s[%s] = t%d;", e.out[k], e.offset(e.f.Space.Strides()), e.member[n])
		}
	}
	body := e.b.String()
	e.b = outer
	return body
}

// elementwise has no reductions.
func (e *emitter) elementwise() GroupKernel {
	e.linear = true
	n := e.f.Space.Size()
	if len(e.f.Space) > 0 && e.f.Space[len(e.f.Space)-1]%4 == 0 {
		e.vectors()
		return e.kernel(n/4, ceil(n/4, BlockThreads))
	}
	e.each("i", n)
	body := e.body(2)
	e.index(2, "i", e.all(), body)
	e.b.WriteString(body + "  }\n")
	return e.kernel(n, ceil(n, BlockThreads))
}

// each begins the loop over a thread's items.
func (e *emitter) each(item string, items int) {
	first, step := "threadIdx.x", "BLOCK"
	if e.grid.block != "" {
		first, step = e.grid.block+" * BLOCK + threadIdx.x", e.grid.blocks+" * BLOCK"
	}
	e.line(1, "for (u32 %s = %s; %s < %s; %s += %s) {", item, first, item, e.count(items), item, step)
}

// eachBlock begins the loop over a block's items.
func (e *emitter) eachBlock(item string, items int) {
	first, step := "0", "1"
	if e.grid.block != "" {
		first, step = e.grid.block, e.grid.blocks
	}
	e.line(1, "for (u32 %s = %s; %s < %s; %s += %s) {", item, first, item, e.count(items), item, step)
}

// count is a number of items: the kernel's parameter, unless there are other groups.
func (e *emitter) count(items int) string {
	if e.prefix == "" {
		return "n"
	}
	return fmt.Sprintf("%du", items)
}

// tree declares shared memory for the reduction that is the i-th member, and names it.
func (e *emitter) tree(n *graph.Node, i int, places string) string {
	nth := 0
	for _, m := range e.f.Nodes[:i] {
		if m.Op().Class() == graph.ClassReduce {
			nth++
		}
	}
	name := fmt.Sprintf("tree%d_%v", nth, n.DType())
	if e.shared == nil {
		e.line(1, "__shared__ %v %s[%s];", n.DType(), name, places)
	} else if d := fmt.Sprintf("__shared__ %v %s[BLOCK];", n.DType(), name); !slices.Contains(*e.shared, d) {
		*e.shared = append(*e.shared, d)
	}
	return name
}

// vectors computes four neighbours at a time. They differ in their last
// coordinate alone; what lies side by side is loaded and stored at once.
func (e *emitter) vectors() {
	items, last := e.f.Space.Size()/4, fmt.Sprintf("x%d", len(e.f.Space)-1)
	e.reads = []read{}
	body := strings.ReplaceAll(e.body(3), last+"@", "("+last+" + e)")
	if n, perSM := e.itemsAtOnce(items, body); n > 1 {
		e.perSM = perSM
		e.stream(n, body)
		return
	}
	e.each("v", items)
	e.line(2, "const u32 i = v * 4u;")
	e.index(2, "i", e.all(), body+e.addresses())
	for _, r := range e.reads {
		e.line(2, "%s", r)
	}
	e.neighbourhood(2, body)
	e.line(1, "}")
}

// neighbourhood computes the neighbours from i on, of which all that a body reads
// has been loaded, and stores them.
func (e *emitter) neighbourhood(indent int, body string) {
	for k, n := range e.f.Stored {
		e.line(indent, "%v r%d[4];", n.DType(), k)
	}
	e.line(indent, "UNROLL for (u32 e = 0; e < 4; e++) {")
	e.b.WriteString(body)
	e.line(indent, "}")
	for k := range e.f.Stored {
		e.line(indent, "store_vector(%s + i, r%d);", e.out[k], k)
	}
}

// neighbours is the expression for element e of four that a body reads, with
// strides: loaded once if they are one, side by side, or neither.
func (e *emitter) neighbours(buffer int, strides []int) string {
	last := len(strides) - 1
	together := strides[last] == 1
	for _, s := range strides[:last] {
		together = together && s%4 == 0
	}
	r := read{t: e.p.Buffers[buffer].DType, from: e.arg[buffer], at: e.offset(strides)}
	switch {
	case strides[last] == 0:
		return e.read(r)
	case together:
		r.count, r.load = 4, "load_vector(%s, %s)"
		return e.read(r)
	}
	return fmt.Sprintf("%s[%s]", r.from, strings.ReplaceAll(r.at, fmt.Sprintf("x%d", last), fmt.Sprintf("x%d@", last)))
}

// read is what a body reads of a buffer: one number, or neighbours.
type read struct {
	name     string
	t        graph.DType
	from, at string // the buffer, and the place in it
	count    int    // of neighbours; 0: it is one number for all of them
	load     string // of neighbours, to their name from their address
}

// String declares what is read, and reads it.
func (r read) String() string {
	if r.count == 0 {
		return fmt.Sprintf("const %v %s = %s[%s];", r.t, r.name, r.from, r.at)
	}
	return fmt.Sprintf("%v %s[%d]; %s", r.t, r.name, r.count, r.loaded(r.name))
}

// loaded loads neighbours.
func (r read) loaded(to string) string {
	return fmt.Sprintf(r.load, to, r.from+" + "+parenthesised(r.at)) + ";"
}

// read has something read, once, and returns the expression for it in the body.
func (e *emitter) read(r read) string {
	element := ""
	if r.count > 0 {
		element = "[e]"
	}
	for _, known := range e.reads {
		if r.name = known.name; r == known {
			return r.name + element
		}
	}
	r.name = fmt.Sprintf("v%d", len(e.reads))
	e.reads = append(e.reads, r)
	return r.name + element
}

// addresses has the places of all that is read.
func (e *emitter) addresses() (all string) {
	for _, r := range e.reads {
		all += r.at + " "
	}
	return all
}

func parenthesised(s string) string {
	if strings.Contains(s, " ") {
		return "(" + s + ")"
	}
	return s
}

// reducing gives a thread, or where more is to be reduced a block, a result at
// a time.
func (e *emitter) reducing() GroupKernel {
	var kept []int
	for _, a := range e.all() {
		if !slices.Contains(e.f.Axes, a) {
			kept = append(kept, a)
		}
	}
	size := reduced(e.f)
	results := e.f.Space.Size() / size
	alone := size <= shortReduction // a thread for a result
	from, by, blocks := "0", "1", ceil(results, BlockThreads)
	trees := map[int]string{}
	if alone {
		e.each("o", results)
	} else {
		from, by, blocks = "threadIdx.x", "BLOCK", results
		e.eachReduction(func(n *graph.Node, i int) { trees[i] = e.tree(n, i, "BLOCK / 32") })
		e.eachBlock("o", results)
	}
	body := e.body(3)
	e.index(2, "o", kept, body)
	e.eachReduction(func(n *graph.Node, i int) { e.line(2, "%v s%d = %s_start<%v>();", n.DType(), i, reducer(n), n.DType()) })
	e.line(2, "for (u32 r = %s; r < %du; r += %s) {", from, size, by)
	e.index(3, "r", e.f.Axes, body)
	e.b.WriteString(body + "    }\n")
	e.eachReduction(func(n *graph.Node, i int) {
		guard := ""
		if !alone {
			e.line(2, "s%d = block_%s(s%d, %s);", i, reducer(n), i, trees[i])
			guard = "if (threadIdx.x == 0) "
		}
		e.line(2, "%s%s[o] = s%d;", guard, e.out[slices.Index(e.f.Stored, n)], i)
	})
	e.line(1, "}")
	return e.kernel(results, blocks)
}

// columns is how blocks go down the rows of a space of which neighbouring axes are
// reduced: (outer, rows, inner) to (outer, inner). A block has width columns, of
// across times as many, and length rows, one of so many parts.
type columns struct{ outer, rows, inner, width, across, parts, length int }

func (c columns) blocks() int { return c.outer * c.across * c.parts }

func (e *emitter) inColumns() columns {
	c := columns{outer: 1, rows: 1, inner: 1, width: 1}
	for a, extent := range e.f.Space {
		switch {
		case slices.Contains(e.f.Axes, a):
			c.rows *= extent
		case c.rows == 1:
			c.outer *= extent
		default:
			c.inner *= extent
		}
	}
	for c.width < min(c.inner, 32) {
		c.width *= 2
	}
	c.across = ceil(c.inner, c.width)
	const least = 8 // rows that are worth a thread
	parts := max(1, min(wanted/(c.outer*c.across), c.rows/(least*BlockThreads/c.width)))
	c.length = ceil(c.rows, parts)
	c.parts = ceil(c.rows, c.length)
	return c
}

// neighbouring says whether neighbouring axes are reduced.
func (e *emitter) neighbouring() bool {
	turns := 0 // from kept to reduced axes, and back
	for a, extent := range e.f.Space {
		if extent > 1 && slices.Contains(e.f.Axes, a) == (turns%2 == 0) {
			turns++
		}
	}
	return turns <= 2
}

// reducingColumns has blocks go down the rows of up to 32 columns.
func (e *emitter) reducingColumns() (kernels []GroupKernel, scratch int) {
	c := e.inColumns()
	outer, rows, inner, width, across, parts, length := c.outer, c.rows, c.inner, c.width, c.across, c.parts, c.length
	e.linear, scratch = true, e.base
	trees := map[int]string{}
	e.eachReduction(func(n *graph.Node, i int) { trees[i] = e.tree(n, i, "BLOCK") })
	e.eachBlock("b", outer*across*parts)
	e.line(2, "const u32 column = b %% %du * %du + threadIdx.x %% %du, part = b / %du %% %du, outer = b / %du;", across, width, width, across, parts, across*parts)
	e.eachReduction(func(n *graph.Node, i int) { e.line(2, "%v s%d = %s_start<%v>();", n.DType(), i, reducer(n), n.DType()) })
	e.line(2, "const u32 end = column < %du ? smaller(part * %du + %du, %du) : 0;", inner, length, length, rows)
	e.line(2, "for (u32 r = part * %du + threadIdx.x / %du; r < end; r += BLOCK / %du) {", length, width, width)
	e.line(3, "const u32 i = (outer * %du + r) * %du + column;", rows, inner)
	body := e.body(3)
	e.index(3, "i", e.all(), body)
	e.b.WriteString(body + "    }\n")
	e.eachReduction(func(n *graph.Node, i int) {
		e.line(2, "s%d = column_%s<%d>(s%d, %s);", i, reducer(n), width, i, trees[i])
	})
	e.line(2, "if (threadIdx.x < %du && column < %du) {", width, inner)
	var join []string // of the second kernel
	e.eachReduction(func(n *graph.Node, i int) {
		to := fmt.Sprintf("%s[outer * %du + column]", e.out[slices.Index(e.f.Stored, n)], inner)
		if parts > 1 {
			to = fmt.Sprintf("((%v*)(scratch + %d))[(part * %du + outer) * %du + column]", n.DType(), scratch, outer, inner)
			var line string
			line, scratch = e.joinLine(n, parts, outer*inner, scratch)
			join = append(join, line)
		}
		e.line(3, "%s = s%d;", to, i)
	})
	e.line(2, "}")
	e.line(1, "}")
	if parts > 1 {
		e.params = append(e.params, "u8* __restrict__ scratch")
		e.buffers = append(e.buffers, Scratch)
	}
	kernels = []GroupKernel{e.kernel(outer*across*parts, outer*across*parts)}
	if parts > 1 {
		kernels = append(kernels, e.joining(join, outer*inner, parts).kernel())
	}
	return kernels, scratch
}

// manyParts is the number of parts from which each thread joins fewer of them.
const manyParts = 64

// joinWidth is the number of columns that a block joins the parts of.
func joinWidth(parts int) int {
	if parts >= manyParts {
		return 8
	}
	return 32
}

// joinLine joins the parts of a reduction, which lie at an offset in scratch
// memory; next is the offset behind them.
func (e *emitter) joinLine(n *graph.Node, parts, results, offset int) (line string, next int) {
	t := n.DType()
	return fmt.Sprintf("join_parts<%d, %d>((const %v*)(scratch + %d), %s, %s, %s, %s, [](%v a, %v b) { return %s(a, b); });",
		parts, joinWidth(parts), t, offset, e.out[slices.Index(e.f.Stored, n)], e.count(results), e.grid.block, e.grid.blocks, t, t, joiner(n)), offset + (parts*results*t.Size()+15)&^15
}

// eachStored calls fn for the members that are stored element by element.
func (e *emitter) eachStored(fn func(n *graph.Node, k int)) {
	for k, n := range e.f.Stored {
		if n.Op().Class() != graph.ClassReduce {
			fn(n, k)
		}
	}
}

func (e *emitter) eachReduction(fn func(n *graph.Node, i int)) {
	for i, n := range e.f.Nodes {
		if n.Op().Class() == graph.ClassReduce {
			fn(n, i)
		}
	}
}

// operand is the expression for a value that a member reads.
func (e *emitter) operand(n *graph.Node) string {
	if i, ok := e.member[n]; ok {
		return fmt.Sprintf("t%d", i)
	}
	o := e.p.Operand(n)
	if o.Immediate {
		return literal(n.DType(), o.Value)
	}
	if e.producer != nil {
		if base(n) == e.producer {
			return "y"
		}
		return e.beside(o)
	}
	if e.gathered != nil {
		if base(n) == e.gathered {
			return "v[e]"
		}
		return e.onTheWay(o)
	}
	if e.reads != nil {
		return e.neighbours(o.Buffer, o.Strides)
	}
	return fmt.Sprintf("%s[%s]", e.arg[o.Buffer], e.offset(o.Strides))
}

// offset is the position that strides give to the current element.
func (e *emitter) offset(strides []int) string {
	if e.linear && e.same(strides) {
		return "i"
	}
	var terms []string
	for a, s := range strides {
		switch {
		case s == 1:
			terms = append(terms, fmt.Sprintf("x%d", a))
		case s != 0:
			terms = append(terms, fmt.Sprintf("x%d * %du", a, s))
		}
	}
	if len(terms) == 0 {
		return "0"
	}
	return strings.Join(terms, " + ")
}

// same says whether strides are the space's own, but for axes of one element.
func (e *emitter) same(strides []int) bool {
	for a, s := range e.f.Space.Strides() {
		if e.f.Space[a] > 1 && strides[a] != s {
			return false
		}
	}
	return true
}

func reducer(n *graph.Node) string {
	if n.Op() == graph.OpReduceMax {
		return "max"
	}
	return "sum"
}

// joiner is the element function that a reduction repeats.
func joiner(n *graph.Node) string {
	if n.Op() == graph.OpReduceMax {
		return "max_"
	}
	return "add_"
}

// function is the device header's name for an element-wise operation.
func function(n *graph.Node) string {
	name := strings.ReplaceAll(n.Op().String(), "-", "_")
	if n.Op() == graph.OpConvert {
		return fmt.Sprintf("%s<%v>", name, n.DType())
	}
	return name + "_"
}

// literal writes a constant so that the device compiler reads the same bits.
func literal(t graph.DType, v float64) string {
	switch t {
	case graph.F32:
		f := float32(v)
		if f-f != 0 { // NaN and infinities have no literal
			return fmt.Sprintf("f32_bits(%#xu)", math.Float32bits(f))
		}
		return fmt.Sprintf("f32(%s)", strconv.FormatFloat(float64(f), 'x', -1, 64))
	case graph.F64:
		if v-v != 0 {
			return fmt.Sprintf("f64_bits(%#xull)", math.Float64bits(v))
		}
		return fmt.Sprintf("f64(%s)", strconv.FormatFloat(v, 'x', -1, 64))
	case graph.BF16:
		return fmt.Sprintf("convert<bf16>(%s)", literal(graph.F32, v))
	case graph.Bool:
		return fmt.Sprint(v != 0)
	}
	return fmt.Sprintf("%v(%d)", t, int64(v))
}
