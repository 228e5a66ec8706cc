//go:build cgo && !windows

package cuda

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"temper/engine"
	"temper/engine/autodiff"
	"temper/engine/graph"
	"temper/engine/interp"
	"temper/engine/optest"
)

// residual is a training step of two residual blocks with a shortcut each, on
// images of which the network is given the result of an ascent loop.
func residual() *graph.Graph {
	g := graph.New("residual")
	conv := graph.Square(1, 1)
	down := graph.Square(2, 0)
	weights := []*graph.Node{
		g.State("a1", graph.F32, 8, 4, 3, 3), g.State("a2", graph.F32, 8, 8, 3, 3), g.State("a", graph.F32, 8, 4, 1, 1),
		g.State("b1", graph.F32, 12, 8, 3, 3), g.State("b2", graph.F32, 12, 12, 3, 3), g.State("b", graph.F32, 12, 8, 1, 1),
	}
	block := func(x *graph.Node, w []*graph.Node, first graph.Window) *graph.Node {
		y := x.Conv2D(w[0], first)
		y = y.Sub(y.Mean(0, 2, 3).Reshape(1, y.Dim(1), 1, 1)).ReLU().Conv2D(w[1], conv)
		skip := first
		if skip = graph.Square(1, 0); first != conv {
			skip = down
		}
		return y.Add(x.Conv2D(w[2], skip)).ReLU()
	}
	loss := func(x *graph.Node) *graph.Node {
		return block(block(x, weights[:3], conv), weights[3:], graph.Square(2, 1)).Mul(g.Input("y", graph.F32, 3, 12, 3, 3)).Sum()
	}
	adv, _ := g.Loop(2, []*graph.Node{g.Input("x", graph.F32, 3, 4, 6, 6)}, nil, func(_ *graph.Node, c, _ []*graph.Node) (next, out []*graph.Node) {
		return []*graph.Node{c[0].Add(autodiff.Grad(loss(c[0]), c[0])[0].MulC(0.01))}, nil
	})
	l := loss(adv[0].StopGradient())
	for i, d := range autodiff.Grad(l, weights...) {
		g.Assign(weights[i], weights[i].Sub(d.MulC(0.01)))
	}
	g.Output("loss", l)
	g.Output("x_adv", adv[0])
	return g
}

// Shortcuts and filters' gradients stand beside what they do not need: in the
// captured graph the two come behind one node and before another, and neither
// before the other. Run at once they touch no memory that one of them writes, and
// in any order they give the bits of one stream.
func TestBranches(t *testing.T) {
	for _, precision := range []graph.Precision{graph.PrecisionFloat32, graph.PrecisionBF16} {
		p := residual()
		feed := optest.RandomFeed(p, 1)
		dev, g := openEmulator(t, "checked,log", planOf(t, p, precision))
		branches := engine.Options{Precision: precision}
		one := branches
		one.Passes.Target = Target(precision)
		one.Passes.Target.Branches = false
		g.lib.EmulatorLog()
		want := must(optest.On(dev, one)(p, feed))(t)
		if n := forks(t, g.lib.EmulatorLog()); n != 0 {
			t.Errorf("%v: %d branches on one stream", precision, n)
		}
		if err := (optest.Tolerance{}).CompareResults(want, must(optest.On(dev, branches)(p, feed))(t)); err != nil {
			t.Errorf("%v: %v", precision, err)
		}
		// Each iteration and the descent have two shortcuts, forward and back, and the
		// descent six filters' gradients, of which some have nothing beside them.
		if n := forks(t, g.lib.EmulatorLog()); n < 2*4+6 {
			t.Errorf("%v: %d branches, want at least %d", precision, n, 2*4+6)
		}
		for _, seed := range []int{1, 2, 3} {
			if err := g.lib.SetEmulator("seed", seed); err != nil {
				t.Fatal(err)
			}
			for _, g.noGraph = range []bool{false, true} {
				if err := (optest.Tolerance{}).CompareResults(want, must(optest.On(dev, branches)(p, feed))(t)); err != nil {
					t.Errorf("%v in order %d: %v", precision, seed, err)
				}
			}
			g.noGraph = false
		}
	}
}

// Two streams give the bits of one, run after run.
func TestBranchesBits(t *testing.T) {
	p := residual()
	feed := optest.RandomFeed(p, 1)
	dev, _ := openEmulator(t, "", planOf(t, p, graph.PrecisionBF16))
	one := engine.Options{Precision: graph.PrecisionBF16}
	one.Passes.Target = Target(graph.PrecisionBF16)
	one.Passes.Target.Branches = false
	want := must(optest.On(dev, one)(p, feed))(t)
	for range 3 {
		if err := (optest.Tolerance{}).CompareResults(want, must(optest.On(dev, engine.Options{Precision: graph.PrecisionBF16})(p, feed))(t)); err != nil {
			t.Error(err)
		}
	}
}

// Each branch has scratch of its own, inside the arena, behind the temporaries.
func TestBranchesScratch(t *testing.T) {
	dev, g := openEmulator(t, "")
	st := dev.NewState()
	defer st.Free()
	e := must(dev.Compile(residual(), st, engine.Options{}))(t)
	defer e.Close()
	for c := range g.programs {
		size := Ptr(scratch(c.kernels))
		if err := c.settle(); err != nil || size == 0 {
			t.Fatalf("%d bytes of scratch, %v", size, err)
		}
		temporaries := g.arena.at + Ptr(c.plan.Arena+c.plan.Private)
		if c.scratch[0] < temporaries || c.scratch[1] < c.scratch[0]+size || g.arena.at+Ptr(g.arena.bytes) < c.scratch[1]+size {
			t.Errorf("scratch of %d bytes at %#x, behind temporaries to %#x, in an arena of %d from %#x on", size, c.scratch, temporaries, g.arena.bytes, g.arena.at)
		}
	}
}

// TestEarlyNodes lets kernels of a graph begin early that come right behind one
// other, where device and driver can; the emulator has them wait for their turn, and
// the bits are the same.
func TestEarlyNodes(t *testing.T) {
	p := residual()
	feed := optest.RandomFeed(p, 1)
	var want *interp.Result
	for _, c := range []struct {
		options string
		early   bool
	}{{"capability=90,driver=12030", true}, {"capability=90,driver=12020", false}, {"capability=80", false}, {"capability=90,off", false}} {
		options, off := strings.CutSuffix(c.options, ",off")
		if off {
			t.Setenv("TEMPER_CUDA_EARLY", "off")
		}
		dev, g := openEmulator(t, "log=1,"+options)
		g.lib.EmulatorLog()
		got := must(optest.On(dev, engine.Options{})(p, feed))(t)
		if want == nil {
			want = got
		}
		if err := (optest.Tolerance{}).CompareResults(want, got); err != nil {
			t.Errorf("%s: %v", c.options, err)
		}
		early, late := 0, 0
		for line := range strings.Lines(g.lib.EmulatorLog()) {
			switch {
			case !strings.HasPrefix(line, "node ") || strings.HasSuffix(line, " copy\n"):
			case !strings.Contains(line, " early:"):
				late++
			case len(strings.Fields(line)) != 4:
				t.Errorf("%s: begins early, behind not one node: %s", c.options, line)
			default:
				early++
			}
		}
		if c.early && early < late || !c.early && early > 0 {
			t.Errorf("%s: %d kernels begin early, %d do not", c.options, early, late)
		}
	}
}

// forks counts, in the graph that the emulator wrote down, the nodes that two come
// behind, and checks that there are as many where two meet again.
func forks(t *testing.T, log string) (n int) {
	t.Helper()
	behind, joins := map[string]int{}, 0
	for line := range strings.Lines(log) {
		var number int
		if _, err := fmt.Sscanf(line, "node %d:", &number); err != nil {
			continue
		}
		words := strings.Fields(line)
		after := words[2 : len(words)-1]
		if slices.Sort(after); len(after) > 1 {
			joins++
		}
		for _, a := range after {
			behind[a]++
		}
	}
	for a, k := range behind {
		if k > 2 {
			t.Errorf("%d nodes come behind node %s", k, a)
		}
		if k == 2 {
			n++
		}
	}
	if joins != n {
		t.Errorf("%d forks and %d joins", n, joins)
	}
	return n
}
