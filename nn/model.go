package nn

import (
	"fmt"
	"slices"
	"strings"

	"temper/engine/graph"
)

// Mode says which statistics batch normalisation uses. It is always explicit,
// because attacks and training methods differ in it.
type Mode uint8

// The modes. Networks without batch normalisation ignore them.
const (
	Eval        Mode = iota // running statistics; buffers stay
	Batch                   // the batch's statistics; buffers stay
	BatchUpdate             // the batch's statistics; running ones are updated, as PyTorch's train()
)

var modeNames = []string{"eval", "batch", "batch-update"}

func (m Mode) String() string { return modeNames[m] }

// ParseMode is the inverse of String.
func ParseMode(s string) (Mode, error) {
	if i := slices.Index(modeNames, s); i >= 0 {
		return Mode(i), nil
	}
	return 0, fmt.Errorf("unknown batch-norm mode %q: want one of %s", s, strings.Join(modeNames, ", "))
}

// Spec is one tensor of a model's state, as PyTorch's state_dict has it but
// for num_batches_tracked, which is i32 here and int64 there.
type Spec struct {
	Name   string
	DType  graph.DType
	Shape  graph.Shape
	Law    Law  // what it starts from
	Buffer bool // updated by the forward pass, not by the optimiser
}

// Forward defines a network: from images x (N,C,H,W) to the penultimate
// features (N,F) and the logits (N,classes).
type Forward func(s *Scope, x *graph.Node) (features, logits *graph.Node)

// Model is a network of fixed sizes. It holds no weights.
type Model struct {
	Name    string
	Input   graph.Shape // (C,H,W) of one sample
	Classes int

	forward Forward
	specs   []Spec
	prefix  string // of the states' names
}

// Output is what a model makes of a batch.
type Output struct {
	Logits   *graph.Node // (N,Classes)
	Features *graph.Node // (N,F), what the last linear map sees
	Buffers  Tree        // after the batch: new under BatchUpdate, else as given
}

// NewModel declares a network: forward is run once over a scratch graph to
// collect its state. The error is the first one of that run.
func NewModel(name string, input graph.Shape, classes int, forward Forward) (*Model, error) {
	m := &Model{Name: name, Input: slices.Clone(input), Classes: classes, forward: forward}
	if len(input) != 3 || input.Size() < 1 || classes < 2 {
		return nil, fmt.Errorf("model %s: input %v and %d classes: want (C,H,W) and at least 2 classes", name, input, classes)
	}
	g := graph.New(name)
	s := &Scope{run: &run{g: g, model: m, declare: true}}
	_, logits := forward(s, g.Input("x", graph.F32, append(graph.Shape{1}, input...)...))
	if err := g.Err(); err != nil {
		return nil, fmt.Errorf("model %s: %w", name, err)
	}
	if want := (graph.Shape{1, classes}); !logits.Shape().Equal(want) {
		return nil, fmt.Errorf("model %s: logits of shape %v: want %v", name, logits.Shape(), want)
	}
	m.specs = s.run.specs
	return m, nil
}

// Specs lists the model's state in the order of PyTorch's state_dict. The
// slice must not be changed.
func (m *Model) Specs() []Spec { return m.specs }

// Parameters is the number of the model's trainable values.
func (m *Model) Parameters() int {
	n := 0
	for _, s := range m.specs {
		if !s.Buffer {
			n += s.Shape.Size()
		}
	}
	return n
}

// tree makes one node for each parameter, or for each buffer.
func (m *Model) tree(buffers bool, f func(s Spec) *graph.Node) Tree {
	var t Tree
	for _, s := range m.specs {
		if s.Buffer == buffers {
			t = append(t, Leaf{s.Name, f(s)})
		}
	}
	return t
}

// Declare declares the model's state in g, each tensor named prefix + its
// name. A program of one model uses no prefix; further copies (averaged
// weights, a second network) have one each.
func (m *Model) Declare(g *graph.Graph, prefix string) (params, buffers Tree) {
	state := func(s Spec) *graph.Node { return g.State(m.prefix+prefix+s.Name, s.DType, s.Shape...) }
	return m.tree(false, state), m.tree(true, state)
}

// At is the same network with all of its state declared under a prefix: what
// builds a program for a model builds it for a copy with weights of its own.
func (m *Model) At(prefix string) *Model {
	copied := *m
	copied.prefix = prefix + m.prefix
	return &copied
}

// Statistics are the buffers of a batch x (N,C,H,W) by itself, where BatchUpdate
// would blend them into those given. Counters count on.
func (m *Model) Statistics(params, buffers Tree, x *graph.Node) Tree {
	none := buffers.Map(func(_ int, l Leaf) *graph.Node {
		if !l.Node.DType().Float() {
			return l.Node
		}
		return l.Node.C(0).BroadcastTo(l.Node.Shape()...)
	})
	blended := m.Apply(params, none, x, BatchUpdate).Buffers
	return blended.Map(func(_ int, l Leaf) *graph.Node {
		if !l.Node.DType().Float() {
			return l.Node
		}
		return l.Node.DivC(bnMomentum)
	})
}

// Apply builds the network on x (N,C,H,W). It may be called any number of
// times on one graph, inside loop bodies too.
func (m *Model) Apply(params, buffers Tree, x *graph.Node, mode Mode) Output {
	g := x.Graph()
	if g.Err() == nil && (x.Rank() != 4 || !x.Shape()[1:].Equal(m.Input)) {
		g.Fail(fmt.Errorf("model %s: input of shape %v: want N images of %v", m.Name, x.Shape(), m.Input))
	}
	r := &run{g: g, model: m, mode: mode, params: params, buffers: buffers, updates: slices.Clone(buffers)}
	features, logits := m.forward(&Scope{run: r}, x)
	return Output{Logits: logits, Features: features, Buffers: r.updates}
}

// run is one pass of a Forward, to declare or to apply.
type run struct {
	g       *graph.Graph
	model   *Model
	mode    Mode
	declare bool
	specs   []Spec // declare
	params  Tree   // apply, as are the next two
	buffers Tree
	updates Tree
}

// Scope is the place in the tree of names where a layer stands. Layers take
// their state from it.
type Scope struct {
	run    *run
	prefix string
}

// Sub is the scope of a part: its names follow "name.".
func (s *Scope) Sub(name string) *Scope { return &Scope{s.run, s.prefix + name + "."} }

// label names a layer's result after its scope, for listings and diagnosis.
func (s *Scope) label(n *graph.Node) *graph.Node {
	return n.Named(strings.TrimSuffix(s.prefix, "."))
}

// Mode is the mode of this pass.
func (s *Scope) Mode() Mode { return s.run.mode }

// Param is the f32 parameter of that name and shape. It starts from init.
func (s *Scope) Param(name string, init Init, shape ...int) *graph.Node {
	return s.lookup(s.run.params, Spec{Name: s.prefix + name, DType: graph.F32, Shape: shape, Law: init(shape)})
}

// Buffer is the f32 buffer of that name and shape, as it was before this pass.
// It starts as a constant.
func (s *Scope) Buffer(name string, start float64, shape ...int) *graph.Node {
	return s.buffer(name, graph.F32, start, shape...)
}

// Counter is a scalar i32 buffer that starts at 0.
func (s *Scope) Counter(name string) *graph.Node { return s.buffer(name, graph.I32, 0) }

func (s *Scope) buffer(name string, t graph.DType, start float64, shape ...int) *graph.Node {
	spec := Spec{Name: s.prefix + name, DType: t, Shape: shape, Law: Law{ConstantLaw, start}, Buffer: true}
	return s.lookup(s.run.buffers, spec)
}

// Update sets what a buffer becomes by this pass.
func (s *Scope) Update(name string, value *graph.Node) {
	for i, l := range s.run.updates {
		if l.Name == s.prefix+name {
			s.run.updates[i].Node = value
		}
	}
}

func (s *Scope) lookup(t Tree, want Spec) *graph.Node {
	r := s.run
	if r.declare {
		return s.declare(want)
	}
	n := t.Get(want.Name)
	if r.g.Err() == nil && n == nil {
		r.g.Fail(fmt.Errorf("model %s: no %q among the given parameters and buffers", r.model.Name, want.Name))
	}
	if r.g.Err() == nil && (n.DType() != want.DType || !n.Shape().Equal(want.Shape)) {
		r.g.Fail(fmt.Errorf("model %s: %q is %v%v: want %v%v", r.model.Name, want.Name, n.DType(), n.Shape(), want.DType, want.Shape))
	}
	if r.g.Err() != nil {
		return r.g.State(want.Name, want.DType, want.Shape...) // poisoned by the error
	}
	return n
}

func (s *Scope) declare(want Spec) *graph.Node {
	r := s.run
	if slices.ContainsFunc(r.specs, func(o Spec) bool { return o.Name == want.Name }) {
		r.g.Fail(fmt.Errorf("two tensors are named %q", want.Name))
	}
	want.Shape = slices.Clone(want.Shape)
	r.specs = append(r.specs, want)
	return r.g.State(want.Name, want.DType, want.Shape...)
}
