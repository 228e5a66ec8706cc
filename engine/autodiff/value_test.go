package autodiff

import (
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"temper/engine/graph"
	"temper/engine/interp"
)

// At kinks and singular points the derivative is a convention: PyTorch's. The
// values are worked out by hand from its rules.
func TestConventions(t *testing.T) {
	inf, nan := math.Inf(1), math.NaN()
	for _, c := range []struct {
		name string
		f    func(x, y *graph.Node) *graph.Node
		x, y []float64
		dx   []float64
		dy   []float64 // nil: zeros
	}{
		{"relu", func(x, _ *graph.Node) *graph.Node { return x.ReLU() }, []float64{-1, 0, 2, nan}, nil, []float64{0, 0, 1, 1}, nil},
		{"abs", func(x, _ *graph.Node) *graph.Node { return x.Abs() }, []float64{-1, 0, 2}, nil, []float64{-1, 0, 1}, nil},
		{"sign", func(x, _ *graph.Node) *graph.Node { return x.Sign() }, []float64{-1, 0, 2}, nil, []float64{0, 0, 0}, nil},
		{"floor", func(x, _ *graph.Node) *graph.Node { return x.Floor().Mul(x) }, []float64{1.5, 2}, nil, []float64{1, 2}, nil},
		{"sqrt", func(x, _ *graph.Node) *graph.Node { return x.Sqrt() }, []float64{0, 4}, nil, []float64{inf, 0.25}, nil},
		{"stop-gradient", func(x, _ *graph.Node) *graph.Node { return x.StopGradient().Mul(x) }, []float64{3}, nil, []float64{3}, nil},
		{"max", (*graph.Node).Max, []float64{1, 2, 2, nan}, []float64{2, 2, 1, 0}, []float64{0, 0.5, 1, 1}, []float64{1, 0.5, 0, 1}},
		{"min", (*graph.Node).Min, []float64{1, 2, 2}, []float64{2, 2, 1}, []float64{1, 0.5, 0}, []float64{0, 0.5, 1}},
		{"reduce-max", func(x, _ *graph.Node) *graph.Node { return x.ReduceMax().MulC(6) }, []float64{3, 1, 3, 3}, nil, []float64{2, 0, 2, 2}, nil},
		{"clamp", func(x, _ *graph.Node) *graph.Node { return x.ClampC(0, 1) }, []float64{-0.1, 0, 0.5, 1, 1.1}, nil, []float64{0, 1, 1, 1, 0}, nil},
		{"max-pool", func(x, _ *graph.Node) *graph.Node {
			return x.Reshape(1, 1, 1, 4).MaxPool([2]int{1, 2}, graph.Window{Stride: [2]int{1, 1}})
		}, []float64{3, 3, 1, 1}, nil, []float64{1, 1, 1, 0}, nil},
		// d/dx xᵇ = b·xᵇ⁻¹, 0 for b = 0; d/db xᵇ = xᵇ·log x, 0 where x = 0 and b ≥ 0.
		{"pow", (*graph.Node).Pow,
			[]float64{0, 0, 0, 2, -2, -2, -2, 0},
			[]float64{0, 1, 2, 3, 3, 0, 2, -1},
			[]float64{0, 1, 0, 12, 12, 0, -4, -inf},
			[]float64{0, 0, 0, 8 * math.Log(2), nan, nan, nan, -inf}},
		{"gather", func(x, _ *graph.Node) *graph.Node { // one index twice, one clamped
			return x.Gather(0, x.Graph().Const(graph.I32, []float64{1, 1, 9}, 3))
		}, []float64{5, 6, 7}, nil, []float64{0, 2, 1}, nil},
		{"xlogx by select", func(x, _ *graph.Node) *graph.Node {
			return graph.Select(x.Gt(x.C(0)), x.Mul(x.Log()), x.C(0))
		}, []float64{1}, nil, []float64{1}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.y == nil {
				c.y = make([]float64, len(c.x))
			}
			if c.dy == nil {
				c.dy = make([]float64, len(c.y))
			}
			g := graph.New(c.name)
			x, y := g.Const(graph.F64, c.x, len(c.x)), g.Input("y", graph.F64, len(c.y))
			d := Grad(c.f(x, y).Sum(), x, y)
			g.Output("dx", d[0])
			g.Output("dy", d[1])
			r, err := interp.Run(g, interp.Feed{"input y": interp.New(graph.F64, graph.Shape{len(c.y)}, c.y...)})
			if err != nil {
				t.Fatal(err)
			}
			for name, want := range map[string][]float64{"dx": c.dx, "dy": c.dy} {
				if d := cmp.Diff(want, r.Outputs[name].Data, cmpopts.EquateNaNs(), cmpopts.EquateApprox(1e-14, 0)); d != "" {
					t.Errorf("%s: -want +got\n%s", name, d)
				}
			}
		})
	}
}

// Derivatives are taken again and again of one graph, and of each other; a
// wrong reuse of adjoints would add them up.
func TestManyDerivativesInOneGraph(t *testing.T) {
	g := graph.New("many")
	x := g.Const(graph.F64, []float64{2})
	y := x.PowC(5)
	want := 32.0
	for order := range 6 {
		g.Output(string(rune('0'+order)), y)
		if again := Grad(y, x)[0]; again != Grad(y, x)[0] {
			t.Errorf("order %d: the same derivative is two nodes", order+1)
		}
		y = Grad(y, x)[0]
	}
	r, err := interp.Run(g, nil)
	if err != nil {
		t.Fatal(err)
	}
	for order := range 6 {
		if got := r.Outputs[string(rune('0'+order))].Data[0]; got != want {
			t.Errorf("derivative %d of x⁵ at 2 is %v, want %v", order, got, want)
		}
		want *= float64(5-order) / 2
	}
}

// With respect to an intermediate value, and to it and its operand at once.
func TestIntermediate(t *testing.T) {
	g := graph.New("intermediate")
	x := g.Const(graph.F64, []float64{3})
	h := x.Square()
	y := h.Mul(h).Add(x)
	for i, d := range Grad(y, h, x) {
		g.Output(string(rune('0'+i)), d)
	}
	r, err := interp.Run(g, nil)
	if err != nil {
		t.Fatal(err)
	}
	if dh, dx := r.Outputs["0"].Data[0], r.Outputs["1"].Data[0]; dh != 18 || dx != 4*27+1 {
		t.Errorf("dh = %v, dx = %v: want 18 and 109", dh, dx)
	}
}

// A value through which nothing flows, such as the result of an attack, may be
// one of those that a derivative is taken with respect to, beside what it is
// computed from.
func TestBehindStopGradient(t *testing.T) {
	for name, stop := range map[string]func(*graph.Node) *graph.Node{"stop-gradient": (*graph.Node).StopGradient, "sign": (*graph.Node).Sign} {
		g := graph.New(name)
		w := g.Const(graph.F64, []float64{3})
		x := stop(w)
		for i, d := range Grad(x.Mul(w), x, w) {
			g.Output(string(rune('0'+i)), d)
		}
		r, err := interp.Run(g, nil)
		if err != nil {
			t.Fatal(err)
		}
		if dx, dw := r.Outputs["0"].Data[0], r.Outputs["1"].Data[0]; dx != 3 || dw != r.Values[x].Data[0] {
			t.Errorf("%s: dx = %v, dw = %v", name, dx, dw)
		}
	}
}

// Unrolling is the remedy that the error through a loop names; it must give
// the derivative that the chain of steps has.
func TestUnrolled(t *testing.T) {
	g := graph.New("unrolled")
	x, w := g.Const(graph.F64, []float64{0.5}), g.Const(graph.F64, []float64{3})
	y := x
	for range 3 {
		y = w.Mul(y).Mul(y.C(1).Sub(y)) // the logistic map
	}
	g.Output("d", Grad(y, x)[0])
	r, err := interp.Run(g, nil)
	if err != nil {
		t.Fatal(err)
	}
	want, v := 1.0, 0.5
	for range 3 {
		want, v = want*3*(1-2*v), 3*v*(1-v)
	}
	if got := r.Outputs["d"].Data[0]; math.Abs(got-want) > 1e-15 {
		t.Errorf("derivative %v, want %v", got, want)
	}
}
