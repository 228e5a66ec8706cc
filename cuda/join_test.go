//go:build cgo && !windows

package cuda

import (
	"testing"

	"temper/engine/graph"
	"temper/engine/optest"
	"temper/engine/plan"
)

// TestGroupsBehindSums counts the kernels of reductions with small groups behind
// them, and compares their values.
func TestGroupsBehindSums(t *testing.T) {
	for _, c := range []struct {
		name    string
		build   func(g *graph.Graph, x *graph.Node) []*graph.Node // x is (2000,6,8)
		kernels int                                               // the first two add x up
	}{
		{"a scale of each column", func(g *graph.Graph, x *graph.Node) []*graph.Node {
			variance := x.Square().Sum(0).MulC(1.0 / 2000)
			return []*graph.Node{variance.AddC(1e-5).Sqrt(), variance.MulC(0.1).Reshape(48).Add(g.Input("running", graph.F32, 48))}
		}, 2},
		{"fewer elements than columns", func(g *graph.Graph, x *graph.Node) []*graph.Node {
			return []*graph.Node{x.Sum(0).MulC(3), g.Input("count", graph.F32).AddC(1), g.Input("v", graph.F32, 8).AddC(1)}
		}, 2},
		{"what another column's thread computes", func(g *graph.Graph, x *graph.Node) []*graph.Node {
			s, row := x.Sum(0), g.Input("row", graph.F32, 1, 8).MulC(2)
			return []*graph.Node{row, s.Add(row.BroadcastTo(6, 8)).Exp()}
		}, 3},
		{"more elements than columns", func(g *graph.Graph, x *graph.Node) []*graph.Node {
			return []*graph.Node{x.Sum(0).Reshape(1, 6, 8).BroadcastTo(2, 6, 8).Add(g.Input("y", graph.F32, 2, 6, 8))}
		}, 3},
		{"a reduction", func(_ *graph.Graph, x *graph.Node) []*graph.Node {
			return []*graph.Node{x.Sum(0).Exp().Sum(0)}
		}, 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := graph.New("behind")
			for i, y := range c.build(g, g.Input("x", graph.F32, 2000, 6, 8)) {
				g.Output(string(rune('a'+i)), y)
			}
			p, _ := planIn(t, g, c.kernels)
			emulate(t, g, p, optest.Tolerance{Abs: 256})
		})
	}
}

// TestGroupBehindSumsMemory has a group write where, of a value that runs before it,
// the same columns' elements lie, or others'.
func TestGroupBehindSumsMemory(t *testing.T) {
	g := graph.New("memory")
	s := g.Input("x", graph.F32, 2000, 64).Sum(0)
	y := s.Exp().Reshape(64, 1)
	g.Output("y", y.ReduceMax(0)) // so that y is no output itself, which has memory of its own
	p := planOf(t, g, graph.PrecisionFloat32)
	if p.Steps[0].Fused == nil || p.Steps[1].Fused == nil || len(p.Steps[1].Fused.Stored) != 1 {
		t.Fatalf("want a reduction and a group:\n%v", p)
	}
	sum, next := p.Steps[0].Fused, p.Steps[1].Fused
	result, stored := &p.Buffers[p.Buffer(sum.Stored[0])], &p.Buffers[p.Buffer(next.Stored[0])]
	for _, c := range []struct {
		offset int
		want   bool
	}{{result.Offset, true}, {result.Offset + 4, false}, {result.Offset + result.Bytes(), true}, {max(0, result.Offset-128), result.Offset < 128}} {
		stored.Kind, stored.Offset = plan.Temp, c.offset
		kernels, _ := GroupKernels(p, sum)
		if j := kernels[1].joint; j.may(next) != c.want {
			t.Errorf("results at %d, the group's at %d: may follow: %v, want %v", result.Offset, c.offset, !c.want, c.want)
		}
	}
}
