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
	p := planOf(t, g, graph.PrecisionFloat32)
	_, all, err := kernelsOf(p, target{capability: 90})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != 3 {
		t.Errorf("%d kernels, want 3:\n%v", len(all), p)
	}
	emulate(t, g, p, optest.Tolerance{Abs: 256})
}
