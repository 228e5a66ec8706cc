package kernel

import (
	"fmt"
	"math"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"temper/engine/rng"
)

// eachLevel runs a test on every level that this processor supports.
func eachLevel(t *testing.T, test func(t *testing.T)) {
	saved := active
	defer func() { active = saved }()
	for _, l := range levels {
		if l.supported {
			active = l
			t.Run(l.name, test)
		}
	}
}

// newPool starts a pool that ends with the test.
func newPool(t testing.TB, workers int) *Pool {
	p := NewPool(workers)
	t.Cleanup(p.Close)
	return p
}

// canary surrounds the slices that kernels write to.
const canary = 12345.5

// guarded is a slice that begins off a vector's boundary and notices writes
// before and behind it.
type guarded[T Float] struct {
	all []T
	v   []T
}

func newGuarded[T Float](n int) guarded[T] {
	const margin = 33
	g := guarded[T]{all: make([]T, n+2*margin)}
	for i := range g.all {
		g.all[i] = canary
	}
	g.v = g.all[margin : margin+n : margin+n]
	return g
}

func (g guarded[T]) check(t testing.TB, what string) {
	t.Helper()
	margin := (len(g.all) - len(g.v)) / 2
	for i, x := range g.all {
		if (i < margin || i >= margin+len(g.v)) && x != canary {
			t.Fatalf("%s: wrote element %d of a slice of %d", what, i-margin, len(g.v))
		}
	}
}

// random returns n normal draws, some of them zero.
func random[T Float](s *rng.Stream, n int) []T {
	v := make([]T, n)
	for i := range v {
		if s.IntN(16) > 0 {
			v[i] = T(s.Normal())
		}
	}
	return v
}

func same[T Float](a, b []T) bool {
	for i := range a {
		if a[i] != b[i] && (a[i] == a[i] || b[i] == b[i]) {
			return false
		}
	}
	return true
}

// tolerance is the error allowed to a sum whose absolute terms add up to mass.
func tolerance[T Float](mass float64) float64 {
	eps := 0x1p-24
	if any(T(0)) == any(float64(0)) {
		eps = 0x1p-53
	}
	return 16 * eps * mass
}

func TestLevelChoice(t *testing.T) {
	for _, c := range []struct {
		want, level string
		fails       bool
	}{
		{"portable", "portable", false},
		{"", levels[0].name, !levels[0].supported},
		{levels[0].name, levels[0].name, !levels[0].supported},
		{"sse9", levels[0].name, true},
	} {
		l, err := choose(c.want)
		if !levels[0].supported {
			continue
		}
		if l.name != c.level || (err != nil) != c.fails {
			t.Errorf("TEMPER_CPU=%q chose %q, error %v", c.want, l.name, err)
		}
	}
	// The best level stands aside for the next where it is not supported.
	if levels[0] != portable {
		defer func(s bool) { levels[0].supported = s }(levels[0].supported)
		levels[0].supported = false
		if l, err := choose(""); l == levels[0] || err != nil {
			t.Errorf("chose unsupported level %q, error %v", l.name, err)
		}
	}
}

// The environment variable is read at start, so the test starts a process.
func TestLevelVariable(t *testing.T) {
	if os.Getenv("TEMPER_CPU") == "portable" {
		if Level() != "portable" || LevelError() != nil {
			t.Fatalf("level %q, error %v", Level(), LevelError())
		}
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestLevelVariable$")
	cmd.Env = append(os.Environ(), "TEMPER_CPU=portable")
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "PASS") {
		t.Fatalf("%v\n%s", err, out)
	}
}

// benchWorkers is the number of workers that benchmarks use: TEMPER_THREADS,
// else all processors.
func benchWorkers() int {
	n, _ := strconv.Atoi(os.Getenv("TEMPER_THREADS"))
	return n
}

// measure times calls of run, each of some floating-point operations, and
// reports the best rate and its share of the ceiling, measured in between: on
// a machine that does other work too, the best says what the code can do.
func measure(b *testing.B, pool *Pool, flops float64, run func()) {
	best, top := math.Inf(1), 0.0
	for b.Loop() {
		top = max(top, peakRate(pool))
		best = min(best, seconds(run))
	}
	b.ReportMetric(flops/best/1e9, "best-GFLOP/s")
	b.ReportMetric(100*flops/best/top, "%ceiling")
}

// peakRate is the ceiling of the level in use, in operations a second.
func peakRate(p *Pool) float64 {
	t := seconds(func() { p.Run(p.Workers(), func(_, _ int) { Burn() }) })
	return float64(p.Workers()) * BurnFLOPs / t
}

// seconds is the time of one call. With one worker it is the time that the
// processor spent, not that of the clock, so that other work matters less.
func seconds(run func()) float64 {
	if benchWorkers() != 1 {
		start := time.Now()
		run()
		return time.Since(start).Seconds()
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	start := threadTime()
	run()
	return threadTime() - start
}

func label(format string, args ...any) string { return fmt.Sprintf(format, args...) }

func abs(x float64) float64 { return math.Abs(x) }
