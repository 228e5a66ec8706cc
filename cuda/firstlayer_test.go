package cuda

import (
	"fmt"
	"testing"

	"temper/engine/graph"
)

// TestFirstLayer counts what a first layer's tiles multiply and gather, for 128
// images of three channels: no way wastes what 16 channels would.
func TestFirstLayer(t *testing.T) {
	g := graph.New("first layer")
	a := graph.Attrs{Stride: [2]int{1, 1}, Pad: [2]int{1, 1}, Dilation: [2]int{1, 1}, Layout: graph.NHWC}
	x, w, dy := g.Input("x", graph.BF16, 128, 32, 32, 3), g.Input("w", graph.BF16, 64, 3, 3, 3), g.Input("dy", graph.BF16, 128, 32, 32, 64)
	dx, dw := a, a
	dx.Size, dw.Size = []int{32, 32}, []int{3, 3}
	const count = 128 * 32 * 32 * 64 * 27
	for _, c := range []struct {
		n       *graph.Node
		useful  int // percent of the products
		largest int // bytes, in MB
	}{
		{g.Make(graph.OpConv2D, a, x, w), 84, 13},
		{g.Make(graph.OpConv2DInputGrad, dx, dy, w), 56, 29},
		{g.Make(graph.OpConv2DFilterGrad, dw, x, dy), 84, 26},
	} {
		for _, capability := range []int{80, 90} {
			op := newTensorOp(c.n, nil, target{capability: capability}, false)
			products, bytes := op.multiplied()
			if useful := 100 * count / products; op.products != count || useful != c.useful || bytes > c.largest<<20 {
				t.Errorf("sm_%d: %v: %d %% of %d products count, %d bytes: want %d %%, at most %d MB", capability, c.n.Op(), useful, products, bytes, c.useful, c.largest)
			}
		}
	}
	plain := tensorOps(g.Make(graph.OpConv2DInputGrad, dx, dy, w), nil, target{capability: 80})[1]
	plain.take(plain.rank()[0].Choice)
	if products, bytes := plain.multiplied(); fmt.Sprint(100*count/products, bytes>>20) != "18 162" {
		t.Errorf("with channels as columns: %d products, %d bytes", products, bytes)
	}
	if err := g.Err(); err != nil {
		t.Fatal(err)
	}
}
