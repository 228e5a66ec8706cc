package adversarial

import (
	"temper/engine/graph"
)

// The constants of Auto-PGD (Croce and Hein, ICML 2020): the momentum α, the
// share of successful steps ρ, the first step in units of ε, and the schedule
// of the checkpoints w_j: the first period and what each loses, in shares of
// the iterations, and the shortest.
const (
	apgdMomentum = 0.75
	apgdRho      = 0.75
	apgdStep     = 2
	apgdFirst    = 0.22
	apgdLess     = 0.03
	apgdShortest = 0.06
)

// checkpoints gives, for each iteration, the length of the period that ends
// with it, or 0.
func checkpoints(steps int) []float64 {
	part := func(share float64) int { return max(int(share*float64(steps)), 1) }
	at := make([]float64, steps)
	period := part(apgdFirst)
	for i := period; i <= steps; i += period {
		at[i-1] = float64(period)
		period = max(period-part(apgdLess), part(apgdShortest))
	}
	return at
}

// apgdState is a run of Auto-PGD. Per sample: (N), and (N,1,1,1) where noted.
type apgdState struct {
	point               // the iterate, and the worst point
	before  *graph.Node // the iterate before it (N,C,H,W)
	grad    *graph.Node // at the iterate
	loss    *graph.Node // of the last step, also after a return to the best point
	best    *graph.Node // the iterate of largest loss (N,C,H,W)
	gradAt  *graph.Node // the gradient there
	top     *graph.Node // the loss there
	step    *graph.Node // (N,1,1,1)
	rises   *graph.Node // steps since the last checkpoint that raised the loss
	topThen *graph.Node // top at the last checkpoint
	halved  *graph.Node // bool: the last checkpoint halved the step
	support *graph.Node // L1 only: elements that a step moves, a share (N,1,1,1)
	moved   *graph.Node // L1 only: elements that the best point had moved at the last check
}

func (a *apgdState) fields() []**graph.Node {
	f := append(a.point.fields(), &a.before, &a.grad, &a.loss, &a.best, &a.gradAt, &a.top, &a.step, &a.rises, &a.topThen, &a.halved)
	if a.support != nil {
		f = append(f, &a.support, &a.moved)
	}
	return f
}

// apgd is a round of Auto-PGD. In L1 it comes down through larger balls, each
// phase starting from the best point of the one before.
func (s *search) apgd(round *graph.Node, p point) point {
	if s.Threat.Norm != L1 {
		p.x = s.start(round)
		a := s.apgdBegin(p)
		table := p.x.Graph().Const(graph.F32, checkpoints(s.attack.Steps), s.attack.Steps)
		return repeat(s.attack.Steps, a, func(i *graph.Node, a apgdState) apgdState {
			return s.apgdStep(i, pickScalar(table, i), a)
		}).point
	}
	return s.apgdL1(round, p).point
}

// pickScalar is table[i], a scalar.
func pickScalar(table, i *graph.Node) *graph.Node { return table.Gather(0, i.Reshape(1)).Reshape() }

// apgdBegin evaluates the network at the start.
func (s *search) apgdBegin(p point) apgdState {
	g, n := p.x.Graph(), p.x.Dim(0)
	a := apgdState{point: p}
	s.apgdEvaluate(&a)
	a.before, a.best, a.gradAt, a.top, a.topThen = a.x, a.x, a.grad, a.loss, a.loss
	a.step = s.ball.eps.MulC(apgdStep).BroadcastTo(n, 1, 1, 1)
	a.rises = g.Const(graph.F32, []float64{0}, n)
	a.halved = g.Const(graph.Bool, []float64{1}, n) // no verdict on the first period's improvement
	return a
}

// apgdEvaluate sets gradient and loss at the iterate, and judges it.
func (s *search) apgdEvaluate(a *apgdState) {
	a.x = a.x.StopGradient()
	out := s.at(a.x)
	a.worst = s.judge(a.point, out)
	a.loss = s.objective(out)
	a.grad = s.gradient(a.loss, a.x)
}

// apgdStep is iteration i, with which a period of that length ends (0: none).
func (s *search) apgdStep(i, period *graph.Node, a apgdState) apgdState {
	z := s.ball.project(a.x.Add(s.Threat.steepest(a.grad).Mul(a.step)))
	alpha := graph.Select(i.Gt(i.C(0)), a.x.C(apgdMomentum), a.x.C(1))
	next := a.x.Add(z.Sub(a.x).Mul(alpha)).Add(a.x.Sub(a.before).Mul(alpha.Neg().AddC(1)))
	a.before = a.x
	s.apgdMove(&a, s.ball.project(next))

	// A checkpoint halves the step and goes back to the best point where too few
	// steps rose, or where the step was not halved last time and yet the best
	// loss is the same.
	few := a.rises.Le(period.MulC(apgdRho))
	stuck := a.halved.Not().And(a.topThen.Ge(a.top))
	now := period.Gt(period.C(0))
	halve := few.Or(stuck).And(now)
	back := column4(halve)
	a.step = graph.Select(back, a.step.MulC(0.5), a.step)
	a.x, a.grad = graph.Select(back, a.best, a.x), graph.Select(back, a.gradAt, a.grad)
	a.halved = graph.Select(now, halve, a.halved)
	a.topThen = graph.Select(now, a.top, a.topThen)
	a.rises = graph.Select(now, a.rises.C(0), a.rises)
	return a
}

// column4 makes one value per sample (N) one of (N,1,1,1).
func column4(n *graph.Node) *graph.Node { return n.Reshape(-1, 1, 1, 1) }

// apgdMove goes to x and notes what it finds there.
func (s *search) apgdMove(a *apgdState, x *graph.Node) {
	was := a.loss
	a.x = x
	s.apgdEvaluate(a)
	a.rises = a.rises.Add(a.loss.Gt(was).Convert(graph.F32))
	better := a.loss.Gt(a.top)
	a.best = graph.Select(column4(better), a.x, a.best)
	a.gradAt = graph.Select(column4(better), a.grad, a.gradAt)
	a.top = graph.Select(better, a.loss, a.top)
}
