package cpu

import (
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

// channelsLast compares all channels of a window at a time.
func (p *pooling) channelsLast() func() {
	row := p.ow * p.ch
	taps := make([][]int32, p.oh*p.ow) // of each window: where its elements are
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
	return p.c.chunked(p.n*p.oh, max(1, elementsPerChunk/(row*p.at.Kernel[0]*p.at.Kernel[1])), func(_, lo, hi int) {
		x, y := slice[float32](p.c, p.from), slice[int32](p.c, p.to)
		for k := lo; k < hi; k++ {
			image := x[k/p.oh*p.h*p.w*p.ch:][:p.h*p.w*p.ch]
			for j := range p.ow {
				kernel.ArgMaxTaps(y[k*row+j*p.ch:][:p.ch], image, taps[k%p.oh*p.ow+j])
			}
		}
	})
}
