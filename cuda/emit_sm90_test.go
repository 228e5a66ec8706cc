package cuda

import (
	"testing"

	"temper/engine/graph"
)

// TestOnSM90 asks which convolutions conv_sm90.h computes.
func TestOnSM90(t *testing.T) {
	type shape struct {
		c, o, taps, stride, pad, dilation int
	}
	for _, c := range []struct {
		what       string
		dt         graph.DType
		layout     graph.Layout
		capability int
		shape
		forward, dx, dw bool
	}{
		{"a layer", graph.BF16, graph.NHWC, 90, shape{64, 64, 3, 1, 1, 1}, true, true, true},
		{"strided", graph.BF16, graph.NHWC, 90, shape{64, 128, 3, 2, 1, 1}, true, true, true},
		{"eight channels", graph.BF16, graph.NHWC, 90, shape{8, 8, 3, 1, 1, 1}, true, true, true},
		{"float32", graph.F32, graph.NHWC, 90, shape{64, 64, 3, 1, 1, 1}, false, false, false},
		{"planes", graph.BF16, graph.NCHW, 90, shape{64, 64, 3, 1, 1, 1}, false, false, false},
		{"sm_80", graph.BF16, graph.NHWC, 80, shape{64, 64, 3, 1, 1, 1}, false, false, false},
		{"sm_100", graph.BF16, graph.NHWC, 100, shape{64, 64, 3, 1, 1, 1}, false, false, false},
		{"the first layer", graph.BF16, graph.NHWC, 90, shape{3, 64, 3, 1, 1, 1}, false, false, false},
		{"odd outputs", graph.BF16, graph.NHWC, 90, shape{64, 10, 3, 1, 1, 1}, true, false, false},
		{"far strides", graph.BF16, graph.NHWC, 90, shape{64, 64, 9, 9, 0, 1}, false, false, false},
		{"many phases", graph.BF16, graph.NHWC, 90, shape{64, 64, 5, 5, 0, 1}, true, false, true},
		{"stride 8", graph.BF16, graph.NHWC, 90, shape{64, 64, 3, 8, 0, 1}, true, false, true},
		{"corners at the limit", graph.BF16, graph.NHWC, 90, shape{64, 64, 3, 1, 128, 1}, true, true, true},
		{"corners beyond it", graph.BF16, graph.NHWC, 90, shape{64, 64, 3, 1, 129, 1}, false, false, false},
		{"an upper corner beyond it", graph.BF16, graph.NHWC, 90, shape{64, 64, 1, 1, 128, 1}, false, false, false},
		{"taps at the limit", graph.BF16, graph.NHWC, 90, shape{64, 64, 2, 1, 127, 255}, true, true, true},
		{"taps beyond it", graph.BF16, graph.NHWC, 90, shape{64, 64, 2, 1, 128, 256}, false, false, false},
		{"middle taps at the limit", graph.BF16, graph.NHWC, 90, shape{64, 64, 3, 1, 127, 127}, true, true, true},
		{"middle taps beyond it", graph.BF16, graph.NHWC, 90, shape{64, 64, 3, 1, 128, 128}, false, false, false},
	} {
		g := graph.New(c.what)
		a := graph.Attrs{Stride: [2]int{c.stride, c.stride}, Pad: [2]int{c.pad, c.pad}, Dilation: [2]int{c.dilation, c.dilation}, Layout: c.layout}
		x, w := g.Input("x", c.dt, c.layout.Shape(4, c.c, 18, 18)...), g.Input("w", c.dt, c.layout.Shape(c.o, c.c, c.taps, c.taps)...)
		y := g.Make(graph.OpConv2D, a, x, w)
		dx, dw := a, a
		dx.Size, dw.Size = []int{18, 18}, []int{c.taps, c.taps}
		dy := g.Input("dy", c.dt, y.Shape()...)
		all := []*graph.Node{y, g.Make(graph.OpConv2DInputGrad, dx, dy, w), g.Make(graph.OpConv2DFilterGrad, dw, x, dy)}
		if err := g.Err(); err != nil {
			t.Fatal(err)
		}
		for i, want := range []bool{c.forward, c.dx, c.dw} {
			if got := onSM90(all[i], c.capability); got != want {
				t.Errorf("%s: %v is computed there: %v, want %v", c.what, all[i].Op(), got, want)
			}
		}
	}
}
