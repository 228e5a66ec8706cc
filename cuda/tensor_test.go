//go:build cgo && !windows

package cuda

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"temper/engine"
	"temper/engine/autodiff"
	"temper/engine/graph"
	"temper/engine/interp"
	"temper/engine/optest"
	"temper/engine/plan"
	"temper/engine/rng"
)

// tensorGeometries are convolutions that the kernels treat apart: channels that
// fill chunks or do not, windows, phases of the input's gradient with and
// without taps.
var tensorGeometries = []struct {
	name             string
	n, c, h, w       int
	o, r, s          int
	stride, pad, dil [2]int
}{
	{"3x3", 2, 16, 7, 9, 24, 3, 3, [2]int{1, 1}, [2]int{1, 1}, [2]int{1, 1}},
	{"3x3,s2", 3, 8, 9, 8, 40, 3, 3, [2]int{2, 2}, [2]int{1, 1}, [2]int{1, 1}},
	{"1x1,s2", 2, 40, 8, 7, 16, 1, 1, [2]int{2, 2}, [2]int{}, [2]int{1, 1}},
	{"first layer", 2, 3, 10, 8, 16, 3, 3, [2]int{1, 1}, [2]int{1, 1}, [2]int{1, 1}},
	{"one channel", 3, 1, 9, 9, 5, 5, 5, [2]int{1, 1}, [2]int{2, 2}, [2]int{1, 1}},
	{"uneven", 2, 10, 11, 12, 9, 3, 2, [2]int{3, 2}, [2]int{1, 0}, [2]int{2, 1}},
	{"s2,d2", 1, 8, 9, 10, 8, 3, 3, [2]int{2, 2}, [2]int{2, 1}, [2]int{2, 2}},
	{"stride beyond kernel", 1, 16, 7, 7, 8, 2, 2, [2]int{3, 3}, [2]int{}, [2]int{1, 1}},
	{"kernel beyond image", 2, 8, 2, 3, 8, 5, 5, [2]int{1, 1}, [2]int{2, 2}, [2]int{1, 1}},
	{"one pixel", 5, 16, 1, 1, 17, 3, 3, [2]int{1, 1}, [2]int{1, 1}, [2]int{1, 1}},
	{"deep", 3, 72, 12, 12, 64, 3, 3, [2]int{1, 1}, [2]int{1, 1}, [2]int{1, 1}},
	{"strips of two images", 4, 16, 8, 8, 24, 3, 3, [2]int{1, 1}, [2]int{1, 1}, [2]int{1, 1}},
	{"strips of halves", 1, 72, 16, 16, 40, 3, 3, [2]int{1, 1}, [2]int{1, 1}, [2]int{1, 1}},
	{"strips in two copies", 1, 32, 8, 32, 64, 3, 3, [2]int{1, 1}, [2]int{1, 1}, [2]int{1, 1}},
	{"high strips", 2, 16, 18, 10, 24, 5, 3, [2]int{1, 1}, [2]int{1, 0}, [2]int{1, 1}},
	{"far taps", 1, 8, 200, 2, 8, 2, 1, [2]int{1, 1}, [2]int{127, 0}, [2]int{255, 1}}, // as far as the copy engine can name
	{"too far", 1, 8, 200, 2, 8, 2, 1, [2]int{1, 1}, [2]int{128, 0}, [2]int{256, 1}},
	{"wide strips", 2, 16, 16, 8, 24, 3, 5, [2]int{1, 1}, [2]int{0, 1}, [2]int{1, 1}},
}

func tensorGraphs(t *testing.T, dt graph.DType, precision graph.Precision) map[string]*graph.Graph {
	all := map[string]*graph.Graph{}
	add := func(name string, build func(g *graph.Graph) *graph.Node) {
		g := graph.New(name)
		g.Output("y", build(g))
		if err := g.Err(); err != nil {
			t.Fatal(err)
		}
		all[name] = g
	}
	for _, c := range tensorGeometries {
		a := graph.Attrs{Stride: c.stride, Pad: c.pad, Dilation: c.dil, Layout: graph.NHWC, Precision: precision}
		extent := func(in, k, i int) int { return (in+2*c.pad[i]-(k-1)*c.dil[i]-1)/c.stride[i] + 1 }
		p, q := extent(c.h, c.r, 0), extent(c.w, c.s, 1)
		x := func(g *graph.Graph) *graph.Node { return g.Input("x", dt, c.n, c.h, c.w, c.c) }
		w := func(g *graph.Graph) *graph.Node { return g.Input("w", dt, c.o, c.r, c.s, c.c) }
		dy := func(g *graph.Graph) *graph.Node { return g.Input("dy", dt, c.n, p, q, c.o) }
		add("conv2d/"+c.name, func(g *graph.Graph) *graph.Node { return g.Make(graph.OpConv2D, a, x(g), w(g)) })
		dx, dw := a, a
		dx.Size, dw.Size = []int{c.h, c.w}, []int{c.r, c.s}
		add("conv2d-input-grad/"+c.name, func(g *graph.Graph) *graph.Node { return g.Make(graph.OpConv2DInputGrad, dx, dy(g), w(g)) })
		add("conv2d-filter-grad/"+c.name, func(g *graph.Graph) *graph.Node { return g.Make(graph.OpConv2DFilterGrad, dw, x(g), dy(g)) })
	}
	for _, c := range []struct{ batch, m, k, n int }{{1, 64, 32, 64}, {1, 130, 70, 72}, {1, 5, 1200, 10}, {3, 33, 40, 24}, {2, 9, 3, 7}} {
		for i := range 4 {
			ta, tb := i&1 != 0, i&2 != 0
			a, b := []int{c.batch, c.m, c.k}, []int{c.batch, c.k, c.n}
			if ta {
				a = []int{c.batch, c.k, c.m}
			}
			if tb {
				b = []int{c.batch, c.n, c.k}
			}
			add(fmt.Sprintf("matmul/%v%v,ta=%v,tb=%v", a, b, ta, tb), func(g *graph.Graph) *graph.Node {
				return g.Make(graph.OpMatMul, graph.Attrs{TA: ta, TB: tb, Precision: precision}, g.Input("a", dt, a...), g.Input("b", dt, b...))
			})
		}
	}
	return all
}

// uniformFeed draws inputs, states and scalars from -1 to 1.
func uniformFeed(g *graph.Graph) interp.Feed {
	feed := interp.Feed{}
	for _, n := range g.Root().Nodes() {
		if n.Op() != graph.OpInput && n.Op() != graph.OpState && n.Op() != graph.OpScalar {
			continue
		}
		s := rng.NewStream(1, g.Name()+n.Attrs().Name, 0)
		x := interp.New(n.DType(), n.Shape())
		for i := range x.Data {
			x.Data[i] = float64(2*s.Uniform() - 1)
			if n.DType() == graph.BF16 {
				x.Data[i] = float64(math.Float32frombits(math.Float32bits(float32(x.Data[i])) &^ 0xffff))
			}
		}
		feed[interp.Key(n)] = x
	}
	return feed
}

// planIn is a graph's plan, whose kernels, on sm_90, should be so many.
func planIn(t *testing.T, g *graph.Graph, kernels int) (*plan.Plan, []Kernel) {
	t.Helper()
	p := planOf(t, g, graph.PrecisionFloat32)
	_, all, err := kernelsOf(p, target{capability: 90})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != kernels {
		t.Fatalf("%d kernels, want %d:\n%v", len(all), kernels, p)
	}
	return p, all
}

// emulate compares a graph's values on the emulator, which checks the second time,
// with the interpreter's. p is the graph's plan.
func emulate(t *testing.T, g *graph.Graph, p *plan.Plan, within optest.Tolerance) {
	t.Helper()
	feed := uniformFeed(g)
	want := must(interp.Run(g, feed))(t)
	for _, options := range []string{"", "checked,seed=1"} {
		dev, _ := openEmulator(t, options, p)
		if err := within.CompareResults(want, must(optest.On(dev, engine.Options{})(g, feed))(t)); err != nil {
			t.Errorf("emulator %q: %v", options, err)
		}
	}
}

// evaluate runs a plan as it is, without the passes, and fetches its outputs.
func evaluate(t *testing.T, dev *gpu, p *plan.Plan, feed interp.Feed) map[string]*interp.Tensor {
	t.Helper()
	code := must(dev.Load(p))(t)
	defer code.Close()
	for i := range p.Buffers {
		if b := &p.Buffers[i]; b.Kind == plan.Input {
			code.Feed(i, feed["input "+b.Name].Bytes())
		}
	}
	if err := code.Run(); err != nil {
		t.Fatal(err)
	}
	out := map[string]*interp.Tensor{}
	for _, o := range p.Outputs {
		out[o.Name] = must(interp.FromBytes(o.DType, o.Shape, must(code.Fetch(o.Buffer))(t)))(t)
	}
	return out
}

// TestTensor compares contractions at every precision with the reference
// interpreter.
func TestTensor(t *testing.T) {
	for _, c := range []struct {
		dt        graph.DType
		precision graph.Precision
		options   string
		tolerance optest.Tolerance
	}{
		{graph.BF16, graph.PrecisionFloat32, "capability=80", optest.Tolerance{Rel: 1, Abs: 0x1p-9}},
		{graph.BF16, graph.PrecisionFloat32, "capability=90", optest.Tolerance{Rel: 1, Abs: 0x1p-9}},
		{graph.F32, graph.PrecisionFloat32, "", optest.Tolerance{Abs: 64}},
		{graph.F32, graph.PrecisionTF32x3, "", optest.Tolerance{Abs: 64}},
		{graph.F32, graph.PrecisionTF32, "", optest.Tolerance{Abs: 0x1p13}},
	} {
		t.Run(strings.TrimSuffix(c.dt.String()+"/"+c.precision.String()+"/"+c.options, "/"), func(t *testing.T) {
			graphs := tensorGraphs(t, c.dt, c.precision)
			plans := map[string]*plan.Plan{}
			var all []*plan.Plan
			for name, g := range graphs {
				plans[name] = plan.Build(g, plan.Options{})
				all = append(all, plans[name])
			}
			_, dev := openEmulator(t, c.options)
			loadAll(t, dev, all)
			for name, g := range graphs {
				feed := uniformFeed(g)
				want := must(interp.RunRounded(g, feed))(t)
				got := evaluate(t, dev, plans[name], feed)
				if err := c.tolerance.Compare(want.Outputs["y"], got["y"]); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
		})
	}
}

// TestTensorChecked runs a contraction of each template in checked mode, where
// copies land late, or at random: no thread may read what another, or a copy, is to
// write.
func TestTensorChecked(t *testing.T) {
	for _, c := range []struct {
		dt        graph.DType
		precision graph.Precision
		options   string
	}{
		{graph.BF16, graph.PrecisionFloat32, "capability=80"},
		{graph.BF16, graph.PrecisionFloat32, "capability=90"},
		{graph.BF16, graph.PrecisionFloat32, "capability=90,copies=2"},
		{graph.F32, graph.PrecisionTF32x3, "capability=80"},
	} {
		_, dev := openEmulator(t, "checked,seed=1,"+c.options)
		for name, g := range tensorGraphs(t, c.dt, c.precision) {
			switch name {
			case "conv2d/3x3", "conv2d/first layer", "conv2d-input-grad/3x3,s2", "conv2d-filter-grad/deep", "matmul/[3 40 33][3 40 24],ta=true,tb=false":
				feed := uniformFeed(g)
				want := must(interp.RunRounded(g, feed))(t)
				got := evaluate(t, dev, plan.Build(g, plan.Options{}), feed)
				if err := (optest.Tolerance{Rel: 1, Abs: 64}).Compare(want.Outputs["y"], got["y"]); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
		}
	}
}

// sourcesOf lists the kernels of a graph's plan: those of loops, and the others.
func sourcesOf(t *testing.T, g *graph.Graph, precision graph.Precision) (loops, others string) {
	t.Helper()
	p := planOf(t, g, precision)
	of, _, err := kernelsOf(p, target{capability: 80})
	if err != nil {
		t.Fatal(err)
	}
	var visit func(steps []plan.Step, in *string)
	visit = func(steps []plan.Step, in *string) {
		for _, s := range steps {
			if s.Loop != nil {
				visit(s.Loop.Steps, &loops)
				continue
			}
			for _, k := range of[stepKey(s)] {
				*in += k.Source
			}
		}
	}
	visit(p.Steps, &others)
	return loops, others
}

// What is asked for is what is emitted: tensor cores where they are to be, and
// no gradient of a filter in an attack.
func TestEmittedContractions(t *testing.T) {
	uses := func(source, what string) bool { return strings.Contains(source, what) }
	loop, _ := sourcesOf(t, pgdStep(), graph.PrecisionFloat32)
	if !uses(loop, "tensor_tile<f32, ") || !uses(loop, "conv_forward<") || !uses(loop, "conv_input_grad_few<") || uses(loop, "conv_filter_grad<") || uses(loop, "contract<") {
		t.Errorf("an attack in float32:\n%s", loop)
	}
	if _, last, _ := strings.Cut(loop, "conv_input_grad_few<"); !uses(last[:strings.Index(last, "EXPORT(")], "sign_(") {
		t.Errorf("the ascent step is not where its gradient is computed:\n%s", loop)
	}
	if loop, _ = sourcesOf(t, pgdStep(), graph.PrecisionTF32); !uses(loop, ", TF32>") || uses(loop, ", EXACT>") {
		t.Errorf("an attack in TF32:\n%s", loop)
	}
	loop, others := sourcesOf(t, pgdStep(), graph.PrecisionBF16)
	if !uses(loop, "tensor_tile<bf16, ") || uses(loop, "tensor_tile<f32, ") || !uses(others, "convert<bf16>") {
		t.Errorf("an attack in bf16:\n%s", loop)
	}
}

// TestAutocast runs a training step's forward and backward pass with operands
// rounded to bf16.
func TestAutocast(t *testing.T) {
	g := graph.New("autocast")
	x, w := g.Input("x", graph.F32, 4, 8, 6, 6), g.Input("w", graph.F32, 16, 8, 3, 3)
	y := x.Conv2D(w, graph.Square(1, 1)).ReLU()
	loss := y.Mul(y).Mean(0, 1, 2, 3)
	d := autodiff.Grad(loss, x, w)
	g.Output("loss", loss)
	g.Output("dx", d[0])
	g.Output("dw", d[1])
	dev, _ := openEmulator(t, "")
	feed := uniformFeed(g)
	want := must(interp.Run(g, feed))(t)
	got := must(optest.On(dev, engine.Options{Precision: graph.PrecisionBF16})(g, feed))(t)
	if err := (optest.Tolerance{Abs: 0x1p17}).CompareResults(want, got); err != nil { // 2⁻⁶
		t.Error(err)
	}
	if err := (optest.Tolerance{Abs: 256}).CompareResults(want, got); err == nil {
		t.Error("the results are float32's: nothing was rounded")
	}
}

// TestEpilogue computes groups behind contractions, with what they read beside
// the sums: rows, columns, single values, neither; in columns that fill vectors
// and that do not; with reductions; and groups that have to stay apart.
func TestEpilogue(t *testing.T) {
	if testDevice() != "emulator" { // which has an architecture of its own, and no checks
		testEpilogue(t, 80, "")
		return
	}
	for _, capability := range []int{80, 90} {
		t.Run(fmt.Sprint("sm_", capability), func(t *testing.T) {
			testEpilogue(t, capability, fmt.Sprint("checked,seed=1,capability=", capability))
		})
	}
}

func testEpilogue(t *testing.T, capability int, options string) {
	type nodes = []*graph.Node
	cases := []struct {
		name    string
		kernels int // of the float32 graph
		build   func(y, rows, bias, one, each *graph.Node) nodes
	}{
		{"bias, relu, mask", 1, func(y, _, bias, _, _ *graph.Node) nodes { return nodes{y.Add(bias).ReLU(), y.Add(bias).Gt(bias)} }},
		{"residual", 1, func(y, rows, _, one, _ *graph.Node) nodes { return nodes{y.Mul(one).Add(rows)} }},
		{"per sample", 1, func(y, _, _, _, each *graph.Node) nodes { return nodes{y.Sub(each)} }},
		{"behind a reshape", 1, func(y, _, _, _, _ *graph.Node) nodes { return nodes{y.Reshape(y.Size()/y.Dim(3), y.Dim(3)).Exp()} }},
		{"read twice", 1, func(y, _, bias, _, _ *graph.Node) nodes { return nodes{y, y.Add(bias)} }},
		{"reduced", 2, func(y, _, _, _, _ *graph.Node) nodes { return nodes{y.MulC(2).Sum(0, 1, 2)} }},
		{"reduced and stored", 2, func(y, rows, _, _, _ *graph.Node) nodes {
			z := y.Add(rows)
			return nodes{y, z, z.Sum(0, 1, 2), z.Mul(y).SumKeep(0, 1, 2), z.ReduceMax(0, 1, 2)}
		}},
		{"normalised by its statistics", 3, func(y, _, _, _, _ *graph.Node) nodes {
			mean := y.SumKeep(0, 1, 2).MulC(1. / 90)
			centred := y.Sub(mean)
			return nodes{centred.Div(centred.Mul(centred).SumKeep(0, 1, 2).AddC(0.1).Sqrt()).ReLU()}
		}},
		{"each sample's columns", 2, func(y, _, _, _, _ *graph.Node) nodes { return nodes{y.Sum(1, 2)} }},
		{"rows", 2, func(y, _, _, _, _ *graph.Node) nodes { return nodes{y.Sum(3)} }},
	}
	graphs, plans := []*graph.Graph{}, []*plan.Plan{}
	for _, dt := range []graph.DType{graph.F32, graph.BF16} {
		for _, o := range []int{16, 10} {
			for _, c := range cases {
				g := graph.New(fmt.Sprint(dt, " ", o, " ", c.name))
				a := graph.Attrs{Stride: [2]int{1, 1}, Pad: [2]int{1, 1}, Dilation: [2]int{1, 1}, Layout: graph.NHWC}
				y := g.Make(graph.OpConv2D, a, g.Input("x", dt, 3, 5, 6, 8), g.Input("w", dt, o, 3, 3, 8)).Convert(graph.F32)
				in := func(name string, shape ...int) *graph.Node { return g.Input(name, graph.F32, shape...) }
				for i, r := range c.build(y, in("rows", 3, 5, 6, o), in("bias", 1, 1, 1, o), in("one", 1, 1, 1, 1), in("each", 3, 1, 1, 1)) {
					g.Output(fmt.Sprint(i), r)
				}
				final := must(graph.Rewrite(g, func(c *graph.Copier, n *graph.Node, ins []*graph.Node) *graph.Node {
					if n.Op() == graph.OpConvert && ins[0].DType() == n.DType() {
						return ins[0]
					}
					return nil
				}))(t)
				p := plan.Build(final, plan.Options{LessTraffic: true})
				graphs, plans = append(graphs, g), append(plans, p)
				_, all, err := kernelsOf(p, target{capability: capability})
				if err != nil {
					t.Fatal(err)
				}
				if dt == graph.F32 && len(all) != c.kernels {
					t.Errorf("%s: %d kernels, want %d", g.Name(), len(all), c.kernels)
				}
			}
		}
	}
	_, dev := openEmulator(t, options, plans...)
	for i, g := range graphs {
		feed := uniformFeed(g)
		want := must(interp.RunRounded(g, feed))(t)
		got := evaluate(t, dev, plans[i], feed)
		for name, w := range want.Outputs {
			tolerance := optest.Tolerance{Abs: 64}
			if strings.HasPrefix(g.Name(), "bf16") {
				tolerance.Abs = 0x1p16
			}
			if err := tolerance.Compare(w, got[name]); err != nil {
				t.Errorf("%s, %s: %v", g.Name(), name, err)
			}
		}
	}
}

// prologueGraph is a convolution, or the gradient of its filter, of an image that
// was normalised and rectified; beside makes something else of the image.
func prologueGraph(dt graph.DType, c, o, r, stride int, gradient, beside bool) *graph.Graph {
	g := graph.New(fmt.Sprintf("%v %d to %d %dx%d/%d gradient=%v beside=%v", dt, c, o, r, r, stride, gradient, beside))
	x := g.Input("x", dt, 2, 6, 5, c)
	scale, shift, slope := g.Input("scale", graph.F32, 1, 1, 1, c), g.Input("shift", graph.F32, 1, 1, 1, c), g.Input("slope", graph.F32, 1, 1, 1, 1)
	a := graph.Attrs{Stride: [2]int{stride, stride}, Pad: [2]int{r / 2, r / 2}, Dilation: [2]int{1, 1}, Layout: graph.NHWC}
	wide := x
	if dt != graph.F32 {
		wide = x.Convert(graph.F32)
	}
	z := wide.Mul(scale).Add(shift).ReLU().Mul(slope)
	if dt != graph.F32 {
		z = z.Convert(dt)
	}
	y := g.Make(graph.OpConv2D, a, z, g.Input("w", dt, o, r, r, c))
	if gradient {
		dw := a
		dw.Size = []int{r, r}
		y = g.Make(graph.OpConv2DFilterGrad, dw, z, g.Input("dy", dt, y.Shape()...))
	} else if dt == graph.F32 {
		y = y.Add(g.Input("bias", dt, 1, 1, 1, o)) // with an epilogue too
		g.Output("sums", y.SumKeep(0, 1, 2))
	}
	if beside {
		g.Output("z", z.Reverse(0))
	}
	g.Output("y", y)
	return g
}

// A convolution's result that an epilogue reads and that a prologue gathers is
// stored all the same.
func TestEpilogueAndPrologue(t *testing.T) {
	g := graph.New("batch norm between two convolutions")
	a := graph.Attrs{Stride: [2]int{1, 1}, Dilation: [2]int{1, 1}, Layout: graph.NHWC}
	y := g.Make(graph.OpConv2D, a, g.Input("x", graph.F32, 2, 6, 5, 8), g.Input("w", graph.F32, 16, 3, 3, 8))
	y = y.Sub(y.MeanKeep(0, 1, 2)).ReLU()
	g.Output("y", g.Make(graph.OpConv2D, a, y, g.Input("v", graph.F32, 8, 1, 1, 16)))
	if err := g.Err(); err != nil {
		t.Fatal(err)
	}
	p := plan.Build(g, plan.Options{LessTraffic: true, Prologues: true})
	if s := p.Steps[len(p.Steps)-1]; s.Prologue == nil {
		t.Fatalf("no prologue:\n%v", p)
	}
	_, dev := openEmulator(t, "checked")
	feed := uniformFeed(g)
	if err := (optest.Tolerance{Rel: 2, Abs: 16}).Compare(must(interp.RunRounded(g, feed))(t).Outputs["y"], evaluate(t, dev, p, feed)["y"]); err != nil {
		t.Error(err)
	}
}

// TestPrologue computes an image on its way into a convolution, or the gradient of
// its filter, where that is less work than to store it; the padding is no part of
// the image.
func TestPrologue(t *testing.T)        { testPrologue(t, "") }
func TestPrologueChecked(t *testing.T) { testPrologue(t, "checked,seed=1") }

func testPrologue(t *testing.T, options string) {
	_, dev := openEmulator(t, options)
	for _, dt := range []graph.DType{graph.F32, graph.BF16} {
		for _, c := range []struct {
			c, o, r, stride  int
			gradient, beside bool
			on               bool // the image is computed on the way
		}{
			{16, 24, 1, 1, false, false, true},
			{40, 8, 1, 2, false, false, true},
			{16, 24, 3, 2, false, false, dt == graph.F32}, // of bf16 there is too little to save
			{24, 16, 1, 1, true, false, true},
			{8, 16, 3, 3, true, false, true},
			{16, 24, 3, 1, false, false, false},
			{16, 24, 3, 1, true, false, false},
			{16, 24, 1, 1, false, true, false}, // it is stored anyway
			{10, 24, 1, 1, false, false, false},
		} {
			g := prologueGraph(dt, c.c, c.o, c.r, c.stride, c.gradient, c.beside)
			if err := g.Err(); err != nil {
				t.Fatal(err)
			}
			p := plan.Build(g, plan.Options{LessTraffic: true, Prologues: true})
			on := false
			for _, s := range p.Steps {
				on = on || s.Prologue != nil
			}
			if on != c.on {
				t.Errorf("%s: a prologue: %v, want %v\n%v", g.Name(), on, c.on, p)
			}
			feed := uniformFeed(g)
			want, got := must(interp.RunRounded(g, feed))(t), evaluate(t, dev, p, feed)
			for name, w := range want.Outputs {
				if err := (optest.Tolerance{Rel: 2, Abs: 16}).Compare(w, got[name]); err != nil {
					t.Errorf("%s: %s: %v", g.Name(), name, err)
				}
			}
		}
	}
}
