package adversarial

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"temper/engine/graph"
	"temper/engine/interp"
	"temper/engine/rng"
	"temper/nn"
)

func TestDescribe(t *testing.T) {
	m := ThreatModel{Linf, MustEpsilon("8/255"), Unit}
	for want, a := range map[string]Attack{
		"FGSM, L∞ 8/255, loss ce":                                      {Name: "fgsm"},
		"PGD-50-10, L∞ 8/255, step 2/255, loss ce":                     {Name: "pgd", Steps: 50, Restarts: 10, RandomStart: true, StepSize: MustEpsilon("2/255")},
		"PGD-10, L∞ 8/255, step 2/255, loss cw, from x, best iterate":  {Name: "pgd", Loss: "cw", Best: true},
		"PGD-1, L∞ 8/255, step 10/255, loss ce, bn batch":              {Name: "pgd", Steps: 1, RandomStart: true, BN: "batch"},
		"PGD-5, L∞ 8/255, step 4/255, loss dlr, targeted":              {Name: "pgd", Steps: 5, RandomStart: true, Loss: "dlr", Targeted: true},
		"Gradient ascent-1, L∞ 8/255, step 1, loss lse-margin":         {Name: "ascent", Loss: "lse-margin"},
		"Gradient ascent-2, L∞ 8/255, step 0.5, loss ce, random start": {Name: "ascent", Steps: 2, StepSize: MustEpsilon("0.5"), RandomStart: true},
		"PGD-1, L∞ 8/255, step 10/255, loss ce, free start":            {Name: "pgd", Steps: 1, RandomStart: true, FreeStart: true},
		"no attack": {},
	} {
		if got := a.Describe(m); got != want {
			t.Errorf("%+v is described as\n%q, want\n%q", a, got, want)
		}
	}
	if got, want := (Attack{Name: "pgd", Steps: 7, RandomStart: true}).String(), "PGD-7, loss ce"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestAttackErrors(t *testing.T) {
	for want, a := range map[string]Attack{
		`unknown attack "pdg": want one of apgd-ce, apgd-dlr, apgd-t, ascent, cw-l2, deepfool, fab, fab-t, fgsm, mi-fgsm, ni-fgsm, pgd, random-corner, random-uniform, square`: {Name: "pdg"},
		`unknown attack loss "xe"`:         {Name: "pgd", Loss: "xe"},
		`unknown batch-norm mode "train"`:  {Name: "pgd", BN: "train"},
		"-1 steps":                         {Name: "pgd", Steps: -1},
		"step_size is 0":                   {Name: "pgd", StepSize: MustEpsilon("0")},
		"fgsm is one step of size ε":       {Name: "fgsm", RandomStart: true},
		"3 restarts without random_start":  {Name: "pgd", Restarts: 3},
		"free_start is for a random start": {Name: "pgd", FreeStart: true},
		"one that left the domain":         {Name: "pgd", RandomStart: true, FreeStart: true, Best: true},
		"has no target labels":             {Name: "pgd", Targeted: true},
	} {
		g := graph.New("errors")
		p := Problem{Threat: ThreatModel{Linf, MustEpsilon("0.1"), Unit}, X: g.Input("x", graph.F32, 1, 1, 1, 1)}
		a.Build(p)
		if err := g.Err(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v: want %q", a, err, want)
		}
	}
	g := graph.New("norm")
	Attack{Name: "fgsm"}.Build(Problem{Threat: ThreatModel{Norm: "l7", Domain: Unit}, X: g.Input("x", graph.F32, 1, 1, 1, 1)})
	if err := g.Err(); err == nil || !strings.Contains(err.Error(), `unknown norm "l7"`) {
		t.Errorf("norm l7: %v", err)
	}
	for _, name := range AttackNames() {
		a, err := LookupAttack(name)
		must(t, err)
		must(t, a.Validate())
		must(t, a.Resolve(ThreatModel{Linf, MustEpsilon("0.1"), Unit}).Validate())
	}
}

// toy is a network without weights, of two classes: z₀ = 0 and z₁ = 0.2 + Σ w,
// where w = t⁴/24 − t²/2 with t = 4x − 1.6 has a hill between two valleys.
func toy(x *graph.Node, buffers nn.Tree, _ nn.Mode) nn.Output {
	t := x.MulC(4).SubC(1.6).Square()
	z := t.Square().DivC(24).Sub(t.DivC(2)).Sum(1, 2, 3).Reshape(x.Dim(0), 1)
	return nn.Output{Logits: graph.Concat(1, z.MulC(0), z.AddC(0.2)), Features: z, Buffers: buffers}
}

// toyGraph is a problem on the toy network: N samples (1,1,2), all of class 1
// but the last.
func toyGraph(n int, ids ...float64) (*graph.Graph, Problem) {
	g := graph.New("toy")
	c := func(v float64) *graph.Node { return g.Const(graph.U32, []float64{v}) }
	y := make([]float64, n)
	for i := range n - 1 {
		y[i] = 1
	}
	if ids == nil {
		for i := range n {
			ids = append(ids, float64(i))
		}
	}
	return g, Problem{
		Forward: toy, X: g.Input("x", graph.F32, n, 1, 1, 2), Y: g.Const(graph.I32, y, n),
		Threat: ThreatModel{L2, MustEpsilon("0.8"), Unbounded},
		Eps:    g.Const(graph.F32, []float64{0.8}), Alpha: g.Const(graph.F32, []float64{0.3}),
		Draw: graph.Draw{Seed: c(5), IDs: g.Const(graph.U32, ids, n), Step: c(0)},
	}
}

// candidate is a point that an attack may choose, as the reference judges it.
type candidate struct{ x, pred, loss *interp.Tensor }

func candidates(t *testing.T, g *graph.Graph, p Problem, xs []*graph.Node, feed interp.Feed) []candidate {
	for i, x := range xs {
		z := toy(x, nil, nn.Eval).Logits
		g.Output(fmt.Sprint("x", i), x)
		g.Output(fmt.Sprint("pred", i), z.ArgMax(1))
		g.Output(fmt.Sprint("loss", i), nn.CrossEntropy(z, p.Y))
	}
	o := eval(t, g, feed).Outputs
	var cs []candidate
	for i := range xs {
		cs = append(cs, candidate{o[fmt.Sprint("x", i)], o[fmt.Sprint("pred", i)], o[fmt.Sprint("loss", i)]})
	}
	return cs
}

// worstOf is, for sample n of two values, the first of the worst candidates.
func worstOf(cs []candidate, n int, y float64) []float64 {
	best := -1
	for i, c := range cs {
		if best < 0 {
			best = i
			continue
		}
		b := cs[best]
		hit, was := c.pred.Data[n] != y, b.pred.Data[n] != y
		if hit && !was || hit == was && c.loss.Data[n] > b.loss.Data[n] {
			best = i
		}
	}
	return cs[best].x.Data[2*n:][:2]
}

// Restarts and best iterates keep, per sample, the worst of what single runs
// reach.
func TestWorstIsKept(t *testing.T) {
	const n, steps, restarts = 12, 3, 4
	feed := interp.Feed{"input x": random(rng.NewStream(3, "toy", 0), graph.Shape{n, 1, 1, 2}, 0, 1)}
	for _, best := range []bool{false, true} {
		g, p := toyGraph(n)
		got := Attack{Name: "pgd", Steps: steps, RandomStart: true, Restarts: restarts, Best: best}.Build(p).X
		xs := []*graph.Node{got}
		for r := range restarts {
			single := p
			draw := p.Draw
			draw.Iter = g.Const(graph.U32, []float64{float64(r)})
			single.Start = p.Threat.around(p.X, p.Eps).start(draw)
			if best {
				xs = append(xs, single.Start)
			}
			for s := 1; s <= steps; s++ {
				if best || s == steps {
					xs = append(xs, Attack{Name: "pgd", Steps: s}.Build(single).X)
				}
			}
		}
		cs := candidates(t, g, p, xs, feed)
		from := map[int]bool{}
		for i := range n {
			y := 1.0
			if i == n-1 {
				y = 0
			}
			want := worstOf(cs[1:], i, y)
			if d, _ := apart(cs[0].x.Data[2*i:][:2], want); !(d <= 1e-12) {
				t.Errorf("best %v: sample %d is at %v, want %v", best, i, cs[0].x.Data[2*i:][:2], want)
			}
			for k, c := range cs[1:] {
				if c.x.Data[2*i] == want[0] {
					from[k] = true
				}
			}
		}
		if len(from) < 3 {
			t.Errorf("best %v: the worst points come from %d of %d candidates: a test that proves little", best, len(from), len(cs)-1)
		}
	}
}

// The best iterate of ni-fgsm is one that it visits, not the point ahead where
// it takes the gradient, which may lie outside the ball and the domain.
func TestBestIsNoLookAhead(t *testing.T) {
	const n = 12
	for _, norm := range standard {
		g, p := toyGraph(n)
		p.Threat = ThreatModel{norm, MustEpsilon("0.2"), Unit}
		p.Eps, p.Alpha = g.Const(graph.F32, []float64{0.2}), g.Const(graph.F32, []float64{0.9})
		x := Attack{Name: "ni-fgsm", Steps: 4, Best: true}.Build(p).X
		g.Output("x", x)
		g.Output("size", p.Threat.Size(x.Sub(p.X)))
		r := eval(t, g, interp.Feed{"input x": random(rng.NewStream(6, "toy", 0), graph.Shape{n, 1, 1, 2}, 0, 1)}).Outputs
		if left := outside(r["x"]); left > 0 {
			t.Errorf("%s: %d elements outside the domain", norm, left)
		}
		for i, size := range r["size"].Data {
			if !p.Threat.Allows(size) {
				t.Errorf("%s: sample %d moves by %v", norm, i, size)
			}
		}
	}
}

// A targeted attack drives its own loss down and counts a reached target as a
// hit.
func TestTargeted(t *testing.T) {
	const n = 6
	g, p := toyGraph(n)
	p.Target = g.Const(graph.I32, []float64{0}, n)
	a := Attack{Name: "pgd", Steps: 1, Targeted: true}
	p.Alpha = g.Const(graph.F32, []float64{0.01})
	to := func(x *graph.Node) *graph.Node { return nn.CrossEntropy(toy(x, nil, nn.Eval).Logits, p.Target) }
	g.Output("before", to(p.X))
	g.Output("after", to(a.Build(p).X))
	feed := interp.Feed{"input x": random(rng.NewStream(4, "toy", 0), graph.Shape{n, 1, 1, 2}, 0, 1)}
	r := eval(t, g, feed).Outputs
	for i, before := range r["before"].Data {
		if after := r["after"].Data[i]; !(after < before) {
			t.Errorf("sample %d: the target's loss goes from %v to %v", i, before, after)
		}
	}
}

// A free start may leave the domain, a usual one may not, and x' never does.
func TestFreeStart(t *testing.T) {
	const n = 50
	for _, norm := range Norms() {
		for _, free := range []bool{false, true} {
			g, p := toyGraph(n)
			p.Threat = ThreatModel{norm, MustEpsilon("0.8"), Unit}
			var seen *graph.Node
			p.Forward = func(x *graph.Node, buffers nn.Tree, mode nn.Mode) nn.Output {
				seen = x
				return toy(x, buffers, mode)
			}
			x := Attack{Name: "pgd", Steps: 1, RandomStart: true, FreeStart: free}.Build(p).X
			g.Output("start", seen)
			g.Output("size", p.Threat.Size(seen.Sub(p.X)))
			g.Output("x", x)
			r := eval(t, g, interp.Feed{"input x": random(rng.NewStream(8, "toy", 0), graph.Shape{n, 1, 1, 2}, 0, 1)}).Outputs
			if left := outside(r["start"]) > 0; left != free {
				t.Errorf("%s, free %v: the start leaves the domain: %v", norm, free, left)
			}
			if outside(r["x"]) > 0 {
				t.Errorf("%s, free %v: x' leaves the domain", norm, free)
			}
			for _, size := range r["size"].Data {
				if !p.Threat.Allows(size) {
					t.Errorf("%s, free %v: a start of size %v", norm, free, size)
				}
			}
		}
	}
}

// outside counts the elements that are not in [0,1].
func outside(x *interp.Tensor) (n int) {
	for _, v := range x.Data {
		if !(v >= 0 && v <= 1) {
			n++
		}
	}
	return n
}

// The momentum attacks with a momentum below 1 go where their formulas say: along
// g' = μ·g + ∇L/‖∇L‖₁, ∇L at x or, for ni-fgsm, at x + s·μ·g.
func TestMomentum(t *testing.T) {
	const mu, step = 0.5, 0.1
	for _, name := range []string{"mi-fgsm", "ni-fgsm"} {
		g, p := toyGraph(1)
		p.Alpha = g.Const(graph.F32, []float64{step})
		p.Loss = func(out nn.Output, _ *graph.Node) *graph.Node { return out.Features.Reshape(1).Neg() }
		g.Output("x", Attack{Name: name, Steps: 4, Momentum: mu}.Build(p).X)
		got := eval(t, g, interp.Feed{"input x": interp.New(graph.F32, graph.Shape{1, 1, 1, 2}, 0.35, 0.42)}).Outputs["x"].Data

		x, sum := []float64{0.35, 0.42}, []float64{0, 0}
		for range 4 {
			grad, l1 := make([]float64, 2), 0.0
			for i := range x {
				at := x[i]
				if name == "ni-fgsm" {
					at += step * mu * sum[i]
				}
				u := 4*at - 1.6
				grad[i] = -4 * (u*u*u/6 - u)
				l1 += math.Abs(grad[i])
			}
			for i := range sum {
				sum[i] = mu*sum[i] + grad[i]/l1
			}
			l2 := math.Hypot(sum[0], sum[1])
			for i := range x {
				x[i] += step * sum[i] / l2
			}
		}
		if diff, _ := apart(got, x); !(diff < 1e-6) {
			t.Errorf("%s goes to %v, want %v", name, got, x)
		}
	}
}

// Auto-PGD in L1 comes down from larger balls, and ends in the one asked for, however
// few steps it has.
func TestFewStepsInL1(t *testing.T) {
	for steps := 1; steps <= 8; steps++ {
		for _, random := range []bool{true, false} {
			g, p := toyGraph(4)
			p.Threat.Norm = L1
			p.Alpha = nil
			a := Attack{Name: "apgd-ce", Steps: steps, RandomStart: random}
			g.Output("size", p.Threat.Size(a.Build(p).X.Sub(p.X)))
			sizes := eval(t, g, interp.Feed{"input x": interp.New(graph.F32, graph.Shape{4, 1, 1, 2}, 0.3, 0.4, 0.5, 0.6, 0.1, 0.9, 0.45, 0.35)}).Outputs["size"].Data
			for i, size := range sizes {
				if !p.Threat.Allows(size) {
					t.Errorf("%d steps, random start %v: sample %d moves by %v, beyond %v", steps, random, i, size, p.Threat)
				}
			}
			if steps > 2 && slices.Max(sizes) == 0 {
				t.Errorf("%d steps, random start %v: nothing moves", steps, random)
			}
		}
	}
}

// An own loss takes the place of the named one; it may look at the features.
func TestOwnLoss(t *testing.T) {
	g, p := toyGraph(2)
	p.Loss = func(out nn.Output, _ *graph.Node) *graph.Node { return out.Features.Reshape(2).Neg() }
	x := Attack{Name: "ascent"}.Build(p).X
	g.Output("z", toy(p.X, nil, nn.Eval).Features)
	g.Output("after", toy(x, nil, nn.Eval).Features)
	r := eval(t, g, interp.Feed{"input x": interp.New(graph.F32, graph.Shape{2, 1, 1, 2}, 0.3, 0.4, 0.5, 0.6)}).Outputs
	for i, z := range r["z"].Data {
		if after := r["after"].Data[i]; !(after < z) {
			t.Errorf("sample %d: the feature goes from %v to %v", i, z, after)
		}
	}
}

// What a sample becomes depends on the seed, its id and the step, not on the
// batch that it stands in.
func TestSamplesAreIndependent(t *testing.T) {
	x := random(rng.NewStream(6, "toy", 0), graph.Shape{5, 1, 1, 2}, 0, 1)
	attack := func(seed, step float64, ids ...int) map[int][]float64 {
		n := len(ids)
		numbers, rows := make([]float64, n), interp.New(graph.F32, graph.Shape{n, 1, 1, 2})
		for i, id := range ids {
			numbers[i] = float64(id)
			copy(rows.Data[2*i:], x.Data[2*id:][:2])
		}
		g, p := toyGraph(n, numbers...)
		p.Y = g.Const(graph.I32, []float64{1}, n)
		p.Draw.Seed = g.Const(graph.U32, []float64{seed})
		p.Draw.Step = g.Const(graph.U32, []float64{step})
		g.Output("x", Attack{Name: "pgd", Steps: 2, RandomStart: true, Restarts: 2}.Build(p).X)
		out := map[int][]float64{}
		got := eval(t, g, interp.Feed{"input x": rows}).Outputs["x"].Data
		for i, id := range ids {
			out[id] = got[2*i:][:2]
		}
		return out
	}
	whole := attack(1, 0, 0, 1, 2, 3, 4)
	for id, got := range attack(1, 0, 3, 0) {
		if got[0] != whole[id][0] || got[1] != whole[id][1] {
			t.Errorf("sample %d is at %v in one batch and at %v in another", id, got, whole[id])
		}
	}
	for name, other := range map[string]map[int][]float64{"seed": attack(2, 0, 0, 1), "step": attack(1, 1, 0, 1)} {
		if other[0][0] == whole[0][0] && other[1][0] == whole[1][0] {
			t.Errorf("another %s changes nothing", name)
		}
	}
}

// Only batch-update moves buffers, by as many updates as there are steps, and
// an attack's result carries no derivative.
func TestBuffersAndDerivative(t *testing.T) {
	for bn, updates := range map[string]float64{"eval": 0, "batch": 0, "batch-update": 2} {
		m := tiny(t, "preactresnet18")
		g := graph.New("buffers")
		params, buffers := m.Declare(g, "")
		one := g.Const(graph.F32, []float64{1})
		p := Problem{Forward: Of(m, params), Buffers: buffers, X: g.Input("x", graph.F32, append(graph.Shape{3}, m.Input...)...),
			Y: g.Input("y", graph.I32, 3), Threat: ThreatModel{Linf, MustEpsilon("1"), Unit}, Eps: one, Alpha: one}
		end := Attack{Name: "pgd", Steps: 2, BN: bn}.Build(p)
		for _, l := range nn.Grad(end.X.Sum(), params) {
			if l.Node.Op() != graph.OpConst {
				t.Errorf("bn %s: x' has a derivative by %s", bn, l.Name)
			}
		}
		for i, b := range end.Buffers {
			if same := b.Node == buffers[i].Node; same != (updates == 0) {
				t.Errorf("bn %s: buffer %s stays: %v", bn, b.Name, same)
			}
		}
		g.Output("tracked", end.Buffers.Get("bn.num_batches_tracked"))
		feed := startOf(t, m, 1)
		feed["input x"], feed["input y"] = random(rng.NewStream(7, "x", 0), p.X.Shape(), 0, 1), interp.New(graph.I32, graph.Shape{3})
		if got := eval(t, g, feed).Outputs["tracked"].Data[0]; got != updates {
			t.Errorf("bn %s: %v updates, want %v", bn, got, updates)
		}
	}
}
