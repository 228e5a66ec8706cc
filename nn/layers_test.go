package nn

import (
	"math"
	"strings"
	"testing"

	"temper/engine/graph"
	"temper/engine/interp"
)

// σ and σ′ against the formulas, at the kinks and beyond, for whole and broken
// exponents; in float32 they stay finite for a tiny ρ and a large z.
func TestSmoothedReLU(t *testing.T) {
	for _, c := range []struct{ q, rho float64 }{{2, 1}, {3, 0.5}, {4, 0.75}, {7, 2}, {2.5, 0.5}, {3, 1e-20}} {
		g := graph.New("smoothed")
		zs := []float64{-1e30, -1, 0, c.rho / 3, 0.9 * c.rho, c.rho, 1.5 * c.rho, 20, 1e30}
		z := g.Input("z", graph.F32, len(zs))
		y := SmoothedReLU(z, c.q, c.rho)
		g.Output("y", y)
		if whole, pow := c.q == math.Trunc(c.q), strings.Contains(g.String(), " pow "); whole == pow {
			t.Errorf("q=%v: a power is taken by pow: %v", c.q, pow)
		}
		g.Output("slope", Grad(y.Sum(), Tree{{"z", z}})[0].Node)
		feed := interp.Feed{"input z": interp.New(graph.F32, graph.Shape{len(zs)}, zs...)}
		exact := eval(t, g, feed)
		single, err := interp.RunRounded(g, feed)
		must(t, err)
		for i, z := range zs {
			want, slope := sigma(z, c.q, c.rho)
			for name, r := range map[string]struct {
				*interp.Result
				tol float64
			}{"float64": {exact, 1e-12}, "float32": {single, 1e-5}} {
				if got := r.Outputs["y"].Data[i]; !(math.Abs(got-want) <= r.tol*math.Abs(want)) {
					t.Errorf("%s, q=%v ρ=%v: σ(%v) = %v, want %v", name, c.q, c.rho, z, got, want)
				}
				if got := r.Outputs["slope"].Data[i]; !(math.Abs(got-slope) <= r.tol*slope) {
					t.Errorf("%s, q=%v ρ=%v: σ′(%v) = %v, want %v", name, c.q, c.rho, z, got, slope)
				}
			}
		}
	}
}

func sigma(z, q, rho float64) (value, slope float64) {
	slope = math.Pow(min(max(z, 0), rho)/rho, q-1)
	switch {
	case z < 0:
		return 0, slope
	case z <= rho:
		return math.Pow(z/rho, q) * rho / q, slope
	}
	return z - (1-1/q)*rho, slope
}

// Misuse gives one line that names the thing.
func TestApplyErrors(t *testing.T) {
	c := cifar()
	c.Width = 1
	m := lookup(t, "preactresnet18", c)
	for _, c := range []struct {
		name  string
		apply func(x *graph.Node, params, buffers Tree)
		want  string
	}{
		{"size", func(x *graph.Node, p, b Tree) { m.Apply(p, b, x.Slice(2, 0, 28), Eval) }, "input of shape [2,3,28,32]: want N images of [3,32,32]"},
		{"missing", func(x *graph.Node, p, b Tree) { m.Apply(p[1:], b, x, Eval) }, `no "conv1.weight"`},
		{"buffers", func(x *graph.Node, p, b Tree) { m.Apply(p, nil, x, Eval) }, `no "layer1.0.bn1.running_mean"`},
		{"shape", func(x *graph.Node, p, b Tree) {
			m.Apply(p.Map(func(_ int, l Leaf) *graph.Node { return l.Node.Expand(0) }), b, x, Eval)
		}, `"conv1.weight" is f32[1,1,3,3,3]: want f32[1,3,3,3]`},
		{"one value", func(x *graph.Node, p, b Tree) {
			BatchNorm(scope(p, b, Batch).Sub("layer1.0").Sub("bn1"), x.Slice(0, 0, 1).Slice(1, 0, 1).Mean(2, 3).Reshape(1, 1, 1, 1))
		}, "batch statistics of [1,1,1,1]"},
	} {
		g := graph.New(c.name)
		params, buffers := m.Declare(g, "")
		c.apply(g.Input("x", graph.F32, 2, 3, 32, 32), params, buffers)
		if err := g.Err(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v does not say %q", c.name, err, c.want)
		}
	}
}
