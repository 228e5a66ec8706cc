package bench

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"temper/engine"
)

// around is n times from lo to hi.
func around(lo, hi float64, n int) (t Times) {
	for i := range n {
		t = append(t, lo+(hi-lo)*float64(i)/float64(n-1))
	}
	return t
}

func TestChange(t *testing.T) {
	for _, c := range []struct {
		name      string
		then, now Times
		want      string
	}{
		{"the same", around(1, 1.2, 20), around(1, 1.2, 20), Noise},
		{"a little less, but they overlap", around(1, 1.4, 20), around(0.95, 1.35, 20), Noise},
		{"half", around(1, 1.2, 20), around(0.5, 0.6, 20), Faster},
		{"twice", around(1, 1.2, 20), around(2, 2.4, 20), Slower},
		{"half, of five runs", around(1, 1.2, 20), around(0.5, 0.6, 5), TooFew},
	} {
		got := change(c.name, c.then, c.now)
		if got.Verdict != c.want || got.Low > got.Ratio || got.High < got.Ratio {
			t.Errorf("%s: %+v, want %s", c.name, got, c.want)
		}
	}
}

// TestAgainst writes a report down, reads it back and compares.
func TestAgainst(t *testing.T) {
	then := &Report{Device: engine.Info{Name: "old chip"}, Precision: "f32", Commit: "aaaa", Ceilings: &Ceilings{FLOPs: 1e11},
		Results: []*Result{{Name: "a", Times: around(1, 1.1, 9)}, {Name: "gone", Times: around(1, 1.1, 9)}}}
	now := &Report{Device: engine.Info{Name: "new chip"}, Precision: "f32", Commit: "bbbb", Ceilings: &Ceilings{FLOPs: 2e11},
		Results: []*Result{{Name: "a", Times: around(0.4, 0.5, 9)}, {Name: "new", Times: around(1, 1.1, 9)}}}
	path := filepath.Join(t.TempDir(), "before.json")
	b, err := json.Marshal(then)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b, 0o666); err != nil {
		t.Fatal(err)
	}
	if then, err = ReadReport(path); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	now.writeAgainst(&out, then, "before.json")
	for _, want := range []string{`the device was "old chip", it is "new chip"`, `the commit was "aaaa", it is "bbbb"`, "the machine's own ceiling is 2.00 times what it was", "0.429", "faster", "1 cases are not in before.json"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the comparison lacks %q:\n%s", want, out.String())
		}
	}
	for _, text := range []string{"", "{}", `{"results":[{"name":"a","seconds":[]}]}`, `{"results":[{"name":"a","seconds":[0]}]}`, `{"results":[null]}`} {
		if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadReport(path); err == nil || !strings.Contains(err.Error(), "want what temper bench --format json printed") {
			t.Errorf("%q: %v", text, err)
		}
	}
}
