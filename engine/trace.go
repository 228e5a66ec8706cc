package engine

import (
	"errors"
	"time"

	"temper/engine/plan"
)

// Span is one execution of a step of a plan that is no loop. Where a back end
// does two steps in one, the first has the span.
type Span struct {
	Step *plan.Step // in Executable.Plan, or in the loops there
	// Worker is 0 for what the whole device does, and from 1 on that worker of a
	// CPU inside a parallel loop.
	Worker     int
	Start, End time.Duration // since the run began
}

// Trace is one run, step by step.
type Trace struct {
	Spans   []Span
	Workers int // that parallel loops have; 1 where there are none
	Total   time.Duration
}

// Share is the part of a span in the whole run's time: workers are busy side by
// side.
func (t *Trace) Share(s Span) time.Duration {
	if s.Worker == 0 {
		return s.End - s.Start
	}
	return (s.End - s.Start) / time.Duration(t.Workers)
}

// Tracer is Code that can time its steps.
type Tracer interface {
	// Trace runs the plan once, as Run does, and waits for it. The results are
	// those of Run, bit for bit; where Run would overlap steps, Trace does not.
	Trace() (*Trace, error)
}

// ErrNoTrace says that a device cannot time its steps.
var ErrNoTrace = errors.New("this device cannot time single steps")

// Trace is Run with every step timed. The error is [ErrNoTrace] where the device
// cannot.
func (e *Executable) Trace() (*Trace, error) {
	t, ok := e.code.(Tracer)
	if !ok {
		return nil, ErrNoTrace
	}
	if err := e.checkFed(); err != nil {
		return nil, err
	}
	e.runs++
	return t.Trace()
}

// Kernel is what a device runs for a step of a plan.
type Kernel struct {
	Name   string
	Source string // "" where there is none to be shown
	// Bytes are those of the memory that it reads and writes, each counted once.
	Bytes int
}

// Explainer is Code that can say which kernels run a step.
type Explainer interface{ Kernels(s *plan.Step) []Kernel }

// Kernels lists what runs a step of the executable's plan; nil where the device
// does not tell.
func (e *Executable) Kernels(s *plan.Step) []Kernel {
	if x, ok := e.code.(Explainer); ok {
		return x.Kernels(s)
	}
	return nil
}
