package features

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	"temper/adversarial"
	"temper/datasets"
	"temper/engine"
	"temper/engine/graph"
	"temper/engine/plan"
	"temper/nn"
)

// The trainings that are compared.
const (
	Standard    = "standard"
	Adversarial = "adversarial"
)

// Trainings lists them.
func Trainings() []string { return []string{Standard, Adversarial} }

// lab is a device with the programs of one experiment: for any seed it trains
// and measures. It is used by one goroutine.
type lab struct {
	s     Settings
	dev   *engine.Device
	state *engine.State
	init  *engine.Executable
	step  map[string]*engine.Program // by training
	probe *engine.Executable
}

// newLab compiles the programs for a device of one thread: seeds run side by
// side instead.
func newLab(s Settings) (*lab, error) {
	dev, err := engine.Open("cpu", engine.DeviceOptions{Threads: 1})
	if err != nil {
		return nil, err
	}
	l := &lab{s: s, dev: dev, state: dev.NewState(), step: map[string]*engine.Program{}}
	return l, l.compile()
}

func (l *lab) close() {
	if l == nil {
		return
	}
	for _, e := range []*engine.Executable{l.init, l.probe} {
		if e != nil {
			e.Close()
		}
	}
	for _, p := range l.step {
		p.Close()
	}
	l.state.Free()
	l.dev.Close()
}

func (l *lab) compile() error {
	m, err := l.s.model()
	if err != nil {
		return err
	}
	o, err := l.s.compileOptions()
	if err != nil {
		return err
	}
	g, err := l.s.precise(m.InitGraph())
	if err != nil {
		return err
	}
	if l.init, err = l.dev.Compile(g, l.state, o); err != nil {
		return err
	}
	for _, training := range Trainings() {
		l.step[training] = l.dev.NewProgram(l.state, func(batch int) (*graph.Graph, error) {
			return l.s.stepGraph(m, training, batch)
		}, o)
		if _, err := l.step[training].For(l.s.Batch); err != nil {
			return err
		}
		if err := l.set(l.step[training].Set, map[string]float64{"lr": l.s.LR, "weight_decay": 0}); err != nil {
			return err
		}
	}
	if g, err = l.s.probeGraph(m); err != nil {
		return err
	}
	if l.probe, err = l.dev.Compile(g, l.state, o); err != nil {
		return err
	}
	search := adversarial.SearchAttack().Alpha(l.s.threat()).Float64()
	return l.set(l.probe.Set, map[string]float64{"search_alpha": search, "beta": l.s.Beta})
}

// set writes scalars of the step block, and those of the adversary.
func (l *lab) set(one func(string, float64) error, scalars map[string]float64) error {
	scalars["eps"] = l.s.Eps.Float64()
	scalars["alpha"] = l.s.attack().Alpha(l.s.threat()).Float64()
	return setAll(one, scalars)
}

func setAll(one func(string, float64) error, scalars map[string]float64) error {
	for name, v := range scalars {
		if err := one(name, v); err != nil {
			return err
		}
	}
	return nil
}

// stepGraph is a step of one of the trainings.
func (s Settings) stepGraph(m *nn.Model, training string, batch int) (*graph.Graph, error) {
	t := adversarial.Training{Method: "standard"}
	if training == Adversarial {
		t = adversarial.Training{Method: "pgd-at", Attack: s.attack()}
	}
	g, err := adversarial.StepGraph(m, t, nn.SGD{}, s.threat(), batch, graph.F32)
	if err != nil {
		return nil, err
	}
	return s.precise(g)
}

// precise is the graph in the precision asked for.
func (s Settings) precise(g *graph.Graph) (*graph.Graph, error) {
	if s.Precision == float64Everywhere {
		return graph.Retype(g, graph.F32, graph.F64)
	}
	return g, nil
}

// probeGraph measures the whole test set at once.
func (s Settings) probeGraph(m *nn.Model) (*graph.Graph, error) {
	g, err := adversarial.FeatureGraph(adversarial.FeatureProbe{
		Model: m, Threat: s.threat(), Trained: s.attack(), Search: adversarial.SearchAttack(),
	}, s.TestN)
	if err != nil {
		return nil, err
	}
	return s.precise(g)
}

// run trains on the data of a seed and measures on the way. It calls done with
// the number of steps since its last call.
func (l *lab) run(ctx context.Context, seed uint32, training string, done func(steps int)) (*Trial, error) {
	train, test, err := l.s.data().Generate(seed)
	if err != nil {
		return nil, err
	}
	if err := l.init.Set("seed", float64(seed)); err != nil {
		return nil, err
	}
	if err := l.init.Run(); err != nil {
		return nil, err
	}
	if err := l.probe.Set("seed", float64(seed)); err != nil {
		return nil, err
	}
	if err := feed(l.probe, probeInputs(test)); err != nil {
		return nil, err
	}
	stream, err := datasets.NewStream(train, datasets.StreamOptions{BatchSize: l.s.Batch, Shuffle: l.s.Batch < l.s.TrainN, Seed: seed})
	if err != nil {
		return nil, err
	}
	defer stream.Close()
	program := l.step[training]
	if err := program.Set("seed", float64(seed)); err != nil {
		return nil, err
	}
	trial, measured := &Trial{Seed: seed, Training: training}, 0
	for step := 0; ; step++ {
		if step%l.s.Every == 0 || step == 1 || step == l.s.Steps {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			r, err := l.measure(step)
			if err != nil {
				return nil, fmt.Errorf("%s training, seed %d, step %d: %w", training, seed, step, err)
			}
			trial.Readings = append(trial.Readings, *r)
			done(step - measured)
			measured = step
		}
		if step == l.s.Steps {
			return trial, nil
		}
		if err := l.train(program, stream, step); err != nil {
			return nil, fmt.Errorf("%s training, seed %d, step %d: %w", training, seed, step, err)
		}
	}
}

// train takes one step.
func (l *lab) train(p *engine.Program, stream *datasets.Stream, step int) error {
	b, ok := stream.Next()
	if !ok {
		panic("BUG: features: an endless stream ended")
	}
	defer b.Release()
	e, err := p.For(b.N)
	if err != nil {
		return err
	}
	if err := e.Set("step", float64(step)); err != nil {
		return err
	}
	if err := feed(e, map[string][]byte{"x": engine.Bytes(b.F32), "y": engine.Bytes(b.Labels), "ids": engine.Bytes(b.IDs)}); err != nil {
		return err
	}
	if err := e.Run(); err != nil {
		return err
	}
	if finite, err := e.Scalar("finite"); err != nil || finite == 1 {
		return err
	}
	return fmt.Errorf("the loss or its gradient is not finite: lower lr (%v)", l.s.LR)
}

func feed(e *engine.Executable, inputs map[string][]byte) error {
	for name, b := range inputs {
		if err := e.FeedBytes(name, b); err != nil {
			return err
		}
	}
	return nil
}

// probeInputs are the inputs of FeatureGraph for a whole set.
func probeInputs(test *datasets.Patches) map[string][]byte {
	ids := make([]uint32, test.Len())
	for i := range ids {
		ids[i] = test.ID(i)
	}
	return map[string][]byte{
		"x": engine.Bytes(test.Values().F32), "y": engine.Bytes(test.Labels()), "ids": engine.Bytes(ids),
		"u": engine.Bytes(flat32(test.U)), "v": engine.Bytes(flat32(test.V)),
		"robust": engine.Bytes(slices.Concat(test.Robust...)),
	}
}

func flat32(rows [][]float64) []float32 {
	var out []float32
	for _, row := range rows {
		for _, v := range row {
			out = append(out, float32(v))
		}
	}
	return out
}

// measure runs the probe. A perturbation outside the threat model is an error:
// no number comes from an attack that broke the rules.
func (l *lab) measure(step int) (*Reading, error) {
	if err := l.probe.Run(); err != nil {
		return nil, err
	}
	r := &Reading{Step: step, Classes: map[string][]float64{}, Values: map[string]float64{}}
	for _, o := range l.probe.Plan().Outputs {
		values, err := floats(l.probe, o.Name)
		if err != nil {
			return nil, err
		}
		if len(o.Shape) == 0 {
			r.Values[o.Name] = values[0]
		} else {
			r.Classes[o.Name] = values
		}
	}
	return r, l.s.threat().Check(r.Values["size"], nil)
}

// floats copies an output of the last run.
func floats(e *engine.Executable, name string) ([]float64, error) {
	b, err := e.FetchBytes(name)
	if err != nil {
		return nil, err
	}
	outputs := e.Plan().Outputs
	t := outputs[slices.IndexFunc(outputs, func(o plan.Output) bool { return o.Name == name })].DType
	out := make([]float64, len(b)/t.Size())
	for i := range out {
		if t == graph.F64 {
			out[i] = math.Float64frombits(binary.LittleEndian.Uint64(b[8*i:]))
		} else {
			out[i] = float64(math.Float32frombits(binary.LittleEndian.Uint32(b[4*i:])))
		}
	}
	return out, nil
}
