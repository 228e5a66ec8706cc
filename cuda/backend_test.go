//go:build cgo && !windows

package cuda

import (
	"bytes"
	"flag"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"temper/cuda/emulator"
	"temper/engine"
	"temper/engine/autodiff"
	_ "temper/engine/cpu"
	"temper/engine/graph"
	"temper/engine/interp"
	"temper/engine/optest"
	"temper/engine/passes"
	"temper/engine/plan"
)

// trainStep is a training step with everything in it that the back end treats
// in its own way: bytes as input, draws, an ascent loop that scans step sizes
// and stacks losses, per-step scalars, state that is replaced. The ascent is
// smooth: a sign would amplify the last bit of a gradient near zero.
func trainStep(batch int) *graph.Graph {
	g := graph.New("train")
	x8, y := g.Input("x", graph.U8, batch, 1, 6, 6), g.Input("y", graph.I32, batch)
	draw := graph.Draw{Seed: g.Scalar("seed", graph.U32), IDs: g.Input("ids", graph.U32, batch),
		Step: g.Scalar("step", graph.U32), Iter: g.Const(graph.U32, []float64{0})}
	eps, alpha, lr := g.Scalar("eps", graph.F32), g.Scalar("alpha", graph.F32), g.Scalar("lr", graph.F32)
	w, v, fc := g.State("w", graph.F32, 3, 1, 3, 3), g.State("v", graph.F32, 3, 1, 3, 3), g.State("fc", graph.F32, 5, 3)
	losses := func(x *graph.Node) *graph.Node {
		logits := graph.MatMul(x.Conv2D(w, graph.Square(1, 1)).ReLU().Mean(2, 3), fc, false, true)
		return logits.Exp().Sum(1).Log().Sub(logits.Gather(1, y.Expand(1)).Reshape(batch))
	}
	x := x8.Convert(graph.F32).DivC(255)
	start := x.Add(draw.Uniform("start", 1, 6, 6).MulC(2).SubC(1).Mul(eps)).ClampC(0, 1)
	decay := g.Const(graph.F32, []float64{1, 0.5, 0.25}, 3)
	adv, curves := g.Loop(3, []*graph.Node{start}, []*graph.Node{decay}, func(_ *graph.Node, c, s []*graph.Node) (next, out []*graph.Node) {
		each := losses(c[0])
		dx := autodiff.Grad(each.Sum(), c[0])[0]
		return []*graph.Node{c[0].Add(dx.MulC(50).Tanh().Mul(alpha.Mul(s[0]))).Clamp(x.Sub(eps), x.Add(eps)).ClampC(0, 1)}, []*graph.Node{each}
	})
	loss := losses(adv[0].StopGradient()).Mean()
	grads := autodiff.Grad(loss, w, fc)
	moved := v.MulC(0.9).Add(grads[0])
	g.Assign(v, moved)
	g.Assign(w, w.Sub(moved.Mul(lr)))
	g.Assign(fc, fc.Sub(grads[1].Mul(lr)))
	g.Output("loss", loss)
	g.Output("losses", curves[0])
	g.Output("x_adv", adv[0])
	return g
}

// job is a compiled trainStep.
type job struct {
	t  testing.TB
	e  *engine.Executable
	st *engine.State
}

const jobBatch = 8

func newJob(t testing.TB, dev *engine.Device) *job {
	t.Helper()
	st := dev.NewState()
	j := &job{t, must(dev.Compile(trainStep(jobBatch), st, engine.Options{}))(t), st}
	t.Cleanup(func() { j.e.Close(); st.Free() })
	j.begin()
	return j
}

// begin gives the program its state, batch number 0, and the step block.
func (j *job) begin() {
	j.t.Helper()
	for _, name := range j.st.Names() {
		f := make([]float32, len(must(j.st.Bytes(name))(j.t))/4)
		for i := range f {
			f[i] = float32(i%5)/5 - 0.4
		}
		j.ok(j.st.SetBytes(name, engine.Bytes(f)))
	}
	j.feed(0)
	for name, v := range map[string]float64{"seed": 1, "step": 0, "eps": 0.1, "alpha": 0.05, "lr": 0.1} {
		j.ok(j.e.Set(name, v))
	}
}

func (j *job) ok(err error) {
	j.t.Helper()
	if err != nil {
		j.t.Fatal(err)
	}
}

// feed gives the program batch number n, in memory that it then overwrites
// after the run.
func (j *job) feed(n int) (x []uint8) {
	j.t.Helper()
	x, y, ids := make([]uint8, jobBatch*36), make([]int32, jobBatch), make([]uint32, jobBatch)
	for i := range x {
		x[i] = uint8((i + 11*n) * 7)
	}
	for i := range y {
		y[i], ids[i] = int32((i+n)%5), uint32(i+jobBatch*n)
	}
	j.ok(first(j.e.FeedBytes("x", x), j.e.FeedBytes("y", engine.Bytes(y)), j.e.FeedBytes("ids", engine.Bytes(ids))))
	return x
}

// results are the outputs of the last run and the state.
func (j *job) results() map[string][]float32 {
	j.t.Helper()
	all := map[string][]float32{}
	view := func(name string, b []byte) {
		f := make([]float32, len(b)/4)
		copy(bytesOf(f), b)
		all[name] = f
	}
	for _, name := range []string{"loss", "losses", "x_adv"} {
		view(name, must(j.e.FetchBytes(name))(j.t))
	}
	for _, name := range j.st.Names() {
		view(name, must(j.st.Bytes(name))(j.t))
	}
	return all
}

// near compares results within a few units of float32's rounding of the largest.
func near(t *testing.T, what string, want, got map[string][]float32) {
	t.Helper()
	for name, w := range want {
		largest := 0.0
		for _, v := range w {
			largest = max(largest, math.Abs(float64(v)))
		}
		for i, v := range w {
			if e := math.Abs(float64(got[name][i] - v)); !(e <= 1e-5*largest) {
				t.Fatalf("%s: %s %d is %v, on the CPU %v", what, name, i, got[name][i], v)
			}
		}
	}
}

func cpu(t testing.TB) *engine.Device {
	t.Helper()
	dev := must(engine.Open("cpu", engine.DeviceOptions{Threads: 1}))(t)
	t.Cleanup(func() { dev.Close() })
	return dev
}

// Every change of a step scalar takes effect in the next run, and nothing is
// compiled or instantiated for it.
func TestStepBlock(t *testing.T) {
	dev, g := openEmulator(t, "")
	want, got := newJob(t, cpu(t)), newJob(t, dev)
	compiled := g.compiled
	if compiled == 0 {
		t.Error("nothing was compiled")
	}
	last := float32(0)
	for i, c := range []struct {
		name string
		v    float64
	}{{"step", 0}, {"lr", 0.5}, {"eps", 0.3}, {"alpha", 0.2}, {"step", 1}, {"seed", 9}, {"lr", 0}, {"step", 2}} {
		for _, j := range []*job{want, got} {
			j.ok(j.e.Set(c.name, c.v))
			j.ok(j.e.Run())
		}
		r := got.results()
		near(t, fmt.Sprintf("run %d, %s", i, c.name), want.results(), r)
		if r["loss"][0] == last {
			t.Errorf("run %d, %s: the loss stays %v", i, c.name, last)
		}
		last = r["loss"][0]
	}
	if g.compiled != compiled || g.captured != 1 {
		t.Errorf("%d kernels compiled after the start, %d graphs instantiated: want 0 and 1", g.compiled-compiled, g.captured)
	}
	if g.spec == "emulator" {
		got.ok(first(Synchronize(dev), g.lib.SetEmulator("log", 1), got.e.Run()))
		if copies := logged(g.lib, "cuMemcpyHtoD", "cuMemcpyDtoD"); len(copies) > 0 {
			t.Errorf("a run for which nothing changed brings something: %v", copies)
		}
	}
}

// Inputs may be fed while earlier runs are still to be done, over and over, and
// their memory may change as soon as Run has returned.
func TestFeedAhead(t *testing.T) {
	for _, mode := range []string{"", "lazy=0", "checked,seed=3"} {
		dev, _ := openEmulator(t, mode)
		want, got := newJob(t, cpu(t)), newJob(t, dev)
		for n := range 7 {
			for _, j := range []*job{want, got} {
				if n == 3 {
					j.feed(99) // and again, before any run
				}
				if n != 5 { // which takes the inputs of the run before
					x := j.feed(n)
					j.ok(j.e.Run())
					clear(x)
				} else if j == got {
					j.ok(j.e.Run())
				} else {
					j.feed(n - 1)
					j.ok(j.e.Run())
				}
			}
		}
		near(t, mode, want.results(), got.results())
	}
}

// While a run is still to be done, and the one before it, the next one's inputs get
// to the device: from page-locked memory, on a stream that waits for neither.
func TestCopyStream(t *testing.T) {
	dev, g := openEmulator(t, "log")
	j := newJob(t, dev)
	var c *program
	for c = range g.programs {
	}
	x := 0
	for x = range c.input {
		if c.plan.Buffers[x].Name == "x" {
			break
		}
	}
	done := 0
	for n := range 5 { // batch n, behind n runs
		want := j.feed(n)
		j.ok(g.inputs.Synchronize())
		done += len(logged(g.lib, "graph done"))
		if done > max(0, n-2) {
			t.Errorf("batch %d waited for %d of %d runs", n, done, n)
		}
		got := make([]byte, len(want))
		j.ok(g.inputs.Read(got, c.slots[c.turn].dev+Ptr(c.input[x])))
		if !bytes.Equal(got, want) {
			t.Errorf("batch %d is not on the device before its run", n)
		}
		j.ok(j.e.Run())
	}
}

// logged are the lines of the emulator's log that begin with one of some words.
func logged(lib *Library, words ...string) (lines []string) {
	for line := range strings.Lines(lib.EmulatorLog()) {
		if slices.ContainsFunc(words, func(w string) bool { return strings.HasPrefix(line, w) }) {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	return lines
}

// The numbers of a run can be read when the next run has been launched, and
// reading them waits for that run alone.
func TestResults(t *testing.T) {
	for _, mode := range []string{"", "lazy=0"} {
		dev, g := openEmulator(t, mode)
		want, got := newJob(t, cpu(t)), newJob(t, dev)
		var last [2]engine.Results
		g.lib.SetEmulator("log", 1)
		for n := range 4 {
			var now [2]engine.Results
			for i, j := range []*job{want, got} {
				j.feed(n)
				j.ok(j.e.Run())
				now[i] = must(j.e.Results())(t)
			}
			if n > 0 {
				w, v := must(last[0].Scalar("loss"))(t), must(last[1].Scalar("loss"))(t)
				if math.Abs(w-v) > 1e-5 || n > 1 && w == must(now[0].Scalar("loss"))(t) {
					t.Errorf("%q: the loss of run %d is %v, on the CPU %v", mode, n-1, v, w)
				}
			}
			last = now
		}
		if mode != "" {
			continue
		}
		order := logged(g.lib, "cuGraphLaunch", "graph done")
		if want := "cuGraphLaunch cuGraphLaunch graph done cuGraphLaunch graph done cuGraphLaunch graph done"; strings.Join(order, " ") != want {
			t.Errorf("%v, want %s", order, want)
		}
		defer func() {
			if recover() == nil {
				t.Error("results that are gone were read")
			}
		}()
		gone := last[1]
		got.ok(first(got.e.Run(), got.e.Run()))
		gone.Scalar("loss")
	}
}

// A run allocates nothing, as a graph and step by step.
func TestRunAllocatesNothing(t *testing.T) {
	dev, g := openEmulator(t, "")
	for _, g.noGraph = range []bool{false, true} {
		j := newJob(t, dev)
		x, step := make([]uint8, jobBatch*36), 0.0
		if n := testing.AllocsPerRun(10, func() {
			step++
			err := first(j.e.FeedBytes("x", x), j.e.Set("step", step), j.e.Run())
			r, failed := j.e.Results()
			if _, fetched := r.Scalar("loss"); first(err, failed, fetched) != nil {
				t.Error(err, fetched)
			}
		}); n != 0 {
			t.Errorf("noGraph %v: %v allocations a run", g.noGraph, n)
		}
	}
}

// A program is used from whatever threads its goroutines run on.
func TestThreads(t *testing.T) {
	dev, _ := openEmulator(t, "")
	want, got := newJob(t, cpu(t)), newJob(t, dev)
	for range 3 {
		want.ok(want.e.Run())
		var wg sync.WaitGroup
		wg.Go(func() {
			runtime.LockOSThread() // and not unlocked: the thread ends with the goroutine
			if err := got.e.Run(); err != nil {
				t.Error(err)
			}
		})
		wg.Wait()
	}
	near(t, "threads", want.results(), got.results())
}

// A program that is closed leaves nothing on the device.
func TestClose(t *testing.T) {
	dev, g := openEmulator(t, "")
	before, _, _ := g.Memory()
	t.Run("job", func(t *testing.T) {
		j := newJob(t, dev)
		j.ok(j.e.Run())
		j.results()
	})
	if after, _, err := g.Memory(); after != before {
		t.Errorf("%d bytes are left, %v", before-after, err)
	}
}

// A program that is closed says so, and to close it again takes nothing from one that
// got its memory.
func TestCloseTwice(t *testing.T) {
	dev, _ := openEmulator(t, "checked")
	gone := newJob(t, dev)
	gone.ok(gone.e.Run())
	results := must(gone.e.Results())(t)
	gone.e.Close()
	want, got := newJob(t, cpu(t)), newJob(t, dev)
	gone.e.Close()
	_, fetched := gone.e.FetchBytes("x_adv")
	_, past := results.Scalar("loss")
	for _, err := range []error{gone.e.FeedBytes("ids", make([]byte, 4*jobBatch)), gone.e.Set("lr", 1)} {
		gone.ok(err) // nobody will ask for it
	}
	for _, err := range []error{gone.e.Run(), fetched, past} {
		if err == nil || err.Error() != `program "train" is closed` {
			t.Error(err)
		}
	}
	want.ok(want.e.Run())
	got.ok(got.e.Run())
	near(t, "beside a program that was closed twice", want.results(), got.results())
	gone.st.Free()
	gone.st.Free()
}

// Once a kernel has failed, whatever comes next says so in one line, and all can be
// closed.
func TestFailedKernel(t *testing.T) {
	dev, g := openEmulator(t, "checked")
	j, st := newJob(t, dev), dev.NewState()
	j.st.Free() // which the kernels then read
	run := j.e.Run()
	_, fetched := j.e.FetchBytes("x_adv")
	_, compiled := dev.Compile(trainStep(2*jobBatch), st, engine.Options{})
	for i, err := range []error{first(run, fetched), j.e.Run(), compiled, Synchronize(dev), dev.Driver.(engine.Waiter).Wait()} {
		if err == nil || !strings.Contains(err.Error(), "CUDA_ERROR_LAUNCH_FAILED") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%d: %v", i, err)
		}
	}
	j.e.Close()
	st.Free()
	if err := g.lib.SetEmulator("reset", 1); err != nil { // as another process would
		t.Fatal(err)
	}
}

// Wherever memory runs out while a program is made or first run, the error is one
// line, nothing is left on the device, and the program can be made when there is
// memory again.
func TestOutOfMemoryHalfway(t *testing.T) {
	dev, g := openEmulator(t, "")
	want := newJob(t, cpu(t))
	want.ok(want.e.Run())
	run := func() (map[string][]float32, error) {
		st := dev.NewState()
		defer st.Free()
		e, err := dev.Compile(trainStep(jobBatch), st, engine.Options{})
		if err != nil {
			return nil, err
		}
		defer e.Close()
		j := &job{t, e, st}
		j.begin()
		if err := e.Run(); err != nil {
			return nil, err
		}
		return j.results(), nil
	}
	before, _, _ := g.Memory()
	failures := 0
	for n := 1; ; n++ {
		if err := g.lib.SetEmulator("refuse", n); err != nil {
			t.Fatal(err)
		}
		got, err := run()
		if err := g.lib.SetEmulator("refuse", 0); err != nil {
			t.Fatal(err)
		}
		if after, _, memory := g.Memory(); after != before || memory != nil {
			t.Fatalf("allocation %d refused: %d bytes are left, %v", n, before-after, memory)
		}
		if err == nil {
			near(t, "with all the memory that it asks for", want.results(), got)
			break
		}
		if failures++; !strings.Contains(err.Error(), "out of memory") || strings.Contains(err.Error(), "\n") {
			t.Errorf("allocation %d refused: %v", n, err)
		}
	}
	if failures < 10 {
		t.Errorf("only %d allocations", failures)
	}
}

// Programs of a device share the memory of their temporaries, and move when a
// later one needs more; what is fetched of one stays as it was.
func TestArena(t *testing.T) {
	dev, g := openEmulator(t, "checked")
	var jobs [2]*job
	for i, d := range []*engine.Device{cpu(t), dev} {
		jobs[i] = newJob(t, d)
		jobs[i].ok(jobs[i].e.Run())
	}
	small := g.arena
	st := dev.NewState()
	defer st.Free()
	large := graph.New("large")
	x := large.Input("x", graph.F32, 300, 70)
	large.Output("y", x.Add(x).Reverse(0)) // 84000 bytes
	large.Output("z", x.Sum())
	e := must(dev.Compile(large, st, engine.Options{}))(t)
	defer e.Close()
	if g.arena.bytes <= small.bytes || g.captured != 1 {
		t.Errorf("the arena grew from %d to %d bytes; %d graphs", small.bytes, g.arena.bytes, g.captured)
	}
	content := make([]float32, 300*70)
	for round := range 2 {
		for i := range content {
			content[i] = float32(round + 1)
		}
		if err := first(e.FeedBytes("x", engine.Bytes(content)), e.Run()); err != nil {
			t.Fatal(err)
		}
		for _, j := range jobs {
			j.ok(j.e.Run())
		}
		near(t, "after the large program", jobs[0].results(), jobs[1].results())
		y := make([]float32, len(content))
		copy(bytesOf(y), must(e.FetchBytes("y"))(t))
		if i := slices.IndexFunc(y, func(v float32) bool { return v != float32(2*round+2) }); i >= 0 {
			t.Fatalf("element %d of the large program's output is %v in round %d", i, y[i], round)
		}
	}
	if g.captured != 3 {
		t.Errorf("%d graphs instantiated, want 3: the first program moved once", g.captured)
	}
	e.Close() // and the memory stays for the others
	for _, j := range jobs {
		j.ok(j.e.Run())
	}
	near(t, "after the large program is closed", jobs[0].results(), jobs[1].results())
}

// A state begins as zeros, whatever its memory held before.
func TestStateMemory(t *testing.T) {
	dev, _ := openEmulator(t, "")
	content := bytes.Repeat([]byte{0xff}, 1<<16)
	for range 2 {
		m := must(dev.Alloc(len(content)))(t)
		got := make([]byte, len(content))
		if err := m.Read(got); err != nil || slices.ContainsFunc(got, func(b byte) bool { return b != 0 }) {
			t.Errorf("it is not zero, %v", err)
		}
		if err := m.Write(content); err != nil {
			t.Fatal(err)
		}
		m.Free()
	}
}

// Memory of others is used where it lies, and is not freed.
func TestAdopt(t *testing.T) {
	dev, g := openEmulator(t, "")
	p := must(g.Device.Alloc(12))(t)
	st := dev.NewState()
	if err := first(g.work.Write(p, bytesOf([]float32{1, 2, 3})), st.Adopt("v", graph.F32, graph.Shape{3}, must(Adopt(dev, p, 12))(t))); err != nil {
		t.Fatal(err)
	}
	square := graph.New("square")
	v := square.State("v", graph.F32, 3)
	square.Assign(v, v.Mul(v))
	e := must(dev.Compile(square, st, engine.Options{}))(t)
	if err := first(e.Run(), e.Run(), Synchronize(dev)); err != nil {
		t.Fatal(err)
	}
	e.Close()
	st.Free()
	got := make([]float32, 3)
	if err := first(g.work.Read(bytesOf(got), p), g.Device.Free(p)); err != nil || got[0] != 1 || got[1] != 16 || got[2] != 81 {
		t.Errorf("%v, %v", got, err)
	}
	if err := st.Adopt("w", graph.F32, nil, nil); err != nil {
		t.Error(err)
	}
	if err := st.Adopt("w", graph.F32, nil, nil); err == nil || err.Error() != `state "w" is there already` {
		t.Error(err)
	}
	if _, err := Adopt(dev, 0x1008, 4); err == nil || err.Error() != "device memory at 0x1008: want a multiple of 16" {
		t.Error(err)
	}
	c := cpu(t)
	if _, err := Adopt(c, p, 12); err == nil || err.Error() != "device cpu is no CUDA device" || Synchronize(c) == nil {
		t.Error(err)
	}
}

// More programs than a test needs: go test -run GraphOrSteps -args -first 40 -programs 400.
var (
	firstProgram = flag.Int("first", 0, "the first random program's seed")
	programs     = flag.Int("programs", 40, "how many random programs")
	emulatorMode = flag.String("mode", "", "the emulator's options for random programs")
)

// precisionOf is a random program's: every second one's is float32.
func precisionOf(seed int) graph.Precision {
	if seed%2 == 0 {
		return graph.PrecisionFloat32
	}
	return []graph.Precision{graph.PrecisionBF16, graph.PrecisionTF32x3, graph.PrecisionBF16, graph.PrecisionTF32}[seed/2%4]
}

// Random programs give the same bits as one graph, step by step, and with the
// graph's nodes, blocks and threads in another order; and the interpreter's
// numbers, after two steps.
func TestGraphOrSteps(t *testing.T) {
	if testing.Short() {
		*programs = 5
	}
	for first := *firstProgram; first < *firstProgram+*programs; first += 40 { // compiled together
		var graphs []*graph.Graph
		var plans []*plan.Plan
		var feeds []interp.Feed
		for seed := first; seed < min(first+40, *firstProgram+*programs); seed++ {
			p := optest.Random(uint32(seed))
			graphs, plans, feeds = append(graphs, p), append(plans, planOf(t, p, precisionOf(seed))), append(feeds, optest.RandomFeed(p, uint32(seed)))
		}
		t.Run(fmt.Sprintf("from %d", first), func(t *testing.T) {
			dev, g := openEmulator(t, *emulatorMode, plans...)
			for i, p := range graphs {
				precision := precisionOf(first + i)
				run := optest.OnTwice(dev, engine.Options{Precision: precision})
				want := must(run(p, feeds[i]))(t)
				ref, tol := p, optest.RandomTolerance(p)
				if precision != graph.PrecisionFloat32 {
					ref = must(passes.Run(p, passes.Options{Target: Target(precision)}))(t) // which says what is rounded to bf16
					tol = optest.Tolerance{Rel: 1 << 19, Abs: 1 << 19, Floor: 0.1}
				}
				if err := tol.CompareResults(must(optest.Twice(interp.RunRounded)(ref, feeds[i]))(t), want); err != nil {
					t.Errorf("program %d: against the interpreter: %v\n%s", first+i, err, p)
				}
				for _, v := range []struct {
					name    string
					noGraph bool
					seed    int
				}{{"step by step", true, 0}, {"in another order", false, 7}} {
					g.noGraph = v.noGraph
					if err := g.lib.SetEmulator("seed", v.seed); err != nil {
						t.Fatal(err)
					}
					if err := (optest.Tolerance{}).CompareResults(want, must(run(p, feeds[i]))(t)); err != nil {
						t.Errorf("program %d, %s: %v\n%s", first+i, v.name, err, p)
					}
				}
				g.noGraph = false
				if err := g.lib.SetEmulator("seed", 0); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// Programs that run in turn, in one arena, leave each other's states and outputs
// alone.
func TestInTurn(t *testing.T) {
	var graphs []*graph.Graph
	var plans []*plan.Plan
	for seed := range uint32(12) {
		graphs = append(graphs, optest.Random(seed))
		plans = append(plans, planOf(t, graphs[seed], graph.PrecisionFloat32))
	}
	dev, _ := openEmulator(t, "", plans...)
	type running struct {
		e    *engine.Executable
		st   *engine.State
		want *interp.Result
	}
	var all []running
	for seed, p := range graphs {
		feed, st := optest.RandomFeed(p, uint32(seed)), dev.NewState()
		defer st.Free()
		r := running{must(dev.Compile(p, st, engine.Options{}))(t), st, must(optest.OnTwice(dev, engine.Options{})(p, feed))(t)}
		defer r.e.Close()
		if err := optest.Bind(p, r.e, st, feed); err != nil {
			t.Fatal(err)
		}
		all = append(all, r)
	}
	for range 2 {
		for _, r := range all {
			if err := r.e.Run(); err != nil {
				t.Fatal(err)
			}
		}
	}
	for seed, r := range all {
		for name, want := range r.want.Outputs {
			if !bytes.Equal(want.Bytes(), must(r.e.FetchBytes(name))(t)) {
				t.Errorf("program %d: output %s is another one", seed, name)
			}
		}
		for name, want := range r.want.States {
			if !bytes.Equal(want.Bytes(), must(r.st.Bytes(name))(t)) {
				t.Errorf("program %d: state %s is another one", seed, name)
			}
		}
	}
}

// Slices of a loop are used where they lie only if a vector may start there.
func TestLoopSlices(t *testing.T) {
	g := graph.New("slices")
	x, u := g.Input("x", graph.F32, 4, 6), g.Input("u", graph.U8, 4, 5) // 24 and 5 bytes a slice
	wide := g.Input("wide", graph.F32, 4, 8)
	sum := g.Const(graph.F32, make([]float64, 6), 6)
	out, stacked := g.Loop(4, []*graph.Node{sum}, []*graph.Node{x, u, wide}, func(i *graph.Node, c, s []*graph.Node) (next, out []*graph.Node) {
		_, inner := g.Loop(6, []*graph.Node{s[2]}, nil, func(k *graph.Node, c, _ []*graph.Node) (next, out []*graph.Node) {
			twice := c[0].Add(c[0])
			return []*graph.Node{twice}, []*graph.Node{twice.Add(k.Convert(graph.F32))}
		})
		total := c[0].Add(s[0]).Add(i.Convert(graph.F32))
		return []*graph.Node{total}, []*graph.Node{total, s[1].Add(s[1]), inner[0], s[0], c[0]}
	})
	g.Output("sum", out[0])
	for i, s := range stacked {
		g.Output(fmt.Sprintf("stacked%d", i), s)
	}
	feed := interp.Feed{"input x": interp.New(graph.F32, graph.Shape{4, 6}), "input u": interp.New(graph.U8, graph.Shape{4, 5}), "input wide": interp.New(graph.F32, graph.Shape{4, 8})}
	for _, v := range feed {
		for i := range v.Data {
			v.Data[i] = float64(i)
		}
	}
	dev, _ := openEmulator(t, "checked")
	if err := (optest.Tolerance{}).CompareResults(must(interp.Run(g, feed))(t), must(optest.On(dev, engine.Options{})(g, feed))(t)); err != nil {
		t.Error(err)
	}
}

// What a compiler left in the cache damaged is made again.
func TestDamagedCache(t *testing.T) {
	openEmulator(t, "") // or skip
	library := must(emulator.Library())(t)
	dir := t.TempDir()
	t.Setenv("TEMPER_CACHE", dir)
	if err := os.WriteFile(filepath.Join(dir, filepath.Base(library)), must(os.ReadFile(library))(t), 0o644); err != nil {
		t.Fatal(err)
	}
	want := map[string][]float32(nil)
	for range 2 {
		dev, _ := openEmulator(t, "")
		j := newJob(t, dev)
		j.ok(j.e.Run())
		got := j.results()
		if want != nil && !bytes.Equal(bytesOf(want["x_adv"]), bytesOf(got["x_adv"])) {
			t.Error("another result after the damage")
		}
		want = got
		files := must(filepath.Glob(filepath.Join(dir, "emulator-*.so")))(t)
		if len(files) != 1 {
			t.Fatalf("the cache has %v", files)
		}
		if err := os.WriteFile(files[0], []byte("damaged"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// Every reason for which a device cannot be used or a program cannot be loaded
// is one line.
func TestBackendMistakes(t *testing.T) {
	openEmulator(t, "") // or skip
	compiling := func(g *graph.Graph) func(*engine.Device) error {
		return func(dev *engine.Device) error {
			st := dev.NewState()
			defer st.Free()
			_, err := dev.Compile(g, st, engine.Options{})
			return err
		}
	}
	huge := graph.New("huge")
	huge.Output("y", huge.Input("x", graph.U8, 1<<16, 1<<15).Reverse(0))
	const noCompiler = "no NVRTC, CUDA's run-time compiler, in TEMPER_NVRTC=/no/libnvrtc.so.12: cannot open shared object file"
	for _, c := range []struct {
		spec, options string
		driver        bool // the emulator plays the GPU
		do            func(dev *engine.Device) error
		says          string
	}{
		{"cuda:0", "", false, nil, `no device "cuda:0": no CUDA driver (tried libno-such-driver.so.1): install the NVIDIA driver, or take the device cpu`},
		{"cuda:one", "", false, nil, `no device "cuda:one": CUDA devices are cuda:0, cuda:1, …`},
		{"cuda:4", "", true, nil, "no CUDA device 4: there are 1, counted from 0"},
		{"cuda:0", "capability=75", true, nil, "CUDA device 0 (emulated GPU) is sm_75: temper needs sm_80 or later"},
		{"cuda:0", "driver=11080", true, nil, "supports CUDA 11.8: temper needs 12.0 or later; update the NVIDIA driver"},
		{"cuda", "", true, compiling(trainStep(8)), " is not compiled for sm_90a, and there is " + noCompiler},
		{"emulator:0", "", false, nil, `no device "emulator:0": the emulator is "emulator"`},
		{"emulator", "capability=70", false, nil, "is sm_70: temper needs sm_80 or later"},
		{"emulator", "driver=11040", false, nil, "supports CUDA 11.4"},
		{"emulator", "warp=3", false, nil, `has no option "warp"`},
		{"emulator", "seed=x", false, nil, `TEMPER_EMULATOR: "x" is no number`},
		{"emulator", "memory=0", false, func(dev *engine.Device) error { _, err := dev.Alloc(8 << 20); return err },
			"out of memory (8.0 MiB wanted, 0.0 MiB of 0.0 MiB free): no batch would fit; take a smaller model"},
		{"emulator", "", false, compiling(huge), "a tensor of u8[65536,32768] has 2³¹ elements or more: take a smaller batch"},
	} {
		t.Run(c.spec+" "+c.options, func(t *testing.T) {
			path := must(emulator.Library())(t)
			lib := must(Open(path))(t)
			t.Cleanup(func() { usual(t, lib) })
			t.Setenv("TEMPER_CACHE", filepath.Dir(path))
			t.Setenv("TEMPER_NVRTC", "/no/libnvrtc.so.12")
			t.Setenv("TEMPER_EMULATOR", c.options)
			drive(t, "libno-such-driver.so.1")
			if c.driver {
				if _, err := lib.emulate(c.options); err != nil {
					t.Fatal(err)
				}
				drive(t, path)
			}
			dev, err := engine.Open(c.spec, engine.DeviceOptions{})
			if err == nil {
				defer dev.Close()
				err = c.do(dev)
			}
			if err == nil || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%v\nwant it to say %q, in one line", err, c.says)
			}
		})
	}
}

// drive lets the back end look for a driver at one place only.
func drive(t *testing.T, path string) {
	before := usualDrivers
	usualDrivers = []string{path}
	t.Cleanup(func() { usualDrivers = before })
}

// auto takes the CPU where there is no GPU that can be used, and says why; a GPU
// that can be used comes first.
func TestAuto(t *testing.T) {
	openEmulator(t, "") // or skip
	path := must(emulator.Library())(t)
	lib := must(Open(path))(t)
	t.Cleanup(func() { usual(t, lib) })
	for _, c := range []struct{ driver, options, spec, why string }{
		{"libno-such-driver.so.1", "", "cpu", "no CUDA driver (tried libno-such-driver.so.1): using the CPU"},
		{path, "capability=75", "cpu", "CUDA device 0 (emulated GPU) is sm_75: temper needs sm_80 or later: using the CPU"},
		{path, "devices=0,capability=90", "cpu", "finds no device: using the CPU"},
		{path, "driver=11080", "cpu", "update the NVIDIA driver: using the CPU"},
		{path, "driver=13000,devices=2", "cuda:0", "the first choice of auto"},
	} {
		drive(t, c.driver)
		must(lib.emulate(c.options))(t)
		dev := must(engine.Open("auto", engine.DeviceOptions{}))(t)
		if i := dev.Info(); i.Spec != c.spec || !strings.HasSuffix(dev.Why, c.why) {
			t.Errorf("%+v because %q, want %s because %q", i, dev.Why, c.spec, c.why)
		}
		dev.Close()
	}
	infos, missing := engine.Devices()
	if len(infos) != 4 || infos[1].Spec != "cuda:0" || infos[2].Spec != "cuda:1" || infos[1].Detail != "sm_90, 8 multiprocessors, 16.0 GiB, driver for CUDA 13.0" || len(missing) != 0 {
		t.Errorf("%+v, %v", infos, missing)
	}
	dev := must(engine.Open("cuda:1", engine.DeviceOptions{}))(t)
	if dev.Info().Spec != "cuda:1" {
		t.Errorf("%+v", dev.Info())
	}
	dev.Close()
}

// A program takes what was expected, and fits where its temporaries take the place
// of another's.
func TestDeviceMemory(t *testing.T) {
	dev, g := openEmulator(t, "memory=4")
	if g.spec != "emulator" {
		t.Skip("a GPU has more memory")
	}
	st := dev.NewState()
	defer st.Free()
	for _, rows := range []int{100, 110} {
		sums := graph.New("sums")
		x := sums.Input("x", graph.F32, rows, 1024)
		sums.Output("sum", x.Add(x).Reverse(0).Sum())
		before, _, _ := g.Memory()
		e := must(dev.Compile(sums, st, engine.Options{}))(t)
		defer e.Close()
		if after, _, _ := g.Memory(); rows == 100 {
			for c := range g.programs {
				grows, fixed := need(c.plan)
				if got, want := before-after, grows+fixed+2*scratch(c.kernels); got < want || got > want+8<<10 {
					t.Errorf("%d bytes are taken, and %d were expected", got, want)
				}
			}
		}
		j := &job{t, e, st}
		j.ok(first(e.FeedBytes("x", make([]byte, 4096*rows)), e.Run(), Synchronize(dev)))
	}
}

// A program that does not fit says by how much, and the batch that it names
// does fit.
func TestOutOfDeviceMemory(t *testing.T) {
	dev, _ := openEmulator(t, "memory=1")
	st := dev.NewState()
	defer st.Free()
	p := dev.NewProgram(st, func(batch int) (*graph.Graph, error) { return trainStep(batch), nil }, engine.Options{})
	defer p.Close()
	_, err := p.For(4096)
	if err == nil {
		t.Fatal("no error")
	}
	var need, temps, free, total float64
	var batch, fit int
	_, after, _ := strings.Cut(err.Error(), "out of device memory: ")
	if _, scan := fmt.Sscanf(after, "it needs %f MiB (%f MiB of temporaries), and %f MiB of %f MiB are free: the batch is %d, a batch of %d would fit", &need, &temps, &free, &total, &batch, &fit); scan != nil {
		t.Fatalf("%v: %v", err, scan)
	}
	if need < temps || need < free || total != 1 || batch != 4096 || fit < 64 || fit >= 4096 {
		t.Error(err)
	}
	if _, err := p.For(fit); err != nil {
		t.Errorf("a batch of %d: %v", fit, err)
	}
}
