package cpu_test

import (
	"bytes"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"temper/engine"
	"temper/engine/graph"
	"temper/engine/optest"
)

// ascent is an attack's loop on a network of convolutions, in a batch of n: all
// of it is independent from sample to sample, but for a mean at its end.
func ascent(n int) *graph.Graph {
	g := graph.New("ascent")
	x, w, v := g.Input("x", graph.F32, n, 3, 32, 32), g.State("w", graph.F32, 16, 3, 3, 3), g.State("v", graph.F32, 3, 16, 3, 3)
	last, _ := g.Loop(3, []*graph.Node{x}, nil, func(_ *graph.Node, c, _ []*graph.Node) (next, _ []*graph.Node) {
		h := c[0].Conv2D(w, graph.Square(1, 1)).ReLU().Conv2D(v, graph.Square(1, 1))
		return []*graph.Node{c[0].Add(h.Tanh().MulC(0.1))}, nil
	})
	g.Output("x", last[0])
	g.Output("mean", last[0].Mean())
	return g
}

// ready compiles and feeds a graph.
func ready(t *testing.T, threads int, o engine.Options, g *graph.Graph) *engine.Executable {
	t.Helper()
	dev := open(t, threads)
	st := dev.NewState()
	e, err := dev.Compile(g, st, o)
	if err != nil {
		t.Fatal(err)
	}
	if err := optest.Bind(g, e, st, optest.RandomFeed(g, 1)); err != nil {
		t.Fatal(err)
	}
	return e
}

// schedules are the plain one, and by rows if the device says so.
func schedules(t *testing.T) map[string]engine.Options {
	rows := engine.Options{}
	rows.Passes.Target, _ = open(t, 1).Target(graph.PrecisionFloat32)
	rows.Passes.Target.RowBytes = 1 << 18
	plain := engine.Options{}
	plain.Passes.Off = []string{"rows"}
	return map[string]engine.Options{"by rows": rows, "plain": plain}
}

// A number is read in whatever type it is.
func TestScalarTypes(t *testing.T) {
	g := graph.New("numbers")
	types := []graph.DType{graph.F32, graph.F64, graph.BF16, graph.I32, graph.U32, graph.U8, graph.Bool}
	x := g.Scalar("x", graph.F32)
	for _, dt := range types {
		g.Output(dt.String(), x.Convert(dt))
	}
	e := ready(t, 1, engine.Options{}, g)
	if err := e.Set("x", 1.5); err != nil {
		t.Fatal(err)
	}
	if err := e.Run(); err != nil {
		t.Fatal(err)
	}
	r, err := e.Results()
	if err != nil {
		t.Fatal(err)
	}
	for _, dt := range types {
		want := 1.5
		if !dt.Float() {
			want = 1
		}
		v, err := e.Scalar(dt.String())
		w, failed := r.Scalar(dt.String())
		if err != nil || failed != nil || v != want || w != want {
			t.Errorf("%v: %v, %v: want %v; %v, %v", dt, v, w, want, err, failed)
		}
	}
}

func TestNothingIsAllocated(t *testing.T) {
	for name, o := range schedules(t) {
		for _, threads := range []int{1, 3} {
			e := ready(t, threads, o, ascent(16))
			if p := e.Plan(); (p.Private > 0) != (name == "by rows") {
				t.Fatalf("%s: %d bytes of private memory", name, p.Private)
			}
			if n := testing.AllocsPerRun(20, func() {
				if err := e.Run(); err != nil {
					t.Error(err)
				}
			}); n != 0 {
				t.Errorf("%s, %d workers: %v allocations a run", name, threads, n)
			}
		}
	}
}

// The memory of a program is what it says, and a constant.
func TestMemory(t *testing.T) {
	heap := func() int {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int(m.HeapAlloc)
	}
	for name, o := range schedules(t) {
		for _, n := range []int{16, 64} {
			g, dev := ascent(n), open(t, 2)
			st := dev.NewState()
			before := heap()
			e, err := dev.Compile(g, st, o)
			if err != nil {
				t.Fatal(err)
			}
			used, said := heap()-before, e.Memory()
			if arena := e.Plan().Arena + 2*e.Plan().Private; said < arena {
				t.Errorf("%s, %d samples: says %d bytes, of which the plan's are %d", name, n, said, arena)
			}
			if const1 := 1 << 20; used < said || used > said+const1 {
				t.Errorf("%s, %d samples: says %d bytes and uses %d", name, n, said, used)
			}
			runtime.KeepAlive(g)
			runtime.KeepAlive(e)
		}
	}
}

func TestNoGoroutineStays(t *testing.T) {
	before := runtime.NumGoroutine()
	for _, o := range schedules(t) {
		dev, err := engine.Open("cpu", engine.DeviceOptions{Threads: 3})
		if err != nil {
			t.Fatal(err)
		}
		g, st := ascent(16), dev.NewState()
		e, err := dev.Compile(g, st, o)
		if err != nil {
			t.Fatal(err)
		}
		if err := optest.Bind(g, e, st, optest.RandomFeed(g, 1)); err != nil {
			t.Fatal(err)
		}
		if err := e.Run(); err != nil {
			t.Fatal(err)
		}
		e.Close()
		if err := dev.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for range 1000 { // the last thing that a worker does is to say that it ends
		if runtime.NumGoroutine() <= before {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Errorf("%d goroutines, %d before", runtime.NumGoroutine(), before)
}

// Kernels cannot be preempted, so each must be short: a collection of garbage
// that another goroutine makes stops the world without a long wait, and the
// results stay what they are.
func TestCollectorBesideKernels(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(10))
	for name, o := range schedules(t) {
		e := ready(t, 2, o, ascent(64))
		result := func() []byte {
			if err := e.Run(); err != nil {
				t.Fatal(err)
			}
			b, err := e.FetchBytes("x")
			if err != nil {
				t.Fatal(err)
			}
			return b
		}
		want := slices.Clone(result())
		var stop atomic.Bool
		done := make(chan [][]byte)
		go func() {
			var kept [][]byte
			for i := 0; !stop.Load(); i++ {
				if kept = append(kept, make([]byte, 1<<14)); len(kept) > 100 {
					kept = kept[50:]
				}
				if i%64 == 0 {
					time.Sleep(50 * time.Microsecond)
				}
			}
			done <- kept
		}()
		before := pauses()
		for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
			if count, _ := pauses().since(before); count >= 20 {
				break
			}
			if !bytes.Equal(result(), want) {
				t.Errorf("%s: the result differs", name)
				break
			}
		}
		stop.Store(true)
		<-done
		count, quarter := pauses().since(before)
		t.Logf("%s: %d pauses, the shortest quarter at most %v", name, count, quarter)
		if count < 20 {
			t.Errorf("%s: %d pauses: the test tests too little", name, count)
		}
		// Others may hold the processors for long; but were kernels long, most
		// pauses would be.
		if quarter > time.Millisecond {
			t.Errorf("%s: three pauses of four are longer than %v", name, quarter)
		}
	}
}

type histogram metrics.Float64Histogram

// pauses are the times that it took the collector to stop the world.
func pauses() *histogram {
	s := []metrics.Sample{{Name: "/sched/pauses/stopping/gc:seconds"}}
	metrics.Read(s)
	h := histogram(*s[0].Value.Float64Histogram())
	h.Counts = slices.Clone(h.Counts)
	return &h
}

// since gives the number of pauses after those of h, and a bound of the shortest
// quarter of them.
func (p *histogram) since(h *histogram) (count uint64, quarter time.Duration) {
	for i := range p.Counts {
		count += p.Counts[i] - h.Counts[i]
	}
	seen := uint64(0)
	for i := range p.Counts {
		if seen += p.Counts[i] - h.Counts[i]; 4*seen >= count {
			return count, time.Duration(p.Buckets[i+1] * 1e9)
		}
	}
	return count, 0
}
