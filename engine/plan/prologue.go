package plan

import (
	"slices"

	"temper/engine/graph"
)

// What a prologue costs. A convolution gathers an element of its image once for
// each tap that reads it and for each of its tiles of output channels, and a
// prologue computes it anew each time: its members, and a few operations to take
// the element from where the copy left it, to convert it and to put it back. Six
// operations of a multiprocessor's lanes take as long as a byte does (an H200's
// 132·128 lanes at 1.7 GHz, beside 4.8 TB/s). So nine taps of a 3×3 filter cost
// more than to write an image of bf16 once and to read it once; what a 1×1 or a
// strided one gathers may cost less. docs/RATIONALE.md has the figures.
const (
	operationsPerByte = 6
	gatherOperations  = 4
	gatherBytes       = 256 // of a tile, in a row of results
)

// gathering is what it costs, in bytes, to compute an image on its way into a
// contraction.
func gathering(n *graph.Node, f *Fused) int {
	filter, spatial := n.In(1), n.Attrs().Layout.Spatial()
	out := n // (N,P,Q,O)
	if n.Op() == graph.OpConv2DFilterGrad {
		filter, out = n, n.In(1)
	}
	channels := out.Dim(n.Attrs().Layout.Channel())
	taps := filter.Dim(spatial) * filter.Dim(spatial+1)
	gathered := out.Size() / channels * taps * n.In(0).Dim(n.Attrs().Layout.Channel())
	gathered *= (channels*n.DType().Size() + gatherBytes - 1) / gatherBytes
	return gathered * (len(f.Nodes) + gatherOperations) / operationsPerByte
}

// onlyGathered says whether a value is in memory for nothing but convolutions and
// filters' gradients to read their images.
func (b *builder) onlyGathered(n *graph.Node) bool {
	if !b.o.Prologues || b.outside[n] {
		return false
	}
	return !slices.ContainsFunc(b.readers[n], func(user *graph.Node) bool {
		switch user.Op() {
		case graph.OpConv2D, graph.OpConv2DFilterGrad:
			return user.In(0) != n || user.In(1) == n || user.Attrs().Layout != graph.NHWC
		}
		return !elementwise(user)
	})
}

// prologue makes the group that computes an image from what its members read. It
// returns false if that is not one value of the image's shape and type, in chunks
// of whole vectors, and else what is one number or belongs to the channels.
func (b *builder) prologue(image *graph.Node, members []*graph.Node) (f *Fused, ok bool) {
	f = &Fused{Space: image.Shape(), Nodes: slices.Clone(members)}
	slices.SortFunc(f.Nodes, func(x, y *graph.Node) int { return x.ID() - y.ID() })
	channels := image.Dim(-1)
	for _, n := range f.Nodes {
		for _, in := range n.Ins() {
			base := b.base(in)
			if base == nil || slices.Contains(f.Nodes, in) {
				continue
			}
			switch {
			case base.Op() == graph.OpIota:
				return nil, false
			case base == in && base.Shape().Equal(f.Space):
				for base.Op() == graph.OpReshape {
					base = base.In(0)
				}
				if base.DType() != image.DType() || f.Gathered != nil && f.Gathered != base {
					return nil, false
				}
				f.Gathered = base
			case base.Size() > 1 && (base.Size() != channels || base.Dim(-1) != channels):
				return nil, false
			}
		}
	}
	return f, f.Gathered != nil && channels*image.DType().Size()%16 == 0
}

// takeOver lets a contraction compute its image, which is in memory no more, while
// what it is computed from is.
func (b *builder) takeOver(n *graph.Node, f *Fused) {
	b.prologues[n], b.inMem[n.In(0)] = f, false
	for _, in := range b.inputs(&group{nodes: f.Nodes}) {
		if in.Op().Class() != graph.ClassLeaf {
			b.inMem[in] = true
		}
	}
}
