package cuda

import (
	"fmt"

	"temper/engine/graph"
)

// contraction writes a product or a convolution as a product of matrices whose
// elements are expressions: a of i and k, b of k and j, result of i and j.
type contraction struct {
	batch, m, n, depth int
	a, b, result       string
}

func contractionOf(n *graph.Node) contraction {
	switch n.Op() {
	case graph.OpMatMul:
		return matMulOf(n)
	case graph.OpConv2D:
		return convOf(n)
	case graph.OpConv2DInputGrad:
		return inputGradOf(n)
	}
	return filterGradOf(n)
}

// sumType is the type that products of t are added up in.
func sumType(t graph.DType) graph.DType {
	if t == graph.BF16 {
		return graph.F32
	}
	return t
}

func (c contraction) body(t graph.DType) string {
	return fmt.Sprintf(`contract<%v>(tiles, x1, x2, %du, %du, %du,
  [&](u32 i, u32 k) -> %v { %s },
  [&](u32 k, u32 j) -> %v { %s },
  [&](u32 i, u32 j, %v v) { %s });
`, sumType(t), c.m, c.n, c.depth, t, c.a, t, c.b, sumType(t), c.result)
}

func matMulOf(n *graph.Node) contraction {
	m, columns := n.Dim(-2), n.Dim(-1)
	depth := n.In(0).Dim(-1)
	if n.Attrs().TA {
		depth = n.In(0).Dim(-2)
	}
	c := contraction{batch: n.Size() / (m * columns), m: m, n: columns, depth: depth}
	c.a = fmt.Sprintf("return in0[x0 * %du + i * %du + k];", m*depth, depth)
	if n.Attrs().TA {
		c.a = fmt.Sprintf("return in0[x0 * %du + k * %du + i];", m*depth, m)
	}
	c.b = fmt.Sprintf("return in1[x0 * %du + k * %du + j];", depth*columns, columns)
	if n.Attrs().TB {
		c.b = fmt.Sprintf("return in1[x0 * %du + j * %du + k];", depth*columns, depth)
	}
	c.result = store(n.DType(), fmt.Sprintf("out[x0 * %du + i * %du + j]", m*columns, columns))
	return c
}

// conv is a convolution's geometry: x (N,C,H,W), w (O,C,R,S), y (N,O,P,Q), in
// either layout.
type conv struct {
	N, C, H, W, O, R, S, P, Q, strideH, strideW, padH, padW, dilationH, dilationW int

	layout graph.Layout
}

// geometry of the convolution or gradient n, whose image, filter and result are
// x, w and y.
func geometry(n, x, w, y *graph.Node) conv {
	a := n.Attrs()
	c, s := a.Layout.Channel(), a.Layout.Spatial()
	return conv{x.Dim(0), x.Dim(c), x.Dim(s), x.Dim(s + 1), w.Dim(0), w.Dim(s), w.Dim(s + 1), y.Dim(s), y.Dim(s + 1),
		a.Stride[0], a.Stride[1], a.Pad[0], a.Pad[1], a.Dilation[0], a.Dilation[1], a.Layout}
}

// element is an element of images or filters of the given extents: of the
// image, channel, row and column that the expressions name.
func (g conv) element(of string, channels, rows, columns int, n, c, h, w string) string {
	if g.layout == graph.NHWC {
		return fmt.Sprintf("%s[((%s * %du + %s) * %du + %s) * %du + %s]", of, n, rows, h, columns, w, channels, c)
	}
	return fmt.Sprintf("%s[((%s * %du + %s) * %du + %s) * %du + %s]", of, n, channels, c, rows, h, columns, w)
}

// input is the element of in0, or zero in the padding, that tap (c, r, s) of
// output (image, p, q) reads.
func (g conv) input(t graph.DType) string {
	return fmt.Sprintf("const i32 h = (i32)p * %d - %d + (i32)r * %d, w = (i32)q * %d - %d + (i32)s * %d; "+
		"return h >= 0 && h < %d && w >= 0 && w < %d ? %s : %v{};",
		g.strideH, g.padH, g.dilationH, g.strideW, g.padW, g.dilationW, g.H, g.W,
		g.element("in0", g.C, g.H, g.W, "image", "c", "(u32)h", "(u32)w"), t)
}

// split declares the parts of a linear index, the last one fastest; the first
// takes what is left.
func split(index string, names []string, extents ...int) string {
	s, rest := "", 1
	for k := len(names) - 1; k >= 0; k-- {
		expr := fmt.Sprintf("%s / %du", index, rest)
		if k > 0 {
			expr += fmt.Sprintf(" %% %du", extents[k])
		}
		s += fmt.Sprintf("const u32 %s = %s; ", names[k], expr)
		rest *= extents[k]
	}
	return s
}

// store sets an element of the result to the sum v.
func store(t graph.DType, element string) string {
	return fmt.Sprintf("%s = convert<%v>(v);", element, t)
}

func convOf(n *graph.Node) contraction {
	g := geometry(n, n.In(0), n.In(1), n)
	pixel := split("j", []string{"image", "p", "q"}, g.N, g.P, g.Q)
	tap := split("k", []string{"c", "r", "s"}, g.C, g.R, g.S)
	return contraction{batch: 1, m: g.O, n: g.N * g.P * g.Q, depth: g.C * g.R * g.S,
		a:      tap + fmt.Sprintf("return %s;", g.element("in1", g.C, g.R, g.S, "i", "c", "r", "s")),
		b:      tap + pixel + g.input(n.DType()),
		result: pixel + store(n.DType(), g.element("out", g.O, g.P, g.Q, "image", "i", "p", "q")),
	}
}

func inputGradOf(n *graph.Node) contraction { // (dy, w)
	g := geometry(n, n, n.In(1), n.In(0))
	pixel := split("j", []string{"image", "h", "w"}, g.N, g.H, g.W)
	tap := split("k", []string{"o", "r", "s"}, g.O, g.R, g.S)
	return contraction{batch: 1, m: g.C, n: g.N * g.H * g.W, depth: g.O * g.R * g.S,
		a: tap + fmt.Sprintf("return %s;", g.element("in1", g.C, g.R, g.S, "o", "i", "r", "s")),
		b: tap + pixel + fmt.Sprintf("const i32 u = (i32)h + %d - (i32)r * %d, v = (i32)w + %d - (i32)s * %d; "+
			"return u >= 0 && u %% %d == 0 && u < %d && v >= 0 && v %% %d == 0 && v < %d ? %s : %v{};",
			g.padH, g.dilationH, g.padW, g.dilationW, g.strideH, g.P*g.strideH, g.strideW, g.Q*g.strideW,
			g.element("in0", g.O, g.P, g.Q, "image", "o", fmt.Sprintf("(u32)u / %du", g.strideH), fmt.Sprintf("(u32)v / %du", g.strideW)), n.DType()),
		result: pixel + store(n.DType(), g.element("out", g.C, g.H, g.W, "image", "i", "h", "w")),
	}
}

func filterGradOf(n *graph.Node) contraction { // (x, dy)
	g := geometry(n, n.In(0), n, n.In(1))
	pixel := split("k", []string{"image", "p", "q"}, g.N, g.P, g.Q)
	tap := split("j", []string{"c", "r", "s"}, g.C, g.R, g.S)
	return contraction{batch: 1, m: g.O, n: g.C * g.R * g.S, depth: g.N * g.P * g.Q,
		a:      pixel + fmt.Sprintf("return %s;", g.element("in1", g.O, g.P, g.Q, "image", "i", "p", "q")),
		b:      pixel + tap + g.input(n.DType()),
		result: tap + store(n.DType(), g.element("out", g.C, g.R, g.S, "i", "c", "r", "s")),
	}
}
