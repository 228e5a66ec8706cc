package adversarial

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"temper/engine/graph"
	"temper/engine/interp"
	"temper/engine/passes"
	"temper/engine/rng"
	"temper/nn"
)

// few are settings under which each attack takes no time on a tiny network.
func few(name string) Attack {
	a, err := LookupAttack(name)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	a.Steps = map[string]int{"fgsm": 1, "square": 120, "cw-l2": 4, "fab": 5, "fab-t": 5, "deepfool": 5}[name]
	if a.Steps == 0 {
		a.Steps = 8
	}
	if a.Targets > 0 {
		a.Targets = 2
	}
	return a
}

// Every attack on every norm that it knows: on the CPU, in float32, what it
// finds lies in the ball and in the domain, and is no better for the network
// than its inputs; and it is what the reference interpreter finds, up to a few
// elements whose gradient is rounding noise.
func TestEveryAttack(t *testing.T) {
	const n = 6
	m := tiny(t, "mnist-wong")
	for _, name := range AttackNames() {
		for _, norm := range []Norm{Linf, L2, L1} {
			if norms := attacks[name].norms; norms != nil && !strings.Contains(fmt.Sprint(norms), string(norm)) {
				continue
			}
			t.Run(name+" "+string(norm), func(t *testing.T) {
				a, threat := few(name), ThreatModel{norm, MustEpsilon(map[Norm]string{Linf: "0.3", L2: "2", L1: "12"}[norm]), Unit}
				g, err := EvalGraph(m, &a, threat, n, graph.F32)
				must(t, err)
				feed := with(startOf(t, m, 4), batch(m, n, graph.F32, 4), interp.Feed{
					"scalar seed":  interp.New(graph.U32, nil, 1),
					"scalar eps":   interp.New(graph.F32, nil, float64(float32(threat.Epsilon.Float64()))),
					"scalar alpha": interp.New(graph.F32, nil, float64(float32(a.Alpha(threat).Float64()))),
				})
				// What the network says is right: then every hit is the attack's.
				clean, err := EvalGraph(m, nil, ThreatModel{}, n, graph.F32)
				must(t, err)
				feed["input y"] = eval(t, clean, feed).Outputs["clean_pred"]
				p := compile(t, g)
				p.give(feed)
				p.run()
				if d := outside(p.output("x_adv")); d > 0 {
					t.Errorf("x' leaves the domain by %v", d)
				}
				moved := 0.0
				for i, size := range p.output("norm").Data {
					if !threat.Allows(size) {
						t.Errorf("sample %d moves by %v", i, size)
					}
					moved += size
				}
				hits := n - int(sum(p.output("adv_correct").Data))
				if attacks[name].kind != minimal && (moved == 0 || mean(p.output("adv_loss")) <= mean(p.output("clean_loss"))) {
					t.Errorf("losses %v from %v", p.output("adv_loss").Data, p.output("clean_loss").Data)
				}
				t.Logf("%d of %d fall", hits, n)
				ref := eval(t, g, feed).Outputs
				if want := n - int(sum(ref["adv_correct"].Data)); hits != want {
					t.Errorf("%d of %d fall, of the reference's %d", hits, n, want)
				}
				if norm == L1 && attacks[name].kind == adaptive || name == "apgd-dlr" {
					return // steps hang on ranks of gradients, on ties of a loss that saturates: TestOracleAttacks has float64
				}
				if away := share(p.output("x_adv"), ref["x_adv"], 1e-3*threat.Epsilon.Float64()); away > 0.02 {
					t.Errorf("a share of %.3f of x' differs from the reference's", away)
				}
			})
		}
	}
}

func sum(v []float64) float64 {
	s := 0.0
	for _, x := range v {
		s += x
	}
	return s
}

// Attacks refuse, in one line, what they cannot do.
func TestAttackRefusals(t *testing.T) {
	flat := func(x *graph.Node, b nn.Tree, _ nn.Mode) nn.Output {
		return nn.Output{Logits: x.Floor().Flatten(1), Buffers: b}
	}
	for _, c := range []struct {
		attack Attack
		threat ThreatModel
		change func(*Problem)
		want   string
	}{
		{Attack{Name: "pgd"}, ThreatModel{Linf, MustEpsilon("0.1"), Unit}, func(p *Problem) { p.Forward = flat }, "no gradient at its inputs: use square"},
		{Attack{Name: "apgd-ce"}, ThreatModel{Linf, MustEpsilon("0.1"), Unit}, func(p *Problem) { p.Forward = flat }, "no gradient"},
		{Attack{Name: "fab-t"}, ThreatModel{Linf, MustEpsilon("0.1"), Unit}, func(p *Problem) { p.Forward = flat }, "no gradient"},
		{Attack{Name: "cw-l2"}, ThreatModel{L2, MustEpsilon("0.1"), Unit}, func(p *Problem) { p.Forward = flat }, "no gradient"},
		{Attack{Name: "deepfool"}, ThreatModel{L2, MustEpsilon("0.1"), Unit}, func(p *Problem) { p.Forward = flat }, "no gradient"},
		{Attack{Name: "pgd", Targeted: true}, ThreatModel{Linf, MustEpsilon("0.1"), Unit}, func(p *Problem) { p.Target = p.Y }, "the targets are the labels"},
		{Attack{Name: "pgd"}, ThreatModel{L2, MustEpsilon("9"), Unit}, nil, "larger than the whole domain, whose diameter in L2 is 2.236"},
		{Attack{Name: "pgd"}, ThreatModel{L1, MustEpsilon("6"), Unit}, nil, "larger than the whole domain, whose diameter in L1 is 5"},
		{Attack{Name: "deepfool"}, ThreatModel{L1, MustEpsilon("1"), Unit}, nil, "deepfool is not defined for l1: it knows linf, l2"},
		{Attack{Name: "cw-l2"}, ThreatModel{Linf, MustEpsilon("0.1"), Unit}, nil, "cw-l2 is not defined for linf"},
		{Attack{Name: "cw-l2"}, ThreatModel{L2, MustEpsilon("0.1"), Unbounded}, nil, "has no bounds"},
		{Attack{Name: "apgd-ce", StepSize: MustEpsilon("0.1")}, ThreatModel{Linf, MustEpsilon("0.1"), Unit}, nil, "chooses its own steps"},
		{Attack{Name: "apgd-ce", Loss: "cw"}, ThreatModel{Linf, MustEpsilon("0.1"), Unit}, nil, "has the loss ce, not cw"},
		{Attack{Name: "apgd-t", Targeted: true}, ThreatModel{Linf, MustEpsilon("0.1"), Unit}, nil, "for given ones use apgd-dlr"},
		{Attack{Name: "fab-t", Targeted: true}, ThreatModel{Linf, MustEpsilon("0.1"), Unit}, nil, "for given ones use fab"},
		{Attack{Name: "pgd", Momentum: 1}, ThreatModel{Linf, MustEpsilon("0.1"), Unit}, nil, "belongs to mi-fgsm and ni-fgsm"},
		{Attack{Name: "square", BN: "batch-update"}, ThreatModel{Linf, MustEpsilon("0.1"), Unit}, nil, `bn = "batch-update" belongs to`},
	} {
		g := graph.New("refusals")
		scalar := func(name string, t graph.DType) *graph.Node { return g.Scalar(name, t) }
		x := g.Input("x", graph.F32, 3, 5, 1, 1)
		p := Problem{
			Forward: func(x *graph.Node, b nn.Tree, _ nn.Mode) nn.Output {
				return nn.Output{Logits: x.Flatten(1).Square(), Buffers: b}
			},
			X: x, Y: g.Input("y", graph.I32, 3), Threat: c.threat, Eps: scalar("eps", graph.F32), Alpha: scalar("alpha", graph.F32),
			Draw: graph.Draw{Seed: scalar("seed", graph.U32), IDs: g.Input("ids", graph.U32, 3), Step: scalar("step", graph.U32)},
		}
		if c.change != nil {
			c.change(&p)
		}
		c.attack.Build(p)
		if err := g.Err(); err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%+v: %v: want %q", c.attack, err, c.want)
		}
	}
}

// What an evaluation checks of the network itself.
func TestCheckGraph(t *testing.T) {
	for want, net := range map[float64]func(x *graph.Node) *graph.Node{
		0: func(x *graph.Node) *graph.Node { return x.MulC(3).SubC(1) },
		1: func(x *graph.Node) *graph.Node { return x.MulC(3).Floor() },
	} {
		g := graph.New("check")
		checkOutputs(g.Input("x", graph.F32, 4, 1, 2, 2), g.Const(graph.I32, []float64{0, 1, 2, 3}, 4), func(x *graph.Node) *graph.Node { return net(x.Flatten(1)) })
		r := eval(t, g, interp.Feed{"input x": random(rng.NewStream(8, "check", 0), graph.Shape{4, 1, 2, 2}, 0, 1)}).Outputs
		if got := mean(r["zero"]); got != want || r["logits"].Shape[1] != 4 {
			t.Errorf("a share of %v has no gradient, want %v", got, want)
		}
	}
	g, err := CheckGraph(tiny(t, "mnist-wong"), 3, graph.U8)
	must(t, err)
	must(t, graph.Verify(g))
}

// The rounds of an attack, one by one, are the parts of the whole: a sample
// falls in one of the rounds exactly if it falls in the whole attack.
func TestRoundsAreParts(t *testing.T) {
	const n = 6
	m := tiny(t, "mnist-wong")
	for _, a := range []Attack{
		{Name: "pgd", Steps: 3, RandomStart: true, Restarts: 3},
		{Name: "apgd-t", Steps: 5, Targets: 3, RandomStart: true},
		{Name: "fab-t", Steps: 4, Targets: 3, Restarts: 2},
		{Name: "square", Steps: 250},
		{Name: "square", Steps: 120, Restarts: 2},
	} {
		threat := ThreatModel{Linf, MustEpsilon("0.2"), Unit}
		if a.Name == "square" {
			threat.Epsilon = MustEpsilon("0.9") // less than that it does not find
		}
		g, err := RoundGraph(m, a, threat, n, graph.F32)
		must(t, err)
		whole, err := EvalGraph(m, &a, threat, n, graph.F32)
		must(t, err)
		feed := with(startOf(t, m, 4), batch(m, n, graph.F32, 4), interp.Feed{
			"scalar seed":  interp.New(graph.U32, nil, 1),
			"scalar eps":   interp.New(graph.F32, nil, float64(float32(threat.Epsilon.Float64()))),
			"scalar alpha": interp.New(graph.F32, nil, float64(float32(a.Alpha(threat).Float64()))),
		})
		clean, err := EvalGraph(m, nil, ThreatModel{}, n, graph.F32)
		must(t, err)
		y := eval(t, clean, feed).Outputs["clean_pred"]
		feed["input y"] = y
		p, q := compile(t, g), compile(t, whole)
		q.give(feed)
		q.run()
		start := feed["input x"]
		fell := make([]bool, n)
		var last *interp.Tensor
		for r := range a.Rounds(10) {
			feed["scalar round"] = interp.New(graph.I32, nil, float64(r))
			if a.Continues() {
				feed["input start"] = start
			}
			p.give(feed)
			p.run()
			for i, pred := range p.output("adv_pred").Data {
				fell[i] = fell[i] || pred != y.Data[i]
			}
			last = p.output("x_adv")
			start = last
		}
		hits := 0
		for i, correct := range q.output("adv_correct").Data {
			if fell[i] == (correct == 1) {
				t.Errorf("%s: sample %d falls in a round: %v, in the whole attack: %v", a.Name, i, fell[i], correct == 0)
			}
			hits += int(1 - correct)
		}
		if a.Continues() && a.Restarts < 2 { // else what has fallen goes on here, and is not attacked on there
			if d, _ := apart(last.Data, q.output("x_adv").Data); d > 0 {
				t.Errorf("%s: round by round it ends %v elsewhere", a.Name, d)
			}
		}
		if hits == 0 {
			t.Errorf("%s: nothing falls: a test that proves little", a.Name)
		}
	}
}

// Of the hits of all its rounds FAB keeps the nearest, whichever round it was in;
// the first run starts at the inputs with every target, the next ones elsewhere.
func TestFABKeepsTheNearest(t *testing.T) {
	const n = 8
	m := tiny(t, "mnist-wong")
	a := Attack{Name: "fab-t", Steps: 6, Targets: 2, Restarts: 2}
	threat := ThreatModel{Linf, MustEpsilon("0.5"), Unit}
	one, err := RoundGraph(m, a, threat, n, graph.F32)
	must(t, err)
	whole, err := EvalGraph(m, &a, threat, n, graph.F32)
	must(t, err)
	feed := with(startOf(t, m, 4), batch(m, n, graph.F32, 4), interp.Feed{
		"scalar seed": interp.New(graph.U32, nil, 1), "scalar eps": interp.New(graph.F32, nil, 0.5), "scalar alpha": interp.New(graph.F32, nil),
	})
	clean, err := EvalGraph(m, nil, ThreatModel{}, n, graph.F32)
	must(t, err)
	y := eval(t, clean, feed).Outputs["clean_pred"]
	feed["input y"] = y
	p, q := compile(t, one), compile(t, whole)
	q.give(feed)
	q.run()
	var norms, points [4][]float64
	for r := range norms {
		feed["scalar round"] = interp.New(graph.I32, nil, float64(r))
		p.give(feed)
		p.run()
		norms[r], points[r] = p.output("norm").Data, p.output("x_adv").Data
		for i, pred := range p.output("adv_pred").Data {
			if pred == y.Data[i] {
				norms[r][i] = math.Inf(1)
			}
		}
	}
	notLast, elsewhere := 0, [4]int{}
	for i, got := range q.output("norm").Data {
		best := 0
		for r := range norms {
			if norms[r][i] < norms[best][i] {
				best = r
			}
			if r >= 2 && norms[r-2][i] < 1 && norms[r][i] < 1 {
				size := len(points[r]) / n
				if d, _ := apart(points[r][i*size:][:size], points[r-2][i*size:][:size]); d > 0 {
					elsewhere[r]++
				}
			}
		}
		if norms[best][i] < 1 && math.Abs(got-norms[best][i]) > 1e-6 {
			t.Errorf("sample %d: the nearest hit is at %v, in round %d of %v; kept is one at %v", i, norms[best][i], best, [4]float64{norms[0][i], norms[1][i], norms[2][i], norms[3][i]}, got)
		}
		if best < 3 && norms[3][i] < 1 {
			notLast++
		}
	}
	if notLast == 0 || elsewhere[2] == 0 || elsewhere[3] == 0 {
		t.Errorf("the nearest is not the last %d times, a restart ends elsewhere %v times", notLast, elsewhere)
	}
}

// No restart repeats the one before it.
func TestRestartsDiffer(t *testing.T) {
	const n = 6
	m := tiny(t, "mnist-wong")
	for _, a := range []Attack{
		{Name: "pgd", Steps: 2, RandomStart: true, Restarts: 2}, {Name: "apgd-ce", Steps: 3, RandomStart: true, Restarts: 2}, {Name: "square", Steps: 20, Restarts: 2},
	} {
		for _, norm := range []Norm{Linf, L2} {
			threat := ThreatModel{norm, MustEpsilon("0.4"), Unit}
			a := a.Resolve(threat)
			g, err := RoundGraph(m, a, threat, n, graph.F32)
			must(t, err)
			p := compile(t, g)
			feed := with(startOf(t, m, 4), batch(m, n, graph.F32, 4), interp.Feed{
				"scalar seed": interp.New(graph.U32, nil, 1), "scalar eps": interp.New(graph.F32, nil, float64(float32(0.4))),
				"scalar alpha": interp.New(graph.F32, nil, float64(float32(a.Alpha(threat).Float64()))),
			})
			if a.Continues() {
				feed["input start"] = feed["input x"]
			}
			var ends [2][]float64
			for r := range ends {
				feed["scalar round"] = interp.New(graph.I32, nil, float64(r))
				p.give(feed)
				p.run()
				ends[r] = p.output("x_adv").Data
			}
			if d, _ := apart(ends[0], ends[1]); d == 0 {
				t.Errorf("%s in %s: the second run is the first again", a.Name, norm)
			}
		}
	}
}

// Restarts of blind draws draw anew: two of two draws are the four of one run.
func TestRestartsDrawAnew(t *testing.T) {
	const n = 24
	m := tiny(t, "mnist-wong")
	for _, name := range []string{"random-uniform", "random-corner"} {
		threat := ThreatModel{Linf, MustEpsilon("0.3"), Unit}
		adv := func(steps, restarts int) []float64 {
			a := Attack{Name: name, Steps: steps, Restarts: restarts}
			g, err := EvalGraph(m, &a, threat, n, graph.F32)
			must(t, err)
			p := compile(t, g)
			p.give(with(startOf(t, m, 4), batch(m, n, graph.F32, 4), interp.Feed{
				"scalar seed": interp.New(graph.U32, nil, 1), "scalar eps": interp.New(graph.F32, nil, float64(float32(0.3))), "scalar alpha": interp.New(graph.F32, nil),
			}))
			p.run()
			return p.output("x_adv").Data
		}
		one, two, few := adv(4, 1), adv(2, 2), adv(3, 1)
		if d, _ := apart(one, two); d > 0 {
			t.Errorf("%s: two runs of two draws are %v from one of four", name, d)
		}
		if d, _ := apart(one, few); d == 0 {
			t.Errorf("%s: the fourth draw is never the worst: a test that proves nothing", name)
		}
	}
}

// A search for the nearest point keeps, from round to round, the nearer one that lies
// within ε.
func TestSettle(t *testing.T) {
	g, p := toyGraph(4)
	s := &search{Problem: p, ball: ball{eps: g.Const(graph.F32, []float64{0.4})}}
	inf := math.Inf(1)
	at := func(v float64) *graph.Node { return g.Const(graph.F32, []float64{v}, 4, 1, 1, 2) }
	before := &worst{at(1), g.Const(graph.Bool, []float64{1, 1, 0, 0}, 4), g.Const(graph.F32, []float64{-0.2, -0.2, -inf, -inf}, 4)}
	end := s.settle(point{x: p.X, worst: before}, nearest{at(2), g.Const(graph.F32, []float64{0.1, 0.3, 0.5, 0.4}, 4)})
	g.Output("x", end.x.Slice(3, 0, 1).Reshape(4))
	g.Output("hit", end.worst.hit)
	g.Output("loss", end.worst.loss)
	out := eval(t, g, interp.Feed{"input x": interp.New(graph.F32, graph.Shape{4, 1, 1, 2})}).Outputs
	for name, want := range map[string][]float64{"x": {2, 1, 1, 2}, "hit": {1, 1, 0, 1}, "loss": {-0.1, -0.2, -inf, -0.4}} {
		for i, v := range out[name].Data {
			if math.Abs(v-want[i]) > 1e-7 {
				t.Errorf("%s is %v, want %v", name, out[name].Data, want)
				break
			}
		}
	}
}

// Restarts of a search by draws draw on: twice 20 draws are 40.
func TestDrawsGoOn(t *testing.T) {
	for _, name := range []string{"random-uniform", "random-corner"} {
		g, p := toyGraph(16)
		p.Threat.Norm = Linf
		once, twice := Attack{Name: name, Steps: 40}, Attack{Name: name, Steps: 20, Restarts: 2}
		x := p.X
		g.Output("once", once.Build(p).X)
		g.Output("twice", twice.Build(p).X)
		half := Attack{Name: name, Steps: 20}
		g.Output("half", half.Build(p).X)
		in := interp.New(graph.F32, x.Shape())
		for i := range in.Data {
			in.Data[i] = float64(i) / 40
		}
		out := eval(t, g, interp.Feed{"input x": in}).Outputs
		if diff, _ := apart(out["once"].Data, out["twice"].Data); diff != 0 {
			t.Errorf("%s: twice 20 draws are %v away from 40", name, diff)
		}
		if diff, _ := apart(out["once"].Data, out["half"].Data); name == "random-uniform" && diff == 0 {
			t.Errorf("%s: 40 draws find nothing that 20 do not: the test sees nothing", name)
		}
	}
}

// Square's restarts draw anew.
func TestSquareRestarts(t *testing.T) {
	found := map[string]*graph.Node{}
	g, p := toyGraph(12)
	p.Threat.Norm = Linf
	p.Eps = g.Const(graph.F32, []float64{0.05}) // too little to fool the network: all goes on to the end
	for name, a := range map[string]Attack{"3": {Steps: 3}, "3 twice": {Steps: 3, Restarts: 2}} {
		a.Name = "square"
		found[name] = a.Build(p).X
	}
	in := interp.New(graph.F32, p.X.Shape())
	for i := range in.Data {
		in.Data[i] = float64(i) / 20
	}
	for name, x := range found {
		g.Output(name, x)
	}
	out := eval(t, g, interp.Feed{"input x": in}).Outputs
	if diff, _ := apart(out["3"].Data, out["3 twice"].Data); diff == 0 {
		t.Error("a restart finds the same")
	}
}

// An attack has a round for each target and restart, and no more targets than there
// are other classes; square one for each hundred queries, and one for the rest.
func TestRounds(t *testing.T) {
	for _, c := range []struct {
		a       Attack
		classes int
		want    int
	}{
		{Attack{Name: "pgd"}, 10, 1}, {Attack{Name: "pgd", Restarts: 3}, 10, 3},
		{Attack{Name: "apgd-t"}, 10, 9}, {Attack{Name: "apgd-t"}, 5, 4}, {Attack{Name: "fab-t", Restarts: 2, Targets: 3}, 100, 6},
		{Attack{Name: "square"}, 10, 50}, {Attack{Name: "square", Steps: 101, Restarts: 2}, 10, 4}, {Attack{Name: "square", Steps: 7}, 10, 1},
	} {
		if got := c.a.Rounds(c.classes); got != c.want {
			t.Errorf("%v on %d classes: %d rounds, want %d", c.a, c.classes, got, c.want)
		}
	}
}

// AutoAttack's versions, in their published settings.
func TestSuites(t *testing.T) {
	threat := ThreatModel{Linf, MustEpsilon("8/255"), Unit}
	for name, want := range map[string]string{
		"autoattack":      "APGD-CE-100; APGD-T-100, 9 targets; FAB-T-100, 9 targets; Square-5000",
		MixedSuite:        "APGD-CE-100; APGD-T-100, 9 targets; FAB-T-100, 9 targets; Square-5000",
		"autoattack-plus": "APGD-CE-100-5; APGD-DLR-100-5; FAB-100-5; Square-5000; APGD-T-100, 9 targets; FAB-T-100, 9 targets",
		"autoattack-rand": "APGD-CE-100; APGD-DLR-100",
	} {
		list, ok, err := LookupSuite(name, threat)
		must(t, err)
		var got []string
		for _, a := range list {
			must(t, a.Validate())
			got = append(got, a.String())
		}
		if !ok || strings.Join(got, "; ") != want {
			t.Errorf("%s: %s", name, strings.Join(got, "; "))
		}
	}
	if _, ok, err := LookupSuite("pgd", threat); ok || err != nil {
		t.Errorf("pgd is no suite: %v %v", ok, err)
	}
	inL1, _, err := LookupSuite("autoattack", ThreatModel{L1, MustEpsilon("8"), Unit})
	if must(t, err); inL1[0].Restarts != 5 || inL1[1].Targets != 5 || inL1[2].Targets != 9 || inL1[3].Name != "square" {
		t.Errorf("in L1: %v", inL1)
	}
	if _, ok, err := LookupSuite("autoattack-plus", ThreatModel{L1, MustEpsilon("8"), Unit}); !ok || err == nil || !strings.Contains(err.Error(), "autoattack-plus is not defined in L1") {
		t.Errorf("plus in L1: %v", err)
	}
	for steps, want := range map[int]string{100: "22 41 57 70 80 87 93 99", 20: "4 7 9 10 11 12 13 14 15 16 17 18 19 20"} {
		var at []string
		for i, period := range checkpoints(steps) {
			if period > 0 {
				at = append(at, fmt.Sprint(i+1))
			}
		}
		if got := strings.Join(at, " "); got != want { // 0.22, 0.41, … of the paper
			t.Errorf("checkpoints of %d steps: %s, want %s", steps, got, want)
		}
	}
	for query, want := range map[int]int{0: 25, 10: 25, 11: 18, 51: 13, 201: 9, 501: 6, 1001: 4, 2001: 3, 4001: 2, 8001: 1} {
		if got := squareSide(Linf, query, 28, 28); got != want {
			t.Errorf("the window of query %d has side %d, want %d", query, got, want)
		}
	}
}

// No round of any attack mixes the rows of a batch, so that a host may fill
// batches up, or leave rows out.
func TestRoundsByRows(t *testing.T) {
	for _, model := range []string{"mnist-wong", "preactresnet18"} {
		m := tiny(t, model)
		for _, name := range AttackNames() {
			for _, norm := range []Norm{Linf, L2, L1} {
				if norms := attacks[name].norms; norms != nil && !slices.Contains(norms, norm) {
					continue
				}
				a := few(name)
				if name == "pgd" {
					a.Restarts = 3
				}
				g, err := RoundGraph(m, a, ThreatModel{norm, MustEpsilon("0.3"), Unit}, 6, graph.U8)
				must(t, err)
				var inputs []string
				for n := range graph.Live(g) {
					if n.Op() == graph.OpInput {
						inputs = append(inputs, n.Attrs().Name)
					}
				}
				if err := passes.RowIndependent(g, inputs...); err != nil {
					t.Errorf("%s under %s in %s: %v", model, name, norm, err)
				}
			}
		}
	}
}

// A targeted attack's own choice of targets: never the label, and by its rule.
func TestTargetRules(t *testing.T) {
	const n = 40
	m := tiny(t, "mnist-wong")
	for _, rule := range targetRules {
		t.Run(rule, func(t *testing.T) {
			a := Attack{Name: "pgd", Steps: 2, Target: rule}
			threat := ThreatModel{Linf, MustEpsilon("0.3"), Unit}
			g, err := EvalGraph(m, &a, threat, n, graph.F32)
			must(t, err)
			params, buffers := m.Declare(g, "z.")
			g.Output("logits", m.Apply(params, buffers, g.Root().Nodes()[0], nn.Eval).Logits)
			feed := with(startOf(t, m, 4), batch(m, n, graph.F32, 4), interp.Feed{
				"scalar seed":  interp.New(graph.U32, nil, 1),
				"scalar eps":   interp.New(graph.F32, nil, 0.3),
				"scalar alpha": interp.New(graph.F32, nil, 0.1),
			})
			for key, v := range startOf(t, m, 4) {
				if name, ok := strings.CutPrefix(key, "state "); ok {
					feed["state z."+name] = v
				}
			}
			out := eval(t, g, feed).Outputs
			seen := map[float64]bool{}
			for i, y := range feed["input y"].Data {
				z, target := out["logits"].Data[i*10:][:10], out["target"].Data[i]
				seen[target] = true
				if target == y || target < 0 || target > 9 {
					t.Fatalf("sample %d: label %v, target %v", i, y, target)
				}
				if rule == "next" && target != float64((int(y)+1)%10) {
					t.Errorf("sample %d: label %v, next %v", i, y, target)
				}
				for k, v := range z {
					switch {
					case k == int(y):
					case rule == "least-likely" && v < z[int(target)], rule == "likeliest" && v > z[int(target)]:
						t.Errorf("sample %d: %v has %v, class %d has %v", i, target, z[int(target)], k, v)
					}
				}
			}
			if rule == "random" && len(seen) < 8 {
				t.Errorf("only the targets %v", seen)
			}
		})
	}
}
