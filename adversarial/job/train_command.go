package job

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"temper/adversarial/run"
	"temper/datasets"
	"temper/nn"
)

// Trained is the result of a training run.
type Trained struct {
	Run        string   `json:"run"`        // its folder
	Checkpoint string   `json:"checkpoint"` // last or best
	Epoch      int      `json:"epoch"`      // that the checkpoint was written after
	Method     string   `json:"method"`
	Attack     string   `json:"attack"` // of the evaluation, in the field's notation
	N          int      `json:"n"`      // test examples
	Clean      Accuracy `json:"clean"`
	Robust     Accuracy `json:"robust"`
	Seconds    float64  `json:"seconds"`
	Settings   string   `json:"settings"` // their hash
	Alarms     []Event  `json:"alarms,omitempty"`
}

// trainAll trains once for each of the settings, in new folders under root.
func trainAll(ctx context.Context, c Console, list []Settings, root string) error {
	var done []Trained
	for i := range list {
		one, err := trainNew(ctx, c, &list[i], root)
		if err != nil {
			return err
		}
		done = append(done, *one)
	}
	return summary(c, done)
}

// trainNew trains in a new folder under root.
func trainNew(ctx context.Context, c Console, s *Settings, root string) (*Trained, error) {
	return trainIn(ctx, c, s, func() (string, error) {
		short := strings.NewReplacer(":", "-", "/", "-", string(filepath.Separator), "-").Replace(filepath.Base(s.Data.Name)) + "-" + s.Training.Method
		return run.NewDir(root, short, time.Now())
	})
}

// tryAll does all that training begins with, and trains nothing: it finds data,
// builds and compiles the programs, and prints the choices.
func tryAll(c Console, list []Settings) error {
	for i := range list {
		if err := try(c, &list[i]); err != nil {
			return err
		}
	}
	c.say("a dry run: nothing was trained")
	return nil
}

func try(c Console, s *Settings) error {
	t, err := newTrainer(c, s, "")
	if err != nil {
		return err
	}
	defer t.close()
	if err := t.initialize(); err != nil {
		return err
	}
	t.announce()
	return nil
}

// trainIn trains in a folder that is named once nothing can be wrong with the
// settings.
func trainIn(ctx context.Context, c Console, s *Settings, name func() (string, error)) (*Trained, error) {
	t, err := newTrainer(c, s, "")
	if err != nil {
		return nil, err
	}
	defer t.close()
	if err := t.initialize(); err != nil {
		return nil, err
	}
	dir, err := name()
	if err != nil {
		return nil, err
	}
	if t.run, err = run.Create(dir); err != nil {
		return nil, err
	}
	defer t.run.Close()
	if err := run.WriteConfig(dir, s); err != nil {
		return nil, err
	}
	if err := run.PointLatest(dir); err != nil {
		return nil, err
	}
	if t.metrics, err = run.OpenMetrics(dir); err != nil {
		return nil, err
	}
	return t.finish(ctx)
}

// resume goes on with the run in dir from a checkpoint, the newest if from is
// empty. Device and threads may differ from the run's.
func resume(ctx context.Context, c Console, dir, from string, user []Assignment) (*Trained, error) {
	r, err := run.Resume(dir)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	s := Defaults()
	if err := run.ReadConfig(r.Dir, &s); err != nil {
		return nil, err
	}
	s.findData()
	if err := s.move(user); err != nil {
		return nil, err
	}
	t, err := newTrainer(c, &s, r.Dir)
	if err != nil {
		return nil, err
	}
	defer t.close()
	t.run = r
	if err := t.goBack(from); err != nil {
		return nil, err
	}
	if err := r.Rewind(int64(t.step), t.epoch.seen > 0); err != nil {
		return nil, err
	}
	if t.metrics, err = run.OpenMetrics(r.Dir); err != nil {
		return nil, err
	}
	if err := errors.Join(t.freshenGood(), t.noteRollback()); err != nil {
		return nil, err
	}
	c.say("resuming %s at step %d of %d", r.Dir, t.step, t.total())
	return t.finish(ctx)
}

// move applies the settings that may change after a run has begun: where it runs
// and where its data lie. Others are refused, unless they only stand in the
// environment.
func (s *Settings) move(user []Assignment) error {
	for _, a := range user {
		switch {
		case a.Key == "device", a.Key == "threads", a.Key == "data.dir":
			if err := applyAll(s, []Assignment{a}); err != nil {
				return err
			}
		case !strings.HasPrefix(a.Source, envPrefix):
			return usage("%s cannot change a run that has begun: leave it out, or start a new run", a.Source)
		}
	}
	return nil
}

// goBack takes the trainer to a checkpoint of its run, the newest if from is
// empty, or to the start if the run was killed before it wrote one.
func (t *trainer) goBack(from string) error {
	var ck *run.Checkpoint
	var err error
	if from == "" {
		ck, err = run.LatestCheckpoint(t.run.Dir)
	} else {
		ck, err = run.LoadCheckpoint(t.run.Dir, from)
	}
	switch {
	case err == nil:
		return t.restore(ck)
	case errors.Is(err, run.ErrNoCheckpoint):
		return t.initialize()
	}
	return err
}

// finish trains to the end and sums up.
func (t *trainer) finish(ctx context.Context) (*Trained, error) {
	defer func() { t.metrics.Close() }() // a rollback opens it anew
	if err := keepTuning(t.dev, t.run.Dir); err != nil {
		return nil, err
	}
	if err := run.AddEnvironment(t.run.Dir, run.CurrentEnvironment(t.describe())); err != nil {
		return nil, err
	}
	facts, err := t.facts()
	if err != nil {
		return nil, err
	}
	if err := run.WriteFacts(t.run.Dir, facts); err != nil {
		return nil, err
	}
	// A run stopped before its first epoch ends can go on too. One that an alarm
	// took back to the start has these checkpoints.
	if t.step == 0 && len(t.history.Events) == 0 {
		if err := errors.Join(t.save(), t.keepGood()); err != nil {
			return nil, err
		}
	}
	t.announce()
	began := time.Now()
	if err := t.loop(ctx); err != nil {
		return nil, err
	}
	epoch, err := t.chosen()
	if err != nil {
		return nil, err
	}
	out, err := t.final(ctx, epoch)
	if errors.Is(err, context.Canceled) {
		return nil, &InterruptedError{Dir: t.run.Dir, Step: t.step}
	}
	if err != nil {
		return nil, err
	}
	s := t.settings
	refreshReport(t.console, t.run.Dir)
	return &Trained{
		Run: t.run.Dir, Checkpoint: s.Checkpoint.Choice, Epoch: epoch, Method: s.Training.Method, Attack: s.Eval.Attack.Describe(s.Threat), N: out.N,
		Clean: accuracy(out.Clean, out.N), Robust: accuracy(out.Robust, out.N),
		Seconds: time.Since(began).Seconds(), Settings: s.hash(), Alarms: t.history.Events,
	}, nil
}

// chosen goes to the checkpoint that counts, and returns the epoch it was written
// after.
func (t *trainer) chosen() (epoch int, err error) {
	if t.settings.Checkpoint.Choice != run.BestCheckpoint {
		return t.step / t.perEpoch, nil
	}
	ck, err := run.LoadCheckpoint(t.run.Dir, run.BestCheckpoint)
	if err != nil {
		return 0, err
	}
	best, err := strconv.ParseFloat(ck.Meta[metaBest], 64)
	if err != nil {
		return 0, fmt.Errorf("checkpoint %s: its metadata are incomplete", run.BestCheckpoint)
	}
	t.console.say("the best checkpoint is that of epoch %d: robust %.1f %% on the held-out examples", ck.Epoch, 100*best)
	return ck.Epoch, loadState(t.state, ck.Tensors)
}

// final measures the state, which is that after an epoch, on test examples. Where these were watched all the
// time, the last epoch's evaluation has done it.
func (t *trainer) final(ctx context.Context, epoch int) (*Outcome, error) {
	test := t.watch
	switch {
	case t.watching == heldOut:
		set, err := t.settings.open(datasets.Test)
		if err != nil {
			return nil, err
		}
		test = set
	case t.last != nil:
		return t.last, nil
	}
	return t.evaluate(ctx, test, string(datasets.Test), int64(epoch*t.perEpoch))
}

// announce prints every choice that decides the result.
func (t *trainer) announce() {
	s := t.settings
	w := tabwriter.NewWriter(t.console.Err, 0, 0, 2, ' ', 0)
	row := func(name, format string, args ...any) {
		fmt.Fprintf(w, "  %s\t%s\n", name, fmt.Sprintf(format, args...))
	}
	if t.run != nil {
		t.console.say("run %s", t.run.Dir)
	}
	row("data", "%s: %d examples to train on, %d %s; seed %d", s.Data.Name, t.source.Len(), t.watch.Len(), t.watching, s.Seed)
	row("model", "%s, %d parameters, normalize %s", s.Model.Name, parameters(t.model), s.Model.Normalize)
	if i := s.Init; i.File != "" {
		row("init", "%s, SHA-256 %.12s", filepath.Base(i.File), i.SHA256)
	}
	row("threat", "%v, domain %s", s.Threat, s.Threat.Domain)
	row("method", "%s", s.Training.Describe())
	if s.Training.Attacks() {
		row("attack", "%s", s.describeAttack())
	}
	row("descent", "label_smoothing %v, clip_grad %v, augment crop %d flip %v cutout %d", s.Training.LabelSmoothing, s.Training.ClipGrad, s.Training.Augment.Crop, s.Training.Augment.Flip, s.Training.Augment.Cutout)
	row("average", "%s", s.Training.Average.Describe())
	row("optimizer", "%s", s.Optimizer.describe(s.Schedule))
	row("batches", "%d epochs of %d steps of %d, shuffle %v, drop_last %v", s.Batches.Epochs, t.perEpoch, s.Batches.Size, s.Batches.Shuffle, s.Batches.DropLast)
	limit := "all"
	if s.Eval.Limit > 0 && s.Eval.Limit < t.watch.Len() {
		limit = fmt.Sprintf("the first %d", s.Eval.Limit)
	}
	row("evaluation", "every %d epochs on %s %s examples: %s", s.Eval.Every, limit, t.watching, s.Eval.Attack.Describe(s.Threat))
	row("checkpoint", "every %d epochs; the %s one counts", s.Checkpoint.Every, s.Checkpoint.Choice)
	row("precision", "%s", precisionLine(s.Precision, s.ExactConv))
	row("alarms", "%s", s.describeAlarms())
	row("device", "%s", t.describe())
	w.Flush()
}

// describeAttack is training's attack in the field's notation, and what that leaves
// out where it is the default.
func (s *Settings) describeAttack() string {
	a, t := s.Training.Attack, s.Training
	t.Attack.Best, t.Attack.BN = false, nn.Eval.String()
	return fmt.Sprintf("%s; random_start %v, best %v, bn %s", t.DescribeAttack(s.Threat), a.RandomStart, a.Best, a.BN)
}

func parameters(m *nn.Model) int {
	n := 0
	for _, s := range m.Specs() {
		if !s.Buffer {
			n += s.Shape.Size()
		}
	}
	return n
}

// summary prints the results and the commands to go on with.
func summary(c Console, done []Trained) error {
	if c.JSON {
		for _, d := range done {
			if err := c.result(d, nil); err != nil {
				return err
			}
		}
		return nil
	}
	last := done[len(done)-1]
	w := tabwriter.NewWriter(c.Out, 0, 0, 3, ' ', 0)
	fmt.Fprintf(w, "method\tclean accuracy\trobust accuracy\trun\n")
	for _, d := range done {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", d.Method, d.Clean, d.Robust, d.Run)
	}
	w.Flush()
	fmt.Fprintf(c.Out, "\n%s checkpoint, %d test examples, 95 %% intervals (Clopper–Pearson). Robust: %s.\n", last.Checkpoint, last.N, last.Attack)
	fmt.Fprintf(c.Out, "A stronger attack:  temper eval %s --attack pgd --steps 50 --restarts 10\n", last.Run)
	return nil
}

// String is "98.5 % [95.7, 99.7]".
func (a Accuracy) String() string {
	return fmt.Sprintf("%.1f %% [%.1f, %.1f]", 100*a.Value, 100*a.Low, 100*a.High)
}
