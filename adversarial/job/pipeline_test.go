//go:build cgo

package job

import (
	"context"
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"testing"

	"temper/adversarial/run"
	"temper/cuda"
	"temper/cuda/emulator"
)

// A device is given step i+1 before anything waits for step i, but at the end of
// an epoch, where the state is looked at; the numbers are those of steps that were
// waited for one by one.
func TestStepsOverlap(t *testing.T) {
	path, err := emulator.Library()
	if errors.Is(err, emulator.ErrNoCompiler) && !slices.Contains(strings.Split(os.Getenv("TEMPER_REQUIRE"), ","), "cxx") {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	lib, err := cuda.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer lib.SetEmulator("log", 0)
	args := []string{"data.structured.train_n=48", "batches.size=4", "batches.epochs=2", "eval.every=1", "eval.limit=4", "alarms.probe=0"}
	losses := map[string][]float64{}
	for _, device := range []string{"cpu", "emulator"} {
		s := one(t, append([]string{"device=" + device, "threads=1"}, args...)...)
		if err := lib.SetEmulator("log", 1); err != nil {
			t.Fatal(err)
		}
		r, err := trainNew(context.Background(), Console{io.Discard, io.Discard, false}, &s, t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		losses[device], _ = series(t, r.Run, "train/loss")
	}
	for i, w := range losses["cpu"] {
		if g := losses["emulator"][i]; g < w-1e-3 || g > w+1e-3 {
			t.Errorf("step %d: loss %v, on the CPU %v", i, g, w)
		}
	}
	// Of an epoch's twelve steps, the last four are timed step by step.
	var order strings.Builder
	for line := range strings.Lines(lib.EmulatorLog()) {
		switch strings.TrimSpace(line) {
		case "cuGraphLaunch":
			order.WriteByte('L')
		case "graph done":
			order.WriteByte('D')
		}
	}
	overlapping := "L" + strings.Repeat("LD", 7) + "D"
	if n := strings.Count(order.String(), overlapping); n != 2 {
		t.Errorf("launches and ends in the order %s, want %s twice", &order, overlapping)
	}
}

// A run that is interrupted with a step under way counts that step, and goes on
// with the same bits.
func TestInterruptedUnderWay(t *testing.T) {
	args := []string{"data.structured.train_n=40", "batches.size=8", "batches.epochs=4", "alarms.probe=0"}
	straight := trainedWith(t, args...)
	s := one(t, append([]string{"device=cpu", "threads=1"}, args...)...)
	dir := t.TempDir()
	ctx := &interruptedAfter{Context: context.Background(), looks: 8}
	_, err := trainNew(ctx, Console{io.Discard, io.Discard, false}, &s, dir)
	var stop *InterruptedError
	if !errors.As(err, &stop) || stop.Step == 0 || stop.Step%5 == 0 {
		t.Fatalf("%v: want it interrupted within an epoch", err)
	}
	r, err := resume(context.Background(), Console{io.Discard, io.Discard, false}, stop.Dir, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	var states [2]*run.Checkpoint
	for i, dir := range []string{straight.Run, r.Run} {
		if states[i], err = run.LatestCheckpoint(dir); err != nil {
			t.Fatal(err)
		}
	}
	for i, a := range states[0].Tensors {
		if string(a.Data) != string(states[1].Tensors[i].Data) {
			t.Errorf("%s differs", a.Name)
		}
	}
}

// interruptedAfter is done when it has been looked at so many times.
type interruptedAfter struct {
	context.Context
	looks int
}

func (c *interruptedAfter) Err() error {
	if c.looks--; c.looks < 0 {
		return context.Canceled
	}
	return nil
}
