package job

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"time"

	"temper/adversarial"
	"temper/adversarial/run"
	"temper/datasets"
	"temper/engine"
	"temper/engine/graph"
	"temper/nn"
)

// trainer is one training run in progress.
type trainer struct {
	*session
	console  Console
	run      *run.Run
	program  *engine.Program
	rate     nn.Schedule     // of the learning rate
	momentum nn.Schedule     // nil if it does not move
	source   datasets.Source // trained on
	watch    datasets.Source // evaluated on the way: held-out examples, else the test set
	watching string          // "held-out" or "test"
	eval     *evaluator      // of the weights that count
	raw      *evaluator      // where averaged weights count: of those that are trained; else nil
	// statistics measures the averaged network's running statistics anew; nil
	// where they are averaged too.
	statistics *engine.Program
	prober     *prober // nil if no alarm is armed
	history    history
	metrics    *run.Metrics
	progress   *run.Progress

	perEpoch int
	step     int           // steps done, and their results read
	epoch    tally         // of the epoch that step is in
	best     float64       // robust accuracy of the best evaluation, -1 before the first
	began    time.Time     // of the stretch that the next epoch line reports
	since    int           // examples trained on in it
	steps    int           // steps done in it
	waited   time.Duration // for data in it
	parts    parts         // of the steps in it that were timed part by part
	weighed  time.Time     // when the device's memory was looked at
	last     *Outcome      // of the latest evaluation
	pictures *run.Pictures // what it left to be looked at

	ahead    *datasets.Batch // fed, for the step to come
	underway *launched       // behind the last of the steps done; nil if there is none
}

// launched is a step whose results have not been read.
type launched struct {
	results engine.Results
	n       int // examples
	epoch   int // from 0
	moving  map[string]float64
}

// tally adds up what the steps of an epoch return. It is part of a checkpoint.
type tally struct {
	seen    int
	correct int
	loss    float64 // Σ of the batches' means, each times its size
}

// result is what a step returns.
type result struct {
	loss, gradNorm float64
	right          int // of the batch
	finite         bool
}

// total is the number of steps of the run.
func (t *trainer) total() int { return t.perEpoch * t.settings.Batches.Epochs }

// newTrainer opens data and device for settings that are resolved, or those of
// the run in dir.
func newTrainer(c Console, s *Settings, dir string) (*trainer, error) {
	source, held, err := s.trainingSet()
	if err != nil {
		return nil, err
	}
	watch, watching := held, "held-out"
	if held == nil {
		test, err := s.open(datasets.Test)
		if err != nil {
			return nil, err
		}
		watch, watching = test, "test"
	}
	in := source.Info()
	ses, err := openSession(c, s, in, dir)
	if err != nil {
		return nil, err
	}
	t := &trainer{session: ses, console: c, source: source, watch: watch, watching: watching, best: -1}
	if t.rate, t.momentum, err = s.schedule(); err != nil {
		return nil, err
	}
	t.program = t.dev.NewProgram(t.state, func(batch int) (*graph.Graph, error) {
		return t.stepGraph(in, batch)
	}, t.compile)
	for name, v := range t.scalars() {
		if err := t.program.Set(name, v); err != nil {
			return nil, err
		}
	}
	counts := t.model
	if s.Training.Average.On() {
		counts = t.model.At(adversarial.AveragePrefix)
		if t.raw, err = t.evaluator(t.model, in); err != nil {
			return nil, err
		}
		if s.Training.Average.Recomputes() {
			t.statistics = t.dev.NewProgram(t.state, func(batch int) (*graph.Graph, error) {
				return adversarial.StatisticsGraph(counts, batch, inputType(in))
			}, t.compile)
		}
	}
	if t.eval, err = t.evaluator(counts, in); err != nil {
		return nil, err
	}
	if t.prober, err = t.newProber(in); err != nil {
		return nil, err
	}
	size := min(s.Batches.Size, source.Len())
	t.perEpoch = (source.Len() + size - 1) / size
	if s.Batches.DropLast {
		t.perEpoch = source.Len() / size
	}
	// Compile now: an error here leaves no run folder behind.
	if _, err = t.program.For(size); err == nil {
		_, err = t.eval.program.For(min(s.Eval.BatchSize, watch.Len()))
	}
	return t, err
}

func (t *trainer) close() {
	t.program.Close()
	t.eval.close()
	if t.raw != nil {
		t.raw.close()
	}
	if t.prober != nil {
		t.prober.close()
	}
	if t.statistics != nil {
		t.statistics.Close()
	}
	t.session.close()
}

// evaluator measures a network under the attack of the settings.
func (t *trainer) evaluator(m *nn.Model, in datasets.Info) (*evaluator, error) {
	s := t.settings
	return newEvaluator(t.dev, t.state, m, in, s.Threat, s.Eval.Attack, s.Seed, s.Eval.BatchSize, t.compile)
}

// scalars is the part of the step block that does not move.
func (t *trainer) scalars() map[string]float64 {
	return map[string]float64{"seed": float64(t.settings.Seed), "weight_decay": t.settings.Optimizer.WeightDecay}
}

// at is where a step stands in the run.
func (t *trainer) at(step int) nn.Progress {
	return nn.Progress{Step: step, PerEpoch: t.perEpoch, Epochs: t.settings.Batches.Epochs}
}

// moving is the part that does, at a step.
func (t *trainer) moving(step int) map[string]float64 {
	s := t.settings
	p := t.at(step)
	eps, alpha := t.history.training(s.Training, s.Threat).Radius(s.Threat, p)
	momentum := s.Optimizer.Momentum // which nothing reads if it does not move
	if t.momentum != nil {
		momentum = t.momentum(p)
	}
	return map[string]float64{
		"step": float64(step), "lr": t.history.rate() * t.rate(p), "momentum": momentum, "eps": eps, "alpha": alpha, "average": s.Training.Average.Weight(p),
	}
}

// open starts a stream at the step that the trainer stands at.
func (t *trainer) open() (*datasets.Stream, error) {
	b := t.settings.Batches
	return datasets.NewStream(t.source, datasets.StreamOptions{
		BatchSize: min(b.Size, t.source.Len()), Shuffle: b.Shuffle, Seed: t.settings.Seed, DropLast: b.DropLast, Epochs: b.Epochs,
		Start: datasets.Position{Epoch: t.step / t.perEpoch, Index: t.step % t.perEpoch},
	})
}

// loop trains to the end, or until an alarm stops the run, or until ctx is done:
// then it writes a checkpoint and returns an *InterruptedError.
func (t *trainer) loop(ctx context.Context) error {
	t.progress = run.NewProgress(t.console.Err, t.total(), t.settings.Batches.Size)
	defer t.progress.Close()
	t.began = time.Now()
	for {
		back, err := t.stretch(ctx)
		if err != nil || !back {
			return err
		}
	}
}

// stretch trains to the end of the run or to where it goes back.
func (t *trainer) stretch(ctx context.Context) (back bool, err error) {
	stream, err := t.open()
	if err != nil {
		return false, err
	}
	defer stream.Close()
	t.ahead, t.underway = nil, nil
	for {
		stop := ctx.Err()
		if t.launched()%t.perEpoch == 0 || stop != nil { // what follows looks at the state
			if err := t.settle(); err != nil {
				return false, err
			}
		}
		if t.step > 0 && t.step%t.perEpoch == 0 && t.epoch.seen > 0 {
			fired, err := t.endEpoch(ctx)
			if err != nil {
				return false, t.interrupted(err)
			}
			if fired != nil {
				return true, t.rollBack(fired)
			}
		}
		if t.step == t.total() || t.history.stopped() {
			return false, nil
		}
		if stop != nil {
			return false, t.interrupted(stop)
		}
		if err := t.next(stream); err != nil {
			return false, err
		}
	}
}

// launched is the number of steps done or under way.
func (t *trainer) launched() int {
	if t.underway != nil {
		return t.step + 1
	}
	return t.step
}

// next launches the step on the next batch, and only then waits for the one
// before it: a GPU that is done with a step finds the next one waiting.
func (t *trainer) next(stream *datasets.Stream) error {
	if t.ahead == nil {
		if err := t.fetch(stream); err != nil {
			return err
		}
	}
	b := t.ahead
	if b == nil {
		panic("BUG: job: the stream ended before the run")
	}
	l, err := t.launch(b, t.launched())
	b.Release()
	if err != nil {
		return err
	}
	if err := t.fetch(stream); err != nil { // a GPU copies it while it computes
		return err
	}
	if err := t.settle(); err != nil {
		return err
	}
	t.underway = l
	return nil
}

// settle waits for the step under way, if there is one, and takes its results
// in.
func (t *trainer) settle() error {
	l := t.underway
	if l == nil {
		return nil
	}
	t.underway = nil
	r, err := l.read()
	if err != nil {
		return err
	}
	if !r.finite {
		return t.diverged(l.epoch, r)
	}
	t.step++
	t.epoch.seen += l.n
	t.epoch.correct += r.right
	t.epoch.loss += r.loss * float64(l.n)
	t.since += l.n
	t.steps++
	t.progress.Update(t.step, run.Field{Name: "epoch", Value: float64(l.epoch + 1)}, run.Field{Name: "loss", Value: r.loss})
	fields := []run.Field{
		{Name: "train/loss", Value: r.loss}, {Name: "train/accuracy", Value: float64(r.right) / float64(l.n)},
		{Name: "train/grad_norm", Value: r.gradNorm}, {Name: "train/lr", Value: l.moving["lr"]},
	}
	if t.momentum != nil {
		fields = append(fields, run.Field{Name: "train/momentum", Value: l.moving["momentum"]})
	}
	if t.settings.Training.EpsWarmup > 0 {
		fields = append(fields, run.Field{Name: "train/eps", Value: l.moving["eps"]})
	}
	memory, err := t.memory()
	if err != nil {
		return err
	}
	return t.metrics.Write(run.Record{Step: int64(t.step), Epoch: l.epoch, Fields: append(fields, memory...)})
}

// fetch takes the next batch, if there is one, and feeds it.
func (t *trainer) fetch(stream *datasets.Stream) error {
	t.ahead = nil
	began := time.Now()
	defer func() { t.waited += time.Since(began) }()
	b, ok := stream.Next()
	if !ok {
		return nil
	}
	e, err := t.program.For(b.N)
	if err != nil {
		return err
	}
	t.ahead = b
	return feed(e, b)
}

// launch starts a step on a batch that was fed, whose memory is not needed any
// more when launch returns.
func (t *trainer) launch(b *datasets.Batch, step int) (*launched, error) {
	e, err := t.program.For(b.N)
	if err != nil {
		return nil, err
	}
	l := &launched{n: b.N, epoch: b.At.Epoch, moving: t.moving(step)}
	for name, v := range l.moving {
		if err := t.program.Set(name, v); err != nil {
			return nil, err
		}
	}
	if t.nextEvaluation(step)-step <= tracedSteps {
		err = t.traced(e)
	} else {
		err = e.Run()
	}
	if err != nil {
		return nil, err
	}
	l.results, err = e.Results()
	return l, err
}

// nextEvaluation is the number of steps after which the next evaluation comes.
func (t *trainer) nextEvaluation(step int) int {
	every := t.perEpoch * t.settings.Eval.Every
	return min((step/every+1)*every, t.total())
}

// read waits for the step and reads what it says of itself.
func (l *launched) read() (r result, err error) {
	var v [4]float64
	for i, name := range [...]string{"loss", "grad_norm", "correct", "finite"} {
		if v[i], err = l.results.Scalar(name); err != nil {
			return r, err
		}
	}
	return result{loss: v[0], gradNorm: v[1], right: int(v[2]), finite: v[3] == 1}, nil
}

// endEpoch evaluates, reports and keeps, as often as the settings say. When it
// is interrupted it has changed nothing, and is done again on resume. It returns
// the alarm that makes the run go back, if there is one.
func (t *trainer) endEpoch(ctx context.Context) (*Event, error) {
	s := t.settings
	epoch := t.step / t.perEpoch
	final := t.step == t.total()
	fields := []run.Field{
		{Name: "epoch/loss", Value: t.epoch.loss / float64(t.epoch.seen)},
		{Name: "epoch/accuracy", Value: float64(t.epoch.correct) / float64(t.epoch.seen)},
	}
	evaluate := final || epoch%s.Eval.Every == 0
	var next history
	var told []string
	if evaluate {
		speed, times := float64(t.since)/time.Since(t.began).Seconds(), t.times()
		if err := t.measureStatistics(ctx); err != nil {
			return nil, err
		}
		out, err := t.evaluate(ctx, t.watch, t.watching, int64(t.step))
		if err != nil {
			return nil, err
		}
		fields = append(fields, run.Field{Name: t.watching + "/clean", Value: out.clean()},
			run.Field{Name: t.watching + "/robust", Value: out.robust()}, run.Field{Name: "time/images_per_second", Value: speed})
		if t.raw != nil {
			raw, err := t.raw.run(ctx, t.watch, s.Eval.Limit, func(int) {}, nil)
			if err != nil {
				return nil, err
			}
			fields = append(fields, run.Field{Name: "raw/clean", Value: raw.clean()}, run.Field{Name: "raw/robust", Value: raw.robust()})
		}
		var seen []run.Field
		if next, told, seen, err = t.watchOver(ctx, out); err != nil {
			return nil, err
		}
		fields = append(append(fields, times...), seen...)
		t.progress.EpochLine(t.epochLine(epoch, fields, speed))
		for _, line := range told {
			t.progress.EpochLine(line)
		}
		t.last, t.history = out, next
		t.began, t.since, t.steps, t.waited, t.parts = time.Now(), 0, 0, 0, parts{}
	}
	if err := t.metrics.Write(run.Record{Step: int64(t.step), Epoch: epoch, Fields: fields}); err != nil {
		return nil, err
	}
	t.epoch = tally{}
	if evaluate {
		if err := t.metrics.WritePictures(int64(t.step), t.pictures); err != nil {
			return nil, err
		}
		if fired := t.history.goesBack(); fired != nil {
			return fired, nil
		}
		if err := t.keepBest(); err != nil {
			return nil, err
		}
		if err := t.keepGood(); err != nil {
			return nil, err
		}
	}
	if final || t.history.stopped() || epoch%s.Checkpoint.Every == 0 {
		return nil, t.keepEpoch()
	}
	return nil, nil
}

// keepEpoch writes the checkpoint of an epoch's end, and how its weights are
// distributed.
func (t *trainer) keepEpoch() error {
	ck, err := t.checkpoint()
	if err != nil {
		return err
	}
	weights, err := modelWeights(t.model, ck.Tensors)
	if err != nil {
		return err
	}
	if err := t.metrics.WriteHistograms(ck.Step, "weights", weights); err != nil {
		return err
	}
	return t.keep(ck)
}

// measureStatistics takes the averaged network over the training examples, in
// their order, if that network is what counts. It starts from nothing, so that
// one that was interrupted leaves no trace.
func (t *trainer) measureStatistics(ctx context.Context) error {
	if t.statistics == nil {
		return nil
	}
	stream, err := datasets.NewStream(t.source, datasets.StreamOptions{BatchSize: min(t.settings.Batches.Size, t.source.Len()), Epochs: 1})
	if err != nil {
		return err
	}
	defer stream.Close()
	for k := 1; ; k++ {
		b, ok := stream.Next()
		if !ok {
			return nil
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		e, err := t.statistics.For(b.N)
		if err != nil {
			return err
		}
		if err := feed(e, b); err != nil {
			return err
		}
		if err := e.Set("weight", 1/float64(k)); err != nil {
			return err
		}
		if err := e.Run(); err != nil {
			return err
		}
		b.Release()
	}
}

// evaluate measures the network as it was after a step on examples of a split,
// and keeps what is found.
func (t *trainer) evaluate(ctx context.Context, examples datasets.Source, split string, step int64) (*Outcome, error) {
	began, p := time.Now(), newPictures(examples.Info(), t.settings.Threat.Domain)
	out, err := t.eval.run(ctx, examples, t.settings.Eval.Limit, func(int) {}, func(a *attacked) error {
		p.add(a.Batch, a.Clean, a.Adv, a.X)
		return nil
	})
	if err != nil {
		return nil, err
	}
	t.pictures = &p.Pictures
	return out, t.keepWatch(out, p, split, step, began)
}

func (t *trainer) epochLine(epoch int, fields []run.Field, speed float64) string {
	epochs := t.settings.Batches.Epochs
	return fmt.Sprintf("epoch %*d/%d  lr %-7.2g  loss %-7.4f  train %5.1f %%  %s: clean %5.1f %%  robust %5.1f %%  %.0f images/s  %s",
		len(strconv.Itoa(epochs)), epoch, epochs, t.moving(t.step - 1)["lr"], fields[0].Value, 100*fields[1].Value,
		t.watching, 100*fields[2].Value, 100*fields[3].Value, speed, run.FormatDuration(time.Since(t.began)))
}

// keepBest writes a checkpoint if the latest evaluation is the best so far.
func (t *trainer) keepBest() error {
	if t.last.robust() <= t.best {
		return nil
	}
	t.best = t.last.robust()
	if t.settings.Checkpoint.Choice != run.BestCheckpoint {
		return nil
	}
	ck, err := t.checkpoint()
	if err != nil {
		return err
	}
	return run.SaveNamed(t.run.Dir, run.BestCheckpoint, ck)
}

// save writes a checkpoint of the state as it is.
func (t *trainer) save() error {
	ck, err := t.checkpoint()
	if err != nil {
		return err
	}
	return t.keep(ck)
}

// keep writes a checkpoint, behind the metrics up to it.
func (t *trainer) keep(ck *run.Checkpoint) error {
	if err := t.metrics.Sync(); err != nil {
		return err
	}
	return run.SaveCheckpoint(t.run.Dir, ck, t.settings.Checkpoint.Keep)
}

// The keys of a checkpoint's metadata: Settings.hash, the tally of an unfinished
// epoch, trainer.best, and the history of the alarms, as JSON. The generators' position and the stream's follow from
// the step.
const (
	metaSettings  = "settings"
	metaModelName = "model"
	metaSeen      = "epoch.seen"
	metaCorrect   = "epoch.correct"
	metaLoss      = "epoch.loss"
	metaBest      = "best"
	metaAlarms    = "alarms"
)

func (t *trainer) checkpoint() (*run.Checkpoint, error) {
	tensors, err := saveState(t.state)
	if err != nil {
		return nil, err
	}
	alarms, err := json.Marshal(t.history)
	if err != nil {
		return nil, err
	}
	exact := func(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }
	return &run.Checkpoint{Step: int64(t.step), Epoch: t.step / t.perEpoch, Tensors: tensors, Meta: map[string]string{
		metaSettings: t.settings.hash(), metaModelName: t.settings.Model.Name,
		metaSeen: strconv.Itoa(t.epoch.seen), metaCorrect: strconv.Itoa(t.epoch.correct), metaLoss: exact(t.epoch.loss),
		metaBest: exact(t.best), metaAlarms: string(alarms),
	}}, nil
}

// restore takes a checkpoint over.
func (t *trainer) restore(ck *run.Checkpoint) error {
	if from := ck.Meta[metaImported]; from != "" {
		return fmt.Errorf("%s was imported and has no training to go on with: evaluate, attack or export it", t.run.Dir)
	}
	if ck.Meta[metaSettings] != t.settings.hash() {
		return fmt.Errorf("%s was changed since the checkpoint was written, or another version of temper wrote it: put it back, or start a new run", filepath.Join(t.run.Dir, run.ConfigFile))
	}
	var errs [5]error
	past := t.history
	t.history = history{}
	errs[4] = json.Unmarshal([]byte(ck.Meta[metaAlarms]), &t.history)
	t.epoch.seen, errs[0] = strconv.Atoi(ck.Meta[metaSeen])
	t.epoch.correct, errs[1] = strconv.Atoi(ck.Meta[metaCorrect])
	t.epoch.loss, errs[2] = strconv.ParseFloat(ck.Meta[metaLoss], 64)
	t.best, errs[3] = strconv.ParseFloat(ck.Meta[metaBest], 64)
	if err := errors.Join(errs[:]...); err != nil {
		return fmt.Errorf("checkpoint %s: its metadata are incomplete", run.CheckpointName(ck.Step))
	}
	t.step = int(ck.Step)
	if t.history.Longer != past.Longer {
		t.program.Close() // its sizes are built again
	}
	return loadState(t.state, ck.Tensors)
}

// InterruptedError says that a run was stopped and how to go on with it.
type InterruptedError struct {
	Dir  string // the run folder; "" where it was no training run
	Step int
	Kept string // of something else: where it stopped, and what goes on from there
}

func (e *InterruptedError) Error() string {
	if e.Dir == "" {
		return "interrupted" + e.Kept
	}
	return fmt.Sprintf("interrupted at step %d; go on with: temper train --resume %s", e.Step, e.Dir)
}

// interrupted writes a checkpoint if err says that the run was interrupted.
func (t *trainer) interrupted(err error) error {
	if !errors.Is(err, context.Canceled) {
		return err
	}
	if err := t.save(); err != nil {
		return err
	}
	return &InterruptedError{Dir: t.run.Dir, Step: t.step}
}
