//go:build cgo && !windows

package cuda

import (
	"testing"

	"temper/engine/autodiff"
	"temper/engine/graph"
	"temper/engine/optest"
)

// TestLossInOne computes a cross-entropy and its gradient, from logits of ten
// classes, in one kernel.
func TestLossInOne(t *testing.T) {
	g := graph.New("loss")
	x, y := g.Input("x", graph.F32, 128, 10), g.Input("y", graph.F32, 128, 10)
	centred := x.Sub(x.ReduceMaxKeep(1))
	loss := centred.Exp().SumKeep(1).Log().Sub(centred.Mul(y).SumKeep(1))
	g.Output("loss", loss)
	g.Output("gradient", autodiff.Grad(loss.Sum(0, 1), x)[0])
	p, _ := planIn(t, g, 1)
	emulate(t, g, p, optest.Tolerance{Abs: 64})
}
