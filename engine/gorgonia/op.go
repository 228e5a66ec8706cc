package gorgonia

import (
	"fmt"
	"hash"
	"hash/fnv"
	"slices"
	"sync/atomic"

	"github.com/chewxy/hm"
	G "gorgonia.org/gorgonia"
	"gorgonia.org/tensor"

	"temper/engine"
	"temper/engine/autodiff"
	"temper/engine/graph"
)

// Op is a compiled graph of temper as an operation of a gorgonia graph: apply
// it with gorgonia's ApplyOp to one node for each of the graph's inputs, in the
// order of their declaration. Gorgonia's Grad finds its derivatives by autodiff.
//
// Operands are read where they lie, unless they are transposed or sliced; the
// result is copied out of the program, since gorgonia may write over it. An Op
// may be applied any number of times; like a program, it is run by one machine
// at a time. Second derivatives are autodiff's, not gorgonia's: take them in
// the graph.
type Op struct {
	signature
	dev      *engine.Device
	state    *engine.State
	graph    *graph.Graph
	output   string
	exe      *engine.Executable
	gradient *Op // made when it is first asked for
}

// NewOp compiles a graph with one output as an operation. The graph's state is
// found in st or made there as zeros; as far as gorgonia can see, it is part of
// the operation. The graph must be a function: an error names what is not, an
// assignment, or a scalar of the step block. It must not be changed afterwards.
func NewOp(dev *engine.Device, st *engine.State, g *graph.Graph) (*Op, error) {
	if err := g.Err(); err != nil {
		return nil, fmt.Errorf("graph %q: %w", g.Name(), err)
	}
	if n := len(g.Outputs()); n != 1 {
		return nil, fmt.Errorf("graph %q has %d outputs: a gorgonia operation has one", g.Name(), n)
	}
	if a := g.Assigns(); len(a) > 0 {
		return nil, fmt.Errorf("graph %q assigns to %q: a gorgonia operation changes nothing", g.Name(), a[0].State.Attrs().Name)
	}
	var inputs []*graph.Node
	for _, n := range g.Root().Nodes() {
		switch n.Op() {
		case graph.OpInput:
			inputs = append(inputs, n)
		case graph.OpScalar:
			return nil, fmt.Errorf("graph %q reads %q of the step block: make it an input", g.Name(), n.Attrs().Name)
		}
	}
	return newOp(dev, st, g, inputs)
}

func newOp(dev *engine.Device, st *engine.State, g *graph.Graph, inputs []*graph.Node) (*Op, error) {
	out := g.Outputs()[0]
	sig, err := newSignature(g.Name(), inputs, out.Node)
	if err != nil {
		return nil, fmt.Errorf("graph %q: %w", g.Name(), err)
	}
	exe, err := dev.Compile(g, st, engine.Options{})
	if err != nil {
		return nil, err
	}
	return &Op{signature: sig, dev: dev, state: st, graph: g, output: out.Name, exe: exe}, nil
}

// Close frees what the operation and its gradient hold on the device.
func (o *Op) Close() {
	o.exe.Close()
	if o.gradient != nil {
		o.gradient.Close()
	}
}

// Do runs the program.
func (o *Op) Do(vs ...G.Value) (G.Value, error) {
	for i, in := range o.ins {
		b, err := contents(vs[i], in.DType(), in.Shape())
		if err != nil {
			return nil, fmt.Errorf("%v: input %q: %w", o, in.Attrs().Name, err)
		}
		if err := o.exe.FeedBytes(in.Attrs().Name, b); err != nil {
			return nil, err
		}
	}
	if err := o.exe.Run(); err != nil {
		return nil, err
	}
	b, err := o.exe.FetchBytes(o.output)
	if err != nil {
		return nil, err
	}
	return value(o.out.DType(), o.out.Shape(), slices.Clone(b))
}

// DiffWRT says which operands have a derivative: those of floating-point type.
func (o *Op) DiffWRT(int) []bool {
	out := make([]bool, len(o.ins))
	for i, in := range o.ins {
		out[i] = in.DType().Float() && o.out.DType().Float()
	}
	return out
}

// SymDiff adds the derivatives to their graph: one program computes them all,
// as one vector, and each is a part of it.
func (o *Op) SymDiff(inputs G.Nodes, _, grad *G.Node) (G.Nodes, error) {
	if o.gradient == nil {
		g, ins, err := o.backward()
		if err != nil {
			return nil, err
		}
		if o.gradient, err = newOp(o.dev, o.state, g, ins); err != nil {
			return nil, err
		}
	}
	all, err := G.ApplyOp(o.gradient, append(slices.Clone(inputs), grad)...)
	if err != nil {
		return nil, err
	}
	out, lo := make(G.Nodes, len(inputs)), 0
	for i, diff := range o.DiffWRT(len(inputs)) {
		if !diff {
			continue
		}
		p, err := newPart(o.gradient.out, lo, o.ins[i])
		if err != nil {
			return nil, err
		}
		if out[i], err = G.ApplyOp(p, all); err != nil {
			return nil, err
		}
		lo += o.ins[i].Size()
	}
	return out, nil
}

// backward is the graph of all derivatives, joined to one vector, and its
// inputs: those of the operation and the derivative by its result.
func (o *Op) backward() (*graph.Graph, []*graph.Node, error) {
	result := o.graph.Outputs()[0].Node
	dy := "d" + o.output
	for slices.ContainsFunc(o.ins, func(in *graph.Node) bool { return in.Attrs().Name == dy }) {
		dy += "'"
	}
	declare := func(g *graph.Graph) []*graph.Node {
		var ins []*graph.Node
		for _, in := range o.ins {
			ins = append(ins, g.Input(in.Attrs().Name, in.DType(), in.Shape()...))
		}
		return append(ins, g.Input(dy, result.DType(), result.Shape()...))
	}
	// The vector takes the result's place in a copy of the graph.
	g, err := graph.Rewrite(o.graph, func(c *graph.Copier, n *graph.Node, ins []*graph.Node) *graph.Node {
		if n != result {
			return nil
		}
		at := declare(c.Dst)
		var wrt, parts []*graph.Node
		for i, diff := range o.DiffWRT(len(o.ins)) {
			if diff {
				wrt = append(wrt, at[i])
			}
		}
		for _, d := range autodiff.VJP([]*graph.Node{c.Keep(n, ins)}, at[len(o.ins):], wrt...) {
			parts = append(parts, d.Reshape(-1))
		}
		return graph.Concat(0, parts...)
	})
	if err != nil {
		return nil, nil, fmt.Errorf("gradient of graph %q: %w", o.graph.Name(), err)
	}
	return g, declare(g), nil
}

// part is a piece of the gradients' vector, in the shape of its operand. Its
// value shares the vector's memory.
type part struct {
	signature
	lo int // its first element
}

func newPart(vector *graph.Node, lo int, operand *graph.Node) (*part, error) {
	sig, err := newSignature("part", []*graph.Node{vector}, operand)
	return &part{sig, lo}, err
}

// Do cuts the piece out.
func (p *part) Do(vs ...G.Value) (G.Value, error) {
	b, err := contents(vs[0], p.ins[0].DType(), p.ins[0].Shape())
	if err != nil {
		return nil, fmt.Errorf("%v: %w", p, err)
	}
	size := p.out.DType().Size()
	return value(p.out.DType(), p.out.Shape(), b[p.lo*size:][:p.out.Size()*size])
}

// DiffWRT says that there is no second derivative. Gorgonia's Grad panics on an
// operation that does not say so.
func (p *part) DiffWRT(int) []bool { return []bool{false} }

// SymDiff is never asked for anything.
func (p *part) SymDiff(G.Nodes, *G.Node, *G.Node) (G.Nodes, error) {
	return nil, fmt.Errorf("%v: no second derivative: take it in temper's graph", p)
}

// signature is what gorgonia asks of every operation, whatever it does.
type signature struct {
	name string
	ins  []*graph.Node // of the operands' types and shapes
	out  *graph.Node   // of the result's
}

// serial numbers operations: gorgonia takes two of one hash for the same.
var serial atomic.Int64

func newSignature(name string, ins []*graph.Node, out *graph.Node) (signature, error) {
	s := signature{name: fmt.Sprintf("temper.%s#%d", name, serial.Add(1)), ins: ins, out: out}
	if len(ins) == 0 {
		return s, fmt.Errorf("no inputs: a gorgonia operation has one or more")
	}
	for _, n := range append(slices.Clone(ins), out) {
		if _, ok := theirType(n.DType()); !ok {
			return s, fmt.Errorf("gorgonia has no %v: convert it in the graph", n.DType())
		}
		if n.DType().Float() && out.DType().Float() && n.DType() != out.DType() {
			return s, fmt.Errorf("input %q is %v and the output %v: a gorgonia graph has one floating-point type", n.Attrs().Name, n.DType(), out.DType())
		}
	}
	return s, nil
}

// Arity is the number of operands.
func (s signature) Arity() int { return len(s.ins) }

// Type is a function of the operands' types, made anew each time: gorgonia
// takes it apart.
func (s signature) Type() hm.Type {
	var types []hm.Type
	for _, n := range append(slices.Clone(s.ins), s.out) {
		t, _ := theirType(n.DType())
		if n.Rank() == 0 {
			types = append(types, t)
		} else {
			types = append(types, G.TensorType{Dims: n.Rank(), Of: t})
		}
	}
	return hm.NewFnType(types...)
}

// InferShape checks the operands' shapes.
func (s signature) InferShape(ds ...G.DimSizer) (tensor.Shape, error) {
	for i, in := range s.ins {
		if got, ok := ds[i].(tensor.Shape); !ok || !in.Shape().Equal(graph.Shape(got)) {
			return nil, fmt.Errorf("%s: operand %d has shape %v, want %v", s.name, i, ds[i], in.Shape())
		}
	}
	return slices.Clone(tensor.Shape(s.out.Shape())), nil
}

// ReturnsPtr is false: a result gets a register of its own.
func (s signature) ReturnsPtr() bool { return false }

// CallsExtern is false, as far as gorgonia's own GPU machinery is concerned.
func (s signature) CallsExtern() bool { return false }

// OverwritesInput is -1: operands stay as they are.
func (s signature) OverwritesInput() int { return -1 }

// WriteHash writes what tells the operation from all others.
func (s signature) WriteHash(h hash.Hash) { fmt.Fprint(h, s.name) }

// Hashcode is the hash of that.
func (s signature) Hashcode() uint32 {
	h := fnv.New32a()
	s.WriteHash(h)
	return h.Sum32()
}

// String is the operation's name.
func (s signature) String() string { return s.name }
