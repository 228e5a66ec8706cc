package adversarial

import (
	"math"

	"temper/engine/graph"
)

// level solves Σ_k m_k·min(τ, q_k) = c for τ, per row: breakpoints q and
// weights m (N,K), right-hand side c (N,1), result (N,1). The left side, as a
// function of τ, must not decrease. Where no τ is large enough, the result is
// the largest breakpoint. It is exact: the breakpoints are sorted, and the
// equation is linear between two of them.
//
// Every projection here is one of these: a simplex, a box and a ball, a box
// and a hyperplane.
func level(m, q, c *graph.Node) *graph.Node {
	order := q.ArgSort(1, false)
	q, m = q.Gather(1, order), m.Gather(1, order)
	k := q.Dim(1)
	weight := m.CumSum(1)
	filled := m.Mul(q).CumSum(1)
	slope := weight.Slice(1, k-1, k).Sub(weight) // beyond q_k, by the elements that are not yet full
	reached := filled.Add(q.Mul(slope))          // the left side at τ = q_k
	// The first k with reached ≥ c ends the piece; before it stand those below.
	below := reached.Lt(c).Convert(graph.I32).SumKeep(1)
	before := func(v, none *graph.Node) *graph.Node {
		at := v.Gather(1, below.Sub(below.C(1)))
		return graph.Select(below.Gt(below.C(0)), at, none)
	}
	rest := before(slope, weight.Slice(1, k-1, k))
	tau := c.Sub(before(filled, c.C(0))).Div(rest)
	return graph.Select(rest.Gt(rest.C(0)).And(below.Lt(below.C(float64(k)))), tau, q.Gather(1, below))
}

// projectL1 is the point nearest to v, in ℓ₂, that lies in the ℓ₁ ball and in
// the domain at once: δ = sign(d)·min(max(|d|−λ, 0), room), d = v − x, with the
// smallest λ ≥ 0 that makes its norm at most ε (Croce and Hein, ICML 2021).
func (b ball) projectL1(v *graph.Node) *graph.Node {
	d := v.Sub(b.x)
	size := d.Abs().Flatten(1) // (N,K)
	q, m := size, size.Graph().Const(size.DType(), []float64{1}, size.Shape()...)
	most := size // what each element can be at λ = 0
	if b.t.Domain == Unit {
		room := graph.Select(d.Gt(d.C(0)), b.x.Neg().AddC(1), b.x).MaxC(0).Flatten(1)
		most = size.Min(room)
		// min(max(s−λ,0), r) = max(s−λ,0) − max(s−r−λ,0): two breakpoints each.
		q, m = graph.Concat(1, size, size.Sub(room)), graph.Concat(1, m, m.Neg())
	}
	// Σ m·max(q−λ,0) = ε, written as Σ m·min(λ,q) = Σ m·q − ε.
	lambda := level(m, q, m.Mul(q).SumKeep(1).Sub(b.eps)).MaxC(0)
	lambda = graph.Select(most.SumKeep(1).Gt(b.eps), lambda, lambda.C(0))
	shrunk := size.Sub(lambda).MaxC(0).Min(most)
	// What rounding left outside the ball, far from it, is scaled.
	sum := shrunk.SumKeep(1)
	shrunk = shrunk.Mul(graph.Select(sum.Gt(b.eps), b.eps.Div(sum), sum.C(1)))
	delta := d.Sign().Mul(shrunk.Reshape(d.Shape()...))
	return b.t.clip(b.x.Add(delta))
}

// sparse is the sign of a gradient (N,C,H,W) where its magnitude reaches a
// threshold (N,1,1,1), divided by the number of these elements: a step of ℓ₁
// norm 1, or 0.
func sparse(grad, threshold *graph.Node) *graph.Node {
	d := graph.Select(grad.Abs().Ge(threshold), grad.Sign(), grad.C(0))
	return d.Div(positive(d.Abs().SumKeep(1, 2, 3)))
}

// The constants of Auto-PGD in L1 (Croce and Hein, ICML 2021).
const (
	l1Period  = 0.04 // share of the iterations between two checks
	l1First   = 0.2  // share of elements that the first steps move if nothing has moved yet
	l1Shrink  = 1.5  // a check divides the step size, or the support, by it
	l1MinStep = 10   // the smallest step is the largest, ε, divided by it
	l1Fewer   = 0.95 // a support below this part of the last one starts again from the best point
)

// l1Phases are the radii, in ε, through which Auto-PGD comes down in L1, with
// their shares of the iterations; the last phase has what remains.
var l1Phases = []struct{ radius, share float64 }{{3, 0.3}, {2, 0.3}, {1, 0.4}}

// apgdL1 is a round of Auto-PGD in L1. Only points of the last phase count:
// the others lie outside the ball. As published, a random start is x plus
// standard normal noise, projected to the first phase's ball: a point of its
// surface that moves few elements.
func (s *search) apgdL1(round *graph.Node, p point) (end apgdState) {
	left := s.attack.Steps
	worst := p.worst
	from := s.start(round)
	random := s.Start == nil && s.attack.RandomStart
	if random {
		draw := s.Draw
		draw.Iter = round.Convert(graph.U32)
		from = s.X.Add(draw.Normal("attack.start", s.X.Shape()[1:]...))
	}
	for i, phase := range l1Phases {
		steps := min(int(math.Ceil(phase.share*float64(s.attack.Steps))), left-1) // the last phase has one at least
		if i == len(l1Phases)-1 {
			steps = left
		}
		if left -= steps; steps == 0 {
			continue
		}
		first := end.x == nil
		wide := *s
		wide.ball = s.Threat.around(s.X, s.ball.eps.MulC(phase.radius))
		p.x, p.worst = wide.ball.project(from), worst
		a := wide.apgdBegin(p)
		a.step = wide.ball.eps.BroadcastTo(a.step.Shape()...)
		a.moved = wide.countMoved(a.best)
		a.support = a.moved.DivC(l1Shrink * float64(s.X.Size()/s.X.Dim(0)))
		if first && !random && s.Start == nil {
			a.support, a.moved = a.support.MulC(0).AddC(l1First), a.moved.MulC(0).AddC(float64(s.X.Size()/s.X.Dim(0)))
		}
		period := max(int(l1Period*float64(steps)), 1)
		a = repeat(steps, a, func(i *graph.Node, a apgdState) apgdState {
			i = i.AddC(1)
			check := i.Sub(i.Div(i.C(float64(period))).Mul(i.C(float64(period)))).Eq(i.C(0))
			return wide.apgdStepL1(check, a)
		})
		from, end = a.best, a
	}
	return end
}

// countMoved is the number of elements (N,1,1,1) in which a point differs from
// the inputs by more than rounding.
func (s *search) countMoved(x *graph.Node) *graph.Node {
	return x.Sub(s.X).Abs().Gt(x.C(1e-6)).Convert(graph.F32).SumKeep(1, 2, 3)
}

// apgdStepL1 is an iteration, after which there is a check or not.
func (s *search) apgdStepL1(check *graph.Node, a apgdState) apgdState {
	size := float64(a.x.Size() / a.x.Dim(0))
	sorted := a.grad.Abs().Flatten(1)
	sorted = sorted.Gather(1, sorted.ArgSort(1, false))
	rank := a.support.Neg().AddC(1).MulC(size).AddC(1e-3).ClampC(0, size-1).Convert(graph.I32)
	threshold := sorted.Gather(1, rank.Reshape(-1, 1))
	s.apgdMove(&a, s.ball.project(a.x.Add(sparse(a.grad, column4(threshold)).Mul(a.step))))

	now := s.countMoved(a.best)
	back := now.Div(positive(a.moved)).Lt(a.x.C(l1Fewer)).And(check)
	shorter := a.step.DivC(l1Shrink).Max(s.ball.eps.DivC(l1MinStep))
	a.step = graph.Select(back, s.ball.eps, graph.Select(check, shorter, a.step))
	a.support = graph.Select(check, now.DivC(l1Shrink*size), a.support)
	a.moved = graph.Select(check, now, a.moved)
	a.x, a.grad = graph.Select(back, a.best, a.x), graph.Select(back, a.gradAt, a.grad)
	return a
}
