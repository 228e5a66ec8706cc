package onnx

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"reflect"
	"slices"

	"temper/engine/graph"
)

// Opset and IRVersion are those of the files that Write makes.
const (
	Opset     = 17
	IRVersion = 8
)

// The batch sizes at which a graph is asked for: primes, larger than any extent
// of a network that could be taken for one.
const (
	batchA = 1_000_003
	batchB = 1_000_033
)

// Options say what a file tells besides the graph.
type Options struct {
	// State returns the elements of a state tensor, little-endian and
	// row-major.
	State func(name string) ([]byte, error)
	// Version is the producer's.
	Version string
	// Metadata are free text by key, such as the name of the data set.
	Metadata map[string]string
}

// Write writes the outputs of a graph as functions of its inputs. Build returns
// the graph for a batch size, as for [temper/engine.Device.NewProgram]; its
// assignments are left out, its state becomes constants under its own names.
// Errors name the operation that ONNX has no counterpart for, or the value that
// is not made example by example. A file of more than 2 GiB, the limit of
// protocol buffers, is refused.
func Write(w io.Writer, build func(batch int) (*graph.Graph, error), o Options) error {
	a, err := build(batchA)
	if err == nil {
		err = a.Err()
	}
	if err != nil {
		return err
	}
	b, err := build(batchB)
	if err == nil {
		err = b.Err()
	}
	if err != nil {
		return err
	}
	t := &writer{options: o, pair: map[*graph.Node]*graph.Node{}, names: map[*graph.Node]string{}, taken: map[string]bool{}}
	if err := t.graph(a, b); err != nil {
		return fmt.Errorf("onnx: %w", err)
	}
	return t.write(w, a.Name())
}

// writer collects the parts of a GraphProto.
type writer struct {
	options Options
	pair    map[*graph.Node]*graph.Node // the same node at the other batch size
	names   map[*graph.Node]string      // of values that are there
	taken   map[string]bool
	batch   string // a value of shape (1): the batch size; "" until asked for

	inputs  []*graph.Node
	nodes   []message
	weights []tensor
	ins     []message
	outs    []message
}

// tensor is an initialiser.
type tensor struct {
	head message
	data []byte
}

func (t *writer) graph(a, b *graph.Graph) error {
	if len(a.Outputs()) == 0 {
		return errors.New("ONNX wants outputs, and the graph has none")
	}
	if len(a.Outputs()) != len(b.Outputs()) {
		return errors.New("the graph's outputs depend on the batch size")
	}
	for i, out := range a.Outputs() {
		if err := t.match(out.Node, b.Outputs()[i].Node); err != nil {
			return err
		}
	}
	for _, n := range a.Root().Nodes() { // in the order of declaration, used or not
		if n.Op() == graph.OpInput && t.pair[n] != nil {
			t.inputs = append(t.inputs, n)
			if err := t.input(n); err != nil {
				return err
			}
		}
	}
	for _, out := range a.Outputs() {
		if t.taken[out.Name] {
			return fmt.Errorf("output %q has the name of an input or of another output", out.Name)
		}
		t.taken[out.Name] = true
	}
	for _, out := range a.Outputs() {
		if err := t.output(out); err != nil {
			return err
		}
	}
	return nil
}

// match pairs the nodes of the graph at two batch sizes.
func (t *writer) match(a, b *graph.Node) error {
	if other := t.pair[a]; other != nil {
		if other != b {
			return fmt.Errorf("%s: the graph's form depends on the batch size", describe(a))
		}
		return nil
	}
	if a.Op() != b.Op() || a.DType() != b.DType() || a.Rank() != b.Rank() || len(a.Ins()) != len(b.Ins()) || !reflect.DeepEqual(form(a), form(b)) {
		return fmt.Errorf("%s: the graph's form depends on the batch size", describe(a))
	}
	t.pair[a] = b
	for i := range a.Ins() {
		if err := t.match(a.In(i), b.In(i)); err != nil {
			return err
		}
	}
	return nil
}

// form is what of the attributes no operation may take from the batch size.
func form(n *graph.Node) graph.Attrs {
	a := *n.Attrs()
	a.Values, a.Lo, a.Hi, a.Size = nil, nil, nil, nil // looked at where they are used
	return a
}

// dim is an extent: a number, or a multiple of the batch.
type dim struct{ fixed, batch int }

func (d dim) String() string {
	switch d.batch {
	case 0:
		return fmt.Sprint(d.fixed)
	case 1:
		return "N"
	}
	return fmt.Sprintf("%d*N", d.batch)
}

func (t *writer) dims(n *graph.Node) ([]dim, error) {
	out := make([]dim, n.Rank())
	for i, a := range n.Shape() {
		b := t.pair[n].Shape()[i]
		switch {
		case a == b:
			out[i] = dim{fixed: a}
		case a%batchA == 0 && b%batchB == 0 && a/batchA == b/batchB:
			out[i] = dim{batch: a / batchA}
		default:
			return nil, fmt.Errorf("%s: extent %d is %d and %d for batches of %d and %d, no multiple of them", describe(n), i, a, b, batchA, batchB)
		}
	}
	return out, nil
}

func (t *writer) input(n *graph.Node) error {
	elem, ok := elementTypes[n.DType()]
	if !ok {
		return fmt.Errorf("%s: ONNX has no counterpart of type %v", describe(n), n.DType())
	}
	dims, err := t.dims(n)
	if err != nil {
		return err
	}
	name := n.Attrs().Name
	t.names[n], t.taken[name] = name, true
	t.ins = append(t.ins, valueInfo(name, elem, dims))
	return nil
}

func (t *writer) output(out graph.Output) error {
	dims, err := t.dims(out.Node)
	if err != nil {
		return err
	}
	name, err := t.value(out.Node)
	if err != nil {
		return err
	}
	t.node("Identity", out.Name, []string{name}, nil, out.Name)
	t.outs = append(t.outs, valueInfo(out.Name, elementTypes[out.Node.DType()], dims))
	return nil
}

// unique is a name that no other value has.
func (t *writer) unique(want string) string {
	name := want
	for i := 2; t.taken[name]; i++ {
		name = fmt.Sprintf("%s.%d", want, i)
	}
	t.taken[name] = true
	return name
}

// node adds a node with one result of that name.
func (t *writer) node(op, name string, ins []string, attrs []attribute, result string) {
	t.nodes = append(t.nodes, node(op, name, ins, []string{result}, attrs))
}

// emit adds a node with one result, named after want, and returns its name.
func (t *writer) emit(op, want string, ins []string, attrs ...attribute) string {
	name := t.unique(want)
	t.node(op, name, ins, attrs, name)
	return name
}

// ints adds a constant vector of 64-bit integers, and returns its name.
func (t *writer) ints(want string, values ...int64) string {
	name := t.unique(want)
	t.weights = append(t.weights, tensor{tensorHead(name, typeInt64, []int{len(values)}), int64s(values)})
	return name
}

// numbers adds a constant, and returns its name.
func (t *writer) numbers(want string, dt graph.DType, shape []int, values []float64) string {
	name := t.unique(want)
	t.weights = append(t.weights, tensor{tensorHead(name, elementTypes[dt], shape), constant(dt, values)})
	return name
}

// shape is a value: the extents as a vector.
func (t *writer) shape(want string, dims []dim) (string, error) {
	if !slices.ContainsFunc(dims, func(d dim) bool { return d.batch > 0 }) {
		return t.ints(want+".shape", extents(dims)...), nil
	}
	n, err := t.batchSize()
	if err != nil {
		return "", err
	}
	var parts []string
	for _, d := range dims {
		switch d.batch {
		case 0:
			parts = append(parts, t.ints(want+".extent", int64(d.fixed)))
		case 1:
			parts = append(parts, n)
		default:
			parts = append(parts, t.emit("Mul", want+".extent", []string{n, t.ints(want+".times", int64(d.batch))}))
		}
	}
	return t.emit("Concat", want+".shape", parts, attribute{"axis", 0}), nil
}

func extents(dims []dim) []int64 {
	out := make([]int64, len(dims))
	for i, d := range dims {
		out[i] = int64(d.fixed)
	}
	return out
}

// batchSize is a vector of one element, read off the first input that tells.
func (t *writer) batchSize() (string, error) {
	if t.batch != "" {
		return t.batch, nil
	}
	for _, in := range t.inputs {
		dims, err := t.dims(in)
		if err != nil {
			return "", err
		}
		if axis := slices.Index(dims, dim{batch: 1}); axis >= 0 {
			all := t.emit("Shape", "batch.shape", []string{t.names[in]})
			t.batch = t.emit("Gather", "batch", []string{all, t.ints("batch.axis", int64(axis))}, attribute{"axis", 0})
			return t.batch, nil
		}
	}
	return "", errors.New("no input has the batch for an axis")
}

// describe names a node for messages.
func describe(n *graph.Node) string {
	s := fmt.Sprintf("%v %v%v", n.Op(), n.DType(), n.Shape())
	if name := n.Attrs().Name; name != "" {
		s = fmt.Sprintf("%v %q", n.Op(), name)
	}
	if n.Label() != "" {
		s += " of " + n.Label()
	}
	return s
}

// write writes the ModelProto. Weights go to w one after the other, never all of
// them into one piece of memory.
func (t *writer) write(w io.Writer, name string) error {
	var graphHead, graphTail message
	for _, n := range t.nodes {
		graphHead.bytes(1, n)
	}
	graphHead.string(2, name)
	size := 0
	heads := make([]message, len(t.weights))
	for i, x := range t.weights {
		var m message
		head := x.head
		head.open(rawData, len(x.data))
		m.open(5, len(head)+len(x.data))
		heads[i] = append(m, head...)
		size += len(heads[i]) + len(x.data)
	}
	for _, m := range t.ins {
		graphTail.bytes(11, m)
	}
	for _, m := range t.outs {
		graphTail.bytes(12, m)
	}
	size += len(graphHead) + len(graphTail)
	if size > math.MaxInt32 {
		return fmt.Errorf("onnx: the file would take %d bytes: protocol buffers end at %d", size, math.MaxInt32)
	}
	head := t.modelHead()
	head.open(7, size)
	if _, err := w.Write(append(head, graphHead...)); err != nil {
		return err
	}
	for i, x := range t.weights {
		if _, err := w.Write(heads[i]); err != nil {
			return err
		}
		if _, err := w.Write(x.data); err != nil {
			return err
		}
	}
	_, err := w.Write(graphTail)
	return err
}

// modelHead is the ModelProto but for its graph.
func (t *writer) modelHead() message {
	var m, opset message
	m.int(1, IRVersion)
	m.string(2, "temper")
	m.string(3, t.options.Version)
	opset.string(1, "")
	opset.int(2, Opset)
	m.bytes(8, opset)
	for _, k := range slices.Sorted(maps.Keys(t.options.Metadata)) {
		var prop message
		prop.string(1, k)
		prop.string(2, t.options.Metadata[k])
		m.bytes(14, prop)
	}
	return m
}
