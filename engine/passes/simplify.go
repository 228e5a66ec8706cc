package passes

import (
	"math"
	"slices"

	"temper/engine/graph"
)

// simplify applies algebra that changes no value: not even the rounding, and
// at most the sign of a zero.
func simplify(g *graph.Graph) (*graph.Graph, error) { return graph.Rewrite(g, simplifyNode) }

func simplifyNode(c *graph.Copier, n *graph.Node, ins []*graph.Node) *graph.Node {
	if rule := simplifyRules[n.Op()]; rule != nil {
		return rule(c, n, ins)
	}
	return nil
}

var simplifyRules map[graph.Op]func(c *graph.Copier, n *graph.Node, ins []*graph.Node) *graph.Node

func init() {
	simplifyRules = map[graph.Op]func(c *graph.Copier, n *graph.Node, ins []*graph.Node) *graph.Node{
		graph.OpAdd: func(c *graph.Copier, n *graph.Node, ins []*graph.Node) *graph.Node {
			switch {
			case isSplat(ins[1], 0):
				return ins[0]
			case isSplat(ins[0], 0):
				return ins[1]
			case ins[1].Op() == graph.OpNeg:
				return ins[0].Sub(ins[1].In(0))
			}
			return nil
		},
		graph.OpSub: func(c *graph.Copier, n *graph.Node, ins []*graph.Node) *graph.Node {
			switch {
			case isSplat(ins[1], 0):
				return ins[0]
			case ins[1].Op() == graph.OpNeg:
				return ins[0].Add(ins[1].In(0))
			}
			return nil
		},
		graph.OpMul: func(c *graph.Copier, n *graph.Node, ins []*graph.Node) *graph.Node {
			for i := range 2 {
				if isSplat(ins[i], 1) {
					return ins[1-i]
				}
				if isSplat(ins[i], -1) {
					return ins[1-i].Neg()
				}
			}
			return nil
		},
		graph.OpDiv: func(c *graph.Copier, n *graph.Node, ins []*graph.Node) *graph.Node {
			v, ok := splat(ins[1])
			if !ok || !n.DType().Float() {
				return nil
			}
			if v == 1 {
				return ins[0]
			}
			if f, e := math.Frexp(v); math.Abs(f) == 0.5 && e > -100 && e < 100 {
				return ins[0].MulC(1 / v) // a power of two: exact
			}
			return nil
		},
		graph.OpPow: func(c *graph.Copier, n *graph.Node, ins []*graph.Node) *graph.Node {
			switch {
			case isSplat(ins[1], 1):
				return ins[0]
			case isSplat(ins[1], 2):
				return ins[0].Mul(ins[0])
			}
			return nil
		},
		graph.OpNeg: func(c *graph.Copier, n *graph.Node, ins []*graph.Node) *graph.Node {
			x := ins[0]
			switch x.Op() {
			case graph.OpNeg:
				return x.In(0)
			case graph.OpSub:
				return x.In(1).Sub(x.In(0))
			}
			return nil
		},
		graph.OpNot: func(c *graph.Copier, n *graph.Node, ins []*graph.Node) *graph.Node {
			if ins[0].Op() == graph.OpNot {
				return ins[0].In(0)
			}
			return nil
		},
		graph.OpSelect: func(c *graph.Copier, n *graph.Node, ins []*graph.Node) *graph.Node {
			v, ok := splat(ins[0])
			switch {
			case ok && v != 0, ins[1] == ins[2]:
				return ins[1]
			case ok:
				return ins[2]
			}
			return nil
		},
		graph.OpConvert: func(c *graph.Copier, n *graph.Node, ins []*graph.Node) *graph.Node {
			if ins[0].DType() == n.DType() {
				return ins[0]
			}
			return nil
		},
		graph.OpBroadcast: func(c *graph.Copier, n *graph.Node, ins []*graph.Node) *graph.Node {
			x := ins[0]
			if x.Op() == graph.OpBroadcast {
				x = x.In(0)
			}
			return x.BroadcastTo(n.Shape()...)
		},
		graph.OpReshape: func(c *graph.Copier, n *graph.Node, ins []*graph.Node) *graph.Node {
			x := ins[0]
			if x.Op() == graph.OpReshape {
				x = x.In(0)
			}
			return x.Reshape(n.Shape()...)
		},
		graph.OpTranspose: simplifyTranspose,
		graph.OpReverse: func(c *graph.Copier, n *graph.Node, ins []*graph.Node) *graph.Node {
			if x := ins[0]; x.Op() == graph.OpReverse && slices.Equal(x.Attrs().Axes, n.Attrs().Axes) {
				return x.In(0)
			}
			return nil
		},
		graph.OpSlice: func(c *graph.Copier, n *graph.Node, ins []*graph.Node) *graph.Node {
			if n.Shape().Equal(ins[0].Shape()) {
				return ins[0]
			}
			return nil
		},
		graph.OpPad: func(c *graph.Copier, n *graph.Node, ins []*graph.Node) *graph.Node {
			if n.Shape().Equal(ins[0].Shape()) {
				return ins[0]
			}
			return nil
		},
		graph.OpConcat: func(c *graph.Copier, n *graph.Node, ins []*graph.Node) *graph.Node {
			if len(ins) == 1 {
				return ins[0]
			}
			return nil
		},
		graph.OpReduceSum: simplifyReduce,
		graph.OpReduceMax: simplifyReduce,
		graph.OpMatMul:    simplifyMatMul,
	}
}

func simplifyTranspose(c *graph.Copier, n *graph.Node, ins []*graph.Node) *graph.Node {
	x, axes := ins[0], slices.Clone(n.Attrs().Axes)
	if x.Op() == graph.OpTranspose {
		for i, a := range axes {
			axes[i] = x.Attrs().Axes[a]
		}
		x = x.In(0)
	}
	if slices.IsSorted(axes) {
		return x
	}
	return x.Transpose(axes...)
}

// simplifyReduce drops axes of extent 1 from a reduction.
func simplifyReduce(c *graph.Copier, n *graph.Node, ins []*graph.Node) *graph.Node {
	var axes []int
	for _, a := range n.Attrs().Axes {
		if ins[0].Dim(a) > 1 {
			axes = append(axes, a)
		}
	}
	switch len(axes) {
	case 0:
		return ins[0]
	case len(n.Attrs().Axes):
		return nil
	}
	return c.Dst.Make(n.Op(), graph.Attrs{Axes: axes}, ins[0])
}

// simplifyMatMul takes transposes of the last two axes into the product.
func simplifyMatMul(c *graph.Copier, n *graph.Node, ins []*graph.Node) *graph.Node {
	a, b, ta, tb := ins[0], ins[1], n.Attrs().TA, n.Attrs().TB
	if swapsLast(a) {
		a, ta = a.In(0), !ta
	}
	if swapsLast(b) {
		b, tb = b.In(0), !tb
	}
	if a == ins[0] && b == ins[1] {
		return nil
	}
	return graph.MatMul(a, b, ta, tb)
}

func swapsLast(n *graph.Node) bool {
	if n.Op() != graph.OpTranspose {
		return false
	}
	axes := n.Attrs().Axes
	r := len(axes)
	for i := range r - 2 {
		if axes[i] != i {
			return false
		}
	}
	return axes[r-2] == r-1
}

// clean is fold and simplify in one sweep.
func clean(g *graph.Graph) (*graph.Graph, error) {
	return graph.Rewrite(g, func(c *graph.Copier, n *graph.Node, ins []*graph.Node) *graph.Node {
		if m := foldNode(c, n, ins); m != nil {
			return m
		}
		return simplifyNode(c, n, ins)
	})
}
