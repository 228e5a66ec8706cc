//go:build cgo && !windows

package cuda

import (
	"strings"

	"temper/engine"
	"temper/engine/graph"
	"temper/engine/plan"
)

// EachKernel calls fn for the kernels of a plan's steps, compiled for an
// architecture.
func EachKernel(p *plan.Plan, arch string, fn func(s plan.Step, k Kernel, i int)) error {
	of, _, err := kernelsOf(p, target{capability: capabilityOf(arch)})
	if err != nil {
		return err
	}
	var visit func(steps []plan.Step)
	visit = func(steps []plan.Step) {
		for _, s := range steps {
			if s.Loop != nil {
				visit(s.Loop.Steps)
				continue
			}
			for i, k := range of[stepKey(s)] {
				fn(s, k, i)
			}
		}
	}
	visit(p.Steps)
	return nil
}

// TemplateKernels has a kernel of each template and precision, for tests
// outside the package, compiled for an architecture.
func TemplateKernels(arch string) (all []Kernel) {
	a := graph.Attrs{Stride: [2]int{2, 2}, Pad: [2]int{1, 1}, Dilation: [2]int{1, 1}}
	for _, layout := range []graph.Layout{graph.NHWC, graph.NCHW} {
		for _, t := range []graph.DType{graph.F32, graph.BF16} {
			for _, p := range []graph.Precision{graph.PrecisionFloat32, graph.PrecisionTF32x3, graph.PrecisionTF32} {
				if p != graph.PrecisionFloat32 && (t == graph.BF16 || layout == graph.NCHW) {
					continue
				}
				g := graph.New("templates")
				conv := a
				conv.Layout, conv.Precision = layout, p
				x, w, dy := g.Input("x", t, layout.Shape(64, 64, 16, 16)...), g.Input("w", t, layout.Shape(128, 64, 3, 3)...), g.Input("dy", t, layout.Shape(64, 128, 8, 8)...)
				dx, dw := conv, conv
				dx.Size, dw.Size = []int{16, 16}, []int{3, 3}
				for i, y := range []*graph.Node{g.Make(graph.OpConv2D, conv, x, w), g.Make(graph.OpConv2DInputGrad, dx, dy, w), g.Make(graph.OpConv2DFilterGrad, dw, x, dy),
					g.Make(graph.OpMatMul, graph.Attrs{TA: layout == graph.NHWC, Precision: p}, g.Input("a", t, 256, 512), g.Input("b", t, 512, 130))} {
					if t == graph.F32 {
						y = y.ReLU()
					}
					g.Output(strings.Repeat("y", i+1), y)
				}
				_, ks, err := kernelsOf(plan.Build(g, plan.Options{}), target{capability: capabilityOf(arch)})
				if err != nil {
					panic(err)
				}
				all = append(all, ks...)
			}
		}
	}
	return all
}

// Traffic is what a plan's kernels and copies read and write, in bytes, if each
// reads and writes each of its buffers once; and how many launches there are, of
// kernels and of copies.
func Traffic(p *plan.Plan) (bytes, launches int, err error) {
	of, _, err := kernelsOf(p, target{capability: 90})
	if err != nil {
		return 0, 0, err
	}
	var visit func(steps []plan.Step, times int)
	visit = func(steps []plan.Step, times int) {
		for _, s := range steps {
			switch {
			case s.Loop != nil:
				visit(s.Loop.Steps, times*s.Loop.Node.Attrs().Trips)
				continue
			case s.Copy != nil && of[s.Copy] == nil:
				launches += times
				bytes += 2 * times * p.Buffers[s.Copy.Dst].Bytes()
			}
			for _, k := range of[stepKey(s)] {
				launches += times
				bytes += times * k.bytes(p)
			}
		}
	}
	visit(p.Steps, 1)
	return bytes, launches, nil
}

// Made counts the kernels that a device has loaded and the graphs that were
// instantiated for it.
func Made(dev *engine.Device) (compiled, captured int) {
	g := dev.Driver.(*gpu)
	return g.compiled, g.captured
}
