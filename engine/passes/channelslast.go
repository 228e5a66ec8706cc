package passes

import (
	"slices"

	"temper/engine/graph"
)

// channelsLast writes convolutions and pooling in NHWC, and whatever stands
// between them with the channels last too: (N,C,…) becomes (N,…,C). A value
// keeps its old form for whoever needs that, as a transpose of the new one,
// and a reader that prefers the new form looks through that transpose; so what
// stays of the conversions are the few at the borders. The listing shows them.
func channelsLast(g *graph.Graph) (*graph.Graph, error) {
	p := &relayout{filters: map[*graph.Node]bool{}}
	return graph.RewriteCarried(g, p.node, func(loop *graph.Node, i int, operand *graph.Node) *graph.Recast {
		if operand.Rank() != 4 || keepsOrder(operand.Shape()) || !convolves(loop.Body()) {
			return nil
		}
		return &graph.Recast{In: last, Out: first}
	})
}

// relayout remembers the gradients of filters: the optimiser reads them beside
// the filters themselves, which are stored in NCHW, so they ask for no NHWC.
type relayout struct{ filters map[*graph.Node]bool }

func (p *relayout) node(c *graph.Copier, n *graph.Node, ins []*graph.Node) *graph.Node {
	attrs := *n.Attrs()
	if attrs.Layout == graph.NHWC {
		return nil // built that way
	}
	switch n.Op() {
	case graph.OpConv2D, graph.OpConv2DInputGrad:
		attrs.Layout = graph.NHWC
		return first(c.Dst.Make(n.Op(), attrs, last(ins[0]), last(ins[1])))
	case graph.OpConv2DFilterGrad:
		attrs.Layout = graph.NHWC
		dw := first(c.Dst.Make(n.Op(), attrs, last(ins[0]), last(ins[1])))
		p.filters[dw] = true
		return dw
	case graph.OpMatMul:
		return flattened(n, ins)
	case graph.OpReshape:
		if unflattens(n, ins[0]) {
			return first(last(c.Keep(n, ins)))
		}
	}
	if !slices.ContainsFunc(ins, p.prefers) {
		return nil
	}
	rank := ins[0].Rank()
	switch n.Op() {
	case graph.OpPoolArgMax:
		attrs.Layout = graph.NHWC
		return first(c.Dst.Make(n.Op(), attrs, last(ins[0])))
	case graph.OpReshape:
		if n.Rank() < 3 || n.Dim(0) != ins[0].Dim(0) || n.Dim(1) != ins[0].Dim(1) {
			return nil
		}
		return first(last(ins[0]).Reshape(lastShape(n.Shape())...))
	case graph.OpReduceSum, graph.OpReduceMax, graph.OpReverse:
		attrs.Axes = moveAxes(attrs.Axes, rank)
	case graph.OpSlice, graph.OpPad:
		attrs.Lo, attrs.Step = lastShape(attrs.Lo), lastShape(attrs.Step)
		attrs.Hi = lastShape(attrs.Hi)
	case graph.OpConcat, graph.OpGather, graph.OpScatterAdd:
		attrs.Axis = moveAxis(attrs.Axis, rank)
	case graph.OpBroadcast:
	default:
		if n.Op().Class() != graph.ClassElementwise {
			return nil
		}
	}
	args := make([]*graph.Node, len(ins))
	for i, in := range ins {
		args[i] = last(in)
	}
	return first(c.Dst.MakeTyped(n.Op(), attrs, n.DType(), lastShape(n.Shape()), args...).Named(n.Label()))
}

// prefers reports whether a value exists with its channels last.
func (p *relayout) prefers(n *graph.Node) bool {
	_, ok := moved(n)
	return ok && !p.filters[n]
}

// flattened serves products with images flattened to (N,C·H·W): not the images
// but the rows of the other operand, weights as a rule, take the new order.
func flattened(n *graph.Node, ins []*graph.Node) *graph.Node {
	a, b := ins[0], ins[1]
	if a.Op() != graph.OpReshape || a.Rank() != 2 || n.Attrs().TA {
		return nil
	}
	x, ok := moved(a.In(0))
	if !ok || x.Dim(0) != a.Dim(0) {
		return nil
	}
	axis := 0
	if n.Attrs().TB {
		axis = 1
	}
	b = reorder(b, axis, a.In(0).Shape()[1:])
	return graph.MatMul(x.Reshape(a.Shape()...), b, false, n.Attrs().TB)
}

// unflattens reports whether n makes images (N,C,…) of the rows of a product x
// (N,C·…): the gradient of flattening. The product's weights take the new order.
func unflattens(n, x *graph.Node) bool {
	return x.Op() == graph.OpMatMul && x.Rank() == 2 && n.Rank() > 2 && n.Dim(0) == x.Dim(0)
}

// reorder permutes an axis of a matrix that counts (C,…) so that it counts
// (…,C).
func reorder(b *graph.Node, axis int, extents graph.Shape) *graph.Node {
	split := append(append(slices.Clone(b.Shape()[:axis]), extents...), b.Shape()[axis+1:]...)
	axes := make([]int, len(split))
	for i := range axes {
		axes[i] = i
	}
	k := len(extents)
	copy(axes[axis:], axes[axis+1:axis+k])
	axes[axis+k-1] = axis
	return b.Reshape(split...).Transpose(axes...).Reshape(b.Shape()...)
}

// last is a value (N,C,…) with its channels last, (N,…,C), in the cheapest way.
func last(n *graph.Node) *graph.Node {
	if x, ok := moved(n); ok {
		return x
	}
	to := lastShape(n.Shape())
	switch {
	case keepsOrder(n.Shape()):
		return n.Reshape(to...)
	case n.Op() == graph.OpConst && len(n.Attrs().Values) == 1:
		return n.Graph().Const(n.DType(), n.Attrs().Values, to...)
	case n.Op() == graph.OpIota:
		return n.Graph().Iota(n.DType(), moveAxis(n.Attrs().Axis, n.Rank()), to...)
	case n.Op() == graph.OpBroadcast:
		return last(n.In(0)).BroadcastTo(to...)
	case n.Op() == graph.OpReshape && unflattens(n, n.In(0)):
		m := n.In(0)
		axis := 1
		if m.Attrs().TB {
			axis = 0
		}
		b := reorder(m.In(1), axis, n.Shape()[1:])
		return graph.MatMul(m.In(0), b, m.Attrs().TA, m.Attrs().TB).Reshape(to...)
	}
	return n.Transpose(lastAxes(n.Rank())...)
}

// first undoes last.
func first(n *graph.Node) *graph.Node {
	r := n.Rank()
	if r < 3 {
		return n
	}
	axes := make([]int, r) // 0, r-1, 1, 2, …
	for i := 2; i < r; i++ {
		axes[i] = i - 1
	}
	axes[1] = r - 1
	y := n.Transpose(axes...)
	if keepsOrder(y.Shape()) {
		return n.Reshape(y.Shape()...)
	}
	return y
}

// moved sees through first.
func moved(n *graph.Node) (*graph.Node, bool) {
	if n.Op() != graph.OpTranspose || n.Rank() < 3 {
		return nil, false
	}
	for i, a := range n.Attrs().Axes {
		if a != moveAxis(i, n.Rank()) {
			return nil, false
		}
	}
	return n.In(0), true
}

// moveAxis is where an axis of (N,C,…) stands in (N,…,C).
func moveAxis(axis, rank int) int {
	switch {
	case axis == 1:
		return rank - 1
	case axis > 1:
		return axis - 1
	}
	return axis
}

func moveAxes(axes []int, rank int) []int {
	out := make([]int, len(axes))
	for i, a := range axes {
		out[i] = moveAxis(a, rank)
	}
	slices.Sort(out)
	return out
}

// lastAxes is the permutation that last applies: 0, 2, 3, …, 1.
func lastAxes(rank int) []int {
	axes := make([]int, rank)
	for i := range axes {
		axes[moveAxis(i, rank)] = i
	}
	return axes
}

// lastShape orders one number an axis as last does.
func lastShape(s []int) []int {
	if len(s) < 3 {
		return s
	}
	out := make([]int, len(s))
	for i, a := range lastAxes(len(s)) {
		out[i] = s[a]
	}
	return out
}

// keepsOrder reports whether moving the channels moves no element: one channel,
// or one position.
func keepsOrder(s graph.Shape) bool {
	return len(s) < 3 || s[1] == 1 || s[2:].Size() == 1
}

// convolves reports whether a block holds a convolution.
func convolves(b *graph.Block) bool {
	return slices.ContainsFunc(b.Nodes(), func(n *graph.Node) bool {
		switch n.Op() {
		case graph.OpConv2D, graph.OpConv2DInputGrad, graph.OpConv2DFilterGrad:
			return true
		case graph.OpLoop:
			return convolves(n.Body())
		}
		return false
	})
}
