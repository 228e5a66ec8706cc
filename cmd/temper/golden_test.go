package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"temper/adversarial/job"
)

// TestTrainStructured is the README's first command, from training to the
// saved adversarial examples.
func TestTrainStructured(t *testing.T) {
	dir := t.TempDir()
	golden(t, "train", dir, must(t, dir, portable, "train"))
	golden(t, "eval", dir, must(t, dir, portable, "eval", "latest", "--attack", "pgd", "--steps", "5", "--restarts", "2", "--limit", "50"))
	golden(t, "eval-several", dir, must(t, dir, portable, "eval", "latest", "--attack", "autoattack,fgsm", "--norm", "linf", "--eps", "0.1,0.12", "--limit", "10"))
	golden(t, "eval-mixed", dir, must(t, dir, portable, "eval", "latest", "--attack", "autoattack-mixed", "--norm", "linf", "--eps", "0.1", "--limit", "10"))
	golden(t, "attack", dir, must(t, dir, portable, "attack", "latest", "--limit", "20", "--save", "adv.npz"))
	golden(t, "report", dir, must(t, dir, portable, "report", "latest"))
	golden(t, "watch", dir, must(t, dir, portable, "watch", "--once"))
	golden(t, "serve", dir, served(t, dir, "serve", "runs", "--listen", "127.0.0.1:0"))
	golden(t, "graph-init", dir, must(t, dir, nil, "graph", "latest", "--program", "init", "--pass", "input"))

	files, err := filepath.Glob(filepath.Join(dir, "runs", "latest", "evaluations", "*-pgd.json"))
	if err != nil || len(files) != 1 {
		t.Fatalf("evaluations: %v %v", files, err)
	}
	b, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	var result struct {
		N        int
		Settings struct {
			Attack struct{ Steps, Restarts int }
		}
	}
	if err := json.Unmarshal(b, &result); err != nil || result.N != 50 || result.Settings.Attack.Steps != 5 || result.Settings.Attack.Restarts != 2 {
		t.Errorf("%+v, %v", result, err)
	}
}

func TestJSON(t *testing.T) {
	dir := t.TempDir()
	o := must(t, dir, portable, "train", "--json", "--epochs", "2")
	golden(t, "train-json", dir, o)
	for line := range strings.Lines(o.stdout) {
		if !json.Valid([]byte(line)) {
			t.Errorf("not JSON: %s", line)
		}
	}
	for _, args := range [][]string{
		{"eval", "latest", "--limit", "10"}, {"devices"}, {"doctor"}, {"report", "latest"}, {"watch", "--once"}, {"recipes"}, {"version"}, {"data", "list"}, {"graph", "--program", "init"},
	} {
		for line := range strings.Lines(must(t, dir, nil, append(args, "--json")...).stdout) {
			if !json.Valid([]byte(line)) {
				t.Errorf("temper %v --json: not JSON: %s", args, line)
			}
		}
	}
}

// TestProfileJSON holds a profile as JSON to its names, which scripts read, and to
// itself.
func TestProfileJSON(t *testing.T) {
	var p map[string]any
	if out := must(t, t.TempDir(), portable, "graph", "--method", "pgd-at", "--profile", "--json").stdout; json.Unmarshal([]byte(out), &p) != nil {
		t.Fatalf("not JSON: %s", out)
	}
	names := func(m map[string]any) string { return strings.Join(slices.Sorted(maps.Keys(m)), " ") }
	if got, want := names(p), "batch bytes device precision program seconds steps"; got != want {
		t.Errorf("a profile has %q, want %q", got, want)
	}
	steps, parts, bytes, seconds, last := p["steps"].([]any), map[any]bool{}, 0.0, 0.0, math.Inf(1)
	for _, one := range steps {
		s := one.(map[string]any)
		if got, want := names(s), "bytes flops kernels name part runs seconds"; got != want {
			t.Fatalf("a step has %q, want %q", got, want)
		}
		took := s["seconds"].(float64)
		if took > last || s["runs"].(float64) < 1 || s["name"] == "" {
			t.Errorf("after %v s: %v", last, s)
		}
		bytes, seconds, last, parts[s["part"]] = bytes+s["bytes"].(float64), seconds+took, took, true
	}
	if len(steps) < 10 || !parts["attack"] || !parts["update"] || len(parts) != 2 {
		t.Errorf("%d steps of the parts %v", len(steps), parts)
	}
	if bytes != p["bytes"] || bytes == 0 || seconds > p["seconds"].(float64)*1.001 || p["batch"] != 40. {
		t.Errorf("%v bytes and %v s in the steps of a profile of %v and %v, batch %v", bytes, seconds, p["bytes"], p["seconds"], p["batch"])
	}
}

func TestManuals(t *testing.T) {
	for _, cmd := range commands() {
		args := strings.Fields(cmd.CommandPath())[1:]
		golden(t, strings.Join(append([]string{"help"}, args...), "-"), "none", must(t, t.TempDir(), nil, append(args, "-h")...))
	}
	golden(t, "recipes", "none", must(t, t.TempDir(), nil, "recipes"))
	golden(t, "devices", "none", must(t, t.TempDir(), portable, "devices"))
	golden(t, "version", "none", must(t, t.TempDir(), nil, "version"))
	golden(t, "data-list", "none", must(t, t.TempDir(), nil, "data", "list"))
	golden(t, "bench-list", "none", must(t, t.TempDir(), nil, "bench", "--suite", "kernels", "--list"))
	golden(t, "kernels-build", "none", must(t, t.TempDir(), nil, "kernels", "build", "--dry-run"))
	golden(t, "doctor", "none", doctored(must(t, t.TempDir(), portable, "doctor")))
}

// commands lists temper's commands, temper itself and subcommands included.
func commands() (list []*cobra.Command) {
	var visit func(*cobra.Command)
	visit = func(cmd *cobra.Command) {
		list = append(list, cmd)
		for _, sub := range cmd.Commands() {
			if !sub.Hidden {
				visit(sub)
			}
		}
	}
	visit(root(&job.Console{}))
	return list
}

// doctored is the doctor's output without what it found and advises, which depends
// on the machine.
func doctored(o output) output {
	o.stdout = regexp.MustCompile(`(?m)^(ok|--) +emulator .*\n(?: {10,}.*\n)*`).ReplaceAllString(o.stdout, "")
	o.stdout = regexp.MustCompile(`(?m)^(?:ok|--)( +)(temper|cpu|device|nvrtc|kernel cache|runs)( +).*\n(?: {10,}.*\n)*`).ReplaceAllString(o.stdout, "..${1}${2}${3}FOUND\n")
	return o
}

// successes are the goldens of what each command prints when all is well; that of a
// command which only holds others is its manual.
var successes = map[string]string{
	"temper": "help", "temper train": "train", "temper eval": "eval", "temper attack": "attack", "temper export": "export", "temper import": "import",
	"temper bench": "bench-list", "temper data": "help-data", "temper data list": "data-list", "temper data fetch": "data-fetch", "temper data verify": "data-verify",
	"temper features": "features", "temper graph": "graph-init", "temper report": "report", "temper watch": "watch", "temper serve": "serve", "temper devices": "devices",
	"temper doctor": "doctor", "temper kernels": "help-kernels", "temper kernels build": "kernels-build", "temper recipes": "recipes", "temper reproduce": "reproduce",
	"temper version": "version",
}

// TestEveryCommandHasGoldens fails for a command without a manual, a success and
// three mistakes that tests hold it to, and for a golden that no test reads.
func TestEveryCommandHasGoldens(t *testing.T) {
	top := root(&job.Console{})
	failures := map[string]int{}
	for _, m := range mistakes {
		cmd, _, err := top.Find(strings.Fields(m.args))
		if err != nil {
			t.Fatal(err)
		}
		failures[cmd.CommandPath()]++
	}
	known := map[string]bool{"mistakes": true}
	for _, more := range []string{"train-json", "eval-several", "eval-mixed", "export-onnx"} {
		known[more] = true
	}
	for _, cmd := range commands() {
		path := cmd.CommandPath()
		manual := strings.Join(append([]string{"help"}, strings.Fields(path)[1:]...), "-")
		for _, name := range []string{manual, successes[path]} {
			known[name] = true
			if _, err := os.Stat(filepath.Join("testdata", name+".txt")); err != nil {
				t.Errorf("%s: no golden %q", path, name)
			}
		}
		if failures[path] < 3 {
			t.Errorf("%s: %d mistakes, want 3", path, failures[path])
		}
	}
	files, err := filepath.Glob(filepath.Join("testdata", "*.txt"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if !known[strings.TrimSuffix(filepath.Base(f), ".txt")] {
			t.Errorf("%s belongs to no command", f)
		}
	}
}

// mistakes are bad inputs, each with the exit code and what the line about it names.
var mistakes = []struct {
	args string
	env  string
	code int
	want string
}{
	{args: "trian", code: 2, want: `unknown command "trian" (did you mean "train"?); temper -h lists them`},
	{args: "train --epoch 3", code: 2, want: `unknown flag: --epoch (did you mean "--epochs"?); temper train -h lists them`},
	{args: "train now", code: 2, want: `train takes no argument "now" without --resume`},
	{args: "eval", code: 2, want: "accepts 1 arg(s), received 0; usage: temper eval RUN [flags]"},
	{args: "train --set lr", code: 2, want: "--set lr: want key=value"},
	{args: "train --set optimiser.lr=1", code: 2, want: `--set unknown key "optimiser.lr" (did you mean "optimizer.lr"?)`},
	{args: "train --eps 8/0", code: 2, want: `--eps 8/0: "8/0" divides by zero: write a number or a quotient, such as 0.3 or 8/255`},
	{args: "train", env: "TEMPER_EPS=x", code: 2, want: `TEMPER_EPS x: "x" is no number: write a number or a quotient, such as 0.3 or 8/255`},
	{args: "devices", env: "TEMPER_JSON=maybe", code: 2, want: `TEMPER_JSON maybe: want true or false`},
	{args: "train --lr fast", code: 2, want: "--lr fast: must be a number"},
	{args: "train --lr 0", code: 2, want: "schedule constant: learning rate 0: want a positive number"},
	{args: "train --seed -1", code: 2, want: "--seed -1: must be an integer of 32 bits, not negative"},
	{args: "train --epochs 0", code: 2, want: "batches.epochs is 0: want at least 1"},
	{args: "train --model preact", code: 2, want: `unknown model "preact" (did you mean "preactresnet18"?)`},
	{args: "train --dataset mnits", code: 2, want: `unknown data set "mnits" (did you mean "mnist"?)`},
	{args: "train --dataset mnist --recipe fats-at", code: 2, want: `unknown recipe "fats-at" (did you mean "fast-at"?)`},
	{args: "train --recipe fast-at", code: 2, want: `recipe "fast-at" is for mnist: name it with --dataset, or for structured take structured`},
	{args: "train --attack pdg", code: 2, want: `unknown attack "pdg"`},
	{args: "train --method pgdat", code: 2, want: `unknown training method "pgdat"`},
	{args: "train --precision bf17", code: 2, want: `unknown precision "bf17": want one of float32, tf32x3, tf32, bf16 (did you mean "bf16"?)`},
	{args: "train --device cpu", env: "TEMPER_PRECISION=tf32", code: 1, want: "precision tf32 is for GPUs: the CPU computes in float32; use --precision float32"},
	{args: "graph --device cpu --precision tf32x3", code: 1, want: "precision tf32x3 is for GPUs"},
	{args: "bench --device cpu --precision tf32", code: 1, want: "precision tf32 is for GPUs"},
	{args: "bench --precision half", code: 2, want: `--precision "half": want one of float32, tf32x3, tf32, bf16`},
	{args: "features --precision half", code: 2, want: `unknown precision "half": want one of float32, tf32x3, tf32, bf16, or float64`},
	{args: "features --precision tf32", code: 1, want: "precision tf32 is for GPUs"},
	{args: "train --device gpu", code: 1, want: `no device "gpu"`},
	{args: "train --dataset mnist", code: 1, want: "get it with: temper data fetch mnist"},
	{args: "train --dataset npz:none.npz", code: 1, want: "none.npz: no such file or directory"},
	{args: "train --init none.safetensors", code: 1, want: "--init none.safetensors: no such file or directory; temper export writes one"},
	{args: "train --lr inf", code: 2, want: "learning rate +Inf: want a positive number"},
	{args: "train --threads 1000000", code: 1, want: "1000000 threads: at most 1024 are possible"},
	{args: "train --dataset npz:", code: 1, want: "npz: names no file"},
	{args: "features --device cuda:0", code: 2, want: "--device cuda:0: structured data run on the CPU"},
	{args: "features --sweep m=4:8", code: 2, want: "to vary another setting, run temper features --set KEY=VALUE for each value"},
	{args: "train --limit 41", code: 1, want: "data.limit: structured: cannot take 41 of 40 examples"},
	{args: "train --run-dir /proc/none", code: 1, want: "/proc/none"},
	{args: "train --resume", code: 1, want: "no run folder runs/latest"},
	{args: "eval latest", code: 1, want: "no run folder runs/latest"},
	{args: "reproduce mnist-fast --attack autoattack-mixed", code: 2, want: "unknown flag: --attack"},
	{args: "attack latest", code: 2, want: "attack needs --save FILE.npz"},
	{args: "attack latest --save none/x.npz", code: 1, want: "--save none/x.npz: there is no folder none"},
	{args: "export latest", code: 2, want: "export needs --out FILE"},
	{args: "export latest --out m.pt", code: 2, want: `unknown format "pt": want --format safetensors or onnx`},
	{args: "export latest --out m.onnx --format safetensors", code: 2, want: "--out m.onnx: the name says onnx, --format says safetensors"},
	{args: "export latest --out none/m.onnx", code: 1, want: "--out none/m.onnx: there is no folder none"},
	{args: "export latest --out m.onnx", code: 1, want: "no run folder runs/latest"},
	{args: "import m.safetensors", code: 2, want: "import needs --out RUN"},
	{args: "import m.safetensors --out r", code: 1, want: "read m.safetensors: no such file or directory"},
	{args: "data fetch", code: 2, want: "data fetch needs the names of data sets"},
	{args: "data fetch mnits", code: 1, want: "mnist"},
	{args: "data verify", code: 1, want: "no data set in"},
	{args: "graph --pass fuze", code: 2, want: `unknown pass "fuze"`},
	{args: "graph --program stop", code: 2, want: `unknown program "stop": want one of step, eval, init`},
	{args: "kernels biuld", code: 2, want: `unknown command "biuld" for "temper kernels"`},
	{args: "kernels build --arch sm_75", code: 2, want: "sm_75: temper needs sm_80 or later"},
	{args: "kernels build", env: "TEMPER_NVRTC=/no/libnvrtc.so.12", code: 1, want: "no NVRTC, CUDA's run-time compiler, in TEMPER_NVRTC=/no/libnvrtc.so.12: cannot open"},
	{args: "graph --format svg", code: 2, want: `unknown format "svg": want one of text, dot, html`},
	{args: "graph --format html --plan", code: 2, want: "leave --pass and --plan out"},
	{args: "graph --format html --json", code: 2, want: "--format html is a page: leave --json out, or take --profile --json"},
	{args: "graph --profile --program eval", code: 2, want: "--profile and --trace are for the program step"},
	{args: "report", code: 2, want: "requires at least 1 arg(s), only received 0"},
	{args: "report lost", code: 1, want: "no run folder runs/lost"},
	{args: "report a b", code: 2, want: "a comparison of 2 runs needs --out FILE.html"},
	{args: "report a --out none/x.html", code: 1, want: "--out none/x.html: there is no folder none"},
	{args: "watch", code: 1, want: "no run folder runs/latest"},
	{args: "watch a b", code: 2, want: "accepts at most 1 arg(s), received 2"},
	{args: "watch --interval 1", code: 2, want: "unknown flag: --interval"},
	{args: "serve", code: 1, want: "read runs: no such file or directory"},
	{args: "serve --listen 8080", code: 2, want: "--listen 8080: want an address and a port, such as 127.0.0.1:8080"},
	{args: "serve . --listen 127.0.0.1:99999", code: 1, want: "--listen 127.0.0.1:99999: "},
	{args: "doctor now", code: 2, want: `unknown command "now" for "temper doctor"`},
	{args: "bench --against none.json", code: 1, want: "--against: open none.json: no such file or directory"},
	{args: "bench --suite slow", code: 2, want: `--suite "slow": want one of`},
	{args: "bench --threads x", code: 2, want: "--threads x: want a whole number"},
	{args: "bench --seconds 1s", code: 2, want: "--seconds 1s: want a number"},
	{args: "bench --peer=2", code: 2, want: "--peer 2: want true or false"},
	{args: "bench --seconds 0", code: 2, want: "--seconds 0: want more than 0"},
	{args: "train --dry-run --resume", code: 2, want: "--dry-run is for new runs"},
	{args: "recipes fast", code: 1, want: `unknown recipe "fast" (did you mean "fast-at"`},
	{args: "eval a b", code: 2, want: "accepts 1 arg(s), received 2"},
	{args: "attack latest --save x.npy", code: 2, want: "--save x.npy: the name must end in .npz"},
	{args: "import m.safetensors n.safetensors --out r", code: 2, want: "accepts 1 arg(s), received 2"},
	{args: "data now", code: 2, want: `unknown command "now" for "temper data"`},
	{args: "data --dir x", code: 2, want: `unknown flag: --dir`},
	{args: "data", env: "TEMPER_JSON=2", code: 2, want: `TEMPER_JSON 2: want true or false`},
	{args: "data list now", code: 2, want: `unknown command "now" for "temper data list"`},
	{args: "data list --all", code: 2, want: "unknown flag: --all; temper data list -h lists them"},
	{args: "data list", env: "TEMPER_JSON=2", code: 2, want: `TEMPER_JSON 2: want true or false`},
	{args: "data fetch mnist --mirrors x", code: 2, want: `unknown flag: --mirrors (did you mean "--mirror"?)`},
	{args: "data verify mnits", code: 1, want: `did you mean mnist?`},
	{args: "data verify --data-dir none", code: 1, want: "get one with: temper data fetch mnist"},
	{args: "reproduce", code: 2, want: "accepts 1 arg(s), received 0; usage: temper reproduce RECIPE"},
	{args: "reproduce mnist-fats", code: 1, want: `unknown recipe "mnist-fats" (did you mean "mnist-fast"?)`},
	{args: "reproduce mnist-fast --seeds 0", code: 2, want: "--seeds 0"},
	{args: "recipes --all", code: 2, want: "unknown flag: --all; temper recipes -h lists them"},
	{args: "recipes", env: "TEMPER_JSON=2", code: 2, want: `TEMPER_JSON 2: want true or false`},
	{args: "kernels --arch sm_90", code: 2, want: "unknown flag: --arch; temper kernels -h lists them"},
	{args: "kernels", env: "TEMPER_JSON=2", code: 2, want: `TEMPER_JSON 2: want true or false`},
	{args: "kernels build now", code: 2, want: `unknown command "now" for "temper kernels build"`},
	{args: "devices now", code: 2, want: `unknown command "now" for "temper devices"`},
	{args: "devices --jsn", code: 2, want: `unknown flag: --jsn (did you mean "--json"?)`},
	{args: "doctor --jsn", code: 2, want: `unknown flag: --jsn (did you mean "--json"?)`},
	{args: "doctor", env: "TEMPER_JSON=2", code: 2, want: `TEMPER_JSON 2: want true or false`},
	{args: "version now", code: 2, want: `unknown command "now" for "temper version"`},
	{args: "version --jsn", code: 2, want: `unknown flag: --jsn (did you mean "--json"?)`},
	{args: "version", env: "TEMPER_JSON=2", code: 2, want: `TEMPER_JSON 2: want true or false`},
	{args: "features --seeds 0", code: 2, want: "seeds = 0: want at least 1"},
	{args: "help trian", code: 2, want: `unknown command "trian" (did you mean "train"?)`},
	{args: "completion basj", code: 2, want: `unknown command "basj" for "temper completion"`},
	{args: "--jsn", code: 2, want: `unknown flag: --jsn (did you mean "--json"?)`},
}

// TestMistakes holds every bad input to one line that names the thing and the
// remedy, the exit code, and nothing left behind.
func TestMistakes(t *testing.T) {
	var all strings.Builder
	ran := 0 // less than all with -run
	for _, c := range mistakes {
		t.Run(c.args+c.env, func(t *testing.T) {
			ran++
			dir := t.TempDir()
			o := temper(t, dir, []string{c.env}, strings.Fields(c.args)...)
			if o.code != c.code {
				t.Errorf("exit code %d, want %d", o.code, c.code)
			}
			if !strings.HasPrefix(o.stderr, "temper: ") || strings.Count(o.stderr, "\n") != 1 || !strings.Contains(o.stderr, c.want) {
				t.Errorf("stderr %q: want one line with %q", o.stderr, c.want)
			}
			fmt.Fprintf(&all, "$ %s\n%s", strings.TrimLeft(c.env+" temper "+c.args, " "), settle(o.stderr, dir))
			if left, _ := os.ReadDir(dir); o.stdout != "" || len(left) > 0 {
				t.Errorf("stdout %q, files %v: want neither", o.stdout, left)
			}
		})
	}
	if ran == len(mistakes) && !t.Failed() {
		golden(t, "mistakes", t.TempDir(), output{stderr: all.String()})
	}
}

// TestEnvironment sets flags by variables: below flags, above the recipe.
func TestEnvironment(t *testing.T) {
	dir := t.TempDir()
	env := []string{"TEMPER_EPOCHS=2", "TEMPER_LR=0.25", "TEMPER_METHOD=standard", "TEMPER_RUN_DIR=there", "TEMPER_JSON=true"}
	must(t, dir, env, "train", "--lr", "0.5")
	b, err := os.ReadFile(filepath.Join(dir, "there", "latest", "config.toml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"epochs = 2\n", "lr = 0.5\n", "method = 'standard'\n"} {
		if !strings.Contains(string(b), want) {
			t.Errorf("config.toml lacks %q:\n%s", want, b)
		}
	}
}
