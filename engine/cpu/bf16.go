package cpu

import (
	"fmt"
	"unsafe"

	"temper/engine/cpu/kernel"
	"temper/engine/graph"
)

// precisions are those that the kernels in use offer.
func precisions() []graph.Precision {
	if kernel.HasBF16() {
		return []graph.Precision{graph.PrecisionFloat32, graph.PrecisionBF16}
	}
	return []graph.Precision{graph.PrecisionFloat32}
}

// lacks is the error for a precision that the kernels in use do not offer.
func lacks(p graph.Precision) error {
	if p == graph.PrecisionBF16 {
		return fmt.Errorf("precision bf16 needs a processor with AMX (amx_tile, amx_bf16): the kernels here are %s; use --precision float32, or TEMPER_CPU=portable to try it slowly", kernel.Level())
	}
	return fmt.Errorf("precision %v is for GPUs: the CPU computes in float32; use --precision float32", p)
}

// contractionBF16 makes the closure of a product of bf16.
func contractionBF16(c *code, n *graph.Node) (func(), error) {
	switch n.Op() {
	case graph.OpMatMul:
		return matMulBF16(c, n), nil
	case graph.OpPackFilter:
		return packFilterBF16(c, n)
	case graph.OpPackedConv2D:
		return packedConvBF16(c, n)
	case graph.OpConv2DFilterGrad:
		return filterGradBF16(c, n)
	}
	return convBF16(c, n)
}

// noBF16 is the error for what passes make of float32 alone.
func noBF16(n *graph.Node) error {
	return fmt.Errorf("the CPU has no %v in bf16, %v, %v", n.Op(), n.Attrs().Layout, n.Attrs().Algorithm)
}

func packFilterBF16(c *code, n *graph.Node) (func(), error) {
	a := n.Attrs()
	if a.Algorithm != graph.Pairs {
		return nil, noBF16(n)
	}
	k, err := kernel.NewFilterPackBF16(c.dev.pool, smallest(n.In(0).Shape(), a), direction(a.InputGrad))
	if err != nil {
		return nil, err
	}
	from, to, ws := c.plan.Buffer(n.In(0)), c.plan.Buffer(n), workspace[float32](c, k.Workspace())
	return func() { k.Run(ws(), slice[kernel.BF16](c, to), slice[kernel.BF16](c, from)) }, nil
}

func packedConvBF16(c *code, n *graph.Node) (func(), error) {
	x, a := n.In(0).Shape(), n.Attrs()
	if a.Algorithm != graph.Pairs {
		return nil, noBF16(n)
	}
	if a.InputGrad {
		x = n.Shape()
	}
	k, err := kernel.NewConvBF16(c.dev.pool, convShape(x, n.FilterShape(), a), direction(a.InputGrad))
	if err != nil {
		return nil, err
	}
	from, filter, to, ws := c.plan.Buffer(n.In(0)), c.plan.Buffer(n.In(1)), c.plan.Buffer(n), workspace[float32](c, k.Workspace())
	return func() {
		k.Run(ws(), slice[kernel.BF16](c, to), slice[kernel.BF16](c, from), slice[kernel.BF16](c, filter))
	}, nil
}

// convBF16 packs the filter at every run: the pass that hoists this is off.
func convBF16(c *code, n *graph.Node) (func(), error) {
	if n.Attrs().Layout != graph.NHWC {
		return nil, noBF16(n)
	}
	x, d := n.In(0).Shape(), direction(n.Op() == graph.OpConv2DInputGrad)
	if d == kernel.InputGrad {
		x = n.Shape()
	}
	s := convShape(x, n.In(1).Shape(), n.Attrs())
	pack, err := kernel.NewFilterPackBF16(c.dev.pool, s, d)
	if err != nil {
		return nil, err
	}
	k, err := kernel.NewConvBF16(c.dev.pool, s, d)
	if err != nil {
		return nil, err
	}
	size := 1
	for _, extent := range s.PackedBF16(d) {
		size *= extent
	}
	packed := c.alloc(size * int(unsafe.Sizeof(kernel.BF16(0))))
	from, filter, to := c.plan.Buffer(n.In(0)), c.plan.Buffer(n.In(1)), c.plan.Buffer(n)
	ws, w := workspace[float32](c, max(k.Workspace(), pack.Workspace())), unsafe.Slice((*kernel.BF16)(unsafe.Pointer(&packed[0])), size)
	return func() {
		pack.Run(ws(), w, slice[kernel.BF16](c, filter))
		k.Run(ws(), slice[kernel.BF16](c, to), slice[kernel.BF16](c, from), w)
	}, nil
}

func filterGradBF16(c *code, n *graph.Node) (func(), error) {
	if n.Attrs().Layout != graph.NHWC || n.Attrs().Algorithm != graph.Direct {
		return nil, noBF16(n)
	}
	k, err := kernel.NewConvFilterGradBF16(c.dev.pool, convShape(n.In(0).Shape(), n.Shape(), n.Attrs()))
	if err != nil {
		return nil, err
	}
	x, dy, to, ws := c.plan.Buffer(n.In(0)), c.plan.Buffer(n.In(1)), c.plan.Buffer(n), workspace[float32](c, k.Workspace())
	return func() {
		k.Run(ws(), slice[kernel.BF16](c, to), slice[kernel.BF16](c, x), slice[kernel.BF16](c, dy))
	}, nil
}

func matMulBF16(c *code, n *graph.Node) func() {
	a, b, y := c.plan.Buffer(n.In(0)), c.plan.Buffer(n.In(1)), c.plan.Buffer(n)
	x, w, at := n.In(0), n.In(1), n.Attrs()
	m, cols, k := n.Dim(-2), n.Dim(-1), x.Dim(-1)
	if at.TA {
		k = x.Dim(-2)
	}
	batch := n.Size() / (m * cols)
	g := kernel.NewGemmBF16(c.dev.pool, m, cols, k, at.TA, at.TB)
	ws := workspace[float32](c, g.Workspace())
	return func() {
		g.RunBatch(batch, ws(), slice[kernel.BF16](c, a), x.Dim(-1), m*k, slice[kernel.BF16](c, b), w.Dim(-1), k*cols, slice[kernel.BF16](c, y), cols, m*cols)
	}
}
