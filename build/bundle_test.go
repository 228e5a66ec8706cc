package build_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"temper/adversarial/bench"
	"temper/engine"
)

// stub plays temper, and the tests of its kernels, on a GPU host: it notes what it
// is asked to measure. The case of four images fails once, that of eight is too
// large for the memory.
const stub = `#!/usr/bin/env bash
case "$*" in
*wgmma_in_turns*) [ -z "$HANGS" ] || sleep 9 ;;&
*wgmma_in_pairs*) [ -z "$HANGS" ] || exit 3 ;;&
*test.run*TestChoices*) echo "$* ${TEMPER_CUDA_WITHOUT:-}" >>ways; echo "--- PASS: TestChoices (0.1s)" ;;
*test.run*) echo "--- PASS: TestKernels (0.1s)" ;;
devices) echo "cuda:0  Stub  sm_90" ;;
*gpu*--list) for n in 2 4 8; do echo "step/tiny/standard/batch=$n"; done ;;
*kernels*--list) echo conv2d/3x3; echo conv2d/5x5 ;;
*--list) echo step/tiny/standard/batch=512 ;;
bench*)
  echo "without=$TEMPER_CUDA_WITHOUT" >>measured
  echo "$*" | grep -o 'precision.*match [^ ]*' >>measured
  case "$*" in
  *batch=4\$*) [ -e failed ] || { touch failed; echo "temper: a reason" >&2; exit 1; } ;;
  *batch=8\$*) echo "temper: out of device memory: it needs" >&2; exit 1 ;;
  esac
  case "$*" in *conv*) cat kernel.json ;; *) cat step.json ;; esac ;;
train*)
  while [ "$1" != --run-dir ]; do shift; done
  mkdir -p "$2/run/checkpoints" && ln -sfn run "$2/latest" && echo same >"$2/run/checkpoints/step-1.safetensors" ;;
graph*) echo "a step takes 2 ms"; echo more ;;
eval*) echo '{"attack": "autoattack (of four), L∞ 8/255", "n": 9, "robust": 4, "seconds": 1.25}' ;;
esac
`

// TestBundle runs the GPU host's script over stubs: what one case's failure, a
// second run and AGAIN do, and the table that comes last.
func TestBundle(t *testing.T) {
	for _, program := range []string{"bash", "python3", "gzip"} {
		if _, err := exec.LookPath(program); err != nil {
			if slices.Contains(strings.Split(os.Getenv("TEMPER_REQUIRE"), ","), "nvrtc") { // which python3 installs
				t.Fatal(err)
			}
			t.Skip(err)
		}
	}
	dir := t.TempDir()
	write := func(name string, content []byte) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"run.sh", "table.py", "images.py", "repeat.txt"} {
		b, err := os.ReadFile(filepath.Join("bundle", name))
		if err != nil {
			t.Fatal(err)
		}
		write(name, b)
	}
	for _, name := range []string{"temper.gz", "cuda.test.gz"} {
		var b bytes.Buffer
		w := gzip.NewWriter(&b)
		w.Write([]byte(stub))
		w.Close()
		write(name, b.Bytes())
	}
	write("torch.py", []byte("__version__ = 'of the test'\n"))
	report := func(file, name string, images int, peer float64) {
		t.Helper()
		b, err := json.Marshal(bench.Report{Device: engine.Info{Spec: "cuda:0"}, Precision: "bf16", Results: []*bench.Result{{Name: name, Images: images,
			Times: bench.Times{0.1, 0.2, 0.4}, Peer: map[string]bench.Times{"nchw": {1, 1, 1}, "graph": {peer, peer, peer}}}}})
		if err != nil {
			t.Fatal(err)
		}
		write(file, b)
	}
	report("step.json", "step/tiny/standard/batch=2", 2, 0.3)
	report("kernel.json", "conv2d/3x3", 0, 0.1)
	run := func(env ...string) (table string, code int, measured []string) {
		t.Helper()
		os.Remove(filepath.Join(dir, "measured"))
		cmd := exec.Command("bash", "run.sh")
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), append(env, "PRECISIONS=bf16", "TEMPER_NVRTC=none", "DEVICE=cuda:0", "PYTHON=python3", "PYTHONPATH="+dir)...)
		out, err := cmd.Output()
		if _, exited := err.(*exec.ExitError); err != nil && !exited {
			t.Fatal(err)
		}
		b, _ := os.ReadFile(filepath.Join(dir, "measured"))
		return string(out), cmd.ProcessState.ExitCode(), strings.Fields(string(b))
	}

	table, code, _ := run()
	for _, want := range []string{
		"bf16     tiny/standard/batch=2                             10 images/s     200.00 ms     300.00 ms graph          1.50x\n",
		"bf16     conv2d                 2 cases  ratio  0.50x, at least  0.50x (conv2d/3x3)\n",
		"ways       ok      all agree with the reference\n",
		"parity     ok      1 passed, 0 failed, 0 skipped\n",
		"methods    ok      1 measured, 0 larger than the memory, 0 failed\n",
		"repeat     ok      checkpoints of two runs in bf16: ",
		"profile    ok      a step takes 2 ms\n",
		"bench      FAILED  3 measured, 1 larger than the memory, 1 failed: step/tiny/standard/batch=4: temper: a reason\n",
		"train      ok      not run: no data/cifar-10-batches-bin\n",
		"attack     ok      autoattack: 4 of 9 withstand it, 1.2 s; autoattack: 4 of 9",
	} {
		if !strings.Contains(table, want) {
			t.Errorf("the table lacks %q", want)
		}
	}
	if code != 1 {
		t.Errorf("exit code %d with a failure", code)
	}
	var summary struct{ Parts, Benchmarks, Attacks []map[string]any }
	b, err := os.ReadFile(filepath.Join(dir, "results", "cuda:0", "summary.json"))
	if err != nil || json.Unmarshal(b, &summary) != nil || len(summary.Parts) != 11 || len(summary.Benchmarks) != 4 || len(summary.Attacks) != 2 {
		t.Errorf("summary.json: %v, %s", err, b)
	}

	table, code, measured := run() // only what failed, and what was too large
	if code != 0 || !strings.Contains(table, "bench      ok      5 measured") || strings.Contains(strings.Join(measured, " "), "batch=2$") || strings.Contains(strings.Join(measured, " "), "conv2d") {
		t.Errorf("again: exit code %d, measured %v,\n%s", code, measured, table)
	}
	if _, _, measured = run("AGAIN=1"); !strings.Contains(strings.Join(measured, " "), "batch=2$") {
		t.Errorf("AGAIN=1 measured %v", measured)
	}

	// A way that hangs, and one that faults: what follows does without them.
	table, _, measured = run("AGAIN=1", "HANGS=yes", "WAY_SECONDS=0.5")
	if want := "ways       FAILED  all that follows is without turns,pairs: see "; !strings.Contains(table, want) || !slices.Contains(measured, "without=turns,pairs") {
		t.Errorf("the table lacks %q, or what follows does not do without: %v", want, measured)
	}
	if t.Failed() {
		t.Log(table)
	}
}
