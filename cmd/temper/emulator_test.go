package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"temper/cuda/cache"
	"temper/cuda/emulator"
	"temper/datasets"
)

// emulated is the environment of a command on the emulator, which it may compile.
func emulated(t *testing.T) []string {
	t.Helper()
	err := emulator.Available()
	if errors.Is(err, emulator.ErrNoCompiler) && !slices.Contains(strings.Split(os.Getenv("TEMPER_REQUIRE"), ","), "cxx") {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	dir, err := cache.Dir()
	if err != nil {
		t.Fatal(err)
	}
	return []string{"TEMPER_DEVICE=emulator", "TEMPER_CACHE=" + dir}
}

// writeStripes writes a data set of two classes of noisy 8×8 images.
func writeStripes(t *testing.T, file string) {
	t.Helper()
	var arrays []datasets.NamedArray
	for split, n := range map[string]int{"train": 32, "test": 8} {
		x, y, noise := make([]uint8, n*3*8*8), make([]int64, n), uint32(n)
		for i := range x {
			noise = noise*1664525 + 1013904223
			x[i] = uint8(40 + noise>>25)
			if image := i / (3 * 8 * 8); i/(1+image%2*7)%2 == 0 { // vertical or horizontal
				x[i] += 60
			}
		}
		for i := range y {
			y[i] = int64(i % 2)
		}
		arrays = append(arrays, datasets.NamedArray{Name: "x_" + split, Array: datasets.Array{Shape: []int{n, 3, 8, 8}, Data: x}},
			datasets.NamedArray{Name: "y_" + split, Array: datasets.Array{Shape: []int{n}, Data: y}})
	}
	if err := datasets.SaveNPZ(file, arrays...); err != nil {
		t.Fatal(err)
	}
}

// curve reads what the newest run's steps reported.
func curve(t *testing.T, dir string) (steps []map[string]float64) {
	t.Helper()
	f, err := os.Open(filepath.Join(dir, "runs", "latest", "metrics.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var m map[string]float64
		if err := json.Unmarshal(lines.Bytes(), &m); err != nil {
			t.Fatal(err)
		}
		if _, ok := m["train/loss"]; ok {
			steps = append(steps, m)
		}
	}
	return steps
}

// TestEmulator trains a narrow residual network adversarially on the emulated
// GPU: the curves of its loss and gradient follow the CPU's. Then it evaluates
// and attacks the network there.
func TestEmulator(t *testing.T) {
	env := emulated(t)
	dir := t.TempDir()
	writeStripes(t, filepath.Join(dir, "stripes.npz"))
	train := []string{"train", "--dataset", "npz:stripes.npz", "--model", "preactresnet18", "--set", "model.width=2", "--set", "model.blocks=[1,1,1,1]",
		"--method", "pgd-at", "--epochs", "3", "--batch-size", "12", "--eps", "8/255", "--steps", "3", "--set", "eval.every=3", "--set", "alarms.probe=0"}
	must(t, dir, nil, train...)
	want := curve(t, dir)
	o := must(t, dir, env, train...)
	got := curve(t, dir)
	if len(want) != 9 || len(got) != 9 {
		t.Fatalf("%d and %d steps, want 9", len(want), len(got))
	}
	if !strings.Contains(o.stderr, "  device      emulator: emulated GPU (sm_90, ") {
		t.Errorf("stderr %s", o.stderr)
	}
	for i, w := range want {
		for _, name := range []string{"train/loss", "train/grad_norm"} {
			if e := math.Abs(got[i][name]/w[name] - 1); !(e <= 1e-4) {
				t.Errorf("step %d: %s is %v, on the CPU %v", i+1, name, got[i][name], w[name])
			}
		}
	}
	if first, last := got[0]["train/loss"], got[8]["train/loss"]; !(last < first) {
		t.Errorf("the loss goes from %v to %v", first, last)
	}
	if o := must(t, dir, env, "watch", "latest", "--once"); !regexp.MustCompile(`device memory [\d.]+ [kM]B of [\d.]+ GB in use \(\d+ %\)`).MatchString(o.stdout) {
		t.Errorf("watch does not show the device's memory:\n%s", o.stdout)
	}
	if o := must(t, dir, env, "eval", "latest", "--steps", "2"); !strings.Contains(o.stdout, "Each of the 8 perturbations was checked") {
		t.Errorf("stdout %s", o.stdout)
	}
	if o := must(t, dir, env, "graph", "latest", "--profile", "--trace", "trace.json"); !strings.Contains(o.stdout, "attack  ") || !strings.Contains(o.stdout, "update  ") {
		t.Errorf("profile: %s", o.stdout)
	}
	var trace struct{ TraceEvents []struct{ Ts, Dur float64 } }
	if b, err := os.ReadFile(filepath.Join(dir, "trace.json")); err != nil || json.Unmarshal(b, &trace) != nil || len(trace.TraceEvents) < 100 {
		t.Errorf("trace: %v, %d events", err, len(trace.TraceEvents))
	}
	if o := must(t, dir, env, "graph", "latest", "--format", "html"); !strings.Contains(o.stdout, "__global__") && !strings.Contains(o.stdout, "KERNEL") {
		t.Error("the page of the emulated step lacks the kernels' source")
	}
	must(t, dir, env, "attack", "latest", "--steps", "2", "--save", "adv.npz")
	if adv := readNPZ(t, filepath.Join(dir, "adv.npz"))["x_adv"].Data.([]float32); len(adv) != 8*3*8*8 {
		t.Errorf("%d elements attacked", len(adv))
	}
}

// TestEmulatorMistakes holds what goes wrong with a device to one line.
func TestEmulatorMistakes(t *testing.T) {
	env := emulated(t)
	dir := t.TempDir()
	writeStripes(t, filepath.Join(dir, "stripes.npz"))
	for options, want := range map[string]string{
		"capability=75": "temper: CUDA device 0 (emulated GPU) is sm_75: temper needs sm_80 or later",
		"driver=11080":  " supports CUDA 11.8: temper needs 12.0 or later; update the NVIDIA driver",
		"memory=1":      "MiB are free: the batch is 32, a batch of ",
	} {
		o := temper(t, dir, append(env, "TEMPER_EMULATOR="+options), "train", "--dataset", "npz:stripes.npz", "--model", "preactresnet18", "--set", "model.width=8", "--set", "model.blocks=[1,1,1,1]", "--batch-size", "32")
		if o.code != 1 || strings.Count(o.stderr, "\n") != 1 || !strings.Contains(o.stderr, want) {
			t.Errorf("%s: exit code %d, %s\nwant one line with %q", options, o.code, o.stderr, want)
		}
	}
	if entries, _ := os.ReadDir(filepath.Join(dir, "runs")); len(entries) > 0 {
		t.Errorf("%v was left", entries)
	}
}

// TestPrecision trains and evaluates at a precision that is asked for: it is
// printed and kept, a resumed run has it, and it cannot change.
func TestPrecision(t *testing.T) {
	env := emulated(t)
	dir := t.TempDir()
	writeStripes(t, filepath.Join(dir, "stripes.npz"))
	train := []string{"train", "--dataset", "npz:stripes.npz", "--model", "preactresnet18", "--set", "model.width=2", "--set", "model.blocks=[1,1,1,1]",
		"--method", "pgd-at", "--epochs", "1", "--batch-size", "12", "--eps", "8/255", "--steps", "2"}
	must(t, dir, nil, train...)
	want := curve(t, dir)
	o := must(t, dir, append(env, "TEMPER_PRECISION=bf16"), train...)
	if !strings.Contains(o.stderr, "  precision   bf16\n") {
		t.Errorf("stderr %s", o.stderr)
	}
	largest := 0.0
	for i, got := range curve(t, dir) {
		e := math.Abs(got["train/loss"]/want[i]["train/loss"] - 1)
		largest = max(largest, e)
		if !(e <= 0.02) {
			t.Errorf("step %d: the loss is %v, in float32 %v", i+1, got["train/loss"], want[i]["train/loss"])
		}
	}
	if largest < 1e-5 {
		t.Errorf("the losses are those of float32 to %v: nothing was rounded", largest)
	}
	config, err := os.ReadFile(filepath.Join(latest(dir), "config.toml"))
	if err != nil || !strings.Contains(string(config), "precision = 'bf16'\n") {
		t.Errorf("config.toml %s %v", config, err)
	}
	if o := must(t, dir, env, "train", "--resume"); !strings.Contains(o.stderr, "  precision   bf16\n") {
		t.Errorf("resumed: stderr %s", o.stderr)
	}
	for _, c := range []struct {
		args string
		code int
		want string
	}{
		{"train --resume --precision float32", 2, "temper: --precision cannot change a run that has begun: leave it out, or start a new run\n"},
		{"eval latest --attack autoattack", 1, "temper: attack apgd-t: its loss, a ratio of differences of logits, needs at least 4 classes, and there are 2: take apgd-ce, fab and square\n"},
		{"eval latest --precision bf16 --attack autoattack", 2, "temper: precision bf16: autoattack is defined in float32; leave --precision out, name its attacks, or take autoattack-mixed\n"},
	} {
		if o := temper(t, dir, env, strings.Fields(c.args)...); o.code != c.code || o.stderr != c.want {
			t.Errorf("%s: exit code %d, stderr %q, want %d, %q", c.args, o.code, o.stderr, c.code, c.want)
		}
	}
	for precision, args := range map[string][]string{"float32": nil, "bf16": {"--precision", "bf16"}} {
		o := must(t, dir, env, append([]string{"eval", "latest", "--attack", "fgsm"}, args...)...)
		if !strings.Contains(o.stderr, "; precision "+precision+"\n") {
			t.Errorf("stderr %s, want %s", o.stderr, precision)
		}
	}
}

// TestTuning keeps the choices between kernels with the run, makes them again, and
// says so where it cannot.
func TestTuning(t *testing.T) {
	env := emulated(t)
	dir := t.TempDir()
	writeStripes(t, filepath.Join(dir, "stripes.npz"))
	train := []string{"train", "--dataset", "npz:stripes.npz", "--model", "preactresnet18", "--set", "model.width=2", "--set", "model.blocks=[1,1,1,1]",
		"--method", "standard", "--epochs", "1", "--batch-size", "12", "--set", "eval.attack.steps=1", "--set", "alarms.probe=0"}
	must(t, dir, env, train...)
	file := filepath.Join(latest(dir), "tuning.json")
	record := func() string {
		t.Helper()
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	trained := record()
	const batch, evaluated = "conv2d of f32[12,", "conv2d of f32[4,"
	if !strings.Contains(trained, batch) || strings.Contains(trained, evaluated) {
		t.Fatalf("the record is %s", trained)
	}
	must(t, dir, env, "eval", "latest", "--steps", "1", "--batch-size", "4", "--dry-run")
	if record() != trained {
		t.Error("a dry run changes the record")
	}
	must(t, dir, env, "eval", "latest", "--steps", "1", "--batch-size", "4")
	if !strings.Contains(record(), batch) || !strings.Contains(record(), evaluated) {
		t.Errorf("the record with an evaluation is %s", record())
	}

	chosen := regexp.MustCompile(`("conv2d of f32\[12,8,8,3\].*): tiles of \d+ x \d+, 3 stages`)
	if err := os.WriteFile(file, []byte(chosen.ReplaceAllString(record(), "$1: tiles of 64 x 64, 4 stages")), 0o644); err != nil {
		t.Fatal(err)
	}
	const tiling = " tiles of 64 x 64, 4 stages"
	if o := must(t, dir, env, "graph", "latest", "--format", "html"); !strings.Contains(o.stdout, tiling) || o.stderr != "" {
		t.Errorf("the page lacks the recorded choice; stderr %s", o.stderr)
	}
	if err := os.WriteFile(file, []byte("{"), 0o644); err != nil {
		t.Fatal(err)
	}
	if o := must(t, dir, env, "graph", "latest", "--format", "html"); strings.Contains(o.stdout, tiling) ||
		strings.Count(o.stderr, "\n") != 1 || !strings.Contains(o.stderr, "tuning.json: no record of choices between kernels: ") {
		t.Errorf("a torn record: stderr %s", o.stderr)
	}
}

// TestMixed searches in every precision that the emulated GPU has: the number is
// called what it is, printed and stored, and nothing that float32 has right is
// taken for fallen.
func TestMixed(t *testing.T) {
	env := emulated(t)
	dir := t.TempDir()
	must(t, dir, nil, "train", "--method", "pgd-at", "--epochs", "100")
	mixed := []string{"eval", "latest", "--attack", "autoattack-mixed", "--norm", "linf", "--eps", "0.12", "--limit", "4"}
	if o := temper(t, dir, portable, append(mixed, "--precision", "tf32")...); o.code != 1 || strings.Count(o.stderr, "\n") != 1 || !strings.Contains(o.stderr, "does not compute in tf32, only in float32, bf16: take --attack autoattack") {
		t.Errorf("exit code %d, %s", o.code, o.stderr)
	}
	for precision, args := range map[string][]string{"bf16": nil, "tf32": {"--precision", "tf32"}, "tf32x3": {"--precision", "tf32x3"}} {
		o := must(t, dir, env, append(mixed, args...)...)
		if !strings.Contains(o.stderr, "; precision "+precision+" in the search, float32 in what counts\n") {
			t.Errorf("stderr %s, want %s", o.stderr, precision)
		}
		name := "autoattack-mixed (" + precision + " search, confirmed in float32: an upper bound on robust accuracy), L∞ 0.12"
		if !strings.Contains(o.stdout, "robust accuracy  0.0 % [0.0, 60.2] under "+name+"\n") {
			t.Errorf("stdout %s, want %q", o.stdout, name)
		}
		var stored struct {
			Attack  string
			Attacks []struct{ Attack string }
		}
		_, path, _ := strings.Cut(strings.TrimSpace(o.stderr), "written to ")
		if b, err := os.ReadFile(filepath.Join(dir, path)); err != nil || json.Unmarshal(b, &stored) != nil || stored.Attack != name || stored.Attacks[0].Attack != name {
			t.Errorf("%s: %v, %+v", path, err, stored)
		}
	}
}
