package adversarial

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"

	"temper/engine/graph"
	"temper/engine/interp"
	"temper/engine/rng"
	"temper/nn"
)

// The CPU back end computes in float32. It is held to PyTorch's float64 by the
// rules of the design: values and gradients within four times PyTorch-float32's
// own distance, sign iterates equal in 99.9 % of their elements, losses within
// 1e-4.

// distance is the relative ℓ₂ difference.
func distance(got, want *interp.Tensor) float64 {
	sum, norm := 0.0, 0.0
	for i, w := range want.Data {
		sum += (got.Data[i] - w) * (got.Data[i] - w)
		norm += w * w
	}
	if sum == 0 {
		return 0
	}
	return math.Sqrt(sum / norm)
}

func TestFloat32Gradients(t *testing.T) {
	eachFixture(t, func(t *testing.T, f *fixture) {
		g := graph.New("gradients")
		shape := f.get(t, "x").Shape
		x, y := g.Input("x", graph.F32, shape...), g.Input("y", graph.I32, shape[0])
		params, buffers := f.model.Declare(g, "")
		out := f.model.Apply(params, buffers, x, nn.BatchUpdate)
		loss := nn.CrossEntropy(out.Logits, y).Mean()
		g.Output("loss", loss)
		g.Output("grad_x", nn.Grad(loss, nn.Tree{{Name: "x", Node: x}})[0].Node)
		for _, l := range nn.Grad(loss, params) {
			g.Output("grad/"+l.Name, l.Node)
		}
		if len(buffers) == 0 {
			g.Output("logits", out.Logits)
		} else {
			g.Output("logits_train", out.Logits)
			g.Output("logits_eval", f.model.Apply(params, buffers, x, nn.Eval).Logits)
		}
		for _, l := range out.Buffers {
			g.Output("buffer1/"+l.Name, l.Node)
		}
		checkDistances(t, f, compile(t, g, "winograd"), 4)
		checkDistances(t, f, compile(t, g), 10)
	})
}

// checkDistances runs the program and holds its outputs to so many times
// PyTorch-float32's distance.
func checkDistances(t *testing.T, f *fixture, p program, times float64) {
	t.Helper()
	p.give(f.feed(t, nil))
	p.run()
	for _, o := range p.Plan().Outputs {
		theirs := f.tensors["f32dist/"+o.Name]
		if theirs == nil && o.DType == graph.F32 {
			t.Errorf("%s: the fixture has no distance", o.Name)
		}
		limit := 0.0 // integers
		if theirs != nil {
			limit = times * max(theirs.Data[1], math.Pow(2, -23))
		}
		if d := distance(p.output(o.Name), f.get(t, o.Name)); !(d <= limit) {
			t.Errorf("%s: off by %.3g, relatively; the limit is %.3g", o.Name, d, limit)
		}
	}
}

// Ten steps of the standard StepGraph with each optimiser: the losses before
// each, the norms of the state after them. They amplify rounding errors, so
// convolutions are direct. Where a ReLU's operand comes within rounding of 0,
// runs part by more than the bound; another start, every weight off by some
// rounding errors, may then come out on the reference's side. No start does
// where a step is wrong.
func TestFloat32Steps(t *testing.T) {
	const starts = 8
	eachFixture(t, func(t *testing.T, f *fixture) {
		for _, name := range []string{"sgd", "nesterov", "adam", "adamw"} {
			opt, scalars := f.optimizer(t, name)
			g, err := StepGraph(f.model, Training{Method: "standard"}, opt, ThreatModel{}, f.get(t, "x").Shape[0], graph.F32)
			must(t, err)
			var wrong []string
			for start := range uint32(starts) {
				p := compile(t, g, "winograd")
				feed := f.feed(t, scalars)
				if start > 0 {
					nudge(feed, start)
				}
				p.give(feed)
				if wrong = f.tenSteps(t, p, name); len(wrong) == 0 {
					break
				}
			}
			for _, w := range wrong {
				t.Errorf("%s: %s", name, w)
			}
		}
	})
}

// nudge moves every state by a relative 1e-7 or so.
func nudge(feed interp.Feed, seed uint32) {
	s := rng.NewStream(seed, "nudge", 0)
	for _, key := range slices.Sorted(maps.Keys(feed)) {
		if x := feed[key]; strings.HasPrefix(key, "state ") && x.DType == graph.F32 {
			y := interp.New(x.DType, x.Shape, slices.Clone(x.Data)...)
			for i, v := range y.Data {
				y.Data[i] = interp.Round(x.DType, v*(1+1e-7*float64(s.Normal())))
			}
			feed[key] = y
		}
	}
}

// tenSteps runs the steps and says what differs from the fixture.
func (f *fixture) tenSteps(t *testing.T, p program, name string) (wrong []string) {
	for i, want := range f.get(t, name+"/loss").Data {
		p.run()
		if got := p.scalar("loss"); !(math.Abs(got-want) <= 1e-4) {
			wrong = append(wrong, fmt.Sprintf("the loss before step %d is %v, want %v", i, got, want))
		}
	}
	for key, want := range f.tensors {
		if s, ok := strings.CutPrefix(key, name+"/norm/"); ok {
			if got := norm(p.tensor(s)); !(math.Abs(got-want.Data[0]) <= 1e-4*want.Data[0]) {
				wrong = append(wrong, fmt.Sprintf("the norm of %s is %v, want %v", s, got, want.Data[0]))
			}
		}
	}
	return wrong
}

func norm(x *interp.Tensor) float64 {
	sum := 0.0
	for _, v := range x.Data {
		sum += v * v
	}
	return math.Sqrt(sum)
}

func (f *fixture) optimizer(t *testing.T, name string) (nn.Optimizer, map[string]float64) {
	opt := func(k string) float64 { return f.number(t, "optimisers", name, k) }
	scalars := map[string]float64{"lr": f.number(t, "lr"), "weight_decay": opt("weight_decay")}
	if strings.HasPrefix(name, "adam") {
		scalars["lr"] = f.number(t, "adam_lr")
		betas := f.settings["optimisers"].(map[string]any)[name].(map[string]any)["betas"].([]any)
		return nn.Adam{Beta1: betas[0].(float64), Beta2: betas[1].(float64), Eps: opt("eps"), Decay: nn.Decay{Decoupled: name == "adamw"}}, scalars
	}
	return nn.SGD{Momentum: opt("momentum"), Nesterov: name == "nesterov"}, scalars
}

// PGD's iterates against float64's, which TestOracleIterates holds to
// PyTorch's. An element whose gradient is rounding noise may take the other
// sign, in PyTorch's float32 too, and then moves the losses at this iterate by
// its share of the step: 1e-4 is asked of the iterates that equal the
// reference's.
func TestFloat32Iterates(t *testing.T) {
	eachFixture(t, func(t *testing.T, f *fixture) {
		for _, run := range []struct{ name, bn string }{{"pgd", "eval"}, {"pgd_train", "batch-update"}} {
			theirs := f.tensors["f32dist/"+run.name+"/flipped"]
			if theirs == nil { // no batch norm
				continue
			}
			g, p := f.attackGraph(t, f.threat(Linf), "start")
			mode, err := nn.ParseMode(run.bn)
			must(t, err)
			steps := f.get(t, run.name+"/loss").Shape[0] - 1
			for i := 1; i <= steps; i++ {
				x := Attack{Name: "pgd", Steps: i, BN: run.bn}.Build(p).X
				g.Output(fmt.Sprintf("x/%d", i), x)
				g.Output(fmt.Sprintf("loss/%d", i), nn.CrossEntropy(p.Forward(x, p.Buffers, mode).Logits, p.Y))
			}
			alpha := f.number(t, "pgd", "alpha")
			feed := f.feed(t, map[string]float64{"eps": f.number(t, "pgd", "eps"), "alpha": alpha})
			feed["input start"] = f.get(t, "pgd/start")
			ref := eval(t, g, feed).Outputs
			exe := compile(t, g)
			exe.give(feed)
			exe.run()
			for i := 1; i <= steps; i++ {
				flipped := share(exe.output(fmt.Sprintf("x/%d", i)), ref[fmt.Sprintf("x/%d", i)], alpha/2)
				if limit := max(0.001, theirs.Data[len(theirs.Data)-1]); flipped > limit {
					t.Errorf("%s: a share of %.2g of iterate %d is elsewhere; the limit is %.2g", run.name, flipped, i, limit)
				}
				loss := fmt.Sprintf("loss/%d", i)
				if d, _ := apart(exe.output(loss).Data, ref[loss].Data); flipped == 0 && !(d <= 1e-4) {
					t.Errorf("%s: the losses at iterate %d are off by %.2g", run.name, i, d)
				}
			}
		}
	})
}

// Steps along the gradient itself vary with it continuously: iterates of L2 PGD
// and the patch attack stay within 1e-4.
func TestFloat32Smooth(t *testing.T) {
	eachFixture(t, func(t *testing.T, f *fixture) {
		check := func(want string, threat ThreatModel, a Attack, eps, alpha float64) {
			g, p := f.attackGraph(t, threat, "start")
			feed := f.feed(t, map[string]float64{"eps": eps, "alpha": alpha})
			if feed["input start"] = f.tensors["pgd_l2/start"]; a.Name == "ascent" {
				feed["input start"] = f.get(t, "x")
			}
			g.Output("delta", a.Build(p).X.Sub(p.X))
			exe := compile(t, g)
			exe.give(feed)
			exe.run()
			if d := distance(exe.output("delta"), eval(t, g, feed).Outputs["delta"]); !(d <= 1e-4) {
				t.Errorf("%s is off by %.2g", want, d)
			}
		}
		if f.tensors["pgd_l2/start"] != nil { // left out of two files for size
			check("pgd_l2", f.threat(L2), Attack{Name: "pgd", Steps: 3}, f.number(t, "pgd_l2", "eps"), f.number(t, "pgd_l2", "alpha"))
		}
		if f.tensors["patch_l2/delta"] != nil {
			check("patch_l2", f.threat(PatchL2), Attack{Name: "ascent", Loss: "lse-margin"}, f.number(t, "patch_l2", "eps"), f.number(t, "patch_l2", "step"))
		}
	})
}

// share is the share of elements that differ by more than a limit.
func share(got, want *interp.Tensor, limit float64) float64 {
	n := 0
	for i, w := range want.Data {
		if !(math.Abs(got.Data[i]-w) <= limit) {
			n++
		}
	}
	return float64(n) / float64(len(want.Data))
}
