//go:build cgo && !windows

package cuda

import (
	"temper/engine"
	"temper/engine/plan"
)

// Trace implements engine.Tracer. The run is put on the stream command by
// command, with an event between those of different steps: a graph has no room
// for them.
func (c *program) Trace() (_ *engine.Trace, err error) {
	if err := c.ready(); err != nil {
		return nil, err
	}
	if c.commands == nil {
		defer c.forget()
		if err := c.record(); err != nil {
			return nil, err
		}
	}
	if err := c.bring(); err != nil {
		return nil, err
	}
	marks := &marks{work: c.gpu.work, dev: c.gpu.Device}
	defer func() { err = first(c.gpu.work.Synchronize(), marks.close(), err) }()
	if err := marks.add(nil); err != nil {
		return nil, err
	}
	for i := range c.commands {
		if err := c.commands[i].put(c.gpu.work); err != nil {
			return nil, err
		}
		if of := c.commands[i].of; i+1 == len(c.commands) || c.commands[i+1].of != of {
			if err := marks.add(of); err != nil {
				return nil, err
			}
		}
	}
	if err := first(c.say(), c.gpu.work.Synchronize()); err != nil {
		return nil, err
	}
	return marks.trace()
}

// marks are events on a stream, each behind the commands of a step.
type marks struct {
	work   *Stream
	dev    *Device
	events []*Event
	of     []*plan.Step
}

func (m *marks) add(of *plan.Step) error {
	e, err := m.dev.NewEvent(true)
	if err != nil {
		return err
	}
	m.events, m.of = append(m.events, e), append(m.of, of)
	return m.work.Record(e)
}

// trace reads the times between the events, which have all been reached.
func (m *marks) trace() (*engine.Trace, error) {
	t := &engine.Trace{Workers: 1}
	for i, e := range m.events[1:] {
		end, err := e.Since(m.events[0])
		if err != nil {
			return nil, err
		}
		if of := m.of[i+1]; of != nil {
			t.Spans = append(t.Spans, engine.Span{Step: of, Start: t.Total, End: end})
		}
		t.Total = end
	}
	return t, nil
}

func (m *marks) close() (err error) {
	for _, e := range m.events {
		err = first(err, e.Close())
	}
	return err
}

// Kernels implements engine.Explainer.
func (c *program) Kernels(s *plan.Step) (list []engine.Kernel) {
	if s.Copy != nil || s.Loop != nil {
		return nil
	}
	list = []engine.Kernel{} // none, where those of a step before it do its work
	for _, k := range c.kernels[stepKey(*s)] {
		name := k.Name
		if k.Tiling != "" {
			name += ": " + k.Tiling
		}
		list = append(list, engine.Kernel{Name: name, Source: k.Source, Bytes: k.bytes(c.plan)})
	}
	return list
}
