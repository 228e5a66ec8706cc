package engine

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"gorgonia.org/tensor"

	"temper/engine/graph"
	"temper/engine/passes"
	"temper/engine/plan"
)

// Options change how a graph is compiled. The zero value is the reference.
type Options struct {
	// Precision is that of float32 products. Programs of different precisions
	// may share a device and its state.
	Precision graph.Precision
	// The rest is for listings and for tests that compare. A Passes.Target that
	// is not zero replaces the device's own, Precision included.
	Passes passes.Options
	Plan   plan.Options
}

// Executable is a compiled graph, ready to run again and again. It is used by
// one goroutine at a time; a run after the first few allocates nothing.
type Executable struct {
	name    string
	plan    *plan.Plan
	code    Code
	inputs  map[string]*port
	scalars map[string]*port
	outputs map[string]plan.Output
	fed     int
	runs    int
	said    [2]map[string]float64 // the numbers of the latest runs, where Code is not Lagging
}

// port is an input or a scalar as the graph declared it. A dead one has no
// buffer and ignores what it is given.
type port struct {
	dtype   graph.DType
	shape   graph.Shape
	buffers []int
	fed     bool
}

// Compile takes a graph through the passes and the plan and loads it on the
// device. State that the graph names is found in st or made there as zeros.
func (d *Device) Compile(g *graph.Graph, st *State, o Options) (*Executable, error) {
	if err := g.Err(); err != nil {
		return nil, fmt.Errorf("graph %q: %w", g.Name(), err)
	}
	if o.Passes.Target == (passes.Target{}) {
		var err error
		if o.Passes.Target, err = d.Target(o.Precision); err != nil {
			return nil, err
		}
	}
	final, err := passes.Run(g, o.Passes)
	if err != nil {
		return nil, err
	}
	e := &Executable{name: g.Name(), plan: plan.Build(final, o.Passes.Target.Plan(o.Plan)),
		inputs: map[string]*port{}, scalars: map[string]*port{}, outputs: map[string]plan.Output{}}
	if err := e.declare(g.Root(), st); err != nil { // first: what is left of the memory is the program's
		return nil, fmt.Errorf("program %q: %w", g.Name(), err)
	}
	if e.code, err = d.Load(e.plan); err != nil {
		return nil, fmt.Errorf("program %q: %w", g.Name(), err)
	}
	for i, b := range e.plan.Buffers {
		switch b.Kind {
		case plan.Input:
			e.inputs[b.Name].buffers = append(e.inputs[b.Name].buffers, i)
		case plan.Scalar:
			e.scalars[b.Name].buffers = append(e.scalars[b.Name].buffers, i)
		case plan.State:
			e.code.BindState(i, st.named[b.Name].mem)
		}
	}
	for _, out := range e.plan.Outputs {
		e.outputs[out.Name] = out
	}
	return e, nil
}

// declare notes the inputs and scalars of the graph as built, and finds or makes
// its states: what the passes found dead may be fed and set all the same.
func (e *Executable) declare(b *graph.Block, st *State) error {
	for _, n := range b.Nodes() {
		var err error
		switch n.Op() {
		case graph.OpInput:
			e.inputs[n.Attrs().Name] = &port{dtype: n.DType(), shape: n.Shape()}
		case graph.OpScalar:
			e.scalars[n.Attrs().Name] = &port{dtype: n.DType(), shape: n.Shape()}
		case graph.OpState:
			_, err = st.declare(n.Attrs().Name, n.DType(), n.Shape())
		case graph.OpLoop:
			err = e.declare(n.Body(), st)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Name is the graph's name.
func (e *Executable) Name() string { return e.name }

// Plan is what the executable runs.
func (e *Executable) Plan() *plan.Plan { return e.plan }

// Memory is what the program holds on the host or the device beside state, in
// bytes: the plan's arena, the workers' private memory, constants and kernels'
// scratch. Only the plan's where the back end does not count.
func (e *Executable) Memory() int {
	if c, ok := e.code.(interface{ Memory() int }); ok {
		return c.Memory()
	}
	return e.plan.Arena
}

func (e *Executable) input(name string) (*port, error) {
	p := e.inputs[name]
	if p == nil {
		return nil, fmt.Errorf("program %q has no input %q: it has %s", e.name, name, keys(e.inputs))
	}
	return p, nil
}

func keys[V any](m map[string]V) string {
	var out []string
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

// FeedBytes binds host memory, row-major and little-endian, to an input for the
// coming runs. Nothing is copied on a CPU, while a GPU starts to fetch it at
// once: the memory must stay as it is until Run returns, and new content must
// be fed again.
func (e *Executable) FeedBytes(name string, b []byte) error {
	p, err := e.input(name)
	if err != nil {
		return err
	}
	if want := p.shape.Size() * p.dtype.Size(); len(b) != want {
		return fmt.Errorf("input %q, %v%v, takes %d bytes, not %d", name, p.dtype, p.shape, want, len(b))
	}
	for _, i := range p.buffers {
		e.code.Feed(i, b)
	}
	p.fed = true
	return nil
}

// Feed is FeedBytes for a tensor.
func (e *Executable) Feed(name string, t *tensor.Dense) error {
	p, err := e.input(name)
	if err != nil {
		return err
	}
	b, err := DenseBytes(t, p.dtype, p.shape)
	if err != nil {
		return fmt.Errorf("input %q: %w", name, err)
	}
	return e.FeedBytes(name, b)
}

// Set writes an entry of the step block: it holds from the next run on, and
// nothing is compiled again.
func (e *Executable) Set(name string, v float64) error {
	p := e.scalars[name]
	if p == nil {
		return fmt.Errorf("program %q has no step scalar %q: it has %s", e.name, name, keys(e.scalars))
	}
	bits, err := scalarBits(p.dtype, v)
	if err != nil {
		return fmt.Errorf("step scalar %q: %w", name, err)
	}
	for _, i := range p.buffers {
		e.code.SetScalar(i, bits)
	}
	p.fed = true
	return nil
}

func scalarBits(t graph.DType, v float64) (uint32, error) {
	switch {
	case t == graph.F32:
		return math.Float32bits(float32(v)), nil
	case v != math.Trunc(v) || t == graph.U32 && (v < 0 || v > math.MaxUint32) || t == graph.I32 && math.Abs(v) > math.MaxInt32:
		return 0, fmt.Errorf("%v is no %v", v, t)
	case t == graph.U32:
		return uint32(v), nil
	}
	return uint32(int32(v)), nil
}

// Scalars lists the names of the step block's entries.
func (e *Executable) Scalars() []string {
	var out []string
	for k := range e.scalars {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// Run runs the program once: it reads inputs, step block and state, computes
// the outputs, and replaces the state that the graph assigns.
func (e *Executable) Run() error {
	if err := e.checkFed(); err != nil {
		return err
	}
	e.runs++
	return e.code.Run()
}

// checkFed reports what was never fed, until everything was once.
func (e *Executable) checkFed() error {
	if e.fed == 0 {
		for _, m := range []map[string]*port{e.inputs, e.scalars} {
			for name, p := range m {
				if !p.fed && len(p.buffers) > 0 {
					return fmt.Errorf("program %q: %q was never fed", e.name, name)
				}
			}
		}
		e.fed = 1
	}
	return nil
}

func (e *Executable) output(name string) (plan.Output, error) {
	o, ok := e.outputs[name]
	if !ok {
		return o, fmt.Errorf("program %q has no output %q: it has %s", e.name, name, keys(e.outputs))
	}
	return o, nil
}

// FetchBytes views an output of the last run; the next run may change it.
func (e *Executable) FetchBytes(name string) ([]byte, error) {
	o, err := e.output(name)
	if err != nil {
		return nil, err
	}
	return e.code.Fetch(o.Buffer)
}

// Fetch views an output of the last run as a tensor; the next run may change
// it. A scalar is a copy.
func (e *Executable) Fetch(name string) (*tensor.Dense, error) {
	o, err := e.output(name)
	if err != nil {
		return nil, err
	}
	b, err := e.code.Fetch(o.Buffer)
	if err != nil {
		return nil, err
	}
	return Dense(o.DType, o.Shape, b)
}

// Scalar reads an output of one element as a number.
func (e *Executable) Scalar(name string) (float64, error) {
	o, err := e.number(name)
	if err != nil {
		return 0, err
	}
	b, err := e.code.Fetch(o.Buffer)
	if err != nil {
		return 0, err
	}
	return scalar(o.DType, b), nil
}

// number is an output of one element.
func (e *Executable) number(name string) (plan.Output, error) {
	o, err := e.output(name)
	if err == nil && o.Shape.Size() != 1 {
		err = fmt.Errorf("output %q is %v%v, not one number", name, o.DType, o.Shape)
	}
	return o, err
}

// scalar reads an element.
func scalar(t graph.DType, b []byte) float64 {
	switch t {
	case graph.F32:
		return float64(view[float32](b)[0])
	case graph.F64:
		return view[float64](b)[0]
	case graph.BF16:
		return float64(math.Float32frombits(uint32(view[uint16](b)[0]) << 16))
	case graph.I32:
		return float64(view[int32](b)[0])
	case graph.U32:
		return float64(view[uint32](b)[0])
	}
	return float64(b[0])
}

// Close frees what the program holds on its device. State stays. A closed program
// cannot be run or asked any more; to close it again does nothing.
func (e *Executable) Close() {
	e.code.Close()
	e.code = closed(e.name)
}

// closed is the Code of a closed program.
type closed string

func (c closed) err() error                         { return fmt.Errorf("program %q is closed", string(c)) }
func (closed) BindState(int, Memory)                {}
func (closed) Feed(int, []byte)                     {}
func (closed) SetScalar(int, uint32)                {}
func (c closed) Run() error                         { return c.err() }
func (c closed) Fetch(int) ([]byte, error)          { return nil, c.err() }
func (c closed) FetchPast(int, int) ([]byte, error) { return nil, c.err() }
func (closed) Close()                               {}

// Program is one computation for any batch size: it is compiled for a size
// when that size is first asked for, and all sizes share one state and one
// step block.
type Program struct {
	dev   *Device
	state *State
	opts  Options
	build func(batch int) (*graph.Graph, error)
	sizes map[int]*Executable
	block map[string]float64
}

// NewProgram makes a program whose graph for a batch size build returns.
func (d *Device) NewProgram(st *State, build func(batch int) (*graph.Graph, error), o Options) *Program {
	return &Program{dev: d, state: st, opts: o, build: build, sizes: map[int]*Executable{}, block: map[string]float64{}}
}

// For is the program for a batch size.
func (p *Program) For(batch int) (*Executable, error) {
	if e := p.sizes[batch]; e != nil {
		return e, nil
	}
	g, err := p.build(batch)
	if err != nil {
		return nil, err
	}
	e, err := p.dev.Compile(g, p.state, p.opts)
	if err != nil {
		return nil, err
	}
	for name, v := range p.block {
		if err := e.Set(name, v); err != nil {
			e.Close()
			return nil, err
		}
	}
	p.sizes[batch] = e
	return e, nil
}

// Set writes an entry of the step block for all sizes.
func (p *Program) Set(name string, v float64) error {
	p.block[name] = v
	for _, e := range p.sizes {
		if err := e.Set(name, v); err != nil {
			return err
		}
	}
	return nil
}

// Close frees all sizes. State stays.
func (p *Program) Close() {
	for _, e := range p.sizes {
		e.Close()
	}
	p.sizes = map[int]*Executable{}
}
