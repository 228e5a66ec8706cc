package cpu

import (
	"slices"

	"temper/engine/cpu/kernel"
	"temper/engine/graph"
)

func (c *code) poolArgMax(n *graph.Node) func() {
	w := c.pooling(n)
	switch n.In(0).DType() {
	case graph.F32:
		if n.Attrs().Layout == graph.NHWC {
			return w.channelsLast()
		}
		return poolT[float32](w)
	case graph.F64:
		return poolT[float64](w)
	case graph.I32:
		return poolT[int32](w)
	case graph.U32:
		return poolT[uint32](w)
	case graph.U8:
		return poolT[uint8](w)
	}
	return nil
}

// pooling is the geometry of a pool-argmax.
type pooling struct {
	c            *code
	from, to     int // buffers
	n, ch        int
	h, w, oh, ow int
	at           *graph.Attrs
}

func (c *code) pooling(n *graph.Node) *pooling {
	x, at := n.In(0), n.Attrs()
	s := at.Layout.Spatial()
	return &pooling{c: c, from: c.plan.Buffer(x), to: c.plan.Buffer(n), n: x.Dim(0), ch: x.Dim(at.Layout.Channel()),
		h: x.Dim(s), w: x.Dim(s + 1), oh: n.Dim(s), ow: n.Dim(s + 1), at: at}
}

// window is the part of window i along an axis that lies in the image.
func (p *pooling) window(axis, i, extent int) (lo, hi int) {
	lo = i*p.at.Stride[axis] - p.at.Pad[axis]
	return max(0, lo), min(extent, lo+p.at.Kernel[axis])
}

// poolT goes through one channel of an image at a time, in either layout.
func poolT[T float | integer](p *pooling) func() {
	pixel, outPixel := 1, 1 // elements between neighbours
	if p.at.Layout == graph.NHWC {
		pixel, outPixel = p.ch, p.ch
	}
	return p.c.chunked(p.n*p.ch, max(1, elementsPerChunk/(p.h*p.w)), func(_, lo, hi int) {
		for k := lo; k < hi; k++ {
			in, out := k*p.h*p.w, k*p.oh*p.ow
			if pixel > 1 {
				in, out = k/p.ch*p.ch*p.h*p.w+k%p.ch, k/p.ch*p.ch*p.oh*p.ow+k%p.ch
			}
			v, y := slice[T](p.c, p.from)[in:], slice[int32](p.c, p.to)[out:]
			for i := range p.oh {
				i0, i1 := p.window(0, i, p.h)
				for j := range p.ow {
					j0, j1 := p.window(1, j, p.w)
					best := i0*p.w + j0
					top := v[best*pixel]
					for r := i0; r < i1; r++ {
						for at := r*p.w + j0; at < r*p.w+j1; at++ {
							if x := v[at*pixel]; above(x, top) {
								best, top = at, x
							}
						}
					}
					y[(i*p.ow+j)*outPixel] = int32(best)
				}
			}
		}
	})
}

// taps lists, for each window, where its elements' channels begin in an image
// (H,W,C), and their numbers.
func (p *pooling) taps() [][]int32 {
	taps := make([][]int32, p.oh*p.ow)
	for i := range p.oh {
		i0, i1 := p.window(0, i, p.h)
		for j := range p.ow {
			j0, j1 := p.window(1, j, p.w)
			for r := i0; r < i1; r++ {
				for q := j0; q < j1; q++ {
					taps[i*p.ow+j] = append(taps[i*p.ow+j], int32((r*p.w+q)*p.ch), int32(r*p.w+q))
				}
			}
		}
	}
	return taps
}

// windows runs fn on every row of windows of every image (H,W,C).
func (p *pooling) windows(fn func(image, row int)) func() {
	work := p.ow * p.ch * p.at.Kernel[0] * p.at.Kernel[1]
	return p.c.chunked(p.n*p.oh, max(1, elementsPerChunk/work), func(_, lo, hi int) {
		for k := lo; k < hi; k++ {
			fn(k/p.oh, k%p.oh)
		}
	})
}

// channelsLast compares all channels of a window at a time.
func (p *pooling) channelsLast() func() {
	taps := p.taps()
	return p.windows(func(n, i int) {
		image := slice[float32](p.c, p.from)[n*p.h*p.w*p.ch:][:p.h*p.w*p.ch]
		y := slice[int32](p.c, p.to)[(n*p.oh+i)*p.ow*p.ch:]
		for j := range p.ow {
			kernel.ArgMaxTaps(y[j*p.ch:][:p.ch], image, taps[i*p.ow+j])
		}
	})
}

// origin is where a value was computed, seen through reshapes and through
// parallel loops, whose scans and stacks keep its elements in order.
func (c *code) origin(n *graph.Node) *graph.Node {
	for {
		switch at := n.Attrs(); n.Op() {
		case graph.OpReshape:
			n = n.In(0)
		case graph.OpParam:
			l := loopOf(n.Block())
			if l == nil || l.Attrs().Carry > 0 || at.Index == 0 {
				return n
			}
			n = l.In(at.Index - 1)
		case graph.OpGet:
			l := n.In(0)
			if l.Attrs().Carry > 0 {
				return n
			}
			n = l.Body().Results()[at.Index]
		default:
			return n
		}
	}
}

// loopOf is the loop that a block is the body of, nil at top level.
func loopOf(b *graph.Block) *graph.Node {
	if b.Parent() == nil {
		return nil
	}
	i := slices.IndexFunc(b.Parent().Nodes(), func(n *graph.Node) bool { return n.Body() == b })
	return b.Parent().Nodes()[i]
}

// unpool is the scatter-add to the places that a pooling found, where the
// windows tile the image: each element is written once, and none is added to
// another. It is nil for all other scatter-adds.
func (c *code) unpool(n *graph.Node) func() {
	found := c.origin(n.In(1))
	if found.Op() != graph.OpPoolArgMax || found.Attrs().Layout != graph.NHWC || n.DType() != graph.F32 {
		return nil
	}
	p := c.pooling(found)
	p.n = n.Dim(0) // chunks of a batch may be cut otherwise here
	a := p.at
	tiled := a.Kernel == a.Stride && a.Pad == [2]int{} && p.h%a.Kernel[0] == 0 && p.w%a.Kernel[1] == 0
	if !tiled || !n.Shape().Equal(graph.Shape{p.n, p.h * p.w, p.ch}) || n.Attrs().Axis != 1 {
		return nil
	}
	taps, from, at, to := p.taps(), c.plan.Buffer(n.In(0)), c.plan.Buffer(n.In(1)), c.plan.Buffer(n)
	return p.windows(func(n, i int) {
		image := slice[float32](c, to)[n*p.h*p.w*p.ch:][:p.h*p.w*p.ch]
		row := (n*p.oh + i) * p.ow * p.ch
		v, places := slice[float32](c, from)[row:], slice[int32](c, at)[row:]
		for j := range p.ow {
			kernel.SpreadTaps(image, v[j*p.ch:][:p.ch], places[j*p.ch:][:p.ch], taps[i*p.ow+j])
		}
	})
}
