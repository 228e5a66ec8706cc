package job

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"temper/adversarial/run"
	"temper/datasets"
	"temper/engine/graph"
)

// stepGraph builds the training step for a batch size, as the rollbacks have left
// it.
func (t *trainer) stepGraph(in datasets.Info, batch int) (*graph.Graph, error) {
	s := *t.settings
	s.Training = t.history.training(s.Training, s.Threat)
	return s.stepGraph(t.model, in, batch)
}

// watchOver lets the alarms look at an evaluation. It returns the history with
// what they find, lines for the console, and numbers for metrics.jsonl.
func (t *trainer) watchOver(ctx context.Context, out *Outcome) (next history, lines []string, fields []run.Field, err error) {
	next = t.history
	if t.prober == nil {
		return next, nil, nil, nil
	}
	s := t.settings
	r := &reading{robust: out.robust(), best: t.best}
	if err := t.prober.read(ctx, r, s.Training.Warmup(t.at(t.step-1))); err != nil {
		return next, nil, nil, err
	}
	armed := s.armed()
	holds := judge(r, armed, &s.Alarms)
	act := decide(holds, &s.Alarms)
	next.Holds, next.Events = nil, slices.Clone(next.Events)
	tell := func(a *alarm, action, how string) {
		next.Events = append(next.Events, Event{Name: a.name, Epoch: t.step / t.perEpoch, Step: t.step, Value: a.value(r), Action: action})
		lines = append(lines, fmt.Sprintf("ALARM %s (%s): %s; remedy: %s", a.name, how, a.text(r), a.remedy))
	}
	for i := range holds {
		a := &holds[i]
		next.Holds = append(next.Holds, a.name)
		if a != act && !slices.Contains(t.history.Holds, a.name) { // it is told when it begins
			tell(a, actionWarn, actionWarn)
		}
	}
	if act != nil { // last, where goesBack and stopped look
		action := act.of(&s.Alarms).Action
		how := action
		if action == actionRollback && next.rollbacks() == s.Alarms.Rollbacks {
			action, how = actionStop, fmt.Sprintf("stop, after %d rollbacks", next.rollbacks())
		}
		tell(act, action, how)
	}
	return next, lines, r.fields(armed, holds, s.Training.Attacks()), nil
}

// goesBack is the alarm that makes a run go back and has not done so yet; nil if
// there is none.
func (h *history) goesBack() *Event {
	if n := len(h.Events); n > 0 && h.Events[n-1].Action == actionRollback && h.Events[n-1].Now == "" {
		return &h.Events[n-1]
	}
	return nil
}

// keepGood writes the checkpoint to go back to, if no alarm holds.
func (t *trainer) keepGood() error {
	if !t.settings.rollsBack() || len(t.history.Holds) > 0 {
		return nil
	}
	ck, err := t.checkpoint()
	if err != nil {
		return err
	}
	return run.SaveNamed(t.run.Dir, run.GoodCheckpoint, ck)
}

// freshenGood makes sure that a resumed run has a checkpoint to go back to that is
// not ahead of it: the user may have chosen an earlier one to resume from. Where an
// alarm holds there, it is the newest one before it of those kept where none does,
// as far as there is one.
func (t *trainer) freshenGood() error {
	if !t.settings.rollsBack() {
		return nil
	}
	good, err := run.LoadCheckpoint(t.run.Dir, run.GoodCheckpoint)
	if err == nil && good.Step <= int64(t.step) {
		return nil
	}
	ck, err := t.checkpoint()
	if err != nil {
		return err
	}
	if len(t.history.Holds) > 0 {
		earlier, err := t.withoutAlarm()
		if err != nil {
			return err
		}
		ck = cmp.Or(earlier, ck)
	}
	return run.SaveNamed(t.run.Dir, run.GoodCheckpoint, ck)
}

// withoutAlarm is the newest checkpoint of those kept at which no alarm held; nil if
// there is none.
func (t *trainer) withoutAlarm() (*run.Checkpoint, error) {
	steps, err := run.CheckpointSteps(t.run.Dir)
	if err != nil {
		return nil, err
	}
	for _, step := range steps {
		ck, err := run.LoadCheckpoint(t.run.Dir, run.CheckpointName(step))
		if err != nil {
			continue // a damaged one is told where it is asked for
		}
		var h history
		if json.Unmarshal([]byte(ck.Meta[metaAlarms]), &h) == nil && len(h.Holds) == 0 {
			return ck, nil
		}
	}
	return nil, nil
}

// rollBack goes back to the good checkpoint. A process that is killed in here
// leaves either a checkpoint from which the run comes to this point again, or the
// one that is written first, from which it goes on as after this function.
func (t *trainer) rollBack(fired *Event) error {
	good, err := run.LoadCheckpoint(t.run.Dir, run.GoodCheckpoint)
	if err != nil {
		return err
	}
	past := t.history
	if err := t.restore(good); err != nil {
		return err
	}
	// If the best evaluation is one that is gone back over, the next one replaces it.
	if best, err := run.LoadCheckpoint(t.run.Dir, run.BestCheckpoint); err == nil && best.Step > good.Step {
		t.best = -1
	}
	past.Holds = nil
	last := &past.Events[len(past.Events)-1]
	last.To = t.step
	switch byName := slices.IndexFunc(alarms, func(a alarm) bool { return a.name == fired.Name }); alarms[byName].change {
	case moreSteps:
		past.Longer++
		last.Now = past.training(t.settings.Training, t.settings.Threat).DescribeAttack(t.settings.Threat)
	case lowerRate:
		past.Slower++
		last.Now = fmt.Sprintf("learning rate × %v", past.rate())
	}
	t.history = past
	t.program.Close() // its sizes are built again
	t.progress.EpochLine(fmt.Sprintf("back to the end of epoch %d; from there on %s", t.step/t.perEpoch, last.Now))
	if err := t.save(); err != nil {
		return err
	}
	if err := t.metrics.Close(); err != nil {
		return err
	}
	if err := t.run.Rewind(int64(t.step), t.epoch.seen > 0); err != nil {
		return err
	}
	if t.metrics, err = run.OpenMetrics(t.run.Dir); err != nil {
		return err
	}
	return t.noteRollback()
}

// metricRollback counts the rollbacks in metrics.jsonl, in a record of the step
// that each went back to.
const metricRollback = "alarm/rollback"

// noteRollback writes the record of the latest rollback if the run stands where it
// went back to and has not written it.
func (t *trainer) noteRollback() error {
	n := len(t.history.Events)
	if t.history.rollbacks() == 0 || t.history.Events[n-1].Action != actionRollback || t.history.Events[n-1].To != t.step {
		return nil
	}
	records, err := run.ReadMetrics(t.run.Dir)
	if err != nil {
		return err
	}
	count := float64(t.history.rollbacks())
	for _, r := range records {
		if slices.Contains(r.Fields, run.Field{Name: metricRollback, Value: count}) {
			return nil
		}
	}
	e := t.history.Events[n-1]
	return t.metrics.Write(run.Record{Step: int64(t.step), Epoch: t.step / t.perEpoch, Fields: []run.Field{
		{Name: metricRollback, Value: count}, {Name: metricRollback + "_from", Value: float64(e.Step)}, {Name: "alarm/" + e.Name, Value: 1},
	}})
}
