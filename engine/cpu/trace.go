package cpu

import (
	"fmt"
	"slices"
	"time"

	"temper/engine"
	"temper/engine/cpu/kernel"
	"temper/engine/graph"
	"temper/engine/plan"
)

// tracing is what a plan and the bodies of its parallel loops share to be timed.
type tracing struct {
	on    bool
	began time.Time
	lanes [][]engine.Span // by worker: each has its own to write
}

// timed is play with a clock.
func (c *code) timed(steps []step) {
	for _, s := range steps {
		start := time.Since(c.trace.began)
		s.run()
		if s.of != nil {
			lane := &c.trace.lanes[c.worker]
			*lane = append(*lane, engine.Span{Step: s.of, Worker: c.worker, Start: start, End: time.Since(c.trace.began)})
		}
	}
}

// Trace implements engine.Tracer.
func (c *code) Trace() (*engine.Trace, error) {
	*c.trace = tracing{on: true, began: time.Now(), lanes: make([][]engine.Span, 1+c.dev.pool.Workers())}
	err := c.Run()
	t := &engine.Trace{Spans: slices.Concat(c.trace.lanes...), Workers: c.dev.pool.Workers(), Total: time.Since(c.trace.began)}
	*c.trace = tracing{}
	return t, err
}

// Kernels implements engine.Explainer: an operation has the kernel of its name
// and algorithm, a fused group is one walk over memory.
func (c *code) Kernels(s *plan.Step) []engine.Kernel {
	name := ""
	switch {
	case s.Fused != nil:
		name = fmt.Sprintf("one walk of %d operations", len(s.Fused.Nodes))
	case s.Op != nil:
		name = s.Op.Op().String()
		if s.Op.Op() == graph.OpPackedConv2D || s.Op.Op() == graph.OpPackFilter {
			name += ", " + s.Op.Attrs().Algorithm.String()
		}
	default:
		return nil
	}
	cost := c.plan.Cost(s)
	return []engine.Kernel{{Name: name + " (" + kernel.Level() + ")", Bytes: cost.Read + cost.Written}}
}
