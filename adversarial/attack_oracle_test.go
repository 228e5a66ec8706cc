package adversarial

import (
	"fmt"
	"testing"

	"temper/engine/graph"
	"temper/engine/interp"
	"temper/engine/rng"
)

// attackCase is one attack of PyTorch's fixtures.
type attackCase struct {
	name   string // the prefix of its tensors
	attack Attack
	norm   Norm
	eps    string // the setting that is its radius, under eps; "": none that matters
	// build outputs what the fixture holds, by the names there.
	build func(s *search, f *fixture, out func(name string, n *graph.Node))
}

// iterates outputs the iterates that the fixture holds.
func iterates(name string, f *fixture, steps int, out func(string, *graph.Node), step func(i int) *graph.Node) {
	for i := 1; i <= steps; i++ {
		x := step(i - 1)
		if key := fmt.Sprintf("%s/%d", name, i); f.tensors[key] != nil {
			out(key, x)
		}
	}
}

// stacked makes a list of values per sample one tensor (steps, N).
func stacked(list []*graph.Node) *graph.Node {
	rows := make([]*graph.Node, len(list))
	for i, n := range list {
		rows[i] = n.Reshape(1, -1)
	}
	return graph.Concat(0, rows...)
}

func index(g *graph.Graph, i int) *graph.Node { return g.Const(graph.I32, []float64{float64(i)}) }

func apgdCase(loss string, norm Norm, radius string) attackCase {
	name := map[string]string{"ce": "apgd-ce", "dlr": "apgd-dlr", "t": "apgd-t"}[loss]
	prefix := "apgd/" + loss + "/" + string(norm)
	return attackCase{prefix, Attack{Name: name, Targets: map[string]int{"t": 3}[loss]}, norm, radius,
		func(s *search, f *fixture, out func(string, *graph.Node)) {
			g := s.X.Graph()
			steps := f.tensors[prefix+"/top"].Shape[0]
			s.attack.Steps = steps
			var sizes, tops []*graph.Node
			p := point{x: s.Start, worst: s.nothing(s.X)}
			a := s.apgdBegin(p)
			ends := checkpoints(steps)
			iterates(prefix, f, steps, out, func(i int) *graph.Node {
				a = s.apgdStep(index(g, i), g.Const(graph.F32, []float64{ends[i]}), a)
				sizes, tops = append(sizes, a.step), append(tops, a.top)
				return a.x
			})
			out(prefix+"/step", stacked(sizes))
			out(prefix+"/top", stacked(tops))
		}}
}

// apgdCaseL1 compares where runs of several lengths end: a run in L1 has phases,
// whose lengths follow from its own.
func apgdCaseL1(loss, radius string) attackCase {
	c := apgdCase(loss, L1, radius)
	c.build = func(s *search, f *fixture, out func(string, *graph.Node)) {
		for _, steps := range []int{3, 7, int(f.settings["apgd_l1_steps"].(float64))} {
			s.attack.Steps = steps
			out(fmt.Sprintf("%s/%d", c.name, steps), s.apgdL1(index(s.X.Graph(), 0), point{x: s.X, worst: s.nothing(s.X)}).x)
		}
	}
	return c
}

func fabCase(name string, norm Norm) attackCase {
	prefix := name + "/" + string(norm)
	targets := 0
	if name == "fab-t" {
		targets = 3
	}
	return attackCase{prefix, Attack{Name: name, Targets: targets}, norm, "",
		func(s *search, f *fixture, out func(string, *graph.Node)) {
			state := fabState{s.none(), s.X}
			iterates(prefix, f, int(f.settings["fab_steps"].(float64)), out, func(int) *graph.Node {
				state = s.fabStep(state)
				return state.at
			})
			out(prefix+"/nearest", state.x)
			out(prefix+"/size", orNone(state.size))
		}}
}

// orNone is −1 where no hit was found.
func orNone(size *graph.Node) *graph.Node { return graph.Select(finite(size), size, size.C(-1)) }

func momentumCase(name string, norm Norm) attackCase {
	prefix := name + "/" + string(norm)
	return attackCase{prefix, Attack{Name: name, Steps: 4}, norm, string(norm),
		func(s *search, f *fixture, out func(string, *graph.Node)) {
			a := ascent{point{x: s.X}, s.X.MulC(0)}
			iterates(prefix, f, 4, out, func(int) *graph.Node {
				a = s.step(a)
				return a.x
			})
		}}
}

func minimalCase(prefix string, attack Attack, norm Norm) attackCase {
	return attackCase{prefix, attack, norm, "", func(s *search, f *fixture, out func(string, *graph.Node)) {
		end := s.round(index(s.X.Graph(), 0), point{x: s.X, worst: s.nothing(s.X)})
		out(prefix+"/nearest", end.worst.x)
		out(prefix+"/size", orNone(end.worst.loss.Neg()))
	}}
}

func squareCase(norm Norm) attackCase {
	prefix := "square/" + string(norm)
	return attackCase{prefix, Attack{Name: "square"}, norm, string(norm),
		func(s *search, f *fixture, out func(string, *graph.Node)) {
			s.Draw = graph.Draw{Seed: s.X.Graph().Scalar("seed", graph.U32), IDs: s.X.Graph().Iota(graph.U32, 0, s.X.Dim(0)), Step: s.X.Graph().Const(graph.U32, []float64{0})}
			for _, queries := range []int{5, int(f.settings["queries"].(float64))} {
				s.attack.Steps = queries
				end := s.round(index(s.X.Graph(), 0), point{x: s.X, worst: s.nothing(s.X)})
				out(fmt.Sprintf("%s/%d", prefix, queries), end.worst.x)
			}
			begin := s.stripes
			if norm != Linf {
				begin = s.tiles
			}
			d := s.Draw
			d.Iter = s.X.Graph().Const(graph.U32, []float64{0})
			out(prefix+"/0", begin(d))
		}}
}

func squareCases() []attackCase {
	return []attackCase{squareCase(Linf), squareCase(L2), squareCase(L1)}
}

func attackCases() []attackCase {
	list := []attackCase{
		apgdCase("ce", Linf, "linf"), apgdCase("ce", L2, "l2"),
		apgdCase("dlr", Linf, "dlr_linf"), apgdCase("dlr", L2, "dlr_l2"),
		apgdCase("t", Linf, "linf"), apgdCase("t", L2, "l2"),
		minimalCase("deepfool/linf", Attack{Name: "deepfool", Steps: 10}, Linf),
		minimalCase("deepfool/l2", Attack{Name: "deepfool", Steps: 10}, L2),
		minimalCase("cw-l2", Attack{Name: "cw-l2", Steps: 12}, L2),
		apgdCaseL1("ce", "l1"), apgdCaseL1("dlr", "dlr_l1"), apgdCaseL1("t", "l1"),
	}
	for _, norm := range []Norm{Linf, L2} {
		list = append(list, momentumCase("mi-fgsm", norm), momentumCase("ni-fgsm", norm))
	}
	for _, norm := range []Norm{Linf, L2, L1} {
		list = append(list, fabCase("fab-t", norm), fabCase("fab", norm))
	}
	return append(list, squareCases()...)
}

// Every attack of AutoAttack, and the others, step by step against our own
// PyTorch implementations, in float64.
func TestOracleAttacks(t *testing.T) { oracleAttacks(t, "mnist-wong", attackCases()) }

// Square on images of three channels, between which it shares its norm.
func TestOracleSquareInColour(t *testing.T) { oracleAttacks(t, "cifar-small", squareCases()) }

// oracleAttacks holds attacks on a model to the fixture of that model.
func oracleAttacks(t *testing.T, of string, cases []attackCase) {
	var model *fixture
	for _, r := range reduced {
		if r.fixture == of {
			model = readFixture(t, r.fixture, r.model, r.config)
		}
	}
	f := &fixture{tensors: map[string]*interp.Tensor{}}
	f.read(t, "attacks-"+of)
	compared := map[string]bool{"y": true, "target": true}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			g, p := model.attackGraph(t, ThreatModel{c.norm, MustEpsilon("1"), Unit}, "start")
			scalars := map[string]float64{"eps": 1e6}
			if c.eps != "" {
				scalars["eps"] = f.number(t, "eps", c.eps)
			}
			if c.attack.Name == "cw-l2" {
				scalars["alpha"] = f.number(t, "cw_rate")
			} else if attacks[c.attack.Name].kind == steps {
				scalars["alpha"] = f.number(t, "alpha", string(c.norm))
			}
			a := c.attack.Resolve(p.Threat)
			s := &search{attack: a, algorithm: attacks[a.Name], Problem: p, ball: p.Threat.around(p.X, p.Eps)}
			start := f.tensors[c.name+"/start"]
			if start == nil {
				start, s.Start = model.get(t, "x"), nil
			}
			compared[c.name+"/start"] = true
			if a.Targets > 0 {
				s = s.aim(index(g, 1)) // the second likeliest of the wrong classes
				g.Output("target", s.Target)
			}
			c.build(s, f, func(name string, n *graph.Node) { g.Output(name, n) })
			feed := model.feed(t, scalars)
			feed["input y"], feed["input start"] = f.get(t, "y"), start
			feed["scalar seed"] = interp.New(graph.U32, nil, f.number(t, "seed"))
			for name, got := range eval(t, g, feed).Outputs {
				near(t, name, got, f.get(t, name))
				compared[name] = true
			}
		})
	}
	for name := range f.tensors {
		if !compared[name] {
			t.Errorf("%s was not compared", name)
		}
	}
}

// The exact L1 projection against its definition: no other allowed point is
// nearer. Points are compared with bisection on the threshold.
func TestProjectL1(t *testing.T) {
	const n, d = 40, 12
	s := rng.NewStream(5, "project", 0)
	x, v := random(s, graph.Shape{n, 1, 1, d}, 0, 1), random(s, graph.Shape{n, 1, 1, d}, -3, 4)
	for i := range d { // black and white pixels, and a point that stays
		x.Data[i], x.Data[d+i], v.Data[2*d+i] = 0, 1, x.Data[2*d+i]
	}
	for _, domain := range Domains() {
		g := graph.New("project")
		threat := ThreatModel{L1, MustEpsilon("1.5"), domain}
		in := g.Input("x", graph.F32, n, 1, 1, d)
		g.Output("p", threat.around(in, g.Const(graph.F32, []float64{1.5})).project(g.Input("v", graph.F32, n, 1, 1, d)))
		got := eval(t, g, interp.Feed{"input x": x, "input v": v}).Outputs["p"]
		for i := range n {
			point := func(threshold float64) (out []float64, size float64) {
				for j := i * d; j < (i+1)*d; j++ {
					delta := v.Data[j] - x.Data[j]
					by := max(max(delta, -delta)-threshold, 0)
					if domain == Unit && delta > 0 {
						by = min(by, 1-x.Data[j])
					} else if domain == Unit {
						by = min(by, x.Data[j])
					}
					size += by
					if delta < 0 {
						by = -by
					}
					out = append(out, x.Data[j]+by)
				}
				return out, size
			}
			want, size := point(0)
			lo, hi := 0.0, 10.0
			for k := 0; size > 1.5 && k < 100; k++ {
				if _, now := point((lo + hi) / 2); now > 1.5 {
					lo = (lo + hi) / 2
				} else {
					hi = (lo + hi) / 2
				}
				want, _ = point(hi)
			}
			if diff, _ := apart(got.Data[i*d:][:d], want); diff > 1e-12 {
				t.Errorf("%s: point %d is off by %v", domain, i, diff)
			}
		}
	}
}
