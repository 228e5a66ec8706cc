package adversarial

import (
	"math"
	"strings"
	"testing"

	"temper/engine/graph"
	"temper/engine/interp"
	"temper/nn"
)

// begin is a step of a method on a tiny network, up to where the method's own
// building begins, for batches of n.
func begin(t *testing.T, model string, tr Training, n int) (*graph.Graph, *step) {
	t.Helper()
	m := tiny(t, model)
	g := graph.New(tr.Method)
	in, err := declare(g, m, imageThreat, n, graph.F32)
	must(t, err)
	return g, newStep(g, in, m, tr.Resolve(imageThreat), nn.SGD{})
}

func method(t *testing.T, method string) Training {
	t.Helper()
	tr, err := LookupTraining(method)
	must(t, err)
	return tr
}

// AWP's perturbation is awp·‖w‖·g/‖g‖ for each matrix and filter and nothing for
// vectors, and it raises the loss more than it would against the gradient.
func TestWeightPerturbation(t *testing.T) {
	const n, gamma = 6, 0.01
	g, s := begin(t, "preactresnet18", Training{Method: "standard", AWP: gamma}, n)
	f := s.crossEntropy(s.x)
	v := s.weightPerturbation(f, s.buffers)
	grads := nn.Grad(f(s.params, s.buffers).loss, s.params)
	at := func(sign float64) *graph.Node {
		return f(s.params.Map(func(i int, l nn.Leaf) *graph.Node { return l.Node.Add(v[i].Node.MulC(sign)) }), s.buffers).loss
	}
	for i, l := range s.params {
		g.Output("v/"+l.Name, v[i].Node)
		g.Output("g/"+l.Name, grads[i].Node)
	}
	g.Output("at", at(0))
	g.Output("up", at(1))
	g.Output("down", at(-1))
	start := startOf(t, s.model, 1)
	r := eval(t, g, with(start, batch(s.model, n, graph.F32, 1), scalars(0, 0, 0)))
	perturbed := 0
	for _, l := range s.params {
		v, gr, w := r.Outputs["v/"+l.Name].Data, r.Outputs["g/"+l.Name].Data, start["state "+l.Name].Data
		scale := 0.0
		if l.Node.Rank() > 1 {
			scale = gamma * length64(w) / length64(gr)
			perturbed++
		}
		for i := range v {
			if math.Abs(v[i]-scale*gr[i]) > 1e-12*(1+math.Abs(v[i])) {
				t.Fatalf("%s: element %d is %v, want %v", l.Name, i, v[i], scale*gr[i])
			}
		}
	}
	up, at0, down := r.Outputs["up"].Data[0], r.Outputs["at"].Data[0], r.Outputs["down"].Data[0]
	if perturbed < 10 || !(up > at0 && at0 > down) {
		t.Errorf("%d perturbed, losses %v along the gradient, %v, %v against it", perturbed, up, at0, down)
	}
}

func length64(v []float64) float64 {
	sum := 0.0
	for _, x := range v {
		sum += x * x
	}
	return math.Sqrt(sum)
}

// One step with AWP is w − lr·∇L(w+v): the perturbation is taken back.
func TestAWPStep(t *testing.T) {
	const n = 4
	g, s := begin(t, "mnist-wong", Training{Method: "standard", AWP: 0.1}, n)
	end := standardStep(s)
	v := s.weightPerturbation(s.crossEntropy(s.x), s.buffers)
	at := s.params.Map(func(i int, l nn.Leaf) *graph.Node { return l.Node.Add(v[i].Node) })
	grads := nn.Grad(s.crossEntropy(s.x)(at, s.buffers).loss, at)
	for i, l := range s.params {
		g.Output("got/"+l.Name, end.params[i].Node)
		g.Output("want/"+l.Name, l.Node.Sub(grads[i].Node.Mul(s.rates.LR)))
	}
	feed := with(startOf(t, s.model, 1), batch(s.model, n, graph.F32, 1), scalars(0, 0, 0.3))
	feed["scalar weight_decay"] = interp.New(graph.F32, nil)
	r := eval(t, g, feed)
	for _, l := range s.params {
		if diff, top := apart(r.Outputs["got/"+l.Name].Data, r.Outputs["want/"+l.Name].Data); diff > 1e-12*top {
			t.Errorf("%s: off by %v of %v", l.Name, diff, top)
		}
	}
}

// With ε 0 every method is standard training, but for mart's own loss; free is
// several steps on the batch. So they are with AWP, which changes the step of
// each of them.
func TestMethodsWithoutRadius(t *testing.T) {
	const n = 4
	m := tiny(t, "mnist-wong")
	feed := with(startOf(t, m, 1), batch(m, n, graph.F32, 1), scalars(0, 0, 0.1))
	run := func(tr Training, steps int) *interp.Result {
		g, err := StepGraph(m, tr, nn.SGD{}, imageThreat, n, graph.F32)
		must(t, err)
		now := feed
		var r *interp.Result
		for range steps {
			if tr.Method == "free" {
				now = with(now, interp.Feed{"state " + SlotPrefix + "delta": interp.New(graph.F32, feed["input x"].Shape)})
			}
			r = eval(t, g, now)
			for name, x := range r.States {
				now = with(now, interp.Feed{"state " + name: x})
			}
		}
		return r
	}
	largest := func(got, want *interp.Result) (diff, top float64) {
		for _, s := range m.Specs() {
			d, size := apart(got.States[s.Name].Data, want.States[s.Name].Data)
			diff, top = max(diff, d), max(top, size)
		}
		return diff, top
	}
	var before map[string]*interp.Result
	for _, awp := range []float64{0, 0.05} {
		one, three := run(Training{Method: "standard", AWP: awp}, 1), run(Training{Method: "standard", AWP: awp}, 3)
		results := map[string]*interp.Result{}
		for _, name := range MethodNames() {
			tr := method(t, name)
			tr.AWP, tr.Attack.Steps, tr.Replays = awp, min(tr.Attack.Steps, 2), min(tr.Replays, 3)
			got, want := run(tr, 1), one
			if results[name] = got; name == "free" {
				want = three
			}
			if diff, top := largest(got, want); name != "mart" && diff > 1e-12*top {
				t.Errorf("%s with awp %v: off by %v of %v", name, awp, diff, top)
			}
			if before != nil {
				if diff, _ := largest(got, before[name]); !(diff > 1e-6) {
					t.Errorf("%s: awp changes weights by %v at most", name, diff)
				}
			}
		}
		before = results
	}
}

// N-FGSM leaves the ball, by up to the noise, but not the domain.
func TestNoisyAttack(t *testing.T) {
	const n = 6
	g, s := begin(t, "mnist-wong", method(t, "n-fgsm"), n)
	found := s.noisyAttack()
	g.Output("x", found.X)
	eps := imageThreat.Epsilon.Float64()
	feed := with(startOf(t, s.model, 1), batch(s.model, n, graph.F32, 1), scalars(eps, eps, 0))
	r := eval(t, g, feed)
	largest, inside := 0.0, 0
	for i, x := range r.Outputs["x"].Data {
		d := math.Abs(x - feed["input x"].Data[i])
		largest = max(largest, d)
		if d < eps {
			inside++
		}
		if x < 0 || x > 1 {
			t.Fatalf("element %d is %v", i, x)
		}
	}
	if !(largest > 2*eps && largest <= 3*eps*(1+1e-6)) || inside == 0 {
		t.Errorf("the largest change is %.3f ε, %d elements changed by less than ε", largest/eps, inside)
	}
}

// Steps with GradAlign make the input gradients more alike than steps without.
func TestGradAlignAligns(t *testing.T) {
	const n = 8
	after := func(weight float64) float64 {
		m := tiny(t, "mnist-wong")
		g, err := StepGraph(m, Training{Method: "standard", GradAlign: weight}, nn.SGD{}, imageThreat, n, graph.F32)
		must(t, err)
		p := compile(t, g)
		feed := with(startOf(t, m, 1), batch(m, n, graph.F32, 1), scalars(0.3, 0, 0.1))
		p.give(feed)
		for range 30 {
			p.run()
		}
		h, s := begin(t, "mnist-wong", Training{Method: "standard"}, n)
		h.Output("misalignment", s.misalignment(s.params, s.buffers))
		for _, spec := range m.Specs() {
			feed["state "+spec.Name] = p.tensor(spec.Name)
		}
		return eval(t, h, feed).Outputs["misalignment"].Data[0]
	}
	without, with := after(0), after(1)
	if !(with < 0.8*without && with >= 0) {
		t.Errorf("1 − cos is %.3g with GradAlign, %.3g without", with, without)
	}
}

// GradAlign's angle is that of the gradients however short they are, and samples
// without a gradient have none.
func TestGradAlignOfSureNetworks(t *testing.T) {
	const n = 6
	for _, sure := range []float64{0, 15, 30} {
		// Two classes: z₁ − z₀ = sure − Σ x², whose gradient is −2x; label 1, and
		// for the last sample an answer that does not depend on x.
		m, err := nn.NewModel("sure", graph.Shape{1, 2, 2}, 2, func(s *nn.Scope, x *graph.Node) (features, logits *graph.Node) {
			bowl := x.Square().Sum(1, 2, 3).Neg().AddC(sure).Reshape(-1, 1)
			last := x.Graph().Iota(graph.I32, 0, x.Dim(0), 1)
			bowl = graph.Select(last.Eq(last.C(n-1)), bowl.StopGradient(), bowl)
			return bowl, graph.Concat(1, bowl.MulC(0), bowl)
		})
		must(t, err)
		g := graph.New("sure")
		in, err := declare(g, m, imageThreat, n, graph.F32)
		must(t, err)
		s := newStep(g, in, m, Training{Method: "standard"}.Resolve(imageThreat), nn.SGD{})
		g.Output("got", s.misalignment(nil, nil))
		g.Output("x", s.x)
		g.Output("there", s.x.Add(s.noise("training.align").Mul(s.eps)))
		feed := with(batch(m, n, graph.F32, 1), scalars(0.3, 0, 0.1), interp.Feed{"input y": interp.New(graph.I32, []int{n}, 1, 1, 1, 1, 1, 1)})
		r := eval(t, g, feed).Outputs
		want := 0.0
		for i := range n - 1 {
			var ab, aa, bb float64
			for k := range 4 {
				a, b := r["x"].Data[4*i+k], r["there"].Data[4*i+k]
				ab, aa, bb = ab+a*b, aa+a*a, bb+b*b
			}
			want += (1 - ab/math.Sqrt(aa*bb)) / (n - 1)
		}
		if got := r["got"].Data[0]; !(math.Abs(got-want) <= 1e-9) {
			t.Errorf("logits %v apart: 1 − cos is %v, want %v", sure, got, want)
		}
	}
}

// Free's perturbation goes on from batch to batch and stays in the ball.
func TestFreeKeepsItsPerturbation(t *testing.T) {
	const n = 4
	m := tiny(t, "mnist-wong")
	tr := method(t, "free")
	tr.Replays = 3
	g, err := StepGraph(m, tr, nn.SGD{}, imageThreat, n, graph.F32)
	must(t, err)
	p := compile(t, g)
	p.give(with(startOf(t, m, 1), batch(m, n, graph.F32, 1), scalars(0.1, 0, 0.1)))
	var last []float64
	for range 2 {
		p.run()
		delta := p.tensor(SlotPrefix + "delta").Data
		moved := 0
		for i, d := range delta {
			if math.Abs(d) > 0.1*(1+1e-6) {
				t.Fatalf("element %d is %v", i, d)
			}
			if last != nil && d != last[i] {
				moved++
			}
		}
		if last != nil && moved == 0 {
			t.Error("the second batch moved nothing")
		}
		last = delta
	}
	if length64(last) == 0 {
		t.Error("the perturbation is 0")
	}
}

// TRADES says what its attack drives up, whatever loss the attack names.
func TestDescribeAttack(t *testing.T) {
	for name, want := range map[string]string{"trades": ", loss divergence, from x", "mart": ", loss ce, from x"} {
		tr := method(t, name).Resolve(imageThreat)
		if got := tr.DescribeAttack(imageThreat); !strings.Contains(got, want) {
			t.Errorf("%s: %q, want it to contain %q", name, got, want)
		}
	}
}

func TestMethodSettings(t *testing.T) {
	for want, tr := range map[string]Training{
		"method pgd-at has no beta":                  {Method: "pgd-at", Attack: attacks["pgd"].known, Beta: 1},
		"method trades has no replays":               {Method: "trades", Attack: fromX, Replays: 2},
		"method standard has no noise":               {Method: "standard", Noise: 1},
		"beta -1: want a positive number":            {Method: "trades", Attack: fromX, Beta: -1},
		"awp 1: want a fraction":                     {Method: "standard", AWP: 1},
		"grad_align -1":                              {Method: "standard", GradAlign: -1},
		"label_smoothing with method mart":           {Method: "mart", Attack: fromX, LabelSmoothing: 0.1},
		"method n-fgsm takes steps of fgsm":          {Method: "n-fgsm", Attack: attacks["pgd"].known},
		"method free is defined for the norm linf":   {Method: "free", Attack: attacks["fgsm"].known},
		"method n-fgsm is defined for the norm linf": {Method: "n-fgsm", Attack: attacks["fgsm"].known},
	} {
		threat := imageThreat
		threat.Norm = L2
		_, err := StepGraph(tiny(t, "mnist-wong"), tr, nn.SGD{}, threat, 2, graph.F32)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("error %v, want one with %q", err, want)
		}
	}
}
