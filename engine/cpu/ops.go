package cpu

import (
	"fmt"
	"unsafe"

	"temper/engine/cpu/kernel"
	"temper/engine/graph"
	"temper/engine/rng"
)

// op makes the closure of an operation that has a kernel of its own.
func (c *code) op(n *graph.Node) (func(), error) {
	var f func()
	switch n.Op() {
	case graph.OpTranspose, graph.OpSlice, graph.OpPad, graph.OpReverse, graph.OpConcat:
		f = c.movement(n)
	case graph.OpDynSlice, graph.OpDynPad:
		f = c.window(n)
	case graph.OpGather:
		f = c.gather(n)
	case graph.OpScatterAdd:
		f = c.scatter(n)
	case graph.OpArgMax, graph.OpArgSort, graph.OpCumSum:
		f = c.along(n)
	case graph.OpPoolArgMax:
		f = c.poolArgMax(n)
	case graph.OpRandom:
		f = c.random(n)
	case graph.OpMatMul, graph.OpConv2D, graph.OpConv2DInputGrad, graph.OpConv2DFilterGrad:
		switch n.DType() {
		case graph.F32:
			return contraction[float32](c, n)
		case graph.F64:
			return contraction[float64](c, n)
		}
	}
	if f == nil {
		return nil, fmt.Errorf("the CPU has no %v of %v", n.Op(), n.In(0).DType())
	}
	return f, nil
}

// workspace is scratch of at least n elements, shared by all kernels that run one
// at a time.
func workspace[T kernel.Float](c *code, n int) func() []T {
	var t T
	if need := n * int(unsafe.Sizeof(t)); need > len(c.scratch.kernel) {
		c.scratch.kernel = alloc(need)
	}
	return func() []T {
		if n == 0 {
			return nil
		}
		return unsafe.Slice((*T)(unsafe.Pointer(&c.scratch.kernel[0])), n)
	}
}

func contraction[T kernel.Float](c *code, n *graph.Node) (func(), error) {
	a, b, y := c.plan.Buffer(n.In(0)), c.plan.Buffer(n.In(1)), c.plan.Buffer(n)
	pool := c.dev.pool
	if n.Op() == graph.OpMatMul {
		return matMul[T](c, n, a, b, y), nil
	}
	switch s := convShape(n); n.Op() {
	case graph.OpConv2D:
		k, err := kernel.NewConvForward[T](pool, s)
		if err != nil {
			return nil, err
		}
		ws, packed := workspace[T](c, k.Workspace()), make([]T, k.PackedWeights())
		pack := c.packing(b, func() { k.PackWeights(packed, slice[T](c, b)) })
		return func() {
			pack()
			k.Run(ws(), slice[T](c, y), slice[T](c, a), packed)
		}, nil
	case graph.OpConv2DInputGrad:
		k, err := kernel.NewConvInputGrad[T](pool, s)
		if err != nil {
			return nil, err
		}
		ws, packed := workspace[T](c, k.Workspace()), make([]T, k.PackedWeights())
		pack := c.packing(b, func() { k.PackWeights(packed, slice[T](c, b)) })
		return func() {
			pack()
			k.Run(ws(), slice[T](c, y), slice[T](c, a), packed)
		}, nil
	default:
		k, err := kernel.NewConvFilterGrad[T](pool, s)
		if err != nil {
			return nil, err
		}
		ws := workspace[T](c, k.Workspace())
		return func() { k.Run(ws(), slice[T](c, y), slice[T](c, a), slice[T](c, b)) }, nil
	}
}

// packing gives what a kernel does to lay out the weights in a buffer before it
// runs: nothing, where that is done once as a parallel loop begins.
func (c *code) packing(weights int, pack func()) func() {
	if !c.invariant(weights) {
		return pack
	}
	c.entering = append(c.entering, pack)
	return func() {}
}

// convShape gathers a convolution's extents from whichever of its three
// tensors are at hand.
func convShape(n *graph.Node) kernel.ConvShape {
	x, w := n.In(0).Shape(), n.In(1).Shape()
	switch n.Op() {
	case graph.OpConv2DInputGrad:
		x = n.Shape()
	case graph.OpConv2DFilterGrad:
		w = n.Shape()
	}
	a := n.Attrs()
	return kernel.ConvShape{N: x[0], C: x[1], H: x[2], W: x[3], O: w[0], KH: w[2], KW: w[3],
		SH: a.Stride[0], SW: a.Stride[1], PH: a.Pad[0], PW: a.Pad[1], DH: a.Dilation[0], DW: a.Dilation[1]}
}

func matMul[T kernel.Float](c *code, n *graph.Node, a, b, y int) func() {
	x, w, at := n.In(0), n.In(1), n.Attrs()
	m, cols, k := n.Dim(-2), n.Dim(-1), x.Dim(-1)
	if at.TA {
		k = x.Dim(-2)
	}
	batch := n.Size() / (m * cols)
	g := kernel.NewGemm[T](c.dev.pool, m, cols, k, at.TA, at.TB)
	ws := workspace[T](c, g.Workspace())
	return func() {
		g.RunBatch(batch, ws(), slice[T](c, a), x.Dim(-1), m*k, slice[T](c, b), w.Dim(-1), k*cols, 0, slice[T](c, y), cols, m*cols)
	}
}

func (c *code) random(n *graph.Node) func() {
	var b [4]int
	for i := range b {
		b[i] = c.plan.Buffer(n.In(i))
	}
	to, site := c.plan.Buffer(n), rng.Site(n.Attrs().Name)
	per := n.Size() / n.Dim(0)
	return c.chunked(n.Dim(0), max(1, elementsPerChunk/per), func(_, lo, hi int) {
		y, ids := slice[uint32](c, to), slice[uint32](c, b[1])
		d := rng.Draw{Seed: slice[uint32](c, b[0])[0], Site: site, Step: slice[uint32](c, b[2])[0], Iter: slice[uint32](c, b[3])[0]}
		for row := lo; row < hi; row++ {
			d.ID = ids[row]
			kernel.Words(y[row*per:][:per], d, 0)
		}
	})
}
