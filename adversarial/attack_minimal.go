package adversarial

import (
	"math"

	"temper/engine/graph"
	"temper/nn"
)

// Attacks that look for the nearest point that the network gets wrong. What
// they find counts where it is within ε.

// nearest is the nearest such point met so far, per sample.
type nearest struct {
	x    *graph.Node // (N,C,H,W)
	size *graph.Node // of its perturbation (N); +∞ where there is none
}

func (n *nearest) fields() []**graph.Node { return []**graph.Node{&n.x, &n.size} }

func (s *search) none() nearest {
	return nearest{s.X, s.X.Graph().Const(graph.F32, []float64{math.Inf(1)}, s.X.Dim(0))}
}

// note takes x where it is a hit and nearer than what was known.
func (s *search) note(n nearest, x, hit *graph.Node) nearest {
	size := s.Threat.Size(x.Sub(s.X))
	better := hit.And(size.Lt(n.size))
	return nearest{graph.Select(column4(better), x, n.x), graph.Select(better, size, n.size)}
}

// settle ends a round: a sample takes the nearest point if it is within ε and
// nearer than what earlier rounds found. The loss is minus its distance.
func (s *search) settle(p point, n nearest) point {
	hit := n.size.Le(s.ball.eps)
	loss := n.size.Neg()
	better := hit.And(p.worst.hit.Not().Or(loss.Gt(p.worst.loss)))
	p.worst = &worst{
		x:    graph.Select(column4(better), n.x, p.worst.x),
		hit:  p.worst.hit.Or(hit),
		loss: graph.Select(better, loss, p.worst.loss),
	}
	p.x = p.worst.x
	return p
}

// boundary is the linearised boundary that an attack goes to from a point: the
// difference of logits f = z_k − z_y (N), negative while the network is right,
// and its gradient w (N,C,H,W). k is the target, or the class whose boundary is
// nearest in the threat model's norm.
func (s *search) boundary(x *graph.Node, z *graph.Node) (f, w *graph.Node) {
	difference := func(k *graph.Node) (f, w *graph.Node) {
		f = nn.Pick(z, k).Sub(nn.Pick(z, s.Y))
		return f, s.gradient(f, x)
	}
	if s.Target != nil {
		return difference(s.Target)
	}
	classes, n := z.Dim(1), x.Dim(0)
	best := closest{
		distance: x.Graph().Const(graph.F32, []float64{math.Inf(1)}, n),
		f:        x.Graph().Const(graph.F32, []float64{0}, n),
		w:        x.Graph().Const(graph.F32, []float64{0}, x.Shape()...),
	}
	best = repeat(classes, best, func(k *graph.Node, c closest) closest {
		class := k.BroadcastTo(n)
		f, w := difference(class)
		distance := f.Abs().Div(s.dual(w).AddC(1e-12))
		better := distance.Lt(c.distance).And(class.Ne(s.Y))
		return closest{
			graph.Select(better, distance, c.distance),
			graph.Select(better, f, c.f),
			graph.Select(column4(better), w, c.w),
		}
	})
	return best.f, best.w
}

// closest is the nearest boundary among the classes looked at.
type closest struct{ distance, f, w *graph.Node }

func (c *closest) fields() []**graph.Node { return []**graph.Node{&c.distance, &c.f, &c.w} }

// dual is the norm of a gradient that is dual to the threat model's: (N).
func (s *search) dual(w *graph.Node) *graph.Node {
	switch s.Threat.Norm {
	case Linf:
		return w.Abs().Sum(1, 2, 3)
	case L1:
		return w.Abs().ReduceMax(1, 2, 3)
	}
	return s.Threat.Size(w)
}

// toPlane is the smallest δ, in the threat model's norm, with ⟨w,δ⟩ = c (N) and
// x + δ in the domain. Where the domain has no such point it is the farthest
// that w allows.
func (s *search) toPlane(x, w, c *graph.Node) *graph.Node {
	top := largest(w, []int{1, 2, 3})
	w, c = w.Div(top), column4(c).Div(top)
	w, c = w.Mul(graph.Select(c.Lt(c.C(0)), c.C(-1), c.C(1))), c.Abs()
	sign, size := w.Sign(), w.Abs()
	if s.Threat.Domain == Unbounded {
		switch s.Threat.Norm {
		case Linf:
			return sign.Mul(c.Div(positive(size.SumKeep(1, 2, 3))))
		case L1:
			return sparse(w, size.ReduceMaxKeep(1, 2, 3)).Mul(c) // the largest element is 1
		}
		return w.Mul(c.Div(positive(w.Square().SumKeep(1, 2, 3))))
	}
	room := graph.Select(w.Gt(w.C(0)), x.Neg().AddC(1), x).MaxC(0)
	flat := func(n *graph.Node) *graph.Node { return n.Flatten(1) }
	right := c.Reshape(-1, 1)
	switch s.Threat.Norm {
	case Linf: // Σ |w|·min(τ, room) = c
		return sign.Mul(column4(level(flat(size), flat(room), right)).Min(room))
	case L1: // fill up the room of the elements with the largest |w| first
		order := flat(size).ArgSort(1, true)
		value := flat(size.Mul(room)).Gather(1, order)
		left := right.Sub(value.CumSum(1).Sub(value)).MaxC(0).Min(value)
		taken := left.Gather(1, order.ArgSort(1, false)).Reshape(x.Shape()...)
		return sign.Mul(taken.Div(positive(size)).Min(room))
	}
	// Σ |w|·min(τ·|w|, room) = c
	tau := level(flat(size.Square()), flat(room.Div(positive(size))), right)
	return sign.Mul(column4(tau).Mul(size).Min(room))
}

// The constants of FAB (Croce and Hein, ICML 2020): the largest weight of the
// step from the inputs, the extrapolation beyond the boundary, and how far a
// hit goes back towards the inputs.
const (
	fabAlpha = 0.1
	fabEta   = 1.05
	fabBeta  = 0.9
)

// fabState is a run of FAB.
type fabState struct {
	nearest
	at *graph.Node // the iterate (N,C,H,W)
}

func (f *fabState) fields() []**graph.Node { return append(f.nearest.fields(), &f.at) }

// fab is a round of FAB. The first run starts at the inputs, restarts at a
// random point of half the radius.
func (s *search) fab(round *graph.Node, p point) point {
	from := s.X
	if s.Start != nil {
		from = s.Start
	} else if s.attack.Restarts > 1 {
		targets := s.attack.Rounds(max(s.classes(), 2)) / s.attack.Restarts
		draw := s.Draw
		draw.Iter = round.Convert(graph.U32)
		half := s.Threat.around(s.X, s.ball.eps.MulC(0.5))
		from = graph.Select(round.Lt(round.C(float64(targets))), s.X, half.project(half.start(draw)))
	}
	f := repeat(s.attack.Steps, fabState{s.none(), from}, func(_ *graph.Node, f fabState) fabState { return s.fabStep(f) })
	return s.settle(p, f.nearest)
}

// fabStep projects the iterate and the inputs on the linearised boundary, mixes
// the two, and takes note of a hit.
func (s *search) fabStep(f fabState) fabState {
	x := f.at.StopGradient()
	df, w := s.boundary(x, s.at(x).Logits)
	fromAt := s.toPlane(x, w, df.Neg())
	fromX := s.toPlane(s.X, w, w.Mul(x.Sub(s.X)).Sum(1, 2, 3).Sub(df))
	size := func(delta *graph.Node) *graph.Node { return column4(s.Threat.Size(delta)).MaxC(1e-8) }
	a, b := size(fromAt), size(fromX)
	alpha := a.Div(a.Add(b)).ClampC(0, fabAlpha)
	next := x.Add(fromAt.MulC(fabEta)).Mul(alpha.Neg().AddC(1)).Add(s.X.Add(fromX.MulC(fabEta)).Mul(alpha))
	next = s.Threat.clip(next)
	hit := s.hit(s.at(next))
	return fabState{
		nearest: s.note(f.nearest, next, hit),
		at:      graph.Select(column4(hit), s.X.Add(next.Sub(s.X).MulC(fabBeta)), next),
	}
}

// DeepFool goes beyond the boundary: by a share of all steps, and, as in the
// authors' code, with each step by a length.
const (
	deepfoolOvershoot = 0.02
	deepfoolBeyond    = 1e-4
)

// deepfoolState is a run of DeepFool.
type deepfoolState struct {
	nearest
	delta *graph.Node // the sum of the steps (N,C,H,W)
}

func (d *deepfoolState) fields() []**graph.Node { return append(d.nearest.fields(), &d.delta) }

// deepfool is DeepFool: steps to the nearest linearised boundary until the
// sample is hit. Points are clipped to the domain.
func (s *search) deepfool(_ *graph.Node, p point) point {
	x := func(delta *graph.Node) *graph.Node {
		return s.Threat.clip(s.X.Add(delta.MulC(1 + deepfoolOvershoot)))
	}
	begin := deepfoolState{s.none(), s.X.MulC(0)}
	if s.Start != nil {
		begin.delta = s.Start.Sub(s.X)
	}
	d := repeat(s.attack.Steps, begin, func(_ *graph.Node, d deepfoolState) deepfoolState {
		at := x(d.delta).StopGradient()
		z := s.at(at)
		hit := s.hit(z)
		d.nearest = s.note(d.nearest, at, hit)
		f, w := s.boundary(at, z.Logits)
		step := s.Threat.steepest(w).Mul(column4(f.Abs().Div(positive(s.dual(w))).AddC(deepfoolBeyond)))
		d.delta = graph.Select(column4(hit), d.delta, d.delta.Add(step))
		return d
	})
	at := x(d.delta)
	return s.settle(p, s.note(d.nearest, at, s.hit(s.at(at))))
}

// The constants of Carlini and Wagner's L2 attack: the steps of the search for
// the weight c, where it begins, and what no weight exceeds.
const (
	cwSearches = 9
	cwFirst    = 1e-3
	cwMost     = 1e10
)

// cwState is the search for the weight of the margin in the loss.
type cwState struct {
	nearest
	c, lo, hi *graph.Node // (N)
}

func (c *cwState) fields() []**graph.Node { return append(c.nearest.fields(), &c.c, &c.lo, &c.hi) }

// cwRun minimises the loss for one weight, with Adam over v: x' = (tanh v + 1)/2.
type cwRun struct {
	nearest
	v, m, u *graph.Node // (N,C,H,W)
	hit     *graph.Node // bool (N): this weight has led to a hit
}

func (c *cwRun) fields() []**graph.Node { return append(c.nearest.fields(), &c.v, &c.m, &c.u, &c.hit) }

// carlini is Carlini and Wagner's attack: ‖x'−x‖² + c·max(−margin, 0) is
// minimised for weights c found by bisection.
func (s *search) carlini(_ *graph.Node, p point) point {
	g, n := s.X.Graph(), s.X.Dim(0)
	all := func(v float64) *graph.Node { return g.Const(graph.F32, []float64{v}, n) }
	from := s.X
	if s.Start != nil {
		from = s.Start
	}
	t := from.MulC(2).SubC(1).MulC(1 - 1e-6)
	start := t.Log1p().Sub(t.Neg().Log1p()).MulC(0.5) // atanh
	found := repeat(cwSearches, cwState{s.none(), all(cwFirst), all(0), all(cwMost)}, func(_ *graph.Node, b cwState) cwState {
		r := cwRun{b.nearest, start, s.X.MulC(0), s.X.MulC(0), g.Const(graph.Bool, []float64{0}, n)}
		r = repeat(s.attack.Steps, r, func(i *graph.Node, r cwRun) cwRun { return s.cwStep(i, b.c, r) })
		b.nearest = r.nearest
		b.hi = graph.Select(r.hit, b.hi.Min(b.c), b.hi)
		b.lo = graph.Select(r.hit, b.lo, b.lo.Max(b.c))
		bounded := b.hi.Lt(all(cwMost / 10))
		b.c = graph.Select(bounded, b.lo.Add(b.hi).MulC(0.5), graph.Select(r.hit, b.c, b.c.MulC(10)))
		return b
	})
	return s.settle(p, found.nearest)
}

// cwStep is a step of Adam (β 0.9 and 0.999).
func (s *search) cwStep(i, c *graph.Node, r cwRun) cwRun {
	const beta1, beta2, eps = 0.9, 0.999, 1e-8
	v := r.v.StopGradient()
	x := v.Tanh().AddC(1).MulC(0.5)
	out := s.at(x)
	hit := s.hit(out)
	margin := nn.CWMargin(out.Logits, s.Y) // to drive up to 0
	if s.Target != nil {
		margin = nn.CWMargin(out.Logits, s.Target).Neg()
	}
	miss := margin.Neg().ReLU()
	distance := x.Sub(s.X).Square().Sum(1, 2, 3)
	r.nearest = s.note(r.nearest, x.StopGradient(), hit)
	r.hit = r.hit.Or(hit)
	s.gradient(miss, x) // fails for a network without one
	grad := s.gradient(distance.Add(c.Mul(miss)), v)
	r.m = r.m.MulC(beta1).Add(grad.MulC(1 - beta1))
	r.u = r.u.MulC(beta2).Add(grad.Square().MulC(1 - beta2))
	t := i.Convert(graph.F32).AddC(1)
	unbias := func(beta float64) *graph.Node { return t.MulC(math.Log(beta)).Expm1().Neg() }
	step := r.m.Div(unbias(beta1)).Div(r.u.Div(unbias(beta2)).Sqrt().AddC(eps))
	r.v = r.v.Sub(step.Mul(s.Alpha))
	return r
}

// draws judges random points: what any attack must beat.
func (s *search) draws(round *graph.Node, p point) point {
	return repeat(s.attack.Steps, p, func(i *graph.Node, p point) point {
		d := s.Draw
		d.Iter = round.MulC(float64(s.attack.Steps)).Add(i).Convert(graph.U32)
		at := p
		if s.attack.Name == "random-corner" {
			at.x = s.ball.project(s.X.Add(corner(d, "attack.corner", s.X.Shape()[1:]...).Mul(s.ball.eps)))
		} else {
			at.x = s.ball.project(s.ball.start(d))
		}
		p.worst = s.judge(at, s.at(at.x))
		return p
	})
}
