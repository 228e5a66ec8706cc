package report

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"temper/adversarial/run"
)

// folder makes a run folder of files.
func folder(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "20261123-101500-test")
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func load(t *testing.T, dir string) *Run {
	t.Helper()
	f, err := run.OpenFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := Load(f)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// html is the page, which is held to what every page must be: one file that
// fetches and runs nothing, of less than a megabyte.
func html(t *testing.T, r *Run) string {
	t.Helper()
	var b bytes.Buffer
	if err := r.Write(&b); err != nil {
		t.Fatal(err)
	}
	return whole(t, b.String())
}

var fetches = regexp.MustCompile(`(?i)(src|href)="(?:[^d"]|d[^a"])|url\(|@import|<script|<iframe|<object|javascript:|<[^>]*\son\w+=`)

func whole(t *testing.T, page string) string {
	t.Helper()
	clean := strings.ReplaceAll(page, `xmlns:xlink="http://www.w3.org/1999/xlink"`, "")
	if m := fetches.FindStringIndex(clean); m != nil {
		t.Errorf("the page fetches or runs: …%s…", clean[max(0, m[0]-40):min(len(clean), m[1]+60)])
	}
	if len(page) > 1e6 {
		t.Errorf("the page has %d bytes", len(page))
	}
	if n, m := strings.Count(page, "<svg "), strings.Count(page, "<title>"); m != n+1 {
		t.Errorf("%d plots, %d titles: want one each and the page's", n, m)
	}
	return page
}

const settings = "seed = 3\n[data]\nname = 'mnist'\n[model]\nname = 'mnist-wong'\n[threat]\nnorm = 'linf'\neps = '0.3'\n[training]\nmethod = 'fgsm-rs'\n"

func metrics(n int) string {
	var b strings.Builder
	for i := 1; i <= n; i++ {
		fmt.Fprintf(&b, `{"step":%d,"epoch":%d,"train/loss":%g,"train/lr":0.1}`+"\n", i, i/10, 1/float64(i))
		if i%10 == 0 {
			fmt.Fprintf(&b, `{"step":%d,"epoch":%d,"test/clean":0.75,"test/robust":0.5,"probe/single_step":0.5,"probe/multi_step":0.25,"alarm/robust_overfitting":%d,"time/step":0.02,"time/data":0.001,"time/attack":0.012,"time/update":0.007}`+"\n", i, i/10, i/50)
		}
	}
	return b.String()
}

const evaluation = `{"date":"2026-11-23T10:20:00Z","step":100,"attack":"PGD-50-10","n":4,"clean_accuracy":{"value":0.75,"low":0.2,"high":0.99},
"robust_accuracy":{"value":0.5,"low":0.07,"high":0.93},"classes":[{"class":"cat","n":2,"clean":2,"robust":1},{"class":"dog","n":2,"clean":1,"robust":1}],
"attacks":[{"attack":"PGD-50-10","accuracy":{"value":0.5,"low":0.07,"high":0.93}}],"warnings":[{"name":"zero-gradients","text":"many are 0","remedy":"use square"}],
"confusion":{"clean":[[2,0],[1,1]],"attacked":[[1,1],[1,1]]},"settings":{"split":"test"}}`

// TestPage looks for everything that a whole run has in its page.
func TestPage(t *testing.T) {
	dir := folder(t, map[string]string{run.ConfigFile: settings, run.MetricsFile: metrics(100), "evaluations/20261123-102000-pgd.json": evaluation,
		"evaluations/training.json": strings.ReplaceAll(evaluation, "PGD-50-10", "PGD-7"), "evaluations/unfinished-00.json": "{"})
	if err := run.WriteFacts(dir, run.Facts{Steps: 100, PerEpoch: 10, Classes: []string{"cat", "dog"}, Parameters: 1234, StateBytes: 2_500_000}); err != nil {
		t.Fatal(err)
	}
	if err := run.AddEnvironment(dir, run.CurrentEnvironment("cpu: a processor")); err != nil {
		t.Fatal(err)
	}
	p := &run.Pictures{Step: 100, Attack: "PGD-7", Domain: "unit", Classes: []string{"cat", "dog"}, Labels: []int32{0, 1}, Clean: []int32{0, 1}, Pred: []int32{1, 1},
		X: run.Array{Shape: []int{2, 1, 2, 2}, Values: []float32{0, 0.5, 1, 0.25, 0, 0, 0, 0}}, Adv: run.Array{Shape: []int{2, 1, 2, 2}, Values: []float32{0.1, 0.5, 0.9, 0.25, 0, 0.1, 0, 0}},
		Filters: run.Array{Name: "conv1.weight", Shape: []int{2, 1, 3, 3}, Values: make([]float32, 18)}}
	if err := run.WritePictures(dir, p); err != nil {
		t.Fatal(err)
	}
	r := load(t, dir)
	if len(r.Problems) > 0 {
		t.Errorf("problems: %q", r.Problems)
	}
	page := html(t, r)
	for _, want := range []string{
		"<title>temper: 20261123-101500-test</title>", `<span class="state">ended</span>`, "fgsm-rs · mnist-wong · mnist · linf, ε = 0.3",
		"95 % interval 7.0 to 93.0, under PGD-50-10", "75.0 % [20.0, 99.0]", "during training", "4 test", "robust overfitting, from step 50 to the end", "zero-gradients: many are 0; use square",
		"<title>Accuracy. clean, test: 0.75 at step 10, 0.75 at step 100.", "<title>Training loss. a step: 1 at step 1, 0.01 at step 100.", "The numbers of “Learning rate”",
		"<title>Probe of the alarms: accuracy. under one step: 0.5 at step 10, 0.5 at step 100. under ten steps of PGD: 0.25 at step 10,",
		"waiting for data: 1 ms. attack: 12 ms. update: 7 ms.", `<td class="right" style="--s:100">2</td>`, `<td class="wrong" style="--s:50">1</td>`,
		"magnified 5 times", "their largest element is 0.1", `<span class="fooled">then seen as dog</span>`, "still seen as dog", `alt="cat, predicted as cat"`,
		"conv1.weight: 2 filters of 1×3×3", "cpu: a processor", "2.5 MB of state", ">training.method</th><td>fgsm-rs<",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if n := strings.Count(page, "data:image/png;base64,"); n != 7 {
		t.Errorf("%d pictures, want 2·3 and the filters", n)
	}
}

// TestStates reads how far a run has come.
func TestStates(t *testing.T) {
	dir := folder(t, map[string]string{run.MetricsFile: metrics(40)})
	r, err := run.Create(filepath.Join(dir, "run"))
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{run.ConfigFile: settings, run.MetricsFile: metrics(40), run.FactsFile: `{"steps":100}`} {
		if err := os.WriteFile(filepath.Join(r.Dir, name), []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	if got := load(t, r.Dir).State(); got != "running" {
		t.Errorf("while it is written: %s", got)
	}
	r.Close()
	if got := load(t, r.Dir).State(); got != "stopped before its end" {
		t.Errorf("after 40 of 100 steps: %s", got)
	}
	path, err := Refresh(r.Dir)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(path); err != nil || !strings.Contains(string(b), "40 of 100") {
		t.Errorf("%v: the page lacks the steps", err)
	}
}

// TestHostileFolders shows folders that temper never wrote: every page is whole,
// nothing in them runs, and what cannot be read is named.
func TestHostileFolders(t *testing.T) {
	evil := `<script>alert(1)</script><img src=x onerror=alert(1)>"'`
	quoted := strings.Trim(string(must(json.Marshal(evil))), `"`)
	many := strings.Repeat("9", 400)
	for name, c := range map[string]struct {
		files map[string]string
		want  []string
	}{
		"only settings": {map[string]string{}, nil},
		"words that run": {map[string]string{
			run.ConfigFile:  "a = " + `"""` + strings.ReplaceAll(evil, `"`, "") + `"""` + "\n" + settings,
			run.MetricsFile: `{"step":1,"epoch":0,"<script>alert(2)</script>":1}` + "\n",
			run.FactsFile:   `{"steps":1,"device":"` + quoted + `","watching":"` + quoted + `"}`, run.EnvironmentFile: `[{"device":"` + quoted + `","command":["` + quoted + `"]}]`,
			"evaluations/e.json": `{"attack":"` + quoted + `","classes":[{"class":"` + quoted + `"}],"confusion":{"clean":[[1]],"attacked":[[1]]},"warnings":[{"name":"` + quoted + `"}]}`,
			run.FindingsFile:     `{"lead":"` + quoted + `","tables":[{"title":"` + quoted + `","columns":["` + quoted + `"],"rows":[["` + quoted + `"]]}],"figures":{"f":{"columns":["a"],"rows":[["` + quoted + `"]]}}}`,
			"figures/f.svg":      "<svg><title>" + "&lt;script&gt;" + "</title><script>alert(3)</script></svg>",
		}, []string{"&lt;script&gt;alert(1)", "&lt;script&gt;alert(2)"}},
		"numbers that are none": {map[string]string{run.MetricsFile: `{"step":1,"epoch":0,"train/loss":"NaN","x":"Infinity"}` + "\n" +
			`{"step":2,"epoch":0,"train/loss":2,"x":"-Infinity"}` + "\n" + `{"step":3,"epoch":0,"train/loss":1e308}` + "\n" + `{"step":4,"epoch":0,"train/loss":-1e308}` + "\n" + `{"step":5,"ep`},
			[]string{"train/loss was NaN or infinite 1 times, first at step 1", "x was NaN or infinite 2 times", "a step: 1 values are not finite, the first at step 1"}},
		"equal numbers":       {map[string]string{run.MetricsFile: `{"step":1,"epoch":0,"train/loss":1e16}` + "\n" + `{"step":2,"epoch":0,"train/loss":1.0000000000000002e16}` + "\n"}, nil},
		"steps beyond counts": {map[string]string{run.MetricsFile: `{"step":` + many + `,"epoch":0}` + "\n"}, []string{"metrics.jsonl: line 1: "}},
		"metrics are text":    {map[string]string{run.MetricsFile: "hello\n"}, []string{"metrics.jsonl: line 1: "}},
		"a line without end":  {map[string]string{run.MetricsFile: strings.Repeat("x", 1<<20)}, []string{"longer than 65536 bytes"}},
		"settings are text":   {map[string]string{run.ConfigFile: "[[["}, []string{"config.toml: toml: "}},
		"many settings":       {map[string]string{run.ConfigFile: manyLines("k%d = 1\n", 5000)}, []string{"more than 1000 settings"}},
		"many names":          {map[string]string{run.MetricsFile: manyLines(`{"step":1,"epoch":0,"n%d":1}`+"\n", 500)}, []string{"more than 64 names"}},
		"torn files":          {map[string]string{run.FactsFile: "{", run.EnvironmentFile: "[{", run.PicturesFile: "xxxxxxxxxxxxx", "evaluations/a.json": "{"}, []string{"facts.json: ", "environment.json: ", "pictures.safetensors: ", "evaluations/a.json: "}},
		"a lame matrix":       {map[string]string{"evaluations/a.json": `{"classes":[{}],"confusion":{"clean":[[1,2]],"attacked":[[1]]}}`}, []string{"a confusion matrix with a row of 2 for 1 classes"}},
		"huge counts":         {map[string]string{"evaluations/a.json": `{"classes":[{"class":"a"}],"confusion":{"clean":[[9223372036854775807]],"attacked":[[-9223372036854775808]]}}`}, nil},
		"ragged findings":     {map[string]string{run.FindingsFile: `{"tables":[{"columns":["a","b"],"rows":[["1"]]},{"columns":["c"],"rows":[["kept"]]}]}`}, []string{"findings.json: a table has rows of 2 and 1 columns", ">kept<"}},
		"large findings":      {map[string]string{run.FindingsFile: `{"tables":[{"columns":["a"],"rows":[["1"]` + strings.Repeat(`,["2"]`, 6000) + `]}]}`}, []string{"findings.json: a table of 6001 rows is too large"}},
		"torn findings":       {map[string]string{run.FindingsFile: `{"tables":[{`}, []string{"findings.json: "}},
		"many evaluations":    {manyFiles(300), []string{"number 299", "number 250"}},
	} {
		t.Run(name, func(t *testing.T) {
			if c.files[run.ConfigFile] == "" {
				c.files[run.ConfigFile] = settings
			}
			page := html(t, load(t, folder(t, c.files)))
			for _, want := range c.want {
				if !strings.Contains(page, want) {
					t.Errorf("the page lacks %q", want)
				}
			}
		})
	}
	f, err := run.OpenFolder(folder(t, map[string]string{"x": ""}))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := Load(f); err == nil || !strings.HasSuffix(err.Error(), "holds no run: it has no config.toml") {
		t.Errorf("a folder without a run: %v", err)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func manyLines(format string, n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, format, i)
	}
	return b.String()
}

func manyFiles(n int) map[string]string {
	files := map[string]string{}
	for i := range n {
		files[fmt.Sprintf("evaluations/e%03d.json", i)] = fmt.Sprintf(`{"attack":"number %d"}`, i)
	}
	return files
}

// TestCurvesStayBounded thins long series without losing their extremes.
func TestCurvesStayBounded(t *testing.T) {
	c := &Curves{}
	const n = 100_000
	for i := 1; i <= n; i++ {
		v := 1.0
		if i == 77_777 {
			v = 50
		}
		c.Add(run.Record{Step: int64(i), Fields: []run.Field{{Name: "a", Value: v}}})
	}
	s := c.Get("a")
	if len(s.Points) > mostPoints || len(s.Thinned(40)) > 40 {
		t.Fatalf("%d points, thinned %d", len(s.Points), len(s.Thinned(40)))
	}
	sum, most := 0.0, 0.0
	for _, p := range s.Points {
		sum += p.Mean * float64(p.n)
		most = max(most, p.Max)
	}
	if most != 50 || math.Abs(sum-(n+49)) > 1e-3 || s.Points[len(s.Points)-1].Step != n {
		t.Errorf("largest %v, sum %v, last %+v", most, sum, s.Points[len(s.Points)-1])
	}
}

// TestCompare shows runs beside each other.
func TestCompare(t *testing.T) {
	a := load(t, folder(t, map[string]string{run.ConfigFile: settings, run.MetricsFile: metrics(50), "evaluations/e.json": evaluation}))
	b := load(t, folder(t, map[string]string{run.ConfigFile: strings.Replace(settings, "0.3", "0.2", 1), run.MetricsFile: metrics(20)}))
	b.Name = "another"
	var buf bytes.Buffer
	if err := Compare(&buf, []*Run{a, b}); err != nil {
		t.Fatal(err)
	}
	page := whole(t, buf.String())
	for _, want := range []string{"<title>Robust accuracy. 20261123-101500-test: 0.5 at step 10, 0.5 at step 50. another: 0.5 at step 10, 0.5 at step 20.", "not evaluated",
		`<th scope="row">threat.eps</th><td>0.3</td><td>0.2</td>`} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if strings.Contains(page, "do not compare") {
		t.Error("one evaluation is compared with nothing")
	}
	if diff := cmp.Diff([]difference{{"threat.eps", []string{"0.3", "0.2"}}}, differences([]*Run{a, b})); diff != "" {
		t.Error(diff)
	}
	if err := Compare(&buf, make([]*Run, MostRuns+1)); err == nil {
		t.Error("too many runs are accepted")
	}
}

// TestCompareUnlike tells runs apart that were evaluated under different attacks,
// and shows the evaluations that they have in common.
// TestCompareExperiments: the tables of experiments become one, each row named by
// what the runs differ in, and there is no empty table of evaluations.
func TestCompareExperiments(t *testing.T) {
	of := func(m, value, more string) *Run {
		return load(t, folder(t, map[string]string{run.ConfigFile: "[settings]\nm = " + m + "\n",
			run.FindingsFile: `{"lead":"what is learnt","tables":[{"title":"Measured","columns":["quantity","standard"` + more + `],"rows":[["u","` + value + `"` + more + `]]}]}`}))
	}
	var buf bytes.Buffer
	if err := Compare(&buf, []*Run{of("8", "0.12", `,"band"`), of("16", "0.34", "")}); err != nil {
		t.Fatal(err)
	}
	page := whole(t, buf.String())
	for _, want := range []string{"m 8", "0.12", "m 16", "0.34", "<h2>Measured</h2>"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	for _, not := range []string{"not evaluated", ">band<"} {
		if strings.Contains(page, not) {
			t.Errorf("the page has %q", not)
		}
	}
}

func TestCompareUnlike(t *testing.T) {
	weak := strings.ReplaceAll(evaluation, "PGD-50-10", "PGD-7")
	for name, c := range map[string]struct {
		second map[string]string
		want   []string
		not    string
	}{
		"the same": {map[string]string{"evaluations/e.json": evaluation}, nil, "do not compare"},
		"only another's": {map[string]string{"evaluations/e.json": strings.ReplaceAll(evaluation, "PGD-50-10", "Square")},
			[]string{"do not compare", "No attack was made on all of them"}, "<h3>"},
		"the training's in common": {map[string]string{"evaluations/training.json": weak}, []string{"do not compare", "<h3>PGD-7, 4 test examples</h3>"}, "No attack was made"},
		"fewer examples": {map[string]string{"evaluations/e.json": strings.NewReplacer(`"n":4`, `"n":3`, `"high":0.93`, `"high":0.92`).Replace(evaluation), "evaluations/training.json": weak},
			[]string{"do not compare", "PGD-50-10, 3 test examples", "<h3>PGD-7, 4 test examples</h3>"}, "<h3>PGD-50-10"},
	} {
		t.Run(name, func(t *testing.T) {
			a := load(t, folder(t, map[string]string{run.ConfigFile: settings, "evaluations/e.json": evaluation, "evaluations/training.json": weak}))
			c.second[run.ConfigFile] = settings
			b := load(t, folder(t, c.second))
			var buf bytes.Buffer
			if err := Compare(&buf, []*Run{a, b}); err != nil {
				t.Fatal(err)
			}
			page := whole(t, buf.String())
			for _, want := range c.want {
				if !strings.Contains(page, want) {
					t.Errorf("the page lacks %q", want)
				}
			}
			if strings.Contains(page, c.not) {
				t.Errorf("the page has %q", c.not)
			}
		})
	}
}

// TestBest: a page leads with the evaluation that says most, whenever it was made.
func TestBest(t *testing.T) {
	eval := func(day int, attack, eps, split, precision string, step, n int, value, high float64) string {
		return fmt.Sprintf(`{"date":"2026-11-%02dT10:00:00Z","step":%d,"attack":%q,"n":%d,"clean_accuracy":{"value":0.9,"low":0.8,"high":1},"robust_accuracy":{"value":%v,"low":0,"high":%v},
			"settings":{"split":%q,"precision":%q,"threat":{"norm":"linf","eps":%q}},"classes":[]}`, day, step, attack, n, value, high, split, precision, eps)
	}
	training := `{"step":100,"attack":"PGD-20","n":1000,"clean_accuracy":{"value":0.9,"low":0.8,"high":1},"robust_accuracy":{"value":0.6,"low":0.5,"high":0.63},"settings":{"split":"test"},"classes":[]}`
	strong := eval(1, "autoattack", "0.3", "test", "float32", 100, 1000, 0.5, 0.53)
	for _, c := range []struct {
		why, want string
		others    []string // all newer than the strong one
	}{
		{"the strongest", "autoattack", []string{eval(2, "fgsm", "0.3", "test", "float32", 100, 10000, 0.7, 0.71)}},
		{"few examples say little", "autoattack", []string{eval(2, "few", "0.3", "test", "float32", 100, 10, 0.4, 0.74)}},
		{"another radius is another question", "autoattack", []string{eval(2, "pgd", "0.4", "test", "float32", 100, 1000, 0.1, 0.12)}},
		{"so are training examples", "autoattack", []string{eval(2, "pgd", "0.3", "train", "float32", 100, 1000, 0.1, 0.12)}},
		{"and another checkpoint", "autoattack", []string{eval(2, "pgd", "0.3", "test", "float32", 60, 1000, 0.1, 0.12)}},
		{"rounding is not the network", "autoattack", []string{eval(2, "mixed", "0.3", "test", "bf16", 100, 1000, 0.1, 0.12)}},
		{"of equals the larger", "larger", []string{eval(2, "larger", "0.3", "test", "float32", 100, 2000, 0.51, 0.53), eval(3, "smaller", "0.3", "test", "float32", 100, 900, 0.49, 0.53)}},
		{"then the newest", "newest", []string{eval(2, "newest", "0.3", "test", "float32", 100, 1000, 0.5, 0.53)}},
		{"weights that do not count", "autoattack", []string{strings.Replace(eval(2, "pgd", "0.3", "test", "float32", 100, 1000, 0.1, 0.12), `"split"`, `"weights":"average","split"`, 1)}},
		{"a file without numbers", "autoattack", []string{`{"attack":"nothing","settings":{"split":"test"}}`}},
	} {
		files := map[string]string{run.ConfigFile: settings, "evaluations/training.json": training, "evaluations/20261101-autoattack.json": strong}
		for i, o := range c.others {
			files[fmt.Sprintf("evaluations/2026110%d-other.json", i+2)] = o
		}
		r := load(t, folder(t, files))
		if len(r.Problems) > 0 {
			t.Fatalf("%s: problems: %q", c.why, r.Problems)
		}
		best := r.Best()
		if best == nil || best.Attack != c.want {
			t.Errorf("%s: the page leads with %+v", c.why, best)
		}
		if p := r.page(); p.Evaluations[0].Attack != c.want || len(p.Evaluations) != len(files)-1 || !strings.Contains(p.Cards[1].Note, c.want) {
			t.Errorf("%s: its table begins with %s, its card says %s", c.why, p.Evaluations[0].Attack, p.Cards[1].Note)
		}
	}
	only := load(t, folder(t, map[string]string{run.ConfigFile: settings, "evaluations/training.json": training, "evaluations/a.json": eval(2, "fgsm", "0.3", "test", "float32", 100, 10, 0.3, 0.65)}))
	if b := only.Best(); b == nil || !b.Training {
		t.Errorf("ten examples lead: %+v", b)
	}
	if b := load(t, folder(t, map[string]string{run.ConfigFile: settings})).Best(); b != nil {
		t.Errorf("a run without evaluations leads with %+v", b)
	}
}
