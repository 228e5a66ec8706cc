package adversarial

import (
	"encoding/json"
	"fmt"
	"strconv"
	"os"
	"syscall"
	"testing"
	"time"

	"temper/engine"
	"temper/engine/graph"
	"temper/engine/optest"
	"temper/engine/passes"
	"temper/nn"
)

func cpuTime() time.Duration {
	var r syscall.Rusage
	syscall.Getrusage(0, &r)
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

func TestTmpBench(t *testing.T) {
	if os.Getenv("TMP_BENCH") == "" {
		t.Skip()
	}
	b := &testing.B{}
	var g func() *graph.Graph
	switch os.Getenv("TMP_BENCH") {
	case "attack":
		m := lookup(b, "cifar-small")
		g = func() *graph.Graph {
			g := graph.New("attack")
			params, buffers := m.Declare(g, "")
			threat := ThreatModel{Linf, MustEpsilon("8/255"), Unit}
			found := Attack{Name: "pgd", Steps: 10}.Build(Problem{
				Forward: Of(m, params), Buffers: buffers,
				X: g.Input("x", graph.F32, 128, 3, 32, 32), Y: g.Input("y", graph.I32, 128),
				Threat: threat, Eps: g.Const(graph.F32, []float64{8. / 255}), Alpha: g.Const(graph.F32, []float64{2. / 255}),
			})
			g.Output("x", found.X)
			return g
		}
	default:
		m := lookup(b, os.Getenv("TMP_BENCH"))
		opt, _ := nn.OptimizerConfig{Name: "sgd", Momentum: 0.9}.Optimizer()
		g = func() *graph.Graph {
			tr, _ := LookupTraining("standard")
			g, err := StepGraph(m, tr, opt, ThreatModel{Linf, MustEpsilon("8/255"), Unit}, 64, graph.U8)
			if err != nil {
				t.Fatal(err)
			}
			return g
		}
	}
	type cand struct {
		name string
		th   int
		o    engine.Options
	}
	var cands []cand
	var ths, kbs []int
	json.Unmarshal([]byte(os.Getenv("TMP_TH")), &ths)
	json.Unmarshal([]byte(os.Getenv("TMP_KB")), &kbs)
	rounds, _ := strconv.Atoi(os.Getenv("TMP_N"))
	for _, th := range ths {
		for _, kb := range kbs {
			o := engine.Options{Passes: passes.Options{Target: passes.Target{ChannelsLast: true, PackedFilters: true, RowBytes: kb << 10}}}
			if kb == 0 {
				o.Passes.Target.RowBytes = 1
				o.Passes.Off = []string{"rows"}
			}
			cands = append(cands, cand{fmt.Sprintf("threads %d, %d KiB", th, kb), th, o})
		}
	}
	var runs []*engine.Executable
	for _, c := range cands {
		dev, err := engine.Open("cpu", engine.DeviceOptions{Threads: c.th})
		must(t, err)
		defer dev.Close()
		st := dev.NewState()
		gr := g()
		e, err := dev.Compile(gr, st, c.o)
		must(t, err)
		must(t, optest.Bind(gr, e, st, benchFeed(gr)))
		must(t, e.Run())
		runs = append(runs, e)
	}
	wall, cpu := make([]time.Duration, len(runs)), make([]time.Duration, len(runs))
	for round := range rounds {
		for i, e := range runs {
			w0, c0 := time.Now(), cpuTime()
			must(t, e.Run())
			w, c := time.Since(w0), cpuTime()-c0
			if round == 0 || w < wall[i] {
				wall[i] = w
			}
			if round == 0 || c < cpu[i] {
				cpu[i] = c
			}
		}
	}
	for i, c := range cands {
		fmt.Printf("%s: wall %v cpu %v arena %d private %d\n", c.name, wall[i].Round(time.Millisecond), cpu[i].Round(time.Millisecond), runs[i].Plan().Arena, runs[i].Plan().Private)
	}
}
