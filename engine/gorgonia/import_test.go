package gorgonia

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"

	G "gorgonia.org/gorgonia"
	"gorgonia.org/tensor"

	"temper/engine"
	"temper/engine/autodiff"
	_ "temper/engine/cpu"
	"temper/engine/graph"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func openCPU(t testing.TB) *engine.Device {
	t.Helper()
	d, err := engine.Open("cpu", engine.DeviceOptions{})
	must(t, err)
	t.Cleanup(func() { d.Close() })
	return d
}

// runOurs compiles an imported graph with the derivatives of its loss by the
// given nodes of theirs, feeds the inputs, and returns the loss and the
// derivatives.
func runOurs(t *testing.T, im *Imported, feeds map[*G.Node]*tensor.Dense, wrt ...*G.Node) (float64, []*tensor.Dense) {
	t.Helper()
	var at []*graph.Node
	for _, n := range wrt {
		at = append(at, im.Nodes[n])
	}
	for k, d := range autodiff.Grad(im.Loss, at...) {
		im.Graph.Output(fmt.Sprintf("d%d", k), d)
	}
	dev := openCPU(t)
	st := dev.NewState()
	e, err := dev.Compile(im.Graph, st, engine.Options{})
	must(t, err)
	must(t, im.Init(st))
	for n, v := range feeds {
		must(t, e.Feed(im.Nodes[n].Attrs().Name, v))
	}
	must(t, e.Run())
	loss, err := e.Scalar("loss")
	must(t, err)
	var grads []*tensor.Dense
	for k := range wrt {
		d, err := e.Fetch(fmt.Sprintf("d%d", k))
		must(t, err)
		grads = append(grads, d)
	}
	return loss, grads
}

// Every operation of the audit, imported: its value must be right, its
// derivatives must agree with the differences of that value, and with
// gorgonia's derivatives where these are cleared.
func TestImportedOperations(t *testing.T) {
	for _, a := range audit {
		t.Run(a.name, func(t *testing.T) {
			values := a.values()
			theirs, operands, err := a.theirs(values)
			must(t, err)
			im, err := Import(theirs, operands...)
			if a.refused != "" {
				if err == nil || !strings.Contains(err.Error(), a.refused) || !strings.Contains(err.Error(), "import_test.go:") {
					t.Fatalf("error %v: want its line and %q", err, a.refused)
				}
				return
			}
			must(t, err)
			feeds := map[*G.Node]*tensor.Dense{}
			for k, n := range operands {
				feeds[n] = values[k]
			}
			loss, grads := runOurs(t, im, feeds, operands...)
			want, err := a.value(values)
			must(t, err)
			if math.Abs(loss-want) > 1e-10*(1+math.Abs(want)) {
				t.Errorf("value %v, want %v", loss, want)
			}
			var ours [][]float64
			for k, d := range grads {
				f, err := numbers(d, values[k].Shape())
				must(t, err)
				ours = append(ours, f)
			}
			if err := a.disagreement(ours); err != nil {
				t.Error(err)
			}
			if a.wrong != "" {
				return
			}
			oracle, err := a.gradients(values)
			must(t, err)
			for k := range oracle {
				if d := distance(ours[k], oracle[k]); d > 1e-10 {
					t.Errorf("derivative by operand %d is %.1e from gorgonia's", k, d)
				}
			}
		})
	}
}

// distance is the largest difference of two vectors, relative to the largest
// element of the second.
func distance(got, want []float64) float64 {
	worst, scale := 0.0, 0.0
	for i, w := range want {
		worst, scale = max(worst, math.Abs(got[i]-w)), max(scale, math.Abs(w))
	}
	return worst / scale
}

// tangle is a graph with every way to name a leaf.
func tangle(t *testing.T) (loss, x *G.Node) {
	g := G.NewGraph()
	leaf := func(name string, shape ...int) *G.Node {
		return G.NewTensor(g, tensor.Float32, len(shape), G.WithShape(shape...), G.WithName(name), G.WithInit(G.Ones()))
	}
	x = G.NewMatrix(g, tensor.Float32, G.WithShape(2, 3), G.WithName("w")) // no value
	w := leaf("w", 3, 4)
	w2 := leaf("w", 4, 5)
	unnamed := G.NewMatrix(g, tensor.Float32, G.WithShape(2, 5), G.WithInit(G.Zeroes()))
	h, err := G.Mul(x, w)
	must(t, err)
	h, err = G.Mul(h, w2)
	must(t, err)
	h, err = G.Add(h, unnamed)
	must(t, err)
	loss, err = G.Sum(h)
	must(t, err)
	return loss, x
}

func TestImportNames(t *testing.T) {
	loss, x := tangle(t)
	im, err := Import(loss, x, x) // twice is once
	must(t, err)
	if n := im.Nodes[x]; n.Op() != graph.OpInput || n.Attrs().Name != "w" {
		t.Errorf("the input became %v %q", n.Op(), n.Attrs().Name)
	}
	got := slices.Sorted(maps.Keys(im.States))
	if want := []string{"leaf", "w_2", "w_3"}; !slices.Equal(got, want) {
		t.Errorf("states %q, want %q", got, want)
	}
	if s := im.States["w_3"].Shape(); s[0] != 4 {
		t.Errorf("w_3 has shape %v: names do not follow the order of use", s)
	}
}

// A state's value is a copy, row-major also if theirs is a transposed view.
func TestImportCopiesValues(t *testing.T) {
	g := G.NewGraph()
	v := tensor.New(tensor.WithShape(3, 2), tensor.WithBacking([]float32{0, 1, 2, 3, 4, 5}))
	must(t, v.T())
	w := G.NewMatrix(g, tensor.Float32, G.WithShape(2, 3), G.WithName("w"), G.WithValue(v))
	loss, err := G.Sum(w)
	must(t, err)
	im, err := Import(loss)
	must(t, err)
	v.Data().([]float32)[0] = 9
	if got := im.States["w"].Data(); !slices.Equal(got.([]float32), []float32{0, 2, 4, 1, 3, 5}) {
		t.Errorf("state %v", got)
	}
	plain := tensor.New(tensor.WithShape(2, 3), tensor.WithBacking([]float32{0, 1, 2, 3, 4, 5}))
	must(t, G.Let(w, plain))
	im, err = Import(loss)
	must(t, err)
	if plain.Data().([]float32)[0] = 9; im.States["w"].Data().([]float32)[0] != 0 {
		t.Error("the state shares gorgonia's memory")
	}
}

// A convolution is one node again, and so is a rectifier.
func TestImportLifts(t *testing.T) {
	c := &chain{g: G.NewGraph(), t: tensor.Float32}
	loss := networks["conv"](c)
	must(t, c.err)
	im, err := Import(loss, c.g.ByName("x")...)
	must(t, err)
	count := map[graph.Op]int{}
	for _, n := range im.Graph.Root().Nodes() {
		count[n.Op()]++
		if n.Op() == graph.OpConv2D && n.In(1).Op() != graph.OpState {
			t.Errorf("a filter is %v, not the state that it was", n.In(1).Op())
		}
	}
	for op, want := range map[graph.Op]int{graph.OpConv2D: 2, graph.OpReLU: 2, graph.OpPoolArgMax: 2, graph.OpMatMul: 1, graph.OpTranspose: 0, graph.OpGe: 0} {
		if count[op] != want {
			t.Errorf("%d of %v, want %d:\n%v", count[op], op, want, im.Graph)
		}
	}
}

// What looks like a convolution or a rectifier and is none is imported as what
// it is.
func TestImportLiftsNothingElse(t *testing.T) {
	images, filters := tensor.Shape{2, 1, 4, 6}, tensor.Shape{5, 1, 3, 3}
	for _, a := range []audited{
		{name: "product with a filter that is not transposed", shapes: []tensor.Shape{images, {9, 5}}, build: func(x []*G.Node) (*G.Node, error) {
			c := &chain{g: x[0].Graph(), t: tensor.Float64}
			cols := c.node(G.Im2Col(x[0], tensor.Shape{3, 3}, tensor.Shape{1, 1}, tensor.Shape{1, 1}, tensor.Shape{1, 1}))
			y := c.node(G.Mul(c.node(G.Reshape(cols, tensor.Shape{48, 9})), x[1]))
			return c.node(G.Transpose(c.node(G.Reshape(y, tensor.Shape{2, 4, 6, 5})), 0, 3, 1, 2)), c.err
		}},
		{name: "rows and columns of the result exchanged", shapes: []tensor.Shape{images, filters}, build: func(x []*G.Node) (*G.Node, error) {
			c := &chain{g: x[0].Graph(), t: tensor.Float64}
			y := innerProduct(c.node(conv(1, 1, 1)(x)))
			return c.node(G.Transpose(c.node(G.Reshape(y, tensor.Shape{2, 6, 4, 5})), 0, 3, 1, 2)), c.err
		}},
		{name: "axes in another order", shapes: []tensor.Shape{images, filters}, build: func(x []*G.Node) (*G.Node, error) {
			c := &chain{g: x[0].Graph(), t: tensor.Float64}
			y := innerProduct(c.node(conv(1, 1, 1)(x)))
			return c.node(G.Transpose(c.node(G.Reshape(y, tensor.Shape{2, 4, 6, 5})), 0, 3, 2, 1)), c.err
		}},
		{name: "mask of another tensor", shapes: []tensor.Shape{matrix, matrix}, build: func(x []*G.Node) (*G.Node, error) {
			c := &chain{g: x[0].Graph(), t: tensor.Float64}
			return c.node(G.HadamardProd(x[0], c.node(G.Gte(x[1], G.NewConstant(0.0), true)))), c.err
		}},
		{name: "mask at another threshold", shapes: []tensor.Shape{matrix}, build: func(x []*G.Node) (*G.Node, error) {
			c := &chain{g: x[0].Graph(), t: tensor.Float64}
			return c.node(G.HadamardProd(c.node(G.Gte(x[0], G.NewConstant(0.5), true)), x[0])), c.err
		}},
	} {
		t.Run(a.name, func(t *testing.T) {
			values := a.values()
			loss, operands, err := a.theirs(values)
			must(t, err)
			im, err := Import(loss, operands...)
			must(t, err)
			feeds := map[*G.Node]*tensor.Dense{}
			for k, n := range operands {
				feeds[n] = values[k]
			}
			ours, _ := runOurs(t, im, feeds)
			want, err := a.value(values)
			must(t, err)
			if math.Abs(ours-want) > 1e-10 {
				t.Errorf("value %v, gorgonia has %v", ours, want)
			}
		})
	}
}

// innerProduct is the matrix product inside a Conv2d.
func innerProduct(conv *G.Node) *G.Node { return children(children(conv)[0])[0] }

// ExprGraph.From gives wrong operands after RemoveNode; Import does not use it.
func TestImportAfterRemoveNode(t *testing.T) {
	g := G.NewGraph()
	x := G.NewVector(g, tensor.Float64, G.WithShape(2), G.WithName("x"))
	spare, err := G.Exp(x)
	must(t, err)
	y, err := G.Square(x)
	must(t, err)
	loss, err := G.Sum(y)
	must(t, err)
	for _, n := range g.AllNodes() {
		g.Node(n.ID()) // fills the index
	}
	g.RemoveNode(spare)
	if it := g.From(y.ID()); it.Next() && it.Node() == x {
		t.Error("ExprGraph.From is right after RemoveNode: read children through it")
	}
	im, err := Import(loss, x)
	must(t, err)
	v := tensor.New(tensor.WithShape(2), tensor.WithBacking([]float64{3, 4}))
	if ours, _ := runOurs(t, im, map[*G.Node]*tensor.Dense{x: v}); ours != 25 {
		t.Errorf("sum of squares %v", ours)
	}
}

// Vectors of gorgonia's may have a shape of two axes, one of them 1, and go with
// plain ones.
func TestImportVectors(t *testing.T) {
	g := G.NewGraph()
	column := G.NewVector(g, tensor.Float64, G.WithShape(2, 1), G.WithName("column"))
	must(t, G.UnsafeLet(column, tensor.New(tensor.WithShape(2, 1), tensor.WithBacking([]float64{1, 2}))))
	plain := G.NewVector(g, tensor.Float64, G.WithShape(2), G.WithName("plain"), G.WithValue(tensor.New(tensor.WithBacking([]float64{3, 4}))))
	m := G.NewMatrix(g, tensor.Float64, G.WithShape(3, 2), G.WithName("m"), G.WithInit(G.Ones()))
	for name, c := range map[string]struct {
		build func(a, b *G.Node) (*G.Node, error)
		a, b  *G.Node
		want  float64
	}{
		"add":              {G.Add, column, plain, 10},
		"add, other way":   {G.Add, plain, column, 10},
		"dot":              {G.Mul, column, plain, 11},
		"outer":            {G.OuterProd, column, plain, 21},
		"matrix by vector": {G.Mul, m, column, 9},
	} {
		t.Run(name, func(t *testing.T) {
			y, err := c.build(c.a, c.b)
			must(t, err)
			loss, err := G.Sum(y)
			must(t, err)
			im, err := Import(loss)
			must(t, err)
			if got, _ := runOurs(t, im, nil); got != c.want {
				t.Errorf("sum %v, want %v", got, c.want)
			}
		})
	}
}

// Gorgonia's Log of a SoftMax turns that node into a log-softmax, for whoever
// else reads it. Import finds the graph as it was left.
func TestImportAfterRewrite(t *testing.T) {
	for rewritten, want := range map[bool]float64{false: 1, true: 3 * math.Log(1.0/3)} {
		g := G.NewGraph()
		x := G.NewMatrix(g, tensor.Float64, G.WithShape(1, 3), G.WithName("x"), G.WithInit(G.Zeroes()))
		p, err := G.SoftMax(x)
		must(t, err)
		loss, err := G.Sum(p)
		must(t, err)
		if rewritten {
			_, err := G.Log(p)
			must(t, err)
		}
		im, err := Import(loss)
		must(t, err)
		ours, _ := runOurs(t, im, nil)
		must(t, runTheirs(g))
		if theirs := loss.Value().Data().(float64); math.Abs(ours-want) > 1e-12 || math.Abs(theirs-want) > 1e-12 {
			t.Errorf("rewritten %v: sum %v, theirs %v, want %v", rewritten, ours, theirs, want)
		}
	}
}

// The derivatives at kinks: where they follow PyTorch and not gorgonia, and
// where both agree.
func TestConventions(t *testing.T) {
	v := tensor.New(tensor.WithShape(3), tensor.WithBacking([]float64{0, 2, 2}))
	w := tensor.New(tensor.WithShape(3), tensor.WithBacking([]float64{1, 2, 3}))
	sigmoid2 := 1 / (1 + math.Exp(-2))
	for _, c := range []struct {
		name         string
		build        func(x, w *G.Node) (*G.Node, error)
		ours, theirs []float64
	}{
		{"rectify at 0", func(x, _ *G.Node) (*G.Node, error) { return G.Rectify(x) }, []float64{0, 1, 1}, []float64{1, 1, 1}},
		{"softplus at 0", func(x, _ *G.Node) (*G.Node, error) { return G.Softplus(x) }, []float64{0.5, sigmoid2, sigmoid2}, []float64{0.5, sigmoid2, sigmoid2}},
		{"equal maxima", func(x, _ *G.Node) (*G.Node, error) { return G.Max(x, 0) }, []float64{0, 0.5, 0.5}, []float64{0, 1, 1}},
		{"the larger of two equals", func(x, w *G.Node) (*G.Node, error) { return G.MaxBetween(x, w) }, []float64{0, 0.5, 0}, []float64{0, 1, 0}},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := G.NewGraph()
			x := G.NewVector(g, tensor.Float64, G.WithShape(3), G.WithName("x"), G.WithValue(v))
			y, err := c.build(x, G.NewVector(g, tensor.Float64, G.WithShape(3), G.WithName("w"), G.WithValue(w)))
			must(t, err)
			loss, err := G.Sum(y)
			must(t, err)
			im, err := Import(loss, x)
			must(t, err)
			_, ours := runOurs(t, im, map[*G.Node]*tensor.Dense{x: v}, x)
			theirs, err := G.Grad(loss, x)
			must(t, err)
			must(t, runTheirs(g))
			if got := elements(t, ours[0]); distance(got, c.ours) > 1e-12 {
				t.Errorf("ours %v, want %v", got, c.ours)
			}
			if got := elements(t, theirs[0].Value()); distance(got, c.theirs) > 1e-12 {
				t.Errorf("theirs %v, want %v", got, c.theirs)
			}
		})
	}
}

func TestImportErrors(t *testing.T) {
	g := G.NewGraph()
	x := G.NewMatrix(g, tensor.Float32, G.WithShape(2, 3), G.WithName("x"))
	bare := G.NewMatrix(g, tensor.Float32, G.WithName("bare"))
	ints := G.NewMatrix(g, tensor.Int, G.WithShape(2, 3), G.WithName("ints"), G.WithInit(G.Zeroes()))
	sq, err := G.Square(x)
	must(t, err)
	step, err := G.Slice(G.NewMatrix(g, tensor.Float32, G.WithShape(5, 3), G.WithName("z"), G.WithInit(G.Ones())), G.S(0, 5, 2))
	must(t, err)
	sin, err := G.Sin(x)
	must(t, err)
	loop, err := G.Exp(sin)
	must(t, err)
	for name, c := range map[string]struct {
		loss   *G.Node
		inputs []*G.Node
		want   string
	}{
		"nil":         {nil, nil, "import of a gorgonia node that belongs to no graph"},
		"nil input":   {sq, []*G.Node{nil}, "belongs to no graph"},
		"no graph":    {G.NewConstant(1.0), nil, "belongs to no graph"},
		"no value":    {sq, nil, `gorgonia node "x" has no value: list it as an input, or bind a value to it with gorgonia.Let`},
		"computed":    {sq, []*G.Node{sq}, `is computed from others: only leaves can be inputs`},
		"no shape":    {bare, []*G.Node{bare}, `gorgonia node "bare" has no shape: build it with WithShape`},
		"integers":    {ints, nil, `gorgonia node "ints" is of type int: only float32 and float64 can be imported`},
		"int input":   {sq, []*G.Node{x, ints}, `"ints" is of type int`},
		"unknown":     {loop, []*G.Node{x}, `operation sin (gorgonia.elemUnaryOp) cannot be imported`},
		"wrong shape": {step, nil, `is float32(2, 3), but by its meaning it is f32[3,3]`},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := Import(c.loss, c.inputs...); err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("error %v: want %q", err, c.want)
			}
		})
	}
}

// Init leaves alone what a program does not need, and says what does not fit.
func TestInit(t *testing.T) {
	g := G.NewGraph()
	x := G.NewScalar(g, tensor.Float32, G.WithName("x"), G.WithValue(float32(3)))
	loss, err := G.Square(x)
	must(t, err)
	im, err := Import(loss)
	must(t, err)
	if got, _ := runOurs(t, im, nil); got != 9 {
		t.Errorf("3² = %v", got)
	}
	dev := openCPU(t)
	st := dev.NewState()
	must(t, im.Init(st)) // nothing is compiled, nothing to set
	other := graph.New("other")
	other.Output("y", other.State("x", graph.F32, 2))
	_, err = dev.Compile(other, st, engine.Options{})
	must(t, err)
	if err := im.Init(st); err == nil || !strings.Contains(err.Error(), `state "x": got a tensor of float32[], want f32[2]`) {
		t.Errorf("error %v", err)
	}
}
