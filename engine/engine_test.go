package engine_test

import (
	"runtime"
	"strings"
	"testing"

	"temper/engine"
	"temper/engine/autodiff"
	_ "temper/engine/cpu"
	"temper/engine/graph"
)

func openCPU(t *testing.T, threads int) *engine.Device {
	t.Helper()
	d, err := engine.Open("cpu", engine.DeviceOptions{Threads: threads})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// trainStep is a training step with everything in it: images as bytes, a random
// start, an ascent loop, batch statistics, momentum.
func trainStep(batch int) (*graph.Graph, error) {
	g := graph.New("train")
	x8, y := g.Input("x", graph.U8, batch, 1, 8, 8), g.Input("y", graph.I32, batch)
	draw := graph.Draw{Seed: g.Scalar("seed", graph.U32), IDs: g.Input("ids", graph.U32, batch),
		Step: g.Scalar("step", graph.U32), Iter: g.Const(graph.U32, []float64{0})}
	eps, lr := g.Scalar("eps", graph.F32), g.Scalar("lr", graph.F32)
	w, v := g.State("w", graph.F32, 4, 1, 3, 3), g.State("v", graph.F32, 4, 1, 3, 3)
	fc := g.State("fc", graph.F32, 10, 4)
	forward := func(x *graph.Node) *graph.Node {
		h := x.Conv2D(w, graph.Square(1, 1))
		mean := h.MeanKeep(0, 2, 3)
		variance := h.Sub(mean).Square().MeanKeep(0, 2, 3)
		h = h.Sub(mean).Div(variance.AddC(1e-5).Sqrt()).ReLU().MaxPool([2]int{2, 2}, graph.Square(2, 0))
		logits := graph.MatMul(h.Mean(2, 3), fc, false, true)
		return logits.Exp().Sum(1).Log().Sub(logits.Gather(1, y.Expand(1)).Reshape(batch))
	}
	x := x8.Convert(graph.F32).DivC(255)
	start := x.Add(draw.Uniform("start", 1, 8, 8).MulC(2).SubC(1).Mul(eps)).ClampC(0, 1)
	adv, _ := g.Loop(3, []*graph.Node{start}, nil, func(_ *graph.Node, c, _ []*graph.Node) (next, _ []*graph.Node) {
		dx := autodiff.Grad(forward(c[0]).Sum(), c[0])[0]
		return []*graph.Node{c[0].Add(dx.Sign().Mul(eps)).Clamp(x.Sub(eps), x.Add(eps)).ClampC(0, 1)}, nil
	})
	loss := forward(adv[0].StopGradient()).Mean()
	grads := autodiff.Grad(loss, w, fc)
	moved := v.MulC(0.9).Add(grads[0])
	g.Assign(v, moved)
	g.Assign(w, w.Sub(moved.Mul(lr)))
	g.Assign(fc, fc.Sub(grads[1].Mul(lr)))
	g.Output("loss", loss)
	return g, nil
}

// fill gives a program inputs and state that depend on nothing but their size.
func fill(t *testing.T, e *engine.Executable, st *engine.State, batch int) {
	t.Helper()
	x, y, ids := make([]uint8, batch*64), make([]int32, batch), make([]uint32, batch)
	for i := range x {
		x[i] = uint8(i * 7)
	}
	for i := range y {
		y[i], ids[i] = int32(i%10), uint32(i)
	}
	must(t, e.FeedBytes("x", x))
	must(t, e.FeedBytes("y", engine.Bytes(y)))
	must(t, e.FeedBytes("ids", engine.Bytes(ids)))
	for name, v := range map[string]float64{"seed": 1, "step": 0, "eps": 0.1, "lr": 0.1} {
		must(t, e.Set(name, v))
	}
	for _, name := range st.Names() {
		b, err := st.Bytes(name)
		must(t, err)
		f := make([]float32, len(b)/4)
		for i := range f {
			f[i] = float32(i%5)/5 - 0.4
		}
		must(t, st.SetBytes(name, engine.Bytes(f)))
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func scalar(t *testing.T, e *engine.Executable, name string) float64 {
	t.Helper()
	v, err := e.Scalar(name)
	must(t, err)
	return v
}

// run compiles the training step, runs it some times, and returns the last
// loss and the final weights.
func run(t *testing.T, threads, steps int, o engine.Options) (float64, string) {
	t.Helper()
	d := openCPU(t, threads)
	st := d.NewState()
	g, _ := trainStep(16)
	e, err := d.Compile(g, st, o)
	must(t, err)
	defer e.Close()
	fill(t, e, st, 16)
	for i := range steps {
		must(t, e.Set("step", float64(i)))
		must(t, e.Run())
	}
	var all string
	for _, name := range st.Names() {
		b, err := st.Bytes(name)
		must(t, err)
		all += name + string(b)
	}
	return scalar(t, e, "loss"), all
}

func TestStepAllocatesNothing(t *testing.T) {
	for _, threads := range []int{1, 2} {
		d := openCPU(t, threads)
		st := d.NewState()
		g, _ := trainStep(16)
		e, err := d.Compile(g, st, engine.Options{})
		must(t, err)
		fill(t, e, st, 16)
		must(t, e.Run())
		step := 0.0
		if n := testing.AllocsPerRun(20, func() {
			step++
			if e.Set("step", step) != nil || e.Run() != nil {
				t.Error("run failed")
			}
			if _, err := e.Scalar("loss"); err != nil {
				t.Error(err)
			}
		}); n != 0 {
			t.Errorf("%d threads: %v allocations a step", threads, n)
		}
	}
}

func TestWorkersYieldOnOneProcessor(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	one, bits := run(t, 2, 3, engine.Options{})
	runtime.GOMAXPROCS(2)
	two, bits2 := run(t, 2, 3, engine.Options{})
	if one != two || bits != bits2 {
		t.Error("the number of processors changes the result")
	}
}

func TestSameBitsForAnyWorkers(t *testing.T) {
	loss, bits := run(t, 1, 5, engine.Options{})
	for _, threads := range []int{2, 3, 7} {
		if l, b := run(t, threads, 5, engine.Options{}); l != loss || b != bits {
			t.Errorf("%d workers end elsewhere than one", threads)
		}
	}
}

// A change of any entry of the step block takes effect in the next run of the
// same compiled program.
func TestStepBlock(t *testing.T) {
	d := openCPU(t, 1)
	st := d.NewState()
	g, _ := trainStep(16)
	e, err := d.Compile(g, st, engine.Options{})
	must(t, err)
	for name, v := range map[string]float64{"seed": 2, "step": 1, "eps": 0.05, "lr": 0.2} {
		fill(t, e, st, 16)
		must(t, e.Run())
		before, err := st.Bytes("w")
		must(t, err)
		fill(t, e, st, 16)
		must(t, e.Set(name, v))
		must(t, e.Run())
		after, err := st.Bytes("w")
		must(t, err)
		if string(before) == string(after) {
			t.Errorf("changing %s changes nothing", name)
		}
	}
}

func TestProgramSizesShareState(t *testing.T) {
	d := openCPU(t, 1)
	st := d.NewState()
	built := map[int]int{}
	p := d.NewProgram(st, func(n int) (*graph.Graph, error) { built[n]++; return trainStep(n) }, engine.Options{})
	defer p.Close()
	for name, v := range map[string]float64{"seed": 1, "step": 0, "eps": 0.1, "lr": 0.1} {
		must(t, p.Set(name, v)) // before any size exists
	}
	for range 2 {
		for _, n := range []int{16, 5} {
			e, err := p.For(n)
			must(t, err)
			before, err := st.Bytes("fc")
			must(t, err)
			fill(t, e, st, n)
			must(t, p.Set("lr", 0.3))
			must(t, e.Run())
			after, err := st.Bytes("fc")
			must(t, err)
			if string(before) == string(after) {
				t.Errorf("batch of %d does not train the shared state", n)
			}
		}
	}
	if built[16] != 1 || built[5] != 1 {
		t.Errorf("built %v: want each size once", built)
	}
}

func TestErrors(t *testing.T) {
	d := openCPU(t, 1)
	st := d.NewState()
	g, _ := trainStep(4)
	e, err := d.Compile(g, st, engine.Options{})
	must(t, err)
	bad := graph.New("bad")
	bad.Output("y", bad.Input("x", graph.F32, 2).Add(bad.Input("z", graph.F32, 3)))
	_, compileErr := d.Compile(bad, st, engine.Options{})
	other := graph.New("other")
	other.Output("y", other.State("w", graph.F32, 7))
	_, stateErr := d.Compile(other, st, engine.Options{})
	_, openErr := engine.Open("tpu:0", engine.DeviceOptions{})
	_, threadsErr := engine.Open("cpu", engine.DeviceOptions{Threads: -1})
	_, outErr := e.Scalar("accuracy")
	for name, c := range map[string]struct {
		err  error
		want string
	}{
		"not fed":     {e.Run(), "was never fed"},
		"no input":    {e.FeedBytes("image", nil), `no input "image": it has ids, x, y`},
		"wrong size":  {e.FeedBytes("y", make([]byte, 3)), `input "y", i32[4], takes 16 bytes, not 3`},
		"no scalar":   {e.Set("momentum", 0.9), "no step scalar \"momentum\": it has eps, lr, seed, step"},
		"bad scalar":  {e.Set("step", -1), "-1 is no u32"},
		"no output":   {outErr, `no output "accuracy"`},
		"graph error": {compileErr, "engine_test.go:"},
		"state type":  {stateErr, `state "w" is f32[4,1,3,3]; this program wants f32[7]`},
		"no device":   {openErr, `no device "tpu:0": this build knows auto, cpu`},
		"threads":     {threadsErr, "-1 threads"},
		"no state":    {st.SetBytes("nope", nil), `no state "nope"`},
		"state size":  {st.SetBytes("w", nil), `state "w" takes 144 bytes, not 0`},
	} {
		if c.err == nil || !strings.Contains(c.err.Error(), c.want) {
			t.Errorf("%s: error %v does not say %q", name, c.err, c.want)
		}
	}
}

func TestOpenAuto(t *testing.T) {
	d, err := engine.Open("auto", engine.DeviceOptions{})
	must(t, err)
	defer d.Close()
	if d.Info().Spec != "cpu" || d.Why == "" {
		t.Errorf("auto opened %q because %q", d.Info().Spec, d.Why)
	}
}
