package optest

import (
	"testing"

	"temper/engine/graph"
	"temper/engine/interp"
)

func TestEveryOpHasACase(t *testing.T) {
	used := map[graph.Op]bool{}
	var visit func(b *graph.Block)
	visit = func(b *graph.Block) {
		for _, n := range b.Nodes() {
			used[n.Op()] = true
			if n.Body() != nil {
				visit(n.Body())
			}
		}
	}
	names := map[string]bool{}
	for _, c := range Cases() {
		if names[c.Name] {
			t.Errorf("two cases are named %q", c.Name)
		}
		names[c.Name] = true
		for _, dt := range c.Types {
			g, err := c.Graph(dt)
			if err != nil {
				t.Fatal(err)
			}
			visit(g.Root())
		}
	}
	for _, op := range graph.Ops() {
		if !used[op] {
			t.Errorf("no case has %v", op)
		}
	}
}

func TestGradient(t *testing.T) { Gradient(t, interp.Run) }

// finalRounding stands for an ideal back end: exact inside, each result
// rounded once. The tolerances must admit it.
func finalRounding(g *graph.Graph, feed interp.Feed) (*interp.Result, error) {
	r, err := interp.Run(g, feed)
	if err != nil {
		return nil, err
	}
	for _, m := range []map[string]*interp.Tensor{r.Outputs, r.States} {
		for _, x := range m {
			for i, v := range x.Data {
				x.Data[i] = interp.Round(x.DType, v)
			}
		}
	}
	return r, nil
}

func TestAgree(t *testing.T) { Agree(t, finalRounding) }
