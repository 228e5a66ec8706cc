//go:build cgo && !windows

package cuda

import (
	"fmt"
	"testing"

	"temper/engine/graph"
	"temper/engine/plan"
)

// TestChoicesCompile compiles convolutions in every way that a record may name:
// none spills.
func TestChoicesCompile(t *testing.T) {
	c := nvrtc(t)
	for _, arch := range []string{"sm_90a", "sm_80"} {
		a := graph.Attrs{Stride: [2]int{1, 1}, Pad: [2]int{1, 1}, Dilation: [2]int{1, 1}, Layout: graph.NHWC}
		g := graph.New(arch)
		x, w, dy := g.Input("x", graph.BF16, 64, 16, 16, 64), g.Input("w", graph.BF16, 128, 3, 3, 64), g.Input("dy", graph.BF16, 64, 16, 16, 128)
		dx, dw := a, a
		dx.Size, dw.Size = []int{16, 16}, []int{3, 3}
		for i, y := range []*graph.Node{g.Make(graph.OpConv2D, a, x, w), g.Make(graph.OpConv2DInputGrad, dx, dy, w), g.Make(graph.OpConv2DFilterGrad, dw, x, dy)} {
			g.Output(fmt.Sprint(i), y)
		}
		p := plan.Build(g, plan.Options{})
		var names, sources []string
		for _, s := range p.Steps {
			for i, op := range tensorOps(s.Op, nil, target{capability: capabilityOf(arch)}) {
				if i > 0 && op.wgmma == nil { // that way is compiled on sm_80
					continue
				}
				for _, choice := range everyChoice(op) {
					if choice.Parts > 2 || choice.Stages == fewestStages && op.wgmma != nil {
						continue
					}
					ks, err := stepKernels(p, s, target{capability: capabilityOf(arch), chosen: map[string]Choice{problem(s.Op, nil, false): choice}}, false)
					if err != nil {
						t.Fatal(err)
					}
					names, sources = append(names, ks[0].Name), append(sources, ks[0].Source)
				}
			}
		}
		if len(names) < 15 {
			t.Fatalf("%s: %d kernels", arch, len(names))
		}
		_, resources, err := c.Compile("kernels.cu", Unit(sources...), arch)
		if err != nil {
			t.Fatal(err)
		}
		for i, name := range names {
			if r := resources[name]; r.Registers == 0 || r.Spills+r.Losses != 0 {
				t.Errorf("%s: %d registers, %d bytes of spills, %d losses:\n%s", arch, r.Registers, r.Spills, r.Losses, sources[i])
			}
		}
	}
}
