package adversarial

import (
	"math"
	"testing"

	"temper/engine"
	"temper/engine/graph"
	"temper/nn"
)

// TestGradientGraph against the slope of the evaluation's cross-entropy, by
// central differences in single pixels: the gradient is that slope divided by
// 1−p_y.
func TestGradientGraph(t *testing.T) {
	const n, size, h = 3, 28 * 28, 0.05
	m, err := nn.Lookup("mnist-wong", nn.Config{Input: graph.Shape{1, 28, 28}, Classes: 10, Width: 2, Hidden: 12})
	must(t, err)
	x, y := make([]float32, n*size), []int32{0, 7, 4}
	for i := range x {
		x[i] = float32(i*i%251) / 251
	}
	d, err := engine.Open("cpu", engine.DeviceOptions{})
	must(t, err)
	t.Cleanup(func() { d.Close() })
	build := func(g *graph.Graph, err error) program {
		must(t, err)
		p := compile(t, g)
		init, err := d.Compile(m.InitGraph(), p.state, engine.Options{})
		must(t, err)
		must(t, init.Set("seed", 3))
		must(t, init.Run())
		must(t, p.FeedBytes("y", engine.Bytes(y)))
		return p
	}
	slope := build(GradientGraph(m, n, graph.F32))
	must(t, slope.FeedBytes("x", engine.Bytes(x)))
	slope.run()
	gradient := slope.output("gradient").Data

	eval := build(EvalGraph(m, nil, ThreatModel{Domain: Unit}, n, graph.F32))
	losses := func(x []float32) []float64 {
		must(t, eval.FeedBytes("x", engine.Bytes(x)))
		eval.run()
		return append([]float64(nil), eval.output("clean_loss").Data...)
	}
	loss := losses(x)
	for _, pixel := range []int{30, 200, 405, 406, 700} {
		up, down := append([]float32(nil), x...), append([]float32(nil), x...)
		for i := range n {
			up[i*size+pixel] += h
			down[i*size+pixel] -= h
		}
		high, low := losses(up), losses(down)
		for i := range n {
			want := (high[i] - low[i]) / (2 * h) / (1 - math.Exp(-loss[i]))
			if got := gradient[i*size+pixel]; math.Abs(got-want) > 1e-5+0.01*math.Abs(want) {
				t.Errorf("image %d, pixel %d: %v, differences say %v", i, pixel, got, want)
			}
		}
	}
}
