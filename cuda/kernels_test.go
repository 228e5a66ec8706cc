//go:build cgo && !windows

package cuda

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"temper/cuda/cache"
	"temper/cuda/emulator"
	"temper/engine/graph"
	"temper/engine/interp"
	"temper/engine/optest"
	"temper/engine/passes"
	"temper/engine/plan"
	"temper/engine/rng"
	"temper/kernels"
)

// runner runs plans that consist of fused groups, operations that EmitOp knows,
// random words, copies and loops of these, a step at a time.
type runner struct {
	rig
	functions map[string]*Function // by name
}

// runs says whether a runner can run a plan's steps, and calls visit with the
// name and source of each generated kernel.
func runs(p *plan.Plan, steps []plan.Step, visit func(name, source string)) bool {
	for _, s := range steps {
		switch {
		case s.Fused != nil:
			visit(named(Emit(p, s.Fused, "NAME")))
		case s.Loop != nil:
			if !runs(p, s.Loop.Steps, visit) {
				return false
			}
		case s.Op != nil && s.Op.Op() != graph.OpRandom:
			text := EmitOp(s.Op, "NAME")
			if text == "" {
				return false
			}
			visit(named(text))
		}
	}
	return true
}

// named gives a kernel the name that follows from its source.
func named(text string) (name, source string) {
	name = "kernel_" + cache.Key(text)
	return name, strings.ReplaceAll(text, "NAME", name)
}

func planOf(t testing.TB, g *graph.Graph) *plan.Plan {
	t.Helper()
	return plan.Build(must(passes.Run(g, passes.Options{}))(t), plan.Options{})
}

// newRunner compiles and loads the kernels of some plans.
func newRunner(t *testing.T, lib *Library, checked bool, plans []*plan.Plan) *runner {
	r := &runner{rig: rig{t: t, dev: must(lib.Device(0))(t)}, functions: map[string]*Function{}}
	r.s = must(r.dev.NewStream())(t)
	r.load("random.cu", kernels.Source("random.cu"), checked, "random_words")
	for i, u := range units(plans) {
		r.load(fmt.Sprintf("kernels%d.cu", i), Unit(u.sources...), checked, u.names...)
	}
	return r
}

// kernelUnit is what is compiled together.
type kernelUnit struct{ names, sources []string }

// units has the different kernels of some plans, a few hundred in each.
func units(plans []*plan.Plan) []*kernelUnit {
	all := []*kernelUnit{{}}
	seen := map[string]bool{}
	for _, p := range plans {
		runs(p, p.Steps, func(name, source string) {
			if seen[name] {
				return
			}
			seen[name] = true
			u := all[len(all)-1]
			if len(u.names) == 400 {
				u = &kernelUnit{}
				all = append(all, u)
			}
			u.names, u.sources = append(u.names, name), append(u.sources, source)
		})
	}
	return all
}

func (r *runner) load(file, text string, checked bool, names ...string) {
	r.t.Helper()
	m := must(r.dev.Load(must(emulator.Compile(file, text, checked))(r.t)))(r.t)
	for _, name := range names {
		r.functions[name] = must(m.Function(name))(r.t)
	}
}

// loaded is a plan with its memory.
type loaded struct {
	*runner
	t    testing.TB // of the case, which r.t is not
	p    *plan.Plan
	base []Ptr
}

// run runs a plan once.
func (r *runner) run(t testing.TB, p *plan.Plan, feed interp.Feed) *interp.Result {
	t.Helper()
	l := &loaded{runner: r, t: t, p: p, base: make([]Ptr, len(p.Buffers))}
	var owned []Ptr
	alloc := func(n int) Ptr {
		owned = append(owned, must(r.dev.Alloc(max(n, 1)))(t))
		return owned[len(owned)-1]
	}
	arena := alloc(p.Arena)
	state := map[string]Ptr{}
	for i := range p.Buffers {
		b := &p.Buffers[i]
		switch b.Kind {
		case plan.Temp:
			l.base[i] = arena + Ptr(b.Offset)
		case plan.Const:
			l.base[i] = alloc(b.Bytes())
			l.ok(r.s.Upload(l.base[i], constant(b).Bytes()))
		default:
			l.base[i] = alloc(b.Bytes())
			l.ok(r.s.Upload(l.base[i], feed[b.Kind.String()+" "+b.Name].Bytes()))
			if b.Kind == plan.State {
				state[b.Name] = l.base[i]
			}
		}
	}
	l.steps(p.Steps)
	result := &interp.Result{Outputs: map[string]*interp.Tensor{}, States: map[string]*interp.Tensor{}}
	fetch := func(from Ptr, t graph.DType, shape graph.Shape) *interp.Tensor {
		b := make([]byte, shape.Size()*t.Size())
		l.ok(r.s.Download(b, from))
		return must(interp.FromBytes(t, shape, b))(l.t)
	}
	for _, o := range p.Outputs {
		result.Outputs[o.Name] = fetch(l.base[o.Buffer], o.DType, o.Shape)
	}
	for _, a := range p.Graph.Assigns() {
		name := a.State.Attrs().Name
		result.States[name] = fetch(state[name], a.State.DType(), a.State.Shape())
	}
	for _, m := range owned {
		l.ok(r.dev.Free(m))
	}
	return result
}

func (l *loaded) ok(err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatal(err)
	}
}

// constant has the elements of a constant's or an iota's buffer.
func constant(b *plan.Buffer) *interp.Tensor {
	if b.Node.Op() == graph.OpConst {
		return interp.New(b.DType, b.Shape, b.Node.Attrs().Values...)
	}
	x := interp.New(b.DType, b.Shape)
	axis := b.Node.Attrs().Axis
	stride, extent := b.Node.Shape().Strides()[axis], b.Node.Dim(axis)
	if len(x.Data) < b.Node.Size() {
		stride = 1 // one period
	}
	for i := range x.Data {
		x.Data[i] = float64(i / stride % extent)
	}
	return x
}

func (l *loaded) steps(steps []plan.Step) {
	for _, s := range steps {
		switch {
		case s.Fused != nil:
			l.fused(s.Fused)
		case s.Copy != nil:
			l.ok(l.s.Copy(l.base[s.Copy.Dst], l.base[s.Copy.Src], l.p.Buffers[s.Copy.Dst].Bytes()))
		case s.Loop != nil:
			l.loop(s.Loop)
		case s.Op.Op() == graph.OpRandom:
			l.random(s.Op)
		default:
			l.op(s.Op)
		}
	}
}

func (l *loaded) launch(f *Function, blocks int, args ...any) {
	k := must(f.Prepare([3]int{blocks, 1, 1}, [3]int{BlockThreads, 1, 1}, 0, args...))(l.t)
	defer k.Close()
	l.ok(l.s.Launch(k))
}

func (l *loaded) fused(f *plan.Fused) {
	name, _ := named(Emit(l.p, f, "NAME"))
	var args []any
	reads, writes := Args(l.p, f)
	for _, i := range reads {
		if !slices.Contains(writes, i) {
			args = append(args, l.base[i])
		}
	}
	for _, i := range writes {
		args = append(args, l.base[i])
	}
	l.launch(l.functions[name], min(Blocks(f), 4*l.dev.Info.SMs), append(args, uint32(f.Space.Size()))...)
}

func (l *loaded) op(n *graph.Node) {
	name, _ := named(EmitOp(n, "NAME"))
	var args []any
	for _, in := range n.Ins() {
		args = append(args, l.base[l.p.Buffer(in)])
	}
	items, blocks := Items(n)
	l.launch(l.functions[name], min(blocks, 4*l.dev.Info.SMs), append(args, l.base[l.p.Buffer(n)], uint32(items))...)
}

func (l *loaded) random(n *graph.Node) {
	at := func(n *graph.Node) Ptr { return l.base[l.p.Buffer(n)] }
	each := n.Size() / n.Dim(0)
	threads := n.Dim(0) * ((each + 3) / 4)
	l.launch(l.functions["random_words"], min((threads+BlockThreads-1)/BlockThreads, 4*l.dev.Info.SMs),
		at(n.In(0)), at(n.In(1)), at(n.In(2)), at(n.In(3)), at(n), rng.Site(n.Attrs().Name), uint32(each), uint32(threads))
}

func (l *loaded) loop(loop *plan.Loop) {
	for i := range loop.Node.Attrs().Trips {
		l.ok(l.s.Upload(l.base[loop.Index], binary.LittleEndian.AppendUint32(nil, uint32(i))))
		for _, s := range loop.Scan {
			n := l.p.Buffers[s.Part].Bytes()
			l.ok(l.s.Copy(l.base[s.Part], l.base[s.Whole]+Ptr(i*n), n))
		}
		l.steps(loop.Steps)
		for _, s := range loop.Stack {
			n := l.p.Buffers[s.Part].Bytes()
			l.ok(l.s.Copy(l.base[s.Whole]+Ptr(i*n), l.base[s.Part], n))
		}
	}
}

// goLog are cases that the reference interpreter gets wrong: on amd64, Go's
// math.Log and what is built on it take subnormal numbers for larger ones.
var goLog = map[string]bool{"log/special/f64": true, "pow/special/f64": true}

// kernelCase is an op case whose plan a runner can run.
type kernelCase struct {
	name string
	*optest.Case
	dt   graph.DType
	g    *graph.Graph
	plan *plan.Plan
}

// kernelCases lists the op cases that keep accepts, and how many there are.
func kernelCases(t *testing.T, keep func(c *kernelCase) bool) (cases []*kernelCase, plans []*plan.Plan, all int) {
	for _, c := range optest.Cases() {
		for _, dt := range c.Types {
			all++
			e := &kernelCase{name: c.Name + "/" + dt.String(), Case: c, dt: dt, g: must(c.Graph(dt))(t)}
			e.plan = planOf(t, e.g)
			if runs(e.plan, e.plan.Steps, func(_, _ string) {}) && !goLog[e.name] && keep(e) {
				cases, plans = append(cases, e), append(plans, e.plan)
			}
		}
	}
	return cases, plans, all
}

// agree compares the kernels that Emit writes with the reference interpreter.
func agree(t *testing.T, r *runner, cases []*kernelCase) {
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			feed := c.Feed(c.dt)
			want := must(interp.RunRounded(c.g, feed))(t)
			if err := c.Tol.CompareResults(want, r.run(t, c.plan, feed)); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestKernels runs every op case whose plan the runner can run.
func TestKernels(t *testing.T) {
	lib := emulated(t, nil)
	cases, plans, all := kernelCases(t, func(*kernelCase) bool { return true })
	if len(cases) < all/2 {
		t.Errorf("%d of %d cases can be run: half of them should", len(cases), all)
	}
	t.Logf("%d of %d cases", len(cases), all)
	agree(t, newRunner(t, lib, false, plans), cases)
}

// TestKernelsChecked runs the small ones of f32 in checked mode: the
// kernels must be free of races and read nothing that is not there.
func TestKernelsChecked(t *testing.T) {
	lib := emulated(t, map[string]int{"checked": 1, "seed": 1})
	cases, plans, _ := kernelCases(t, func(c *kernelCase) bool {
		bytes := 0
		for i := range c.plan.Buffers {
			bytes += c.plan.Buffers[i].Bytes()
		}
		return c.dt == graph.F32 && bytes < 1<<18
	})
	agree(t, newRunner(t, lib, true, plans), cases)
}

// TestKernelsCompile compiles kernels of TestKernels for a GPU. Those of
// gradients and of f64 are the same but for indices and types.
func TestKernelsCompile(t *testing.T) {
	c := nvrtc(t)
	_, plans, _ := kernelCases(t, func(c *kernelCase) bool { return c.dt != graph.F64 && !strings.HasSuffix(c.Name, "/gradient") })
	for i, u := range units(plans) {
		_, resources, err := c.Compile(fmt.Sprintf("kernels%d.cu", i), Unit(u.sources...), "sm_90")
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range u.names {
			if r := resources[name]; r.Registers == 0 || r.Spills != 0 {
				t.Errorf("%s: %d registers, %d bytes of spills", name, r.Registers, r.Spills)
			}
		}
	}
}

// TestNormalBits compares words and normals with package rng to the bit.
func TestNormalBits(t *testing.T) {
	lib := emulated(t, nil)
	g := graph.New("normals")
	draw := graph.Draw{Seed: g.Scalar("seed", graph.U32), IDs: g.Input("ids", graph.U32, 5), Step: g.Scalar("step", graph.U32), Iter: g.Scalar("iter", graph.U32)}
	words := draw.Words("site", 10007)
	g.Output("words", words)
	g.Output("normal", g.Make(graph.OpNormal, graph.Attrs{}, words))
	g.Output("uniform", draw.Uniform("site", 10007))
	p := planOf(t, g)
	ids := []float64{0, 1, 77, 1 << 31, math.MaxUint32}
	got := newRunner(t, lib, false, []*plan.Plan{p}).run(t, p, interp.Feed{
		"scalar seed": interp.New(graph.U32, nil, 3), "input ids": interp.New(graph.U32, graph.Shape{5}, ids...),
		"scalar step": interp.New(graph.U32, nil, 9), "scalar iter": interp.New(graph.U32, nil, 2),
	})
	for i := range 5 * 10007 {
		w := rng.Draw{Seed: 3, Site: rng.Site("site"), ID: uint32(ids[i/10007]), Step: 9, Iter: 2}.Word(uint32(i % 10007))
		for name, want := range map[string]float64{"words": float64(w), "normal": float64(rng.Normal(w)), "uniform": float64(rng.Uniform(w))} {
			if v := got.Outputs[name].Data[i]; math.Float64bits(v) != math.Float64bits(want) {
				t.Fatalf("%s %d is %v, want %v", name, i, v, want)
			}
		}
	}
}

// TestPGD runs ten ascent steps of a small convolutional network in checked
// mode. A gradient that is all but zero may have either sign.
func TestPGD(t *testing.T) {
	lib := emulated(t, map[string]int{"checked": 1})
	g := pgdStep()
	p, feed := planOf(t, g), interp.Feed{}
	s := rng.NewStream(1, "TestPGD", 0)
	for _, n := range g.Root().Nodes() {
		switch name := n.Attrs().Name; n.Op() {
		case graph.OpInput, graph.OpState, graph.OpScalar:
			x := interp.New(n.DType(), n.Shape())
			for i := range x.Data {
				switch {
				case name == "y":
					x.Data[i] = float64(s.IntN(10))
				case name == "eps":
					x.Data[i] = float64(float32(0.1))
				case name == "alpha":
					x.Data[i] = float64(float32(0.02))
				case n.Op() == graph.OpInput:
					x.Data[i] = float64(s.Uniform())
				default:
					x.Data[i] = float64(s.Uniform() - 0.5)
				}
			}
			feed[interp.Key(n)] = x
		}
	}
	want := must(interp.Run(g, feed))(t).Outputs["x_adv"]
	got := newRunner(t, lib, true, []*plan.Plan{p}).run(t, p, feed).Outputs["x_adv"]
	differ, moved := 0, 0
	for i, w := range want.Data {
		if math.Abs(got.Data[i]-w) > 1e-5 {
			differ++
		}
		if w != feed["input x"].Data[i] {
			moved++
		}
	}
	if n := len(want.Data); differ > n/1000 || moved < n/2 {
		t.Errorf("of %d pixels %d differ and %d were moved", n, differ, moved)
	}
}
