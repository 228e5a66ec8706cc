package cpu_test

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"temper/engine"
	_ "temper/engine/cpu"
	"temper/engine/graph"
	"temper/engine/interp"
	"temper/engine/optest"
	"temper/engine/passes"
	"temper/engine/plan"
	"temper/engine/rng"
)

func open(t *testing.T, threads int) *engine.Device {
	t.Helper()
	dev, err := engine.Open("cpu", engine.DeviceOptions{Threads: threads})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dev.Close() })
	return dev
}

func TestOpCases(t *testing.T) {
	optest.Agree(t, optest.On(open(t, 2), engine.Options{}))
}

// More programs than a test needs: go test -run Metamorphic -args -first 200 -programs 5000.
var (
	firstProgram = flag.Int("first", 0, "the first random program's seed")
	programs     = flag.Int("programs", 200, "how many random programs")
)

// Every way of compiling and running a program gives the same numbers, and the
// same bits where the arithmetic is the same.
func TestMetamorphic(t *testing.T) {
	variants := []struct {
		name    string
		threads int
		o       engine.Options
		bits    bool // equal bits promised
	}{
		{"one worker", 1, engine.Options{}, true},
		{"seven workers", 7, engine.Options{}, true},
		{"no fusion", 2, engine.Options{Plan: plan.Options{NoFusion: true}}, true},
		{"no arena reuse", 2, engine.Options{Plan: plan.Options{NoReuse: true}}, true},
		{"nothing in place", 2, engine.Options{Plan: plan.Options{NoInPlace: true}}, true},
		{"less traffic", 2, engine.Options{Plan: plan.Options{LessTraffic: true}}, true},
		{"no hoisting", 2, engine.Options{Passes: passes.Options{Off: []string{"hoist"}}}, true},
		{"no dead-code", 2, engine.Options{Passes: passes.Options{Off: []string{"dead-code", "dead-loop"}}}, true},
		{"no passes", 2, engine.Options{Passes: passes.Options{Off: optional()}}, false},
		// Sums over the samples are rounded once more.
		{"by rows", 2, byRows(plan.Options{}), false},
	}
	base := optest.OnTwice(open(t, 2), engine.Options{})
	var runs []optest.Runner
	reference := optest.Twice(interp.RunRounded)
	for _, v := range variants {
		runs = append(runs, optest.OnTwice(open(t, v.threads), v.o))
	}
	for seed := uint32(*firstProgram); seed < uint32(*firstProgram+*programs); seed++ {
		g := optest.Random(seed)
		tol := optest.RandomTolerance(g)
		feed := optest.RandomFeed(g, seed)
		want, err := base(g, feed)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		ref, err := reference(g, feed)
		if err != nil {
			t.Fatal(err)
		}
		if err := tol.CompareResults(ref, want); err != nil {
			t.Errorf("seed %d: against the interpreter: %v\n%s", seed, err, g)
		}
		for i, v := range variants {
			got, err := runs[i](g, feed)
			if err != nil {
				t.Fatalf("seed %d, %s: %v", seed, v.name, err)
			}
			bound := tol
			if v.bits {
				bound = optest.Tolerance{}
			}
			if err := bound.CompareResults(want, got); err != nil {
				t.Errorf("seed %d, %s: %v\n%s", seed, v.name, err, g)
			}
		}
		if t.Failed() {
			return // one program is enough to read
		}
	}
}

// Independent rows give the same bits on any number of workers and however the
// plan is made, and those of the plain program unless a sum over the samples
// was split.
func TestRows(t *testing.T) {
	variants := []struct {
		threads int
		o       plan.Options
	}{{1, plan.Options{}}, {3, plan.Options{}}, {2, plan.Options{NoFusion: true}}, {2, plan.Options{NoReuse: true}}, {2, plan.Options{NoInPlace: true}}}
	plain, base := optest.On(open(t, 2), engine.Options{}), optest.On(open(t, 2), byRows(plan.Options{}))
	var runs []optest.Runner
	for _, v := range variants {
		runs = append(runs, optest.On(open(t, v.threads), byRows(v.o)))
	}
	outlined, split := 0, 0
	for seed := range uint32(200) {
		g := optest.Random(seed)
		feed := optest.RandomFeed(g, seed)
		final, err := passes.Run(g, byRows(plan.Options{}).Passes)
		if err != nil {
			t.Fatal(err)
		}
		text := final.String()
		if !strings.Contains(text, "carry=0") {
			continue
		}
		outlined++
		want, err := base(g, feed)
		if err != nil {
			t.Fatal(err)
		}
		for i, v := range variants {
			got, err := runs[i](g, feed)
			if err != nil {
				t.Fatal(err)
			}
			if err := (optest.Tolerance{}).CompareResults(want, got); err != nil {
				t.Fatalf("seed %d, %+v: %v\n%s", seed, v, err, text)
			}
		}
		if splits(final) {
			split++
			continue
		}
		got, err := plain(g, feed)
		if err != nil {
			t.Fatal(err)
		}
		if err := (optest.Tolerance{}).CompareResults(want, got); err != nil {
			t.Errorf("seed %d: against the plain program: %v\n%s", seed, err, text)
		}
	}
	t.Logf("%d programs outlined, %d with a split sum", outlined, split)
	if outlined < 50 || split < 5 || split > outlined/2 {
		t.Errorf("%d programs outlined, %d with a split sum: the test tests too little", outlined, split)
	}
}

// The graphs whose plans are written down give what the interpreter gives,
// however they are planned.
func TestPlannedGraphs(t *testing.T) {
	files, err := filepath.Glob("../plan/testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no graphs", err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		source, _, _ := strings.Cut(string(text), "--- plan ---")
		g, err := graph.Parse(source)
		if err != nil {
			t.Fatal(err)
		}
		feed := optest.RandomFeed(g, 1)
		want, err := interp.RunRounded(g, feed)
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range []plan.Options{{}, {NoFusion: true}, {NoReuse: true}, {NoInPlace: true}, {LessTraffic: true}} {
			for _, threads := range []int{1, 3} {
				got, err := optest.On(open(t, threads), engine.Options{Plan: o})(g, feed)
				if err != nil {
					t.Fatal(err)
				}
				if err := (optest.Tolerance{Rel: 500, Abs: 500}).CompareResults(want, got); err != nil {
					t.Errorf("%s, %+v, %d workers: %v", filepath.Base(file), o, threads, err)
				}
			}
		}
	}
}

// Values that a chain must not keep to itself, operands that stand second, and
// operands that repeat give what the interpreter gives.
func TestFusedForms(t *testing.T) {
	g := graph.New("forms")
	shape := []int{4, 70, 3} // more than a tile
	x, z := g.Input("x", graph.F32, shape...), g.Input("z", graph.F32, shape...)
	out := func(name string, y *graph.Node) { g.Output(name, y) }
	forms := 0.0
	fresh := func() *graph.Node { forms++; return x.AddC(forms) } // for the next operation alone
	for i, compare := range []func(a, b *graph.Node) *graph.Node{(*graph.Node).Lt, (*graph.Node).Le, (*graph.Node).Gt, (*graph.Node).Ge, (*graph.Node).Eq, (*graph.Node).Ne} {
		out(fmt.Sprint("compared ", i), graph.Select(compare(fresh().Mul(z), z), x, z))
		out(fmt.Sprint("compared, second ", i), graph.Select(compare(z, fresh().Mul(z)), x, z))
	}
	out("sub second", z.Sub(fresh()))
	out("div second", z.Div(fresh()))

	both := x.Lt(z) // for two selections
	out("first", graph.Select(both, x, z))
	out("second", graph.Select(both, z, x))

	less, more := x.Le(z), fresh().Gt(z) // the second one is for the selection behind the next
	chosen := graph.Select(less, x, z)
	out("crossed", graph.Select(more, chosen, z))

	given := g.Input("m", graph.Bool, shape...)
	out("chosen", graph.Select(given, fresh().Mul(z), z))
	out("not chosen", graph.Select(given, z, fresh().Mul(z)))

	doubled := x.MulC(2) // for a sum behind the others
	out("sum", doubled.Sum(1))
	out("beside it", z.Exp().Mul(z).Neg().Exp())

	out("pages", x.Add(g.Input("page", graph.F32, 4, 1, 3).BroadcastTo(shape...)))
	out("rows", x.Add(g.Input("row", graph.F32, 1, 1, 3).BroadcastTo(shape...)))
	out("lines", x.Add(g.Input("line", graph.F32, 4, 70, 1).BroadcastTo(shape...)))
	if err := g.Err(); err != nil {
		t.Fatal(err)
	}
	feed := optest.RandomFeed(g, 1)
	want, err := interp.RunRounded(g, feed)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range []plan.Options{{}, {NoFusion: true}} {
		got, err := optest.On(open(t, 2), engine.Options{Plan: o})(g, feed)
		if err != nil {
			t.Fatal(err)
		}
		if err := (optest.Tolerance{Rel: 4, Abs: 4}).CompareResults(want, got); err != nil {
			t.Errorf("%+v: %v", o, err)
		}
	}
}

// What is reduced for one sample has the same bits in a batch of any size.
func TestReductionsOfRows(t *testing.T) {
	rows := func(n int, x []float64) [][]byte {
		g := graph.New("rows")
		in := g.Input("x", graph.F64, n, 7, 999) // whose last bits tell the order
		outs := []*graph.Node{in.Sum(1, 2), in.Sum(1), in.Sum(2), in.Exp().Sum(2), in.Slice(2, 0, 10).Mean(1, 2)}
		for i, o := range outs {
			g.Output(strconv.Itoa(i), o)
		}
		dev := open(t, 2)
		e, err := dev.Compile(g, dev.NewState(), engine.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if err := e.FeedBytes("x", engine.Bytes(x)); err != nil {
			t.Fatal(err)
		}
		if err := e.Run(); err != nil {
			t.Fatal(err)
		}
		var all [][]byte
		for i := range outs {
			b, err := e.FetchBytes(strconv.Itoa(i))
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, bytes.Clone(b))
		}
		return all
	}
	const n, size = 6, 7 * 999
	x := make([]float64, n*size)
	s := rng.NewStream(1, "rows", 0)
	for i := range x {
		x[i] = float64(s.Normal())
	}
	want := rows(n, x)
	for _, k := range []int{1, 2, 3} {
		for at := 0; at < n; at += k {
			for i, got := range rows(k, x[at*size:][:k*size]) {
				if per := len(got) / k; !bytes.Equal(got, want[i][at*per:][:len(got)]) {
					t.Errorf("reduction %d of rows %d to %d of %d differs from that of all", i, at, at+k, n)
				}
			}
		}
	}
}

// splits reports whether a sum over the samples was split among chunks.
func splits(g *graph.Graph) bool {
	for _, n := range g.Root().Nodes() {
		if n.Op() != graph.OpLoop || n.Attrs().Carry > 0 {
			continue
		}
		for _, r := range n.Body().Results() {
			if r.Op() == graph.OpReduceSum && slices.Contains(r.Attrs().Axes, 0) {
				return true
			}
		}
	}
	return false
}

// byRows asks for the schedule "rows" in programs of any size.
func byRows(o plan.Options) engine.Options {
	return engine.Options{Passes: passes.Options{Target: passes.Target{ChannelsLast: true, PackedFilters: true, RowBytes: 1}}, Plan: o}
}

// optional lists the passes that can be switched off.
func optional() []string {
	var out []string
	for _, p := range passes.Table() {
		if !p.Required {
			out = append(out, p.Name)
		}
	}
	return out
}

// FuzzPrograms looks for a program on which the CPU, by rows or not, and the
// interpreter differ.
func FuzzPrograms(f *testing.F) {
	f.Add(uint32(20))                              // a reduction beside an update in place
	for _, seed := range []uint32{412, 516, 653} { // loops over samples and in their bodies
		f.Add(seed)
	}
	dev, err := engine.Open("cpu", engine.DeviceOptions{Threads: 2})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { dev.Close() })
	runs := map[string]optest.Runner{"plain": optest.On(dev, engine.Options{}), "by rows": optest.On(dev, byRows(plan.Options{}))}
	f.Fuzz(func(t *testing.T, seed uint32) {
		g := optest.Random(seed)
		feed := optest.RandomFeed(g, seed)
		want, err := interp.Run(g, feed)
		if err != nil {
			t.Fatal(err)
		}
		for name, run := range runs {
			got, err := run(g, feed)
			if err != nil {
				t.Fatal(err)
			}
			if err := optest.RandomTolerance(g).CompareResults(want, got); err != nil {
				t.Errorf("%s: %v\n%s", name, err, g)
			}
		}
	})
}
