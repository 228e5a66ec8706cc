package cpu

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"unsafe"

	"temper/engine"
	"temper/engine/cpu/kernel"
	"temper/engine/graph"
	"temper/engine/passes"
	"temper/engine/plan"
)

func init() { engine.Register("cpu", backend{}) }

type backend struct{}

func (backend) Devices() ([]engine.Info, error) { return []engine.Info{info(0)}, nil }

func info(threads int) engine.Info {
	if threads == 0 {
		threads = runtime.GOMAXPROCS(0)
	}
	return engine.Info{Spec: "cpu", Name: processor(), Detail: fmt.Sprintf("%d threads, kernels %s", threads, kernel.Level()), Precisions: precisions()}
}

// processor is the model name that Linux gives, else the architecture.
func processor() string {
	b, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(b)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}

// maxThreads is more than any machine has processors: each worker takes memory of
// its own.
const maxThreads = 1024

func (backend) Open(spec string, o engine.DeviceOptions) (engine.Driver, error) {
	if spec != "cpu" {
		return nil, fmt.Errorf("no device %q: the CPU is \"cpu\"", spec)
	}
	if o.Threads < 0 {
		return nil, fmt.Errorf("%d threads: want a positive number, or 0 for all processors", o.Threads)
	}
	if o.Threads > maxThreads {
		return nil, fmt.Errorf("%d threads: at most %d are possible; 0 is one for each processor", o.Threads, maxThreads)
	}
	if err := kernel.LevelError(); err != nil {
		return nil, err
	}
	return &device{pool: kernel.NewPool(o.Threads)}, nil
}

type device struct{ pool *kernel.Pool }

func (d *device) Info() engine.Info { return info(d.pool.Workers()) }

// Target implements engine.Driver.
func (d *device) Target(p graph.Precision) (passes.Target, error) {
	if !slices.Contains(precisions(), p) {
		return passes.Target{}, lacks(p)
	}
	return passes.Target{ChannelsLast: true, PackedFilters: true, RowBytes: rowBytes, BF16: kernel.HasBF16(), Precision: p}, nil
}

// rowBytes is what a worker's temporaries in a parallel loop should fit.
const rowBytes = 1 << 20

func (d *device) Alloc(bytes int) (engine.Memory, error) { return &memory{alloc(bytes)}, nil }

func (d *device) Close() error {
	d.pool.Close()
	return nil
}

// alloc returns zeroed memory that starts on a cache line. It is a variable so
// that tests can fence it.
var alloc = words

// words makes memory of words, so that it may be viewed as any element type.
func words(bytes int) []byte {
	w := make([]uint64, (bytes+63)/8+8)
	b := engine.Bytes(w)
	hugePages(b)
	skip := -int(uintptr(unsafe.Pointer(&b[0]))) & 63
	return b[skip : skip+bytes : skip+bytes]
}

type memory struct{ b []byte }

func (m *memory) Write(src []byte) error { copy(m.b, src); return nil }
func (m *memory) Read(dst []byte) error  { copy(dst, m.b); return nil }
func (m *memory) Free()                  { m.b = nil }

// code is a plan made ready to run, or the body of a parallel loop made ready
// for one worker.
type code struct {
	dev     *device
	plan    *plan.Plan
	base    []unsafe.Pointer // of each buffer, all set before the first run
	words   []uint32         // the step block
	steps   []step
	scratch *workspaces
	lanes   []lane // of the workers, for parallel loops
	held    *int   // bytes that were allocated for all this
	trace   *tracing

	inside bool // it is a body
	worker int  // that the body is for, from 1 on
}

// step is a step of the plan made ready; of is nil for a loop, whose steps are
// timed one by one.
type step struct {
	run func()
	of  *plan.Step
}

// alloc is alloc, counted.
func (c *code) alloc(bytes int) []byte {
	*c.held += bytes
	return alloc(bytes)
}

// Memory is what the program holds: see engine.Executable.
func (c *code) Memory() int { return *c.held }

// workspaces are the scratch of kernels and fused groups, which run one at a
// time.
type workspaces struct {
	kernel []byte
	tiles  [][]byte // one for each worker
}

// lane is what a worker has for itself in parallel loops: the bodies' memory,
// and a pool of its own, on which kernels run in line.
type lane struct {
	dev     *device
	private []byte
	scratch *workspaces
}

func newScratch(pool *kernel.Pool) *workspaces {
	return &workspaces{tiles: make([][]byte, pool.Workers())}
}

// Load implements engine.Driver.
func (d *device) Load(p *plan.Plan) (engine.Code, error) {
	c := &code{dev: d, plan: p, base: make([]unsafe.Pointer, len(p.Buffers)), words: make([]uint32, len(p.Buffers)), scratch: newScratch(d.pool), held: new(int), trace: &tracing{}}
	for k := 0; p.Private > 0 && k < d.pool.Workers(); k++ {
		one := kernel.NewPool(1)
		c.lanes = append(c.lanes, lane{dev: &device{one}, private: c.alloc(p.Private), scratch: newScratch(one)})
	}
	arena := c.alloc(max(p.Arena, 64))
	for i := range p.Buffers {
		b := &p.Buffers[i]
		switch b.Kind {
		case plan.Temp:
			if !b.Private {
				c.base[i] = unsafe.Pointer(&arena[b.Offset])
			}
		case plan.Scalar:
			c.base[i] = unsafe.Pointer(&c.words[i])
		case plan.Const:
			mem := c.alloc(b.Bytes())
			fill(mem, b, b.Element)
			c.base[i] = unsafe.Pointer(&mem[0])
		}
	}
	var err error
	c.steps, err = c.load(p.Steps)
	return c, err
}

func (c *code) load(steps []plan.Step) ([]step, error) {
	var out []step
	for ; len(steps) > 0; steps = steps[1:] {
		of := &steps[0]
		if len(steps) > 1 {
			if f := c.maxPool(steps[0], steps[1]); f != nil {
				out, steps = append(out, step{f, of}), steps[1:]
				continue
			}
		}
		f, err := c.step(steps[0])
		if err != nil {
			return nil, err
		}
		if of.Loop != nil {
			of = nil
		}
		out = append(out, step{f, of})
	}
	return out, nil
}

func (c *code) step(s plan.Step) (func(), error) {
	switch {
	case s.Fused != nil:
		return c.fused(s.Fused)
	case s.Copy != nil:
		return c.copy(s.Copy), nil
	case s.Loop != nil && s.Loop.Parallel:
		return c.parallel(s.Loop)
	case s.Loop != nil:
		return c.loop(s.Loop)
	}
	return c.op(s.Op)
}

// play runs steps one behind the other.
func (c *code) play(steps []step) {
	if c.trace.on {
		c.timed(steps)
		return
	}
	for i := range steps {
		steps[i].run()
	}
}

// BindState implements engine.Code.
func (c *code) BindState(i int, m engine.Memory) { c.base[i] = unsafe.Pointer(&m.(*memory).b[0]) }

// Feed implements engine.Code.
func (c *code) Feed(i int, host []byte) { c.base[i] = unsafe.Pointer(&host[0]) }

// SetScalar implements engine.Code.
func (c *code) SetScalar(i int, bits uint32) { c.words[i] = bits }

// Run implements engine.Code.
func (c *code) Run() error {
	c.play(c.steps)
	return nil
}

// Fetch implements engine.Code.
func (c *code) Fetch(i int) ([]byte, error) { return c.bytes(i), nil }

// Close implements engine.Code.
func (c *code) Close() {}

// bytes views a buffer's memory.
func (c *code) bytes(i int) []byte {
	return unsafe.Slice((*byte)(c.base[i]), c.plan.Buffers[i].Bytes())
}

// slice views a buffer's memory as elements of type T.
func slice[T any](c *code, i int) []T {
	return unsafe.Slice((*T)(c.base[i]), c.plan.Buffers[i].Shape.Size())
}

func (c *code) copy(s *plan.Copy) func() {
	return func() { copy(c.bytes(s.Dst), c.bytes(s.Src)) }
}

func (c *code) loop(l *plan.Loop) (func(), error) {
	steps, err := c.load(l.Steps)
	if err != nil {
		return nil, err
	}
	trips := l.Node.Attrs().Trips
	return func() {
		for i := range trips {
			slice[int32](c, l.Index)[0] = int32(i)
			for _, s := range l.Scan {
				part := c.bytes(s.Part)
				copy(part, c.bytes(s.Whole)[i*len(part):])
			}
			c.play(steps)
			for _, s := range l.Stack {
				part := c.bytes(s.Part)
				copy(c.bytes(s.Whole)[i*len(part):], part)
			}
		}
	}, nil
}

// parallel runs a loop's iterations on the pool. Each worker has the body made
// ready for itself. Inside another such loop they run one after the other.
func (c *code) parallel(l *plan.Loop) (func(), error) {
	trips := l.Node.Attrs().Trips
	if c.inside {
		body, err := c.body(l)
		if err != nil {
			return nil, err
		}
		return func() {
			for i := range trips {
				body(i)
			}
		}, nil
	}
	type worker struct {
		*code
		body func(i int)
		run  int // the run of the loop that the worker entered last
		_    [64]byte
	}
	workers := make([]worker, len(c.lanes))
	for k, at := range c.lanes {
		w := &code{dev: at.dev, plan: c.plan, base: make([]unsafe.Pointer, len(c.base)), scratch: at.scratch, held: c.held, trace: c.trace, inside: true, worker: k + 1}
		for i := range w.base {
			if b := &c.plan.Buffers[i]; b.Kind == plan.Temp && b.Private {
				w.base[i] = unsafe.Pointer(&at.private[b.Offset])
			}
		}
		body, err := w.body(l)
		if err != nil {
			return nil, err
		}
		workers[k] = worker{code: w, body: body}
	}
	run := 0
	iteration := func(k, i int) {
		w := &workers[k]
		if w.run != run {
			w.run = run
			w.enter(c)
		}
		w.body(i)
	}
	return func() {
		run++
		c.dev.pool.Run(trips, iteration)
	}, nil
}

// enter makes a worker see the memory around a loop that begins.
func (c *code) enter(around *code) {
	for i, p := range around.base {
		if p != nil {
			c.base[i] = p
		}
	}
}

// body makes one iteration of a parallel loop ready.
func (c *code) body(l *plan.Loop) (func(i int), error) {
	steps, err := c.load(l.Steps)
	if err != nil {
		return nil, err
	}
	views := slices.Concat(l.Scan, l.Stack)
	return func(i int) {
		slice[int32](c, l.Index)[0] = int32(i)
		for _, v := range views {
			c.base[v.Part] = unsafe.Add(c.base[v.Whole], i*c.plan.Buffers[v.Part].Bytes())
		}
		c.play(steps)
	}, nil
}

// fill writes value(i) to each element of a buffer's memory.
func fill(mem []byte, b *plan.Buffer, value func(int) float64) {
	n := b.Shape.Size()
	p := unsafe.Pointer(&mem[0])
	switch b.DType {
	case graph.F32:
		fillWith(unsafe.Slice((*float32)(p), n), value, func(v float64) float32 { return float32(v) })
	case graph.F64:
		fillWith(unsafe.Slice((*float64)(p), n), value, func(v float64) float64 { return v })
	case graph.I32:
		fillWith(unsafe.Slice((*int32)(p), n), value, func(v float64) int32 { return int32(int64(v)) })
	case graph.U32:
		fillWith(unsafe.Slice((*uint32)(p), n), value, func(v float64) uint32 { return uint32(int64(v)) })
	case graph.BF16:
		fillWith(unsafe.Slice((*kernel.BF16)(p), n), value, func(v float64) kernel.BF16 { return kernel.RoundBF16(float32(v)) })
	case graph.U8, graph.Bool:
		fillWith(mem, value, func(v float64) uint8 { return uint8(int64(v)) })
	}
}

func fillWith[T any](dst []T, value func(int) float64, to func(float64) T) {
	for i := range dst {
		dst[i] = to(value(i))
	}
}

// chunked runs fn over [0,n) in pieces of the given size on the pool. The
// closure is made once; the returned function allocates nothing.
func (c *code) chunked(n, size int, fn func(worker, lo, hi int)) func() {
	chunks := (n + size - 1) / size
	if chunks <= 1 {
		return func() { fn(0, 0, n) }
	}
	piece := func(worker, chunk int) { fn(worker, chunk*size, min(n, (chunk+1)*size)) }
	return func() { c.dev.pool.Run(chunks, piece) }
}
