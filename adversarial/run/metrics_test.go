package run

import (
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestMetricsLines(t *testing.T) {
	dir := t.TempDir()
	m, err := OpenMetrics(dir)
	must(t, err)
	records := []Record{
		{Step: 0, Epoch: 0},
		{Step: 1, Epoch: 0, Fields: []Field{{"z", 0.1}, {"a/b c", -2}, {"m", 1e-7}}},
		{Step: 1, Epoch: 1, Fields: []Field{{"x", math.NaN()}, {"y", math.Inf(1)}, {"z", math.Inf(-1)}}},
		{Step: 2, Epoch: 1, Fields: []Field{{"x", math.MaxFloat64}, {"y", math.SmallestNonzeroFloat64}, {"z", math.Copysign(0, -1)}}},
	}
	for _, r := range records {
		must(t, m.Write(r))
	}
	must(t, m.Sync())
	must(t, m.Close())
	want := `{"step":0,"epoch":0}
{"step":1,"epoch":0,"z":0.1,"a/b c":-2,"m":1e-07}
{"step":1,"epoch":1,"x":"NaN","y":"Infinity","z":"-Infinity"}
{"step":2,"epoch":1,"x":1.7976931348623157e+308,"y":5e-324,"z":-0}
`
	b, err := os.ReadFile(filepath.Join(dir, MetricsFile))
	must(t, err)
	if string(b) != want {
		t.Errorf("wrote\n%swant\n%s", b, want)
	}
	got, err := ReadMetrics(dir)
	must(t, err)
	if d := cmp.Diff(records, got, cmpopts.EquateNaNs()); d != "" {
		t.Error(d)
	}
}

func TestMetricsCutBack(t *testing.T) {
	lines := []string{
		`{"step":1,"epoch":0,"x":1}`, `{"step":2,"epoch":0,"x":2}`, `{"step":2,"epoch":1,"y":2}`, `{"step":3,"epoch":1,"x":3}`,
	}
	whole := strings.Join(lines, "\n") + "\n"
	for _, c := range []struct {
		name, file string
		step       int64
		lines      int
	}{
		{"all", whole, 3, 4},
		{"beyond", whole, 99, 4},
		{"both records of a step", whole, 2, 3},
		{"one", whole, 1, 1},
		{"none", whole, 0, 0},
		{"half a line", whole + `{"step":3,"ep`, 3, 4},
		{"half a line of a step to cut", whole + `{"step":4,"ep`, 2, 3},
		{"a line without its end", strings.TrimSuffix(whole, "\n"), 3, 3},
		{"zeros from a power cut", whole + "\x00\x00\x00", 3, 4},
		{"empty", "", 3, 0},
		{"half the only line", `{"st`, 3, 0},
	} {
		path := filepath.Join(t.TempDir(), MetricsFile)
		must(t, os.WriteFile(path, []byte(c.file), 0o644))
		k, err := cutMetrics(path, c.step, false)
		must(t, err)
		got, err := os.ReadFile(path)
		must(t, err)
		want := ""
		if c.lines > 0 {
			want = strings.Join(lines[:c.lines], "\n") + "\n"
		}
		if string(got) != want || k.end != int64(len(want)) {
			t.Errorf("%s: left %q, want %q", c.name, got, want)
		}
	}
}

// TestMetricsEveryPrefix: wherever a kill cuts the file, opening it again
// leaves whole lines, and the next record stands on its own line.
func TestMetricsEveryPrefix(t *testing.T) {
	whole := `{"step":1,"epoch":0,"x":1}` + "\n" + `{"step":2,"epoch":0,"x":"NaN"}` + "\n"
	for n := range len(whole) + 1 {
		dir := t.TempDir()
		must(t, os.WriteFile(filepath.Join(dir, MetricsFile), []byte(whole[:n]), 0o644))
		m, err := OpenMetrics(dir)
		must(t, err)
		must(t, m.Write(Record{Step: 7}))
		must(t, m.Close())
		got, err := ReadMetrics(dir)
		must(t, err)
		if want := strings.Count(whole[:n], "\n") + 1; len(got) != want || got[want-1].Step != 7 {
			t.Errorf("%d bytes: %v", n, got)
		}
	}
}

func TestMetricsErrors(t *testing.T) {
	for _, c := range []struct{ line, want string }{
		{`nonsense`, `invalid character 'o' in literal null (expecting 'u')`},
		{``, `unexpected EOF`},
		{`[]`, `[ stands where { should`},
		{`{"epoch":0}`, `needs step and epoch`},
		{`{"step":1.5,"epoch":0}`, `1.5 is not a non-negative integer`},
		{`{"step":1,"epoch":0,"x":"nan"}`, `nan is not a number`},
		{`{"step":1,"epoch":0,"x":null}`, `<nil> is not a number`},
		{`{"step":1,"epoch":0,"x":1,"x":2}`, `"x" appears twice`},
		{`{"step":1,"epoch":0} {}`, `bytes after the JSON object`},
	} {
		dir := t.TempDir()
		path := filepath.Join(dir, MetricsFile)
		must(t, os.WriteFile(path, []byte(`{"step":1,"epoch":0}`+"\n"+c.line+"\n"), 0o644))
		_, err := ReadMetrics(dir)
		wantError(t, err, "read "+path+": line 2: "+c.want)
		_, err = OpenMetrics(dir)
		wantError(t, err, "read "+path+": line 2: "+c.want)
	}
	dir := t.TempDir()
	path := filepath.Join(dir, MetricsFile)
	_, err := ReadMetrics(dir)
	wantError(t, err, "read "+path+": no such file or directory")
	must(t, os.WriteFile(path, []byte(`{"step":2,"epoch":0}`+"\n"+`{"step":1,"epoch":0}`+"\n"), 0o644))
	_, err = OpenMetrics(dir)
	wantError(t, err, "read "+path+": line 2: step 1 stands after step 2")
}

func TestMetricsMisuse(t *testing.T) {
	m, err := OpenMetrics(t.TempDir())
	must(t, err)
	defer m.Close()
	must(t, m.Write(Record{Step: 5}))
	for name, r := range map[string]Record{
		"falling step": {Step: 4},
		"reserved":     {Step: 6, Fields: []Field{{"epoch", 1}}},
		"twice":        {Step: 6, Fields: []Field{{"x", 1}, {"x", 2}}},
		"empty":        {Step: 6, Fields: []Field{{"", 1}}},
		"quote":        {Step: 6, Fields: []Field{{`a"b`, 1}}},
		"line feed":    {Step: 6, Fields: []Field{{"a\nb", 1}}},
		"not ASCII":    {Step: 6, Fields: []Field{{"ε", 1}}},
	} {
		wantPanic(t, name, func() { m.Write(r) })
	}
}

func TestMetricsWriteAllocatesNothing(t *testing.T) {
	m, err := OpenMetrics(t.TempDir())
	must(t, err)
	defer m.Close()
	fields := []Field{{"train/loss", 1.25}, {"train/accuracy", 0.5}}
	if n := testing.AllocsPerRun(100, func() { m.Write(Record{Step: 1, Fields: fields}) }); n != 0 {
		t.Errorf("%v allocations a record", n)
	}
}

// FuzzRecord: what is read writes and reads back as it was.
func FuzzRecord(f *testing.F) {
	f.Add([]byte(`{"step":1,"epoch":0,"x":1.5e-3,"y":"NaN","z":"-Infinity"}`))
	f.Add([]byte(`{"epoch":0, "step":1}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		r, err := parseRecord(line)
		if err != nil {
			return
		}
		for _, field := range r.Fields {
			if !metricName(field.Name) {
				return
			}
		}
		b := appendRecord(nil, r)
		got, err := parseRecord(b[:len(b)-1])
		must(t, err)
		if d := cmp.Diff(r, got, cmpopts.EquateNaNs()); d != "" {
			t.Error(d)
		}
	})
}
