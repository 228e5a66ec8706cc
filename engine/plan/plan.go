package plan

import (
	"fmt"
	"strings"

	"temper/engine/graph"
)

// Plan is a graph ready for a back end.
type Plan struct {
	Graph   *graph.Graph
	Steps   []Step
	Buffers []Buffer
	Outputs []Output
	// Arena is the size in bytes of the memory that temporaries share, and
	// Private that of the memory which each worker has for those in the bodies of
	// parallel loops. What the programs' kernels need as scratch is not in them.
	Arena, Private int

	loc map[*graph.Node]int // node to buffer, for values that exist in memory
}

// Output is a named result: where it lies when the step is done.
type Output struct {
	Name   string
	Buffer int
	DType  graph.DType
	Shape  graph.Shape
}

// Step is one entry of the schedule: exactly one of the first four fields is set.
//
// Neighbours of one Region that is not 0 stand in two branches, Branch 1 and then
// Branch 0, which need nothing of each other and share no memory but what both
// only read: a device may run the branches at once.
type Step struct {
	Fused *Fused
	Op    *graph.Node // an operation with a kernel of its own
	Copy  *Copy
	Loop  *Loop

	// Prologue computes the image that Op, a convolution or a filter's gradient,
	// reads, on its way: nil if the image is in memory.
	Prologue *Fused

	Region, Branch int

	// Neighbours of one Set that is not 0, groups all of them, need nothing of each
	// other and share no memory but what they only read: a device may run them at
	// once.
	Set int
}

// SameBranch says whether two neighbours run one behind the other.
func (s *Step) SameBranch(t *Step) bool { return s.Region == t.Region && s.Branch == t.Branch }

// Fused is a group of element-wise operations over one index space, with
// reductions of their values.
type Fused struct {
	Space graph.Shape
	// Nodes are the members, operands first. A reduction's operand has the
	// shape Space; nothing in the group reads a reduction.
	Nodes []*graph.Node
	// Axes are the axes that the group's reductions reduce; nil without any.
	Axes []int
	// Stored are the members whose values other steps read, in order.
	Stored []*graph.Node
	// Gathered, of a prologue, is the one value of the image's shape and type that
	// it reads. Whatever else it reads is one number, or belongs to the channels.
	// The last of Nodes is the image.
	Gathered *graph.Node
}

// Copy copies a whole buffer.
type Copy struct{ Dst, Src int }

// Loop repeats its steps. Index is the buffer of the iteration's number;
// scanned operands and stacked results are copied slice by slice.
//
// The iterations of a loop that carries nothing are independent: it is
// Parallel, and they run in any order, on any number of workers. Each worker has
// its own Private memory, and nothing is copied: a Part is the slice itself.
type Loop struct {
	Node     *graph.Node
	Parallel bool
	Index    int
	Scan     []Slice // before the steps: slice i of Whole to Part
	Steps    []Step
	Stack    []Slice // after the steps: Part to slice i of Whole
}

// Slice ties one iteration's part to the whole.
type Slice struct{ Whole, Part int }

// Kind says where a buffer's memory comes from.
type Kind uint8

// The kinds of buffers.
const (
	Temp   Kind = iota // in the arena
	Input              // bound by the caller
	State              // lives on the device
	Scalar             // in the step block
	Const              // filled at compile time from Node's values
	View               // a slice of another buffer, set by a parallel loop for each iteration
)

func (k Kind) String() string {
	return [...]string{"temp", "input", "state", "scalar", "const", "view"}[k]
}

// Buffer is one piece of memory.
type Buffer struct {
	Kind   Kind
	Name   string // input, state, scalar
	DType  graph.DType
	Shape  graph.Shape
	Node   *graph.Node // const: the constant or iota; else the first value in it
	Offset int         // temp: in the arena, or in a worker's private memory; in bytes
	// Private temps belong to an iteration of a parallel loop: there is one for
	// each worker.
	Private bool
	// From and To bound the life of a temp in schedule time, inclusive.
	From, To int
}

// Bytes is the buffer's size.
func (b *Buffer) Bytes() int { return b.Shape.Size() * b.DType.Size() }

// Element is the value of a const buffer's element i.
func (b *Buffer) Element(i int) float64 {
	if b.Node.Op() == graph.OpConst {
		v := b.Node.Attrs().Values
		return v[min(i, len(v)-1)]
	}
	axis := b.Node.Attrs().Axis // of an iota
	stride := b.Node.Shape().Strides()[axis]
	if b.Shape.Size() < b.Node.Size() {
		stride = 1 // one period
	}
	return float64(i / stride % b.Node.Dim(axis))
}

// Buffer finds the buffer that holds a node's value.
func (p *Plan) Buffer(n *graph.Node) int {
	for n.Op() == graph.OpReshape {
		n = n.In(0)
	}
	i, ok := p.loc[n]
	if !ok {
		panic(fmt.Sprintf("BUG: plan: %v %v%v has no buffer", n.Op(), n.DType(), n.Shape()))
	}
	return i
}

// Operand is how a fused group reads a value: an immediate, or a buffer walked
// with one stride (in elements, 0 where it repeats) for each axis of the space.
type Operand struct {
	Immediate bool
	Value     float64
	Buffer    int
	Strides   []int
}

// Operand resolves what a member of a fused group reads from outside it.
func (p *Plan) Operand(n *graph.Node) Operand {
	if v, ok := immediate(n); ok {
		return Operand{Immediate: true, Value: v}
	}
	o := Operand{Strides: n.Shape().Strides()}
	for n.Op() == graph.OpBroadcast && !p.inMemory(n) {
		for i := range o.Strides {
			if n.In(0).Dim(i) == 1 {
				o.Strides[i] = 0
			}
		}
		n = n.In(0)
		for i, s := range n.Shape().Strides() {
			if o.Strides[i] != 0 {
				o.Strides[i] = s
			}
		}
		if v, ok := immediate(n); ok {
			return Operand{Immediate: true, Value: v}
		}
	}
	o.Buffer = p.Buffer(n)
	if n.Op() == graph.OpIota && p.Buffers[o.Buffer].Shape.Size() < n.Size() {
		// Only one period is in memory.
		for i := range o.Strides {
			if i != n.Attrs().Axis {
				o.Strides[i] = 0
			} else if o.Strides[i] != 0 {
				o.Strides[i] = 1
			}
		}
	}
	for i, d := range n.Shape() {
		if d == 1 {
			o.Strides[i] = 0
		}
	}
	return o
}

func (p *Plan) inMemory(n *graph.Node) bool { _, ok := p.loc[n]; return ok }

// immediate is the value of a constant with one value.
func immediate(n *graph.Node) (float64, bool) {
	if n.Op() == graph.OpConst && len(n.Attrs().Values) == 1 {
		return n.Attrs().Values[0], true
	}
	return 0, false
}

// String lists the plan for people: steps, what they read and write, and the
// arena.
func (p *Plan) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "plan %q: arena %d bytes", p.Graph.Name(), p.Arena)
	if p.Private > 0 {
		fmt.Fprintf(&b, ", and %d bytes for each worker", p.Private)
	}
	b.WriteString("\n")
	p.list(&b, p.Steps, "  ")
	return b.String()
}

func (p *Plan) list(b *strings.Builder, steps []Step, indent string) {
	outer := indent
	for i, s := range steps {
		if s.Region > 0 && (i == 0 || !s.SameBranch(&steps[i-1])) {
			fmt.Fprintf(b, "%s%s\n", outer, [...]string{"beside it", "a branch"}[s.Branch])
		}
		if s.Set > 0 && (i == 0 || s.Set != steps[i-1].Set) {
			fmt.Fprintf(b, "%sat once\n", outer)
		}
		indent := outer
		if s.Region > 0 || s.Set > 0 {
			indent += "| "
		}
		switch {
		case s.Fused != nil:
			p.listFused(b, s.Fused, indent)
		case s.Op != nil:
			fmt.Fprintf(b, "%s%s = %v%s%s\n", indent, p.where(p.Buffer(s.Op)), s.Op.Op(), p.args(&s), label(s.Op))
			if s.Prologue != nil {
				p.listMembers(b, s.Prologue, indent+"  ")
			}
		case s.Copy != nil:
			fmt.Fprintf(b, "%s%s = copy %s\n", indent, p.where(s.Copy.Dst), p.where(s.Copy.Src))
		case s.Loop != nil:
			p.listLoop(b, s.Loop, indent)
		}
	}
}

func (p *Plan) listLoop(b *strings.Builder, l *Loop, indent string) {
	fmt.Fprintf(b, "%sloop %d times", indent, l.Node.Attrs().Trips)
	if l.Parallel {
		b.WriteString(", side by side")
	}
	b.WriteString(label(l.Node) + "\n")
	for _, c := range l.Scan {
		fmt.Fprintf(b, "%s  %s = slice of %s\n", indent, p.where(c.Part), p.where(c.Whole))
	}
	p.list(b, l.Steps, indent+"  ")
	for _, c := range l.Stack {
		fmt.Fprintf(b, "%s  slice of %s = %s\n", indent, p.where(c.Whole), p.where(c.Part))
	}
}

func (p *Plan) listFused(b *strings.Builder, f *Fused, indent string) {
	fmt.Fprintf(b, "%sfused over %v", indent, f.Space)
	if f.Axes != nil {
		fmt.Fprintf(b, " reducing %v", f.Axes)
	}
	b.WriteString("\n")
	p.listMembers(b, f, indent+"  ")
}

func (p *Plan) listMembers(b *strings.Builder, f *Fused, indent string) {
	member := map[*graph.Node]int{}
	for i, n := range f.Nodes {
		member[n] = i
		var args []string
		for _, in := range n.Ins() {
			args = append(args, p.arg(in, member))
		}
		fmt.Fprintf(b, "%st%d = %v %s", indent, i, n.Op(), strings.Join(args, ", "))
		for _, s := range f.Stored {
			if s == n {
				fmt.Fprintf(b, " -> %s", p.where(p.Buffer(n)))
			}
		}
		fmt.Fprintf(b, "%s\n", label(n))
	}
}

func (p *Plan) arg(n *graph.Node, member map[*graph.Node]int) string {
	if i, ok := member[n]; ok {
		return fmt.Sprintf("t%d", i)
	}
	o := p.Operand(n)
	if o.Immediate {
		return fmt.Sprint(o.Value)
	}
	s := p.where(o.Buffer)
	if p.Buffers[o.Buffer].Shape.Size() < n.Size() {
		s += fmt.Sprintf(" by %v", o.Strides)
	}
	return s
}

func (p *Plan) args(s *Step) string {
	var text string
	for i, in := range s.Op.Ins() {
		if i == 0 && s.Prologue != nil {
			text += fmt.Sprintf(" t%d", len(s.Prologue.Nodes)-1)
		} else {
			text += " " + p.where(p.Buffer(in))
		}
	}
	return text
}

func (p *Plan) where(i int) string {
	b := &p.Buffers[i]
	if b.Kind == Temp || b.Kind == View {
		return fmt.Sprintf("b%d", i)
	}
	if b.Kind == Const {
		return fmt.Sprintf("const%d", i)
	}
	return fmt.Sprintf("%v:%s", b.Kind, b.Name)
}

func label(n *graph.Node) string {
	if n.Label() == "" {
		return ""
	}
	return "  # " + n.Label()
}
