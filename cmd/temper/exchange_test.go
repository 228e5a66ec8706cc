package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestExchange takes a network out and in again: the second run measures the
// same, and exports the same bytes.
func TestExchange(t *testing.T) {
	dir := t.TempDir()
	must(t, dir, portable, "train", "--method", "pgd-at", "--epochs", "30")
	golden(t, "export", dir, must(t, dir, portable, "export", "latest", "--out", "a.safetensors"))
	golden(t, "export-onnx", dir, must(t, dir, portable, "export", "latest", "--out", "a.onnx", "--json"))
	golden(t, "import", dir, must(t, dir, portable, "import", "a.safetensors", "--out", "runs/again", "--data-dir", "data"))
	must(t, dir, portable, "export", "runs/again/checkpoints/step-00000030.safetensors", "--out", "b.onnx", "--checkpoint", "")
	must(t, dir, portable, "export", "again", "--out", "b", "--format", "safetensors", "--checkpoint", "last")
	measured := func(run string) string {
		var r struct{ Clean_accuracy, Robust_accuracy json.RawMessage }
		o := must(t, dir, portable, "eval", run, "--attack", "pgd", "--steps", "3", "--limit", "50", "--json")
		if err := json.Unmarshal([]byte(o.stdout), &r); err != nil || len(r.Clean_accuracy) == 0 {
			t.Fatalf("%v: %s", err, o.stdout)
		}
		return string(r.Clean_accuracy) + string(r.Robust_accuracy)
	}
	if a, b := measured("latest"), measured("again"); a != b {
		t.Errorf("the run measures %s, the imported one %s", a, b)
	}
	for _, pair := range [][2]string{{"a.onnx", "b.onnx"}, {"a.safetensors", "b"}} {
		a, b := file(filepath.Join(dir, pair[0])), file(filepath.Join(dir, pair[1]))
		if len(a) == 0 || !bytes.Equal(a, b) {
			t.Errorf("%s and %s differ", pair[0], pair[1])
		}
	}
	must(t, dir, portable, "train", "--method", "standard", "--epochs", "3", "--set", "training.average.name=ema", "--run-dir", "averaged")
	for _, weights := range []string{"", "average", "raw"} {
		must(t, dir, portable, "export", "latest", "--run-dir", "averaged", "--weights", weights, "--out", "weights"+weights+".onnx")
	}
	average, raw := file(filepath.Join(dir, "weightsaverage.onnx")), file(filepath.Join(dir, "weightsraw.onnx"))
	if !bytes.Equal(average, file(filepath.Join(dir, "weights.onnx"))) || bytes.Equal(average, raw) {
		t.Error("averaged weights are not those that are exported by default")
	}
	for _, c := range []struct {
		args string
		code int
		want string
	}{
		{"import a.safetensors --out runs/again", 1, "already holds a run"},
		{"import a.safetensors --out runs/other --dataset mnist --model mnist-wong", 1, `the weights are those of patchcnn, not of mnist-wong: 8 tensors are missing, the first is "0.weight"; 1 are not the model's, the first is "conv.weight"`},
		{"import a.safetensors --out runs/other --set model.filters=3", 1, `"conv.weight" is [80,16,1,1], want [15,16,1,1] (1 of other shapes)`},
		{"import a.onnx --out runs/other", 1, "not a safetensors file"},
		{"eval latest --attack autoattack --card c.json --norm linf", 1, "no card: it holds AutoAttack's numbers on the whole test set, and structured has no published test set"},
		{"eval latest --attack autoattack --card none/c.json --norm linf", 1, "--card none/c.json: there is no folder none"},
		{"train --resume runs/again", 1, "runs/again was imported and has no training to go on with: evaluate, attack or export it"},
		{"export latest --out a.onnx --weights ema", 1, `unknown weights "ema": want average or raw`},
		{"export latest --out a.onnx --weights average", 1, "this run averaged no weights"},
		{"export latest --out c.onnx --checkpoint best", 1, `no checkpoint "best"`},
	} {
		before, _ := os.ReadDir(filepath.Join(dir, "runs"))
		o := temper(t, dir, portable, strings.Fields(c.args)...)
		after, _ := os.ReadDir(filepath.Join(dir, "runs"))
		if o.code != c.code || !strings.Contains(o.stderr, c.want) || strings.Count(o.stderr, "\n") != 1 || len(before) != len(after) {
			t.Errorf("%s: exit code %d, stderr %q, want %q", c.args, o.code, o.stderr, c.want)
		}
	}
}
