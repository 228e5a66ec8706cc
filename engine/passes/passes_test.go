package passes

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"temper/engine/graph"
)

var update = flag.Bool("update", false, "rewrite the after texts under testdata")

const separator = "--- after ---\n"

// Each file of testdata, PASS_case.txt, holds a graph, a separator and the graph
// that the pass makes of it.
func TestBeforeAfter(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no cases under testdata", err)
	}
	covered := map[string]bool{}
	for _, file := range files {
		pass, name, _ := strings.Cut(strings.TrimSuffix(filepath.Base(file), ".txt"), "_")
		precision, _ := graph.ParsePrecision(name) // of files that are named after one
		covered[pass] = true
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			before, want, _ := strings.Cut(string(text), separator)
			got := apply(t, pass, before, Target{RowBytes: 1024, Precision: precision})
			if *update {
				if err := os.WriteFile(file, []byte(before+separator+got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("after %s (-want +got):\n%s", pass, d)
			}
		})
	}
	for _, p := range Table() {
		if p.Name != "dead-loop" && p.Name != "clean" && !covered[p.Name] { // the same functions again
			t.Errorf("pass %s has no before/after case", p.Name)
		}
	}
}

func apply(t *testing.T, pass, before string, target Target) string {
	t.Helper()
	g, err := graph.Parse(before)
	if err != nil {
		t.Fatal(err)
	}
	i := index(pass)
	if i < 0 {
		t.Fatalf("no pass %q", pass)
	}
	h, err := table[i].Run(g, target)
	if err != nil {
		t.Fatal(err)
	}
	if err := graph.Verify(h); err != nil {
		t.Fatal(err)
	}
	return h.String()
}

func TestOptions(t *testing.T) {
	g := graph.New("g")
	g.Output("y", g.Input("x", graph.F32, 2).Exp())
	for off, want := range map[string]string{"strip": "cannot be switched off", "hoisting": "no pass is called"} {
		if _, err := Run(g, Options{Off: []string{off}}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Off %q: error %v does not say %q", off, err, want)
		}
	}
	var seen []string
	all := Target{ChannelsLast: true, BF16: true, LessTraffic: true, PackedFilters: true, RowBytes: 1}
	if _, err := Run(g, Options{Target: all, Off: []string{"hoist"}, Dump: func(p string, _ *graph.Graph) { seen = append(seen, p) }}); err != nil {
		t.Fatal(err)
	}
	if len(seen) != len(table) || seen[0] != "input" { // all but hoist, and the input
		t.Errorf("dumped %v", seen)
	}
}
