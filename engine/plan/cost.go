package plan

import (
	"strings"

	"temper/engine/graph"
)

// Cost is what a step moves and computes once.
type Cost struct {
	Read, Written int     // bytes of the buffers; one that is read twice counts once
	FLOPs         float64 // two for a multiply-add of a product, one for an element-wise operation
}

// Cost is that of a step which is no loop.
func (p *Plan) Cost(s *Step) (c Cost) {
	seen := map[int]bool{}
	read := func(i int) {
		if b := &p.Buffers[i]; !seen[i] && b.Kind != Scalar {
			seen[i] = true
			c.Read += b.Bytes()
		}
	}
	switch {
	case s.Copy != nil:
		read(s.Copy.Src)
		c.Written = p.Buffers[s.Copy.Dst].Bytes()
	case s.Op != nil:
		for i, n := range s.Op.Ins() {
			if i > 0 || s.Prologue == nil {
				read(p.Buffer(n))
			}
		}
		c.Written, c.FLOPs = p.Buffers[p.Buffer(s.Op)].Bytes(), s.Op.FLOPs()
		if s.Prologue != nil {
			c.FLOPs += p.members(s.Prologue, read)
		}
	case s.Fused != nil:
		c.FLOPs = p.members(s.Fused, read)
		for _, n := range s.Fused.Stored {
			c.Written += p.Buffers[p.Buffer(n)].Bytes()
		}
	}
	return c
}

// members calls read for what a group reads from memory, and counts the
// operations of its members.
func (p *Plan) members(f *Fused, read func(buffer int)) (flops float64) {
	member := map[*graph.Node]bool{}
	for _, n := range f.Nodes {
		member[n] = true
		for _, in := range n.Ins() {
			if member[in] {
				continue
			}
			if o := p.Operand(in); !o.Immediate {
				read(o.Buffer)
			}
		}
		if n.Op() != graph.OpBroadcast {
			flops += float64(f.Space.Size())
		}
	}
	return flops
}

// Text lists one step, which may be a loop, as String does.
func (p *Plan) Text(s *Step) string {
	var b strings.Builder
	alone := *s
	alone.Region = 0
	p.list(&b, []Step{alone}, "")
	return b.String()
}
