package report

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"

	"temper/adversarial/run"
)

// Run is what a page shows of a run folder.
type Run struct {
	Name         string
	Settings     []Setting
	Environments []run.Environment
	Facts        run.Facts // zero if the run has none
	Curves       *Curves
	Evaluations  []Evaluation // the oldest first; the training's own last
	Pictures     *run.Pictures
	Findings     run.Findings // zero unless the run is an experiment of temper features
	Figures      []Figure     // that it drew
	Active       bool         // a process is writing it
	// Problems are what could not be read, a line each.
	Problems []string
}

// Setting is a line of config.toml.
type Setting struct{ Key, Value string }

// Evaluation is what the page needs of a result in evaluations/.
type Evaluation struct {
	File           string         `json:"-"`
	Training       bool           `json:"-"` // on the way, by the training itself
	Date           time.Time      `json:"date"`
	Step           int64          `json:"step"`
	Attack         string         `json:"attack"`
	N              int            `json:"n"`
	LargestNorm    float64        `json:"largest_norm"`
	CleanAccuracy  Interval       `json:"clean_accuracy"`
	RobustAccuracy Interval       `json:"robust_accuracy"`
	Classes        []Class        `json:"classes"`
	Attacks        []Attack       `json:"attacks"`
	Warnings       []Warning      `json:"warnings"`
	Confusion      *Confusion     `json:"confusion"`
	Settings       map[string]any `json:"settings"`
}

// Interval is a proportion with its 95 % interval.
type Interval struct{ Value, Low, High float64 }

// String is "98.5 % [95.7, 99.7]".
func (a Interval) String() string {
	return fmt.Sprintf("%.1f %% [%.1f, %.1f]", 100*a.Value, 100*a.Low, 100*a.High)
}

// Class counts one class's examples.
type Class struct {
	Class            string
	N, Clean, Robust int
}

// Attack is the part of a result that one attack makes up.
type Attack struct {
	Attack   string
	Accuracy Interval
	Stages   []struct {
		Attack string
		Robust int
	}
}

// Warning says what makes a number doubtful.
type Warning struct{ Name, Text, Remedy string }

// Confusion counts predictions by label, without and under the attack.
type Confusion struct{ Clean, Attacked [][]int }

// Limits of what is shown.
const (
	mostSettings    = 1000
	mostEvaluations = 100
	mostClasses     = 1000
	mostWords       = 300 // characters of a text from a file
	mostCaption     = 2000
	mostTables      = 20
	mostCells       = 5000 // of a table
)

// Load reads a run folder. It is an error if there is no run.
func Load(f *run.Folder) (*Run, error) {
	r, err := LoadBrief(f)
	if err != nil {
		return nil, err
	}
	r.Environments, err = f.Environments()
	r.note(err)
	r.Environments = r.Environments[max(0, len(r.Environments)-20):]
	r.Facts, err = f.Facts()
	r.note(err)
	_, err = f.Metrics(0, r.Curves.Add)
	r.note(err)
	if r.Curves.Dropped > 0 {
		r.Problems = append(r.Problems, fmt.Sprintf("%s: more than %d names: the others are left out", run.MetricsFile, mostSeries))
	}
	r.Pictures, err = f.Pictures()
	r.note(err)
	r.Findings, err = f.Findings()
	r.note(err)
	r.note(trim(&r.Findings))
	r.figures(f)
	return r, nil
}

// LoadBrief reads settings and evaluations alone.
func LoadBrief(f *run.Folder) (*Run, error) {
	text, err := f.Read(run.ConfigFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s holds no run: it has no %s", f.Dir, run.ConfigFile)
	}
	if err != nil {
		return nil, err
	}
	r := &Run{Name: filepath.Base(f.Dir), Curves: &Curves{}, Active: f.Active()}
	r.note(r.settings(text))
	r.evaluations(f)
	return r, nil
}

// note keeps what went wrong, but for files that a run may lack.
func (r *Run) note(err error) {
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		r.Problems = append(r.Problems, clip(err.Error()))
	}
}

// clip bounds a text from a file.
func clip(s string) string { return cut(s, mostWords) }

func cut(s string, most int) string {
	if runes := []rune(s); len(runes) > most {
		return string(runes[:most]) + "…"
	}
	return s
}

// trim takes out of findings what a page cannot show, and says what.
func trim(f *run.Findings) error {
	f.Lead = clip(f.Lead)
	var problems []error
	fits := func(t *run.Table) bool {
		if len(t.Rows)*len(t.Columns) > mostCells {
			problems = append(problems, fmt.Errorf("%s: a table of %d rows is too large", run.FindingsFile, len(t.Rows)))
			return false
		}
		t.Title, t.Note = clip(t.Title), clip(t.Note)
		for _, row := range append(t.Rows, t.Columns) {
			if len(row) != len(t.Columns) {
				problems = append(problems, fmt.Errorf("%s: a table has rows of %d and %d columns", run.FindingsFile, len(t.Columns), len(row)))
				return false
			}
			for i := range row {
				row[i] = clip(row[i])
			}
		}
		return true
	}
	f.Tables = f.Tables[:min(len(f.Tables), mostTables)]
	f.Tables = slices.DeleteFunc(f.Tables, func(t run.Table) bool { return !fits(&t) })
	for name, t := range f.Figures {
		if !fits(&t) {
			delete(f.Figures, name)
		}
	}
	return errors.Join(problems...)
}

// settings lists config.toml, flat.
func (r *Run) settings(text []byte) error {
	var tree map[string]any
	if err := toml.Unmarshal(text, &tree); err != nil {
		return fmt.Errorf("%s: %w", run.ConfigFile, err)
	}
	r.Settings = flatten("", tree)
	if len(r.Settings) > mostSettings {
		r.Settings = r.Settings[:mostSettings]
		return fmt.Errorf("%s: more than %d settings: the others are left out", run.ConfigFile, mostSettings)
	}
	return nil
}

func flatten(prefix string, tree map[string]any) (list []Setting) {
	for k, v := range tree {
		if sub, ok := v.(map[string]any); ok {
			list = append(list, flatten(prefix+k+".", sub)...)
			continue
		}
		if f, ok := v.(float64); ok {
			v = number(f)
		}
		list = append(list, Setting{clip(prefix + k), clip(fmt.Sprint(v))})
	}
	// What stands in no table comes first, then table by table.
	slices.SortFunc(list, func(a, b Setting) int {
		return cmp.Or(cmp.Compare(path.Dir(table(a.Key)), path.Dir(table(b.Key))), cmp.Compare(a.Key, b.Key))
	})
	return list
}

// table is a key with slashes for dots.
func table(key string) string { return strings.ReplaceAll(key, ".", "/") }

// Setting is the value of a setting, "" if there is none.
func (r *Run) Setting(key string) string {
	for _, s := range r.Settings {
		if s.Key == key {
			return s.Value
		}
	}
	return ""
}

const (
	evaluationsDir = "evaluations"
	trainingFile   = "training.json"
	unfinished     = "unfinished-"
)

func (r *Run) evaluations(f *run.Folder) {
	names, err := f.List(evaluationsDir, mostEvaluations)
	r.note(err)
	for _, name := range names {
		if path.Ext(name) != ".json" || strings.HasPrefix(name, unfinished) || strings.HasPrefix(name, ".") {
			continue
		}
		e := Evaluation{File: clip(name), Training: name == trainingFile}
		b, err := f.Read(path.Join(evaluationsDir, name))
		if err == nil {
			if err = json.Unmarshal(b, &e); err == nil {
				err = e.check()
			}
			if err != nil {
				err = fmt.Errorf("%s: %w", path.Join(evaluationsDir, name), err)
			}
		}
		if err != nil {
			r.note(err)
			continue
		}
		r.Evaluations = append(r.Evaluations, e)
	}
}

// check reports what cannot be shown, and drops what is no evaluation's.
func (e *Evaluation) check() error {
	if len(e.Classes) > mostClasses || len(e.Attacks) > 100 || len(e.Warnings) > 100 {
		return fmt.Errorf("%d classes, %d attacks, %d warnings are too many", len(e.Classes), len(e.Attacks), len(e.Warnings))
	}
	if c := e.Confusion; c != nil {
		for _, m := range [][][]int{c.Clean, c.Attacked} {
			if len(m) != len(e.Classes) {
				return fmt.Errorf("a confusion matrix of %d rows for %d classes", len(m), len(e.Classes))
			}
			for _, row := range m {
				if len(row) != len(e.Classes) {
					return fmt.Errorf("a confusion matrix with a row of %d for %d classes", len(row), len(e.Classes))
				}
			}
		}
	}
	return nil
}

// Split is what the evaluation was made on.
func (e Evaluation) Split() string {
	s, _ := e.Settings["split"].(string)
	return clip(s)
}

// Under names the attack and what it was made on: "PGD-20, L∞ 8/255, 1000 test
// examples".
func (e Evaluation) Under() string { return clip(e.Attack) + ", " + e.Examples() }

// Examples says how many of what it was made on.
func (e Evaluation) Examples() string {
	return strings.Join(strings.Fields(fmt.Sprintf("%d %s examples", e.N, e.Split())), " ")
}

// Best is the evaluation that says most about the run, which its page leads with;
// nil if there is none. An attack shows an upper bound on robust accuracy, so among
// those of the run's own question (test examples, its threat model, the checkpoint
// and the weights that count, float32; as far as there are such) it is the one with the lowest
// upper end of the interval: a strong attack on many examples. Of equals it is the
// larger one, then the newest.
func (r *Run) Best() *Evaluation {
	list := make([]*Evaluation, len(r.Evaluations))
	var own *Evaluation
	for i := range r.Evaluations {
		if list[i] = &r.Evaluations[i]; list[i].Training {
			own = list[i]
		}
	}
	for _, asks := range []func(*Evaluation) bool{
		func(e *Evaluation) bool { return e.N > 0 && e.RobustAccuracy.High > 0 },
		func(e *Evaluation) bool { return e.Split() == "" || e.Split() == "test" },
		func(e *Evaluation) bool {
			return e.sameAs(r, "threat.norm") && e.sameAs(r, "threat.eps")
		},
		func(e *Evaluation) bool { return own == nil || e.Step == own.Step },
		func(e *Evaluation) bool { return cmp.Or(e.setting("weights"), r.weights()) == r.weights() },
		func(e *Evaluation) bool {
			return cmp.Or(e.setting("precision"), r.Setting("precision"), "float32") == "float32"
		},
	} {
		if fit := slices.DeleteFunc(slices.Clone(list), func(e *Evaluation) bool { return !asks(e) }); len(fit) > 0 {
			list = fit
		}
	}
	if len(list) == 0 {
		return nil
	}
	return slices.MinFunc(list, func(a, b *Evaluation) int {
		return cmp.Or(cmp.Compare(a.RobustAccuracy.High, b.RobustAccuracy.High), cmp.Compare(b.N, a.N), b.Date.Compare(a.Date))
	})
}

// weights names those that count.
func (r *Run) weights() string {
	if name := r.Setting("training.average.name"); name != "" && name != "none" {
		return "average"
	}
	return "raw"
}

// sameAs reports whether the evaluation has the run's own value of a setting. The
// training's does, which names none.
func (e *Evaluation) sameAs(r *Run, key string) bool {
	return e.setting(key) == "" || e.setting(key) == r.Setting(key)
}

// setting is what the evaluation was made with, by the name that --set takes.
func (e *Evaluation) setting(key string) string {
	var v any = e.Settings
	for name := range strings.SplitSeq(key, ".") {
		m, _ := v.(map[string]any)
		v = m[name]
	}
	text, _ := v.(string)
	return text
}
