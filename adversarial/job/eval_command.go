package job

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/pelletier/go-toml/v2"

	"temper/adversarial/run"
	"temper/datasets"
)

// evaluations is the folder of evaluation results in a run folder.
const evaluations = "evaluations"

// Evaluation is the result of temper eval, as it is written.
type Evaluation struct {
	Date     time.Time `json:"date"`
	Run      string    `json:"run"`
	Step     int64     `json:"step"`     // of the checkpoint
	Settings any       `json:"settings"` // by the names that --set takes
	Attack   string    `json:"attack"`   // in the field's notation
	Outcome
	CleanAccuracy  Accuracy `json:"clean_accuracy"`
	RobustAccuracy Accuracy `json:"robust_accuracy"`
	Device         string   `json:"device"`
	Seconds        float64  `json:"seconds"`
}

// EvalOptions is a command line of temper eval or temper attack.
type EvalOptions struct {
	Root string // folder of run folders
	Run  string
	Save string // temper attack: the file to write
	User []Assignment
}

// evaluation is a trained network with an attack prepared on it.
type evaluation struct {
	*session
	dir      string // the run folder
	step     int64
	eval     *EvalSettings
	prepared *evaluator
	examples datasets.Source
}

// prepare opens run, checkpoint, data and device.
func prepare(o EvalOptions) (*evaluation, error) {
	dir, s, err := openRun(o.Root, o.Run)
	if err != nil {
		return nil, err
	}
	e := &evaluation{dir: dir}
	if e.eval, err = evalSettings(s, o.User); err != nil {
		return nil, err
	}
	s.Data.Dir, s.Device, s.Threads = e.eval.DataDir, e.eval.Device, e.eval.Threads
	ck, err := e.eval.load(dir)
	if err != nil {
		return nil, err
	}
	e.step = ck.Step
	if e.examples, err = e.eval.examples(s); err != nil {
		return nil, err
	}
	if e.session, err = openSession(s, e.examples.Info()); err != nil {
		return nil, err
	}
	e.prepared, err = newEvaluator(e.dev, e.state, e.model, e.examples.Info(), e.eval.Threat, e.eval.Attack, e.eval.Seed, e.eval.BatchSize)
	if err != nil {
		return nil, err
	}
	if _, err := e.prepared.program.For(min(e.eval.BatchSize, e.count())); err != nil { // declares the state
		return nil, err
	}
	return e, loadState(e.state, ck.Tensors)
}

func (e *evaluation) close() {
	e.prepared.close()
	e.session.close()
}

// count is the number of examples to evaluate.
func (e *evaluation) count() int {
	if n := e.eval.Limit; n > 0 {
		return min(n, e.examples.Len())
	}
	return e.examples.Len()
}

// measure runs the evaluation with a progress line.
func (e *evaluation) measure(ctx context.Context, c Console, visit func(*attacked) error) (*Evaluation, error) {
	c.say("%s checkpoint, step %d; %s on %d %s examples of %s; seed %d", e.eval.Checkpoint, e.step, e.eval.Attack.Describe(e.eval.Threat), e.count(), e.eval.Split, e.settings.Data.Name, e.eval.Seed)
	c.say("%s", e.describe())
	began := time.Now()
	p := run.NewProgress(c.Err, e.count(), 1)
	p.Update(0)
	out, err := e.prepared.run(ctx, e.examples, e.eval.Limit, func(n int) { p.Update(n) }, visit)
	p.Close()
	if errors.Is(err, context.Canceled) {
		return nil, &InterruptedError{}
	}
	if err != nil {
		return nil, err
	}
	settings, err := byName(e.eval)
	if err != nil {
		return nil, err
	}
	return &Evaluation{
		Date: began, Run: e.dir, Step: e.step, Settings: settings, Attack: e.eval.Attack.Describe(e.eval.Threat), Outcome: *out,
		CleanAccuracy: accuracy(out.Clean, out.N), RobustAccuracy: accuracy(out.Robust, out.N),
		Device: e.describe(), Seconds: time.Since(began).Seconds(),
	}, nil
}

// byName turns settings into a map with the names that TOML knows them by.
func byName(settings any) (map[string]any, error) {
	b, err := toml.Marshal(settings)
	if err != nil {
		return nil, err
	}
	m := map[string]any{}
	return m, toml.Unmarshal(b, &m)
}

// Eval is temper eval.
func Eval(ctx context.Context, c Console, o EvalOptions) error {
	e, err := prepare(o)
	if err != nil {
		return err
	}
	defer e.close()
	result, err := e.measure(ctx, c, nil)
	if err != nil {
		return err
	}
	path, err := e.write(result)
	if err != nil {
		return err
	}
	if err := c.result(result, result.print); err != nil {
		return err
	}
	c.say("written to %s", path)
	return nil
}

// write puts the result into the run folder, under a name of its own.
func (e *evaluation) write(result *Evaluation) (path string, err error) {
	dir := filepath.Join(e.dir, evaluations)
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return "", fmt.Errorf("cannot keep the result: %w", err)
	}
	b, err := json.MarshalIndent(result, "", "  ")
	if err != nil {
		return "", err
	}
	name := filepath.Join(dir, result.Date.Format("20060102-150405")+"-"+e.eval.Attack.Name)
	path = name + ".json"
	for i := 2; ; i++ {
		if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
			break
		}
		path = fmt.Sprintf("%s-%d.json", name, i)
	}
	return path, run.WriteFileAtomic(path, func(w io.Writer) error {
		_, err := w.Write(append(b, '\n'))
		return err
	})
}

func (r *Evaluation) print(w io.Writer) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	row := func(name string, n, clean, robust int) {
		percent := func(k int) float64 { return 100 * float64(k) / float64(max(n, 1)) }
		fmt.Fprintf(t, "%s\t%d\t%d\t%.1f %%\t%d\t%.1f %%\t\n", name, n, clean, percent(clean), robust, percent(robust))
	}
	fmt.Fprintf(t, "class\texamples\tclean\t\trobust\t\t\n")
	for _, c := range r.Classes {
		if c.N > 0 {
			row(c.Class, c.N, c.Clean, c.Robust)
		}
	}
	row("all", r.N, r.Clean, r.Robust)
	t.Flush()
	fmt.Fprintf(w, "\nclean accuracy   %v\nrobust accuracy  %v under %s\n", r.CleanAccuracy, r.RobustAccuracy, r.Attack)
	fmt.Fprintf(w, "Intervals are Clopper–Pearson's, 95 %%. Each of the %d perturbations was checked: the largest has size %.6g.\n", r.N, r.LargestNorm)
}

// Attack is temper attack: it evaluates and saves the attacked examples as
// arrays x (as in the data set), x_adv (f32), y, clean_pred, adv_pred (i32) and
// ids (i64) of an .npz file.
func Attack(ctx context.Context, c Console, o EvalOptions) error {
	switch info, err := os.Stat(filepath.Dir(o.Save)); {
	case o.Save == "":
		return usage("attack needs --save FILE.npz")
	case filepath.Ext(o.Save) != ".npz":
		return usage("--save %s: the name must end in .npz", o.Save)
	case err != nil || !info.IsDir():
		return fmt.Errorf("--save %s: there is no folder %s", o.Save, filepath.Dir(o.Save))
	}
	e, err := prepare(o)
	if err != nil {
		return err
	}
	defer e.close()
	kept := &attackedSet{in: e.examples.Info()}
	result, err := e.measure(ctx, c, kept.add)
	if err != nil {
		return err
	}
	if err := datasets.SaveNPZ(o.Save, kept.arrays()...); err != nil {
		return err
	}
	if err := c.result(result, result.print); err != nil {
		return err
	}
	c.say("attacked examples written to %s", o.Save)
	return nil
}

// attackedSet collects attacked batches.
type attackedSet struct {
	in            datasets.Info
	u8            []uint8
	f32, adv      []float32
	y, clean, got []int32
	ids           []int64
}

func (s *attackedSet) add(a *attacked) error {
	s.u8, s.f32 = append(s.u8, a.U8...), append(s.f32, a.F32...)
	s.adv = append(s.adv, a.X...)
	s.y, s.clean, s.got = append(s.y, a.Labels...), append(s.clean, a.Clean...), append(s.got, a.Adv...)
	for _, id := range a.IDs {
		s.ids = append(s.ids, int64(id))
	}
	return nil
}

func (s *attackedSet) arrays() []datasets.NamedArray {
	n := len(s.y)
	images := []int{n, s.in.Channels, s.in.Height, s.in.Width}
	var x any = s.u8
	if s.in.DType == datasets.Float32 {
		x = s.f32
	}
	array := func(name string, data any, shape ...int) datasets.NamedArray {
		return datasets.NamedArray{Name: name, Array: datasets.Array{Shape: slices.Clone(shape), Data: data}}
	}
	return []datasets.NamedArray{
		array("x", x, images...), array("x_adv", s.adv, images...), array("y", s.y, n),
		array("clean_pred", s.clean, n), array("adv_pred", s.got, n), array("ids", s.ids, n),
	}
}
