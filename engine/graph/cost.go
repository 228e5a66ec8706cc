package graph

// FLOPs counts the floating-point operations of a product or a convolution as it
// is defined, two for each multiply-add, whatever algorithm computes it. Of other
// operations it is 0; of a loop it is that of all iterations.
func (n *Node) FLOPs() float64 {
	perRow := func(w Shape) float64 { return float64(w.Size() / w[0]) } // multiply-adds for each element of the rows' side
	switch n.op {
	case OpMatMul:
		k := n.ins[0].Dim(-1)
		if n.attrs.TA {
			k = n.ins[0].Dim(-2)
		}
		return 2 * float64(n.Size()) * float64(k)
	case OpConv2D: // each result is a sum over channels and filter positions
		return 2 * float64(n.Size()) * perRow(n.ins[1].shape)
	case OpConv2DInputGrad:
		return 2 * float64(n.ins[0].Size()) * perRow(n.ins[1].shape)
	case OpConv2DFilterGrad:
		return 2 * float64(n.ins[1].Size()) * perRow(n.shape)
	case OpPackedConv2D:
		results := n
		if n.attrs.InputGrad {
			results = n.ins[0]
		}
		return 2 * float64(results.Size()) * perRow(n.FilterShape())
	case OpLoop:
		return float64(n.attrs.Trips) * n.body.FLOPs()
	}
	return 0
}

// FLOPs is the sum over the block's nodes.
func (b *Block) FLOPs() (total float64) {
	for _, n := range b.nodes {
		total += n.FLOPs()
	}
	return total
}
