package cpu_test

import (
	"fmt"
	"math"
	"testing"

	"temper/engine"
	"temper/engine/graph"
	"temper/engine/interp"
	"temper/engine/optest"
	"temper/engine/rng"
)

// sorted is a graph that sorts lines of m, along the last axis or the first.
func sorted(lines, m, axis int) *graph.Graph {
	g := graph.New("sorted")
	shape := graph.Shape{lines, m}
	if axis == 0 {
		shape = graph.Shape{m, lines}
	}
	x := g.Input("x", graph.F32, shape...)
	g.Output("up", x.ArgSort(axis, false))
	g.Output("down", x.ArgSort(axis, true))
	return g
}

// Short and long lines, along either axis, with everything that floats have
// among them, are put into the reference's order: equal elements keep theirs,
// −0 equals 0, and NaN of any bits stands on top.
func TestArgSort(t *testing.T) {
	odd := []float64{0, math.Copysign(0, -1), math.Inf(1), math.Inf(-1), math.NaN(), 1e-42, -1e-42, math.MaxFloat32, -math.MaxFloat32, 1, -1, 0.5}
	random := rng.NewStream(1, "argsort", 0)
	for _, m := range []int{1, 2, 10, 64, 65, 300, 784} {
		for axis := range 2 {
			g := sorted(5, m, axis)
			x := interp.New(graph.F32, g.Root().Nodes()[0].Shape())
			for i := range x.Data {
				u := float64(random.Uniform())
				switch k := i % 4; {
				case k == 0:
					x.Data[i] = odd[int(u*float64(len(odd)))]
				case k == 1: // ties
					x.Data[i] = math.Floor(u*8) - 4
				default:
					x.Data[i] = float64(float32((u - 0.5) * math.Pow(10, math.Floor(20*float64(random.Uniform())-10))))
				}
			}
			feed := interp.Feed{"input x": x}
			want, err := interp.Run(g, feed)
			if err != nil {
				t.Fatal(err)
			}
			got, err := optest.On(open(t, 2), engine.Options{})(g, feed)
			if err != nil {
				t.Fatal(err)
			}
			if err := (optest.Tolerance{}).CompareResults(want, got); err != nil {
				t.Errorf("lines of %d along axis %d: %v", m, axis, err)
			}
		}
	}
}

// Images of MNIST and CIFAR-10, and logits.
func BenchmarkArgSort(b *testing.B) {
	for _, m := range []int{10, 100, 784, 3072, 6144} {
		b.Run(fmt.Sprint(m), func(b *testing.B) {
			dev, err := engine.Open("cpu", engine.DeviceOptions{Threads: 1})
			if err != nil {
				b.Fatal(err)
			}
			defer dev.Close()
			const lines = 64
			g, st := graph.New("sort"), dev.NewState()
			g.Output("order", g.Input("x", graph.F32, lines, m).ArgSort(1, false))
			e, err := dev.Compile(g, st, engine.Options{})
			if err != nil {
				b.Fatal(err)
			}
			defer e.Close()
			if err := optest.Bind(g, e, st, optest.RandomFeed(g, 1)); err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				if err := e.Run(); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*lines), "ns/line")
		})
	}
}
