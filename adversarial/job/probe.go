package job

import (
	"context"
	"slices"

	"temper/adversarial"
	"temper/adversarial/run"
	"temper/datasets"
	"temper/engine/graph"
)

// The alarms' attacks. Together they cost what 110 passes forwards over the probe
// do: 3 % of an epoch of Wong et al.'s MNIST recipe, less than 1 % of one of PGD-10
// on CIFAR-10.
const (
	probeSteps   = 10 // of PGD
	probeQueries = 50 // of Square
	probeDraws   = 20 // of the blind search
)

// probes are the attacks that the armed alarms make, by the names of the numbers
// that they are for.
func (s *Settings) probes(dims graph.Shape) (list []namedAttack) {
	if len(s.armed()) == 0 {
		return nil
	}
	if !s.Training.Attacks() { // only the predictions count
		return []namedAttack{{"single", adversarial.Attack{Name: "random-uniform", Steps: 1}}}
	}
	own := s.Training.Attack
	single := adversarial.Attack{Name: "fgsm", Loss: own.Loss}
	if own.Steps == 1 {
		single = own
		single.BN, single.Restarts = "", 0
	}
	list = append(list, namedAttack{"single", single},
		namedAttack{"multi", adversarial.Attack{Name: "pgd", Steps: probeSteps, RandomStart: true, Loss: own.Loss}},
		namedAttack{"surface", adversarial.Attack{Name: "random-uniform", Steps: probeDraws, Loss: own.Loss}})
	const smallest = 5 // side of an image in which Square's windows have room
	n, roomy := s.Threat.Norm, min(dims[1], dims[2]) >= smallest
	if n == adversarial.Linf || roomy && (n == adversarial.L2 || n == adversarial.L1) {
		list = append(list, namedAttack{"search", adversarial.Attack{Name: "square", Steps: probeQueries}})
	}
	return list
}

type namedAttack struct {
	name   string
	attack adversarial.Attack
}

// prober measures what the alarms watch, on the weights that are trained.
type prober struct {
	examples datasets.Source
	evals    map[string]*evaluator
	order    []string
}

// newProber prepares the attacks; nil if no alarm is armed.
func (t *trainer) newProber(in datasets.Info) (*prober, error) {
	s := t.settings
	list := s.probes(t.model.Input)
	if len(list) == 0 {
		return nil, nil
	}
	n := min(s.Alarms.Probe, t.source.Len())
	examples, err := datasets.Take(t.source, n)
	if err != nil {
		return nil, err
	}
	p := &prober{examples: examples, evals: map[string]*evaluator{}}
	for _, a := range list {
		e, err := newEvaluator(t.dev, t.state, t.model, in, s.Threat, a.attack.Resolve(s.Threat), s.Seed, n, t.compile)
		if err != nil {
			p.close()
			return nil, err
		}
		p.evals[a.name], p.order = e, append(p.order, a.name)
	}
	return p, nil
}

func (p *prober) close() {
	for _, e := range p.evals {
		e.close()
	}
}

// probed is what one attack left of the probe, which is one batch.
type probed struct {
	right []bool    // with the attack
	loss  []float32 // with it
	clean []int32   // predictions without it
	y     []int32
}

func (p *prober) attack(ctx context.Context, name string) (*probed, error) {
	out := &probed{}
	_, err := p.evals[name].run(ctx, p.examples, 0, func(int) {}, func(a *attacked) error {
		for i, y := range a.Labels {
			out.right = append(out.right, a.Clean[i] == y && a.Adv[i] == y)
		}
		out.loss, out.clean, out.y = append(out.loss, a.Loss...), append(out.clean, a.Clean...), append(out.y, a.Labels...)
		return nil
	})
	return out, err
}

// read takes the measurements, at a share of ε: that which training has come to
// in its warm-up.
func (p *prober) read(ctx context.Context, r *reading, share float64) error {
	all := map[string]*probed{}
	for _, name := range p.order {
		err := p.evals[name].scale(share)
		if err != nil {
			return err
		}
		if all[name], err = p.attack(ctx, name); err != nil {
			return err
		}
	}
	r.predictions(all["single"], p.examples.Info().Classes)
	multi := all["multi"]
	if multi == nil {
		return nil
	}
	r.single, r.multi = shareRight(all["single"]), shareRight(multi)
	r.surface = shareOf(len(multi.y), func(i int) bool { return all["surface"].loss[i] > multi.loss[i]+lossTolerance })
	if s := all["search"]; s != nil {
		r.search = shareOf(len(multi.y), func(i int) bool { return multi.right[i] && !s.right[i] })
	}
	return nil
}

// lossTolerance is how much larger a loss must be to count: where a network is
// sure of itself everything is rounding.
const lossTolerance = 1e-3

// predictions finds the class that is predicted most often.
func (r *reading) predictions(p *probed, classes []string) {
	counts := make([]int, len(classes))
	for _, c := range p.clean {
		counts[c]++
	}
	top := 0
	for c, n := range counts {
		if n > counts[top] {
			top = c
		}
	}
	r.class = classes[top]
	r.predicted = float64(counts[top]) / float64(len(p.y))
	r.labelled = shareOf(len(p.y), func(i int) bool { return int(p.y[i]) == top })
}

func shareRight(p *probed) float64 { return shareOf(len(p.y), func(i int) bool { return p.right[i] }) }

func shareOf(n int, f func(i int) bool) float64 {
	count := 0
	for i := range n {
		if f(i) {
			count++
		}
	}
	return float64(count) / float64(n)
}

// fields are the reading's numbers for metrics.jsonl, and whether each armed
// alarm's condition holds.
func (r *reading) fields(armed, holds []alarm, attacks bool) []run.Field {
	fields := []run.Field{{Name: "probe/top_class", Value: r.predicted}}
	if attacks {
		fields = append(fields, run.Field{Name: "probe/single_step", Value: r.single}, run.Field{Name: "probe/multi_step", Value: r.multi},
			run.Field{Name: "probe/search_beats", Value: r.search}, run.Field{Name: "probe/surface_beats", Value: r.surface})
	}
	for _, a := range armed {
		held := 0.0
		if slices.ContainsFunc(holds, a.is) {
			held = 1
		}
		fields = append(fields, run.Field{Name: "alarm/" + a.name, Value: held})
	}
	return fields
}
