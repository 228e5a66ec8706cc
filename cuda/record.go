//go:build cgo && !windows

package cuda

import (
	"temper/engine/graph"
	"temper/engine/plan"
)

// command is one thing that a run does.
type command struct {
	kind   commandKind
	launch *Launch
	to     Ptr // of a copy
	from   Ptr
	n      int
	of     *plan.Step // nil for what a loop does itself
	beside bool       // it stands in the branch beside
}

type commandKind uint8

const (
	kernel commandKind = iota
	copying
	fork // what the branch beside does comes behind this
	join // and before this
)

func (k *command) put(s *Stream) error {
	switch k.kind {
	case kernel:
		return s.Launch(k.launch)
	case copying:
		return s.Copy(k.to, k.from, k.n)
	}
	return nil
}

// play puts a run on the streams, command by command.
func (c *program) play() (err error) {
	g := c.gpu
	for i := range c.commands {
		switch k := &c.commands[i]; {
		case k.kind == fork:
			err = first(g.work.Record(g.forked), g.beside.Wait(g.forked))
		case k.kind == join:
			err = first(g.beside.Record(g.joined), g.work.Wait(g.joined))
		case k.beside:
			err = k.put(g.beside)
		default:
			err = k.put(g.work)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// overlap has kernels begin early that stand right behind another one on their
// stream: that one alone can hold them back.
func (c *program) overlap() {
	if !c.gpu.early {
		return
	}
	var last [2]bool // what each stream did last is a kernel
	for i := range c.commands {
		k := &c.commands[i]
		branch := 0
		if k.beside {
			branch = 1
		}
		switch k.kind {
		case fork:
			last[1] = false // it waits for the other stream, which goes on
		case join:
			last[0] = false
		case copying:
			last[branch] = false
		default:
			if last[branch] {
				k.launch.Early()
			}
			last[branch] = true
		}
	}
}

// prepare writes the run down step by step, and captures it.
func (c *program) prepare() error {
	if err := c.settle(); err != nil {
		return err
	}
	err := c.record()
	if err == nil && !c.gpu.noGraph && len(c.commands) > 0 {
		c.overlap()
		err = c.capture()
	}
	if err != nil {
		c.forget()
	}
	return err
}

func (c *program) record() error {
	if err := c.steps(c.plan.Steps); err != nil {
		return err
	}
	for _, out := range c.plan.Outputs {
		if at, small := c.at[out.Buffer]; small { // where it is not there anyway
			c.copy(c.small+Ptr(at), c.base[out.Buffer], c.plan.Buffers[out.Buffer].Bytes())
		}
	}
	return nil
}

func (c *program) capture() error {
	g, err := c.gpu.work.Capture(c.play)
	if err != nil {
		return err
	}
	defer g.Close()
	exec, err := g.Instantiate()
	if err != nil {
		return err
	}
	c.exec = exec
	c.gpu.captured++
	c.forget()
	return nil
}

// unprepare takes prepare back. Nothing of the program may be running. What
// fails to be freed has failed before, or will when the device is next used.
func (c *program) unprepare() {
	c.forget()
	if c.exec != nil {
		_ = c.exec.Close()
		c.exec = nil
	}
}

// forget frees the commands: a graph has its own copy of their arguments.
func (c *program) forget() {
	for _, k := range c.commands {
		if k.launch != nil {
			k.launch.Close()
		}
	}
	c.commands = nil
}

func (c *program) steps(steps []plan.Step) error {
	region := 0
	turn := func(to int) {
		if region > 0 && to != region {
			c.commands = append(c.commands, command{kind: join})
		}
		if to > 0 && to != region {
			c.commands = append(c.commands, command{kind: fork})
		}
		region = to
	}
	for i, s := range steps {
		turn(s.Region)
		before := len(c.commands)
		switch {
		case s.Copy != nil && c.kernels[s.Copy] == nil:
			c.copy(c.base[s.Copy.Dst], c.base[s.Copy.Src], c.plan.Buffers[s.Copy.Dst].Bytes())
		case s.Loop != nil:
			if err := c.loop(s.Loop); err != nil {
				return err
			}
		default:
			for i := range c.kernels[stepKey(s)] {
				if err := c.launch(&c.kernels[stepKey(s)][i], s.Branch); err != nil {
					return err
				}
			}
		}
		if s.Loop == nil {
			for k := before; k < len(c.commands); k++ {
				c.commands[k].of, c.commands[k].beside = &steps[i], s.Branch > 0
			}
		}
	}
	turn(0)
	return nil
}

func (c *program) copy(to, from Ptr, n int) {
	if to != from && n > 0 {
		c.commands = append(c.commands, command{kind: copying, to: to, from: from, n: n})
	}
}

func (c *program) launch(k *Kernel, branch int) error {
	args := make([]any, 0, len(k.Buffers)+len(k.Numbers))
	for n, i := range k.Buffers {
		at := c.scratch[branch]
		if i != Scratch {
			at = c.base[i]
		}
		if n >= len(k.Maps) {
			args = append(args, at)
			continue
		}
		maps, err := c.gpu.Device.Encode(k.Maps[n], at)
		if err != nil {
			return err
		}
		args = append(args, maps)
	}
	for _, v := range k.Numbers {
		args = append(args, v)
	}
	l, err := c.gpu.functions[k.Name].Prepare([3]int{k.grid(c.gpu.Device.Info.SMs), 1, 1}, [3]int{k.Threads, 1, 1}, k.Shared, args...)
	if err != nil {
		return err
	}
	c.commands = append(c.commands, command{launch: l})
	return nil
}

// loop writes down a loop's iterations one behind the other. Each has its own
// addresses: its number is in a table, its slices are used where they lie.
func (c *program) loop(l *plan.Loop) error {
	made := c.made(l)
	for i := range l.Node.Attrs().Trips {
		c.base[l.Index] = c.indices + Ptr(4*i)
		for _, s := range l.Scan {
			slice := c.slice(s, i)
			if whole(c.plan.Buffers[s.Part].Bytes()) {
				c.base[s.Part] = slice
			} else {
				c.copy(c.base[s.Part], slice, c.plan.Buffers[s.Part].Bytes())
			}
		}
		for _, s := range l.Stack {
			if made[s.Part] {
				c.base[s.Part] = c.slice(s, i)
			}
		}
		if err := c.steps(l.Steps); err != nil {
			return err
		}
		for _, s := range l.Stack {
			c.copy(c.slice(s, i), c.base[s.Part], c.plan.Buffers[s.Part].Bytes())
		}
	}
	return nil
}

// slice is where an iteration's slice of a whole is.
func (c *program) slice(s plan.Slice, i int) Ptr {
	return c.base[s.Whole] + Ptr(i*c.plan.Buffers[s.Part].Bytes())
}

// whole reports whether every slice of so many bytes starts where a kernel that
// reads vectors may expect a buffer to start.
func whole(bytes int) bool { return bytes%16 == 0 || bytes < 16 && bytes&(bytes-1) == 0 }

// made lists the stacked parts that may be computed straight into their slices:
// those that are nothing else, and those that a step of the body makes anew in
// each iteration.
func (c *program) made(l *plan.Loop) map[int]bool {
	carried, fresh := map[int]bool{}, map[int]bool{}
	for _, p := range l.Node.Body().Params()[1 : 1+l.Node.Attrs().Carry] {
		carried[c.plan.Buffer(p)] = true
	}
	note := func(n *graph.Node) {
		if i := c.plan.Buffer(n); !carried[i] {
			fresh[i] = true
		}
	}
	for _, s := range l.Steps {
		switch {
		case s.Fused != nil:
			for _, n := range s.Fused.Stored {
				note(n)
			}
		case s.Op != nil:
			note(s.Op)
		}
	}
	parts := map[int]bool{}
	for _, s := range l.Stack {
		b := &c.plan.Buffers[s.Part]
		parts[s.Part] = whole(b.Bytes()) && (b.Kind == plan.View || b.Kind == plan.Temp && fresh[s.Part])
	}
	return parts
}
