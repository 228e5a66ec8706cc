//go:build cgo && !windows

package cuda

import (
	"fmt"
	"strings"
	"testing"

	"temper/engine/graph"
	"temper/engine/optest"
)

// TestStreams rectifies normalised images, of which a thread has several items at
// once where it reads little for an element.
func TestStreams(t *testing.T) {
	normalised := func(x *graph.Node, vectors int) *graph.Node {
		shape := x.Shape()
		for i := range vectors {
			x = x.Add(x.Graph().Input(fmt.Sprint("shift", i), graph.F32, 1, 1, 1, shape[3]).BroadcastTo(shape...))
		}
		return x.Mul(x.Graph().Scalar("scale", graph.F32).BroadcastTo(shape...)).ReLU()
	}
	for _, test := range []struct {
		name    string
		images  []graph.DType // that are added
		shape   []int
		vectors int
		atOnce  int
		perSM   int
	}{
		{"an image of bf16", []graph.DType{graph.BF16}, []int{51, 32, 32, 64}, 3, 4, 6},
		{"two images of bf16", []graph.DType{graph.BF16, graph.BF16}, []int{51, 32, 32, 64}, 4, 2, 6},
		{"an image of float32, and vectors longer than an item's step", []graph.DType{graph.F32}, []int{51, 8, 8, 512}, 2, 2, 6},
		{"three images", []graph.DType{graph.BF16, graph.BF16, graph.F32}, []int{51, 32, 32, 64}, 1, 1, 8},
		{"two images and many vectors", []graph.DType{graph.BF16, graph.BF16}, []int{34, 32, 32, 64}, 5, 4, 4},
		{"too many vectors", []graph.DType{graph.BF16}, []int{51, 32, 32, 64}, 9, 1, 8},
		{"whole rows in three blocks", []graph.DType{graph.BF16}, []int{34, 32, 32, 96}, 1, 4, 6},
		{"whole rows in thirteen", []graph.DType{graph.BF16}, []int{51, 32, 32, 104}, 3, 1, 8},
		{"a small image", []graph.DType{graph.BF16}, []int{7, 32, 32, 64}, 3, 1, 8},
	} {
		t.Run(test.name, func(t *testing.T) {
			g := graph.New("stream")
			var x *graph.Node
			for i, t := range test.images {
				if in := g.Input(fmt.Sprint("x", i), t, test.shape...).Convert(graph.F32); x == nil {
					x = in
				} else {
					x = x.Add(in)
				}
			}
			g.Output("y", normalised(x, test.vectors).Convert(graph.BF16))
			p, all := planIn(t, g, 1)
			if streams := strings.Contains(all[0].Source, fmt.Sprintf("v += %d * step", test.atOnce)); streams != (test.atOnce > 1) || all[0].PerSM != test.perSM {
				t.Errorf("%d blocks of a multiprocessor, want %d; and %d items at once:\n%s", all[0].PerSM, test.perSM, test.atOnce, all[0].Source)
			}
			if test.atOnce > 1 && len(test.images) == 1 {
				emulate(t, g, p, optest.Tolerance{Rel: 1})
			}
		})
	}
}
