package cpu_test

import (
	"slices"
	"testing"

	"temper/engine/cpu/kernel"
	"temper/engine/graph"
)

// What the graph says of packed filters is what the kernels make.
func TestPackedShapes(t *testing.T) {
	if graph.Lanes != kernel.Lanes || graph.MaxPatchChannels != kernel.MaxPatchChannels {
		t.Errorf("graph has %d lanes and %d channels, kernel %d and %d", graph.Lanes, graph.MaxPatchChannels, kernel.Lanes, kernel.MaxPatchChannels)
	}
	algorithms := map[graph.Algorithm]kernel.Algorithm{graph.Direct: kernel.Direct, graph.Winograd: kernel.Winograd, graph.Patches: kernel.Patches}
	for _, s := range []kernel.ConvShape{
		{N: 1, C: 3, H: 9, W: 9, O: 20, KH: 3, KW: 2, SH: 2, SW: 1, DH: 1, DW: 1},
		{N: 1, C: 16, H: 9, W: 9, O: 48, KH: 3, KW: 3, SH: 1, SW: 1, DH: 1, DW: 1},
		{N: 1, C: 16, H: 9, W: 9, O: 32, KH: 5, KW: 5, SH: 1, SW: 1, DH: 1, DW: 1},
		{N: 1, C: 17, H: 9, W: 9, O: 1, KH: 3, KW: 3, SH: 1, SW: 1, DH: 2, DW: 1},
	} {
		w := graph.Shape{s.O, s.KH, s.KW, s.C}
		for a, k := range algorithms {
			for d, inputGrad := range []bool{false, true} {
				attrs := graph.Attrs{Stride: [2]int{s.SH, s.SW}, Dilation: [2]int{s.DH, s.DW}, Algorithm: a, InputGrad: inputGrad}
				can := a == graph.Direct || a == graph.Winograd && graph.CanWinograd(w, &attrs) || a == graph.Patches && graph.CanPatches(w, &attrs)
				pool := kernel.NewPool(1)
				_, err := kernel.NewConv[float32](pool, s, kernel.Direction(d), k)
				pool.Close()
				if can != (err == nil) {
					t.Errorf("%v of %v, input gradient %v: the graph says %v, the kernel %v", a, w, inputGrad, can, err)
				}
				if can && !slices.Equal(graph.PackedShape(w, &attrs), s.PackedShape(kernel.Direction(d), k)) {
					t.Errorf("%v of %v, input gradient %v: %v in the graph, %v in the kernel", a, w, inputGrad,
						graph.PackedShape(w, &attrs), s.PackedShape(kernel.Direction(d), k))
				}
				attrs.Algorithm = graph.Pairs
				if got, want := graph.PackedShape(w, &attrs), s.PackedBF16(kernel.Direction(d)); !slices.Equal(got, want) {
					t.Errorf("bf16 of %v, input gradient %v: %v in the graph, %v in the kernel", w, inputGrad, got, want)
				}
			}
		}
		pooled := graph.Attrs{Stride: [2]int{s.SH, s.SW}, Dilation: [2]int{s.DH, s.DW}, Pool: [2]int{2, 1}, Algorithm: graph.Pooled, InputGrad: true}
		s.H, s.W = s.DH*(s.KH-1)+s.SH+1, s.DW*(s.KW-1)+1 // two results
		want, err := s.PooledShape(2, 1)
		if can := graph.CanPatches(w, &pooled); can != (err == nil) || can && !slices.Equal(graph.PackedShape(w, &pooled), want) {
			t.Errorf("pooled %v: %v in the graph, %v, %v in the kernel", w, graph.PackedShape(w, &pooled), want, err)
		}
	}
}
