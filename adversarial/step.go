package adversarial

import (
	"fmt"
	"slices"

	"temper/engine/graph"
	"temper/nn"
)

// SlotPrefix stands before the names of the optimiser's states.
const SlotPrefix = "optimizer/"

// StepGraph builds a whole training step as one graph, for a batch of N:
// decoding, augmentation, attack, descent.
//
//	inputs   x (N,C,H,W) of u8, decoded to [0,1], or of f32; y (N) of i32;
//	         ids (N) of u32, the samples' numbers in the data set
//	scalars  seed, step (u32); lr, weight_decay, eps, alpha (f32); momentum (f32),
//	         of an optimiser that is cycled; average (f32), what the new weights
//	         weigh in their average
//	states   the model's, by their names; the optimiser's, under SlotPrefix; the
//	         averaged ones, if the settings ask for them, under AveragePrefix
//	outputs  loss (f32, the mean), correct (i32, right at the inputs that were
//	         trained on), grad_norm (f32, before clipping), finite (i32, 1 if
//	         loss and grad_norm are)
//
// The scalars are declared by every method, so that a trainer may set them
// without asking which one it runs. The descent's forward pass is in mode
// batch-update.
func StepGraph(m *nn.Model, t Training, opt nn.Optimizer, threat ThreatModel, batch int, input graph.DType) (*graph.Graph, error) {
	if err := t.Validate(); err != nil {
		return nil, err
	}
	if t.Attacks() {
		if err := threat.Validate(); err != nil {
			return nil, err
		}
		if err := t.fits(threat, m); err != nil {
			return nil, err
		}
	}
	g := graph.New(m.Name + " " + t.Method)
	in, err := declare(g, m, threat, batch, input)
	if err != nil {
		return nil, err
	}
	s := newStep(g, in, m, t.Resolve(threat), opt)
	end := methods[t.Method].build(s)
	nn.Assign(s.params, end.params)
	nn.Assign(s.buffers, end.buffers)
	nn.Assign(s.slots, end.slots)
	if t.Average.On() {
		s.average(end)
	}
	g.Output("loss", end.loss)
	g.Output("correct", end.correct)
	g.Output("grad_norm", end.norm)
	g.Output("finite", finite(end.loss).And(finite(end.norm)).Convert(graph.I32))
	return g, g.Err()
}

// newStep declares what a step has beside the inputs, and decodes and augments
// the images.
func newStep(g *graph.Graph, in inputs, m *nn.Model, t Training, opt nn.Optimizer) *step {
	s := &step{inputs: in, model: m, training: t, opt: opt}
	s.draw.Step = g.Scalar("step", graph.U32)
	s.rates = nn.Rates{LR: g.Scalar("lr", graph.F32), Decay: g.Scalar("weight_decay", graph.F32), Momentum: g.Scalar("momentum", graph.F32)}
	s.weight = g.Scalar("average", graph.F32)
	s.slots = opt.Declare(g, SlotPrefix, s.params)
	s.x = decode(t.Augment.Build(s.x, s.draw))
	if t.Mixup > 0 {
		s.mixup()
	}
	return s
}

// inputs is what a graph of a batch starts from.
type inputs struct {
	x, y            *graph.Node
	params, buffers nn.Tree
	threat          ThreatModel
	eps, alpha      *graph.Node
	draw            graph.Draw // without Step
}

func declare(g *graph.Graph, m *nn.Model, threat ThreatModel, batch int, input graph.DType) (inputs, error) {
	if input != graph.U8 && input != graph.F32 {
		return inputs{}, fmt.Errorf("inputs of type %v: want u8 or f32", input)
	}
	if input == graph.U8 && threat.Domain == Unbounded {
		return inputs{}, fmt.Errorf("inputs of type u8 are images: their domain is %q, not %q", Unit, Unbounded)
	}
	if batch < 1 {
		return inputs{}, fmt.Errorf("a batch of %d samples: want at least 1", batch)
	}
	in := inputs{
		x:      g.Input("x", input, slices.Concat(graph.Shape{batch}, m.Input)...),
		y:      g.Input("y", graph.I32, batch),
		threat: threat,
		eps:    g.Scalar("eps", graph.F32),
		alpha:  g.Scalar("alpha", graph.F32),
		draw: graph.Draw{Seed: g.Scalar("seed", graph.U32), IDs: g.Input("ids", graph.U32, batch),
			Iter: g.Const(graph.U32, []float64{0})},
	}
	in.params, in.buffers = m.Declare(g, "")
	return in, nil
}

// problem is the attack's task on the inputs.
func (in inputs) problem(m *nn.Model) Problem {
	return Problem{Forward: Of(m, in.params), Buffers: in.buffers, X: in.x, Y: in.y,
		Threat: in.threat, Eps: in.eps, Alpha: in.alpha, Draw: in.draw}
}

// step is a training step being built.
type step struct {
	inputs
	model    *nn.Model
	training Training
	opt      nn.Optimizer
	slots    nn.Tree
	rates    nn.Rates
	weight   *graph.Node // of the new weights in the average: f32 scalar
	mixture  *mixture    // nil without mixup
}

// problem is the attack's task on the batch: with mixup, to drive up the mixed
// loss.
func (s *step) problem() Problem {
	p := s.inputs.problem(s.model)
	if s.mixture != nil {
		p.Loss = func(out nn.Output, _ *graph.Node) *graph.Node {
			return s.mixed(func(y *graph.Node) *graph.Node { return objective(s.training.Attack.Loss, nil, out, y, nil) })
		}
	}
	return p
}

// outcome is what a method makes of a step.
type outcome struct {
	params, buffers, slots nn.Tree
	loss                   *graph.Node // scalar
	correct                *graph.Node // i32 scalar
	norm                   *graph.Node // of the gradient, before clipping: scalar
}
