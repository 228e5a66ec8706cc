package job

import (
	"context"
	"io"
	"strings"
	"testing"

	"temper/adversarial/run"
)

// trainedWith is a finished training run in a folder of its own.
func trainedWith(t *testing.T, assignments ...string) *Trained {
	t.Helper()
	s := one(t, append([]string{"device=cpu", "threads=1"}, assignments...)...)
	r, err := trainNew(context.Background(), Console{io.Discard, io.Discard, false}, &s, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// series reads one number of a run's metrics, record by record.
func series(t *testing.T, dir, name string) (values []float64, epochs []int) {
	t.Helper()
	records, err := run.ReadMetrics(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range records {
		for _, f := range r.Fields {
			if f.Name == name {
				values, epochs = append(values, f.Value), append(epochs, r.Epoch)
			}
		}
	}
	return values, epochs
}

// The checkpoint that counts is the first of the best evaluations on held-out
// examples, its numbers are the run's, and temper eval finds it by itself.
func TestBestCheckpoint(t *testing.T) {
	args := []string{"training.method=pgd-at", "data.held_out=20", "data.structured.train_n=60", "batches.epochs=60", "eval.every=3"}
	best, last := trainedWith(t, append(args, "checkpoint.choice=best")...), trainedWith(t, args...)
	robust, epochs := series(t, best.Run, "held-out/robust")
	top := 0
	for i, v := range robust {
		if v > robust[top] {
			top = i
		}
	}
	if len(robust) != 20 || top == 0 || top == len(robust)-1 {
		t.Fatalf("%d evaluations, the best is number %d: the test shows nothing", len(robust), top)
	}
	if best.Epoch != epochs[top] || last.Epoch != 60 || best.Checkpoint != "best" || last.Checkpoint != "last" {
		t.Errorf("the %s checkpoint of epoch %d and the %s of epoch %d, want %d and 60", best.Checkpoint, best.Epoch, last.Checkpoint, last.Epoch, epochs[top])
	}
	for _, r := range []*Trained{best, last} {
		e, err := prepare(EvalOptions{Run: r.Run})
		if err != nil {
			t.Fatal(err)
		}
		defer e.close()
		got, err := e.measure(context.Background(), Console{io.Discard, io.Discard, false}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if int(e.step) != r.Epoch || got.CleanAccuracy != r.Clean || got.RobustAccuracy != r.Robust {
			t.Errorf("%s: temper eval says %v and %v of step %d, training %v and %v", r.Checkpoint, got.CleanAccuracy, got.RobustAccuracy, e.step, r.Clean, r.Robust)
		}
	}
}

func TestCheckpointChoice(t *testing.T) {
	for want, assignments := range map[string][]string{
		`unknown checkpoint.choice "bets" (did you mean "best"?): want last or best`: {"checkpoint.choice=bets"},
		"needs held-out examples to choose by":                                       {"checkpoint.choice=best"},
	} {
		if _, err := Resolve(user(assignments...)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one with %q", err, want)
		}
	}
}
