package adversarial

import (
	"temper/engine/graph"
	"temper/nn"
)

// A training method is an objective of the weights, to be descended, and what
// comes before it: the attack. What every method has (clipping, AWP, GradAlign,
// the optimiser) is in descend.

// objective computes what a step descends, with given weights and running
// statistics.
type objectiveOf func(params, buffers nn.Tree) pass

// pass is one evaluation of an objective.
type pass struct {
	loss    *graph.Node // scalar
	logits  *graph.Node // (N,k) at the inputs that are trained on
	buffers nn.Tree     // after the forward passes
}

func standardStep(s *step) outcome { return s.descend(s.crossEntropy(s.x), s.buffers) }

func adversarialStep(s *step) outcome {
	found := s.training.Attack.Build(s.problem())
	return s.descend(s.crossEntropy(found.X), found.Buffers)
}

// noisyStep is N-FGSM: the attack's ball is around x plus noise, and the result
// stays where the step ends. Both are clipped to the domain, as in the authors'
// code.
func noisyStep(s *step) outcome {
	found := s.noisyAttack()
	return s.descend(s.crossEntropy(found.X), found.Buffers)
}

func (s *step) noisyAttack() Solution {
	p := s.problem()
	p.X = s.threat.clip(p.X.Add(s.noise("training.noise").Mul(s.eps).MulC(s.training.Noise)))
	return s.training.Attack.Build(p)
}

// noise draws U[−1,1) for every element of x.
func (s *step) noise(site string) *graph.Node {
	return s.draw.Uniform(site, s.x.Shape()[1:]...).MulC(2).SubC(1)
}

// crossEntropy is the mean cross-entropy at x, with the labels smoothed if the
// settings say so.
func (s *step) crossEntropy(x *graph.Node) objectiveOf {
	return func(params, buffers nn.Tree) pass {
		out := s.model.Apply(params, buffers, x, nn.BatchUpdate)
		return pass{s.labelled(out.Logits).Mean(), out.Logits, out.Buffers}
	}
}

// labelled is the cross-entropy per sample (N).
func (s *step) labelled(logits *graph.Node) *graph.Node {
	return s.mixed(func(y *graph.Node) *graph.Node {
		if s.training.LabelSmoothing > 0 {
			return nn.SmoothedCrossEntropy(logits, y, s.training.LabelSmoothing)
		}
		return nn.CrossEntropy(logits, y)
	})
}

// startNoise is the deviation of the normal noise next to which trades and mart
// start, as in the authors' code.
const startNoise = 0.001

// nextToX is the attack's problem with that start, unless the settings ask for
// another one.
func (s *step) nextToX() Problem {
	p := s.problem()
	if !s.training.Attack.RandomStart {
		p.Start = s.threat.clip(s.x.Add(s.draw.Normal("training.start", s.x.Shape()[1:]...).MulC(startNoise)))
	}
	return p
}

// tradesStep trades accuracy for robustness: both forward passes are in training
// mode, that at x first.
func tradesStep(s *step) outcome {
	found := s.divergenceAttack()
	return s.descend(func(params, buffers nn.Tree) pass {
		at := s.model.Apply(params, buffers, s.x, nn.BatchUpdate)
		adv := s.model.Apply(params, at.Buffers, found.X, nn.BatchUpdate)
		loss := s.labelled(at.Logits).Mean().Add(nn.KLDivergence(at.Logits, adv.Logits).Mean().MulC(s.training.Beta))
		return pass{loss, adv.Logits, adv.Buffers}
	}, found.Buffers)
}

// divergenceAttack drives the outputs away from those at x.
func (s *step) divergenceAttack() Solution {
	p := s.nextToX()
	mode, _ := s.training.Attack.mode()
	clean := p.Forward(s.x, s.buffers, mode).Logits.StopGradient()
	p.Loss = func(out nn.Output, _ *graph.Node) *graph.Node { return nn.KLDivergence(clean, out.Logits) }
	return s.training.Attack.Build(p)
}

func martStep(s *step) outcome {
	found := s.training.Attack.Build(s.nextToX())
	return s.descend(func(params, buffers nn.Tree) pass {
		at := s.model.Apply(params, buffers, s.x, nn.BatchUpdate)
		adv := s.model.Apply(params, at.Buffers, found.X, nn.BatchUpdate)
		loss := nn.BoostedCrossEntropy(adv.Logits, s.y).Mean().Add(nn.WeightedDivergence(at.Logits, adv.Logits, s.y).Mean().MulC(s.training.Beta))
		return pass{loss, adv.Logits, adv.Buffers}
	}, found.Buffers)
}

// descend takes one step down an objective.
func (s *step) descend(f objectiveOf, buffers nn.Tree) outcome {
	at, shift := s.params, nn.Tree(nil)
	if s.training.AWP > 0 {
		shift = s.weightPerturbation(f, buffers)
		at = s.params.Map(func(i int, l nn.Leaf) *graph.Node { return l.Node.Add(shift[i].Node) })
	}
	p := f(at, buffers)
	if s.training.GradAlign > 0 {
		p.loss = p.loss.Add(s.misalignment(at, buffers).MulC(s.training.GradAlign))
	}
	end := outcome{buffers: p.buffers, loss: p.loss, correct: nn.CountCorrect(p.logits, s.labels())}
	end.params, end.slots, end.norm = s.update(at, s.slots, p.loss)
	if shift != nil {
		end.params = end.params.Map(func(i int, l nn.Leaf) *graph.Node { return l.Node.Sub(shift[i].Node) })
	}
	return end
}

// update is the optimiser's step on the gradient, clipped if the settings say so;
// norm is the gradient's before.
func (s *step) update(params, slots nn.Tree, loss *graph.Node) (nn.Tree, nn.Tree, *graph.Node) {
	grads := nn.Grad(loss, params)
	limit := s.training.ClipGrad
	clipped, norm := nn.ClipGradNorm(grads, loss.C(limit))
	if limit > 0 {
		grads = clipped
	}
	params, slots = s.opt.Step(params, grads, slots, s.rates)
	return params, slots, norm
}

// weightPerturbation is AWP's: along the objective's gradient, for each weight
// matrix or filter w of length awp·‖w‖; vectors (biases, batch norm) stay. The
// authors take one step of SGD on a copy of the network and scale its
// difference, which is the same. Running statistics do not see it.
func (s *step) weightPerturbation(f objectiveOf, buffers nn.Tree) nn.Tree {
	grads := nn.Grad(f(s.params, buffers).loss, s.params)
	return s.params.Map(func(i int, l nn.Leaf) *graph.Node {
		w, g := l.Node, grads[i].Node
		if w.Rank() < 2 {
			return w.C(0)
		}
		norm := func(x *graph.Node) *graph.Node { return x.Square().Sum().Sqrt() }
		return g.Mul(norm(w).Div(norm(g).AddC(1e-20)).MulC(s.training.AWP)).StopGradient()
	})
}

// misalignment is 1 − cos of the input gradients at x and at a random point of the
// L∞ ball, the mean over the samples that have both; as in the authors' code, where
// the network is so sure that one is 0 there is no angle. Both take part in the
// derivative (in the authors' code, next to a one-step attack, only the second);
// batch norm uses the batch's statistics and keeps none.
func (s *step) misalignment(params, buffers nn.Tree) *graph.Node {
	// Each gradient is brought to length 1 by itself: in float32 the product of
	// their squares is 0 long before they are. One whose largest element is below
	// least counts as 0, so that nothing divided by it overflows.
	const least = 1e-30
	direction := func(x *graph.Node) (unit, some *graph.Node) {
		logits := s.model.Apply(params, buffers, x, nn.Batch).Logits
		loss := s.mixed(func(y *graph.Node) *graph.Node { return nn.CrossEntropy(logits, y) }).Sum()
		g := nn.Grad(loss, nn.Tree{{Name: "x", Node: x}})[0].Node
		top := g.Abs().ReduceMaxKeep(1, 2, 3).StopGradient() // its derivative cancels
		some = top.Gt(top.C(least))
		g = g.Div(graph.Select(some, top, top.C(1)))
		return g.Div(g.Square().SumKeep(1, 2, 3).MaxC(0.5).Sqrt()), some.Reshape(-1) // of at least 1, or of nothing
	}
	a, someA := direction(s.x)
	b, someB := direction(s.x.Add(s.noise("training.align").Mul(s.eps)))
	both := someA.And(someB).Convert(graph.F32)
	cos := a.Mul(b).Sum(1, 2, 3).Mul(both)
	return both.Sub(cos).Sum().Div(both.Sum().MaxC(1))
}

// freeStep descends and ascends at once, several times on one batch: each
// backward pass gives the weights' gradient and the perturbation's, with AWP both
// at the perturbed weights. The perturbation is a state with a place for each
// place of the batch.
func freeStep(s *step) outcome {
	g := s.x.Graph()
	delta := g.State(SlotPrefix+"delta", graph.F32, s.x.Shape()...)
	trees := []nn.Tree{s.params, s.buffers, s.slots}
	carry := []*graph.Node{delta}
	for _, t := range trees {
		carry = append(carry, t.Nodes()...)
	}
	last, stacks := g.Loop(s.training.Replays, carry, nil, func(_ *graph.Node, c, _ []*graph.Node) (next, stack []*graph.Node) {
		r := *s
		d, rest := c[0], c[1:]
		for i, t := range []*nn.Tree{&r.params, &r.buffers, &r.slots} {
			*t = trees[i].With(rest)
			rest = rest[len(trees[i]):]
		}
		end := r.descend(r.crossEntropy(s.threat.clip(s.x.Add(d))), r.buffers)
		up := nn.Grad(end.loss, nn.Tree{{Name: "delta", Node: d}})[0].Node
		next = []*graph.Node{d.Add(up.Sign().Mul(s.eps)).Clamp(s.eps.Neg(), s.eps)}
		for _, t := range []nn.Tree{end.params, end.buffers, end.slots} {
			next = append(next, t.Nodes()...)
		}
		return next, []*graph.Node{end.loss, end.correct, end.norm}
	})
	g.Assign(delta, last[0])
	end, rest := outcome{}, last[1:]
	for i, t := range []*nn.Tree{&end.params, &end.buffers, &end.slots} {
		*t = trees[i].With(rest)
		rest = rest[len(trees[i]):]
	}
	final := func(i int) *graph.Node { return stacks[i].Slice(0, s.training.Replays-1, s.training.Replays).Reshape() }
	end.loss, end.correct, end.norm = final(0), final(1), final(2)
	return end
}
