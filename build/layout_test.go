// Package build_test checks what no single package can see of itself: which
// package may import which.
package build_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// allowed lists, for each folder, the folders of temper that its product code
// may import (a name stands for the folder itself, "…/*" also for those below
// it). Arrows point down only; a back end is imported by commands and tests
// alone.
var allowed = map[string][]string{
	"cmd/temper":              {"adversarial/*", "cuda", "cuda/cache", "datasets", "engine/*", "nn"},
	"adversarial":             {"engine/graph", "engine/autodiff", "nn"},
	"adversarial/bench":       {"adversarial", "adversarial/run", "build", "engine", "engine/graph", "engine/passes", "engine/plan", "engine/rng", "nn"},
	"build":                   {},
	"build/release":           {},
	"adversarial/job":         {"adversarial/*", "datasets", "engine", "engine/graph", "engine/onnx", "engine/passes", "engine/plan", "nn"},
	"adversarial/figure":      {},
	"adversarial/report":      {"adversarial/figure", "adversarial/run"},
	"adversarial/live":        {"adversarial/report", "adversarial/run"},
	"adversarial/features":    {"adversarial", "adversarial/figure", "adversarial/job", "adversarial/report", "adversarial/run", "datasets", "engine", "engine/graph", "engine/plan", "nn"},
	"adversarial/run":         {},
	"nn":                      {"engine/graph", "engine/autodiff"},
	"datasets":                {"engine/rng"},
	"cuda":                    {"cuda/cache", "cuda/emulator", "engine", "engine/graph", "engine/passes", "engine/plan", "engine/rng", "kernels"},
	"cuda/cache":              {},
	"cuda/emulator":           {"cuda/cache", "kernels"},
	"kernels":                 {},
	"engine":                  {"engine/graph", "engine/passes", "engine/plan"},
	"engine/autodiff":         {"engine/graph"},
	"engine/cpu":              {"engine", "engine/cpu/kernel", "engine/graph", "engine/passes", "engine/plan", "engine/rng"},
	"engine/cpu/kernel":       {"engine/rng"},
	"engine/cpu/kernel/fence": {},
	"engine/gorgonia":         {"engine", "engine/autodiff", "engine/graph"},
	"engine/graph":            {},
	"engine/interp":           {"engine/graph", "engine/rng"},
	"engine/onnx":             {"engine/graph"},
	"engine/optest":           {"engine/*"},
	"engine/passes":           {"engine/graph", "engine/plan"},
	"engine/plan":             {"engine/graph"},
	"engine/rng":              {},
	"engine/cpu/kernel/gen":   {},
}

func TestArrowsPointDown(t *testing.T) {
	seen := map[string]bool{}
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		dir := filepath.ToSlash(filepath.Dir(strings.TrimPrefix(path, "../")))
		seen[dir] = true
		rules, known := allowed[dir]
		if !known {
			t.Errorf("%s: a new package: say in allowed what it may import", dir)
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, spec := range f.Imports {
			p, _ := strconv.Unquote(spec.Path.Value)
			if to, ours := strings.CutPrefix(p, "temper/"); ours && !permits(rules, to) {
				t.Errorf("%s imports %s: the arrow points up", path, to)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for dir := range allowed {
		if !seen[dir] {
			t.Errorf("%s is in allowed and has no Go file", dir)
		}
	}
}

func permits(rules []string, to string) bool {
	for _, r := range rules {
		if base, all := strings.CutSuffix(r, "/*"); to == base || all && strings.HasPrefix(to, base+"/") {
			return true
		}
	}
	return false
}
