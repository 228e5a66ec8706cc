package cuda

import (
	"temper/engine/graph"
	"temper/engine/plan"
)

// A prologue computes a fused group where a convolution gathers its image, or a
// filter's gradient does: the group's value is neither stored nor read, and the
// padding around it stays zero. The plan decides where that pays.

// way is what an image goes through: on_the_way of kernels/conv.h.
type way struct {
	image   int      // the buffer that is gathered
	buffers []int    // what else is read, for params
	params  []string // by the name
	source  string   // declares the function way(chunk, first channel)
}

// wayOf writes a prologue; nil if there is none.
func wayOf(p *plan.Plan, n *graph.Node, f *plan.Fused) *way {
	if f == nil {
		return nil
	}
	e := newEmitter(p, f)
	e.prefix, e.gathered, e.reads = "way_", f.Gathered, []read{}
	e.args()
	w := &way{image: p.Buffer(f.Gathered)}
	for i, b := range e.buffers {
		if b != w.image {
			w.buffers, w.params = append(w.buffers, b), append(w.params, e.params[i])
		}
	}
	body := e.body(3)
	e.line(1, "auto way = [&](%v (&v)[%d], u32 c) {", n.DType(), chunk(n.DType()))
	for _, r := range e.reads {
		e.line(2, "%s", r)
	}
	e.line(2, "UNROLL for (u32 e = 0; e < %d; e++) {", chunk(n.DType()))
	e.b.WriteString(body)
	e.line(3, "v[e] = t%d;", len(f.Nodes)-1)
	e.line(2, "}")
	e.line(1, "};")
	w.source = e.b.String()
	return w
}

// chunk is the number of elements that an asynchronous copy moves.
func chunk(t graph.DType) int { return 16 / t.Size() }

// onTheWay is the expression for what a prologue reads beside the image: one
// number, or the channels'.
func (e *emitter) onTheWay(o plan.Operand) string {
	r := read{t: e.p.Buffers[o.Buffer].DType, from: e.arg[o.Buffer], at: "0"}
	if o.Strides[len(o.Strides)-1] != 0 {
		r.at, r.count, r.load = "c", chunk(e.f.Gathered.DType()), "load_vector(%s, %s)"
	}
	return e.read(r)
}
