package nn

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"temper/engine/graph"
	"temper/engine/interp"
)

// opCases says how each case of the fixture "ops" is built here, from its
// inputs by name.
var opCases = map[string]func(in Tree) *graph.Node{
	"relu":     func(in Tree) *graph.Node { return in.Get("x").ReLU() },
	"abs":      func(in Tree) *graph.Node { return in.Get("x").Abs() },
	"sign":     func(in Tree) *graph.Node { return in.Get("x").Sign() },
	"silu":     func(in Tree) *graph.Node { return SiLU(in.Get("x")) },
	"clamp":    func(in Tree) *graph.Node { return in.Get("x").ClampC(-1, 1) },
	"maximum":  func(in Tree) *graph.Node { return in.Get("a").Max(in.Get("b")) },
	"minimum":  func(in Tree) *graph.Node { return in.Get("a").Min(in.Get("b")) },
	"amax":     func(in Tree) *graph.Node { return in.Get("x").ReduceMax(1) },
	"max_dim":  func(in Tree) *graph.Node { return Pick(in.Get("x"), in.Get("x").ArgMax(1)) },
	"avg_pool": func(in Tree) *graph.Node { return AvgPool(in.Get("x"), 2) },
	"avg_pool_padded": func(in Tree) *graph.Node {
		return in.Get("x").AvgPool([2]int{3, 3}, graph.Square(2, 1))
	},
	"max_pool_ties":     func(in Tree) *graph.Node { return MaxPool(in.Get("x"), 2) },
	"max_pool_overlap":  overlapping,
	"max_pool_negative": overlapping,

	"conv_3x3":         conv(Conv{Out: 6, Kernel: 3, Pad: 1}),
	"conv_3x3_valid":   conv(Conv{Out: 6, Kernel: 3}),
	"conv_3x3_stride2": conv(Conv{Out: 6, Kernel: 3, Stride: 2, Pad: 1}),
	"conv_1x1_stride2": conv(Conv{Out: 6, Kernel: 1, Stride: 2}),
	"conv_4x4_stride2": conv(Conv{Out: 6, Kernel: 4, Stride: 2, Pad: 1}),
	"conv_5x5":         conv(Conv{Out: 6, Kernel: 5, Pad: 2}),
	"conv_dilated": func(in Tree) *graph.Node {
		win := graph.Window{Pad: [2]int{2, 2}, Dilation: [2]int{2, 2}}
		return in.Get("x").Conv2D(in.Get("weight"), win).Add(channels(in.Get("bias")))
	},
	"conv_3x2_uneven": func(in Tree) *graph.Node {
		win := graph.Window{Stride: [2]int{2, 1}, Pad: [2]int{1, 0}}
		return in.Get("x").Conv2D(in.Get("weight"), win).Add(channels(in.Get("bias")))
	},
	"linear": func(in Tree) *graph.Node { return Linear(scope(in, nil, Eval), in.Get("x"), 4, nil) },

	"log_softmax":            func(in Tree) *graph.Node { return LogSoftmax(in.Get("x")) },
	"log_softmax_large":      func(in Tree) *graph.Node { return LogSoftmax(in.Get("x")) },
	"logsumexp":              func(in Tree) *graph.Node { return LogSumExp(in.Get("x")) },
	"cross_entropy":          func(in Tree) *graph.Node { return CrossEntropy(in.Get("x"), in.Get("y")).Mean() },
	"cross_entropy_smoothed": smoothed,
	"kl_div":                 func(in Tree) *graph.Node { return KLDivergence(in.Get("natural"), in.Get("adversarial")).Mean() },
	"lse_margin":             func(in Tree) *graph.Node { return LSEMargin(in.Get("x"), in.Get("y")) },
	"mart":                   mart,
	"double_backward":        func(in Tree) *graph.Node { return curvature(in, false) },
	"double_backward_bn":     func(in Tree) *graph.Node { return curvature(in, true) },
}

// notOffered are cases that neither the graph nor nn has.
var notOffered = []string{"avg_pool_exclude_pad", "conv_grouped"}

func overlapping(in Tree) *graph.Node {
	return in.Get("x").MaxPool([2]int{3, 3}, graph.Square(2, 1))
}

func conv(c Conv) func(in Tree) *graph.Node {
	return func(in Tree) *graph.Node { return Conv2D(scope(in, nil, Eval), in.Get("x"), c) }
}

func mart(in Tree) *graph.Node {
	y := in.Get("y")
	boosted := BoostedCrossEntropy(in.Get("adversarial"), y).Mean()
	return boosted.Add(WeightedDivergence(in.Get("natural"), in.Get("adversarial"), y).Mean().MulC(5))
}

func smoothed(in Tree) *graph.Node {
	return SmoothedCrossEntropy(in.Get("x"), in.Get("y"), float64(float32(0.1))).Mean()
}

// scope lets a layer find its state among the given nodes.
func scope(params, buffers Tree, mode Mode) *Scope {
	r := &run{g: params[0].Node.Graph(), model: &Model{Name: "test"}, mode: mode, params: params, buffers: buffers}
	r.updates = slices.Clone(buffers)
	return &Scope{run: r}
}

// curvature is the squared norm of the input gradient of a small network.
func curvature(in Tree, normalised bool) *graph.Node {
	x := in.Get("x")
	h := x.Conv2D(in.Get("w1"), graph.Square(1, 1)).Add(channels(in.Get("b1"))).ReLU()
	if normalised {
		c := x.Graph().Const(graph.F32, []float64{1}, h.Dim(1))
		zero, count := c.MulC(0), x.Graph().Const(graph.I32, []float64{0})
		bn := scope(Tree{{"weight", c}, {"bias", zero}}, Tree{{"running_mean", zero}, {"running_var", c}, {"num_batches_tracked", count}}, Batch)
		h = BatchNorm(bn, h)
	}
	h = MaxPool(h, 2).Conv2D(in.Get("w2"), graph.Square(2, 1)).Tanh()
	loss := CrossEntropy(graph.MatMul(h.Flatten(1), in.Get("w3"), false, true), in.Get("y")).Mean()
	return Grad(loss, Tree{{"x", x}})[0].Node.Square().Sum()
}

func TestOracleOps(t *testing.T) {
	f := readFixture(t, "ops")
	for name := range f.settings["cases"].(map[string]any) {
		build := opCases[name]
		switch {
		case strings.HasPrefix(name, "batch_norm"): // TestOracleBatchNorm
		case build != nil:
			t.Run(name, func(t *testing.T) { f.checkOp(t, name, build) })
		case !slices.Contains(notOffered, name):
			t.Errorf("case %q of the fixture is not tested", name)
		}
	}
}

// checkOp builds a case from inputs, compares its value, and the gradient of
// Σ g·out with respect to each input that has one.
func (f *fixture) checkOp(t *testing.T, name string, build func(in Tree) *graph.Node) {
	g := graph.New(name)
	in, feed := f.inputs(g, name)
	out := build(in)
	g.Output("out", out)
	f.outputGrads(t, g, name, in, out)
	for k, got := range eval(t, g, feed).Outputs {
		near(t, k, got, f.get(t, name+"/"+k))
	}
}

// inputs declares the tensors of a case: those that are not results.
func (f *fixture) inputs(g *graph.Graph, name string) (in Tree, feed interp.Feed) {
	feed = interp.Feed{}
	for _, n := range f.names {
		key, ok := strings.CutPrefix(n, name+"/")
		if !ok || strings.HasPrefix(key, "grad_") || slices.Contains([]string{"out", "g", "indices", "running_mean1", "running_var1"}, key) {
			continue
		}
		x := f.tensors[n]
		in = append(in, Leaf{key, g.Input(key, x.DType, x.Shape...)})
		feed["input "+key] = x
	}
	return in, feed
}

func (f *fixture) outputGrads(t *testing.T, g *graph.Graph, name string, in Tree, out *graph.Node) {
	up := f.get(t, name+"/g")
	loss := out.Mul(g.Const(graph.F32, up.Data, up.Shape...)).Sum()
	for _, l := range in {
		if f.tensors[name+"/grad_"+l.Name] != nil {
			g.Output("grad_"+l.Name, Grad(loss, Tree{l})[0].Node)
		}
	}
}

func TestOracleBatchNorm(t *testing.T) {
	f := readFixture(t, "ops")
	for name, mode := range map[string]Mode{"batch_norm_train": BatchUpdate, "batch_norm_eval": Eval} {
		g := graph.New(name)
		in, feed := f.inputs(g, name)
		s := scope(in, append(slices.Clone(in), Leaf{"num_batches_tracked", g.Const(graph.I32, []float64{7})}), mode)
		out := BatchNorm(s, in.Get("x"))
		g.Output("out", out)
		f.outputGrads(t, g, name, in, out)
		for _, k := range []string{"running_mean", "running_var"} {
			g.Output(k+"1", s.run.updates.Get(k))
		}
		g.Output("tracked", s.run.updates.Get("num_batches_tracked"))
		outputs := eval(t, g, feed).Outputs
		if got, want := outputs["tracked"].Data[0], map[Mode]float64{BatchUpdate: 8, Eval: 7}[mode]; got != want {
			t.Errorf("%s: num_batches_tracked is %v, want %v", name, got, want)
		}
		delete(outputs, "tracked")
		for _, k := range slices.Sorted(maps.Keys(outputs)) {
			near(t, name+" "+k, outputs[k], f.get(t, name+"/"+k))
		}
	}
}
