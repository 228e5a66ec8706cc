package gorgonia

import (
	"fmt"
	"reflect"
	"slices"

	G "gorgonia.org/gorgonia"
	"gorgonia.org/tensor"

	"temper/engine"
	"temper/engine/graph"
)

// Imported is a graph of theirs as a graph of temper's.
type Imported struct {
	// Graph has one output, "loss"; more may be added to it.
	Graph *graph.Graph
	// Loss is the value of the node that was imported. It need not be a scalar.
	Loss *graph.Node
	// Nodes has what became of each of their nodes that the loss needs. Nodes
	// inside a convolution or a rectifier, which become one node, are missing.
	Nodes map[*G.Node]*graph.Node
	// States are the initial values of the graph's state, by name: copies.
	States map[string]*tensor.Dense
}

// Import rebuilds what loss is computed from. The leaves listed as inputs become
// inputs, fed anew for each run; every other leaf must have a value and becomes
// state with that value: parameters, and whatever else is bound. Both keep their
// names; a name that is taken gets "_2", "_3", …; a leaf without one is "leaf".
//
// Conv2d, which gorgonia builds from im2col and a matrix product, is one
// convolution again, and Rectify one ReLU. An operation that Import does not
// know is an error that names it. Element types are float32 and float64.
func Import(loss *G.Node, inputs ...*G.Node) (*Imported, error) {
	im := &Imported{Graph: graph.New("gorgonia"), Nodes: map[*G.Node]*graph.Node{}, States: map[string]*tensor.Dense{}}
	i := &importer{im: im, g: im.Graph, taken: map[string]bool{}}
	for _, n := range append([]*G.Node{loss}, inputs...) {
		if n == nil || n.Graph() == nil {
			return nil, fmt.Errorf("import of a gorgonia node that belongs to no graph")
		}
	}
	if _, err := field(loss, "children"); err != nil {
		return nil, err
	}
	for _, n := range inputs {
		i.input(n)
	}
	im.Loss = i.node(loss)
	im.Graph.Output("loss", im.Loss)
	if err := im.Graph.Err(); err != nil {
		return nil, err
	}
	return im, nil
}

// Init writes the initial values into the state of a program compiled from the
// graph: into those tensors of it that the program was found to need.
func (im *Imported) Init(st *engine.State) error {
	for _, name := range st.Names() {
		if v := im.States[name]; v != nil {
			if err := st.Write(name, v); err != nil {
				return err
			}
		}
	}
	return nil
}

// importer walks a graph of theirs. Its errors stick to the new graph, and what
// is built after one is void.
type importer struct {
	im    *Imported
	g     *graph.Graph
	taken map[string]bool // names of inputs and states
}

// failf makes an error of the graph and returns a void node.
func (i *importer) failf(format string, args ...any) *graph.Node {
	i.g.Fail(fmt.Errorf(format, args...))
	return i.void()
}

// void is what stands for a node after an error.
func (i *importer) void() *graph.Node { return i.g.Const(graph.F32, []float64{0}) }

// input declares a leaf that is fed.
func (i *importer) input(n *G.Node) {
	switch {
	case i.im.Nodes[n] != nil:
	case n.Op() != nil:
		i.failf("gorgonia node %q is computed from others: only leaves can be inputs", n.Name())
	default:
		t, s := i.leafType(n)
		i.im.Nodes[n] = i.g.Input(i.name(n), t, s...)
	}
}

// leafType is a leaf's type. Later nodes follow from it.
func (i *importer) leafType(n *G.Node) (graph.DType, graph.Shape) {
	t, s := dtypes[n.Dtype()], graph.Shape(n.Shape())
	if !t.Float() {
		i.failf("gorgonia node %q is of type %v: only float32 and float64 can be imported", n.Name(), n.Dtype())
	}
	if len(s) != n.Dims() || s.Size() == 0 {
		i.failf("gorgonia node %q has no shape: build it with WithShape", n.Name())
	}
	return t, s
}

// name is a free name for a leaf.
func (i *importer) name(n *G.Node) string {
	base := n.Name()
	if slices.Contains(n.Graph().ByName(""), n) { // Name would make one up
		base = "leaf"
	}
	name := base
	for k := 2; i.taken[name]; k++ {
		name = fmt.Sprintf("%s_%d", base, k)
	}
	i.taken[name] = true
	return name
}

// node imports a node and all that it needs.
func (i *importer) node(n *G.Node) *graph.Node {
	if m := i.im.Nodes[n]; m != nil {
		return m
	}
	var m *graph.Node
	if n.Op() == nil {
		m = i.state(n)
	} else {
		m = i.operation(n)
	}
	if i.g.Err() == nil && (!m.Shape().Equal(graph.Shape(n.Shape())) || m.DType() != dtypes[n.Dtype()]) {
		m = i.failf("gorgonia says that %q is %v%v, but by its meaning it is %v%v", n.Name(), n.Dtype(), n.Shape(), m.DType(), m.Shape())
	}
	i.im.Nodes[n] = m
	return m
}

// state imports a leaf that is not fed.
func (i *importer) state(n *G.Node) *graph.Node {
	if n.Value() == nil {
		return i.failf("gorgonia node %q has no value: list it as an input, or bind a value to it with gorgonia.Let", n.Name())
	}
	t, s := i.leafType(n)
	b, err := contents(n.Value(), t, s)
	if err != nil {
		return i.failf("gorgonia node %q: %w", n.Name(), err)
	}
	d, err := engine.Dense(t, s, slices.Clone(b))
	if err != nil {
		return i.failf("gorgonia node %q: %w", n.Name(), err)
	}
	name := i.name(n)
	i.im.States[name] = d
	return i.g.State(name, t, s...)
}

// operation imports a node that is computed: as part of a pattern, or by its
// rule.
func (i *importer) operation(n *G.Node) *graph.Node {
	for _, lift := range []func(*G.Node) *graph.Node{i.convolution, i.rectifier} {
		if m := lift(n); m != nil {
			return m
		}
	}
	var in []*graph.Node
	for _, c := range children(n) {
		in = append(in, i.node(c))
	}
	if i.g.Err() != nil {
		return i.void()
	}
	if rule := rules[typeName(n.Op())]; rule != nil {
		return rule(i, n, in)
	}
	return i.unknown(n)
}

func (i *importer) unknown(n *G.Node) *graph.Node {
	return i.failf("gorgonia node %q: operation %v (%T) cannot be imported", n.Name(), n.Op(), n.Op())
}

// read reads a field of a node's operation; number, flag and numbers are that
// for their types.
func read[T any](i *importer, n *G.Node, name string, as func(reflect.Value) T) (v T) {
	f, err := field(n.Op(), name)
	if err != nil {
		i.failf("%w", err)
		return v
	}
	return as(f)
}

func (i *importer) number(n *G.Node, name string) int { return read(i, n, name, toInt) }

func (i *importer) pair(n *G.Node, h, w string) [2]int { return [2]int{i.number(n, h), i.number(n, w)} }

func (i *importer) flag(n *G.Node, name string) bool { return read(i, n, name, reflect.Value.Bool) }

func (i *importer) numbers(n *G.Node, name string) []int {
	return read(i, n, name, func(f reflect.Value) []int {
		out := make([]int, f.Len())
		for k := range out {
			out[k] = toInt(f.Index(k))
		}
		return out
	})
}

func toInt(f reflect.Value) int {
	if f.CanUint() {
		return int(f.Uint())
	}
	return int(f.Int())
}
