package adversarial

import (
	"fmt"
	"strings"
	"testing"

	"temper/engine"
	"temper/engine/graph"
	"temper/engine/interp"
	"temper/engine/optest"
	"temper/engine/passes"
	"temper/nn"
)

// Each benchmark runs with one worker and with two, and with the schedule
// "rows" off: what the schedule and the second worker are worth.
func benchmark(b *testing.B, build func() *graph.Graph) {
	for _, c := range []struct {
		threads int
		off     []string
	}{{1, nil}, {2, nil}, {2, []string{"rows"}}} {
		b.Run(fmt.Sprintf("threads=%d/off=%v", c.threads, c.off), func(b *testing.B) {
			dev, err := engine.Open("cpu", engine.DeviceOptions{Threads: c.threads})
			if err != nil {
				b.Fatal(err)
			}
			defer dev.Close()
			state := dev.NewState()
			g := build()
			e, err := dev.Compile(g, state, engine.Options{Passes: passes.Options{Off: c.off}})
			if err != nil {
				b.Fatal(err)
			}
			if err := optest.Bind(g, e, state, benchFeed(g)); err != nil {
				b.Fatal(err)
			}
			for range 2 { // warm up
				if err := e.Run(); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportAllocs()
			for b.Loop() {
				if err := e.Run(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// benchFeed draws small weights and leaves them as they are: lr and
// weight_decay are 0.
func benchFeed(g *graph.Graph) interp.Feed {
	feed := optest.RandomFeed(g, 1)
	for name, x := range feed {
		for i := range x.Data {
			switch {
			case name == "scalar lr", name == "scalar weight_decay":
				x.Data[i] = 0
			case strings.HasPrefix(name, "state "):
				x.Data[i] *= 0.05
			}
		}
	}
	return feed
}

func lookup(b *testing.B, name string) *nn.Model {
	m, err := nn.Lookup(name, nn.Config{Input: []int{3, 32, 32}, Classes: 10})
	if err != nil {
		b.Fatal(err)
	}
	return m
}

// PGD-10 on the small CIFAR network, 128 samples: no batch statistics, so all
// of it is independent from sample to sample.
func BenchmarkSmallCNNAttack(b *testing.B) {
	m := lookup(b, "cifar-small")
	benchmark(b, func() *graph.Graph {
		g := graph.New("attack")
		params, buffers := m.Declare(g, "")
		threat := ThreatModel{Linf, MustEpsilon("8/255"), Unit}
		found := Attack{Name: "pgd", Steps: 10}.Build(Problem{
			Forward: Of(m, params), Buffers: buffers,
			X: g.Input("x", graph.F32, 128, 3, 32, 32), Y: g.Input("y", graph.I32, 128),
			Threat: threat, Eps: g.Const(graph.F32, []float64{8. / 255}), Alpha: g.Const(graph.F32, []float64{2. / 255}),
		})
		g.Output("x", found.X)
		return g
	})
}

func benchmarkStep(b *testing.B, model, method string, batch int) {
	m := lookup(b, model)
	opt, err := nn.OptimizerConfig{Name: "sgd", Momentum: 0.9}.Optimizer()
	if err != nil {
		b.Fatal(err)
	}
	benchmark(b, func() *graph.Graph {
		t, err := LookupTraining(method)
		if err != nil {
			b.Fatal(err)
		}
		g, err := StepGraph(m, t, opt, ThreatModel{Linf, MustEpsilon("8/255"), Unit}, batch, graph.U8)
		if err != nil {
			b.Fatal(err)
		}
		return g
	})
}

func BenchmarkSmallCNNStep(b *testing.B)       { benchmarkStep(b, "cifar-small", "pgd-at", 128) }
func BenchmarkPreActResNet18Step(b *testing.B) { benchmarkStep(b, "preactresnet18", "standard", 64) }
