//go:build cgo && !windows

package cuda

import (
	"fmt"
	"testing"

	"temper/engine/graph"
	"temper/engine/optest"
)

// TestSetKernels updates weights of several sizes, with the sums of their gradients'
// squares, in a kernel and one that joins the sums' parts.
func TestSetKernels(t *testing.T) {
	g := graph.New("updates")
	rate := g.Scalar("rate", graph.F32)
	var norm *graph.Node
	for i, shape := range [][]int{{40, 700}, {64}, {3, 5, 7}, {500, 33}, {10}, {100, 100}, {2}} {
		w, m, dw := g.State(fmt.Sprint("w", i), graph.F32, shape...), g.State(fmt.Sprint("m", i), graph.F32, shape...), g.Input(fmt.Sprint("dw", i), graph.F32, shape...)
		next := m.MulC(0.9).Add(dw)
		g.Assign(m, next)
		g.Assign(w, w.Sub(next.Mul(rate.BroadcastTo(shape...))))
		if sum := dw.Square().Sum(); norm == nil {
			norm = sum
		} else {
			norm = norm.Add(sum)
		}
	}
	g.Output("norm", norm.Sqrt())
	p, _ := planIn(t, g, 3)
	emulate(t, g, p, optest.Tolerance{Abs: 256})
}

// Many groups share a kernel only as far as their arguments fit into 4 KiB.
func TestManyArguments(t *testing.T) {
	many := func(g *graph.Graph, i, n int, shape ...int) (sum *graph.Node) {
		for k := range n {
			if in := g.Input(fmt.Sprintf("in%d.%d", i, k), graph.F32, shape...); sum == nil {
				sum = in
			} else {
				sum = sum.Add(in)
			}
		}
		return sum
	}
	for _, c := range []struct {
		name  string
		build func(g *graph.Graph)
	}{
		{"a set", func(g *graph.Graph) {
			for i := range 110 {
				w, m, dw := g.State(fmt.Sprint("w", i), graph.F32, 2100), g.State(fmt.Sprint("m", i), graph.F32, 2100), g.Input(fmt.Sprint("dw", i), graph.F32, 2100)
				next := m.MulC(0.9).Add(dw)
				g.Assign(m, next)
				g.Assign(w, w.Sub(next))
			}
		}},
		{"small groups in turn", func(g *graph.Graph) {
			last := g.Input("x", graph.F32, 3)
			for i := range 8 {
				last = many(g, i, 80, 3).Add(last.Sum())
			}
			g.Output("y", last)
		}},
		{"groups behind a sum", func(g *graph.Graph) {
			s := g.Input("x", graph.F32, 2000, 64).Sum(0)
			for i := range 12 {
				g.Output(fmt.Sprint("y", i), s.Mul(many(g, i, 80, 64)))
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := graph.New(c.name)
			c.build(g)
			emulate(t, g, planOf(t, g, graph.PrecisionFloat32), optest.Tolerance{Abs: 512})
		})
	}
}

// TestSharedMemoryOfSums joins the sums of many gradients in one kernel: all in the
// same memory, since a kernel may declare 48 KiB.
func TestSharedMemoryOfSums(t *testing.T) {
	compiler := nvrtc(t)
	g := graph.New("norms")
	for i := range 60 {
		g.Output(fmt.Sprint("norm", i), g.Input(fmt.Sprint("dw", i), graph.F32, 200, 24).Square().Sum())
	}
	_, all, err := kernelsOf(planOf(t, g, graph.PrecisionFloat32), target{capability: 90})
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range all {
		_, used, err := compiler.Compile(k.Name, Unit(k.Source), "sm_90a")
		if err != nil {
			t.Fatal(err)
		}
		if r := used[k.Name]; r.Shared > 4<<10 {
			t.Errorf("%d sums: a kernel declares %d bytes of shared memory", len(k.Buffers), r.Shared)
		}
	}
}
