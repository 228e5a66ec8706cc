package optest

import (
	"strconv"

	"temper/engine/graph"
)

// What random programs carry, from iteration to iteration and from step to step.

const room = 4 // bound of a carried value

// loop runs a few steps over up to four carried values, or none, now and then with
// scanned operands, and keeps the last values and the stacks.
func (m *maker) loop() {
	outer, exact, ints := m.vals, m.exact, m.ints
	var carry, scan nodes
	for range m.s.IntN(4) {
		c := m.pick()
		if m.bound[c] > room {
			c = c.Tanh()
		}
		carry = append(carry, c)
	}
	if len(carry) > 0 && m.s.IntN(3) == 0 {
		carry = append(carry, m.pickInt())
	}
	trips := 1 + m.s.IntN(3)
	for range 1 + m.s.IntN(2) {
		if x := m.pickRank(1); (m.s.IntN(2) == 0 || len(carry) == 0) && x.Dim(0) <= 5 && (scan == nil || x.Dim(0) == trips) {
			trips, scan = x.Dim(0), append(scan, x)
		}
	}
	if len(carry)+len(scan) == 0 {
		carry = nodes{m.pick().Tanh()}
	}
	last, stacks := m.g.Loop(trips, carry, scan, func(i *graph.Node, c, s nodes) (next, stack nodes) {
		m.depth++
		m.vals, m.exact, m.ints = append(nodes{}, outer...), append(nodes{}, exact...), append(nodes{}, ints...)
		for _, p := range c {
			m.keep(p, room)
		}
		for k, p := range s {
			m.add(p, m.bound[scan[k]])
		}
		m.add(i.Convert(graph.F32), float64(trips))
		m.ints = append(m.ints, i)
		for range 2 + m.s.IntN(4) {
			m.step()
		}
		for k, p := range c {
			next = append(next, m.next(p, c[:k]))
		}
		for range 1 + m.s.IntN(3) {
			stack = append(stack, m.stacked(i, c, s, next))
		}
		m.depth--
		return next, stack
	})
	m.vals, m.exact, m.ints = outer, exact, ints
	for _, n := range last {
		m.keep(n, room)
	}
	for _, n := range stacks {
		m.keep(n, maxBound)
	}
}

// keep is add for values of any type.
func (m *maker) keep(n *graph.Node, bound float64) {
	if n.DType().Int() {
		m.addInt(n)
	} else {
		m.add(n, bound)
	}
}

// next is a carried value's, or a state's: mostly its own, moved.
func (m *maker) next(p *graph.Node, others nodes) *graph.Node {
	if p.DType().Int() {
		return p.Add(p.C(1))
	}
	kind := m.s.IntN(9)
	for _, q := range others { // such as swaps
		if kind == 0 && q.Shape().Equal(p.Shape()) && q.DType() == p.DType() {
			return q
		}
	}
	switch kind {
	case 1:
		return p
	case 2:
		return m.fit(p)
	case 3:
		return p.Mul(m.fit(p))
	}
	return p.MulC(0.5).Add(m.fit(p))
}

// stacked is what an iteration leaves.
func (m *maker) stacked(i *graph.Node, carry, scan, next nodes) *graph.Node {
	one := func(list nodes) *graph.Node {
		if len(list) == 0 {
			return m.vals[len(m.vals)-1]
		}
		return list[m.s.IntN(len(list))]
	}
	switch m.s.IntN(8) {
	case 0:
		return one(carry)
	case 1:
		return one(scan)
	case 2:
		return one(next)
	case 3:
		return m.pick()
	case 4:
		return i
	}
	return m.vals[len(m.vals)-1]
}

// assign replaces most states: in place or not, by one another's old values, by what
// was computed for something else, or by what a state of another name gets too.
func (m *maker) assign() {
	var values nodes
	for k, w := range m.states {
		v := m.next(w, m.states[:k])
		switch m.s.IntN(8) {
		case 0:
			continue
		case 1: // swapped
			for _, o := range m.states[k+1:] {
				if o.Shape().Equal(w.Shape()) {
					v = o
				}
			}
		case 2, 3:
			for _, o := range append(append(nodes{}, m.vals...), values...) {
				if o.Shape().Equal(w.Shape()) && m.bound[o] <= room && m.s.IntN(2) == 0 {
					v = o
				}
			}
		}
		values = append(values, v)
		m.g.Assign(w, v)
	}
	count := m.g.State("count", graph.I32)
	m.g.Assign(count, count.Add(count.C(1)))
	if m.halves {
		h := m.g.State("half", graph.BF16, m.rows, m.last)
		m.g.Assign(h, h.Convert(graph.F32).MulC(0.5).Add(m.fit(m.states[0])).Convert(graph.BF16))
		m.g.Output("half", h)
	}
}

// outputs are some more: what is nothing but a state, an input or an integer, and
// one value twice.
func (m *maker) outputs() {
	list := nodes{m.pick(), m.pickInt(), m.ints[len(m.ints)-1], m.pick().Reshape(-1)}
	if m.s.IntN(2) == 0 {
		list = append(list, m.states[m.s.IntN(len(m.states))], m.states[0].Reshape(-1), m.exact[0])
	}
	for i, n := range list {
		m.g.Output("other"+strconv.Itoa(i), n)
	}
}
