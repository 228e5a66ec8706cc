package graph

import (
	"math"
	"strings"
	"testing"
)

// pgd builds a small graph with a loop, scan and capture, for text tests.
func pgd() *Graph {
	g := New("pgd")
	x := g.Input("x", F32, 2, 3)
	w := g.State("w", F32, 3, 4).Named("fc.weight")
	eps := g.Scalar("eps", F32)
	noise := g.Input("noise", F32, 5, 2, 3)
	last, stacks := g.Loop(5, []*Node{x}, []*Node{noise}, func(i *Node, c, s []*Node) ([]*Node, []*Node) {
		y := c[0].Add(s[0]).MatMul(w)
		step := MatMul(y, w, false, true).Sign().Mul(eps)
		next := c[0].Add(step).Clamp(x.Sub(eps), x.Add(eps))
		return []*Node{next}, []*Node{y.Sum()}
	})
	g.Output("adv", last[0])
	g.Output("trace", stacks[0])
	g.Assign(w, w.MulC(0.5))
	return g
}

func TestTextRoundTrip(t *testing.T) {
	g := pgd()
	if err := Verify(g); err != nil {
		t.Fatal(err)
	}
	text := g.String()
	h, err := Parse(text)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	if err := Verify(h); err != nil {
		t.Fatal(err)
	}
	stripped := strings.ReplaceAll(text, "  # fc.weight", "")
	if h.String() != stripped {
		t.Errorf("parsed and printed again:\n%s\nwant\n%s", h.String(), stripped)
	}
	// A copy drops what building left unused; a copy of a copy is the same.
	keep := func(*Copier, *Node, []*Node) *Node { return nil }
	once, err := Rewrite(g, keep)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(once.String(), "values=[0.5]} : f32[]") {
		t.Errorf("a dead constant was copied:\n%s", once)
	}
	twice, err := Rewrite(once, keep)
	if err != nil {
		t.Fatal(err)
	}
	if twice.String() != once.String() {
		t.Errorf("copied:\n%s\nwant\n%s", twice, once)
	}
}

func TestEqualNodesAreOne(t *testing.T) {
	g := New("cse")
	x, y := g.Input("x", F32, 4), g.Input("y", F32, 4)
	sum, one := x.Add(y), x.AddC(1)
	if sum != x.Add(y) || one != x.AddC(1) {
		t.Error("equal nodes are two")
	}
	if x.Add(y) == y.Add(x) || x.AddC(1) == x.AddC(2) || x.ArgSort(0, true) == x.ArgSort(0, false) {
		t.Error("different nodes are one")
	}
	if g.Const(F32, []float64{0, math.Copysign(0, -1)}, 2) == g.Const(F32, []float64{0}, 2) {
		t.Error("0 and -0 are one constant")
	}
	var inside *Node
	g.Loop(2, []*Node{x}, nil, func(i *Node, c, s []*Node) ([]*Node, []*Node) {
		inside = x.Add(y)
		return []*Node{c[0].Add(inside)}, nil
	})
	if inside != sum {
		t.Error("a loop body does not find an equal node outside")
	}
}

// Each row is a mistake and what the error must name.
func TestErrors(t *testing.T) {
	for _, c := range []struct {
		name  string
		build func(g *Graph, x *Node)
		want  []string
	}{
		{"const", func(g *Graph, x *Node) { g.Input("i", I32, 2).AddC(0.5) }, []string{"0.5 is no value of type i32"}},
		{"const range", func(g *Graph, x *Node) { g.Input("i", U8, 2).AddC(256) }, []string{"256 is no value of type u8"}},
		{"loop after an error", func(g *Graph, x *Node) {
			_, stacks := g.Loop(2, []*Node{x.Sum(9)}, nil, func(i *Node, c, s []*Node) ([]*Node, []*Node) {
				return c, []*Node{c[0].Exp()}
			})
			stacks[0].Exp()
		}, []string{"axis 9"}},
		{"shapes", func(g *Graph, x *Node) { x.Add(g.Input("y", F32, 4)) }, []string{"graph_test.go:", "f32[2,3]", "f32[4]"}},
		{"types", func(g *Graph, x *Node) { x.Add(g.Input("y", I32, 2, 3)) }, []string{"add", "i32[2,3]"}},
		{"matmul", func(g *Graph, x *Node) { x.MatMul(x) }, []string{"matmul", "3 is not 2"}},
		{"kernel", func(g *Graph, x *Node) {
			x.Reshape(1, 1, 2, 3).Conv2D(g.Input("w", F32, 1, 1, 3, 3), Window{})
		}, []string{"kernel of 3", "input of 2"}},
		{"axis", func(g *Graph, x *Node) { x.Sum(2) }, []string{"axis 2"}},
		{"reshape", func(g *Graph, x *Node) { x.Reshape(4, 2) }, []string{"6 elements are not 8"}},
		{"input twice", func(g *Graph, x *Node) { g.Input("x", F32, 7) }, []string{`"x" is f32[7] here and f32[2,3] before`}},
		{"leak", func(g *Graph, x *Node) {
			var leak *Node
			g.Loop(2, []*Node{x}, nil, func(i *Node, c, s []*Node) ([]*Node, []*Node) {
				leak = c[0].Exp()
				return c, nil
			})
			leak.Neg()
		}, []string{"loop body", "yield it"}},
		{"carry type", func(g *Graph, x *Node) {
			g.Loop(2, []*Node{x}, nil, func(i *Node, c, s []*Node) ([]*Node, []*Node) {
				return []*Node{c[0].Sum()}, nil
			})
		}, []string{"carried value 0 is f32[2,3] and becomes f32[]"}},
		{"assign in loop", func(g *Graph, x *Node) {
			w := g.State("w", F32)
			g.Loop(2, []*Node{x}, nil, func(i *Node, c, s []*Node) ([]*Node, []*Node) {
				g.Assign(w, w.Neg())
				return c, nil
			})
		}, []string{`"w"`, "inside a loop"}},
		{"assign twice", func(g *Graph, x *Node) {
			w := g.State("w", F32)
			g.Assign(w, w.Neg())
			g.Assign(w, w.Exp())
		}, []string{"assigned twice"}},
		{"other graph", func(g *Graph, x *Node) { x.Add(New("h").Input("x", F32, 2, 3)) }, []string{"another graph"}},
		{"pool padding", func(g *Graph, x *Node) {
			x.Reshape(1, 1, 2, 3).MaxPool([2]int{1, 1}, Square(1, 1))
		}, []string{"no element"}},
		{"scanned", func(g *Graph, x *Node) {
			g.Loop(3, []*Node{x}, []*Node{x}, func(i *Node, c, s []*Node) ([]*Node, []*Node) { return c, nil })
		}, []string{"3 iterations"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := New("bad")
			c.build(g, g.Input("x", F32, 2, 3))
			if g.Err() == nil {
				t.Fatal("no error")
			}
			for _, w := range c.want {
				if !strings.Contains(g.Err().Error(), w) {
					t.Errorf("error %q does not say %q", g.Err(), w)
				}
			}
			first := g.Err()
			g.Input("z", InvalidType)
			if g.Err() != first {
				t.Error("the first error does not stick")
			}
		})
	}
}

func TestParseErrors(t *testing.T) {
	for text, want := range map[string]string{
		"":                       "ends before",
		"graph \"a\" {":          "ends before",
		"graph \"a\" {\nyield }": "outside a loop",
		"graph \"a\" {\n%0 = frobnicate : f32[1]\n}":                                                                            "unknown operation",
		"graph \"a\" {\n%0 = input {name=\"x\"} : f32[2]\n%1 = neg %0 : f32[3]\n}":                                              "it is f32[2]",
		"graph \"a\" {\n%1 = neg %0 : f32[3]\n}":                                                                                "%0 is not defined",
		"graph \"a\" {\n%0 = input {name=\"x\" axis=1} : f32[2]\n}":                                                             "no attribute",
		"graph \"a\" {\n%0 = input {name=\"x\"} : f31[2]\n}":                                                                    "unknown element type",
		"graph \"a\" {\n%0 = input {name=\"x\"} : f32[2]\n%1 = loop %0 {trips=0 carry=1} (%2 i32[], %3 f32[2]) do\nyield %3\n}": "0 iterations",
	} {
		if _, err := Parse(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Parse(%q): error %v does not say %q", text, err, want)
		}
	}
}

// FuzzParse: whatever parses must verify and print to itself.
func FuzzParse(f *testing.F) {
	f.Add(pgd().String())
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) > 4000 {
			return
		}
		g, err := Parse(text)
		if err != nil {
			return
		}
		if err := Verify(g); err != nil {
			t.Fatal(err)
		}
		h, err := Parse(g.String())
		if err != nil || h.String() != g.String() {
			t.Fatalf("%v\n%s", err, g)
		}
	})
}
