package cpu_test

import (
	"bytes"
	"testing"

	"temper/engine"
	"temper/engine/plan"
)

// runsOf counts how often each step of a plan that is no loop runs.
func runsOf(steps []plan.Step, times int, into map[*plan.Step]int) map[*plan.Step]int {
	for i := range steps {
		if l := steps[i].Loop; l != nil {
			runsOf(l.Steps, times*l.Node.Attrs().Trips, into)
		} else {
			into[&steps[i]] += times
		}
	}
	return into
}

// TestTrace times every step as often as it runs, and changes no bit.
func TestTrace(t *testing.T) {
	for name, o := range schedules(t) {
		for _, threads := range []int{1, 3} {
			e := ready(t, threads, o, ascent(16))
			if err := e.Run(); err != nil {
				t.Fatal(err)
			}
			want := bytes.Clone(fetch(t, e, "x"))
			trace, err := e.Trace()
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(fetch(t, e, "x"), want) {
				t.Errorf("%s, %d threads: a traced run has other bits", name, threads)
			}
			got := map[*plan.Step]int{}
			var busy [4]int64
			for _, s := range trace.Spans {
				got[s.Step]++
				busy[s.Worker] += int64(s.End - s.Start)
				if s.Start < 0 || s.End < s.Start || s.End > trace.Total || s.Worker > threads {
					t.Errorf("%s: span %+v of a run of %v", name, s, trace.Total)
				}
			}
			for step, n := range runsOf(e.Plan().Steps, 1, map[*plan.Step]int{}) {
				if got[step] != n {
					t.Errorf("%s: a step has %d spans, it runs %d times", name, got[step], n)
				}
			}
			for worker, b := range busy {
				if b > int64(trace.Total) {
					t.Errorf("%s: worker %d was busy for %d of %v", name, worker, b, trace.Total)
				}
			}
			if allocated := testing.AllocsPerRun(3, func() { e.Run() }); allocated > 0 {
				t.Errorf("%s: a run after a traced one allocates %v times", name, allocated)
			}
		}
	}
}

func fetch(t *testing.T, e *engine.Executable, name string) []byte {
	t.Helper()
	b, err := e.FetchBytes(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
