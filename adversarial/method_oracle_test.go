package adversarial

import (
	"fmt"
	"strings"
	"testing"

	"temper/engine/graph"
	"temper/engine/interp"
	"temper/nn"
)

// Two steps of every method on a network with batch norm, against PyTorch in
// float64 (build/oracle/methods.py): the losses, the last adversarial inputs,
// weights and running statistics, and their moving average.
func TestOracleMethods(t *testing.T) {
	f := readFixture(t, "preactresnet10", "preactresnet18", reduced[5].config)
	f.read(t, "methods-preactresnet10")
	n := f.get(t, "x").Shape[0]
	num := func(name string) float64 { return f.number(t, name) }
	steps := int(num("steps"))
	pgd, fromX := Attack{Name: "pgd", Steps: steps, RandomStart: true}, Attack{Name: "pgd", Steps: steps}
	fgsm := Attack{Name: "fgsm"}
	for name, tr := range map[string]Training{
		"standard":            {Method: "standard"},
		"pgd-at":              {Method: "pgd-at", Attack: pgd, LabelSmoothing: num("label_smoothing")},
		"n-fgsm":              {Method: "n-fgsm", Attack: fgsm, Noise: num("noise")},
		"free":                {Method: "free", Attack: fgsm, Replays: int(num("replays"))},
		"trades":              {Method: "trades", Attack: fromX, Beta: num("trades_beta")},
		"mart":                {Method: "mart", Attack: fromX, Beta: num("mart_beta")},
		"pgd-at+awp":          {Method: "pgd-at", Attack: pgd, LabelSmoothing: num("label_smoothing"), AWP: num("awp")},
		"trades+awp":          {Method: "trades", Attack: fromX, Beta: num("trades_beta"), AWP: num("awp")},
		"standard+grad-align": {Method: "standard", GradAlign: num("grad_align")},
	} {
		t.Run(name, func(t *testing.T) {
			tr.Average = Average{Name: "ema", Decay: num("decay")}
			threat := f.threat(Linf)
			g, err := StepGraph(f.model, tr, nn.SGD{Momentum: num("momentum")}, threat, n, graph.F32)
			must(t, err)
			seen, x := xAdv(t, f, tr, threat, n)
			feed := f.feed(t, map[string]float64{"eps": num("eps"), "alpha": num("alpha"), "lr": num("lr"), "weight_decay": num("weight_decay")})
			feed["scalar seed"] = interp.New(graph.U32, nil, num("seed"))
			feed["input ids"] = interp.New(graph.U32, graph.Shape{n})
			for i := range n {
				feed["input ids"].Data[i] = float64(i)
			}
			for _, s := range g.Root().Nodes() {
				if key := "state " + s.Attrs().Name; s.Op() == graph.OpState && feed[key] == nil {
					feed[key] = interp.New(s.DType(), s.Shape())
				}
			}
			for step := range 2 {
				feed["scalar step"] = interp.New(graph.U32, nil, float64(step))
				feed["scalar average"] = interp.New(graph.F32, nil, tr.Average.Weight(nn.Progress{Step: step, PerEpoch: 2, Epochs: 1}))
				if seen && step == 1 {
					near(t, "x'", eval(t, x, feed).Outputs["x"], f.get(t, name+"/x"))
				}
				r := eval(t, g, feed)
				near(t, fmt.Sprint("loss of step ", step), r.Outputs["loss"], f.get(t, fmt.Sprintf("%s/loss/%d", name, step)))
				for key, v := range r.States {
					feed["state "+key] = v
				}
			}
			compared := 0
			for key, want := range f.tensors {
				if rest, ok := strings.CutPrefix(key, name+"/"); ok && feed["state "+rest] != nil {
					near(t, rest, feed["state "+rest], want)
					compared++
				}
			}
			if compared < 60 {
				t.Errorf("%d tensors were compared", compared)
			}
		})
	}
}

// xAdv is the graph of what a step trains on, for the methods that show it.
func xAdv(t *testing.T, f *fixture, tr Training, threat ThreatModel, n int) (bool, *graph.Graph) {
	if tr.Method == "standard" || tr.Method == "free" {
		return false, nil
	}
	g := graph.New("x'")
	in, err := declare(g, f.model, threat, n, graph.F32)
	must(t, err)
	s := newStep(g, in, f.model, tr.Resolve(threat), nn.SGD{})
	var found Solution
	switch tr.Method {
	case "n-fgsm":
		found = s.noisyAttack()
	case "trades":
		found = s.divergenceAttack()
	case "mart":
		found = tr.Attack.Build(s.nextToX())
	default:
		found = tr.Attack.Build(s.problem())
	}
	g.Output("x", found.X)
	return true, g
}
