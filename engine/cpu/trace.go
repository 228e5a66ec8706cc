package cpu

import (
	"slices"
	"time"

	"temper/engine"
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
