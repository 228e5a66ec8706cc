package nn

import (
	"math"
	"strings"
	"testing"

	"temper/engine/graph"
	"temper/engine/interp"
)

// One step on w (2,2) = 1, b (2) = 2 with gradients 1, learning rate 0.1 and
// weight decay 0.5: which tensors decay, and how.
func TestDecay(t *testing.T) {
	for _, c := range []struct {
		name  string
		opt   Optimizer
		decay bool
		w, b  float64
	}{
		{"none", SGD{}, false, 0.9, 1.9},
		{"coupled", SGD{}, true, 1 - 0.1*1.5, 2 - 0.1*2},
		{"decoupled", SGD{Decay: Decay{Decoupled: true}}, true, 1*0.95 - 0.1, 2*0.95 - 0.1},
		{"matrices only", SGD{Decay: Decay{SkipVectors: true}}, true, 1 - 0.1*1.5, 1.9},
		{"adam, first step", Adam{Beta1: 0.9, Beta2: 0.999}, false, 0.9, 1.9},
		{"adamw", Adam{Beta1: 0.9, Beta2: 0.999, Decay: Decay{Decoupled: true, SkipVectors: true}}, true, 0.85, 1.9},
	} {
		g := graph.New(c.name)
		params := Tree{{"w", g.State("w", graph.F32, 2, 2)}, {"b", g.State("b", graph.F32, 2)}}
		slots := c.opt.Declare(g, "opt/", params)
		rates := Rates{LR: g.Scalar("lr", graph.F32)}
		feed := interp.Feed{
			"state w":   interp.New(graph.F32, graph.Shape{2, 2}, 1),
			"state b":   interp.New(graph.F32, graph.Shape{2}, 2),
			"scalar lr": interp.New(graph.F32, nil, 0.1),
		}
		if c.decay {
			rates.Decay = g.Scalar("decay", graph.F32)
			feed["scalar decay"] = interp.New(graph.F32, nil, 0.5)
		}
		for _, s := range slots {
			feed[interp.Key(s.Node)] = interp.New(s.Node.DType(), s.Node.Shape())
		}
		ones := params.Map(func(_ int, l Leaf) *graph.Node { return g.Const(graph.F32, []float64{1}, l.Node.Shape()...) })
		newParams, newSlots := c.opt.Step(params, ones, slots, rates)
		Assign(params, newParams)
		Assign(slots, newSlots)
		r := eval(t, g, feed)
		if w, b := r.States["w"].Data[0], r.States["b"].Data[0]; math.Abs(w-c.w) > 1e-12 || math.Abs(b-c.b) > 1e-12 {
			t.Errorf("%s: w %v and b %v, want %v and %v", c.name, w, b, c.w, c.b)
		}
	}
}

// Adam's bias correction keeps float32's precision at the first step.
func TestAdamBiasInFloat32(t *testing.T) {
	g := graph.New("bias")
	step := g.Scalar("t", graph.F32)
	g.Output("bias", factor{constant: 0.999}.bias(step))
	for _, n := range []float64{1, 2, 10, 1000, 1e6} {
		r, err := interp.RunRounded(g, interp.Feed{"scalar t": interp.New(graph.F32, nil, n)})
		must(t, err)
		want := -math.Expm1(n * math.Log(0.999))
		if got := r.Outputs["bias"].Data[0]; math.Abs(got/want-1) > 3e-7 {
			t.Errorf("1-0.999^%v is %v, want %v", n, got, want)
		}
	}
}

func TestClipGradNorm(t *testing.T) {
	for limit, factor := range map[float64]float64{1: 1 / (5 + 1e-6), 10: 1} {
		g := graph.New("clip")
		grads := Tree{{"a", g.Const(graph.F32, []float64{3, 0}, 2)}, {"b", g.Const(graph.F32, []float64{-4})}}
		clipped, norm := ClipGradNorm(grads, g.Const(graph.F32, []float64{limit}))
		g.Output("a", clipped.Get("a"))
		g.Output("b", clipped.Get("b"))
		g.Output("norm", norm)
		r := eval(t, g, nil).Outputs
		near(t, "norm", r["norm"], interp.New(graph.F32, nil, 5))
		near(t, "a", r["a"], interp.New(graph.F32, graph.Shape{2}, 3*factor, 0))
		near(t, "b", r["b"], interp.New(graph.F32, nil, -4*factor))
	}
}

func TestAverage(t *testing.T) {
	g := graph.New("average")
	tree := func(w, n float64) Tree {
		return Tree{{"w", g.Const(graph.F32, []float64{w})}, {"n", g.Const(graph.I32, []float64{n})}}
	}
	a := Average(tree(1, 3), tree(2, 4), g.Const(graph.F32, []float64{0.25}))
	g.Output("w", a.Get("w"))
	g.Output("n", a.Get("n"))
	r := eval(t, g, nil).Outputs
	if w, n := r["w"].Data[0], r["n"].Data[0]; w != 1.25 || n != 4 {
		t.Errorf("average %v and counter %v, want 1.25 and 4", w, n)
	}
}

func TestOptimizerConfig(t *testing.T) {
	for _, c := range []struct {
		config OptimizerConfig
		want   Optimizer
		err    string
	}{
		{OptimizerConfig{Name: "sgd", Momentum: 0.9, Nesterov: true}, SGD{Momentum: 0.9, Nesterov: true}, ""},
		{OptimizerConfig{Name: "sgdw", SkipVectors: true}, SGD{Decay: Decay{true, true}}, ""},
		{OptimizerConfig{Name: "sgd", SkipVectors: true}, SGD{Decay: Decay{false, true}}, ""},
		{OptimizerConfig{Name: "adam"}, Adam{Beta1: 0.9, Beta2: 0.999, Eps: 1e-8}, ""},
		{OptimizerConfig{Name: "adamw", Beta1: 0.8}, Adam{Beta1: 0.8, Beta2: 0.999, Eps: 1e-8, Decay: Decay{Decoupled: true}}, ""},
		{OptimizerConfig{Name: "adamax"}, nil, `unknown optimiser "adamax": did you mean adam, adamw`},
		{OptimizerConfig{Name: "adam", Momentum: 0.9}, nil, `optimiser adam: it has no setting "momentum" (settings: beta1, beta2, eps, cycled)`},
		{OptimizerConfig{Name: "sgd", Nesterov: true, Cycled: true}, SGD{Nesterov: true, Cycled: true}, ""},
		{OptimizerConfig{Name: "adam", Cycled: true}, Adam{Beta1: 0.9, Beta2: 0.999, Eps: 1e-8, Cycled: true}, ""},
		{OptimizerConfig{Name: "sgd", Nesterov: true}, nil, "momentum 0, nesterov true"},
		{OptimizerConfig{Name: "adam", Beta2: 1}, nil, "beta2 1"},
	} {
		got, err := c.config.Optimizer()
		switch {
		case c.err == "" && (err != nil || got != c.want):
			t.Errorf("%+v: %v, %v", c.config, got, err)
		case c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)):
			t.Errorf("%+v: error %v does not say %q", c.config, err, c.err)
		}
	}
}
