package passes

import "temper/engine/graph"

// winograd has 3×3 and 5×5 convolutions and their gradients computed by
// Winograd's F(4×4,3×3) and F(4×4,5×5) where that pays: f32, stride 1, whole panels of channels, and
// results that fill at least half of the tiles. Its rounding errors are some
// 4 to 11 times those of the direct method; without this pass all convolutions
// are direct.
func winograd(g *graph.Graph) (*graph.Graph, error) {
	return graph.Rewrite(g, func(c *graph.Copier, n *graph.Node, ins []*graph.Node) *graph.Node {
		switch n.Op() {
		case graph.OpConv2D, graph.OpConv2DInputGrad:
			if paysWinograd(ins[1].Shape(), n.Shape(), n) {
				return packed(c, n, ins, graph.Winograd)
			}
		case graph.OpConv2DFilterGrad:
			if paysWinograd(n.Shape(), ins[1].Shape(), n) {
				a := *n.Attrs()
				a.Algorithm = graph.Winograd
				return c.Dst.Make(n.Op(), a, ins...)
			}
		}
		return nil
	})
}

// paysWinograd looks at the filter and at the result that is cut into tiles.
func paysWinograd(w, y graph.Shape, n *graph.Node) bool {
	if n.Attrs().Layout != graph.NHWC || n.DType() != graph.F32 || !graph.CanWinograd(w, n.Attrs()) {
		return false
	}
	side := 7 - w[1] // of a tile
	tiles := (y[1] + side - 1) / side * ((y[2] + side - 1) / side)
	return 2*y[1]*y[2] >= side*side*tiles
}

// pack gives the filters of all other convolutions in panels to the kernels
// that read them so. Packing is a node of its own: it leaves a loop in which the
// filter does not change, and a filter's uses share it.
func pack(g *graph.Graph) (*graph.Graph, error) {
	return graph.Rewrite(g, func(c *graph.Copier, n *graph.Node, ins []*graph.Node) *graph.Node {
		if n.Attrs().Layout == graph.NHWC && (n.Op() == graph.OpConv2D || n.Op() == graph.OpConv2DInputGrad) {
			a := graph.Attrs{InputGrad: n.Op() == graph.OpConv2DInputGrad}
			if n.DType() == graph.BF16 {
				return packed(c, n, ins, graph.Pairs)
			}
			if w := ins[1].Shape(); graph.CanPatches(w, &a) && w[1]*w[2] > 1 {
				if p := pooled(c, n, ins); p != nil {
					return p
				}
				return packed(c, n, ins, graph.Patches)
			}
			return packed(c, n, ins, graph.Direct)
		}
		if n.Op() == graph.OpMatMul && n.Rank() == 2 && !n.Attrs().TA && n.Dim(0) <= maxPackedRows && stored(ins[1]) {
			return packedProduct(c, n, ins)
		}
		return nil
	})
}

// maxPackedRows bounds the products that are worth the trouble: of a batch with
// the weights of a layer. A product of large matrices packs both.
const maxPackedRows = 512

// stored reports whether n holds a state's elements.
func stored(n *graph.Node) bool {
	for n.Op() == graph.OpReshape || n.Op() == graph.OpTranspose || n.Op() == graph.OpConvert && n.DType() == graph.BF16 {
		n = n.In(0)
	}
	return n.Op() == graph.OpState
}

// packedProduct writes a product with weights as a convolution of images of one
// pixel, so that they are packed once for all chunks of a batch and all steps of
// an attack.
func packedProduct(c *graph.Copier, n *graph.Node, ins []*graph.Node) *graph.Node {
	x, w, inputGrad := ins[0], ins[1], !n.Attrs().TB
	one := [2]int{1, 1}
	a := graph.Attrs{Stride: one, Dilation: one, Kernel: one, InputGrad: inputGrad, Size: []int{1, 1, n.Dim(1)}}
	if n.DType() == graph.BF16 {
		a.Algorithm = graph.Pairs
	}
	filter := c.Dst.Make(graph.OpPackFilter, packAttrs(a), w.Reshape(w.Dim(0), 1, 1, w.Dim(1)))
	return c.Dst.Make(graph.OpPackedConv2D, a, x.Reshape(x.Dim(0), 1, 1, x.Dim(1)), filter).Reshape(n.Shape()...)
}

// pooled writes the gradient with respect to images of few channels, where it
// comes through a max-pooling whose windows tile what they pool: most of the
// gradient dy is 0 then, and the rest is at hand as values and places. It is nil
// elsewhere.
func pooled(c *graph.Copier, n *graph.Node, ins []*graph.Node) *graph.Node {
	spread := unreshaped(ins[0])
	if spread.Op() != graph.OpScatterAdd || spread.Attrs().Axis != 1 {
		return nil
	}
	found := unreshaped(spread.In(1))
	if found.Op() != graph.OpPoolArgMax || found.Attrs().Layout != graph.NHWC {
		return nil
	}
	p, y := found.Attrs(), found.In(0).Shape()
	tiled := p.Kernel == p.Stride && p.Pad == [2]int{} && y[1]%p.Kernel[0] == 0 && y[2]%p.Kernel[1] == 0
	if !tiled || !ins[0].Shape().Equal(y) || !spread.Shape().Equal(graph.Shape{y[0], y[1] * y[2], y[3]}) {
		return nil
	}
	a, w := *n.Attrs(), ins[1]
	a.Layout, a.Algorithm, a.InputGrad, a.Pool = graph.NCHW, graph.Pooled, true, p.Kernel
	filter := c.Dst.Make(graph.OpPackFilter, packAttrs(a), w)
	a.Kernel, a.Size = [2]int{w.Dim(1), w.Dim(2)}, n.Shape()[1:]
	return c.Dst.Make(graph.OpPackedConv2D, a, spread.In(0).Reshape(found.Shape()...), filter, found)
}

// unreshaped is where n's elements were computed.
func unreshaped(n *graph.Node) *graph.Node {
	for n.Op() == graph.OpReshape {
		n = n.In(0)
	}
	return n
}

// packed writes conv2d or conv2d-input-grad with a packed filter.
func packed(c *graph.Copier, n *graph.Node, ins []*graph.Node, algorithm graph.Algorithm) *graph.Node {
	a := *n.Attrs()
	a.Layout, a.Algorithm, a.InputGrad = graph.NCHW, algorithm, n.Op() == graph.OpConv2DInputGrad
	w := ins[1]
	filter := c.Dst.Make(graph.OpPackFilter, packAttrs(a), w)
	a.Kernel, a.Size = [2]int{w.Dim(1), w.Dim(2)}, n.Shape()[1:]
	return c.Dst.Make(graph.OpPackedConv2D, a, ins[0], filter)
}

// packAttrs keeps what a packed filter depends on, so that uses which differ in
// nothing else share it.
func packAttrs(a graph.Attrs) graph.Attrs {
	out := graph.Attrs{Algorithm: a.Algorithm, InputGrad: a.InputGrad, Stride: [2]int{1, 1}, Dilation: [2]int{1, 1}, Pool: a.Pool}
	if a.InputGrad && (a.Algorithm == graph.Direct || a.Algorithm == graph.Pairs) || a.Algorithm == graph.Pooled {
		out.Stride, out.Dilation = a.Stride, a.Dilation
	}
	return out
}
