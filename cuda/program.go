//go:build cgo && !windows

package cuda

import (
	"encoding/binary"
	"errors"
	"fmt"

	"temper/engine"
	"temper/engine/plan"
)

// program is a loaded plan: engine.Code.
//
// What a run needs from the host goes through one of two slots, so that the
// host can fill one while the device still reads the other: inputs when they
// are fed, on a stream of their own; the step block when the run starts. The
// run itself is one launch of a graph, which holds every step at fixed
// addresses and was captured before the first run. Behind it small outputs go to
// one of two places in page-locked memory, so that the host can read those of a
// run while the next one is done; others are brought when they are asked for.
type program struct {
	gpu     *gpu
	plan    *plan.Plan
	kernels map[any][]Kernel
	owned   []Ptr
	base    []Ptr  // of each buffer
	indices Ptr    // 0, 1, 2, … for the loops
	scratch [2]Ptr // of the kernels that ask for it, by branch
	temps   []int  // buffers in the arena

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
	runs     int

	small     Ptr         // the small outputs,
	smallSize int         // one behind the other,
	landings  [2]landing  // and where runs bring them in turn
	at        map[int]int // a small output's place among them
	host      map[int]*output
}

// landing is host memory for a run's small outputs.
type landing struct {
	host *HostMemory // page-locked
	full *Event      // they are there, and the run is done
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

// output is host memory for an output that is not small.
type output struct {
	mem  *HostMemory
	runs int // the run that it is of
}

// smallOutput is the size up to which every run brings an output to the host.
const smallOutput = 4096

// newProgram gives a plan its memory; its kernels have to be there by the first
// run.
func newProgram(g *gpu, p *plan.Plan, kernels map[any][]Kernel) (_ engine.Code, err error) {
	c := &program{gpu: g, plan: p, kernels: kernels, base: make([]Ptr, len(p.Buffers)),
		input: map[int]int{}, word: map[int]int{}, at: map[int]int{}, host: map[int]*output{}}
	defer func() {
		if err != nil {
			c.Close()
		}
	}()
	g.programs[c] = true
	if err := c.place(); err != nil {
		return nil, err
	}
	return c, c.makeSlots()
}

// alloc is device memory that the program owns.
func (c *program) alloc(bytes int) (Ptr, error) {
	p, err := c.gpu.Device.Alloc(max(bytes, 1))
	if err == nil {
		c.owned = append(c.owned, p)
	}
	return p, err
}

// place gives every buffer its address but states and most temporaries.
func (c *program) place() (err error) {
	if err := c.fits(); err != nil {
		return err
	}
	if err := c.makeLandings(); err != nil {
		return err
	}
	kept := kept(c.plan)
	for i := range c.plan.Buffers {
		b := &c.plan.Buffers[i]
		at, small := c.at[i]
		switch {
		case b.Kind == plan.Temp && small:
			c.base[i] = c.small + Ptr(at)
		case b.Kind == plan.Scalar:
			c.word[i] = len(c.words)
			c.words = append(c.words, 0)
		case b.Kind == plan.Const:
			c.base[i], err = c.upload(constant(b))
		case b.Kind == plan.Input, b.Kind == plan.View && !whole(b.Bytes()), kept[i]:
			c.base[i], err = c.alloc(b.Bytes())
		case b.Kind == plan.Temp:
			c.temps = append(c.temps, i)
		}
		if err != nil {
			return err
		}
	}
	if err := c.placeWords(); err != nil {
		return err
	}
	return c.gpu.reserve(c.shared())
}

// kept are the temporaries that a later run of another program must not touch:
// outputs that the host may ask for after it.
func kept(p *plan.Plan) map[int]bool {
	out := map[int]bool{}
	for _, o := range p.Outputs {
		if b := &p.Buffers[o.Buffer]; b.Kind == plan.Temp && b.Bytes() > smallOutput {
			out[o.Buffer] = true
		}
	}
	return out
}

// arena is device memory for what lives no longer than a run: the programs of a
// device share it, so that a training step for the last, smaller batch of an
// epoch, or an evaluation between epochs, takes none of its own.
type arena struct {
	at    Ptr
	bytes int
}

// shared is the size of the arena that the program needs: temporaries, those of
// an iteration, and the kernels' scratch.
func (c *program) shared() int {
	return aligned(c.plan.Arena) + aligned(c.plan.Private) + 2*scratch(c.kernels)
}

// settle gives the temporaries their addresses in the arena.
func (c *program) settle() error {
	if err := c.gpu.reserve(c.shared()); err != nil {
		return err
	}
	at := c.gpu.arena.at
	private := at + Ptr(aligned(c.plan.Arena)) // iterations run one behind the other
	c.scratch[0] = private + Ptr(aligned(c.plan.Private))
	c.scratch[1] = c.scratch[0] + Ptr(scratch(c.kernels))
	for _, i := range c.temps {
		b := &c.plan.Buffers[i]
		c.base[i] = at + Ptr(b.Offset)
		if b.Private {
			c.base[i] = private + Ptr(b.Offset)
		}
	}
	return nil
}

// reserve makes the arena at least so large. Where it has to move, programs are
// recorded anew when they next run.
func (g *gpu) reserve(bytes int) error {
	if bytes <= g.arena.bytes {
		return nil
	}
	if err := g.work.Synchronize(); err != nil {
		return err
	}
	for c := range g.programs {
		c.unprepare()
	}
	if err := g.release(); err != nil {
		return err
	}
	p, err := g.Device.Alloc(bytes)
	if err == nil {
		g.arena = arena{p, bytes}
	}
	return err
}

// release frees the arena.
func (g *gpu) release() error {
	if g.arena.bytes == 0 {
		return nil
	}
	p := g.arena.at
	g.arena = arena{}
	return g.Device.Free(p)
}

// placeWords makes the step block and the loops' table of numbers.
func (c *program) placeWords() (err error) {
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
	c.indices, err = c.upload(numbers)
	return err
}

// scratch is the most memory that a step's kernels need for themselves. Each
// branch has as much.
func scratch(kernels map[any][]Kernel) int {
	most := 0
	for _, ks := range kernels {
		for _, k := range ks {
			most = max(most, k.Scratch)
		}
	}
	return aligned(most)
}

func (c *program) upload(content []byte) (Ptr, error) {
	p, err := c.alloc(len(content))
	if err != nil {
		return 0, err
	}
	return p, c.gpu.work.Write(p, content)
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
	for i := range kept(p) {
		grows += p.Buffers[i].Bytes()
	}
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
	unused += c.gpu.arena.bytes // it can grow in place of itself
	grows, fixed := need(c.plan)
	fixed += 2 * scratch(c.kernels)
	if grows+fixed+max(0, c.gpu.arena.bytes-c.shared()) <= unused {
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

// makeLandings makes the memory of the small outputs.
func (c *program) makeLandings() (err error) {
	for _, o := range c.plan.Outputs {
		n := c.plan.Buffers[o.Buffer].Bytes()
		if _, twice := c.at[o.Buffer]; n <= smallOutput && !twice {
			c.at[o.Buffer] = c.smallSize
			c.smallSize = aligned(c.smallSize + n)
		}
	}
	if c.small, err = c.alloc(c.smallSize); err != nil {
		return err
	}
	for k := range c.landings {
		p := &c.landings[k]
		if p.host, err = c.gpu.AllocHost(max(c.smallSize, 1)); err != nil {
			return err
		}
		if p.full, err = c.gpu.NewEvent(false); err != nil {
			return err
		}
	}
	return nil
}

// BindState implements engine.Code.
func (c *program) BindState(i int, m engine.Memory) {
	c.base[i] = m.(interface{ address() Ptr }).address()
}

// Close implements engine.Code. Failures of what it frees have been reported,
// or will be when the device is next used.
func (c *program) Close() {
	_ = first(c.gpu.work.Synchronize(), c.gpu.inputs.Synchronize())
	c.unprepare()
	if delete(c.gpu.programs, c); len(c.gpu.programs) == 0 {
		_ = c.gpu.release()
	}
	free := func(m *HostMemory) {
		if m != nil {
			_ = m.Free()
		}
	}
	for _, o := range c.host {
		free(o.mem)
	}
	events := []*Event{}
	for k := range c.slots { // of which there are as many as landings
		free(c.slots[k].host)
		free(c.landings[k].host)
		events = append(events, c.slots[k].arrived, c.slots[k].free, c.landings[k].full)
	}
	for _, e := range events {
		if e != nil {
			_ = e.Close()
		}
	}
	for _, p := range c.owned {
		_ = c.gpu.Device.Free(p)
	}
}
