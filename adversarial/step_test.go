package adversarial

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"temper/engine"
	"temper/engine/graph"
	"temper/engine/interp"
	"temper/engine/passes"
	"temper/engine/rng"
	"temper/nn"
)

// oddBatch divides no extent of the tiny models, so that a shape tells whether
// samples or weights run along it.
const oddBatch = 7

// pgdStep is a training step with PGD on a tiny model.
func pgdStep(t *testing.T, model, bn string) (*nn.Model, *graph.Graph) {
	t.Helper()
	m := tiny(t, model)
	tr := Training{Method: "pgd-at", Attack: Attack{Name: "pgd", Steps: 3, RandomStart: true, BN: bn}}
	g, err := StepGraph(m, tr, nn.SGD{Momentum: 0.9}, imageThreat, oddBatch, graph.U8)
	must(t, err)
	return m, g
}

var imageThreat = ThreatModel{Linf, MustEpsilon("8/255"), Unit}

// bodies lists the nodes inside loops, and those outside.
func bodies(g *graph.Graph) (in, out []*graph.Node) {
	live := graph.Live(g)
	for n := range live {
		if n.Block() == g.Root() {
			out = append(out, n)
		} else {
			in = append(in, n)
		}
	}
	return in, out
}

// isWeightGradient reports whether a node's value is what only a derivative by
// a parameter has: the filter gradient's operation, a parameter's shape in a
// product (or its transpose), or a sum over samples.
func isWeightGradient(m *nn.Model, n *graph.Node) bool {
	switch n.Op() {
	case graph.OpConv2DFilterGrad:
		return true
	case graph.OpMatMul:
		return slices.ContainsFunc(m.Specs(), func(s nn.Spec) bool {
			turned := slices.Clone(s.Shape)
			slices.Reverse(turned)
			return n.Shape().Equal(s.Shape) || n.Shape().Equal(turned)
		})
	case graph.OpReduceSum:
		return n.In(0).Dim(0) == oddBatch && slices.Contains(n.Attrs().Axes, 0)
	}
	return false
}

// What the compiler makes of a training step has no weight gradient inside the
// ascent loop, nor anything that is computed from one: the whole body is the
// forward pass, the way back to x, and the step. Outside, in the descent, the
// very same question finds one for each weight.
func TestNoWeightGradientsInAscent(t *testing.T) {
	for _, name := range nn.Names() {
		for _, bn := range []string{"eval", "batch", "batch-update"} {
			m, g := pgdStep(t, name, bn)
			g, err := passes.Run(g, passes.Options{})
			must(t, err)
			in, out := bodies(g)
			if len(in) == 0 {
				t.Fatalf("%s: there is no loop", name)
			}
			statistics := 0 // sums over samples that batch norm's modes need
			for _, n := range in {
				if !isWeightGradient(m, n) {
					continue
				}
				if n.Op() == graph.OpReduceSum && bn != "eval" && n.In(0).Rank() == 4 {
					statistics++
					continue
				}
				t.Errorf("%s, bn %s: %v%v stands in the ascent loop", name, bn, n.Op(), n.Shape())
			}
			if strings.Contains(name, "resnet") && (statistics > 0) != (bn != "eval") {
				t.Errorf("%s, bn %s: %d sums over samples", name, bn, statistics)
			}
			weights, found := 0, 0
			for _, s := range m.Specs() {
				if !s.Buffer && len(s.Shape) > 1 {
					weights++
				}
			}
			for _, n := range out {
				if isWeightGradient(m, n) && n.Op() != graph.OpReduceSum {
					found++
				}
			}
			if found < weights {
				t.Errorf("%s, bn %s: %d weight gradients in the descent of %d weights: the test does not see them", name, bn, found, weights)
			}
		}
	}
}

// What does not depend on the iterate is computed before the loop: the bounds
// of the ball, the random start, the scaled filters of frozen batch norm.
func TestInvariantsAreHoisted(t *testing.T) {
	for _, name := range nn.Names() {
		_, g := pgdStep(t, name, "eval")
		invariants := func(o passes.Options) (kept []*graph.Node) {
			g, err := passes.Run(g, o)
			must(t, err)
			in, _ := bodies(g)
			varying := map[*graph.Node]bool{}
			for _, n := range slices.SortedFunc(slices.Values(in), func(a, b *graph.Node) int { return a.ID() - b.ID() }) {
				varying[n] = n.Op() == graph.OpParam || slices.ContainsFunc(n.Ins(), func(i *graph.Node) bool { return varying[i] })
				// A broadcast costs nothing where it is used and stays.
				if !varying[n] && n.Op() != graph.OpBroadcast && n.Op() != graph.OpConst {
					kept = append(kept, n)
				}
			}
			return kept
		}
		for _, n := range invariants(passes.Options{}) {
			t.Errorf("%s: %v%v does not vary and stands in the loop", name, n.Op(), n.Shape())
		}
		if strings.Contains(name, "resnet") && len(invariants(passes.Options{Off: []string{"hoist"}})) == 0 {
			t.Errorf("%s: nothing was hoisted", name)
		}
	}
}

// batch is a fixed batch of random images or patches.
func batch(m *nn.Model, n int, input graph.DType, seed uint32) interp.Feed {
	s := rng.NewStream(seed, "batch", 0)
	x := random(s, append(graph.Shape{n}, m.Input...), 0, 1)
	if input == graph.U8 {
		x.DType = graph.U8
		for i, v := range x.Data {
			x.Data[i] = math.Floor(v * 256)
		}
	}
	y, ids := interp.New(graph.I32, graph.Shape{n}), interp.New(graph.U32, graph.Shape{n})
	for i := range n {
		y.Data[i], ids.Data[i] = float64(i%m.Classes), float64(100+i)
	}
	return interp.Feed{"input x": x, "input y": y, "input ids": ids}
}

// with joins feeds; later ones win.
func with(feeds ...interp.Feed) interp.Feed {
	all := interp.Feed{}
	for _, f := range feeds {
		for k, v := range f {
			all[k] = v
		}
	}
	return all
}

// scalars is StepGraph's step block.
func scalars(eps, alpha, lr float64) interp.Feed {
	f := interp.Feed{"scalar seed": interp.New(graph.U32, nil, 3), "scalar step": interp.New(graph.U32, nil, 0)}
	for name, v := range map[string]float64{"eps": eps, "alpha": alpha, "lr": lr, "momentum": 0.9, "weight_decay": 5e-4, "average": 0.25} {
		f["scalar "+name] = interp.New(graph.F32, nil, float64(float32(v)))
	}
	return f
}

// Every method trains every registered model on the CPU: the loss on one batch
// falls.
func TestEveryModelTrains(t *testing.T) {
	for _, name := range nn.Names() {
		for _, method := range MethodNames() {
			t.Run(name+" "+method, func(t *testing.T) {
				m, threat, input := tiny(t, name), imageThreat, graph.U8
				if name == "patchcnn" {
					threat, input = ThreatModel{PatchL2, MustEpsilon("0.1"), Unbounded}, graph.F32
				}
				tr, err := LookupTraining(method)
				must(t, err)
				if tr.Attack.Steps > 2 {
					tr.Attack.Steps = 2
				}
				if method == "free" {
					tr.Replays = 2
				}
				const n = 8
				g, err := StepGraph(m, tr, nn.SGD{Momentum: 0.9}, threat, n, input)
				if (method == "n-fgsm" || method == "free") && threat.Norm != Linf {
					if err == nil {
						t.Error("no error")
					}
					return
				}
				must(t, err)
				p := compile(t, g)
				p.give(with(startOf(t, m, 1), batch(m, n, input, 1), scalars(threat.Epsilon.Float64(), tr.Attack.Alpha(threat).Float64(), 0.1)))
				var losses []float64
				for step := range 20 {
					must(t, p.Set("step", float64(step)))
					p.run()
					losses = append(losses, p.scalar("loss"))
					if c := p.scalar("correct"); p.scalar("finite") != 1 || !(p.scalar("grad_norm") > 0) || c < 0 || c > n {
						t.Fatalf("step %d: correct %v, grad_norm %v, finite %v", step, c, p.scalar("grad_norm"), p.scalar("finite"))
					}
				}
				if lowest := slices.Min(losses); !(lowest < 0.95*losses[0]) {
					t.Errorf("the losses are %.4v", losses)
				}
			})
		}
	}
}

// A step with everything in it gives on the CPU what it gives in the reference
// interpreter: augmentation and random start included, so the draws are the
// same.
func TestStepAgreesWithInterpreter(t *testing.T) {
	m := tiny(t, "preactresnet18")
	tr := Training{Method: "pgd-at", Attack: Attack{Name: "pgd", Steps: 2, RandomStart: true, BN: "batch-update"},
		LabelSmoothing: 0.1, ClipGrad: 0.5, Augment: Augment{Crop: 2, Flip: true}}
	g, err := StepGraph(m, tr, nn.SGD{Momentum: 0.9}, imageThreat, 5, graph.U8)
	must(t, err)
	feed := with(startOf(t, m, 2), batch(m, 5, graph.U8, 2), scalars(8./255, 4./255, 0.1))
	p := compile(t, g)
	p.give(feed)
	p.run()
	for _, name := range p.state.Names() {
		if strings.HasPrefix(name, SlotPrefix) {
			_, shape, err := p.state.Type(name)
			must(t, err)
			feed["state "+name] = interp.New(graph.F32, shape)
		}
	}
	ref := eval(t, g, feed)
	for name, x := range ref.Outputs {
		if d := distance(p.output(name), x); !(d <= 1e-4) {
			t.Errorf("%s is %v, want %v", name, p.output(name).Data, x.Data)
		}
	}
	for _, s := range m.Specs() {
		if ref.States[s.Name] == nil || !s.Buffer && ref.States[SlotPrefix+s.Name+"/momentum_buffer"] == nil {
			t.Errorf("%s or its slot is not assigned", s.Name)
		}
	}
	for name, x := range ref.States {
		if d := distance(p.tensor(name), x); !(d <= 1e-3) {
			t.Errorf("%s: off by %.2g after a step", name, d)
		}
	}
	if got := ref.States["bn.num_batches_tracked"].Data[0]; got != 3 {
		t.Errorf("%v updates of the running statistics, want K+1 = 3", got)
	}
}

// Everything that may change from step to step does so in one executable.
func TestStepBlock(t *testing.T) {
	m := tiny(t, "cifar-small")
	tr, err := LookupTraining("pgd-at")
	must(t, err)
	tr.Augment.Flip = true
	g, err := StepGraph(m, tr, nn.SGD{Cycled: true}, imageThreat, 4, graph.U8)
	must(t, err)
	p := compile(t, g)
	feed := with(startOf(t, m, 1), batch(m, 4, graph.U8, 1), scalars(8./255, 2./255, 0.1))
	must(t, p.Set("momentum", 0.9))
	after := func(set func()) string {
		for _, name := range p.state.Names() {
			if strings.HasPrefix(name, SlotPrefix) { // each gradient so far was 1
				must(t, p.state.SetBytes(name, engine.Bytes(slices.Repeat([]float32{1}, len(p.tensor(name).Bytes())/4))))
			}
		}
		p.give(feed)
		set()
		p.run()
		return string(p.tensor("conv1.weight").Bytes())
	}
	base := after(func() {})
	if after(func() {}) != base {
		t.Fatal("the same step gives other bits")
	}
	for name, v := range map[string]float64{"eps": 4. / 255, "alpha": 1. / 255, "lr": 0.2, "momentum": 0.8, "weight_decay": 0.1, "seed": 4, "step": 1} {
		if after(func() { must(t, p.Set(name, v)) }) == base {
			t.Errorf("changing %s changes nothing", name)
		}
	}
}

// A trainer may set every scalar and feed every input, whatever the method.
func TestScalarsOfEveryMethod(t *testing.T) {
	for _, method := range MethodNames() {
		tr, err := LookupTraining(method)
		must(t, err)
		g, err := StepGraph(tiny(t, "mnist-wong"), tr, nn.SGD{}, imageThreat, 2, graph.U8)
		must(t, err)
		want := "alpha average eps lr momentum seed step weight_decay"
		if got := strings.Join(compile(t, g).Scalars(), " "); got != want {
			t.Errorf("%s: the step block is %q, want %q", method, got, want)
		}
	}
}

// The norm that is reported is that before clipping; the step has the limit's.
func TestClipGrad(t *testing.T) {
	m := tiny(t, "mnist-wong")
	g, err := StepGraph(m, Training{Method: "standard", ClipGrad: 0.01}, nn.SGD{}, imageThreat, 4, graph.F32)
	must(t, err)
	start := startOf(t, m, 1)
	r := eval(t, g, with(start, batch(m, 4, graph.F32, 1), scalars(0, 0, 1), interp.Feed{"scalar weight_decay": interp.New(graph.F32, nil)}))
	sum := 0.0
	for _, s := range m.Specs() {
		for i, v := range start["state "+s.Name].Data {
			d := v - r.States[s.Name].Data[i]
			sum += d * d
		}
	}
	if got := math.Sqrt(sum); math.Abs(got-0.01) > 1e-6 || r.Outputs["grad_norm"].Data[0] < 0.1 {
		t.Errorf("a step of %v at a gradient of %v", got, r.Outputs["grad_norm"].Data[0])
	}
}

// finite tells when a step has gone wrong, by the loss or by the gradient.
func TestFinite(t *testing.T) {
	m := tiny(t, "mnist-wong")
	g, err := StepGraph(m, Training{Method: "standard"}, nn.SGD{}, imageThreat, 4, graph.F32)
	must(t, err)
	p := compile(t, g)
	for _, bad := range []float64{math.NaN(), math.Inf(1), 1e30} { // the last one's gradient has no float32 norm
		feed := with(startOf(t, m, 1), batch(m, 4, graph.F32, 1), scalars(0, 0, 0.1))
		p.give(feed)
		p.run()
		if p.scalar("finite") != 1 {
			t.Fatal("a good step is not finite")
		}
		feed["input x"].Data[5] = bad
		p.give(feed)
		p.run()
		if p.scalar("finite") != 0 {
			t.Errorf("an input of %v: loss %v, gradient %v and finite", bad, p.scalar("loss"), p.scalar("grad_norm"))
		}
	}
}

// Augmented images are windows of the padded original, mirrored or not; all of
// them come about equally often; and what a sample becomes depends on its
// batch in no way.
func TestAugment(t *testing.T) {
	const n, side, pad, steps = 6, 5, 1, 60
	a := Augment{Crop: pad, Flip: true}
	build := func(input graph.DType, n int) *graph.Graph {
		g := graph.New("augment")
		draw := graph.Draw{Seed: g.Const(graph.U32, []float64{9}), IDs: g.Input("ids", graph.U32, n), Step: g.Scalar("step", graph.U32), Iter: g.Const(graph.U32, []float64{0})}
		g.Output("x", a.Build(g.Input("x", input, n, 2, side, side), draw))
		return g
	}
	one := interp.New(graph.U8, graph.Shape{n, 2, side, side})
	for i := range one.Data {
		one.Data[i] = float64(i%200 + 1) // all pixels of an image differ
	}
	ids := interp.New(graph.U32, graph.Shape{n}, 5, 4, 3, 2, 1, 0)
	whole := build(graph.U8, n)
	part := build(graph.F32, 1)
	seen := map[string]int{}
	for step := range steps {
		feed := interp.Feed{"input x": one, "input ids": ids, "scalar step": interp.New(graph.U32, nil, float64(step))}
		got := eval(t, whole, feed).Outputs["x"]
		size := 2 * side * side
		for i := range n {
			image := got.Data[i*size:][:size]
			seen[variant(t, one.Data[i*size:][:size], image, side, pad)]++
			feed["input x"] = interp.New(graph.F32, graph.Shape{1, 2, side, side}, one.Data[i*size:][:size]...)
			feed["input ids"] = interp.New(graph.U32, graph.Shape{1}, ids.Data[i])
			if alone := eval(t, part, feed).Outputs["x"]; !slices.Equal(alone.Data, image) {
				t.Fatalf("sample %d becomes something else alone", i)
			}
		}
	}
	if want := 2 * (2*pad + 1) * (2*pad + 1); len(seen) != want {
		t.Errorf("%d variants of %d: %v", len(seen), want, seen)
	}
	for v, count := range seen {
		if mean := float64(n*steps) / 18; math.Abs(float64(count)-mean) > 4*math.Sqrt(mean) {
			t.Errorf("%s comes %d times of about %v", v, count, mean)
		}
	}
}

// variant names the window and the mirroring that made image of from.
func variant(t *testing.T, from, image []float64, side, pad int) string {
	t.Helper()
	at := func(c, y, x int) float64 {
		if y < 0 || x < 0 || y >= side || x >= side {
			return 0
		}
		return from[(c*side+y)*side+x]
	}
	for dy := -pad; dy <= pad; dy++ {
		for dx := -pad; dx <= pad; dx++ {
			for _, flip := range []bool{false, true} {
				same := true
				for i, v := range image {
					c, y, x := i/(side*side), i/side%side, i%side
					if flip {
						x = side - 1 - x
					}
					same = same && v == at(c, y+dy, x+dx)
				}
				if same {
					return fmt.Sprint(dy, dx, flip)
				}
			}
		}
	}
	t.Fatalf("an image that no crop and flip makes: %v of %v", image, from)
	return ""
}

func TestStepErrors(t *testing.T) {
	m := tiny(t, "mnist-wong")
	good, err := LookupTraining("pgd-at")
	must(t, err)
	for want, f := range map[string]func() (*graph.Graph, error){
		`unknown training method "pgd": want one of fgsm-rs, free, mart, n-fgsm, pgd-at, standard, trades`: stepping(m, Training{Method: "pgd"}, imageThreat, 4, graph.U8),
		"label_smoothing 1":                  stepping(m, Training{Method: "standard", LabelSmoothing: 1}, imageThreat, 4, graph.U8),
		"clip_grad -1":                       stepping(m, Training{Method: "standard", ClipGrad: -1}, imageThreat, 4, graph.U8),
		"crop -4":                            stepping(m, Training{Method: "standard", Augment: Augment{Crop: -4}}, imageThreat, 4, graph.U8),
		"method pgd-at: unknown attack loss": stepping(m, Training{Method: "pgd-at", Attack: Attack{Name: "pgd", Loss: "x"}}, imageThreat, 4, graph.U8),
		"no target labels":                   stepping(m, Training{Method: "pgd-at", Attack: Attack{Name: "pgd", Targeted: true}}, imageThreat, 4, graph.U8),
		"fgsm-rs is pgd of one step":         stepping(m, Training{Method: "fgsm-rs", Attack: good.Attack}, imageThreat, 4, graph.U8),
		"eps is not set":                     stepping(m, good, ThreatModel{Norm: Linf, Domain: Unit}, 4, graph.U8),
		"inputs of type i32":                 stepping(m, good, imageThreat, 4, graph.I32),
		"a batch of 0 samples":               stepping(m, good, imageThreat, 0, graph.U8),
		`"unit", not "unbounded"`:            stepping(m, good, ThreatModel{Linf, MustEpsilon("1"), Unbounded}, 4, graph.U8),
		"needs at least 3 classes":           stepping(twoClasses(t), Training{Method: "pgd-at", Attack: Attack{Name: "pgd", Loss: "dlr"}}, imageThreat, 4, graph.U8),
	} {
		if _, err := f(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: want %q", err, want)
		}
	}
}

func stepping(m *nn.Model, tr Training, threat ThreatModel, n int, input graph.DType) func() (*graph.Graph, error) {
	return func() (*graph.Graph, error) { return StepGraph(m, tr, nn.SGD{}, threat, n, input) }
}

func twoClasses(t *testing.T) *nn.Model {
	c := tinySizes["mnist-wong"]
	c.Classes = 2
	m, err := nn.Lookup("mnist-wong", c)
	must(t, err)
	return m
}

// With the channels last, an attack loop converts nothing: its images are
// carried that way, and the filters are turned before it.
func TestNoTransposesInAscent(t *testing.T) {
	for _, name := range nn.Names() {
		_, g := pgdStep(t, name, "batch")
		g, err := passes.Run(g, passes.Options{Target: passes.Target{ChannelsLast: true}})
		must(t, err)
		in, _ := bodies(g)
		convolutions := 0
		for _, n := range in {
			switch {
			case n.Op() == graph.OpConv2D:
				convolutions++
			case n.Op() == graph.OpTranspose:
				t.Errorf("%s: transpose to %v in the ascent loop", name, n.Shape())
			}
		}
		if convolutions == 0 {
			t.Errorf("%s: no convolution in the ascent loop", name)
		}
	}
}
