//go:build cgo && !windows

package cuda

import (
	"slices"

	"temper/engine"
)

// slot is the one that the next run takes its inputs from, once the host may
// write to it.
func (c *program) slot() (*slot, error) {
	s := &c.slots[c.turn]
	if !s.open {
		if err := s.free.Synchronize(); err != nil {
			return nil, err
		}
		s.open = true
	}
	return s, nil
}

// Feed implements engine.Code. The content starts for the device at once.
func (c *program) Feed(i int, host []byte) {
	if err := c.feed(i, host); err != nil {
		c.err = err
	}
}

func (c *program) feed(i int, host []byte) error {
	s, err := c.slot()
	if err != nil {
		return err
	}
	if !slices.Contains(s.fed, i) {
		s.fed = append(s.fed, i)
	} else if err := c.gpu.inputs.Synchronize(); err != nil { // the copy may still read the memory
		return err
	}
	at := c.input[i]
	mem := s.host.Bytes()[at : at+len(host)]
	copy(mem, host)
	return c.gpu.inputs.Upload(s.dev+Ptr(at), mem)
}

// SetScalar implements engine.Code.
func (c *program) SetScalar(i int, bits uint32) {
	c.words[c.word[i]], c.moved = bits, true
}

// Run implements engine.Code. It returns when the work is queued.
func (c *program) Run() error {
	if err := c.ready(); err != nil {
		return err
	}
	if err := c.bring(); err != nil {
		return err
	}
	if err := c.start(); err != nil {
		return err
	}
	return c.say()
}

// say lets the small outputs follow a run to the host.
func (c *program) say() error {
	c.runs++
	p := &c.landings[c.runs%2]
	return first(c.gpu.work.Download(p.host.Bytes()[:c.smallSize], c.small), c.gpu.work.Record(p.full))
}

// ready reports what went wrong since the last run, and prepares the first one.
func (c *program) ready() error {
	if err := c.err; err != nil {
		c.err = nil
		return err
	}
	if c.commands == nil && c.exec == nil {
		return c.prepare()
	}
	return nil
}

// bring puts what was fed and set since the last run where the graph reads it.
func (c *program) bring() error {
	if len(c.slots[c.turn].fed) == 0 && !c.moved {
		return nil
	}
	s, err := c.slot()
	if err != nil {
		return err
	}
	work := c.gpu.work
	if len(s.fed) > 0 {
		if err := first(c.gpu.inputs.Record(s.arrived), work.Wait(s.arrived)); err != nil {
			return err
		}
		for _, i := range s.fed {
			if err := work.Copy(c.base[i], s.dev+Ptr(c.input[i]), c.plan.Buffers[i].Bytes()); err != nil {
				return err
			}
		}
		s.fed = s.fed[:0]
	}
	if c.moved {
		block := s.host.Bytes()[len(s.host.Bytes())-4*len(c.words):]
		copy(block, engine.Bytes(c.words))
		if err := work.Upload(c.block, block); err != nil {
			return err
		}
		c.moved = false
	}
	s.open = false
	c.turn = 1 - c.turn
	return work.Record(s.free)
}

// start puts one run on the stream.
func (c *program) start() error {
	if c.exec != nil {
		return c.gpu.work.LaunchGraph(c.exec)
	}
	return c.play()
}

// Fetch implements engine.Code.
func (c *program) Fetch(i int) ([]byte, error) {
	n := c.plan.Buffers[i].Bytes()
	if n <= smallOutput {
		return c.FetchPast(i, 0)
	}
	o := c.host[i]
	if o == nil {
		mem, err := c.gpu.AllocHost(n)
		if err != nil {
			return nil, err
		}
		o = &output{mem: mem, runs: -1}
		c.host[i] = o
	}
	mem := o.mem.Bytes()[:n]
	if o.runs == c.runs {
		return mem, nil
	}
	if err := first(c.gpu.work.Download(mem, c.base[i]), c.gpu.work.Synchronize()); err != nil {
		return nil, err
	}
	o.runs = c.runs
	return mem, nil
}

// FetchPast implements engine.Lagging, for all small outputs.
func (c *program) FetchPast(i, back int) ([]byte, error) {
	p := &c.landings[(c.runs+back)%2]
	at := c.at[i]
	return p.host.Bytes()[at : at+c.plan.Buffers[i].Bytes()], p.full.Synchronize()
}
