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

func (c contraction) body(t graph.DType) string {
	return fmt.Sprintf(`contract<%v>(tiles, x1, x2, %du, %du, %du,
  [&](u32 i, u32 k) -> %v { %s },
  [&](u32 k, u32 j) -> %v { %s },
  [&](u32 i, u32 j, %v v) { %s });
`, t, c.m, c.n, c.depth, t, c.a, t, c.b, t, c.result)
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
	c.result = fmt.Sprintf("out[x0 * %du + i * %du + j] = v;", m*columns, columns)
	return c
}

// conv is a convolution's geometry: x (N,C,H,W), w (O,C,R,S), y (N,O,P,Q).
type conv struct{ N, C, H, W, O, R, S, P, Q, strideH, strideW, padH, padW, dilationH, dilationW int }

func geometry(x, w, y graph.Shape, a *graph.Attrs) conv {
	return conv{x[0], x[1], x[2], x[3], w[0], w[2], w[3], y[2], y[3],
		a.Stride[0], a.Stride[1], a.Pad[0], a.Pad[1], a.Dilation[0], a.Dilation[1]}
}

// input is the element of x, or zero in the padding, that tap (c, r, s) of
// output (image, p, q) reads.
func (g conv) input(x string) string {
	return fmt.Sprintf("const i32 h = (i32)p * %d - %d + (i32)r * %d, w = (i32)q * %d - %d + (i32)s * %d; "+
		"return h >= 0 && h < %d && w >= 0 && w < %d ? %s[((image * %du + c) * %du + (u32)h) * %du + (u32)w] : 0;",
		g.strideH, g.padH, g.dilationH, g.strideW, g.padW, g.dilationW, g.H, g.W, x, g.C, g.H, g.W)
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

func convOf(n *graph.Node) contraction {
	g := geometry(n.In(0).Shape(), n.In(1).Shape(), n.Shape(), n.Attrs())
	depth := g.C * g.R * g.S
	pixel := split("j", []string{"image", "p", "q"}, g.N, g.P, g.Q)
	return contraction{batch: 1, m: g.O, n: g.N * g.P * g.Q, depth: depth,
		a:      fmt.Sprintf("return in1[i * %du + k];", depth),
		b:      split("k", []string{"c", "r", "s"}, g.C, g.R, g.S) + pixel + g.input("in0"),
		result: pixel + fmt.Sprintf("out[((image * %du + i) * %du + p) * %du + q] = v;", g.O, g.P, g.Q),
	}
}

func inputGradOf(n *graph.Node) contraction { // (dy, w)
	g := geometry(n.Shape(), n.In(1).Shape(), n.In(0).Shape(), n.Attrs())
	pixel := split("j", []string{"image", "h", "w"}, g.N, g.H, g.W)
	tap := split("k", []string{"o", "r", "s"}, g.O, g.R, g.S)
	return contraction{batch: 1, m: g.C, n: g.N * g.H * g.W, depth: g.O * g.R * g.S,
		a: tap + fmt.Sprintf("return in1[((o * %du + i) * %du + r) * %du + s];", g.C, g.R, g.S),
		b: tap + pixel + fmt.Sprintf("const i32 u = (i32)h + %d - (i32)r * %d, v = (i32)w + %d - (i32)s * %d; "+
			"return u >= 0 && u %% %d == 0 && u < %d && v >= 0 && v %% %d == 0 && v < %d ? in0[((image * %du + o) * %du + (u32)u / %du) * %du + (u32)v / %du] : 0;",
			g.padH, g.dilationH, g.padW, g.dilationW, g.strideH, g.P*g.strideH, g.strideW, g.Q*g.strideW, g.O, g.P, g.strideH, g.Q, g.strideW),
		result: pixel + fmt.Sprintf("out[((image * %du + i) * %du + h) * %du + w] = v;", g.C, g.H, g.W),
	}
}

func filterGradOf(n *graph.Node) contraction { // (x, dy)
	g := geometry(n.In(0).Shape(), n.Shape(), n.In(1).Shape(), n.Attrs())
	pixel := split("k", []string{"image", "p", "q"}, g.N, g.P, g.Q)
	return contraction{batch: 1, m: g.O, n: g.C * g.R * g.S, depth: g.N * g.P * g.Q,
		a:      pixel + fmt.Sprintf("return in1[((image * %du + i) * %du + p) * %du + q];", g.O, g.P, g.Q),
		b:      pixel + split("j", []string{"c", "r", "s"}, g.C, g.R, g.S) + g.input("in0"),
		result: fmt.Sprintf("out[i * %du + j] = v;", g.C*g.R*g.S),
	}
}
