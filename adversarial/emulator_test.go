package adversarial

import (
	"errors"
	"math"
	"os"
	"slices"
	"strings"
	"testing"

	_ "temper/cuda"
	"temper/cuda/emulator"
	"temper/engine"
	"temper/engine/graph"
	"temper/engine/interp"
	"temper/engine/optest"
	"temper/engine/rng"
	"temper/nn"
)

// suite is a network of a few weights, a batch for it, and the two devices that
// are to agree on it.
type suite struct {
	t             *testing.T
	model         *nn.Model
	cpu, emulator optest.Runner
	feed          interp.Feed
}

const suiteBatch = 3

func newSuite(t *testing.T) *suite {
	t.Helper()
	err := emulator.Available()
	if errors.Is(err, emulator.ErrNoCompiler) && !slices.Contains(strings.Split(os.Getenv("TEMPER_REQUIRE"), ","), "cxx") {
		t.Skip(err)
	}
	must(t, err)
	s := &suite{t: t, feed: interp.Feed{}}
	s.model, err = nn.Lookup("mnist-wong", nn.Config{Input: graph.Shape{1, 8, 8}, Classes: 5, Width: 2, Hidden: 6})
	must(t, err)
	for spec, run := range map[string]*optest.Runner{"cpu": &s.cpu, "emulator": &s.emulator} {
		dev, err := engine.Open(spec, engine.DeviceOptions{Threads: 1})
		must(t, err)
		t.Cleanup(func() { dev.Close() })
		*run = optest.On(dev, engine.Options{})
	}
	random := rng.NewStream(1, "suite", 0)
	fill := func(x *interp.Tensor, low, high float32) *interp.Tensor {
		for i := range x.Data {
			x.Data[i] = float64(low + (high-low)*random.Uniform())
		}
		return x
	}
	for _, p := range s.model.Specs() {
		s.feed["state "+p.Name] = fill(interp.New(p.DType, p.Shape), -0.4, 0.4)
	}
	s.feed["input x"] = fill(interp.New(graph.F32, graph.Shape{suiteBatch, 1, 8, 8}), 0, 1)
	s.feed["input y"] = interp.New(graph.I32, graph.Shape{suiteBatch}, 0, 1, 2)
	s.feed["input target"] = interp.New(graph.I32, graph.Shape{suiteBatch}, 3, 3, 4)
	s.feed["input ids"] = interp.New(graph.U32, graph.Shape{suiteBatch}, 7, 1, 4)
	s.feed["scalar seed"] = interp.New(graph.U32, nil, 5)
	s.feed["scalar step"] = interp.New(graph.U32, nil, 2)
	for name, v := range map[string]float64{"eps": 0.2, "alpha": 0.1, "lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4, "average": 0.25} {
		s.feed["scalar "+name] = interp.New(graph.F32, nil, float64(float32(v)))
	}
	return s
}

// both runs a graph on both devices. States that the suite has no values for
// start from 0.
func (s *suite) both(g *graph.Graph) (want, got *interp.Result) {
	s.t.Helper()
	must(s.t, g.Err())
	for _, n := range g.Root().Nodes() {
		if key := interp.Key(n); n.Op() == graph.OpState && s.feed[key] == nil {
			s.feed[key] = interp.New(n.DType(), n.Shape())
		}
	}
	want, err := s.cpu(g, s.feed)
	must(s.t, err)
	got, err = s.emulator(g, s.feed)
	must(s.t, err)
	return want, got
}

// differ is the share of elements that differ by more than a rounding error makes
// them differ: a step along a gradient that is nearly 0 may go either way.
func differ(want, got *interp.Tensor) float64 {
	n := 0
	for i, w := range want.Data {
		if !(math.Abs(got.Data[i]-w) <= 1e-4*(1+math.Abs(w))) {
			n++
		}
	}
	return float64(n) / float64(len(want.Data))
}

// TestEmulatorAttacks runs every attack in every norm that it knows, a few steps
// of each, in one program on the emulated GPU, and finds what the CPU finds.
func TestEmulatorAttacks(t *testing.T) {
	s := newSuite(t)
	clean, err := EvalGraph(s.model, nil, ThreatModel{}, suiteBatch, graph.F32)
	must(t, err)
	right, err := s.cpu(clean, s.feed)
	must(t, err)
	s.feed["input y"] = right.Outputs["clean_pred"] // so that every hit is an attack's
	g := graph.New("attacks")
	params, buffers := s.model.Declare(g, "")
	in := func(name string, dt graph.DType, shape ...int) *graph.Node { return g.Input(name, dt, shape...) }
	p := Problem{Forward: Of(s.model, params), Buffers: buffers,
		X: in("x", graph.F32, suiteBatch, 1, 8, 8), Y: in("y", graph.I32, suiteBatch),
		Eps: g.Scalar("eps", graph.F32), Alpha: g.Scalar("alpha", graph.F32),
		Draw: graph.Draw{Seed: g.Scalar("seed", graph.U32), IDs: in("ids", graph.U32, suiteBatch), Step: g.Scalar("step", graph.U32), Iter: g.Const(graph.U32, []float64{0})}}
	for _, norm := range Norms() {
		for _, name := range AttackNames() {
			a, err := LookupAttack(name)
			must(t, err)
			if a.Steps > 1 {
				a.Steps = 3
			}
			p := p
			if attacks[name].kind == minimal { // what these find must lie within ε to be seen
				p.Eps = g.Const(graph.F32, []float64{map[Norm]float64{Linf: 1, L2: 8, L1: 64}[norm]})
				p.Alpha, a.Steps = g.Const(graph.F32, []float64{1}), 8
			}
			if a.Targets > 0 {
				a.Targets = 2
			}
			p.Threat = ThreatModel{Norm: norm, Epsilon: MustEpsilon("0.2"), Domain: Unit}
			if norms := attacks[name].norms; norms == nil || slices.Contains(norms, norm) {
				g.Output(name+"/"+string(norm), a.Build(p).X)
			}
		}
	}
	want, got := s.both(g)
	for name, x := range want.Outputs {
		if share := differ(x, got.Outputs[name]); share > 0.02 {
			t.Errorf("%s: %.1f %% of the elements differ", name, 100*share)
		}
		if differ(s.feed["input x"], x) == 0 {
			t.Errorf("%s moves nothing", name)
		}
	}
}

// TestEmulatorMethods takes one step of every training method, and of what may be
// combined with them, on the emulated GPU: the weights are the CPU's.
func TestEmulatorMethods(t *testing.T) {
	s := newSuite(t)
	threat := ThreatModel{Norm: Linf, Epsilon: MustEpsilon("0.2"), Domain: Unit}
	trainings := map[string]Training{}
	for _, name := range MethodNames() {
		tr, err := LookupTraining(name)
		must(t, err)
		tr.Attack.Steps, tr.Replays = min(tr.Attack.Steps, 2), min(tr.Replays, 2)
		trainings[name] = tr
	}
	all := trainings["pgd-at"]
	all.AWP, all.GradAlign, all.Mixup, all.LabelSmoothing, all.ClipGrad = 0.01, 0.2, 0.4, 0.1, 1
	all.Augment = Augment{Crop: 1, Flip: true, Cutout: 3}
	all.Average = Average{Name: "ema"}
	trainings["with everything"] = all
	for name, tr := range trainings {
		t.Run(name, func(t *testing.T) {
			s := &suite{t, s.model, s.cpu, s.emulator, s.feed}
			g, err := StepGraph(s.model, tr, nn.SGD{Cycled: true}, threat, suiteBatch, graph.F32)
			must(t, err)
			want, got := s.both(g)
			for state, x := range want.States {
				limit := 0.0
				if strings.HasSuffix(state, "delta") { // free's, of signed steps
					limit = 0.02
				}
				if share := differ(x, got.States[state]); share > limit {
					t.Errorf("%s: %.1f %% of the elements differ", state, 100*share)
				}
			}
			for _, name := range []string{"loss", "grad_norm"} {
				if w, g := want.Outputs[name].Data[0], got.Outputs[name].Data[0]; !(math.Abs(g-w) <= 1e-4*math.Abs(w)) {
					t.Errorf("%s is %v, on the CPU %v", name, g, w)
				}
			}
		})
	}
}
