package passes

import (
	"slices"

	"temper/engine/graph"
)

// stabilise rewrites log(Σ exp(x)) as m + log(Σ exp(x-m)), m the maximum of x,
// which neither overflows nor loses everything to underflow.
func stabilise(g *graph.Graph) (*graph.Graph, error) {
	return graph.Rewrite(g, func(c *graph.Copier, n *graph.Node, ins []*graph.Node) *graph.Node {
		if n.Op() != graph.OpLog {
			return nil
		}
		sum := ins[0]
		kept := sum // the sum with its axes, under a reshape that dropped them
		if kept.Op() == graph.OpReshape {
			kept = kept.In(0)
		}
		if kept.Op() != graph.OpReduceSum || kept.In(0).Op() != graph.OpExp {
			return nil
		}
		x, axes := kept.In(0).In(0), kept.Attrs().Axes
		if isShifted(x, axes) {
			return nil
		}
		m := x.ReduceMaxKeep(axes...)
		// A maximum of ±Inf would make x-m NaN: shift by 0 there instead.
		m = graph.Select(m.Abs().Lt(m.C(maxFinite(m.DType()))), m, m.C(0))
		y := x.Sub(m).Exp().SumKeep(axes...).Log().Add(m)
		return y.Reshape(n.Shape()...)
	})
}

func maxFinite(t graph.DType) float64 {
	if t == graph.F64 {
		return 1e300
	}
	return 3e38
}

// isShifted recognises y - max(y) over the axes, so that a stable form is left alone.
func isShifted(x *graph.Node, axes []int) bool {
	if x.Op() != graph.OpSub {
		return false
	}
	y, m := x.In(0), x.In(1)
	for m.Op() == graph.OpBroadcast || m.Op() == graph.OpReshape || m.Op() == graph.OpStopGradient || m.Op() == graph.OpSelect {
		if m.Op() == graph.OpSelect {
			m = m.In(1)
		} else {
			m = m.In(0)
		}
	}
	return m.Op() == graph.OpReduceMax && m.In(0) == y && slices.Equal(m.Attrs().Axes, axes)
}
