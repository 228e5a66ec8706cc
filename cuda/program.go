//go:build cgo && !windows

package cuda

import (
	"encoding/binary"
	"errors"
	"fmt"

	"temper/engine"
	"temper/engine/graph"
	"temper/engine/plan"
)

// program is a loaded plan: engine.Code.
//
// What a run needs from the host goes through one of two slots, so that the
// host can fill one while the device still reads the other: inputs when they
// are fed, on a stream of their own; the step block when the run starts. The
// run itself is one launch of a graph, which holds every step at fixed
// addresses and was captured before the first run. Small outputs are in
// page-locked memory when a run is done; others are brought when they are asked
// for.
type program struct {
	gpu     *gpu
	plan    *plan.Plan
	kernels map[any][]Kernel
	owned   []Ptr
	base    []Ptr // of each buffer
	indices Ptr   // 0, 1, 2, … for the loops
	scratch Ptr   // of the kernels that ask for it

	input map[int]int // buffer to its place in a slot; the same for scalars:
	words []uint32    // the step block,
	word  map[int]int // buffer to its index there,
	block Ptr         // on the device,
	moved bool        // and whether it has changed since the last run

	slots [2]slot
	turn  int
	err   error // of a Feed, for the next Run

	commands []command // one run, step by step
	exec     *Exec     // one run as a graph
	done     *Event    // the last run is
	runs     int

	small *HostMemory     // the small outputs
	host  map[int]*output // where each output is brought to
}

// slot is host memory on its way to the device.
type slot struct {
	host    *HostMemory // page-locked: the inputs, then the step block
	dev     Ptr         // the inputs
	fed     []int       // buffers that were fed since the slot was taken
	arrived *Event      // the inputs are in dev
	free    *Event      // all of the slot has been read
	open    bool        // the host may write to it
}

// output is host memory for an output.
type output struct {
	mem  *HostMemory
	at   int
	n    int
	runs int // the run that it is of; 0 for small ones, which every run brings
}

// command is one thing that a run does.
type command struct {
	launch *Launch // or, if nil, a copy:
	to     Ptr
	from   Ptr
	host   []byte // to, if not nil
	n      int
}

// smallOutput is the size up to which every run brings an output to the host.
const smallOutput = 4096

// newProgram gives a plan its memory. Kernels are there already.
func newProgram(g *gpu, p *plan.Plan, kernels map[any][]Kernel) (_ engine.Code, err error) {
	c := &program{gpu: g, plan: p, kernels: kernels, base: make([]Ptr, len(p.Buffers)),
		input: map[int]int{}, word: map[int]int{}, host: map[int]*output{}}
	defer func() {
		if err != nil {
			c.Close()
		}
	}()
	if err := c.place(); err != nil {
		return nil, err
	}
	if c.done, err = g.NewEvent(false); err != nil {
		return nil, err
	}
	if err := c.makeSlots(); err != nil {
		return nil, err
	}
	return c, c.makeOutputs()
}

// alloc is device memory that the program owns.
func (c *program) alloc(bytes int) (Ptr, error) {
	p, err := c.gpu.Device.Alloc(max(bytes, 1))
	if err == nil {
		c.owned = append(c.owned, p)
	}
	return p, err
}

// place gives every buffer but the states its address.
func (c *program) place() error {
	if err := c.fits(); err != nil {
		return err
	}
	arena, err := c.alloc(c.plan.Arena)
	if err != nil {
		return err
	}
	private, err := c.alloc(c.plan.Private) // iterations run one behind the other
	if err != nil {
		return err
	}
	for i := range c.plan.Buffers {
		b := &c.plan.Buffers[i]
		switch b.Kind {
		case plan.Temp:
			c.base[i] = arena + Ptr(b.Offset)
			if b.Private {
				c.base[i] = private + Ptr(b.Offset)
			}
		case plan.View:
			if !whole(b.Bytes()) {
				if c.base[i], err = c.alloc(b.Bytes()); err != nil {
					return err
				}
			}
		case plan.Scalar:
			c.word[i] = len(c.words)
			c.words = append(c.words, 0)
		case plan.Const:
			if c.base[i], err = c.upload(constant(b)); err != nil {
				return err
			}
		case plan.Input:
			if c.base[i], err = c.alloc(b.Bytes()); err != nil {
				return err
			}
		}
	}
	c.moved = len(c.words) > 0
	if c.block, err = c.alloc(4 * len(c.words)); err != nil {
		return err
	}
	for i, w := range c.word {
		c.base[i] = c.block + Ptr(4*w)
	}
	var numbers []byte
	for i := range trips(c.plan.Steps) {
		numbers = binary.LittleEndian.AppendUint32(numbers, uint32(i))
	}
	if c.indices, err = c.upload(numbers); err != nil {
		return err
	}
	c.scratch, err = c.alloc(scratch(c.kernels))
	return err
}

// scratch is the most memory that a step's kernels need for themselves.
func scratch(kernels map[any][]Kernel) int {
	most := 0
	for _, ks := range kernels {
		for _, k := range ks {
			most = max(most, k.Scratch)
		}
	}
	return most
}

func (c *program) upload(content []byte) (Ptr, error) {
	p, err := c.alloc(len(content))
	if err != nil {
		return 0, err
	}
	return p, c.gpu.work.Upload(p, content)
}

// trips is the largest number of iterations of any loop.
func trips(steps []plan.Step) int {
	most := 0
	for _, s := range steps {
		if s.Loop != nil {
			most = max(most, s.Loop.Node.Attrs().Trips, trips(s.Loop.Steps))
		}
	}
	return most
}

// need is the device memory that a plan takes beside its states: what grows
// with the batch, and what does not.
func need(p *plan.Plan) (grows, fixed int) {
	grows = p.Arena + p.Private
	for i := range p.Buffers {
		switch b := &p.Buffers[i]; b.Kind {
		case plan.Input:
			grows += 3 * b.Bytes() // and two slots
		case plan.Const:
			fixed += b.Bytes()
		}
	}
	return grows, fixed
}

// batchOf is the extent of the first axis that all inputs share; 0 if there is
// none.
func batchOf(p *plan.Plan) int {
	batch := 0
	for i := range p.Buffers {
		if b := &p.Buffers[i]; b.Kind == plan.Input {
			if len(b.Shape) == 0 || batch > 0 && b.Shape[0] != batch {
				return 0
			}
			batch = b.Shape[0]
		}
	}
	return batch
}

// fits says how much memory is short, for what, and which batch would fit, with
// a little left for the driver.
func (c *program) fits() error {
	unused, total, err := c.gpu.Memory()
	if err != nil {
		return err
	}
	grows, fixed := need(c.plan)
	fixed += scratch(c.kernels)
	if grows+fixed <= unused {
		return nil
	}
	short := fmt.Sprintf("out of device memory: it needs %s (%s of temporaries), and %s of %s are free",
		mebibytes(grows+fixed), mebibytes(c.plan.Arena+c.plan.Private), mebibytes(unused), mebibytes(total))
	if batch := batchOf(c.plan); batch > 1 && unused > fixed {
		if fit := int(0.97 * float64(batch) * float64(unused-fixed) / float64(grows)); fit > 0 {
			return fmt.Errorf("%s: the batch is %d, a batch of %d would fit", short, batch, fit)
		}
	}
	return errors.New(short)
}

// aligned rounds up to where any vector may start.
func aligned(n int) int { return (n + 255) &^ 255 }

func (c *program) makeSlots() error {
	size := 0
	for i := range c.plan.Buffers {
		if b := &c.plan.Buffers[i]; b.Kind == plan.Input {
			c.input[i] = size
			size = aligned(size + b.Bytes())
		}
	}
	for k := range c.slots {
		s := &c.slots[k]
		var err error
		if s.host, err = c.gpu.AllocHost(size + max(4*len(c.words), 1)); err != nil {
			return err
		}
		if s.dev, err = c.alloc(size); err != nil {
			return err
		}
		if s.arrived, err = c.gpu.NewEvent(false); err != nil {
			return err
		}
		if s.free, err = c.gpu.NewEvent(false); err != nil {
			return err
		}
		s.fed = make([]int, 0, len(c.input))
	}
	return nil
}

func (c *program) makeOutputs() (err error) {
	size := 0
	for _, o := range c.plan.Outputs {
		n := c.plan.Buffers[o.Buffer].Bytes()
		if n > smallOutput || c.host[o.Buffer] != nil {
			continue
		}
		c.host[o.Buffer] = &output{at: size, n: n}
		size = aligned(size + n)
	}
	if size == 0 {
		return nil
	}
	if c.small, err = c.gpu.AllocHost(size); err != nil {
		return err
	}
	for _, o := range c.host {
		o.mem = c.small
	}
	return nil
}

// BindState implements engine.Code.
func (c *program) BindState(i int, m engine.Memory) {
	c.base[i] = m.(interface{ address() Ptr }).address()
}

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
	again := false
	for _, f := range s.fed {
		again = again || f == i
	}
	if again { // the copy may still read the memory
		err = c.gpu.inputs.Synchronize()
	} else {
		s.fed = append(s.fed, i)
	}
	if err != nil {
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
	if err := c.err; err != nil {
		c.err = nil
		return err
	}
	if c.commands == nil && c.exec == nil {
		if err := c.prepare(); err != nil {
			return err
		}
	}
	if err := c.bring(); err != nil {
		return err
	}
	c.runs++
	if err := c.start(); err != nil {
		return err
	}
	return c.gpu.work.Record(c.done)
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

func (c *program) play() error {
	for i := range c.commands {
		if err := c.commands[i].put(c.gpu.work); err != nil {
			return err
		}
	}
	return nil
}

func (k *command) put(s *Stream) error {
	switch {
	case k.launch != nil:
		return s.Launch(k.launch)
	case k.host != nil:
		return s.Download(k.host, k.from)
	}
	return s.Copy(k.to, k.from, k.n)
}

// prepare writes the run down step by step, and captures it.
func (c *program) prepare() error {
	if err := c.steps(c.plan.Steps); err != nil {
		return err
	}
	for _, out := range c.plan.Outputs {
		if o := c.host[out.Buffer]; o != nil && o.mem == c.small {
			c.commands = append(c.commands, command{host: o.mem.Bytes()[o.at : o.at+o.n], from: c.base[out.Buffer]})
		}
	}
	if c.gpu.noGraph || len(c.commands) == 0 {
		return nil
	}
	g, err := c.gpu.work.Capture(c.play)
	if err != nil {
		return err
	}
	defer g.Close()
	if c.exec, err = g.Instantiate(); err != nil {
		return err
	}
	c.gpu.captured++
	c.forget()
	return nil
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
	for _, s := range steps {
		switch {
		case s.Copy != nil:
			c.copy(c.base[s.Copy.Dst], c.base[s.Copy.Src], c.plan.Buffers[s.Copy.Dst].Bytes())
		case s.Loop != nil:
			if err := c.loop(s.Loop); err != nil {
				return err
			}
		default:
			for i := range c.kernels[stepKey(s)] {
				if err := c.launch(&c.kernels[stepKey(s)][i]); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (c *program) copy(to, from Ptr, n int) {
	if to != from && n > 0 {
		c.commands = append(c.commands, command{to: to, from: from, n: n})
	}
}

// turnsPerSM is the number of blocks of a grid for each multiprocessor: enough
// to fill it, few enough to save the start of most.
const turnsPerSM = 8

func (c *program) launch(k *Kernel) error {
	args := make([]any, 0, len(k.Buffers)+len(k.Numbers))
	for _, i := range k.Buffers {
		if i == Scratch {
			args = append(args, c.scratch)
		} else {
			args = append(args, c.base[i])
		}
	}
	for _, v := range k.Numbers {
		args = append(args, v)
	}
	blocks := min(k.Blocks, turnsPerSM*c.gpu.Device.Info.SMs)
	l, err := c.gpu.functions[k.Name].Prepare([3]int{blocks, 1, 1}, [3]int{BlockThreads, 1, 1}, k.Shared, args...)
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

// Fetch implements engine.Code.
func (c *program) Fetch(i int) ([]byte, error) {
	o := c.host[i]
	if o == nil {
		n := c.plan.Buffers[i].Bytes()
		mem, err := c.gpu.AllocHost(max(n, 1))
		if err != nil {
			return nil, err
		}
		o = &output{mem: mem, n: n, runs: -1}
		c.host[i] = o
	}
	if o.mem == c.small {
		return o.mem.Bytes()[o.at : o.at+o.n], c.done.Synchronize()
	}
	mem := o.mem.Bytes()[:o.n]
	if o.runs == c.runs {
		return mem, nil
	}
	o.runs = c.runs
	return mem, first(c.gpu.work.Download(mem, c.base[i]), c.gpu.work.Synchronize())
}

// Close implements engine.Code. Failures of what it frees have been reported,
// or will be when the device is next used.
func (c *program) Close() {
	_ = first(c.gpu.work.Synchronize(), c.gpu.inputs.Synchronize())
	c.forget()
	if c.exec != nil {
		_ = c.exec.Close()
	}
	free := func(m *HostMemory) {
		if m != nil {
			_ = m.Free()
		}
	}
	for _, o := range c.host {
		if o.mem != c.small {
			free(o.mem)
		}
	}
	free(c.small)
	for _, s := range c.slots {
		free(s.host)
		for _, e := range []*Event{s.arrived, s.free} {
			if e != nil {
				_ = e.Close()
			}
		}
	}
	if c.done != nil {
		_ = c.done.Close()
	}
	for _, p := range c.owned {
		_ = c.gpu.Device.Free(p)
	}
}
