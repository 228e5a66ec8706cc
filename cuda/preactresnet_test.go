//go:build cgo && !windows

package cuda_test

import (
	"math"
	"strings"
	"testing"

	"temper/adversarial"
	"temper/engine"
	"temper/engine/graph"
	"temper/engine/interp"
	"temper/engine/optest"
	"temper/engine/plan"
	"temper/engine/rng"
	"temper/nn"
)

// TestPreActResNet takes a step of adversarial training of a narrow PreActResNet. In
// float32 the weights are the CPU's but for rounding; in bf16, with the kernels of
// sm_80 and with those of sm_90, they are as far from them as bf16's rounding makes
// them.
func TestPreActResNet(t *testing.T) {
	spec := testDevice(t)
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	const batch = 4
	model, err := nn.Lookup("preactresnet18", nn.Config{Input: graph.Shape{3, 16, 16}, Classes: 5, Width: 16, Blocks: []int{1, 1, 1, 1}})
	ok(err)
	training, err := adversarial.LookupTraining("pgd-at")
	ok(err)
	training.Attack.Steps = 2

	threat := adversarial.ThreatModel{Norm: adversarial.Linf, Epsilon: adversarial.MustEpsilon("0.1"), Domain: adversarial.Unit}
	g, err := adversarial.StepGraph(model, training, nn.SGD{Momentum: 0.9}, threat, batch, graph.F32)
	ok(err)
	feed := interp.Feed{
		"input y":   interp.New(graph.I32, graph.Shape{batch}, 0, 1, 2, 4),
		"input ids": interp.New(graph.U32, graph.Shape{batch}, 7, 1, 4, 9),
	}
	random := rng.NewStream(1, "preactresnet", 0)
	scalars := map[string]float64{"seed": 5, "step": 2, "eps": 0.1, "alpha": 0.05, "lr": 0.1, "weight_decay": 5e-4}
	for _, n := range g.Root().Nodes() {
		key := interp.Key(n)
		if feed[key] != nil || n.Op() != graph.OpInput && n.Op() != graph.OpState && n.Op() != graph.OpScalar {
			continue
		}
		x := interp.New(n.DType(), n.Shape())
		fan := max(n.Size()/max(append(n.Shape(), 1)[0], 1), 1)
		for i := range x.Data {
			switch {
			case n.Op() == graph.OpScalar:
				x.Data[i] = float64(float32(scalars[n.Attrs().Name]))
			case n.Op() == graph.OpInput:
				x.Data[i] = float64(random.Uniform())
			case len(n.Shape()) >= 2: // filters, of He's size
				x.Data[i] = float64(float32(math.Sqrt(6/float64(fan))) * (2*random.Uniform() - 1))
			case strings.HasSuffix(n.Attrs().Name, ".weight"), strings.HasSuffix(n.Attrs().Name, "running_var"):
				x.Data[i] = 1
			}
		}
		feed[key] = x
	}
	kernels := 0 // of conv_sm90.h
	run := func(spec, options string, precision graph.Precision) *interp.Result {
		t.Helper()
		t.Setenv("TEMPER_EMULATOR", options)
		dev, err := engine.Open(spec, engine.DeviceOptions{Threads: 1})
		ok(err)
		defer dev.Close()
		r, err := optest.On(dev, engine.Options{Precision: precision})(g, feed)
		ok(err)
		st := dev.NewState()
		defer st.Free()
		e, err := dev.Compile(g, st, engine.Options{Precision: precision})
		ok(err)
		defer e.Close()
		kernels = 0
		var visit func(steps []plan.Step)
		visit = func(steps []plan.Step) {
			for i := range steps {
				if l := steps[i].Loop; l != nil {
					visit(l.Steps)
				}
				for _, k := range e.Kernels(&steps[i]) {
					kernels += strings.Count(k.Source, "_sm90<")
				}
			}
		}
		visit(e.Plan().Steps)
		return r
	}
	want := run("cpu", "", graph.PrecisionFloat32)
	// distance is how far the filters are from want's, relative to the step.
	distance := func(got *interp.Result) float64 {
		var far, step float64
		for name, w := range want.States {
			for i, v := range w.Data {
				if before := feed["state "+name]; len(w.Shape) == 4 {
					far += (got.States[name].Data[i] - v) * (got.States[name].Data[i] - v)
					step += (before.Data[i] - v) * (before.Data[i] - v)
				}
			}
		}
		return math.Sqrt(far / step)
	}
	exact := distance(run(spec, "", graph.PrecisionFloat32))
	t.Logf("relative distance of float32 from the CPU's: %.5f", exact)
	if !(exact <= 0.01) {
		t.Errorf("in float32 the weights are %v from the CPU's, relative to the step", exact)
	}
	if spec != "emulator" { // it has one architecture
		now := run(spec, "", graph.PrecisionBF16)
		t.Logf("relative distance of bf16: %.4f, of %d kernels of sm_90", distance(now), kernels)
		if w, g := want.Outputs["loss"].Data[0], now.Outputs["loss"].Data[0]; !(math.Abs(g-w) <= 0.05*math.Abs(w)) || !(distance(now) <= 1) {
			t.Errorf("in bf16 the loss is %v, in float32 %v, the weights %v away", g, w, distance(now))
		}
		return
	}
	old := run("emulator", "capability=80", graph.PrecisionBF16)
	if kernels != 0 {
		t.Errorf("on sm_80 %d kernels are those of sm_90", kernels)
	}
	now := run("emulator", "capability=90", graph.PrecisionBF16)
	if kernels < 25 { // in the attack, and twice in the step, of nine convolutions
		t.Errorf("on sm_90 %d kernels are its own", kernels)
	}
	t.Logf("relative distances from float32: %.4f on sm_80, %.4f on sm_90, of %d", distance(old), distance(now), kernels)
	if d := distance(now); !(d <= 1.2*distance(old)) {
		t.Errorf("the weights are %v from float32's, relative to the step: on sm_80 %v", d, distance(old))
	}
	if w, g := old.Outputs["loss"].Data[0], now.Outputs["loss"].Data[0]; !(math.Abs(g-w) <= 1e-3*math.Abs(w)) {
		t.Errorf("the loss is %v, on sm_80 %v", g, w)
	}
}
