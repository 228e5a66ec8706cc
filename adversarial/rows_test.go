package adversarial

import (
	"testing"

	"temper/engine"
	"temper/engine/graph"
	"temper/engine/interp"
	"temper/engine/optest"
	"temper/engine/passes"
	"temper/nn"
)

// on runs graphs on a CPU of so many workers, with rowBytes of temporaries a
// worker in the schedule "rows", or without it.
func on(t *testing.T, threads, rowBytes int) optest.Runner {
	t.Helper()
	d, err := engine.Open("cpu", engine.DeviceOptions{Threads: threads})
	must(t, err)
	t.Cleanup(func() { d.Close() })
	o := engine.Options{Passes: passes.Options{Target: targetOf(d, rowBytes)}}
	if rowBytes == 0 {
		o.Passes.Off = []string{"rows"}
	}
	return optest.On(d, o)
}

// targetOf is the device's target with other chunks.
func targetOf(d *engine.Device, rowBytes int) passes.Target {
	t, _ := d.Target(graph.PrecisionFloat32)
	t.RowBytes = rowBytes
	return t
}

// outlined lists the loops of a graph whose iterations are independent, as the
// CPU gets it.
func outlined(t *testing.T, g *graph.Graph, rowBytes int) []*graph.Node {
	t.Helper()
	d, err := engine.Open("cpu", engine.DeviceOptions{})
	must(t, err)
	defer d.Close()
	final, err := passes.Run(g, passes.Options{Target: targetOf(d, rowBytes)})
	must(t, err)
	var loops []*graph.Node
	for n := range graph.Live(final) {
		if n.Op() == graph.OpLoop && n.Attrs().Carry == 0 {
			loops = append(loops, n)
		}
	}
	return loops
}

// Where batch norm is frozen or absent, an attack mixes no samples: one loop
// over chunks holds all of it, ascent steps included, and gives the bits of the
// plain schedule on any number of workers.
func TestAttackByRows(t *testing.T) {
	for _, name := range nn.Names() {
		t.Run(name, func(t *testing.T) {
			m, threat := tiny(t, name), imageThreat
			if name == "patchcnn" {
				threat = ThreatModel{PatchL2, MustEpsilon("0.1"), Unbounded}
			}
			g := graph.New("attack")
			const n = 48
			c := func(v float64) *graph.Node { return g.Const(graph.U32, []float64{v}) }
			params, buffers := m.Declare(g, "")
			found := Attack{Name: "pgd", Steps: 3, Restarts: 2, RandomStart: true}.Build(Problem{
				Forward: Of(m, params), Buffers: buffers, Threat: threat,
				X: g.Input("x", graph.F32, append([]int{n}, m.Input...)...), Y: g.Input("y", graph.I32, n),
				Eps: g.Scalar("eps", graph.F32), Alpha: g.Scalar("alpha", graph.F32),
				Draw: graph.Draw{Seed: c(5), IDs: g.Input("ids", graph.U32, n), Step: c(0), Iter: c(0)},
			})
			g.Output("x", found.X)
			must(t, passes.RowIndependent(g, "x", "y", "ids"))

			var loops []*graph.Node // others are inside it
			for _, l := range outlined(t, g, 1<<14) {
				if l.Block().Parent() == nil {
					loops = append(loops, l)
				}
			}
			if len(loops) != 1 {
				t.Fatalf("%d loops over chunks, want 1", len(loops))
			}
			if inner := carrying(loops[0].Body()); inner != 2 { // restarts and, in them, steps
				t.Errorf("the chunks' body holds %d loops, want 2", inner)
			}
			feed := with(startOf(t, m, 1), batch(m, n, graph.F32, 1), scalars(threat.Epsilon.Float64(), threat.Epsilon.Float64()/2, 0))
			want, err := on(t, 2, 0)(g, feed)
			must(t, err)
			for _, threads := range []int{1, 2, 3} {
				for _, rowBytes := range []int{1 << 14, 1 << 16} {
					got, err := on(t, threads, rowBytes)(g, feed)
					must(t, err)
					if err := (optest.Tolerance{}).CompareResults(want, got); err != nil {
						t.Errorf("%d workers, %d bytes: %v", threads, rowBytes, err)
					}
				}
			}
		})
	}
}

// carrying counts the loops in a body that carry something.
func carrying(b *graph.Block) int {
	count := 0
	for _, n := range b.Nodes() {
		if n.Body() != nil {
			count += min(1, n.Attrs().Carry) + carrying(n.Body())
		}
	}
	return count
}

// A training step by rows is the plain one but for the rounding of sums over
// the samples, and the same bits on any number of workers.
func TestStepByRows(t *testing.T) {
	for _, c := range []struct{ model, method, bn string }{
		{"cifar-small", "pgd-at", "eval"},
		{"mnist-wong", "fgsm-rs", "eval"},
		{"preactresnet18", "standard", ""},
		{"preactresnet18", "pgd-at", "eval"},
		{"preactresnet18", "pgd-at", "batch-update"},
		{"wideresnet-34-10", "pgd-at", "batch"},
	} {
		t.Run(c.model+" "+c.method+" "+c.bn, func(t *testing.T) {
			m := tiny(t, c.model)
			tr, err := LookupTraining(c.method)
			must(t, err)
			tr.Attack.BN = c.bn
			tr.Augment = Augment{Crop: 2, Flip: true}
			if c.method == "pgd-at" {
				tr.Attack.Steps = 2
			}
			const n = 48
			g, err := StepGraph(m, tr, nn.SGD{Momentum: 0.9}, imageThreat, n, graph.U8)
			must(t, err)
			if len(outlined(t, g, 1<<14)) == 0 {
				t.Fatal("nothing is outlined")
			}
			feed := with(startOf(t, m, 1), batch(m, n, graph.U8, 1), scalars(8./255, 4./255, 0.1))
			for _, s := range g.Root().Nodes() {
				if s.Op() == graph.OpState && feed[interp.Key(s)] == nil {
					feed[interp.Key(s)] = interp.New(s.DType(), s.Shape())
				}
			}
			plain, err := on(t, 2, 0)(g, feed)
			must(t, err)
			want, err := on(t, 1, 1<<14)(g, feed)
			must(t, err)
			for name, x := range plain.States {
				if d := distance(want.States[name], x); !(d <= 1e-4) {
					t.Errorf("%s is off by %.2g", name, d)
				}
			}
			for _, threads := range []int{2, 3} {
				got, err := on(t, threads, 1<<14)(g, feed)
				must(t, err)
				if err := (optest.Tolerance{}).CompareResults(want, got); err != nil {
					t.Errorf("%d workers: %v", threads, err)
				}
			}
		})
	}
}
