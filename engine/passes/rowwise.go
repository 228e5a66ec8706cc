package passes

import (
	"fmt"
	"slices"

	"temper/engine/graph"
)

// A batch is a tensor whose first axis counts samples, or whole blocks of a
// sample: (N·k,…). Whether a program keeps the samples apart is decided here,
// operation by operation: padding a batch with rows that are ignored is sound
// exactly where it does, and the schedule "rows" runs such parts sample by
// sample.

// dependence is how a value depends on the samples.
type dependence uint8

const (
	shared  dependence = iota // on none of them
	rowwise                   // row i on sample i, given the mixed values around it
	mixed                     // in some other way
)

// rowAnalysis is the dependence of every live value of a graph, loop bodies
// included, on the rows of some inputs.
type rowAnalysis struct {
	n    int // samples
	live map[*graph.Node]bool
	of   map[*graph.Node]dependence
}

func newRowAnalysis(n int, live map[*graph.Node]bool) *rowAnalysis {
	return &rowAnalysis{n: n, live: live, of: map[*graph.Node]dependence{}}
}

// RowIndependent proves that in every output and assignment of g, and in all
// that they need, row i depends on row i of the named inputs alone, all of which
// have the same first axis, and on what is no row: then rows may be added to a
// batch, or taken from it, without a change of the others. The error names the
// first value that mixes rows, or depends on where one stands.
func RowIndependent(g *graph.Graph, inputs ...string) error {
	a := newRowAnalysis(0, graph.Live(g))
	seen := map[string]bool{}
	for _, n := range g.Root().Nodes() {
		if n.Op() != graph.OpInput || !a.live[n] || !slices.Contains(inputs, n.Attrs().Name) {
			continue
		}
		seen[n.Attrs().Name] = true
		if n.Rank() == 0 || a.n != 0 && a.n != n.Dim(0) {
			return fmt.Errorf("graph %q: input %q of shape %v has not the %d rows of the others", g.Name(), n.Attrs().Name, n.Shape(), a.n)
		}
		a.n, a.of[n] = n.Dim(0), rowwise
	}
	for _, name := range inputs {
		if !seen[name] {
			return fmt.Errorf("graph %q needs no input %q", g.Name(), name)
		}
	}
	if a.n < 2 {
		return fmt.Errorf("graph %q: from %d rows one cannot tell whether they mix: build it for at least 2", g.Name(), a.n)
	}
	a.block(g.Root())
	if n := a.first(g.Root(), func(n *graph.Node) bool { return a.of[n] == mixed }); n != nil {
		return fmt.Errorf("graph %q: %s mixes rows of the batch", g.Name(), describe(n))
	}
	if n := a.first(g.Root(), a.placed); n != nil {
		return fmt.Errorf("graph %q: %s depends on where a row stands in the batch", g.Name(), describe(n))
	}
	return nil
}

// describe names a value for a message.
func describe(n *graph.Node) string {
	s := fmt.Sprintf("%v : %v%v", n.Op(), n.DType(), n.Shape())
	if len(n.Ins()) > 0 {
		s = fmt.Sprintf("%v of %v%v : %v%v", n.Op(), n.In(0).DType(), n.In(0).Shape(), n.DType(), n.Shape())
	}
	if n.Label() != "" {
		s += " (" + n.Label() + ")"
	}
	return s
}

// first is the first live value, bodies included, of which is holds; nil if there
// is none.
func (a *rowAnalysis) first(b *graph.Block, is func(*graph.Node) bool) *graph.Node {
	for _, n := range b.Nodes() {
		if !a.live[n] {
			continue
		}
		if n.Body() != nil {
			if m := a.first(n.Body(), is); m != nil {
				return m
			}
		}
		if is(n) {
			return n
		}
	}
	return nil
}

// placed reports whether n joins rows with a value that is another one for each
// place in the batch.
func (a *rowAnalysis) placed(n *graph.Node) bool {
	if n.Op() == graph.OpLoop {
		for i, in := range n.Ins()[:n.Attrs().Carry] {
			if a.of[n.Body().Params()[i+1]] == rowwise && !a.even(in) {
				return true
			}
		}
		return false
	}
	if a.of[n] != rowwise || len(n.Ins()) == 0 || n.Op() == graph.OpGet {
		return false
	}
	for i, k := range a.roles(n) {
		if k == sliced && !a.even(n.In(i)) {
			return true
		}
	}
	return false
}

// even reports whether a value is by rows, or has the same row at every place.
func (a *rowAnalysis) even(n *graph.Node) bool {
	switch {
	case a.of[n] == rowwise || a.scanned(n) == nil:
		return true
	case len(n.Ins()) == 0:
		return false
	}
	roles := a.roles(n)
	for i, k := range roles {
		if k == sliced && !a.even(n.In(i)) {
			return false
		}
	}
	return roles != nil
}

// block finds the dependence of a block's values, operands first. Those of
// inputs and parameters are known.
func (a *rowAnalysis) block(b *graph.Block) {
	for _, n := range b.Nodes() {
		if !a.live[n] {
			continue
		}
		switch n.Op() {
		case graph.OpInput, graph.OpParam:
		case graph.OpLoop:
			a.loop(n)
		case graph.OpGet:
			a.of[n] = a.result(n.In(0), n.Attrs().Index)
		default:
			a.of[n] = a.value(n)
		}
	}
}

// value is the dependence of an operation's result. One whose operands are about
// single samples but for values that mix them, such as batch statistics, counts
// as rowwise: given those values, it is.
func (a *rowAnalysis) value(n *graph.Node) dependence {
	roles := a.roles(n)
	d := shared
	for i, in := range n.Ins() {
		switch k := a.of[in]; {
		case k == rowwise && (roles == nil || roles[i] == whole):
			return mixed
		case k == rowwise, k == mixed && d == shared:
			d = k
		}
	}
	return d
}

// loop finds the dependence of what a loop carries: the least that the initial
// value and the next one allow.
func (a *rowAnalysis) loop(l *graph.Node) {
	params, results, carry := l.Body().Params(), l.Body().Results(), l.Attrs().Carry
	a.of[params[0]] = shared
	for i, in := range l.Ins() {
		k := a.of[in]
		if i >= carry && k == rowwise { // iteration i would be about sample i
			k = mixed
		}
		a.of[params[i+1]] = k
	}
	for again := true; again; {
		a.block(l.Body())
		again = false
		for i := range carry {
			k := max(a.of[params[i+1]], a.of[results[i]])
			if k == rowwise && !a.batch(params[i+1]) {
				k = mixed
			}
			again = again || k != a.of[params[i+1]]
			a.of[params[i+1]] = k
		}
	}
}

// result is the dependence of a loop's result. In a stack the first axis
// counts iterations.
func (a *rowAnalysis) result(l *graph.Node, i int) dependence {
	if i < l.Attrs().Carry {
		return a.of[l.Body().Params()[i+1]]
	}
	if k := a.of[l.Body().Results()[i]]; k != rowwise {
		return k
	}
	return mixed
}

// batch reports whether n's first axis counts samples or blocks of them.
func (a *rowAnalysis) batch(n *graph.Node) bool { return n.Rank() > 0 && n.Dim(0)%a.n == 0 }

// role is what an operation needs of an operand for the rows of its result.
type role uint8

const (
	sliced role = iota // row i for row i
	whole              // all of it
)

// roles gives the roles of n's operands, or nil where rows of the result do not
// follow from rows of the operands.
func (a *rowAnalysis) roles(n *graph.Node) []role {
	at := n.Attrs()
	all := make([]role, len(n.Ins())) // sliced
	if !a.batch(n) {
		return nil
	}
	keeps := false
	switch n.Op() {
	case graph.OpReduceSum, graph.OpReduceMax, graph.OpReverse:
		keeps = !slices.Contains(at.Axes, 0)
	case graph.OpArgMax, graph.OpCumSum, graph.OpArgSort, graph.OpConcat, graph.OpScatterAdd:
		keeps = at.Axis != 0
	case graph.OpGather:
		keeps = true
		if at.Axis == 0 {
			all[0] = whole
		}
	case graph.OpBroadcast:
		keeps = n.In(0).Dim(0) == n.Dim(0)
	case graph.OpReshape:
		keeps = a.batch(n.In(0))
	case graph.OpTranspose:
		keeps = at.Axes[0] == 0
	case graph.OpSlice:
		keeps = n.Dim(0) == n.In(0).Dim(0)
	case graph.OpPad:
		keeps = n.Dim(0) == n.In(0).Dim(0)
	case graph.OpDynSlice, graph.OpDynPad, graph.OpPoolArgMax:
		keeps = true
	case graph.OpMatMul:
		keeps = n.Rank() == 3 || !at.TA
		if n.Rank() == 2 {
			all[1] = whole
		}
	case graph.OpConv2D, graph.OpConv2DInputGrad, graph.OpPackedConv2D:
		keeps = true
		all[1] = whole
	case graph.OpRandom:
		keeps = true
		all = []role{whole, sliced, whole, whole}
	default:
		keeps = n.Op().Class() == graph.ClassElementwise
	}
	if !keeps {
		return nil
	}
	return all
}

// scanned is the value whose slice is taken from memory where n's slice is
// needed; nil if the slice is made anew.
func (a *rowAnalysis) scanned(n *graph.Node) *graph.Node {
	if a.of[n] == rowwise {
		return n
	}
	switch n.Op() {
	case graph.OpConst:
		if len(n.Attrs().Values) == 1 {
			return nil
		}
	case graph.OpIota:
		if n.Attrs().Axis != 0 {
			return nil
		}
	case graph.OpBroadcast:
		if n.In(0).Dim(0) == 1 {
			return nil
		}
		return a.scanned(n.In(0))
	}
	return n
}
