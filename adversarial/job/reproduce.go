package job

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"gonum.org/v1/gonum/stat"
	"gonum.org/v1/gonum/stat/distuv"

	"temper/adversarial/run"
)

// ReproduceOptions is a command line of temper reproduce.
type ReproduceOptions struct {
	Root    string // folder of run folders
	Recipe  string
	Dataset string // "": the one that the recipe was made for
	Seeds   int    // seeds 0, 1, …
	Only    int    // work on this seed alone; negative: on all
	Limit   int    // only the first n test examples; 0: all
	DryRun  bool   // stop before the first step, and leave nothing behind
	User    []Assignment
}

// ReproduceFlags are the flags of temper reproduce that set a setting: where it
// runs, and nothing that decides a number.
var ReproduceFlags = []Flag{
	{"data-dir", "data.dir", "folder of the data sets"},
	{"device", "device", "auto, cpu, cuda:0, …"},
	{"threads", "threads", "CPU workers; 0 is one a core"},
}

// Reproduction is a recipe's result over seeds beside a published one.
type Reproduction struct {
	Recipe    string       `json:"recipe"`
	Dataset   string       `json:"dataset"`
	Settings  string       `json:"settings"` // what decides the runs, without the seed
	Attack    string       `json:"attack"`   // in the field's notation
	N         int          `json:"n"`        // test examples
	Published Figure       `json:"published"`
	Runs      []Reproduced `json:"runs"`
	Clean     Comparison   `json:"clean"`
	Robust    Comparison   `json:"robust"`
}

// Reproduced is the result of one seed.
type Reproduced struct {
	Seed       uint32   `json:"seed"`
	Run        string   `json:"run"`        // its folder
	Checkpoint string   `json:"checkpoint"` // last or best
	Epoch      int      `json:"epoch"`      // that it was written after
	Clean      Accuracy `json:"clean"`
	Robust     Accuracy `json:"robust"`
	Seconds    float64  `json:"seconds"` // of the training, where one process did it
}

// Comparison is a mean over seeds with its 95 % interval by Student's t, cut to 0
// and 100, beyond which no mean lies, and its difference from a published number,
// which is taken as it is; all in percent.
// Of one seed there is no interval.
type Comparison struct {
	Mean       float64     `json:"mean"`
	Interval   *[2]float64 `json:"interval,omitempty"`
	Published  float64     `json:"published"`
	Difference float64     `json:"difference"`
	Between    *[2]float64 `json:"difference_interval,omitempty"`
}

// compare compares values, a seed each, with a published one.
func compare(values []float64, published float64) Comparison {
	m := stat.Mean(values, nil)
	c := Comparison{Mean: m, Published: published, Difference: m - published}
	if n := float64(len(values)); n > 1 {
		half := distuv.StudentsT{Mu: 0, Sigma: 1, Nu: n - 1}.Quantile(0.975) * stat.StdDev(values, nil) / math.Sqrt(n)
		low, high := math.Max(m-half, 0), math.Min(m+half, 100)
		c.Interval = &[2]float64{low, high}
		c.Between = &[2]float64{low - published, high - published}
	}
	return c
}

// Reproduce is temper reproduce: it trains with a recipe once a seed, evaluates
// as the published number was, and compares. What is finished is not done again.
func Reproduce(ctx context.Context, c Console, o ReproduceOptions) error {
	switch {
	case o.Seeds < 1 || o.Limit < 0:
		return usage("--seeds %d, --limit %d: want at least 1 and 0", o.Seeds, o.Limit)
	case o.Only >= o.Seeds:
		return usage("--only %d: the seeds are 0 to %d", o.Only, o.Seeds-1)
	}
	r, err := publishedRecipe(o.Recipe, o.Dataset)
	if err != nil {
		return err
	}
	if o.DryRun {
		s, err := r.seeded(0, o.User)
		if err != nil {
			return err
		}
		return tryAll(c, []Settings{*s})
	}
	result, err := reproduce(ctx, c, r, o)
	if stopped := new(InterruptedError); errors.As(err, &stopped) {
		return &InterruptedError{Kept: "; the same command goes on from here"}
	}
	if err != nil {
		return err
	}
	return c.result(result, result.print)
}

// publishedRecipe is the recipe of a name that has a published number.
func publishedRecipe(name, dataset string) (Recipe, error) {
	var known, others []string
	for _, r := range Recipes() {
		if r.Name == name && (dataset == "" || r.Datasets[0] == dataset) {
			if len(r.Published) == 0 {
				return Recipe{}, fmt.Errorf("recipe %q has no published number to compare with", name)
			}
			return r, nil
		}
		if r.Name == name {
			others = append(others, r.Datasets[0])
		}
		if len(r.Published) > 0 && !slices.Contains(known, r.Name) {
			known = append(known, r.Name)
		}
	}
	if len(others) > 0 {
		return Recipe{}, fmt.Errorf("recipe %q has no published number for %s: it has for %s", name, dataset, strings.Join(others, ", "))
	}
	return Recipe{}, fmt.Errorf("unknown recipe %q%s; published numbers have %s", name, run.DidYouMean(name, known), strings.Join(known, ", "))
}

func reproduce(ctx context.Context, c Console, r Recipe, o ReproduceOptions) (*Reproduction, error) {
	result := &Reproduction{Recipe: r.Name, Dataset: r.Datasets[0], Published: r.Published[0]}
	if err := result.Published.refuse(); err != nil {
		return nil, err
	}
	var clean, robust []float64
	for seed := range o.Seeds {
		if o.Only >= 0 && o.Only != seed {
			continue
		}
		s, err := r.seeded(uint32(seed), o.User)
		if err != nil {
			return nil, err
		}
		c.say("%s, seed %d of %d", r.Name, seed, o.Seeds)
		dir := filepath.Join(o.Root, "reproduce-"+r.Datasets[0]+"-"+r.Name, "seed-"+strconv.Itoa(seed))
		trained, err := trainOnce(ctx, c, s, dir, o.User)
		if err != nil {
			return nil, err
		}
		e, err := evaluateOnce(ctx, c, s, dir, result.Published, o)
		if err != nil {
			return nil, err
		}
		result.Attack, result.N = e.Attack, e.N
		result.Runs = append(result.Runs, Reproduced{
			Seed: uint32(seed), Run: dir, Checkpoint: trained.Checkpoint, Epoch: trained.Epoch,
			Clean: e.CleanAccuracy, Robust: e.RobustAccuracy, Seconds: trained.Seconds,
		})
		clean, robust = append(clean, 100*e.CleanAccuracy.Value), append(robust, 100*e.RobustAccuracy.Value)
		s.Seed = 0
		result.Settings = s.hash()
	}
	result.Clean, result.Robust = compare(clean, result.Published.Clean), compare(robust, result.Published.Robust)
	return result, nil
}

// seeded are the recipe's settings for the data set that it was made for.
func (r Recipe) seeded(seed uint32, user []Assignment) (*Settings, error) {
	s := Defaults()
	s.Data.Name, s.Seed = r.Datasets[0], seed
	list, err := r.resolve(s, user)
	if err != nil {
		return nil, err
	}
	if len(list) != 1 {
		return nil, fmt.Errorf("recipe %q trains with several methods: a published number is one method's", r.Name)
	}
	return &list[0], nil
}

// trainedFile holds what training in a folder led to, once it is finished.
const trainedFile = "trained.json"

// trainOnce trains in dir, or goes on there, or reads what it has led to.
func trainOnce(ctx context.Context, c Console, s *Settings, dir string, user []Assignment) (*Trained, error) {
	if _, err := run.Open(dir); err == nil {
		there := Defaults()
		if err := run.ReadConfig(dir, &there); err != nil {
			return nil, err
		}
		if there.hash() != s.hash() {
			return nil, fmt.Errorf("%s holds a run of other settings: move it away, or choose another --run-dir", dir)
		}
	}
	file := filepath.Join(dir, trainedFile)
	t := &Trained{}
	b, err := os.ReadFile(file)
	if err == nil {
		if err := json.Unmarshal(b, t); err != nil {
			return nil, fmt.Errorf("%s: %w; delete it to train on from the last checkpoint", file, err)
		}
		return t, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if _, err := os.Stat(filepath.Join(dir, run.ConfigFile)); err == nil {
		t, err = resume(ctx, c, dir, "", user)
		if err != nil {
			return nil, err
		}
	} else if t, err = trainIn(ctx, c, s, func() (string, error) { return dir, nil }); err != nil {
		return nil, err
	}
	return t, writeJSON(file, t)
}

// evaluateOnce evaluates the run in dir as a figure was, or goes on with that, or
// reads what it has led to.
func evaluateOnce(ctx context.Context, c Console, s *Settings, dir string, f Figure, o ReproduceOptions) (*Evaluation, error) {
	user := append(f.user(), Assignment{"limit", strconv.Itoa(o.Limit), "--limit"})
	where := map[string]string{"data.dir": "data_dir"}
	for _, a := range o.User {
		if key, ok := where[a.Key]; ok {
			a.Key = key
		}
		user = append(user, a)
	}
	e, err := prepare(c, EvalOptions{Run: dir, User: user})
	if err != nil {
		return nil, err
	}
	defer e.close()
	file := e.logPath(false)
	file = filepath.Join(filepath.Dir(file), strings.Replace(filepath.Base(file), "unfinished", "reproduced", 1))
	r := &Evaluation{}
	b, err := os.ReadFile(file)
	if err == nil {
		if err := json.Unmarshal(b, r); err != nil {
			return nil, fmt.Errorf("%s: %w; delete it to evaluate again", file, err)
		}
		return r, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if r, err = e.measure(ctx, c, nil); err != nil {
		return nil, err
	}
	r.warn(c)
	if err := writeJSON(file, r); err != nil {
		return nil, err
	}
	e.dropLog(false)
	return r, nil
}

func writeJSON(path string, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return run.WriteFileAtomic(path, func(w io.Writer) error {
		_, err := w.Write(append(b, '\n'))
		return err
	})
}

func (r *Reproduction) print(w io.Writer) {
	fmt.Fprintf(w, "%s on %s: %d runs, %d test examples, %s\n\n", r.Recipe, r.Dataset, len(r.Runs), r.N, r.Attack)
	t := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	fmt.Fprintf(t, "seed\tclean\trobust\tcheckpoint\trun\n")
	for _, one := range r.Runs {
		fmt.Fprintf(t, "%d\t%.2f %%\t%.2f %%\t%s, epoch %d\t%s\n", one.Seed, 100*one.Clean.Value, 100*one.Robust.Value, one.Checkpoint, one.Epoch, one.Run)
	}
	t.Flush()
	fmt.Fprintln(w)
	fmt.Fprintf(t, "\ttemper, mean over seeds\tpublished\tdifference\n")
	for _, row := range []struct {
		name string
		Comparison
	}{{"clean", r.Clean}, {"robust", r.Robust}} {
		fmt.Fprintf(t, "%s\t%.2f %%%s\t%.2f %%\t%+.2f%s\n", row.name, row.Mean, between(row.Interval, "%.2f"), row.Published, row.Difference, between(row.Between, "%+.2f"))
	}
	t.Flush()
	fmt.Fprintf(w, "\nPublished: %s.\n", r.Published.Source)
	if r.Clean.Interval == nil {
		fmt.Fprintf(w, "One seed tells nothing of the spread: take --seeds 3 or more for intervals.\n")
	} else {
		fmt.Fprintf(w, "Intervals are Student's, 95 %%, over seeds, cut to 0 and 100 %%; the published number is taken as it is.\n")
	}
}

// between is " [a, b]", or nothing.
func between(v *[2]float64, format string) string {
	if v == nil {
		return ""
	}
	return fmt.Sprintf(" ["+format+", "+format+"]", v[0], v[1])
}
