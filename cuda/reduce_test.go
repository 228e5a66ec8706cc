//go:build cgo && !windows

package cuda

import (
	"fmt"
	"testing"

	"temper/engine/graph"
	"temper/engine/optest"
)

// TestReduceParts reduces so much that several blocks share a column, which no
// op case does: neighbouring axes at every place, sums and maxima beside stored
// values.
func TestReduceParts(t *testing.T) {
	for _, c := range []struct {
		shape, axes []int
		kernels     int
	}{
		{[]int{20, 15, 16, 24}, []int{0, 1, 2}, 2},
		{[]int{6000, 5}, []int{0}, 2},
		{[]int{30011}, []int{0}, 2},
		{[]int{1, 37, 1, 700}, []int{1, 3}, 2},
		{[]int{3, 2000, 7}, []int{1}, 2},
		{[]int{2, 4100}, []int{1}, 2},
		{[]int{9, 40, 11}, []int{1}, 1},
		{[]int{5, 3, 40, 2}, []int{0, 2}, 1}, // not neighbours
	} {
		t.Run(fmt.Sprint(c.shape, c.axes), func(t *testing.T) {
			g := graph.New(fmt.Sprint(c.shape, c.axes))
			x := g.Input("x", graph.F32, c.shape...)
			y := x.MulC(3)
			g.Output("stored", y)
			g.Output("sum", y.Sum(c.axes...))
			g.Output("max", y.ReduceMax(c.axes...))
			p := planOf(t, g, graph.PrecisionFloat32)
			most := 0
			for _, s := range p.Steps {
				most = max(most, len(must(Kernels(p, s, 80))(t)))
			}
			if most != c.kernels {
				t.Errorf("%d kernels for a step, want %d", most, c.kernels)
			}
			emulate(t, g, p, optest.Tolerance{Abs: 256})
		})
	}
}
