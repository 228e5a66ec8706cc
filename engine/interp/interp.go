package interp

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"temper/engine/graph"
)

// Feed holds the values of a graph's inputs, states and scalars by Key.
type Feed map[string]*Tensor

// Key names an input, state or scalar in a Feed: "input x", "state w".
func Key(n *graph.Node) string { return n.Op().String() + " " + n.Attrs().Name }

// Result is what a step computes. Values has every node that the outputs and
// assignments need; a node of a loop's body has its value of the last iteration.
type Result struct {
	Outputs map[string]*Tensor
	States  map[string]*Tensor // the new value of each assigned state, by its name
	Values  map[*graph.Node]*Tensor
}

// Run computes one step in float64. The feed must have every input, state and
// scalar that the outputs and assignments need, in its type and shape.
func Run(g *graph.Graph, feed Feed) (*Result, error) { return run(g, feed, false) }

// RunRounded is Run with the result of every operation, constants and feeds
// included, rounded to its element type.
func RunRounded(g *graph.Graph, feed Feed) (*Result, error) { return run(g, feed, true) }

func run(g *graph.Graph, feed Feed, round bool) (*Result, error) {
	if err := graph.Verify(g); err != nil {
		return nil, err
	}
	m := &machine{feed: feed, round: round, live: graph.Live(g), vals: map[*graph.Node]*Tensor{}, loops: map[*graph.Node][]*Tensor{}}
	if err := m.checkFeed(g); err != nil {
		return nil, err
	}
	m.block(g.Root())
	r := &Result{Outputs: map[string]*Tensor{}, States: map[string]*Tensor{}, Values: m.vals}
	for _, o := range g.Outputs() {
		r.Outputs[o.Name] = m.vals[o.Node]
	}
	for _, a := range g.Assigns() {
		r.States[a.State.Attrs().Name] = m.vals[a.Value]
	}
	return r, nil
}

type machine struct {
	feed  Feed
	round bool
	live  map[*graph.Node]bool
	vals  map[*graph.Node]*Tensor
	loops map[*graph.Node][]*Tensor // the results of a loop, which get takes
}

func fed(n *graph.Node) bool {
	return n.Op() == graph.OpInput || n.Op() == graph.OpState || n.Op() == graph.OpScalar
}

func (m *machine) checkFeed(g *graph.Graph) error {
	for _, n := range slices.SortedFunc(maps.Keys(m.live), func(a, b *graph.Node) int { return cmp.Compare(a.ID(), b.ID()) }) {
		if !fed(n) {
			continue
		}
		x := m.feed[Key(n)]
		if x == nil {
			return fmt.Errorf("graph %q: %s is not fed: there are %q", g.Name(), Key(n), slices.Sorted(maps.Keys(m.feed)))
		}
		if x.DType != n.DType() || !x.Shape.Equal(n.Shape()) || len(x.Data) != n.Size() {
			return fmt.Errorf("graph %q: %s is %v%v and is fed %v%v of %d elements", g.Name(), Key(n), n.DType(), n.Shape(), x.DType, x.Shape, len(x.Data))
		}
	}
	return nil
}

func (m *machine) block(b *graph.Block) {
	for _, n := range b.Nodes() {
		switch {
		case !m.live[n] || n.Op() == graph.OpParam:
		case n.Op() == graph.OpLoop:
			m.loops[n] = m.loop(n)
		case n.Op() == graph.OpGet:
			m.vals[n] = m.loops[n.In(0)][n.Attrs().Index]
		case fed(n):
			m.set(n, m.feed[Key(n)].Data)
		default:
			ins := make([]*Tensor, len(n.Ins()))
			for i, in := range n.Ins() {
				ins[i] = m.vals[in]
			}
			m.set(n, eval(n, ins))
		}
	}
}

func (m *machine) set(n *graph.Node, data []float64) {
	x := New(n.DType(), n.Shape(), data...)
	if m.round && n.DType().Float() {
		for i, v := range x.Data {
			x.Data[i] = Round(n.DType(), v)
		}
	}
	m.vals[n] = x
}

// loop runs a body literally and returns the last carried values, then the
// stacks.
func (m *machine) loop(n *graph.Node) []*Tensor {
	b, a := n.Body(), n.Attrs()
	carry := make([]*Tensor, a.Carry)
	for i := range carry {
		carry[i] = m.vals[n.In(i)]
	}
	stacks := make([]*Tensor, len(b.Results())-a.Carry)
	for i := range stacks {
		r := b.Results()[a.Carry+i]
		stacks[i] = New(r.DType(), append(graph.Shape{a.Trips}, r.Shape()...))
	}
	for t := range a.Trips {
		params := b.Params()
		m.set(params[0], []float64{float64(t)})
		for i, p := range params[1:] {
			if i < a.Carry {
				m.vals[p] = carry[i]
			} else {
				m.set(p, m.vals[n.In(i)].Data[t*p.Size():][:p.Size()])
			}
		}
		m.block(b)
		for i, r := range b.Results() {
			if i < a.Carry {
				carry[i] = m.vals[r]
			} else {
				copy(stacks[i-a.Carry].Data[t*r.Size():], m.vals[r].Data)
			}
		}
	}
	return append(carry, stacks...)
}
