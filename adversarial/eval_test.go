package adversarial

import (
	"math"
	"slices"
	"strings"
	"testing"

	"temper/engine/graph"
	"temper/engine/interp"
	"temper/nn"
)

// An evaluation on the CPU reports what the reference interpreter finds, and
// its parts fit together: predictions with labels, the perturbation with its
// size and with ε.
func TestEvalGraph(t *testing.T) {
	const n = 6
	for _, c := range []struct {
		model  string
		attack Attack
		threat ThreatModel
		input  graph.DType
	}{
		{"preactresnet18", Attack{Name: "pgd", Steps: 3, RandomStart: true, Restarts: 2}, imageThreat, graph.U8},
		{"cifar-small", Attack{Name: "fgsm"}, imageThreat, graph.U8},
		{"mnist-wong", Attack{Name: "pgd", Steps: 3, RandomStart: true, Best: true, Loss: "cw"}, ThreatModel{L2, MustEpsilon("1.5"), Unit}, graph.F32},
		{"patchcnn", Attack{Name: "ascent", Loss: "lse-margin"}, ThreatModel{PatchL2, MustEpsilon("0.6"), Unbounded}, graph.F32},
		{"mnist-madry", Attack{Name: "pgd", Steps: 2, Targeted: true, Loss: "dlr"}, ThreatModel{Linf, MustEpsilon("0.3"), Unit}, graph.F32},
	} {
		t.Run(c.model, func(t *testing.T) {
			m := tiny(t, c.model)
			g, err := EvalGraph(m, &c.attack, c.threat, n, c.input)
			must(t, err)
			feed := with(startOf(t, m, 4), batch(m, n, c.input, 4), interp.Feed{
				"scalar seed":  interp.New(graph.U32, nil, 1),
				"scalar eps":   interp.New(graph.F32, nil, float64(float32(c.threat.Epsilon.Float64()))),
				"scalar alpha": interp.New(graph.F32, nil, float64(float32(c.attack.Alpha(c.threat).Float64()))),
			})
			if c.attack.Targeted {
				feed["input given"] = interp.New(graph.I32, graph.Shape{n}, 1, 2, 3, 4, 5, 6)
			}
			p := compile(t, g)
			p.give(feed)
			p.run()
			ref := eval(t, g, feed).Outputs
			for _, o := range p.Plan().Outputs {
				// A sign that flips on rounding noise may move one element.
				if d := distance(p.output(o.Name), ref[o.Name]); !(d <= 1e-2) {
					t.Errorf("%s is off by %.2g", o.Name, d)
				}
			}
			y, x := feed["input y"].Data, feed["input x"]
			for _, prefix := range []string{"clean", "adv"} {
				pred, correct := p.output(prefix+"_pred").Data, p.output(prefix+"_correct").Data
				for i := range n {
					if (pred[i] == y[i]) != (correct[i] == 1) {
						t.Errorf("%s: sample %d of class %v: predicted %v, correct %v", prefix, i, y[i], pred[i], correct[i])
					}
				}
			}
			adv := p.output("x_adv")
			moved := make([]float64, n)
			for i, v := range adv.Data {
				from := x.Data[i]
				if c.input == graph.U8 {
					from = float64(float32(from / 255))
				}
				moved[i*n/len(adv.Data)] = max(moved[i*n/len(adv.Data)], math.Abs(v-from))
			}
			for i, size := range p.output("norm").Data {
				if !c.threat.Allows(size) || size < moved[i]-1e-6 || moved[i] == 0 || c.threat.Norm == Linf && math.Abs(size-moved[i]) > 1e-6 {
					t.Errorf("sample %d moves by at most %v an element, and its perturbation has size %v", i, moved[i], size)
				}
			}
			if !c.attack.Targeted && mean(p.output("adv_loss")) <= mean(p.output("clean_loss")) {
				t.Errorf("the attack lowers the loss from %v to %v", p.output("clean_loss").Data, p.output("adv_loss").Data)
			}
		})
	}
}

func mean(x *interp.Tensor) float64 {
	sum := 0.0
	for _, v := range x.Data {
		sum += v
	}
	return sum / float64(len(x.Data))
}

func TestEvalClean(t *testing.T) {
	g, err := EvalGraph(tiny(t, "mnist-wong"), nil, ThreatModel{}, 3, graph.U8)
	must(t, err)
	var names []string
	for _, o := range g.Outputs() {
		names = append(names, o.Name)
	}
	if want := []string{"clean_pred", "clean_correct", "clean_loss"}; !slices.Equal(names, want) {
		t.Errorf("outputs %v, want %v", names, want)
	}
}

func TestEvalErrors(t *testing.T) {
	m := tiny(t, "mnist-wong")
	for want, a := range map[string]Attack{
		`unknown attack "cgp"`:                    {Name: "cgp"},
		`bn = "batch-update" belongs to training`: {Name: "pgd", BN: "batch-update"},
	} {
		if _, err := EvalGraph(m, &a, imageThreat, 4, graph.U8); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: want %q", err, want)
		}
	}
	if _, err := EvalGraph(m, &Attack{Name: "fgsm"}, ThreatModel{Norm: Linf, Domain: Unit}, 4, graph.U8); err == nil || !strings.Contains(err.Error(), "eps is not set") {
		t.Errorf("no ε: %v", err)
	}
}

// The named losses are nn's, and each has a form that goes towards a target.
func TestLosses(t *testing.T) {
	g := graph.New("losses")
	z, y, target := g.Input("z", graph.F32, 4, 5), g.Input("y", graph.I32, 4), g.Input("target", graph.I32, 4)
	out := nn.Output{Logits: z}
	own := func(out nn.Output, y *graph.Node) *graph.Node { return nn.Pick(out.Logits, y) }
	want := map[string][2]*graph.Node{
		"ce":         {nn.CrossEntropy(z, y), nn.CrossEntropy(z, target).Neg()},
		"cw":         {nn.CWMargin(z, y), nn.CWMargin(z, target).Neg()},
		"dlr":        {nn.DLR(z, y), nn.TargetedDLR(z, y, target)},
		"lse-margin": {nn.LSEMargin(z, y), nn.LSEMargin(z, target).Neg()},
	}
	for _, name := range LossNames() {
		if objective(name, nil, out, y, nil) != want[name][0] || objective(name, nil, out, y, target) != want[name][1] {
			t.Errorf("%s is another loss", name)
		}
		if objective(name, own, out, y, nil) != own(out, y) || objective(name, own, out, y, target) != own(out, target).Neg() {
			t.Errorf("%s goes before an own loss", name)
		}
	}
	must(t, g.Err())
}
