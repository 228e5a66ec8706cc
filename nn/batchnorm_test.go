package nn

import (
	"math"
	"testing"

	"temper/engine/graph"
	"temper/engine/interp"
	"temper/engine/rng"
)

// TestBatchNormRounding normalises channels whose mean lies at several distances
// from the running mean, every operation rounded to float32, and compares with the
// definition in float64.
func TestBatchNormRounding(t *testing.T) {
	const n, size, running = 32, 6, 2.5
	for _, c := range []struct {
		mean, std, within float64
	}{
		{2.6, 1, 1e-6},    // as in training
		{0, 1, 1e-6},      // 2.5 standard deviations away, as in its first steps
		{102.5, 1, 4e-3},  // 100 away
		{2.5, 1e-4, 1e-7}, // far below BatchNorm's ε
		{1000, 0, 1e-6},   // constant: its variance must not come out negative
		{-2.5e5, 0, 1e-4}, // the same, where x itself is known to 1/64
	} {
		g := graph.New("batchnorm")
		x := g.Input("x", graph.F32, n, 1, size, size)
		in := Tree{{"weight", g.Const(graph.F32, []float64{1}, 1)}, {"bias", g.Const(graph.F32, []float64{0}, 1)}}
		buffers := Tree{{"running_mean", g.Const(graph.F32, []float64{running}, 1)}, {"running_var", g.Const(graph.F32, []float64{1}, 1)},
			{"num_batches_tracked", g.Const(graph.I32, []float64{0})}}
		g.Output("y", BatchNorm(scope(in, buffers, Batch), x))
		value := interp.New(graph.F32, x.Shape())
		random := rng.NewStream(1, "batchnorm", 0)
		mean, variance := 0.0, 0.0
		for i := range value.Data {
			value.Data[i] = float64(float32(c.mean + c.std*math.Sqrt(12)*(float64(random.Uniform())-0.5)))
			mean += value.Data[i] / float64(len(value.Data))
		}
		for _, v := range value.Data {
			variance += (v - mean) * (v - mean) / float64(len(value.Data))
		}
		r, err := interp.RunRounded(g, interp.Feed{"input x": value})
		if err != nil {
			t.Fatal(err)
		}
		worst := 0.0
		for i, y := range r.Outputs["y"].Data {
			want := (value.Data[i] - mean) / math.Sqrt(variance+bnEps)
			if d := math.Abs(y - want); d > worst || d != d {
				worst = d
			}
		}
		if !(worst <= c.within) {
			t.Errorf("mean %v, deviation %v: %v off, want at most %v", c.mean, c.std, worst, c.within)
		}
	}
}
