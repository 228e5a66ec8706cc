package plan_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"temper/engine/graph"
	"temper/engine/optest"
	"temper/engine/passes"
	"temper/engine/plan"
)

// machine runs a plan on names of values instead of numbers: it knows which value
// each piece of memory holds, and what each step should find there. So a value that
// is overwritten too early, in place or by another that lives in its memory, shows
// whatever the numbers are.
type machine struct {
	p      *plan.Plan
	with   bool                   // groups may run at once with the contraction right before them
	holds  map[int]string         // the value in each buffer
	owner  map[bool][]int         // the buffer in each line of the arena, or of private memory; -1: none
	value  map[*graph.Node]string // of what loops set
	turn   map[*graph.Block]string
	apart  int // parallel loops around
	errors []error
}

const line = 64 // bytes

// checkMemory runs a plan of a graph and reports what goes wrong.
func checkMemory(g *graph.Graph, p *plan.Plan, o plan.Options) error {
	m := &machine{p: p, with: o.LessTraffic, holds: map[int]string{}, owner: map[bool][]int{}, value: map[*graph.Node]string{}, turn: map[*graph.Block]string{}}
	for private, size := range map[bool]int{false: p.Arena, true: p.Private} {
		m.owner[private] = make([]int, size/line)
		m.forget(private)
	}
	for i := range p.Buffers {
		if b := &p.Buffers[i]; b.Kind != plan.Temp && b.Kind != plan.View {
			m.holds[i] = m.name(b.Node)
		}
	}
	m.run(p.Steps)
	for i, out := range g.Outputs() {
		m.find(p.Outputs[i].Buffer, out.Node, "output "+out.Name)
	}
	for _, a := range g.Assigns() {
		m.find(p.Buffer(a.State), a.Value, "state "+a.State.Attrs().Name)
	}
	return errors.Join(m.errors...)
}

func (m *machine) forget(private bool) {
	for i := range m.owner[private] {
		m.owner[private][i] = -1
	}
}

func (m *machine) fail(format string, args ...any) {
	m.errors = append(m.errors, fmt.Errorf(format, args...))
}

// name is that of a node's value, in the iteration that runs.
func (m *machine) name(n *graph.Node) string {
	for n.Op() == graph.OpReshape {
		n = n.In(0)
	}
	if v, ok := m.value[n]; ok {
		return v
	}
	if n.Op().Class() == graph.ClassLeaf {
		return fmt.Sprint("%", n.ID())
	}
	return fmt.Sprint("%", n.ID(), m.turn[n.Block()])
}

// lines are those of a buffer.
func (m *machine) lines(i int) []int {
	b := &m.p.Buffers[i]
	if b.Kind != plan.Temp {
		return nil
	}
	return m.owner[b.Private][b.Offset/line : (b.Offset+b.Bytes()+line-1)/line]
}

// there looks for what a buffer holds.
func (m *machine) there(i int, who string) {
	if slices.ContainsFunc(m.lines(i), func(o int) bool { return o != i }) {
		m.fail("%s: buffer %d is overwritten by %v", who, i, m.lines(i))
	}
}

// find looks for a node's value in a buffer.
func (m *machine) find(i int, n *graph.Node, who string) {
	m.there(i, who)
	if got, want := m.holds[i], m.name(n); got != want {
		m.fail("%s: buffer %d holds %s, want %s", who, i, got, want)
	}
}

func (m *machine) put(i int, name string) {
	b := &m.p.Buffers[i]
	if m.apart > 0 && b.Kind == plan.Temp && !b.Private {
		m.fail("buffer %d, which workers share, is written in a parallel loop", i)
	}
	if b.Kind != plan.Temp && b.Kind != plan.View && b.Kind != plan.State {
		m.fail("buffer %d, of kind %v, is written", i, b.Kind)
	}
	for k := range m.lines(i) {
		m.lines(i)[k] = i
	}
	m.holds[i] = name
}

// write has a step write buffers while it reads others.
func (m *machine) write(nodes []*graph.Node, reads []int, who string) {
	for k, n := range nodes {
		w := m.p.Buffer(n)
		for _, r := range append(reads, m.buffers(nodes[:k])...) {
			if r == w || m.overlap(r, w) {
				m.fail("%s: writes buffer %d while it uses buffer %d", who, w, r)
			}
		}
	}
	for _, n := range nodes {
		m.put(m.p.Buffer(n), m.name(n))
	}
}

func (m *machine) buffers(nodes []*graph.Node) (list []int) {
	for _, n := range nodes {
		list = append(list, m.p.Buffer(n))
	}
	return list
}

func (m *machine) overlap(i, j int) bool {
	a, b := &m.p.Buffers[i], &m.p.Buffers[j]
	return i != j && a.Kind == plan.Temp && b.Kind == plan.Temp && a.Private == b.Private && a.Offset < b.Offset+b.Bytes() && b.Offset < a.Offset+a.Bytes()
}

func (m *machine) run(steps []plan.Step) {
	var before []int // what the contraction right before reads
	for i := range steps {
		s := &steps[i]
		switch {
		case s.Copy != nil:
			m.there(s.Copy.Src, "a copy")
			m.put(s.Copy.Dst, m.holds[s.Copy.Src])
		case s.Loop != nil:
			m.loop(s.Loop)
		case s.Fused != nil:
			var with []int
			if m.with && i > 0 && steps[i-1].Op != nil && steps[i-1].Op.Op().Class() == graph.ClassContraction && m.reads(s.Fused, m.p.Buffer(steps[i-1].Op)) {
				with = before
			}
			m.fused(s.Fused, with)
		default:
			before = m.op(s)
		}
	}
}

func (m *machine) op(s *plan.Step) (reads []int) {
	who := fmt.Sprintf("%%%d = %v", s.Op.ID(), s.Op.Op())
	for i, in := range s.Op.Ins() {
		if i == 0 && s.Prologue != nil {
			m.outside(s.Prologue, who, func(_ int, o plan.Operand) { reads = append(reads, o.Buffer) })
			continue
		}
		m.find(m.p.Buffer(in), in, who)
		reads = append(reads, m.p.Buffer(in))
	}
	m.write([]*graph.Node{s.Op}, reads, who)
	return reads
}

// outside looks for what a group reads from memory.
func (m *machine) outside(f *plan.Fused, who string, fn func(member int, o plan.Operand)) {
	for k, n := range f.Nodes {
		for _, in := range n.Ins() {
			if slices.Contains(f.Nodes, in) {
				continue
			}
			o := m.p.Operand(in)
			if o.Immediate {
				continue
			}
			for in.Op() == graph.OpBroadcast && !m.p.InMemory(in) {
				in = in.In(0)
			}
			m.find(o.Buffer, in, who)
			fn(k, o)
		}
	}
}

func (m *machine) reads(f *plan.Fused, buffer int) (yes bool) {
	for _, n := range f.Nodes {
		for _, in := range n.Ins() {
			o := plan.Operand{Immediate: true}
			if !slices.Contains(f.Nodes, in) {
				o = m.p.Operand(in)
			}
			yes = yes || !o.Immediate && o.Buffer == buffer
		}
	}
	return yes
}

// fused runs a group. Element by element it may overwrite what it reads: what stands
// at the same place, and is read by no member behind the one that writes. Reductions
// may run behind all else. with is what is read meanwhile.
func (m *machine) fused(f *plan.Fused, with []int) {
	who := fmt.Sprintf("group of %%%d", f.Nodes[0].ID())
	reads := with
	m.outside(f, who, func(k int, o plan.Operand) {
		j := slices.IndexFunc(f.Nodes, func(n *graph.Node) bool { return slices.Contains(f.Stored, n) && m.p.Buffer(n) == o.Buffer })
		if j < 0 {
			reads = append(reads, o.Buffer)
			return
		}
		reduce := f.Nodes[k].Op().Class() == graph.ClassReduce || f.Nodes[j].Op().Class() == graph.ClassReduce
		width := m.p.Buffers[o.Buffer].DType == f.Nodes[j].DType()
		if k > j || reduce || !width || !slices.Equal(o.Strides, own(f.Space)) {
			m.fail("%s: member %d reads buffer %d, which member %d writes", who, k, o.Buffer, j)
		}
	})
	m.write(f.Stored, reads, who)
}

// own are the strides of what has the space's shape.
func own(space graph.Shape) []int {
	strides := space.Strides()
	for i, d := range space {
		if d == 1 {
			strides[i] = 0
		}
	}
	return strides
}

func (m *machine) loop(l *plan.Loop) {
	n, body := l.Node, l.Node.Body()
	who := fmt.Sprintf("loop %%%d", n.ID())
	carry, around := n.Attrs().Carry, m.turn[n.Block()]
	carried := body.Params()[1 : 1+carry]
	for i, p := range carried {
		m.value[p] = m.name(n.In(i))
		m.find(m.p.Buffer(p), p, who)
	}
	stacked := func(i int) string { return fmt.Sprint("%", n.ID(), around, " stacked ", i) }
	if l.Parallel {
		for i, s := range l.Stack {
			m.put(s.Whole, stacked(i))
		}
		m.apart++
	}
	for turn := range min(n.Attrs().Trips, 3) {
		m.turn[body] = fmt.Sprint(around, ",", turn)
		if l.Parallel && m.apart == 1 {
			m.forget(true)
		}
		m.value[body.Params()[0]] = fmt.Sprint(who, m.turn[body], " index")
		m.put(l.Index, m.value[body.Params()[0]])
		for i, s := range l.Scan {
			m.find(s.Whole, n.In(carry+i), who)
			p := body.Params()[1+carry+i]
			m.value[p] = fmt.Sprint(who, m.turn[body], " slice ", i)
			m.put(s.Part, m.value[p])
		}
		m.run(l.Steps)
		for i, s := range l.Stack {
			m.find(s.Part, body.Results()[carry+i], who)
			if l.Parallel || turn > 0 {
				m.there(s.Whole, who)
			} else {
				m.put(s.Whole, stacked(i))
			}
		}
		next := map[*graph.Node]string{}
		for i, p := range carried {
			next[p] = m.name(body.Results()[i])
		}
		for p, v := range next {
			m.value[p] = v
			m.find(m.p.Buffer(p), p, who)
		}
	}
	if l.Parallel {
		m.apart--
	}
	for _, get := range n.Block().Nodes() {
		if get.Op() == graph.OpGet && get.In(0) == n {
			if i := get.Attrs().Index; i < carry {
				m.value[get] = m.value[carried[i]]
			} else {
				m.value[get] = stacked(i - carry)
			}
		}
	}
}

// planOptions are ways of planning.
var planOptions = []plan.Options{{}, {NoFusion: true}, {NoReuse: true}, {NoInPlace: true}, {LessTraffic: true}, {Branches: true}, {LessTraffic: true, Prologues: true, Branches: true}}

// The plans under testdata, however they are made, lose no value before it is used.
func TestMemoryOfPlans(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no cases under testdata", err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		source, _, _ := strings.Cut(string(text), "--- plan ---\n")
		g, err := graph.Parse(source)
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range planOptions {
			p := plan.Build(g, o)
			if err := checkMemory(g, p, o); err != nil {
				t.Errorf("%s, %+v: %v\n%v", filepath.Base(file), o, err, p)
			}
		}
	}
}

// Nor do those of programs drawn at random, as a whole and by rows.
func TestMemoryOfRandomPlans(t *testing.T) {
	for seed := range uint32(150) {
		for _, rows := range []int{0, 1 << 10} {
			g, err := passes.Run(optest.Random(seed), passes.Options{Target: passes.Target{ChannelsLast: true, PackedFilters: true, RowBytes: rows}})
			if err != nil {
				t.Fatal(err)
			}
			for _, o := range planOptions {
				p := plan.Build(g, o)
				if err := checkMemory(g, p, o); err != nil {
					t.Fatalf("seed %d, %d bytes of rows, %+v: %v\n%v\n%v", seed, rows, o, err, g, p)
				}
			}
		}
	}
}
