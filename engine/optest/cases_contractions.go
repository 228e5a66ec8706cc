package optest

import (
	"fmt"
	"slices"

	"temper/engine/graph"
)

// contractions has matmul, the three convolutions, and pooling.
func contractions() []Case {
	return slices.Concat(matMuls(), convolutions(), packedConvolutions(), pools())
}

// roundedOnce is the tolerance of products of bf16: their sums are float32's,
// which may fall to either side of the middle between two bf16.
var roundedOnce = Tolerance{Rel: 1, Abs: 0x1p-9}

func matMuls() []Case {
	var cases []Case
	for _, c := range []struct{ batch, m, k, n int }{
		{0, 1, 1, 1}, {0, 3, 4, 5}, {0, 17, 33, 9}, {0, 1, 65, 10}, {0, 70, 1, 35}, {0, 4, 1000, 3}, {0, 65, 64, 130}, {1, 3, 4, 5}, {3, 5, 7, 2}, {2, 33, 17, 16},
	} {
		for t := range 4 {
			ta, tb := t&1 != 0, t&2 != 0
			a, b := graph.Shape{c.m, c.k}, graph.Shape{c.k, c.n}
			if ta {
				a = graph.Shape{c.k, c.m}
			}
			if tb {
				b = graph.Shape{c.n, c.k}
			}
			if c.batch > 0 {
				a, b = append(graph.Shape{c.batch}, a...), append(graph.Shape{c.batch}, b...)
			}
			small := c.m*c.k*c.n < 1000
			cases = append(cases, Case{
				Name: fmt.Sprintf("matmul/%v%v,ta=%v,tb=%v", a, b, ta, tb), Types: floatTypes, Tol: Tolerance{Abs: 32}, TolBF16: roundedOnce,
				in:    []operand{of(uniform(-1, 1), a...), of(uniform(-1, 1), b...)},
				build: op2(func(a, b *graph.Node) *graph.Node { return graph.MatMul(a, b, ta, tb) }), diff: small, smooth: small,
			})
		}
	}
	return cases
}

// geometry is the shape of a convolution.
type geometry struct {
	name           string
	n, c, h, w     int
	o, kh, kw      int
	stride, pad, d [2]int
}

func (c *geometry) out() (h, w int) {
	return (c.h+2*c.pad[0]-(c.kh-1)*c.d[0]-1)/c.stride[0] + 1, (c.w+2*c.pad[1]-(c.kw-1)*c.d[1]-1)/c.stride[1] + 1
}

// geometries of convolutions: what implementations treat apart.
var geometries = []geometry{
	{"1x1", 2, 3, 5, 7, 16, 1, 1, [2]int{1, 1}, [2]int{}, [2]int{1, 1}},
	{"1x1,s2", 2, 16, 5, 6, 3, 1, 1, [2]int{2, 2}, [2]int{}, [2]int{1, 1}},
	{"3x3", 2, 3, 6, 7, 4, 3, 3, [2]int{1, 1}, [2]int{1, 1}, [2]int{1, 1}},
	{"3x3,valid", 1, 1, 5, 9, 3, 3, 3, [2]int{1, 1}, [2]int{}, [2]int{1, 1}},
	{"3x3,ragged", 1, 17, 13, 9, 33, 3, 3, [2]int{1, 1}, [2]int{1, 1}, [2]int{1, 1}},
	{"3x3,16", 2, 16, 8, 8, 16, 3, 3, [2]int{1, 1}, [2]int{1, 1}, [2]int{1, 1}},
	{"3x3,pad2", 1, 2, 4, 4, 3, 3, 3, [2]int{1, 1}, [2]int{2, 2}, [2]int{1, 1}},
	{"3x3,s2", 2, 16, 8, 7, 17, 3, 3, [2]int{2, 2}, [2]int{1, 1}, [2]int{1, 1}},
	{"3x3,s2,odd", 1, 3, 7, 8, 5, 3, 3, [2]int{2, 2}, [2]int{1, 1}, [2]int{1, 1}},
	{"3x3,s3,rest", 1, 2, 9, 10, 2, 3, 3, [2]int{3, 3}, [2]int{}, [2]int{1, 1}},
	{"3x3,d2", 1, 3, 8, 7, 4, 3, 3, [2]int{1, 1}, [2]int{2, 2}, [2]int{2, 2}},
	{"3x3,s2,d2", 1, 2, 9, 9, 2, 3, 3, [2]int{2, 2}, [2]int{1, 1}, [2]int{2, 2}},
	{"3x3,uneven", 2, 3, 6, 9, 4, 3, 3, [2]int{1, 2}, [2]int{1, 0}, [2]int{2, 1}},
	{"1x3", 1, 3, 5, 6, 4, 1, 3, [2]int{1, 1}, [2]int{0, 1}, [2]int{1, 1}},
	{"5x5", 1, 3, 9, 8, 4, 5, 5, [2]int{1, 1}, [2]int{2, 2}, [2]int{1, 1}},
	{"4x4,s2", 2, 1, 9, 8, 16, 4, 4, [2]int{2, 2}, [2]int{1, 1}, [2]int{1, 1}},
	{"2x2,s3", 1, 2, 7, 7, 2, 2, 2, [2]int{3, 3}, [2]int{}, [2]int{1, 1}},
	{"kernel beyond image", 2, 3, 2, 3, 4, 5, 5, [2]int{1, 1}, [2]int{2, 2}, [2]int{1, 1}},
	{"whole image", 3, 2, 4, 5, 6, 4, 5, [2]int{1, 1}, [2]int{}, [2]int{1, 1}},
	{"one pixel", 2, 16, 1, 1, 17, 3, 3, [2]int{1, 1}, [2]int{1, 1}, [2]int{1, 1}},
}

func convolutions() []Case {
	var cases []Case
	tol := Tolerance{Abs: 128} // Winograd's transforms amplify rounding about tenfold
	for _, c := range geometries {
		win := graph.Window{Stride: c.stride, Pad: c.pad, Dilation: c.d}
		attrs := graph.Attrs{Stride: c.stride, Pad: c.pad, Dilation: c.d}
		p, q := c.out()
		x, w, y := of(uniform(-1, 1), c.n, c.c, c.h, c.w), of(uniform(-1, 1), c.o, c.c, c.kh, c.kw), of(uniform(-1, 1), c.n, c.o, p, q)
		small := c.n*c.o*p*q*c.c*c.kh*c.kw < 20000
		cases = append(cases,
			Case{Name: "conv2d/" + c.name, Types: floatTypes, Tol: tol, TolBF16: roundedOnce, in: []operand{x, w}, diff: small, smooth: small,
				build: op2(func(x, w *graph.Node) *graph.Node { return x.Conv2D(w, win) })},
			Case{Name: "conv2d-input-grad/" + c.name, Types: floatTypes, Tol: tol, TolBF16: roundedOnce, in: []operand{y, w}, diff: small, smooth: small,
				build: op2(func(y, w *graph.Node) *graph.Node {
					a := attrs
					a.Size = []int{c.h, c.w}
					return y.Graph().Make(graph.OpConv2DInputGrad, a, y, w)
				})},
			Case{Name: "conv2d-filter-grad/" + c.name, Types: floatTypes, Tol: tol, TolBF16: roundedOnce, in: []operand{x, y}, diff: small, smooth: small,
				build: op2(func(x, y *graph.Node) *graph.Node {
					a := attrs
					a.Size = []int{c.kh, c.kw}
					return x.Graph().Make(graph.OpConv2DFilterGrad, a, x, y)
				})},
		)
	}
	for _, k := range []int{3, 5} {
		cases = append(cases, Case{Name: fmt.Sprintf("conv2d/large,%dx%d", k, k), Types: f32Only, Tol: tol, in: []operand{of(uniform(-1, 1), 3, 16, 18, 22), of(uniform(-1, 1), 32, 16, k, k)},
			build: func(x nodes) nodes {
				y := x[0].Conv2D(x[1], graph.Square(1, k/2))
				a := *y.Attrs()
				dx, dw := a, a
				dx.Size, dw.Size = []int{18, 22}, []int{k, k}
				g := y.Graph()
				return nodes{y, g.Make(graph.OpConv2DInputGrad, dx, y, x[1]), g.Make(graph.OpConv2DFilterGrad, dw, x[0], y)}
			}})
	}
	return append(cases,
		Case{Name: "conv2d/bias-relu", Types: wideTypes, Tol: tol, in: []operand{of(uniform(-1, 1), 2, 3, 6, 5), of(uniform(-1, 1), 5, 3, 3, 3), of(uniform(-1, 1), 5, 1, 1)},
			build: func(x nodes) nodes { return nodes{x[0].Conv2D(x[1], graph.Square(1, 1)).Add(x[2]).Tanh().ReLU()} }},
	)
}

// packedConvolutions are what the passes winograd and pack make of
// convolutions: the packed filter and the product with it.
func packedConvolutions() []Case {
	var cases []Case
	wide := geometry{"3x3,48", 1, 48, 6, 9, 32, 3, 3, [2]int{1, 1}, [2]int{2, 0}, [2]int{1, 1}}
	wide5 := geometry{"5x5,32", 2, 16, 7, 6, 32, 5, 5, [2]int{1, 1}, [2]int{2, 1}, [2]int{1, 1}}
	for _, c := range append(slices.Clip(geometries), wide, wide5) {
		p, q := c.out()
		filter := graph.Shape{c.o, c.kh, c.kw, c.c}
		for _, inputGrad := range []bool{false, true} {
			from, to := []int{c.n, c.h, c.w, c.c}, []int{p, q, c.o}
			name := c.name
			if inputGrad {
				from, to = []int{c.n, p, q, c.o}, []int{c.h, c.w, c.c}
				name += ",input-grad"
			}
			for _, algorithm := range []graph.Algorithm{graph.Direct, graph.Winograd, graph.Patches} {
				a := graph.Attrs{Kernel: [2]int{c.kh, c.kw}, Stride: c.stride, Pad: c.pad, Dilation: c.d, Size: to, Algorithm: algorithm, InputGrad: inputGrad}
				if algorithm == graph.Winograd && !graph.CanWinograd(filter, &a) || algorithm == graph.Patches && !graph.CanPatches(filter, &a) {
					continue
				}
				cases = append(cases, Case{
					Name: fmt.Sprintf("packed-conv2d/%v/%s", algorithm, name), Types: wideTypes, Tol: Tolerance{Abs: 128},
					in: []operand{of(uniform(-1, 1), from...), of(uniform(-1, 1), filter...)},
					build: func(x nodes) nodes {
						g := x[0].Graph()
						w := g.Make(graph.OpPackFilter, a, x[1])
						return nodes{w, g.Make(graph.OpPackedConv2D, a, x[0], w)}
					},
				})
			}
		}
	}
	return append(cases, pooledConvolutions()...)
}

// pooledConvolutions are what the pass pack makes of the gradient that comes
// through a max-pooling.
func pooledConvolutions() []Case {
	var cases []Case
	for _, c := range []struct {
		name             string
		stride, dilation [2]int
		pad, window      [2]int
		h, w, c, o, k    int
	}{
		{"3x3,2x2", [2]int{1, 1}, [2]int{1, 1}, [2]int{1, 1}, [2]int{2, 2}, 8, 6, 3, 20, 3},
		{"5x5,2x2", [2]int{1, 1}, [2]int{1, 1}, [2]int{2, 2}, [2]int{2, 2}, 6, 8, 1, 32, 5},
		{"2x2,s2,d3,3x2", [2]int{2, 1}, [2]int{1, 3}, [2]int{0, 1}, [2]int{3, 2}, 12, 9, 2, 5, 2},
	} {
		at := graph.Attrs{Kernel: [2]int{c.k, c.k}, Stride: c.stride, Pad: c.pad, Dilation: c.dilation, Pool: c.window,
			Size: []int{c.h, c.w, c.c}, Algorithm: graph.Pooled, InputGrad: true}
		out := func(i, size int) int { return (size+2*c.pad[i]-c.dilation[i]*(c.k-1)-1)/c.stride[i] + 1 }
		h, w := out(0, c.h), out(1, c.w)
		cases = append(cases, Case{
			Name: "packed-conv2d/pooled/" + c.name, Types: wideTypes, Tol: Tolerance{Abs: 128},
			in: []operand{of(uniform(-1, 1), 2, h, w, c.o), of(uniform(-1, 1), 2, h/c.window[0], w/c.window[1], c.o), of(uniform(-1, 1), c.o, c.k, c.k, c.c)},
			build: func(x nodes) nodes {
				g := x[0].Graph()
				places := g.Make(graph.OpPoolArgMax, graph.Attrs{Kernel: c.window, Stride: c.window, Layout: graph.NHWC}, x[0])
				filter := g.Make(graph.OpPackFilter, at, x[2])
				return nodes{filter, g.Make(graph.OpPackedConv2D, at, x[1].ReLU(), filter, places)}
			},
		})
	}
	return cases
}

func pools() []Case {
	var cases []Case
	for _, c := range []struct {
		name        string
		kernel      [2]int
		stride, pad [2]int
		h, w        int
	}{
		{"2x2", [2]int{2, 2}, [2]int{2, 2}, [2]int{}, 6, 4},
		{"2x2,rest", [2]int{2, 2}, [2]int{2, 2}, [2]int{}, 5, 7},
		{"3x3,s2,p1", [2]int{3, 3}, [2]int{2, 2}, [2]int{1, 1}, 7, 6},
		{"3x2,overlap", [2]int{3, 2}, [2]int{1, 1}, [2]int{1, 0}, 4, 5},
		{"global", [2]int{4, 4}, [2]int{1, 1}, [2]int{}, 4, 4},
	} {
		win := graph.Window{Stride: c.stride, Pad: c.pad}
		cases = append(cases,
			Case{Name: "max-pool/" + c.name, Types: floatTypes, in: []operand{of(apart(0.125, 0), 2, 3, c.h, c.w)}, diff: true, smooth: true,
				build: op1(func(x *graph.Node) *graph.Node { return x.MaxPool(c.kernel, win) })},
			Case{Name: "avg-pool/" + c.name, Types: floatTypes, Tol: Tolerance{Abs: 16}, in: []operand{of(uniform(-1, 2), 2, 3, c.h, c.w)}, diff: true, smooth: true,
				build: op1(func(x *graph.Node) *graph.Node { return x.AvgPool(c.kernel, win) })},
		)
	}
	arg := func(x *graph.Node) *graph.Node {
		return x.Graph().Make(graph.OpPoolArgMax, graph.Attrs{Kernel: [2]int{3, 3}, Stride: [2]int{2, 2}, Pad: [2]int{1, 1}}, x)
	}
	last := func(x *graph.Node) *graph.Node {
		return x.Graph().Make(graph.OpPoolArgMax, graph.Attrs{Kernel: [2]int{3, 2}, Stride: [2]int{2, 3}, Pad: [2]int{1, 1}, Layout: graph.NHWC}, x)
	}
	return append(cases,
		Case{Name: "max-pool/convolved", Types: wideTypes, Tol: Tolerance{Abs: 32}, in: []operand{of(uniform(-1, 1), 2, 3, 6, 4), of(uniform(-1, 1), 11, 3, 3, 3)}, diff: true,
			build: op2(func(x, w *graph.Node) *graph.Node {
				return x.Conv2D(w, graph.Square(1, 1)).MaxPool([2]int{2, 2}, graph.Square(2, 0))
			})},
		Case{Name: "pool-argmax/nhwc/special", Types: floatTypes, in: []operand{of(special(), 2, 7, 8, 11)}, build: op1(last)},
		Case{Name: "pool-argmax/nhwc/ties", Types: numTypes, in: []operand{of(ints(0, 2), 2, 7, 8, 11)}, build: op1(last)},
		Case{Name: "pool-argmax/special", Types: floatTypes, in: []operand{of(special(), 2, 3, 7, 8)}, build: op1(arg)},
		Case{Name: "pool-argmax/ties", Types: numTypes, in: []operand{of(ints(0, 2), 2, 3, 7, 8)}, build: op1(arg)},
	)
}
