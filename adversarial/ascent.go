package adversarial

import (
	"fmt"
	"math"

	"temper/engine/autodiff"
	"temper/engine/graph"
	"temper/nn"
)

// Forward runs the network under attack on x (N,C,H,W).
type Forward func(x *graph.Node, buffers nn.Tree, mode nn.Mode) nn.Output

// Of is the forward pass of a model with the given parameters.
func Of(m *nn.Model, params nn.Tree) Forward {
	return func(x *graph.Node, buffers nn.Tree, mode nn.Mode) nn.Output {
		return m.Apply(params, buffers, x, mode)
	}
}

// Problem is what an attack is asked to solve.
type Problem struct {
	Forward Forward
	Buffers nn.Tree
	X       *graph.Node // (N,C,H,W) of f32, in the threat model's domain
	Y       *graph.Node // labels (N) of i32
	Target  *graph.Node // classes to reach (N) of i32, for a targeted attack
	Threat  ThreatModel // its norm and domain; ε is Eps
	Eps     *graph.Node // f32 scalar, as is the next
	Alpha   *graph.Node // the step size; fgsm takes Eps
	Draw    graph.Draw  // of random starts; Iter is ignored: it numbers the restarts
	Loss    Loss        // own loss; nil: the one that the attack names
	Start   *graph.Node // own starting point (N,C,H,W); nil: X, or a random one if the attack says so
}

// Solution is what an attack found.
type Solution struct {
	X       *graph.Node // (N,C,H,W), without derivative
	Buffers nn.Tree     // after the attack's passes; changed under batch-update only
}

// Build builds the attack. Errors stick to the graph.
//
// The objective is the sum of the per-sample losses, so that the gradient of a
// sample does not depend on the batch's size. Where several points compete
// (restarts; iterates, the start among them), a sample keeps the worst: one
// that the network gets wrong (targeted: that reaches its target) before one
// that it gets right, and then the one of larger loss. To judge a last iterate
// takes one more forward pass, which updates no buffers.
func (a Attack) Build(p Problem) Solution {
	g := p.X.Graph()
	if err := a.check(p); err != nil {
		g.Fail(err)
	}
	if g.Err() != nil {
		return Solution{p.X, p.Buffers}
	}
	a = a.Resolve(p.Threat)
	s := &search{attack: a, Problem: p, ball: p.Threat.around(p.X, p.Eps)}
	s.mode, _ = a.mode()
	if !a.Targeted {
		s.Target = nil
	}
	if a.Name == "fgsm" {
		s.Alpha = p.Eps
	}
	from := point{x: p.X}
	if s.mode == nn.BatchUpdate {
		from.buffers = p.Buffers
	}
	end := s.restarts(from)
	found := Solution{end.x.StopGradient(), p.Buffers}
	if s.mode == nn.BatchUpdate {
		found.Buffers = end.buffers.Map(func(_ int, l nn.Leaf) *graph.Node { return l.Node.StopGradient() })
	}
	return found
}

func (a Attack) check(p Problem) error {
	if err := a.Validate(); err != nil {
		return err
	}
	if err := p.Threat.validateShape(); err != nil {
		return err
	}
	switch {
	case p.X.Rank() != 4:
		return fmt.Errorf("attack %s on inputs of shape %v: want (N,C,H,W)", a.Name, p.X.Shape())
	case a.Targeted && p.Target == nil:
		return fmt.Errorf("attack %s is targeted but has no target labels", a.Name)
	}
	return nil
}

// search is one attack being built.
type search struct {
	Problem
	attack Attack
	ball   ball
	mode   nn.Mode
}

// point is where a search stands.
type point struct {
	x       *graph.Node // the iterate (N,C,H,W)
	buffers nn.Tree     // under batch-update, else none: they stay
	worst   *worst      // nil where nothing competes
}

// worst is the worst point met so far, per sample.
type worst struct {
	x    *graph.Node // (N,C,H,W)
	hit  *graph.Node // bool (N): the network is wrong there
	loss *graph.Node // (N)
}

// nodes lists what a loop carries; from reads it back.
func (p point) nodes() []*graph.Node {
	n := append([]*graph.Node{p.x}, p.buffers.Nodes()...)
	if p.worst != nil {
		n = append(n, p.worst.x, p.worst.hit, p.worst.loss)
	}
	return n
}

func (p point) from(n []*graph.Node) point {
	q := point{x: n[0], buffers: p.buffers.With(n[1:])}
	if n = n[1+len(p.buffers):]; p.worst != nil {
		q.worst = &worst{n[0], n[1], n[2]}
	}
	return q
}

// repeat is n times body, as a loop if n > 1. The index is i32.
func repeat(n int, p point, body func(i *graph.Node, p point) point) point {
	g := p.x.Graph()
	if n == 1 {
		return body(g.Const(graph.I32, []float64{0}), p)
	}
	last, _ := g.Loop(n, p.nodes(), nil, func(i *graph.Node, carry, _ []*graph.Node) (next, stack []*graph.Node) {
		return body(i, p.from(carry)).nodes(), nil
	})
	return p.from(last)
}

// restarts gives the point that the attack returns as x.
func (s *search) restarts(p point) point {
	g, n := p.x.Graph(), p.x.Dim(0)
	if s.attack.Restarts > 1 || s.attack.Best {
		p.worst = &worst{
			x:    p.x,
			hit:  g.Const(graph.Bool, []float64{0}, n),
			loss: g.Const(graph.F32, []float64{math.Inf(-1)}, n),
		}
	}
	p = repeat(s.attack.Restarts, p, func(i *graph.Node, p point) point {
		draw := s.Draw
		draw.Iter = i.Convert(graph.U32)
		switch {
		case s.Start != nil:
			p.x = s.Start
		case s.attack.RandomStart:
			p.x = s.ball.start(draw)
			if !s.attack.FreeStart {
				p.x = s.ball.project(p.x)
			}
		default:
			p.x = s.X
		}
		p = repeat(s.attack.Steps, p, func(_ *graph.Node, p point) point { return s.step(p) })
		if p.worst != nil {
			p.worst = s.judge(p, s.forward(p))
		}
		return p
	})
	if p.worst != nil {
		p.x = p.worst.x
	}
	return p
}

// step is one ascent step.
func (s *search) step(p point) point {
	p.x = p.x.StopGradient() // a node of its own: no derivative through other uses of the inputs
	out := s.forward(p)
	if s.attack.Best {
		p.worst = s.judge(p, out)
	}
	ascent := autodiff.Grad(s.objective(out).Sum(), p.x)[0]
	if s.attack.Name != "ascent" {
		ascent = s.Threat.steepest(ascent)
	}
	p.x = s.ball.project(p.x.Add(ascent.Mul(s.Alpha)))
	if s.mode == nn.BatchUpdate {
		p.buffers = out.Buffers
	}
	return p
}

// forward is the network's pass at p.
func (s *search) forward(p point) nn.Output {
	buffers := s.Buffers
	if s.mode == nn.BatchUpdate {
		buffers = p.buffers
	}
	return s.Forward(p.x, buffers, s.mode)
}

// objective is what the attack drives up, per sample.
func (s *search) objective(out nn.Output) *graph.Node {
	return objective(s.attack.Loss, s.Loss, out, s.Y, s.Target)
}

// judge compares the network's output at p.x with the worst so far.
func (s *search) judge(p point, out nn.Output) *worst {
	hit := nn.Correct(out.Logits, s.Y).Not()
	if s.Target != nil {
		hit = nn.Correct(out.Logits, s.Target)
	}
	loss, w := s.objective(out), p.worst
	worse := hit.And(w.hit.Not()).Or(hit.Eq(w.hit).And(loss.Gt(w.loss)))
	return &worst{
		x:    graph.Select(worse.Reshape(-1, 1, 1, 1), p.x, w.x),
		hit:  graph.Select(worse, hit, w.hit),
		loss: graph.Select(worse, loss, w.loss),
	}
}
