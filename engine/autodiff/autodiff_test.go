package autodiff

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"temper/engine/graph"
)

var update = flag.Bool("update", false, "write the golden files anew")

func TestEveryOpHasAnEntry(t *testing.T) {
	for _, op := range graph.Ops() {
		if _, ok := rules[op]; !ok {
			t.Errorf("rules has no entry for %v: give its rule, or say zero", op)
		}
	}
	if len(rules) != len(graph.Ops()) {
		t.Errorf("rules has %d entries for %d operations", len(rules), len(graph.Ops()))
	}
}

// The gradient graphs of testdata, in the text form. What they compute is
// checked in engine/optest; here it is what is built, and that nothing else is.
func TestGolden(t *testing.T) {
	for name, build := range map[string]func(g *graph.Graph){
		"mlp": func(g *graph.Graph) {
			x := g.Input("x", graph.F32, 2, 3)
			w := g.State("w", graph.F32, 3, 4)
			b := g.State("b", graph.F32, 4)
			loss := x.MatMul(w).Add(b).ReLU().Sum()
			d := Grad(loss, w, b)
			g.Output("dw", d[0])
			g.Output("db", d[1])
		},
		"conv-input-only": func(g *graph.Graph) {
			x := g.Input("x", graph.F32, 1, 3, 8, 8)
			w := g.State("w", graph.F32, 4, 3, 3, 3)
			g.Output("dx", Grad(x.Conv2D(w, graph.Square(2, 1)).Sum(), x)[0])
		},
		"second": func(g *graph.Graph) {
			x := g.Input("x", graph.F32, 3)
			d := Grad(x.Tanh().Sum(), x)[0]
			g.Output("ddx", Grad(d.Square().Sum(), x)[0])
		},
		"attack-step": func(g *graph.Graph) {
			x := g.Input("x", graph.F32, 2, 3)
			w := g.State("w", graph.F32, 3, 1)
			last, _ := g.Loop(3, []*graph.Node{x}, nil, func(_ *graph.Node, c, _ []*graph.Node) (next, stack []*graph.Node) {
				d := Grad(c[0].MatMul(w).Square().Sum(), c[0])[0]
				return []*graph.Node{c[0].Add(d.Sign())}, nil
			})
			adv := last[0].StopGradient()
			g.Output("dw", Grad(adv.MatMul(w).Square().Sum(), w)[0])
		},
		"unused": func(g *graph.Graph) {
			x, y := g.Input("x", graph.F32, 3), g.Input("y", graph.F64, 2, 2)
			d := Grad(x.Floor().Mul(x).Sum(), x, y)
			g.Output("dx", d[0])
			g.Output("dy", d[1])
		},
	} {
		t.Run(name, func(t *testing.T) {
			g := graph.New(name)
			build(g)
			if err := graph.Verify(g); err != nil {
				t.Fatal(err)
			}
			file := filepath.Join("testdata", name+".txt")
			if *update {
				if err := os.WriteFile(file, []byte(g.String()), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(string(want), g.String()); d != "" {
				t.Errorf("-want +got, or run with -update:\n%s", d)
			}
		})
	}
}

func TestErrors(t *testing.T) {
	carryOn := func(x *graph.Node, f func(c *graph.Node) *graph.Node) *graph.Node {
		last, _ := x.Graph().Loop(3, []*graph.Node{x}, nil, func(_ *graph.Node, c, _ []*graph.Node) (next, stack []*graph.Node) {
			return []*graph.Node{f(c[0])}, nil
		})
		return last[0]
	}
	for _, c := range []struct {
		name  string
		build func(g *graph.Graph, x, w *graph.Node)
		want  string // "" for no error
	}{
		{"vector", func(g *graph.Graph, x, w *graph.Node) { Grad(x, x) }, "gradient of f32[3]"},
		{"integer", func(g *graph.Graph, x, w *graph.Node) { Grad(x.Convert(graph.I32).Sum(), x) }, "gradient of i32[]"},
		{"wrt integer", func(g *graph.Graph, x, w *graph.Node) { Grad(x.Sum(), g.Input("i", graph.I32)) }, "with respect to input i32[]"},
		{"cotangent", func(g *graph.Graph, x, w *graph.Node) { VJP([]*graph.Node{x}, []*graph.Node{x.Sum()}, x) }, "cotangent of type f32[]"},
		{"count", func(g *graph.Graph, x, w *graph.Node) { VJP([]*graph.Node{x}, nil, x) }, "1 values with 0 cotangents"},
		{"graphs", func(g *graph.Graph, x, w *graph.Node) {
			Grad(x.Sum(), x, graph.New("other").Input("x", graph.F32))
		}, `"bad" and "other"`},
		{"loop operand", func(g *graph.Graph, x, w *graph.Node) {
			Grad(carryOn(x, (*graph.Node).Exp).Sum(), x)
		}, "unroll the loop by building its body 3 times"},
		{"loop capture", func(g *graph.Graph, x, w *graph.Node) {
			Grad(carryOn(x, func(c *graph.Node) *graph.Node { return c.Mul(w) }).Sum(), w)
		}, "apply stop-gradient"},
		{"loop, other operand", func(g *graph.Graph, x, w *graph.Node) {
			Grad(carryOn(x, (*graph.Node).Exp).Mul(w).Sum(), w)
		}, ""},
		{"loop, sign only", func(g *graph.Graph, x, w *graph.Node) {
			Grad(carryOn(x, func(c *graph.Node) *graph.Node { return c.Add(w.Sign()) }).Sum(), w)
		}, ""},
		{"loop, stopped outside", func(g *graph.Graph, x, w *graph.Node) {
			Grad(carryOn(x, (*graph.Node).Exp).StopGradient().Mul(x).Sum(), x)
		}, ""},
		{"loop, carried round", func(g *graph.Graph, x, w *graph.Node) {
			last, _ := g.Loop(3, []*graph.Node{w, x, x}, nil, func(_ *graph.Node, c, _ []*graph.Node) (next, stack []*graph.Node) {
				return []*graph.Node{c[0], c[0], c[1]}, nil
			})
			Grad(last[2].Sum(), w)
		}, "its result 2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := graph.New("bad")
			x, w := g.Input("x", graph.F32, 3), g.State("w", graph.F32, 3)
			c.build(g, x, w)
			switch err := g.Err(); {
			case c.want == "" && err != nil:
				t.Error(err)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "autodiff_test.go:")):
				t.Errorf("error %v: want its line and %q", err, c.want)
			}
		})
	}
}
