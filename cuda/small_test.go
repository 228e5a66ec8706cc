//go:build cgo && !windows

package cuda

import (
	"testing"

	"temper/engine/graph"
	"temper/engine/optest"
)

// TestSmallReductions scales a vector by its norm, and then by its largest element,
// in one kernel of one block.
func TestSmallReductions(t *testing.T) {
	g := graph.New("norms")
	x := g.Input("x", graph.F32, 300)
	unit := x.Div(x.Square().Sum(0).Sqrt().BroadcastTo(300))
	g.Output("unit", unit)
	g.Output("scaled", unit.Div(unit.Abs().ReduceMax(0).BroadcastTo(300)))
	p, _ := planIn(t, g, 1)
	emulate(t, g, p, optest.Tolerance{Abs: 64})
}
