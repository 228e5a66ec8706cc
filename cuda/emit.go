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

// Emit writes the CUDA C++ of one fused group: a kernel whose arguments are the
// buffers that the group reads, then those that it writes, in the order of
// Args, then the number of elements. Unit puts kernels behind the headers of
// package kernels, which define the types and the element functions.
//
// Without reductions a thread takes elements i, i + grid, …; where few elements
// are reduced, a thread takes a result; where many are, a block does, its
// threads every 256th element of what is reduced, and the block joins the
// threads' results in a fixed tree. Blocks are of BlockThreads, and Blocks of
// them have work: fewer take more than one turn.
func Emit(p *plan.Plan, f *plan.Fused, name string) string {
	e := &emitter{p: p, f: f, b: new(strings.Builder), member: map[*graph.Node]int{}, arg: map[int]string{}}
	for i, n := range f.Nodes {
		e.member[n] = i
	}
	e.args()
	fmt.Fprintf(e.b, "extern \"C\" __global__ void %s(%s, u32 n) {\n", name, strings.Join(e.params, ", "))
	if f.Axes == nil {
		e.line(1, "for (u32 i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) {")
		body := e.body(2)
		e.index(2, "i", e.all(), body)
		e.b.WriteString(body + "  }\n")
	} else {
		e.reducing()
	}
	fmt.Fprintf(e.b, "}\nEXPORT(%s)\n", name)
	return e.b.String()
}

// BlockThreads is the number of threads of the blocks that Emit's kernels run
// in, BLOCK in the device header.
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

// Blocks is the number of blocks for which a group has work.
func Blocks(f *plan.Fused) int {
	n, r := f.Space.Size(), reduced(f)
	if f.Axes != nil && r > shortReduction {
		return n / r
	}
	return (n/r + BlockThreads - 1) / BlockThreads
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
	p      *plan.Plan
	f      *plan.Fused
	b      *strings.Builder
	member map[*graph.Node]int
	params []string
	arg    map[int]string // buffer to name
	out    []string       // names of the stored members' buffers
}

func (e *emitter) line(indent int, format string, args ...any) {
	e.b.WriteString(strings.Repeat("  ", indent))
	fmt.Fprintf(e.b, format, args...)
	e.b.WriteByte('\n')
}

// args names the kernel's parameters. A buffer that is written in place is
// read through its written name, without __restrict__.
func (e *emitter) args() {
	reads, writes := Args(e.p, e.f)
	for _, i := range reads {
		if slices.Contains(writes, i) {
			continue
		}
		e.arg[i] = fmt.Sprintf("in%d", len(e.params))
		e.params = append(e.params, fmt.Sprintf("const %v* __restrict__ %s", e.p.Buffers[i].DType, e.arg[i]))
	}
	for k, i := range writes {
		name := fmt.Sprintf("out%d", k)
		e.out = append(e.out, name)
		qualifier := "__restrict__ "
		if slices.Contains(reads, i) {
			e.arg[i], qualifier = name, ""
		}
		e.params = append(e.params, fmt.Sprintf("%v* %s%s", e.p.Buffers[i].DType, qualifier, name))
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
		if name := fmt.Sprintf("x%d", a); regexp.MustCompile(`\b` + name + `\b`).MatchString(body) {
			e.line(indent, "const u32 %s = %s;", name, expr)
		}
	}
}

// body computes the members in order and stores those that are stored.
func (e *emitter) body(indent int) string {
	outer := e.b
	e.b = new(strings.Builder)
	for _, n := range e.f.Nodes {
		if n.Op().Class() == graph.ClassReduce {
			e.line(indent, "s%d = %s(s%d, %s);", e.member[n], join(n), e.member[n], e.operand(n.In(0)))
			continue
		}
		args := make([]string, len(n.Ins()))
		for i, in := range n.Ins() {
			args[i] = e.operand(in)
		}
		e.line(indent, "const %v t%d = %s(%s);%s", n.DType(), e.member[n], function(n), strings.Join(args, ", "), comment(n))
		if k := slices.Index(e.f.Stored, n); k >= 0 {
			e.line(indent, "%s[%s] = t%d;", e.out[k], e.offset(e.f.Space.Strides()), e.member[n])
		}
	}
	body := e.b.String()
	e.b = outer
	return body
}

func (e *emitter) reducing() {
	var kept []int
	for _, a := range e.all() {
		if !slices.Contains(e.f.Axes, a) {
			kept = append(kept, a)
		}
	}
	size := reduced(e.f)
	alone := size <= shortReduction // a thread for a result
	first, step, from, by := "blockIdx.x", "gridDim.x", "threadIdx.x", "BLOCK"
	if alone {
		first, step, from, by = "blockIdx.x * BLOCK + threadIdx.x", "gridDim.x * BLOCK", "0", "1"
	} else {
		e.eachReduction(func(n *graph.Node, i int) { e.line(1, "__shared__ %v tree%d[BLOCK / 32];", n.DType(), i) })
	}
	e.line(1, "for (u32 o = %s; o < n / %du; o += %s) {", first, size, step)
	body := e.body(3)
	e.index(2, "o", kept, body)
	e.eachReduction(func(n *graph.Node, i int) { e.line(2, "%v s%d = %s_start<%v>();", n.DType(), i, reducer(n), n.DType()) })
	e.line(2, "for (u32 r = %s; r < %du; r += %s) {", from, size, by)
	e.index(3, "r", e.f.Axes, body)
	e.b.WriteString(body + "    }\n")
	e.eachReduction(func(n *graph.Node, i int) {
		guard := ""
		if !alone {
			e.line(2, "s%d = block_%s(s%d, tree%d);", i, reducer(n), i, i)
			guard = "if (threadIdx.x == 0) "
		}
		e.line(2, "%s%s[o] = s%d;", guard, e.out[slices.Index(e.f.Stored, n)], i)
	})
	e.line(1, "}")
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
	return fmt.Sprintf("%s[%s]", e.arg[o.Buffer], e.offset(o.Strides))
}

// offset is the position that strides give to the current element.
func (e *emitter) offset(strides []int) string {
	if e.f.Axes == nil && slices.Equal(strides, e.f.Space.Strides()) {
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

func reducer(n *graph.Node) string {
	if n.Op() == graph.OpReduceMax {
		return "max"
	}
	return "sum"
}

// join is the element function that a reduction repeats.
func join(n *graph.Node) string {
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

func comment(n *graph.Node) string {
	if n.Label() == "" {
		return ""
	}
	return " // " + n.Label()
}
