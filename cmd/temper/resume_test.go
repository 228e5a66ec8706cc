package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"temper/engine/rng"
)

// trainingRun is a small training run, as a command line.
type trainingRun struct {
	name string
	args []string
	data bool // needs real data
}

var small = []trainingRun{
	{name: "structured", args: []string{"train", "--method", "pgd-at", "--epochs", "900", "--set", "batches.shuffle=true", "--batch-size", "16",
		"--set", "schedule.name=cyclic", "--set", "schedule.cycle_momentum=true", "--lr", "0.01", "--set", "eval.every=300", "--set", "checkpoint.every=17", "--set", "checkpoint.keep=0"}},
	{name: "mnist", data: true, args: []string{"train", "--dataset", "mnist", "--limit", "700", "--epochs", "6", "--batch-size", "60",
		"--set", "eval.limit=50", "--set", "eval.attack.steps=2", "--set", "data.held_out=100", "--set", "checkpoint.choice=best", "--set", "checkpoint.keep=0"}},
	{name: "svhn", data: true, args: []string{"train", "--dataset", "svhn", "--limit", "300", "--epochs", "2", "--batch-size", "64",
		"--set", "eval.limit=40", "--set", "eval.attack.steps=2", "--set", "training.attack.steps=2", "--set", "model.width=8",
		"--set", "training.augment.crop=4", "--set", "training.augment.flip=true", "--set", "checkpoint.keep=0"}},
	{name: "rollback", args: []string{"train", "--method", "pgd-at", "--epochs", "120", "--set", "eval.every=20", "--set", "checkpoint.every=7",
		"--set", "checkpoint.keep=0", "--set", "alarms.catastrophic_overfitting.action=rollback"}},
	{name: "averaged", data: true, args: []string{"train", "--dataset", "svhn", "--limit", "100", "--epochs", "3", "--batch-size", "20",
		"--model", "preactresnet18", "--set", "model.width=2", "--set", "model.blocks=[1,1,1,1]", "--set", "eval.limit=20", "--set", "eval.attack.steps=2",
		"--set", "training.attack.steps=2", "--set", "training.average.name=swa", "--set", "training.mixup=0.4", "--set", "training.augment.cutout=8",
		"--set", "training.eps_warmup=2", "--set", "checkpoint.keep=0"}},
}

// TestResume kills or interrupts a run again and again, at any moment, and
// compares what it leaves with what an undisturbed run leaves.
func TestResume(t *testing.T) {
	for _, r := range small {
		t.Run(r.name, func(t *testing.T) {
			var env []string
			if r.data {
				env = []string{"TEMPER_DATA=" + realData(t)}
			}
			t.Parallel()
			straight, disturbed := t.TempDir(), t.TempDir()
			began := time.Now()
			must(t, straight, env, append(r.args, "--threads", "1")...)
			stops := disturb(t, disturbed, env, r.args, time.Since(began))
			if stops == 0 {
				t.Error("the run was never stopped")
			}
			compareRuns(t, latest(straight), latest(disturbed))
		})
	}
}

func latest(dir string) string { return filepath.Join(dir, "runs", "latest") }

// disturb runs temper to its end, in pieces of random length, and returns how
// often it was stopped: killed, or interrupted in an orderly way.
func disturb(t *testing.T, dir string, env, args []string, whole time.Duration) (stops int) {
	t.Helper()
	random := rng.NewStream(1, "resume", 0)
	for i := range 40 {
		c := command(dir, env, args...)
		var stderr bytes.Buffer
		c.Stderr = &stderr
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		for began := time.Now(); !exists(filepath.Join(latest(dir), "config.toml")); time.Sleep(time.Millisecond) {
			if time.Since(began) > time.Minute {
				t.Fatalf("no run folder after a minute\n%s", stderr.String())
			}
		}
		args = []string{"train", "--resume"}
		// The first piece ends at once, the others within a third of the run.
		signal, patience := os.Kill, time.Duration(random.Uniform()*float32(min(i, 1))*float32(whole)/3)
		if i%2 == 1 {
			signal = os.Interrupt
		}
		ended := make(chan error, 1)
		go func() { ended <- c.Wait() }()
		if i < 8 { // then let it finish
			select {
			case err := <-ended:
				ended <- err
			case <-time.After(patience):
				c.Process.Signal(signal)
			}
		}
		if err := <-ended; err == nil {
			return stops
		}
		stops++
		// An interrupt before temper listens for it ends the process as a kill does.
		if code := c.ProcessState.ExitCode(); code != -1 && (signal == os.Kill || code != 130) {
			t.Fatalf("exit code %d\n%s", code, stderr.String())
		}
	}
	t.Fatal("the run does not end")
	return
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// compareRuns compares the final checkpoints byte by byte and the metrics but
// for the times.
func compareRuns(t *testing.T, a, b string) {
	t.Helper()
	files := func(dir string) map[string][]byte {
		m := map[string][]byte{}
		paths, _ := filepath.Glob(filepath.Join(dir, "checkpoints", "*.safetensors"))
		for _, p := range paths {
			data, err := os.ReadFile(p)
			if err != nil {
				t.Fatal(err)
			}
			m[filepath.Base(p)] = data
		}
		return m
	}
	want, got := files(a), files(b)
	if len(want) < 2 {
		t.Fatalf("%d checkpoints", len(want))
	}
	for name, data := range want {
		if !bytes.Equal(data, got[name]) {
			t.Errorf("%s differs", name)
		}
	}
	if diff := cmp.Diff(metrics(t, a), metrics(t, b)); diff != "" {
		t.Errorf("metrics differ (-straight +stopped):\n%s", diff)
	}
}

// metrics reads metrics.jsonl without what depends on time.
func metrics(t *testing.T, dir string) (records []map[string]any) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, "metrics.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(b) {
		record := map[string]any{}
		if err := json.Unmarshal(line, &record); err != nil {
			t.Fatal(err)
		}
		for key := range record {
			if strings.HasPrefix(key, "time/") {
				delete(record, key)
			}
		}
		records = append(records, record)
	}
	return records
}

// TestInterrupt stops a run in an orderly way.
func TestInterrupt(t *testing.T) {
	dir := t.TempDir()
	c := command(dir, nil, "train", "--method", "pgd-at", "--epochs", "1000000", "--set", "checkpoint.every=1000000")
	var stdout, stderr bytes.Buffer
	c.Stdout, c.Stderr = &stdout, &stderr
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	for began := time.Now(); len(file(filepath.Join(latest(dir), "metrics.jsonl"))) == 0 && time.Since(began) < time.Minute; {
		time.Sleep(time.Millisecond)
	}
	c.Process.Signal(os.Interrupt)
	c.Wait()
	checkpoints, _ := filepath.Glob(filepath.Join(latest(dir), "checkpoints", "*"))
	if code := c.ProcessState.ExitCode(); code != 130 || len(checkpoints) != 2 || stdout.Len() > 0 ||
		!strings.Contains(stderr.String(), "; go on with: temper train --resume runs/") {
		t.Errorf("exit code %d, checkpoints %v, stdout %q, stderr %q", code, checkpoints, stdout.String(), stderr.String())
	}
}

// file is a file's content, nil if it cannot be read.
func file(path string) []byte {
	b, _ := os.ReadFile(path)
	return b
}

// TestCorruptCheckpoint spoils the newest checkpoint: it is refused by name,
// the one before it is offered, and going on from that one works.
func TestCorruptCheckpoint(t *testing.T) {
	dir := t.TempDir()
	must(t, dir, nil, "train", "--method", "standard", "--epochs", "100")
	want := metrics(t, latest(dir))
	newest := filepath.Join(latest(dir), "checkpoints", "step-00000100.safetensors")
	b, err := os.ReadFile(newest)
	if err != nil {
		t.Fatal(err)
	}
	for name, damaged := range map[string][]byte{"flipped": flipped(b), "truncated": b[:len(b)-9], "empty": nil} {
		if err := os.WriteFile(newest, damaged, 0o666); err != nil {
			t.Fatal(err)
		}
		for _, args := range [][]string{{"train", "--resume"}, {"eval", "latest"}} {
			o := temper(t, dir, nil, args...)
			offer := "the one before it, step-00000050, is good: resume from it with --resume-from step-00000050"
			if o.code != 1 || !strings.Contains(o.stderr, "checkpoint step-00000100.safetensors is corrupt") || !strings.Contains(o.stderr, offer) || strings.Count(o.stderr, "\n") != 1 {
				t.Errorf("%s, %v: exit code %d, stderr %q", name, args, o.code, o.stderr)
			}
		}
	}
	must(t, dir, nil, "train", "--resume", "--resume-from", "step-00000050")
	if diff := cmp.Diff(want, metrics(t, latest(dir))); diff != "" {
		t.Errorf("metrics differ:\n%s", diff)
	}
	again, err := os.ReadFile(newest)
	if err != nil || !bytes.Equal(b, again) {
		t.Errorf("the checkpoint differs from the first one, %v", err)
	}
}

func flipped(b []byte) []byte {
	c := bytes.Clone(b)
	c[len(c)-5] ^= 4
	return c
}

// TestNotFinite lets training overflow: it stops, names the step and the first
// value, and keeps the last good checkpoint.
func TestNotFinite(t *testing.T) {
	dir := t.TempDir()
	o := temper(t, dir, nil, "train", "--method", "pgd-at", "--lr", "3e38")
	want := "temper: step 2 (epoch 2) is not finite: loss "
	if o.code != 1 || !strings.Contains(o.stderr, want) || !strings.Contains(o.stderr, "; first in %") ||
		!strings.Contains(o.stderr, "the last good checkpoint is step-00000000") {
		t.Errorf("exit code %d, stderr %q", o.code, o.stderr)
	}
	checkpoints, _ := filepath.Glob(filepath.Join(latest(dir), "checkpoints", "*"))
	if len(checkpoints) != 1 {
		t.Errorf("checkpoints: %v", checkpoints)
	}
	must(t, dir, nil, "eval", "latest")
}

// TestChangedRun refuses to go on with settings that are not the checkpoint's.
func TestChangedRun(t *testing.T) {
	dir := t.TempDir()
	must(t, dir, nil, "train", "--method", "standard", "--epochs", "3")
	if o := temper(t, dir, nil, "train", "--resume", "--eps", "0.5"); o.code != 2 || !strings.Contains(o.stderr, "--eps cannot change a run that has begun") {
		t.Errorf("%+v", o)
	}
	must(t, dir, []string{"TEMPER_EPS=0.5"}, "train", "--resume", "--threads", "2")
	config := filepath.Join(latest(dir), "config.toml")
	b, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	b = bytes.Replace(b, []byte("lr = 0.1"), []byte("lr = 0.2"), 1)
	if err := os.WriteFile(config, b, 0o666); err != nil {
		t.Fatal(err)
	}
	if o := temper(t, dir, nil, "train", "--resume"); o.code != 1 || !strings.Contains(o.stderr, "config.toml was changed since the checkpoint was written") {
		t.Errorf("%+v", o)
	}
}
