package passes

import (
	"strings"
	"testing"

	"temper/engine/graph"
)

func TestRowIndependent(t *testing.T) {
	type nodes = []*graph.Node
	for _, c := range []struct {
		name, want string // in the error; "" if rows stay apart
		build      func(g *graph.Graph, x, y, w *graph.Node)
	}{
		{"a network", "", func(g *graph.Graph, x, y, w *graph.Node) {
			z := x.Reshape(4, 2, 3, 5).Transpose(0, 2, 1, 3).Reshape(4, 30).MatMul(w).ReLU()
			g.Output("loss", z.Exp().Sum(1).Log().Sub(z.Gather(1, y.Expand(1)).Reshape(4)))
		}},
		{"an attack", "", func(g *graph.Graph, x, y, w *graph.Node) {
			worst := g.Const(graph.F32, []float64{0}, 4, 30)
			last, _ := g.Loop(3, nodes{worst, x}, nil, func(i *graph.Node, c, _ nodes) (next, stack nodes) {
				z := graph.MatMul(c[1].MatMul(w), w, false, true).Mul(i.Convert(graph.F32))
				return nodes{c[0].Max(z), z}, nil
			})
			g.Output("worst", last[0])
		}},
		{"numbers of rows", "add of f32[4,30] : f32[4,30] depends on where a row stands", func(g *graph.Graph, x, y, w *graph.Node) {
			g.Output("y", x.Add(g.Iota(graph.F32, 0, 4, 30)))
		}},
		{"statistics of weights", "", func(g *graph.Graph, x, y, w *graph.Node) {
			g.Output("y", x.MatMul(w.Div(w.Sum())))
		}},
		{"a mean", "reduce-sum of f32[4,30] : f32[1,30] (mean) mixes rows", func(g *graph.Graph, x, y, w *graph.Node) {
			g.Output("y", x.Sub(x.SumKeep(0).Named("mean")))
		}},
		{"a mean in a loop", "reduce-sum of f32[4,30] : f32[1,30] mixes rows", func(g *graph.Graph, x, y, w *graph.Node) {
			last, _ := g.Loop(2, nodes{x}, nil, func(_ *graph.Node, c, _ nodes) (next, stack nodes) {
				return nodes{c[0].Sub(c[0].SumKeep(0))}, nil
			})
			g.Output("y", last[0])
		}},
		{"a gradient of weights", "matmul of f32[4,30] : f32[30,2] mixes rows", func(g *graph.Graph, x, y, w *graph.Node) {
			g.Output("y", graph.MatMul(x, x.MatMul(w), true, false))
		}},
		{"rows as filters", "matmul of f32[4,30] : f32[4,4] mixes rows", func(g *graph.Graph, x, y, w *graph.Node) {
			g.Output("y", graph.MatMul(x, x, false, true))
		}},
		{"another order", "reverse of f32[4,30] : f32[4,30] mixes rows", func(g *graph.Graph, x, y, w *graph.Node) {
			g.Output("y", x.Reverse(0))
		}},
		{"a transpose", "transpose of f32[4,30] : f32[30,4] mixes rows", func(g *graph.Graph, x, y, w *graph.Node) {
			g.Output("y", x.Transpose(1, 0))
		}},
		{"a shape without the batch", "reshape of f32[4,30] : f32[6,20] mixes rows", func(g *graph.Graph, x, y, w *graph.Node) {
			g.Output("y", x.Reshape(6, 20))
		}},
		{"part of the batch", "slice of f32[4,30] : f32[2,30] mixes rows", func(g *graph.Graph, x, y, w *graph.Node) {
			g.Output("y", x.Slice(0, 0, 2))
		}},
		{"a loop over the samples", "mixes rows", func(g *graph.Graph, x, y, w *graph.Node) {
			last, _ := g.Loop(4, nodes{w.Slice(1, 0, 1).Reshape(30)}, nodes{x}, func(_ *graph.Node, c, s nodes) (next, stack nodes) {
				return nodes{c[0].Add(s[0])}, nil
			})
			g.Output("y", last[0])
		}},
	} {
		g := graph.New("g")
		c.build(g, g.Input("x", graph.F32, 4, 30), g.Input("y", graph.I32, 4), g.State("w", graph.F32, 30, 2))
		if err := g.Err(); err != nil {
			t.Fatal(err)
		}
		inputs := []string{"x"}
		if c.name == "a network" {
			inputs = append(inputs, "y")
		}
		switch err := RowIndependent(g, inputs...); {
		case c.want == "" && err != nil:
			t.Errorf("%s: %v", c.name, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: error %v does not say %q", c.name, err, c.want)
		}
	}
}

func TestRowIndependentRefuses(t *testing.T) {
	g := graph.New("g")
	g.Output("y", g.Input("x", graph.F32, 4, 3).Exp())
	g.Output("z", g.Input("b", graph.F32, 5).Exp())
	g.Output("one", g.Input("one", graph.F32, 1, 3).Exp())
	for want, inputs := range map[string][]string{
		"needs no input \"a\"":    {"x", "a"},
		"has not the":             {"x", "b"},
		"build it for at least 2": {"one"},
	} {
		if err := RowIndependent(g, inputs...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: error %v does not say %q", inputs, err, want)
		}
	}
}
