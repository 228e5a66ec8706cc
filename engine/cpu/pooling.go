package cpu

import (
	"slices"

	"temper/engine/cpu/kernel"
	"temper/engine/graph"
	"temper/engine/plan"
)

func (c *code) poolArgMax(n *graph.Node) func() {
	w := c.pooling(n)
	switch n.In(0).DType() {
	case graph.F32:
		if n.Attrs().Layout == graph.NHWC {
			return w.channelsLast(-1)
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

// run is a part of a row of windows in which all windows have the same elements
// relative to the first.
type run struct {
	kernel.Windows
	first int // window of the row
}

// runs cuts each row of windows of an image (H,W,C) into runs.
func (p *pooling) runs() [][]run {
	rows := make([][]run, p.oh)
	for i := range rows {
		for j := range p.ow {
			w := kernel.Windows{N: 1, Channels: p.ch, Step: p.at.Stride[1] * p.ch, Next: p.at.Stride[1], Taps: p.taps(i, j)}
			if k := len(rows[i]) - 1; k >= 0 && rows[i][k].goesOn(w.Taps) {
				rows[i][k].N++
			} else {
				rows[i] = append(rows[i], run{w, j})
			}
		}
	}
	return rows
}

// goesOn reports whether taps are those of the window behind the run.
func (r *run) goesOn(taps []int32) bool {
	if len(taps) != len(r.Taps) {
		return false
	}
	for i, t := range taps {
		if t != r.Taps[i]+int32(r.N*[]int{r.Step, r.Next}[i%2]) {
			return false
		}
	}
	return true
}

// taps lists the elements of a window: where its channels begin in an image
// (H,W,C), and its number.
func (p *pooling) taps(i, j int) (taps []int32) {
	i0, i1 := p.window(0, i, p.h)
	j0, j1 := p.window(1, j, p.w)
	for r := i0; r < i1; r++ {
		for q := j0; q < j1; q++ {
			taps = append(taps, int32((r*p.w+q)*p.ch), int32(r*p.w+q))
		}
	}
	return taps
}

// windows runs fn on every run of windows of every image (H,W,C): at is where
// its first window's channels begin among all windows'.
func (p *pooling) windows(fn func(image, at int, w *kernel.Windows)) func() {
	work, rows := p.ow*p.ch*p.at.Kernel[0]*p.at.Kernel[1], p.runs()
	return p.c.chunked(p.n*p.oh, max(1, elementsPerChunk/work), func(_, lo, hi int) {
		for k := lo; k < hi; k++ {
			row := rows[k%p.oh]
			for i := range row {
				fn(k/p.oh, (k*p.ow+row[i].first)*p.ch, &row[i].Windows)
			}
		}
	})
}

// channelsLast compares all channels of a window at a time. It stores the
// largest elements too where there is a buffer for them, else -1.
func (p *pooling) channelsLast(values int) func() {
	size := p.h * p.w * p.ch
	return p.windows(func(n, at int, w *kernel.Windows) {
		var top []float32
		if values >= 0 {
			top = slice[float32](p.c, values)[at:]
		}
		kernel.MaxTaps(slice[int32](p.c, p.to)[at:], top, slice[float32](p.c, p.from)[n*size:][:size], w)
	})
}

// maxPool is a pool-argmax and, behind it, the gather of what it found, in one
// walk. It is nil for all other pairs of operations.
func (c *code) maxPool(pool, next plan.Step) func() {
	p, g := pool.Op, next.Op
	if p == nil || g == nil || p.Op() != graph.OpPoolArgMax || g.Op() != graph.OpGather || g.DType() != graph.F32 || p.Attrs().Layout != graph.NHWC {
		return nil
	}
	w := c.pooling(p)
	image := graph.Shape{w.n, w.h * w.w, w.ch}
	if c.plan.Buffer(g.In(0)) != w.from || c.plan.Buffer(g.In(1)) != w.to || !g.In(0).Shape().Equal(image) || g.Attrs().Axis != 1 {
		return nil
	}
	return w.channelsLast(c.plan.Buffer(g))
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
	from, at, to, size := c.plan.Buffer(n.In(0)), c.plan.Buffer(n.In(1)), c.plan.Buffer(n), p.h*p.w*p.ch
	return p.windows(func(n, k int, w *kernel.Windows) {
		kernel.SpreadTaps(slice[float32](c, to)[n*size:][:size], slice[float32](c, from)[k:], slice[int32](c, at)[k:], w)
	})
}
