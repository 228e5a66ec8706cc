package job

import (
	"fmt"
	"math"

	"temper/adversarial"
	"temper/datasets"
	"temper/engine"
	"temper/engine/graph"
)

// Warning is a reason to distrust an evaluation.
type Warning struct {
	Name   string `json:"name"`
	Text   string `json:"text"`   // what was seen, and what it means
	Remedy string `json:"remedy"` // what to do about it
}

// The limits are AutoAttack's.
const (
	randomLimit = 1e-4  // how far two passes may be apart, of outputs of length 1
	rangeLimit  = 1e-5  // how close to probabilities outputs may be
	blackLimit  = 0.002 // the share, and at least one example, that a search without gradients may take from what gradients left
)

// check looks at the network itself, on the first batch.
func (e *evaluation) check() ([]Warning, error) {
	stream, err := datasets.NewStream(e.examples, datasets.StreamOptions{BatchSize: e.eval.BatchSize, Epochs: 1})
	if err != nil {
		return nil, err
	}
	defer stream.Close()
	b, _ := stream.Next()
	g, err := adversarial.CheckGraph(e.model, b.N, inputType(e.examples.Info()))
	if err != nil {
		return nil, err
	}
	return checkGraph(e.dev, e.state, g, b, e.compile)
}

// checkGraph runs a graph of [adversarial.CheckGraph] on a batch.
func checkGraph(dev *engine.Device, st *engine.State, g *graph.Graph, b *datasets.Batch, o engine.Options) ([]Warning, error) {
	exe, err := dev.Compile(g, st, o)
	if err != nil {
		return nil, err
	}
	defer exe.Close()
	if err := feed(exe, b); err != nil {
		return nil, err
	}
	if err := exe.Set("eps", 0); err != nil {
		return nil, err
	}
	if err := exe.Set("alpha", 0); err != nil {
		return nil, err
	}
	var logits [2][]float32
	var zero int
	for seed := range logits {
		if err := exe.Set("seed", float64(seed)); err != nil {
			return nil, err
		}
		if err := exe.Run(); err != nil {
			return nil, err
		}
		z, err := fetch[float32](exe, "logits")
		if err != nil {
			return nil, err
		}
		logits[seed] = append(logits[seed], z...)
		flags, err := exe.FetchBytes("zero")
		if err != nil {
			return nil, err
		}
		zero = 0
		for _, f := range flags {
			zero += int(f)
		}
	}
	return judgeOutputs(logits, b.N, zero), nil
}

// judgeOutputs warns about outputs (N,k) of two passes, and gradients that are 0.
func judgeOutputs(logits [2][]float32, n, zero int) (list []Warning) {
	classes := len(logits[0]) / n
	apart, probabilities := 0.0, true
	for i := range n {
		a, b := logits[0][i*classes:][:classes], logits[1][i*classes:][:classes]
		var sum, la, lb, d float64
		for j, v := range a {
			x, y := float64(v), float64(b[j])
			sum, la, lb = sum+x, la+x*x, lb+y*y
			probabilities = probabilities && x > -rangeLimit && x < 1+rangeLimit
		}
		probabilities = probabilities && math.Abs(sum-1) < rangeLimit
		for j, v := range a {
			x := float64(v)/(math.Sqrt(la)+1e-10) - float64(b[j])/(math.Sqrt(lb)+1e-10)
			d += x * x
		}
		apart = max(apart, math.Sqrt(d))
	}
	if apart > randomLimit {
		list = append(list, Warning{"randomised-forward",
			fmt.Sprintf("two passes over the same inputs differ by %.2g: attacks chase noise, and the accuracy is luck", apart),
			"make the network deterministic, or take autoattack-rand and repeat it over seeds"})
	}
	if probabilities {
		list = append(list, Warning{"softmax-output",
			"the outputs are probabilities: their gradients vanish where the network is sure, and dlr sees other differences",
			"leave the softmax out: attacks want logits"})
	}
	if zero > 0 {
		list = append(list, Warning{"zero-gradients",
			fmt.Sprintf("the loss of %d of %d examples has a gradient of exactly 0: gradient attacks stand still there", zero, n),
			"look at square's number, try the losses dlr and lse-margin, and suspect masked gradients"})
	}
	return list
}

// shortSteps warns of attacks that cannot come far enough.
func shortSteps(e *EvalSettings) (list []Warning) {
	for _, entry := range e.entries {
		for _, a := range entry.attacks {
			if a.FallsShort(e.Threat) {
				list = append(list, Warning{"short-steps",
					fmt.Sprintf("%d steps of %v by %s add up to less than the radius, %v: much of the ball it never sees", a.Steps, a.StepSize, a.Name, e.Threat.Epsilon),
					"leave --step-size out, which then follows from the radius, or take more steps"})
			}
		}
	}
	return list
}

// blackBox warns where searches without gradients beat attacks with them.
func blackBox(r *Evaluation, p *protocol) []Warning {
	white := r.Clean // what attacks with gradients left
	for k, pl := range p.plans {
		for j, s := range pl.stages {
			if !s.attack.BlackBox() {
				white = min(white, r.left(k, j))
			}
		}
	}
	name, black := "", white
	for k, pl := range p.plans {
		for j, s := range pl.stages {
			// In a suite the search had only what gradients left.
			if n := r.left(k, j); s.attack.BlackBox() && n < black {
				name, black = s.attack.Name, n
			}
		}
	}
	if !p.gradients() || float64(white-black) <= max(blackLimit*float64(r.N), 1) {
		return nil
	}
	percent := 100 / float64(r.N)
	return []Warning{{"black-box-beats-white-box",
		fmt.Sprintf("%s, which uses no gradients, leaves %.1f %% where attacks with gradients left %.1f %%: the gradients are likely masked, and the robust accuracy too high", name, percent*float64(black), percent*float64(white)),
		"run square with more queries, attacks with more restarts and other losses, and an attack made for this defence"}}
}

// left is the number of examples that stand after a stage of an attack.
func (r *Evaluation) left(k, stage int) int {
	if a := r.Attacks[k]; a.Stages != nil {
		return a.Stages[stage].Robust
	}
	return r.Attacks[k].Robust
}

// gradients reports whether any attack uses them.
func (p *protocol) gradients() bool {
	for _, pl := range p.plans {
		for _, s := range pl.stages {
			if !s.attack.BlackBox() {
				return true
			}
		}
	}
	return false
}
