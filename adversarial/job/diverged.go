package job

import (
	"fmt"

	"temper/adversarial/run"
	"temper/datasets"
)

// NonFiniteError says that a run met a number that is infinite or NaN.
type NonFiniteError struct {
	Step       int // that could not be done, counted from 1
	Epoch      int // from 1
	Loss, Norm float64
	First      string // the first value that was not finite; "" if a replay met none
	Run        string // folder
	Kept       string // name of the last good checkpoint
}

func (e *NonFiniteError) Error() string {
	s := fmt.Sprintf("step %d (epoch %d) is not finite: loss %v, gradient norm %v", e.Step, e.Epoch, e.Loss, e.Norm)
	if e.First != "" {
		s += "; first in " + e.First + fmt.Sprintf(" (see: temper graph %s --pass input)", e.Run)
	}
	return s + fmt.Sprintf("; the last good checkpoint is %s in %s: train again with a lower --lr", e.Kept, e.Run)
}

// diverged is the error for a step, behind those done, that gave r. The state is
// spoilt, and one more step may have been launched from it; the way to that step
// is gone over once more from the last checkpoint, to say where it went wrong.
func (t *trainer) diverged(epoch int, r result) error {
	failed := t.step
	e := &NonFiniteError{Step: failed + 1, Epoch: epoch + 1, Loss: r.loss, Norm: r.gradNorm, Run: t.run.Dir}
	ck, err := run.LatestCheckpoint(t.run.Dir)
	if err != nil {
		return err
	}
	e.Kept = run.CheckpointName(ck.Step)
	t.progress.EpochLine(fmt.Sprintf("step %d is not finite: going over the steps from %s to find where", e.Step, e.Kept))
	if err := t.restore(ck); err != nil {
		return err
	}
	if e.First, err = t.replay(failed); err != nil {
		return err
	}
	return e
}

// again repeats a step.
func (t *trainer) again(b *datasets.Batch) error {
	e, err := t.program.For(b.N)
	if err != nil {
		return err
	}
	if err := feed(e, b); err != nil {
		return err
	}
	_, err = t.launch(b, t.step)
	return err
}

// replay trains from the restored checkpoint to a step, runs that step with
// checks, and returns the first value that is not finite.
func (t *trainer) replay(failed int) (first string, err error) {
	stream, err := t.open()
	if err != nil {
		return "", err
	}
	defer stream.Close()
	for ; ; t.step++ {
		b, ok := stream.Next()
		if !ok {
			panic("BUG: job: the stream ended before the step that failed")
		}
		if t.step == failed {
			first, err = t.checkedStep(b)
		} else {
			err = t.again(b)
		}
		b.Release()
		if err != nil || t.step == failed {
			return first, err
		}
	}
}

// checkedStep runs one step with checks on every value.
func (t *trainer) checkedStep(b *datasets.Batch) (string, error) {
	g, err := t.stepGraph(t.source.Info(), b.N)
	if err != nil {
		return "", err
	}
	c, err := addChecks(g)
	if err != nil {
		return "", err
	}
	e, err := t.dev.Compile(c.g, t.state, t.compile)
	if err != nil {
		return "", err
	}
	defer e.Close()
	if err := feed(e, b); err != nil {
		return "", err
	}
	for _, block := range []map[string]float64{t.scalars(), t.moving(t.step)} {
		for name, v := range block {
			if err := e.Set(name, v); err != nil {
				return "", err
			}
		}
	}
	if err := e.Run(); err != nil {
		return "", err
	}
	return c.first(e)
}
