package cpu

import (
	"slices"
	"unsafe"

	"temper/engine/cpu/kernel"
	"temper/engine/graph"
)

// chained are the operations on float32 that steps of a chain do; those in
// which x stands second, or that have no first, follow from them.
var chained = map[graph.Op]kernel.ChainOp{
	graph.OpBroadcast: kernel.ChainLoad, graph.OpStopGradient: kernel.ChainLoad,
	graph.OpAdd: kernel.ChainAdd, graph.OpSub: kernel.ChainSub, graph.OpMul: kernel.ChainMul,
	graph.OpDiv: kernel.ChainDiv, graph.OpMax: kernel.ChainMax, graph.OpMin: kernel.ChainMin,
	graph.OpNeg: kernel.ChainNeg, graph.OpAbs: kernel.ChainAbs, graph.OpReLU: kernel.ChainRelu,
	graph.OpFloor: kernel.ChainFloor, graph.OpSqrt: kernel.ChainSqrt, graph.OpSign: kernel.ChainSign,
	graph.OpEq: kernel.ChainEq, graph.OpNe: kernel.ChainNe, graph.OpLt: kernel.ChainLt,
	graph.OpLe: kernel.ChainLe, graph.OpGt: kernel.ChainGt, graph.OpGe: kernel.ChainGe,
	graph.OpSelect: kernel.ChainSelect,
}

// reversed is the operation with its operands exchanged.
func reversed(op kernel.ChainOp) kernel.ChainOp {
	switch op {
	case kernel.ChainLt:
		return kernel.ChainGt
	case kernel.ChainLe:
		return kernel.ChainGe
	case kernel.ChainGt:
		return kernel.ChainLt
	case kernel.ChainGe:
		return kernel.ChainLe
	case kernel.ChainEq, kernel.ChainNe:
		return op
	}
	return op + (kernel.ChainAddTo - kernel.ChainAdd)
}

// linker joins neighbouring calls of a program to chains. A value goes from a
// call to the next one in registers, and to memory only if others read it.
type linker struct {
	p     *program
	reads []int // of each slot, by calls and reductions
	code  []kernel.ChainStep
	from  int // the first call of the code
	x     int // the slot whose value is in the accumulator, -1 if there is none
}

// link replaces the calls of a program that chains can do.
func (p *program) link() {
	l := &linker{p: p, reads: make([]int, len(p.slots)), x: -1}
	for i := range p.calls {
		for _, s := range p.calls[i].operands() {
			l.reads[s]++
		}
	}
	for _, r := range p.reduces {
		l.reads[r.src]++
	}
	var out []call
	for i := range p.calls {
		if !l.add(i) {
			out = append(l.flush(out, i), p.calls[i])
			l.from = i + 1
		}
	}
	p.calls = l.flush(out, len(p.calls))
}

// operands lists the slots that a call reads.
func (c *call) operands() []int { return []int{c.a, c.b, c.c}[:c.inputs] }

// flush ends the chain of the calls before number end. One call alone is not
// worth a chain.
func (l *linker) flush(out []call, end int) []call {
	if end-l.from == 1 {
		out = append(out, l.p.calls[l.from])
	} else if end > l.from {
		out = append(out, call{chain: append(l.code, kernel.ChainStep{Op: kernel.ChainEnd})})
	}
	l.code, l.x, l.from = nil, -1, end
	return out
}

// add appends call i to the chain, if a chain can do it.
func (l *linker) add(i int) bool {
	if !l.can(i) {
		return false
	}
	c := &l.p.calls[i]
	op := chained[c.op]
	switch {
	case op == kernel.ChainSelect:
		l.step(op, c.b, c.c)
	case c.inputs == 2 && c.b == l.x && c.a != l.x:
		l.step(reversed(op), c.a, 0)
	default:
		if c.a != l.x {
			l.step(kernel.ChainLoad, c.a, 0)
		}
		if op != kernel.ChainLoad {
			l.step(op, c.b, 0)
		}
	}
	l.x = c.d
	if l.p.slots[c.d].kind == direct || l.reads[c.d] != 1 || !l.takes(i+1, c.d) {
		l.step(kernel.ChainStore, c.d, 0)
	}
	return true
}

func (l *linker) step(op kernel.ChainOp, a, b int) {
	l.code = append(l.code, kernel.ChainStep{Op: op, A: a, B: b})
}

// can reports whether a chain can do call i. A comparison stays in registers: it
// must be for the selection that follows, and for nothing else.
func (l *linker) can(i int) bool {
	c := &l.p.calls[i]
	op, ok := chained[c.op]
	isFloat := func(s int) bool { return l.p.slots[s].dtype == graph.F32 }
	switch {
	case !ok:
		return false
	case op == kernel.ChainSelect:
		return isFloat(c.d) && i > l.from && l.x == c.a && l.compares(i-1)
	case op >= kernel.ChainEq:
		return isFloat(c.a) && l.compares(i)
	}
	return !slices.ContainsFunc(append(c.operands(), c.d), func(s int) bool { return !isFloat(s) })
}

// compares reports whether call i is a comparison for the next call alone.
func (l *linker) compares(i int) bool {
	c := &l.p.calls[i]
	if op := chained[c.op]; op < kernel.ChainEq || op == kernel.ChainSelect || i+1 == len(l.p.calls) {
		return false
	}
	next := &l.p.calls[i+1]
	s := &l.p.slots[c.d]
	return s.kind == register && l.reads[c.d] == 1 && next.op == graph.OpSelect && next.a == c.d && l.p.slots[next.d].dtype == graph.F32
}

// takes reports whether call i does its work on the value of a slot, in the
// accumulator.
func (l *linker) takes(i, slot int) bool {
	if i == len(l.p.calls) {
		return false
	}
	c := &l.p.calls[i]
	if chained[c.op] == kernel.ChainSelect {
		return c.a == slot
	}
	if !l.can(i) {
		return false
	}
	return c.a == slot || c.inputs == 2 && c.b == slot
}

// run does a call on one tile of n elements.
func (c *call) run(addr []unsafe.Pointer, n int) {
	if c.chain != nil {
		kernel.Chain(c.chain, addr, n)
		return
	}
	c.fn(addr[c.d], addr[c.a], addr[c.b], addr[c.c], n)
}
