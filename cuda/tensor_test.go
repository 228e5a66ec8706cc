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
}

func tensorGraphs(t *testing.T, dt graph.DType) map[string]*graph.Graph {
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
		a := graph.Attrs{Stride: c.stride, Pad: c.pad, Dilation: c.dil, Layout: graph.NHWC}
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
				return graph.MatMul(g.Input("a", dt, a...), g.Input("b", dt, b...), ta, tb)
			})
		}
	}
	return all
}

// uniformFeed draws inputs from -1 to 1.
func uniformFeed(g *graph.Graph) interp.Feed {
	feed := interp.Feed{}
	for _, n := range g.Root().Nodes() {
		if n.Op() != graph.OpInput {
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
		precision Precision
		tolerance optest.Tolerance
	}{
		{graph.BF16, Exact, optest.Tolerance{Rel: 1, Abs: 0x1p-9}},
		{graph.F32, Exact, optest.Tolerance{Abs: 64}},
		{graph.F32, TF32x3, optest.Tolerance{Abs: 64}},
		{graph.F32, TF32, optest.Tolerance{Abs: 0x1p13}},
	} {
		t.Run(c.dt.String()+"/"+c.precision.String(), func(t *testing.T) {
			graphs := tensorGraphs(t, c.dt)
			plans := map[string]*plan.Plan{}
			var all []*plan.Plan
			for name, g := range graphs {
				plans[name] = plan.Build(g, plan.Options{})
				all = append(all, plans[name])
			}
			_, dev := openEmulator(t, "")
			dev.precision = c.precision
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
// copies land late: no thread may read what another, or a copy, is to write.
func TestTensorChecked(t *testing.T) {
	for _, c := range []struct {
		dt        graph.DType
		precision Precision
	}{{graph.BF16, Exact}, {graph.F32, TF32x3}} {
		_, dev := openEmulator(t, "checked,seed=1")
		dev.precision = c.precision
		for name, g := range tensorGraphs(t, c.dt) {
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
func sourcesOf(t *testing.T, g *graph.Graph) (loops, others string) {
	t.Helper()
	p := planOf(t, g)
	var visit func(steps []plan.Step, in *string)
	visit = func(steps []plan.Step, in *string) {
		for _, s := range steps {
			if s.Loop != nil {
				visit(s.Loop.Steps, &loops)
				continue
			}
			for _, k := range must(Kernels(p, s, Exact))(t) {
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
	loop, _ := sourcesOf(t, pgdStep())
	if !uses(loop, "tensor_tile<f32, ") || !uses(loop, "conv_forward<") || !uses(loop, "conv_input_grad<") || uses(loop, "conv_filter_grad<") || uses(loop, "contract<") {
		t.Errorf("an attack in float32:\n%s", loop)
	}
	t.Setenv("TEMPER_CUDA_FLOAT32", "bf16")
	loop, others := sourcesOf(t, pgdStep())
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
	t.Setenv("TEMPER_CUDA_FLOAT32", "bf16")
	dev, _ := openEmulator(t, "")
	feed := uniformFeed(g)
	want := must(interp.Run(g, feed))(t)
	got := must(optest.On(dev, engine.Options{})(g, feed))(t)
	if err := (optest.Tolerance{Abs: 0x1p17}).CompareResults(want, got); err != nil { // 2⁻⁶
		t.Error(err)
	}
	if err := (optest.Tolerance{Abs: 256}).CompareResults(want, got); err == nil {
		t.Error("the results are float32's: nothing was rounded")
	}
}

func TestPrecisionName(t *testing.T) {
	for name, want := range map[string]string{"": "exact", "tf32": "tf32", "bf16": "bf16", "fp8": `TEMPER_CUDA_FLOAT32 is "fp8": want exact, tf32x3, tf32 or bf16`} {
		t.Setenv("TEMPER_CUDA_FLOAT32", name)
		p, err := float32Precision()
		got := p.String()
		if err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%q is %s, want %s", name, got, want)
		}
	}
}
