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
	case graph.OpMatMul, graph.OpConv2D, graph.OpConv2DInputGrad, graph.OpConv2DFilterGrad, graph.OpPackFilter, graph.OpPackedConv2D:
		switch n.DType() {
		case graph.F32:
			return contraction[float32](c, n)
		case graph.F64:
			return contraction[float64](c, n)
		case graph.BF16:
			return contractionBF16(c, n)
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
		*c.held -= len(c.scratch.kernel)
		c.scratch.kernel = c.alloc(need)
	}
	return func() []T {
		if n == 0 {
			return nil
		}
		return unsafe.Slice((*T)(unsafe.Pointer(&c.scratch.kernel[0])), n)
	}
}

func contraction[T kernel.Float](c *code, n *graph.Node) (func(), error) {
	switch n.Op() {
	case graph.OpMatMul:
		return matMul[T](c, n), nil
	case graph.OpPackFilter:
		return packFilter[T](c, n)
	case graph.OpPackedConv2D:
		return packedConv[T](c, n)
	case graph.OpConv2DFilterGrad:
		return filterGrad[T](c, n)
	}
	return conv[T](c, n)
}

func direction(inputGrad bool) kernel.Direction {
	if inputGrad {
		return kernel.InputGrad
	}
	return kernel.Forward
}

func algorithm(n *graph.Node) kernel.Algorithm {
	switch n.Attrs().Algorithm {
	case graph.Winograd:
		return kernel.Winograd
	case graph.Patches:
		return kernel.Patches
	}
	return kernel.Direct
}

// convShape is the shape of a convolution of images x with filters w.
func convShape(x, w graph.Shape, a *graph.Attrs) kernel.ConvShape {
	return kernel.ConvShape{N: x[0], H: x[1], W: x[2], C: x[3], O: w[0], KH: w[1], KW: w[2],
		SH: a.Stride[0], SW: a.Stride[1], PH: a.Pad[0], PW: a.Pad[1], DH: a.Dilation[0], DW: a.Dilation[1]}
}

// smallest is the smallest convolution with a filter w: packed filters do not
// depend on the images.
func smallest(w graph.Shape, a *graph.Attrs) kernel.ConvShape {
	extent := func(i int) int { return (max(1, a.Pool[i])-1)*a.Stride[i] + (w[1+i]-1)*a.Dilation[i] + 1 }
	return convShape(graph.Shape{1, extent(0), extent(1), w[3]}, w, a)
}

func packFilter[T kernel.Float](c *code, n *graph.Node) (func(), error) {
	w, a := n.In(0).Shape(), n.Attrs()
	if a.Algorithm == graph.Pooled {
		return packPooled[T](c, n)
	}
	k, err := kernel.NewFilterPack[T](c.dev.pool, smallest(w, a), direction(a.InputGrad), algorithm(n))
	if err != nil {
		return nil, err
	}
	from, to, ws := c.plan.Buffer(n.In(0)), c.plan.Buffer(n), workspace[T](c, k.Workspace())
	return func() { k.Run(ws(), slice[T](c, to), slice[T](c, from)) }, nil
}

func packedConv[T kernel.Float](c *code, n *graph.Node) (func(), error) {
	x, a := n.In(0).Shape(), n.Attrs()
	if a.InputGrad {
		x = n.Shape()
	}
	if a.Algorithm == graph.Pooled {
		return pooledConv[T](c, n)
	}
	k, err := kernel.NewConv[T](c.dev.pool, convShape(x, n.FilterShape(), a), direction(a.InputGrad), algorithm(n))
	if err != nil {
		return nil, err
	}
	from, filter, to, ws := c.plan.Buffer(n.In(0)), c.plan.Buffer(n.In(1)), c.plan.Buffer(n), workspace[T](c, k.Workspace())
	return func() { k.Run(ws(), slice[T](c, to), slice[T](c, from), slice[T](c, filter)) }, nil
}

func packPooled[T kernel.Float](c *code, n *graph.Node) (func(), error) {
	a := n.Attrs()
	pack, err := kernel.PackPooled[T](smallest(n.In(0).Shape(), a), a.Pool[0], a.Pool[1])
	from, to := c.plan.Buffer(n.In(0)), c.plan.Buffer(n)
	return func() { pack(slice[T](c, to), slice[T](c, from)) }, err
}

func pooledConv[T kernel.Float](c *code, n *graph.Node) (func(), error) {
	a := n.Attrs()
	k, err := kernel.NewPooledConv[T](c.dev.pool, convShape(n.Shape(), n.FilterShape(), a), a.Pool[0], a.Pool[1])
	if err != nil {
		return nil, err
	}
	from, filter, at, to, ws := c.plan.Buffer(n.In(0)), c.plan.Buffer(n.In(1)), c.plan.Buffer(n.In(2)), c.plan.Buffer(n), workspace[T](c, k.Workspace())
	return func() { k.Run(ws(), slice[T](c, to), slice[T](c, from), slice[int32](c, at), slice[T](c, filter)) }, nil
}

// conv packs the filter at every run: the pass that hoists this is off.
func conv[T kernel.Float](c *code, n *graph.Node) (func(), error) {
	if n.Attrs().Layout != graph.NHWC {
		return nil, fmt.Errorf("the CPU has no %v in nchw", n.Op())
	}
	x, d := n.In(0).Shape(), direction(n.Op() == graph.OpConv2DInputGrad)
	if d == kernel.InputGrad {
		x = n.Shape()
	}
	s := convShape(x, n.In(1).Shape(), n.Attrs())
	pack, err := kernel.NewFilterPack[T](c.dev.pool, s, d, kernel.Direct)
	if err != nil {
		return nil, err
	}
	k, err := kernel.NewConv[T](c.dev.pool, s, d, kernel.Direct)
	if err != nil {
		return nil, err
	}
	from, filter, to := c.plan.Buffer(n.In(0)), c.plan.Buffer(n.In(1)), c.plan.Buffer(n)
	ws, packed := workspace[T](c, max(k.Workspace(), pack.Workspace())), make([]T, pack.Size())
	return func() {
		pack.Run(ws(), packed, slice[T](c, filter))
		k.Run(ws(), slice[T](c, to), slice[T](c, from), packed)
	}, nil
}

func filterGrad[T kernel.Float](c *code, n *graph.Node) (func(), error) {
	if n.Attrs().Layout != graph.NHWC {
		return nil, fmt.Errorf("the CPU has no %v in nchw", n.Op())
	}
	k, err := kernel.NewConvFilterGrad[T](c.dev.pool, convShape(n.In(0).Shape(), n.Shape(), n.Attrs()), algorithm(n))
	if err != nil {
		return nil, err
	}
	x, dy, to, ws := c.plan.Buffer(n.In(0)), c.plan.Buffer(n.In(1)), c.plan.Buffer(n), workspace[T](c, k.Workspace())
	return func() { k.Run(ws(), slice[T](c, to), slice[T](c, x), slice[T](c, dy)) }, nil
}

func matMul[T kernel.Float](c *code, n *graph.Node) func() {
	a, b, y := c.plan.Buffer(n.In(0)), c.plan.Buffer(n.In(1)), c.plan.Buffer(n)
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
