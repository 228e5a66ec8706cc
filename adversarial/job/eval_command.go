package job

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"

	"temper/adversarial/run"
	"temper/datasets"
)

// evaluations is the folder of evaluation results in a run folder.
const evaluations = "evaluations"

// Evaluation is the result of temper eval, as it is written.
type Evaluation struct {
	Date           time.Time      `json:"date"`
	Version        string         `json:"version"` // of temper, and the commit it was built from
	Commit         string         `json:"commit"`
	Run            string         `json:"run"`
	Step           int64          `json:"step"`     // of the checkpoint
	Weights        string         `json:"weights"`  // SHA-256 of its names, types, shapes and values
	Settings       any            `json:"settings"` // by the names that --set takes
	Attack         string         `json:"attack"`   // in the field's notation
	Outcome                       // Robust: right under every attack
	CleanAccuracy  Accuracy       `json:"clean_accuracy"`
	RobustAccuracy Accuracy       `json:"robust_accuracy"`
	Attacks        []AttackResult `json:"attacks"`
	Warnings       []Warning      `json:"warnings"`
	Device         string         `json:"device"`
	Seconds        float64        `json:"seconds"` // of this process: an evaluation that was gone on with took longer
}

// AttackResult is what one attack left.
type AttackResult struct {
	Attack   string        `json:"attack"` // in the field's notation
	Robust   int           `json:"robust"` // right without and under it
	Accuracy Accuracy      `json:"accuracy"`
	Stages   []StageResult `json:"stages,omitempty"` // of a suite
}

// StageResult is what stands after an attack of a suite.
type StageResult struct {
	Name   string `json:"name"`
	Attack string `json:"attack"`
	Robust int    `json:"robust"`
}

// EvalOptions is a command line of temper eval or temper attack.
type EvalOptions struct {
	Root   string // folder of run folders
	Run    string
	Save   string // temper attack: the file to write
	Card   string // temper eval: the card to write; "" for none
	DryRun bool   // temper eval: stop before the first batch, and leave nothing behind
	User   []Assignment
}

// evaluation is a trained network to attack.
type evaluation struct {
	*session
	dir      string // the run folder
	step     int64
	weights  string          // what the checkpoint is known by
	evals    []*EvalSettings // a radius each
	eval     *EvalSettings   // the one at work
	examples datasets.Source
	targets  []int32   // for each of them; nil if none are given
	log      *evalLog  // of the latest radius
	pictures *pictures // of the latest radius
}

// prepare opens run, checkpoint, data and device.
func prepare(c Console, o EvalOptions) (*evaluation, error) {
	dir, s, err := openRun(o.Root, o.Run)
	if err != nil {
		return nil, err
	}
	e := &evaluation{dir: dir}
	if e.evals, err = evalSettings(s, o.User); err != nil {
		return nil, wrong(err)
	}
	e.eval = e.evals[0]
	s.Data.Dir, s.Device, s.Threads, s.Precision, s.ExactConv = e.eval.DataDir, e.eval.Device, e.eval.Threads, e.eval.networkPrecision(), e.eval.ExactConv
	s.Threat.Domain = e.eval.Threat.Domain
	ck, err := e.eval.load(dir)
	if err != nil {
		return nil, err
	}
	e.step, e.weights = ck.Step, fingerprint(ck.Tensors)
	if e.examples, err = e.eval.examples(s); err != nil {
		return nil, err
	}
	if n := e.eval.Limit; n > 0 && n < e.examples.Len() {
		if e.examples, err = datasets.Take(e.examples, n); err != nil {
			return nil, err
		}
	}
	if path := e.eval.TargetLabels; path != "" {
		if e.targets, err = readTargets(path, e.examples); err != nil {
			return nil, err
		}
	}
	if e.session, err = openSession(c, s, e.examples.Info(), dir); err != nil {
		return nil, err
	}
	init, err := e.dev.Compile(e.model.InitGraph(), e.state, e.compile) // declares the state
	if err == nil {
		init.Close()
		if err = loadState(e.state, ck.Tensors); err != nil {
			err = fmt.Errorf("the run's model is %s, its checkpoint is one of %s: %w", s.Model.Name, cmp.Or(ck.Meta[metaModelName], "another network"), err)
		}
	}
	if err != nil {
		e.close()
		return nil, err
	}
	return e, nil
}

// visitor gets a batch, what was found of it, and its examples as the first
// attack left them (N,C,H,W).
type visitor func(b *datasets.Batch, v *verdict, x []float32)

// measure runs the evaluation with a progress line.
func (e *evaluation) measure(ctx context.Context, c Console, visit visitor) (*Evaluation, error) {
	began := time.Now()
	p, warnings, err := e.open(c)
	if err != nil {
		return nil, err
	}
	defer p.close()
	log, err := e.openLog(p, visit != nil)
	if err != nil {
		return nil, err
	}
	defer log.close()
	e.log = log
	if err := keepTuning(e.dev, e.dir); err != nil {
		return nil, err
	}
	if done := e.behind(log, p); done != "" {
		c.say("going on after %s, which an interrupted evaluation with the same settings has finished", done)
	}
	if err := e.batches(ctx, c, p, log, visit); err != nil {
		if errors.Is(err, context.Canceled) {
			return nil, &InterruptedError{Kept: e.stopped(log, p)}
		}
		return nil, err
	}
	settings, err := byName(e.eval)
	if err != nil {
		return nil, err
	}
	temper := run.CurrentEnvironment("")
	r := &Evaluation{
		Date: began, Version: temper.Version, Commit: temper.Commit, Run: e.dir, Step: e.step, Weights: e.weights, Settings: settings, Attack: e.eval.describe(),
		Device: e.describe(), Seconds: time.Since(began).Seconds(), Warnings: warnings,
	}
	r.count(e.examples.Info().Classes, p, log.Batches)
	return r, nil
}

// stopped says what an interrupt leaves.
func (e *evaluation) stopped(log *evalLog, p *protocol) string {
	done := e.behind(log, p)
	if done == "" {
		return " before the first round was finished: nothing is kept"
	}
	return fmt.Sprintf(" after %s; the same command goes on from there", done)
}

// behind says how far an evaluation has come; "" is nowhere.
func (e *evaluation) behind(log *evalLog, p *protocol) string {
	var done []string
	n, rounds := log.examplesDone(), log.Underway.done(p.plans)
	if n > 0 {
		done = append(done, fmt.Sprintf("%d of %d examples", n, e.examples.Len()))
	}
	if rounds > 0 {
		done = append(done, fmt.Sprintf("%d of %d rounds on the next %d", rounds, p.rounds(), len(log.Underway.Verdict.Labels)))
	}
	return strings.Join(done, " and ")
}

// open compiles what will be measured, says what it is, and looks at the network.
func (e *evaluation) open(c Console) (*protocol, []Warning, error) {
	p, err := newProtocol(e.dev, e.state, e.model, e.examples.Info(), e.eval, e.compile)
	if err != nil {
		return nil, nil, err
	}
	c.say("%s checkpoint, step %d%s; %s on %s; seed %d", e.eval.Checkpoint, e.step, e.unended(), e.eval.describe(), e.describeExamples(), e.eval.Seed)
	precision := precisionLine(e.eval.Precision, e.eval.ExactConv)
	if e.eval.isMixed() {
		precision += " in the search, float32 in what counts"
	}
	c.say("%s; precision %s", e.describe(), precision)
	warnings, err := e.check()
	if err != nil {
		p.close()
		return nil, nil, err
	}
	return p, append(shortSteps(e.eval), warnings...), nil
}

// describeExamples says how many of what are evaluated.
func (e *evaluation) describeExamples() string {
	if strings.HasPrefix(e.eval.Split, ownData) {
		return fmt.Sprintf("%d examples of %s, SHA-256 %.12s", e.examples.Len(), e.examples.Info().Name, e.eval.SplitSHA256)
	}
	return fmt.Sprintf("%d %s examples of %s", e.examples.Len(), e.eval.Split, e.settings.Data.Name)
}

// unended says so where the training of the last checkpoint has not come to its
// end.
func (e *evaluation) unended() string {
	folder, err := run.OpenFolder(e.dir)
	if err != nil {
		return ""
	}
	defer folder.Close()
	facts, err := folder.Facts()
	if err != nil || e.eval.Checkpoint != lastCheckpoint || e.step >= int64(facts.Steps) {
		return ""
	}
	return fmt.Sprintf(" of %d: the training has not ended", facts.Steps)
}

// try does all that an evaluation begins with, and measures nothing.
func (e *evaluation) try(c Console) error {
	for _, e.eval = range e.evals {
		p, warnings, err := e.open(c)
		if err != nil {
			return err
		}
		p.close()
		(&Evaluation{Warnings: warnings}).warn(c)
	}
	c.say("a dry run: nothing was measured")
	return nil
}

// keepEvery is how much of an evaluation's work a kill may cost, besides the round
// that it hits. An interrupt costs no more than that round.
const keepEvery = 30 * time.Second

// batches evaluates the batches that the log lacks.
func (e *evaluation) batches(ctx context.Context, c Console, p *protocol, log *evalLog, visit visitor) error {
	e.pictures = newPictures(e.examples.Info(), e.eval.Threat.Domain)
	stream, err := datasets.NewStream(e.examples, datasets.StreamOptions{BatchSize: e.eval.BatchSize, Epochs: 1})
	if err != nil {
		return err
	}
	defer stream.Close()
	rounds, done := p.rounds(), 0
	bar := run.NewProgress(c.Err, e.examples.Len()*rounds, 0) // an example goes through many rounds: its rate says nothing
	defer bar.Close()
	bar.Update(0)
	for i := 0; ; i++ {
		b, ok := stream.Next()
		if !ok {
			return nil
		}
		if i < len(log.Batches) {
			if visit != nil {
				x, err := log.attacked(i)
				if err != nil {
					return err
				}
				visit(b, log.Batches[i], x)
			}
		} else {
			v, x, err := e.batch(ctx, p, log, b, done, func(n int) { bar.Update(done*rounds + n*b.N) })
			if err != nil {
				return err
			}
			e.pictures.add(b, v.Clean, v.predictions(0), x)
			if visit != nil {
				visit(b, v, x)
			}
		}
		done += b.N
		b.Release()
	}
}

// batch evaluates the batch behind those of the log, before which so many examples
// lie, from the round on where the log has it, and adds it to the log. It calls
// tick with the number of rounds behind it. x has the examples as the first attack
// left them (N,C,H,W).
func (e *evaluation) batch(ctx context.Context, p *protocol, log *evalLog, b *datasets.Batch, before int, tick func(rounds int)) (v *verdict, x []float32, err error) {
	var given []int32
	if e.targets != nil {
		given = e.targets[before:][:b.N]
	}
	if log.Underway == nil {
		if log.Underway, err = p.begin(b); err != nil {
			return nil, nil, err
		}
	}
	u := log.Underway
	err = p.attack(ctx, b, given, u, func() error {
		tick(u.done(p.plans))
		if time.Since(log.kept) < keepEvery || u.Plan == len(p.plans) {
			return nil
		}
		return log.keep()
	})
	if errors.Is(err, context.Canceled) && u.done(p.plans) > 0 {
		if failed := log.keep(); failed != nil {
			return nil, nil, failed
		}
	}
	if err != nil {
		return nil, nil, err
	}
	return u.Verdict, u.First, log.add(u.Verdict, u.First)
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
	e, err := prepare(c, o)
	if err != nil {
		return err
	}
	defer e.close()
	if err := e.checkCard(o.Card); err != nil {
		return err
	}
	if o.DryRun {
		return e.try(c)
	}
	var all []*Evaluation
	for i, eval := range e.evals {
		e.eval = eval
		said := "written to %s"
		result, path := e.finished()
		if result != nil {
			said = "measured already, before an interrupt: %s"
		} else if result, path, err = e.measureAndWrite(ctx, c); err != nil {
			return err
		}
		if i > 0 && !c.JSON {
			fmt.Fprintln(c.Out)
		}
		if err := c.result(result, result.print); err != nil {
			return err
		}
		result.warn(c)
		c.say(said, path)
		if o.Card != "" {
			if err := newCard(e.settings, eval, result).write(o.Card); err != nil {
				return err
			}
			c.say("card written to %s", o.Card)
		}
		all = append(all, result)
	}
	for _, e.eval = range e.evals {
		e.dropLog(false)
	}
	refreshReport(c, e.dir)
	if len(all) > 1 && !c.JSON {
		printRadii(c.Out, e.evals, all)
	}
	return nil
}

// measureAndWrite measures the radius at work, writes the result, and has the log
// say so, for an interrupt at the next one.
func (e *evaluation) measureAndWrite(ctx context.Context, c Console) (r *Evaluation, path string, err error) {
	if r, err = e.measure(ctx, c, nil); err != nil {
		return nil, "", err
	}
	if path, err = e.write(r); err != nil {
		return nil, "", err
	}
	e.log.Result = filepath.Base(path)
	if err := e.log.keep(); err != nil {
		return nil, "", err
	}
	return r, path, e.keepPictures()
}

// finished is the result of the radius at work, if this command has come behind it
// before it was interrupted; else nil.
func (e *evaluation) finished() (r *Evaluation, path string) {
	l := &evalLog{}
	b, err := os.ReadFile(e.logPath(false))
	if err != nil || json.Unmarshal(b, l) != nil || l.Result == "" {
		return nil, ""
	}
	path = filepath.Join(e.dir, evaluations, filepath.Base(l.Result))
	r = &Evaluation{}
	if b, err = os.ReadFile(path); err != nil || json.Unmarshal(b, r) != nil {
		return nil, ""
	}
	return r, path
}

// write puts the result into the run folder, under a name of its own.
func (e *evaluation) write(result *Evaluation) (path string, err error) {
	name := filepath.Join(e.dir, evaluations, result.Date.Format("20060102-150405"))
	for _, entry := range e.eval.entries {
		name += "-" + entry.name
	}
	path = name + ".json"
	for i := 2; ; i++ {
		if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
			break
		}
		path = fmt.Sprintf("%s-%d.json", name, i)
	}
	return path, result.writeTo(path)
}

// Attack is temper attack: it evaluates and saves the attacked examples as
// arrays x (as in the data set), x_adv (f32), y, clean_pred, adv_pred (i32) and
// ids (i64) of an .npz file. Examples that are wrong already stay as they are.
// After an interrupt, the same command goes on behind the last finished round.
func Attack(ctx context.Context, c Console, o EvalOptions) error {
	switch info, err := os.Stat(filepath.Dir(o.Save)); {
	case o.Save == "":
		return usage("attack needs --save FILE.npz")
	case filepath.Ext(o.Save) != ".npz":
		return usage("--save %s: the name must end in .npz", o.Save)
	case err != nil || !info.IsDir():
		return fmt.Errorf("--save %s: there is no folder %s", o.Save, filepath.Dir(o.Save))
	}
	e, err := prepare(c, o)
	if err != nil {
		return err
	}
	defer e.close()
	if len(e.evals) > 1 || len(e.eval.entries) > 1 {
		return usage("attack saves the examples of one attack at one eps: temper eval takes several")
	}
	kept := &attackedSet{in: e.examples.Info()}
	result, err := e.measure(ctx, c, kept.add)
	if err != nil {
		return err
	}
	if err := datasets.SaveNPZ(o.Save, kept.arrays()...); err != nil {
		return err
	}
	e.dropLog(true)
	if err := c.result(result, result.print); err != nil {
		return err
	}
	result.warn(c)
	c.say("attacked examples written to %s", o.Save)
	return nil
}

// keepPictures writes down what there is to be looked at. An evaluation that
// was gone on with after its first batches has not seen all examples again: then
// the pictures of an earlier one stay.
func (e *evaluation) keepPictures() error {
	if len(e.pictures.Labels) == 0 {
		return nil
	}
	return e.pictures.keep(e.dir, e.session, e.step, e.eval.entries[0].describe(e.eval.Threat))
}

// attackedSet collects attacked batches.
type attackedSet struct {
	in            datasets.Info
	u8            []uint8
	f32, adv      []float32
	y, clean, got []int32
	ids           []int64
}

func (s *attackedSet) add(b *datasets.Batch, v *verdict, x []float32) {
	s.u8, s.f32 = append(s.u8, b.U8...), append(s.f32, b.F32...)
	s.adv = append(s.adv, x...)
	s.y, s.clean = append(s.y, v.Labels...), append(s.clean, v.Clean...)
	s.got = append(s.got, v.predictions(0)...)
	for _, id := range b.IDs {
		s.ids = append(s.ids, int64(id))
	}
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
