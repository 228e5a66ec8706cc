package cpu

import (
	"fmt"
	"os"
	"runtime"
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
	return engine.Info{Spec: "cpu", Name: processor(), Detail: fmt.Sprintf("%d threads, kernels %s", threads, kernel.Level())}
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

func (backend) Open(spec string, o engine.DeviceOptions) (engine.Driver, error) {
	if spec != "cpu" {
		return nil, fmt.Errorf("no device %q: the CPU is \"cpu\"", spec)
	}
	if o.Threads < 0 {
		return nil, fmt.Errorf("%d threads: want a positive number, or 0 for all processors", o.Threads)
	}
	if err := kernel.LevelError(); err != nil {
		return nil, err
	}
	return &device{pool: kernel.NewPool(o.Threads)}, nil
}

type device struct{ pool *kernel.Pool }

func (d *device) Info() engine.Info { return info(d.pool.Workers()) }

func (d *device) Target() passes.Target {
	return passes.Target{ChannelsLast: true, PackedFilters: true}
}

func (d *device) Alloc(bytes int) (engine.Memory, error) { return &memory{alloc(bytes)}, nil }

func (d *device) Close() error {
	d.pool.Close()
	return nil
}

// alloc returns zeroed memory that starts on a cache line. It is made of
// words, so that it may be viewed as any element type.
func alloc(bytes int) []byte {
	w := make([]uint64, (bytes+63)/8+8)
	b := engine.Bytes(w)
	skip := -int(uintptr(unsafe.Pointer(&b[0]))) & 63
	return b[skip : skip+bytes : skip+bytes]
}

type memory struct{ b []byte }

func (m *memory) Write(src []byte) error { copy(m.b, src); return nil }
func (m *memory) Read(dst []byte) error  { copy(dst, m.b); return nil }
func (m *memory) Free()                  { m.b = nil }

// code is a plan made ready to run.
type code struct {
	dev   *device
	plan  *plan.Plan
	base  []unsafe.Pointer // of each buffer, all set before the first run
	words []uint32         // the step block
	steps []func()
	ws    []byte // scratch of the matrix kernels, one at a time
}

// Load implements engine.Driver.
func (d *device) Load(p *plan.Plan) (engine.Code, error) {
	c := &code{dev: d, plan: p, base: make([]unsafe.Pointer, len(p.Buffers)), words: make([]uint32, len(p.Buffers))}
	arena := alloc(max(p.Arena, 64))
	for i := range p.Buffers {
		b := &p.Buffers[i]
		switch b.Kind {
		case plan.Temp:
			c.base[i] = unsafe.Pointer(&arena[b.Offset])
		case plan.Scalar:
			c.base[i] = unsafe.Pointer(&c.words[i])
		case plan.Const:
			mem := alloc(b.Bytes())
			fill(mem, b, b.Element)
			c.base[i] = unsafe.Pointer(&mem[0])
		}
	}
	var err error
	c.steps, err = c.load(p.Steps)
	return c, err
}

func (c *code) load(steps []plan.Step) ([]func(), error) {
	var out []func()
	for _, s := range steps {
		var f func()
		var err error
		switch {
		case s.Fused != nil:
			f, err = c.fused(s.Fused)
		case s.Copy != nil:
			f = c.copy(s.Copy)
		case s.Loop != nil:
			f, err = c.loop(s.Loop)
		default:
			f, err = c.op(s.Op)
		}
		if err != nil {
			return nil, err
		}
		out = append(out, f)
	}
	return out, nil
}

// BindState implements engine.Code.
func (c *code) BindState(i int, m engine.Memory) { c.base[i] = unsafe.Pointer(&m.(*memory).b[0]) }

// Feed implements engine.Code.
func (c *code) Feed(i int, host []byte) { c.base[i] = unsafe.Pointer(&host[0]) }

// SetScalar implements engine.Code.
func (c *code) SetScalar(i int, bits uint32) { c.words[i] = bits }

// Run implements engine.Code.
func (c *code) Run() error {
	for _, f := range c.steps {
		f()
	}
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
			for _, f := range steps {
				f()
			}
			for _, s := range l.Stack {
				part := c.bytes(s.Part)
				copy(c.bytes(s.Whole)[i*len(part):], part)
			}
		}
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
		fillWith(unsafe.Slice((*bfloat16)(p), n), value, func(v float64) bfloat16 { return roundBF16(float32(v)) })
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
