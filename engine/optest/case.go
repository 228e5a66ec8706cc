package optest

import (
	"fmt"
	"slices"
	"strconv"

	"temper/engine/autodiff"
	"temper/engine/graph"
	"temper/engine/interp"
	"temper/engine/rng"
)

// Case is one small program and how it is fed and judged.
type Case struct {
	Name  string        // "conv2d/3x3", "conv2d/3x3/gradient"
	Types []graph.DType // the element types T that it is tried at
	Tol   Tolerance     // of floating-point results; all others are exact
	// TolBF16, if not zero, is that of bf16 results.
	TolBF16 Tolerance
	in      []operand           // what is fed
	build   func(x nodes) nodes // the results, from the nodes of in
	// diff says that the gradient with respect to every floating-point operand
	// exists where the inputs are drawn; smooth, that the second one does too.
	diff, smooth bool
}

type nodes = []*graph.Node

// operand is an input of type T, or of its own type where it names one.
type operand struct {
	shape graph.Shape
	t     graph.DType
	gen   gen
	kind  graph.Op // OpInput if zero; OpState, OpScalar
}

func (o operand) dtype(t graph.DType) graph.DType {
	if o.t != graph.InvalidType {
		return o.t
	}
	return t
}

// of is an operand of type T.
func of(gen gen, shape ...int) operand { return operand{shape: shape, gen: gen} }

// typed is an operand of a type of its own.
func typed(t graph.DType, gen gen, shape ...int) operand {
	return operand{shape: shape, t: t, gen: gen}
}

// as makes the operand a state or scalar.
func (o operand) as(kind graph.Op) operand {
	o.kind = kind
	return o
}

// declare makes the operand's node, named by its position.
func (o operand) declare(g *graph.Graph, i int, t graph.DType) *graph.Node {
	name := "x" + strconv.Itoa(i)
	switch o.kind {
	case graph.OpState:
		return g.State(name, o.dtype(t), o.shape...)
	case graph.OpScalar:
		return g.Scalar(name, o.dtype(t))
	}
	return g.Input(name, o.dtype(t), o.shape...)
}

// Graph builds the program for T = t. Its outputs are named "0", "1", ….
func (c *Case) Graph(t graph.DType) (*graph.Graph, error) {
	g := graph.New(c.Name)
	for i, y := range c.build(c.declare(g, t)) {
		g.Output(strconv.Itoa(i), y)
	}
	if err := graph.Verify(g); err != nil {
		return nil, fmt.Errorf("%s, %v: %w", c.Name, t, err)
	}
	return g, nil
}

func (c *Case) declare(g *graph.Graph, t graph.DType) nodes {
	x := make(nodes, len(c.in))
	for i, o := range c.in {
		x[i] = o.declare(g, i, t)
	}
	return x
}

// Feed draws the program's inputs for T = t: always the same, and exactly
// representable in their types.
func (c *Case) Feed(t graph.DType) interp.Feed {
	feed := interp.Feed{}
	g := graph.New(c.Name)
	for i, x := range c.declare(g, t) {
		feed[interp.Key(x)] = c.in[i].draw(c.Name, i, t)
	}
	return feed
}

func (o operand) draw(site string, i int, t graph.DType) *interp.Tensor {
	t = o.dtype(t)
	x := interp.New(t, o.shape, o.gen(rng.NewStream(1, site, uint32(i)), t, o.shape.Size())...)
	for i, v := range x.Data {
		x.Data[i] = interp.Round(t, v)
	}
	return x
}

// gradient is the case of c's gradient: its results are the derivatives of
// all floating-point operands by random cotangents.
func (c *Case) gradient() *Case {
	d := *c
	d.Name += "/gradient"
	d.diff, d.smooth = false, false
	d.Types = slices.DeleteFunc(slices.Clone(c.Types), func(t graph.DType) bool { return !t.Float() })
	d.Tol = Tolerance{Rel: c.Tol.Rel + 8, Abs: c.Tol.Abs + 8}
	g := graph.New("")
	d.in = slices.Clone(c.in)
	for _, y := range c.build(c.declare(g, graph.F64)) {
		if y.DType().Float() {
			own := y.DType()
			if own == graph.F64 {
				own = graph.InvalidType // T
			}
			d.in = append(d.in, operand{shape: y.Shape(), t: own, gen: uniform(-1, 1)})
		}
	}
	if g.Err() != nil {
		panic("BUG: optest: " + c.Name + ": " + g.Err().Error())
	}
	d.build = func(x nodes) nodes {
		k := len(c.in)
		ys := floats(c.build(x[:k]))
		return autodiff.VJP(ys, x[k:], floats(x[:k])...)
	}
	return &d
}

func floats(x nodes) nodes {
	return slices.DeleteFunc(slices.Clone(x), func(n *graph.Node) bool { return !n.DType().Float() })
}

// Cases is the list. Behind each case that has a gradient stands the gradient,
// as a case of its own.
func Cases() []*Case {
	var all []*Case
	for _, family := range [][]Case{elementwise(), axes(), movement(), contractions(), others(), composites()} {
		for _, c := range family {
			all = append(all, &c)
			if c.diff {
				all = append(all, c.gradient())
			}
		}
	}
	return all
}

// The types that cases are tried at.
var (
	floatTypes = []graph.DType{graph.F32, graph.F64, graph.BF16}
	wideTypes  = []graph.DType{graph.F32, graph.F64}
	f32Only    = []graph.DType{graph.F32}
	intTypes   = []graph.DType{graph.I32, graph.U32, graph.U8}
	boolOnly   = []graph.DType{graph.Bool}
	numTypes   = slices.Concat(floatTypes, intTypes)
	allTypes   = slices.Concat(numTypes, boolOnly)
	logicTypes = slices.Concat(boolOnly, intTypes)
)
