package run

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestEnvironments(t *testing.T) {
	dir := t.TempDir()
	first := CurrentEnvironment("cpu: portable")
	if first.Go != runtime.Version() || first.Cores < 1 || first.Device != "cpu: portable" || first.Date.IsZero() {
		t.Errorf("%+v", first)
	}
	second := first
	second.Device = "cuda:0 <H200>"
	must(t, AddEnvironment(dir, first))
	must(t, AddEnvironment(dir, second))
	got, err := ReadEnvironments(dir)
	must(t, err)
	if d := cmp.Diff([]Environment{first, second}, got); d != "" {
		t.Error(d)
	}
	path := filepath.Join(dir, EnvironmentFile)
	b, err := os.ReadFile(path)
	must(t, err)
	if !strings.Contains(string(b), "<H200>") {
		t.Errorf("not plain text:\n%s", b)
	}
	must(t, os.WriteFile(path, []byte("{"), 0o644))
	wantError(t, AddEnvironment(dir, first), "read "+path+": unexpected end of JSON input")
}

func TestModelName(t *testing.T) {
	const cpuinfo = "processor\t: 0\nmodel\t\t: 143\nmodel name\t: Some CPU: 2 GHz\nstepping\t: 8\n"
	if got := modelName([]byte(cpuinfo)); got != "Some CPU: 2 GHz" {
		t.Errorf("%q", got)
	}
	if got := modelName([]byte("processor: 0\n")); got != "" {
		t.Errorf("%q", got)
	}
}
