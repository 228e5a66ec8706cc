package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// trainStripes trains a narrow residual network with a normalisation of its own,
// in dir, and returns what names the data and the network on a command line.
func trainStripes(t *testing.T, dir string) (settings string) {
	t.Helper()
	writeStripes(t, filepath.Join(dir, "stripes.npz"))
	settings = "--dataset npz:stripes.npz --model preactresnet18 --set model.width=2 --set model.blocks=[1,1,1,1]" +
		" --set model.normalize=given --set model.mean=[0.4,0.5,0.6] --set model.std=[0.2,0.25,0.3]"
	must(t, dir, portable, strings.Fields("train "+settings+" --method pgd-at --epochs 4 --batch-size 8 --eps 16/255 --steps 2 --set alarms.probe=0")...)
	return settings
}

// TestAttackMistakes holds what cannot be attacked, or not so, to one line that
// says why, and leaves nothing behind.
func TestAttackMistakes(t *testing.T) {
	dir := t.TempDir()
	settings := trainStripes(t, dir)
	labels := func(name, label string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(strings.Repeat(label, 4)), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	labels("own.txt", "0\n1\n")
	labels("none.txt", "1\n2\n")
	must(t, dir, portable, "export", "latest", "--out", "a.safetensors")
	for _, c := range []struct {
		args string
		code int
		want string
	}{
		{"eval latest --eps 0", 2, "eps is 0, which allows no perturbation: give a larger one, or no attack"},
		{"eval latest --eps 2", 2, "eps 2 is larger than the inputs' range [0,1]: 8 grey levels are 8/255"},
		{"eval latest --eps 14 --norm l2", 1, "eps 14 is larger than the whole domain, whose diameter in L2 is 13.86: give a smaller one"},
		{"eval latest --eps 193 --norm l1", 1, "eps 193 is larger than the whole domain, whose diameter in L1 is 192"},
		{"attack latest --eps 0 --save x.npz", 2, "eps is 0"},
		{"attack latest --target-labels own.txt --save x.npz", 1, "--target-labels own.txt: number 1 is 0, which is the example's own label: give another class"},
		{"eval latest --target-labels none.txt", 1, `--target-labels none.txt: number 2 is "2": want a class from 0 to 1`},
		{"eval latest --attack deepfool --norm l1 --eps 1", 1, "attack deepfool is not defined for l1: it knows linf, l2"},
		{"train " + settings + " --method pgd-at --eps 0", 2, "eps is 0"},
		{"train " + settings + " --method pgd-at --eps 2", 2, "eps 2 is larger than the inputs' range [0,1]"},
		{"train " + settings + " --method pgd-at --set threat.norm=l2 --eps 14", 1, "method pgd-at: eps 14 is larger than the whole domain, whose diameter in L2 is 13.86"},
		{"train " + settings + " --method free --batch-size 8 --set batches.drop_last=true --set threat.norm=l2 --eps 1", 1, "method free is defined for the norm linf, not l2"},
		{"train " + settings + " --method n-fgsm --set threat.norm=l2 --eps 1", 1, "method n-fgsm is defined for the norm linf, not l2"},
		{"train " + settings + " --method pgd-at --attack apgd-dlr", 1, "its loss, a ratio of differences of logits, needs at least 3 classes, and there are 2"},
		{"train " + settings + " --set model.width=4 --init a.safetensors", 1, `the weights are those of preactresnet18 of other sizes, not of preactresnet18: "conv1.weight" is [2,3,3,3], want [4,3,3,3]`},
		{"import a.safetensors --out runs/other --model resnet18", 1, `the weights are those of preactresnet18, not of resnet18: "conv1.weight" is [2,3,3,3], want [64,3,3,3]`},
	} {
		before := listing(t, dir)
		o := temper(t, dir, portable, strings.Fields(c.args)...)
		if o.code != c.code || o.stdout != "" || !strings.HasPrefix(lastLine(o.stderr), "temper: ") || !strings.Contains(lastLine(o.stderr), c.want) || strings.Contains(o.stderr, ".go:") {
			t.Errorf("%s: exit code %d, stdout %q, stderr %q, want %q", c.args, o.code, o.stdout, o.stderr, c.want)
		}
		if after := listing(t, dir); !slices.Equal(before, after) {
			t.Errorf("%s: leaves %v, there were %v", c.args, after, before)
		}
	}
}

// lastLine is where an error stands, below what was said of the run.
func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return lines[len(lines)-1]
}

// listing is the files below dir.
func listing(t *testing.T, dir string) (files []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		files = append(files, path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// TestWithoutGradients attacks a network that has none: the number comes with a
// warning, and searches without gradients work as ever.
func TestWithoutGradients(t *testing.T) {
	dir := t.TempDir()
	trainStripes(t, dir)
	must(t, dir, portable, "export", "latest", "--out", "a.safetensors")
	b := file(filepath.Join(dir, "a.safetensors"))
	header := 8 + int(b[0]) + int(b[1])<<8 + int(b[2])<<16
	clear(b[header:]) // all weights are 0
	if err := os.WriteFile(filepath.Join(dir, "zero.safetensors"), b, 0o666); err != nil {
		t.Fatal(err)
	}
	must(t, dir, portable, "import", "zero.safetensors", "--out", "runs/zero")
	for _, attack := range []string{"pgd", "fab", "deepfool", "square", "random-corner"} {
		o := must(t, dir, portable, "eval", "zero", "--attack", attack, "--steps", "3")
		if !strings.Contains(o.stderr, "warning: zero-gradients: the loss of 8 of 8 examples has a gradient of exactly 0") || strings.Contains(o.stdout, "NaN") {
			t.Errorf("%s: %s%s", attack, o.stdout, o.stderr)
		}
	}
}

// TestOthersRead gives the network as ONNX and attacked examples as .npz to
// others: the checker of ONNX passes the one, NumPy reads the other, and
// onnxruntime finds temper's predictions, normalisation and all.
func TestOthersRead(t *testing.T) {
	python := os.Getenv("TEMPER_PYTHON")
	if python == "" {
		python = "python3"
	}
	if err := exec.Command(python, "-c", "import numpy, onnx, onnxruntime").Run(); err != nil {
		if slices.Contains(strings.Split(os.Getenv("TEMPER_REQUIRE"), ","), "onnx") {
			t.Fatalf("TEMPER_REQUIRE lists onnx, but %s has no onnx and onnxruntime (TEMPER_PYTHON): %v", python, err)
		}
		t.Skipf("%s has no onnx and onnxruntime (TEMPER_PYTHON)", python)
	}
	dir := t.TempDir()
	trainStripes(t, dir)
	must(t, dir, portable, "export", "latest", "--out", "net.onnx")
	must(t, dir, portable, "attack", "latest", "--steps", "5", "--save", "adv.npz")
	c := exec.Command(python, "-c", `
import json, numpy, onnx, onnxruntime
onnx.checker.check_model("net.onnx", full_check=True)
net = onnxruntime.InferenceSession("net.onnx", providers=["CPUExecutionProvider"])
z = numpy.load("adv.npz")
x, adv = z["x"].astype("float32") / 255, z["x_adv"]
predict = lambda v: net.run(["logits"], {"x": v})[0].argmax(1)
print(json.dumps({
    "names": sorted(z), "types": [str(z[k].dtype) for k in sorted(z)], "n": len(z["y"]),
    "clean": int((predict(x) == z["clean_pred"]).sum()), "attacked": int((predict(adv) == z["adv_pred"]).sum()),
    "fell": int((z["clean_pred"] != z["adv_pred"]).sum()), "largest": float(abs(adv - x).max()), "low": float(adv.min()), "high": float(adv.max())}))
`)
	c.Dir, c.Stderr = dir, os.Stderr
	out, err := c.Output()
	if err != nil {
		t.Fatal(err)
	}
	var r struct {
		Names, Types             []string
		N, Clean, Attacked, Fell int
		Largest, Low, High       float64
	}
	if err := json.Unmarshal(out, &r); err != nil {
		t.Fatal(err)
	}
	if got, want := fmt.Sprint(r.Names, r.Types), "[adv_pred clean_pred ids x x_adv y] [int32 int32 int64 uint8 float32 int32]"; got != want {
		t.Errorf("arrays %s, want %s", got, want)
	}
	if r.N != 8 || r.Clean != 8 || r.Attacked != 8 {
		t.Errorf("of %d predictions, onnxruntime agrees with %d clean and %d attacked", r.N, r.Clean, r.Attacked)
	}
	if eps := 16.0 / 255; r.Largest > eps+1e-6 || r.Largest < eps/2 || r.Low < 0 || r.High > 1 {
		t.Errorf("perturbations up to %v, pixels from %v to %v", r.Largest, r.Low, r.High)
	}
	t.Logf("%d of %d change class", r.Fell, r.N)
}
