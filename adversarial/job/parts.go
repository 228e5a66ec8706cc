package job

import (
	"errors"
	"time"

	"temper/adversarial"
	"temper/engine"
	"temper/engine/graph"
	"temper/engine/plan"
)

// ofAttack marks the steps of a training step's plan that the attacked examples
// need; the others are the update's.
func ofAttack(p *plan.Plan) map[*plan.Step]bool {
	needed := map[*graph.Node]bool{}
	need(p.Graph.Root(), needed, false)
	steps := map[*plan.Step]bool{}
	markSteps(p.Steps, needed, steps)
	return steps
}

// need marks what the values named as attacked examples in a block are computed
// from; with all, everything in the block. It reports whether anything is marked.
func need(b *graph.Block, marked map[*graph.Node]bool, all bool) (any bool) {
	nodes := b.Nodes()
	for i := len(nodes) - 1; i >= 0; i-- { // users before operands
		n := nodes[i]
		inside := false
		if n.Body() != nil {
			inside = need(n.Body(), marked, all || marked[n])
		}
		if all || marked[n] || n.Label() == adversarial.AttackedLabel {
			marked[n] = true
		}
		if marked[n] || inside {
			any = true
			for _, in := range n.Ins() {
				marked[in] = true
			}
		}
	}
	return any
}

func markSteps(steps []plan.Step, needed map[*graph.Node]bool, into map[*plan.Step]bool) {
	for i := range steps {
		switch s := &steps[i]; {
		case s.Loop != nil:
			markSteps(s.Loop.Steps, needed, into)
		case s.Op != nil:
			into[s] = needed[s.Op]
		case s.Fused != nil:
			into[s] = needed[s.Fused.Nodes[0]]
		}
	}
}

// parts adds up where the time of traced steps went.
type parts struct{ all, attack time.Duration }

// share is the attack's; false if nothing was traced.
func (p parts) share() (float64, bool) {
	if p.all == 0 {
		return 0, false
	}
	return float64(p.attack) / float64(p.all), true
}

func (p *parts) add(t *engine.Trace, attack map[*plan.Step]bool) {
	for _, s := range t.Spans {
		p.all += t.Share(s)
		if attack[s.Step] {
			p.attack += t.Share(s)
		}
	}
}

// tracedSteps is how many steps before an evaluation are timed part by part.
const tracedSteps = 4

// traced runs a step with every part of it timed, if the device can.
func (t *trainer) traced(e *engine.Executable) error {
	trace, err := e.Trace()
	if errors.Is(err, engine.ErrNoTrace) {
		return e.Run()
	}
	if err == nil {
		t.parts.add(trace, ofAttack(e.Plan()))
	}
	return err
}
