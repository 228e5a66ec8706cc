package gorgonia

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unsafe"

	G "gorgonia.org/gorgonia"
	"gorgonia.org/tensor"

	"temper/engine"
	"temper/engine/graph"
)

func newTestOp(t *testing.T, build func(g *graph.Graph) *graph.Node) (*Op, *engine.State) {
	t.Helper()
	g := graph.New("test")
	g.Output("y", build(g))
	dev := openCPU(t)
	st := dev.NewState()
	op, err := NewOp(dev, st, g)
	must(t, err)
	t.Cleanup(op.Close)
	return op, st
}

// layer is a linear layer with a rectifier in temper's graph.
func layer(g *graph.Graph) *graph.Node {
	x, w, b := g.Input("x", graph.F32, 4, 3), g.Input("w", graph.F32, 3, 3), g.Input("b", graph.F32, 1, 3)
	return x.MatMul(w).Add(b).ReLU()
}

// theirLayer is the same of gorgonia's own operations.
func theirLayer(c *chain, x, w, b *G.Node) *G.Node {
	return c.node(G.Rectify(c.node(G.BroadcastAdd(c.node(G.Mul(x, w)), b, nil, []byte{0}))))
}

// Two layers that share one operation and its weights: value and gradient must
// be what gorgonia's own operations give, again after the values have changed.
func TestOp(t *testing.T) {
	op, _ := newTestOp(t, layer)
	build := func(apply func(c *chain, x, w, b *G.Node) *G.Node) (*chain, *G.Node, G.Nodes) {
		c := &chain{g: G.NewGraph(), t: tensor.Float32}
		x, w, b := c.leaf("x", 1, 4, 3), c.leaf("w", 0.5, 3, 3), c.leaf("b", 0.5, 1, 3)
		h := apply(c, c.node(G.Square(apply(c, x, w, b))), w, b)
		loss := c.node(G.Sum(c.node(G.HadamardProd(h, c.leaf("weights", 1, 4, 3)))))
		must(t, c.err)
		grads, err := G.Grad(loss, x, w, b)
		must(t, err)
		return c, loss, append(G.Nodes{loss}, grads...)
	}
	mixed, _, got := build(func(c *chain, x, w, b *G.Node) *G.Node { return c.node(G.ApplyOp(op, x, w, b)) })
	pure, _, want := build(theirLayer)
	vms := []G.VM{G.NewTapeMachine(mixed.g), G.NewTapeMachine(pure.g)}
	for round := range 3 {
		for k, c := range []*chain{mixed, pure} {
			v := draws(12, fmt.Sprint("round ", round))
			must(t, G.Let(c.g.ByName("x")[0], c.bound("spare", v, 4, 3).Value()))
			vms[k].Reset()
			must(t, vms[k].RunAll())
		}
		for k := range want {
			if d := distance(elements(t, got[k].Value()), elements(t, want[k].Value())); d > 1e-6 {
				t.Errorf("round %d: value %d (the loss, then its derivatives) is %.1e from gorgonia's", round, k, d)
			}
		}
	}
}

// Labels as integers, a scalar result, an operand that the result does not
// depend on, and state: the cross-entropy of a scaled input.
func TestOpTypes(t *testing.T) {
	op, st := newTestOp(t, func(g *graph.Graph) *graph.Node {
		x, label := g.Input("logits", graph.F64, 4, 5), g.Input("label", graph.I32, 4)
		g.Input("unused", graph.F64, 2)
		z := x.Mul(g.State("scale", graph.F64)).Mul(g.Input("dy", graph.F64)) // the name that the gradient's input would have
		return z.Exp().Sum(1).Log().Sub(z.Gather(1, label.Expand(1)).Reshape(4)).Mean()
	})
	must(t, st.SetBytes("scale", engine.Bytes([]float64{2})))
	c := &chain{g: G.NewGraph(), t: tensor.Float64}
	x, unused, dy := c.leaf("x", 1, 4, 5), c.leaf("unused", 1, 2), G.NewScalar(c.g, tensor.Float64, G.WithName("dy"), G.WithValue(1.5))
	label := G.NewVector(c.g, tensor.Int32, G.WithShape(4), G.WithName("label"),
		G.WithValue(tensor.New(tensor.WithShape(4), tensor.WithBacking([]int32{0, 2, 4, 1}))))
	loss := c.node(G.ApplyOp(op, x, label, unused, dy))
	must(t, c.err)
	grads, err := G.Grad(loss, x, unused, dy)
	must(t, err)
	must(t, runTheirs(c.g))

	p := &chain{g: G.NewGraph(), t: tensor.Float64}
	hot := make([]float64, 20)
	for i, l := range []int{0, 2, 4, 1} {
		hot[i*5+l] = 1
	}
	px, pdy := p.bound("x", elements(t, x.Value()), 4, 5), G.NewScalar(p.g, tensor.Float64, G.WithName("dy"), G.WithValue(1.5))
	z := p.node(G.HadamardProd(p.node(G.HadamardProd(px, G.NewConstant(2.0))), pdy))
	picked := p.node(G.HadamardProd(p.node(G.Log(p.node(G.SoftMax(z)))), p.bound("hot", hot, 4, 5)))
	want := p.node(G.Neg(p.node(G.HadamardDiv(p.node(G.Sum(picked)), G.NewConstant(4.0)))))
	must(t, p.err)
	wantGrads, err := G.Grad(want, px, pdy)
	must(t, err)
	must(t, runTheirs(p.g))
	for _, pair := range [][2]*G.Node{{loss, want}, {grads[0], wantGrads[0]}, {grads[2], wantGrads[1]}} {
		if d := distance(elements(t, pair[0].Value()), elements(t, pair[1].Value())); d > 1e-12 {
			t.Errorf("%v, want %v", pair[0].Value(), pair[1].Value())
		}
	}
	if got := elements(t, grads[1].Value()); !slices.Equal(got, []float64{0, 0}) {
		t.Errorf("derivative by what is unused: %v", got)
	}
}

// A result belongs to whoever got it: a later run does not change it.
func TestOpResultsAreCopies(t *testing.T) {
	op, _ := newTestOp(t, func(g *graph.Graph) *graph.Node { return g.Input("x", graph.F32, 2).MulC(2) })
	x := tensor.New(tensor.WithShape(2), tensor.WithBacking([]float32{1, 2}))
	first, err := op.Do(x)
	must(t, err)
	x.Data().([]float32)[0] = 5
	second, err := op.Do(x)
	must(t, err)
	if got := first.Data().([]float32); !slices.Equal(got, []float32{2, 4}) {
		t.Errorf("the first result became %v", got)
	}
	if got := second.Data().([]float32); !slices.Equal(got, []float32{10, 4}) {
		t.Errorf("the second result is %v", got)
	}
}

// Operands are read in place where they lie row-major in one piece, else
// gathered.
func TestContents(t *testing.T) {
	whole := func() *tensor.Dense {
		return tensor.New(tensor.WithShape(3, 4), tensor.WithBacking([]float32{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}))
	}
	cut := func(s ...tensor.Slice) *tensor.Dense {
		v, err := whole().Slice(s...)
		must(t, err)
		return v.(*tensor.Dense)
	}
	transposed := whole()
	must(t, transposed.T())
	for name, c := range map[string]struct {
		v       G.Value
		want    []float32
		inPlace bool
	}{
		"whole":      {whole(), []float32{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}, true},
		"rows":       {cut(G.S(1, 3)), []float32{4, 5, 6, 7, 8, 9, 10, 11}, true},
		"columns":    {cut(nil, G.S(1, 3)), []float32{1, 2, 5, 6, 9, 10}, false},
		"column":     {cut(nil, G.S(2)), []float32{2, 6, 10}, false},
		"transposed": {transposed, []float32{0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11}, false},
		"scalar":     {G.NewF32(7), []float32{7}, false},
		"one row":    {cut(G.S(1)), []float32{4, 5, 6, 7}, true},
	} {
		t.Run(name, func(t *testing.T) {
			shape := append(graph.Shape{1}, c.v.Shape()...) // axes of extent 1 do not count
			b, err := contents(c.v, graph.F32, shape)
			must(t, err)
			if string(b) != string(engine.Bytes(c.want)) {
				t.Errorf("got the bytes %v, want those of %v", b, c.want)
			}
			if c.inPlace && unsafe.Pointer(&b[0]) != reflect.ValueOf(c.v.Data()).UnsafePointer() {
				t.Error("copied")
			}
		})
	}
	masked := whole()
	masked.ResetMask(true)
	for name, c := range map[string]struct {
		v    G.Value
		want string
	}{
		"type":  {tensor.New(tensor.WithShape(3, 4), tensor.WithBacking(make([]float64, 12))), "got a value of float64[3,4], want f32[3,4]"},
		"size":  {cut(G.S(1, 3)), "got a value of float32[2,4], want f32[3,4]"},
		"shape": {transposed, "got a value of float32[4,3], want f32[3,4]"},
		"masks": {masked, "the tensor has a mask"},
	} {
		if _, err := contents(c.v, graph.F32, graph.Shape{3, 4}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %q", name, err, c.want)
		}
	}
}

// An operand that gorgonia hands over transposed.
func TestOpOnTransposedOperand(t *testing.T) {
	op, _ := newTestOp(t, func(g *graph.Graph) *graph.Node { return g.Input("x", graph.F32, 3, 2).MulC(2) })
	x := tensor.New(tensor.WithShape(2, 3), tensor.WithBacking([]float32{0, 1, 2, 3, 4, 5}))
	must(t, x.T())
	y, err := op.Do(x)
	must(t, err)
	if got := y.Data().([]float32); !slices.Equal(got, []float32{0, 6, 2, 8, 4, 10}) {
		t.Errorf("got %v", got)
	}
}

// Gorgonia takes operations of one hash for the same, so no two may have one.
func TestOpsDiffer(t *testing.T) {
	a, _ := newTestOp(t, func(g *graph.Graph) *graph.Node { return g.Input("x", graph.F32, 2).MulC(2) })
	b, _ := newTestOp(t, func(g *graph.Graph) *graph.Node { return g.Input("x", graph.F32, 2).MulC(3) })
	c := &chain{g: G.NewGraph(), t: tensor.Float32}
	x := c.leaf("x", 1, 2)
	once, again, other := c.node(G.ApplyOp(a, x)), c.node(G.ApplyOp(a, x)), c.node(G.ApplyOp(b, x))
	must(t, c.err)
	if once == other {
		t.Error("two programs are one node")
	}
	if once != again {
		t.Error("one program on one operand is two nodes")
	}
}

func TestOpErrors(t *testing.T) {
	dev := openCPU(t)
	for name, c := range map[string]struct {
		build func(g *graph.Graph)
		want  string
	}{
		"build":     {func(g *graph.Graph) { g.Input("x", graph.F32, 2).Add(g.Input("y", graph.F32, 3)) }, "op_test.go:"},
		"no output": {func(g *graph.Graph) { g.Input("x", graph.F32, 2) }, `graph "bad" has 0 outputs: a gorgonia operation has one`},
		"no input":  {func(g *graph.Graph) { g.Output("y", g.State("w", graph.F32, 2)) }, "no inputs: a gorgonia operation has one or more"},
		"assignment": {func(g *graph.Graph) {
			x := g.Input("x", graph.F32, 2)
			g.Output("y", x)
			g.Assign(g.State("w", graph.F32, 2), x)
		}, `assigns to "w": a gorgonia operation changes nothing`},
		"step block": {func(g *graph.Graph) { g.Output("y", g.Input("x", graph.F32, 2).Mul(g.Scalar("lr", graph.F32))) }, `reads "lr" of the step block: make it an input`},
		"type":       {func(g *graph.Graph) { g.Output("y", g.Input("x", graph.U32, 2).Convert(graph.F32)) }, "gorgonia has no u32: convert it in the graph"},
		"two types":  {func(g *graph.Graph) { g.Output("y", g.Input("x", graph.F64, 2).Convert(graph.F32)) }, `input "x" is f64 and the output f32: a gorgonia graph has one floating-point type`},
	} {
		t.Run(name, func(t *testing.T) {
			g := graph.New("bad")
			c.build(g)
			if _, err := NewOp(dev, dev.NewState(), g); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v: want %q", err, c.want)
			}
		})
	}
}

// What gorgonia refuses because of the operation's signature, or asks of it in
// vain.
func TestOpMisused(t *testing.T) {
	op, _ := newTestOp(t, layer)
	c := &chain{g: G.NewGraph(), t: tensor.Float32}
	x, w, b := c.leaf("x", 1, 4, 3), c.leaf("w", 1, 3, 3), c.leaf("b", 1, 1, 3)
	if _, err := G.ApplyOp(op, w, w, b); err == nil || !strings.Contains(err.Error(), "operand 0 has shape (3, 3), want [4,3]") {
		t.Errorf("wrong shape: error %v", err)
	}
	if _, err := G.ApplyOp(op, x, w); err == nil {
		t.Error("two operands of three are accepted")
	}
	if _, err := op.Do(x.Value(), w.Value(), G.NewF32(1)); err == nil || !strings.Contains(err.Error(), `input "b": got a value of float32[], want f32[1,3]`) {
		t.Errorf("wrong value: error %v", err)
	}
	loop, _ := newTestOp(t, func(g *graph.Graph) *graph.Node {
		last, _ := g.Loop(2, []*graph.Node{g.Input("x", graph.F32, 4, 3)}, nil, func(_ *graph.Node, c, _ []*graph.Node) (next, _ []*graph.Node) {
			return []*graph.Node{c[0].MulC(2)}, nil
		})
		return last[0]
	})
	y := c.node(G.Sum(c.node(G.ApplyOp(loop, x))))
	must(t, c.err)
	if _, err := G.Grad(y, x); err == nil || !strings.Contains(err.Error(), `gradient of graph "test"`) || !strings.Contains(err.Error(), "unroll the loop") {
		t.Errorf("through a loop: error %v", err)
	}
}

// A second Grad in one graph gives wrong numbers in gorgonia; on the derivative
// of an operation it gives an error.
func TestOpHasNoSecondDerivative(t *testing.T) {
	op, _ := newTestOp(t, func(g *graph.Graph) *graph.Node { return g.Input("x", graph.F32, 2).Square().Sum() })
	c := &chain{g: G.NewGraph(), t: tensor.Float32}
	x := c.leaf("x", 1, 2)
	d, err := G.Grad(c.node(G.ApplyOp(op, x)), x)
	must(t, err)
	again := c.node(G.Sum(d[0]))
	must(t, c.err)
	if _, err := G.Grad(again, x); err == nil {
		t.Error("a second derivative without an error")
	}
}
