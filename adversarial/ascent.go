package adversarial

import (
	"fmt"
	"math"
	"slices"
	"strings"

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
	Target  *graph.Node // classes to reach (N) of i32, for a targeted attack that chooses none itself
	Threat  ThreatModel // its norm and domain; ε is Eps
	Eps     *graph.Node // f32 scalar, as is the next
	Alpha   *graph.Node // the step size; fgsm takes Eps
	Draw    graph.Draw  // of random starts; Iter is ignored: it numbers the restarts
	Loss    Loss        // own loss; nil: the one that the attack names
	Start   *graph.Node // own starting point (N,C,H,W); nil: X, or a random one if the attack says so
	// Round makes the attack build one of its rounds only, an i32 scalar from 0
	// on; see Attack.Rounds. nil: all of them, one after the other.
	Round *graph.Node
}

// Solution is what an attack found.
type Solution struct {
	X       *graph.Node // (N,C,H,W), without derivative
	Target  *graph.Node // of a targeted attack: the classes (N) of i32
	Buffers nn.Tree     // after the attack's passes; changed under batch-update only
}

// AttackedLabel names the attacked examples in a graph: what they need is the
// attack, and the rest of a training step the update.
const AttackedLabel = "attacked examples"

// Build builds the attack. Errors stick to the graph.
//
// The objective is the sum of the per-sample losses, so that the gradient of a
// sample does not depend on the batch's size. Where several points compete
// (restarts; iterates, the start among them), a sample keeps the worst: one
// that the network gets wrong (targeted: that reaches its target) before one
// that it gets right, and then the one of larger loss; of a sample that no restart
// of Square has fooled it is the last restart's point. To judge a last iterate
// takes one more forward pass, which updates no buffers. An attack that looks
// for the nearest boundary gives x itself where it finds nothing within ε.
func (a Attack) Build(p Problem) Solution {
	g := p.X.Graph()
	if err := a.check(p); err != nil {
		g.Fail(err)
	}
	if g.Err() != nil {
		return Solution{X: p.X, Buffers: p.Buffers}
	}
	a = a.Resolve(p.Threat)
	s := &search{attack: a, Problem: p, ball: p.Threat.around(p.X, p.Eps)}
	s.mode, _ = a.mode()
	s.algorithm = attacks[a.Name]
	if !a.Targeted {
		s.Target = nil
	} else if a.Target != "" {
		s.Target = s.chosen()
	}
	if a.Name == "fgsm" {
		s.Alpha = p.Eps
	}
	from := point{x: p.X}
	if s.mode == nn.BatchUpdate {
		from.buffers = p.Buffers
	}
	end := s.rounds(from)
	found := Solution{end.x.StopGradient().Named(AttackedLabel), s.Target, p.Buffers}
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
	case a.Target != "":
	case a.Targeted && p.Target == nil:
		return fmt.Errorf("attack %s is targeted but has no target labels", a.Name)
	case a.Targeted && p.Target == p.Y:
		return fmt.Errorf("attack %s: the targets are the labels: give other classes", a.Name)
	}
	return a.suits(p.Threat, p.X.Shape()[1:])
}

// suits reports why the attack cannot work under a threat model on inputs
// (C,H,W).
func (a Attack) suits(t ThreatModel, dims graph.Shape) error {
	norms, most := attacks[a.Name].norms, t.diameter(dims)
	switch {
	case norms != nil && !slices.Contains(norms, t.Norm):
		return fmt.Errorf("attack %s is not defined for %s: it knows %s", a.Name, t.Norm, strings.Join(names(norms), ", "))
	case t.Domain == Unit && t.Epsilon.Float64() > most:
		return fmt.Errorf("eps %v is larger than the whole domain, whose diameter in %s is %.4g: give a smaller one", t.Epsilon, t.Norm.symbol(), most)
	case a.Name == "cw-l2" && t.Domain != Unit:
		return fmt.Errorf("attack cw-l2 searches in [0,1]: the domain %s has no bounds", t.Domain)
	}
	return nil
}

// search is one attack being built.
type search struct {
	Problem
	attack    Attack
	algorithm algorithm
	ball      ball
	mode      nn.Mode
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

// nothing is the worst point before any was met; x stands for it.
func (s *search) nothing(x *graph.Node) *worst {
	g, n := x.Graph(), x.Dim(0)
	return &worst{x, g.Const(graph.Bool, []float64{0}, n), g.Const(graph.F32, []float64{math.Inf(-1)}, n)}
}

// fields are what a loop carries.
func (p *point) fields() []**graph.Node {
	f := []**graph.Node{&p.x}
	p.buffers = slices.Clone(p.buffers)
	for i := range p.buffers {
		f = append(f, &p.buffers[i].Node)
	}
	if p.worst != nil {
		w := *p.worst
		p.worst = &w
		f = append(f, &w.x, &w.hit, &w.loss)
	}
	return f
}

// state is what an algorithm carries from step to step: fields gives the
// addresses of its nodes, in an order that does not change, in memory that only
// this copy of the state refers to.
type state[S any] interface {
	*S
	fields() []**graph.Node
}

// repeat is n times body, as a loop if n > 1. The index is i32.
func repeat[S any, P state[S]](n int, s S, body func(i *graph.Node, s S) S) S {
	nodes := func(s S) []*graph.Node {
		var out []*graph.Node
		for _, f := range P(&s).fields() {
			out = append(out, *f)
		}
		return out
	}
	g := nodes(s)[0].Graph()
	if n == 1 {
		return body(g.Const(graph.I32, []float64{0}), s)
	}
	from := func(s S, ns []*graph.Node) S {
		for i, f := range P(&s).fields() {
			*f = ns[i]
		}
		return s
	}
	last, _ := g.Loop(n, nodes(s), nil, func(i *graph.Node, carry, _ []*graph.Node) (next, stack []*graph.Node) {
		return nodes(body(i, from(s, carry))), nil
	})
	return from(s, last)
}

// chunk is the number of queries of a round of square.
const chunk = 100

// Rounds is the number of independent parts that an attack on a network of so
// many classes has: its restarts; with Targets, one for each target and
// restart; for square, one for each 100 queries, which start from what the part
// before it found. A host that runs them one by one may leave out the samples
// that have fallen.
func (a Attack) Rounds(classes int) int {
	a = a.Resolve(ThreatModel{})
	n := max(a.Restarts, 1)
	if a.Targets > 0 {
		n *= min(a.Targets, classes-1)
	}
	if a.Name == "square" {
		n *= (a.Steps + chunk - 1) / chunk
	}
	return n
}

// Continues reports whether a round starts from what the one before it found:
// Problem.Start is that then.
func (a Attack) Continues() bool { return a.Name == "square" }

// rounds gives the point that the attack returns as x.
func (s *search) rounds(p point) point {
	if s.attack.Restarts > 1 || s.attack.Best || s.algorithm.kind != steps || s.attack.Targets > 0 {
		p.worst = s.nothing(p.x)
		if s.attack.Continues() && s.Start != nil {
			p.worst.x = s.Start
		}
	}
	if s.Round != nil {
		p = s.aim(s.Round).round(s.Round, p)
	} else {
		rounds := s.attack.Rounds(s.classes())
		p = repeat(rounds, p, func(i *graph.Node, p point) point { return s.aim(i).round(i, p) })
	}
	if p.worst != nil {
		p.x = p.worst.x
	}
	return p
}

// round builds one round of the search from a point.
func (s *search) round(round *graph.Node, p point) point {
	switch s.attack.Name {
	case "apgd-ce", "apgd-dlr", "apgd-t":
		return s.apgd(round, p)
	case "fab", "fab-t":
		return s.fab(round, p)
	case "square":
		return s.square(round, p)
	case "cw-l2":
		return s.carlini(round, p)
	case "deepfool":
		return s.deepfool(round, p)
	case "random-uniform", "random-corner":
		return s.draws(round, p)
	}
	return s.ascend(round, p)
}

// classes is the number of classes that the network tells apart.
func (s *search) classes() int {
	if s.attack.Targets == 0 && s.attack.Target == "" {
		return 0 // nobody asks
	}
	return s.at(s.X).Logits.Dim(1)
}

// aim is the search of a round: with Targets, towards the round's class, which
// is the likeliest but the label, the next one, … at the given inputs.
func (s *search) aim(round *graph.Node) *search {
	if s.attack.Targets == 0 {
		return s
	}
	k := min(s.attack.Targets, s.classes()-1)
	rank := round.Sub(round.Div(round.C(float64(k))).Mul(round.C(float64(k)))) // round modulo k
	aimed := *s
	aimed.Target = s.ranked(rank)
	return &aimed
}

// ranked is the class (N) of a rank, an i32 scalar, among those that are not the
// label: 0 is the likeliest at the given inputs.
func (s *search) ranked(rank *graph.Node) *graph.Node {
	z := nn.Others(s.at(s.X).Logits.StopGradient(), s.Y)
	return z.ArgSort(1, true).Gather(1, rank.BroadcastTo(z.Dim(0), 1)).Reshape(z.Dim(0))
}

// chosen are the targets (N) that the attack's rule says.
func (s *search) chosen() *graph.Node {
	g, classes := s.X.Graph(), s.classes()
	rank := func(k int) *graph.Node { return s.ranked(g.Const(graph.I32, []float64{float64(k)})) }
	switch s.attack.Target {
	case "least-likely":
		return rank(classes - 2)
	case "likeliest":
		return rank(0)
	}
	after := s.Y.AddC(1)
	if s.attack.Target == "random" {
		u := s.Draw.Uniform("attack.target", 1, 1, 1).Reshape(s.Y.Dim(0))
		after = after.Add(u.MulC(float64(classes - 1)).Floor().Convert(graph.I32))
	}
	return graph.Select(after.Ge(after.C(float64(classes))), after.SubC(float64(classes)), after)
}

// at is the network's pass at x, with the buffers as given.
func (s *search) at(x *graph.Node) nn.Output { return s.Forward(x, s.Buffers, s.mode) }

// start is where a round of an attack of steps begins.
func (s *search) start(round *graph.Node) *graph.Node {
	draw := s.Draw
	switch {
	case s.Start != nil:
		return s.Start
	case !s.attack.RandomStart:
		return s.X
	}
	draw.Iter = round.Convert(graph.U32)
	x := s.ball.start(draw)
	if s.attack.FreeStart {
		return x
	}
	return s.ball.project(x)
}

// ascend is a round of steps of a given size.
func (s *search) ascend(round *graph.Node, p point) point {
	p.x = s.start(round)
	before := p.worst
	if !s.attack.Best {
		p.worst = nil // the steps leave it alone
	}
	a := ascent{point: p}
	if s.attack.Momentum > 0 {
		a.sum = p.x.MulC(0)
	}
	p = repeat(s.attack.Steps, a, func(_ *graph.Node, a ascent) ascent { return s.step(a) }).point
	if !s.attack.Best {
		p.worst = before
	}
	if p.worst != nil {
		p.worst = s.judge(p, s.forward(p))
	}
	return p
}

// ascent is a point and, with momentum, the running sum of gradients.
type ascent struct {
	point
	sum *graph.Node // (N,C,H,W), or nil
}

func (a *ascent) fields() []**graph.Node {
	if a.sum == nil {
		return a.point.fields()
	}
	return append(a.point.fields(), &a.sum)
}

// step is one ascent step. With momentum it goes along g' = μ·g + ∇L/‖∇L‖₁,
// the gradient being that at x, or at x + s·μ·g for ni-fgsm.
func (s *search) step(a ascent) ascent {
	p := a.point
	p.x = p.x.StopGradient() // a node of its own: no derivative through other uses of the inputs
	at := p
	if s.attack.Name == "ni-fgsm" {
		at.x = p.x.Add(a.sum.Mul(s.Alpha).MulC(s.attack.Momentum)).StopGradient()
	}
	out := s.forward(at)
	if s.attack.Best {
		p.worst = s.judge(p, s.forward(p)) // the same pass, but for ni-fgsm, which looks ahead
	}
	along := s.gradient(s.objective(out), at.x)
	if a.sum != nil {
		along = a.sum.MulC(s.attack.Momentum).Add(along.Div(positive(along.Abs().SumKeep(1, 2, 3))))
		a.sum = along
	}
	if s.attack.Name != "ascent" {
		along = s.Threat.steepest(along)
	}
	p.x = s.ball.project(p.x.Add(along.Mul(s.Alpha)))
	if s.mode == nn.BatchUpdate {
		p.buffers = out.Buffers
	}
	a.point = p
	return a
}

// gradient is that of the sum of a loss per sample, at x. A loss that x cannot
// change by any step is an error: an attack would stand still and report
// robustness.
func (s *search) gradient(loss, x *graph.Node) *graph.Node {
	grad := autodiff.Grad(loss.Sum(), x)[0]
	if grad.Op() == graph.OpConst && loss.Op() != graph.OpConst {
		x.Graph().Fail(fmt.Errorf("attack %s: the network has no gradient at its inputs: use square, random-uniform or random-corner, which need none", s.attack.Name))
	}
	return grad
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

// hit is, per sample, whether the attack has what it wants: another class than
// the label, or the given target.
func (s *search) hit(out nn.Output) *graph.Node {
	if s.attack.Targeted {
		return nn.Correct(out.Logits, s.Target)
	}
	return nn.Correct(out.Logits, s.Y).Not()
}

// judge compares the network's output at p.x with the worst so far.
func (s *search) judge(p point, out nn.Output) *worst {
	hit, loss, w := s.hit(out), s.objective(out), p.worst
	worse := hit.And(w.hit.Not()).Or(hit.Eq(w.hit).And(loss.Gt(w.loss)))
	return &worst{
		x:    graph.Select(worse.Reshape(-1, 1, 1, 1), p.x, w.x),
		hit:  graph.Select(worse, hit, w.hit),
		loss: graph.Select(worse, loss, w.loss),
	}
}
