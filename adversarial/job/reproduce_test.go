package job

import (
	"bytes"
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"temper/adversarial/run"
)

// tinyRecipe is a recipe that trains in no time, with numbers that nobody has
// published.
func tinyRecipe(t *testing.T, more string) Recipe {
	t.Helper()
	r := Recipe{Name: "tiny", file: "tiny.toml", text: []byte(`
[about]
datasets = ["structured"]

[[about.published]]
clean = 90
robust = 50
attack = "pgd"
with = ["attack.steps=3", "attack.restarts=2"]
source = "this test"

[model]
name = "patchcnn"

[threat]
norm = "patch-l2"
eps = "0.2"
domain = "unbounded"

[training]
method = "pgd-at"

[batches]
epochs = 20
size = 40

[optimizer]
name = "sgd"
lr = 0.1

[eval]
every = 10

[eval.attack]
name = "pgd"
steps = 2
` + more)}
	var body recipeBody
	if err := run.ParseConfig(r.file, r.text, &body); err != nil {
		t.Fatal(err)
	}
	r.About = body.About
	return r
}

// Interrupted anywhere, the same call goes on, to the numbers of one that was
// not; what is finished is read.
func TestReproduce(t *testing.T) {
	r := tinyRecipe(t, "")
	cpu := user("device=cpu")
	reproduceIn := func(ctx context.Context, root string, seeds int) (*Reproduction, string, error) {
		log := &bytes.Buffer{}
		result, err := reproduce(ctx, Console{Out: &bytes.Buffer{}, Err: log}, r, ReproduceOptions{Root: root, Seeds: seeds, Only: -1, Limit: 50, User: cpu})
		return result, log.String(), err
	}
	straightRoot, root := t.TempDir(), t.TempDir()
	straight, _, err := reproduceIn(context.Background(), straightRoot, 2)
	if err != nil {
		t.Fatal(err)
	}
	if straight.N != 50 || len(straight.Runs) != 2 || straight.Clean.Mean < 30 || straight.Robust.Mean >= straight.Clean.Mean {
		t.Errorf("a test that proves little: %+v", straight)
	}
	stops := 0
	for n := 5; ; n += 20 {
		result, _, err := reproduceIn(&afterCalls{Context: context.Background(), n: n}, root, 2)
		if errors.As(err, new(*InterruptedError)) {
			stops++
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		for i := range result.Runs {
			result.Runs[i].Run = straight.Runs[i].Run
		}
		if diff := cmp.Diff(straight, result, cmpopts.IgnoreFields(Reproduced{}, "Seconds")); diff != "" {
			t.Error(diff)
		}
		break
	}
	if stops < 2 {
		t.Errorf("interrupted %d times", stops)
	}
	again, log, err := reproduceIn(context.Background(), straightRoot, 3)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(straight.Runs, again.Runs[:2]); diff != "" {
		t.Error(diff)
	}
	if n := strings.Count(log, "epoch 20/20"); n != 1 {
		t.Errorf("%d runs were trained for one more seed:\n%s", n, log)
	}
	if again.Runs[2].Seed != 2 || again.Runs[2].Clean == again.Runs[1].Clean && again.Runs[2].Robust == again.Runs[1].Robust {
		t.Errorf("seeds 1 and 2: %+v", again.Runs[1:])
	}
	r.Published[0].Attack = "autoattack-mixed"
	if _, _, err := reproduceIn(context.Background(), t.TempDir(), 1); err == nil || !strings.Contains(err.Error(), "autoattack-mixed is an upper bound on robust accuracy: it stands beside no published number") {
		t.Errorf("a published number of the mixed suite: %v", err)
	}
	r = tinyRecipe(t, "step_size = \"0.1\"\n")
	if _, _, err := reproduceIn(context.Background(), root, 2); err == nil || !strings.Contains(err.Error(), "holds a run of other settings") {
		t.Errorf("another recipe in the same folder: %v", err)
	}
	file := filepath.Join(straight.Runs[0].Run, trainedFile)
	if err := os.WriteFile(file, []byte("{"), 0o666); err != nil {
		t.Fatal(err)
	}
	r = tinyRecipe(t, "")
	if _, _, err := reproduceIn(context.Background(), straightRoot, 1); err == nil || !strings.Contains(err.Error(), "delete it") {
		t.Errorf("a half-written result: %v", err)
	}
}

// Intervals over seeds are Student's: with two degrees of freedom ±4.3027
// standard errors.
func TestCompare(t *testing.T) {
	c := compare([]float64{1, 2, 3}, 5)
	half := 4.302652729911275 / math.Sqrt(3)
	want := Comparison{Mean: 2, Interval: &[2]float64{2 - half, 2 + half}, Published: 5, Difference: -3, Between: &[2]float64{-3 - half, -3 + half}}
	if diff := cmp.Diff(want, c, cmpopts.EquateApprox(1e-9, 0)); diff != "" {
		t.Error(diff)
	}
	if one := compare([]float64{70}, 50); one.Interval != nil || one.Between != nil || one.Difference != 20 {
		t.Errorf("one seed: %+v", one)
	}
}

func TestReproducePrints(t *testing.T) {
	r := Reproduction{
		Recipe: "tiny", Dataset: "mnist", Attack: "autoattack, L∞ 0.3", N: 1000, Published: Figure{Clean: 98.5, Robust: 82.93, Source: "a table"},
		Runs: []Reproduced{
			{Seed: 0, Run: "r/seed-0", Checkpoint: "best", Epoch: 9, Clean: accuracy(990, 1000), Robust: accuracy(800, 1000)},
			{Seed: 1, Run: "r/seed-1", Checkpoint: "best", Epoch: 10, Clean: accuracy(980, 1000), Robust: accuracy(840, 1000)},
		},
	}
	r.Clean, r.Robust = compare([]float64{99, 98}, 98.5), compare([]float64{80, 84}, 82.93)
	out := &bytes.Buffer{}
	r.print(out)
	want := `tiny on mnist: 2 runs, 1000 test examples, autoattack, L∞ 0.3

seed   clean     robust    checkpoint       run
0      99.00 %   80.00 %   best, epoch 9    r/seed-0
1      98.00 %   84.00 %   best, epoch 10   r/seed-1

         temper, mean over seeds   published   difference
clean    98.50 % [92.15, 100.00]   98.50 %     +0.00 [-6.35, +1.50]
robust   82.00 % [56.59, 100.00]   82.93 %     -0.93 [-26.34, +17.07]

Published: a table.
Intervals are Student's, 95 %, over seeds, cut to 0 and 100 %; the published number is taken as it is.
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Error(diff)
	}
}

// What has no published number is refused, with what has.
func TestReproduceRefuses(t *testing.T) {
	for want, o := range map[string]ReproduceOptions{
		`unknown recipe "fats-at" (did you mean "fast-at"?)`:                 {Recipe: "fats-at", Seeds: 1},
		`recipe "standard" has no published number`:                          {Recipe: "standard", Seeds: 1},
		`recipe "trades" has no published number for svhn: it has for mnist`: {Recipe: "trades", Dataset: "svhn", Seeds: 1},
		"--seeds 0, --limit 0: want at least 1 and 0":                        {Recipe: "fast-at"},
		"--only 3: the seeds are 0 to 2":                                     {Recipe: "fast-at", Seeds: 3, Only: 3},
	} {
		if err := Reproduce(context.Background(), Console{Out: &bytes.Buffer{}, Err: &bytes.Buffer{}}, o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: want one that says %q", err, want)
		}
	}
}

// Every published and measured figure can be evaluated as it says, on the
// recipe's settings, and lies where a percentage does.
func TestFigures(t *testing.T) {
	n := 0
	for _, r := range Recipes() {
		for _, f := range append(r.Published, r.Measured...) {
			if err := f.refuse(); err != nil {
				t.Error(err)
			}
			n++
			s, err := r.seeded(0, nil)
			if err != nil {
				t.Errorf("%s: %v", r.file, err)
				continue
			}
			if _, err := evalSettings(s, f.user()); err != nil {
				t.Errorf("%s, %v: %v", r.file, f, err)
			}
			if f.Source == "" || !(f.Robust > 0 && f.Robust < f.Clean && f.Clean < 100) {
				t.Errorf("%s: %+v", r.file, f)
			}
		}
	}
	if n < 10 {
		t.Errorf("only %d figures", n)
	}
}
