package cuda

import (
	"fmt"
	"strings"

	"temper/engine/plan"
)

// Groups that may run at once, such as the optimiser's for each weight, share a
// kernel, or two where they reduce: each block has its turns at one group after
// another.

// atOnce is the number of steps that begin a schedule and that may run at once.
func atOnce(p *plan.Plan, steps []plan.Step) int {
	n, room := 0, maxPointers-1 // for the scratch memory
	for n < len(steps) && steps[n].Set > 0 && steps[n].Set == steps[0].Set {
		if room -= pointers(p, &steps[n]); room < 0 {
			break
		}
		n++
	}
	return n
}

// setKernels writes the kernels of groups that run at once.
func setKernels(p *plan.Plan, steps []plan.Step) (ks []Kernel) {
	var turns [2]turns
	scratch := 0
	for i, s := range steps {
		e := newEmitter(p, s.Fused)
		e.prefix, e.grid, e.shared, e.base = fmt.Sprintf("g%d_", i), grid{"at", "of"}, &turns[0].shared, scratch
		groups, next := e.kernels()
		turns[0].add(e, groups[0].Blocks)
		if len(groups) > 1 {
			turns[1].add(groups[1].joint.emitter, groups[1].Blocks)
		}
		scratch = next
	}
	for i := range turns {
		if turns[i].blocks > 0 {
			ks = append(ks, turns[i].kernel().kernel(scratch))
		}
	}
	return ks
}

// turns is the code of several groups, one of which has each turn of a block.
type turns struct {
	all    emitter // its parameters
	code   strings.Builder
	shared []string
	blocks int
}

// add gives a group so many turns.
func (t *turns) add(e *emitter, blocks int) {
	for i, buffer := range e.buffers {
		if buffer != Scratch || t.scratch() {
			t.all.params, t.all.buffers = append(t.all.params, e.params[i]), append(t.all.buffers, buffer)
		}
	}
	open := "if"
	if t.blocks > 0 {
		open = "} else if"
	}
	fmt.Fprintf(&t.code, "    %s (turn < %du) {\n      const u32 at = turn - %du, of = %du;\n", open, t.blocks+blocks, t.blocks, blocks)
	for line := range strings.Lines(e.b.String()) {
		t.code.WriteString("    " + line)
	}
	t.blocks += blocks
}

// scratch says whether no group has had scratch memory so far.
func (t *turns) scratch() bool {
	for _, b := range t.all.buffers {
		if b == Scratch {
			return false
		}
	}
	return true
}

func (t *turns) kernel() GroupKernel {
	e := &t.all
	e.b = new(strings.Builder)
	for _, d := range t.shared {
		e.line(1, "%s", d)
	}
	e.line(1, "for (u32 turn = blockIdx.x; turn < n; turn += gridDim.x) {")
	e.b.WriteString(t.code.String())
	e.line(2, "}")
	e.line(1, "}")
	return e.kernel(t.blocks, t.blocks)
}
