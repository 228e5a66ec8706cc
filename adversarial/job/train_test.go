package job

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"temper/adversarial"
	"temper/adversarial/run"
	"temper/datasets"
	"temper/engine"
	"temper/engine/graph"
	"temper/engine/rng"
	"temper/nn"
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
		got := measured(t, r.Run)
		if int(got.Step) != r.Epoch || got.CleanAccuracy != r.Clean || got.RobustAccuracy != r.Robust {
			t.Errorf("%s: temper eval says %v and %v of step %d, training %v and %v", r.Checkpoint, got.CleanAccuracy, got.RobustAccuracy, got.Step, r.Clean, r.Robust)
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

// An epoch's loss is the mean over its examples, of which the last batch has fewer.
func TestEpochLoss(t *testing.T) {
	r := trainedWith(t, "training.method=standard", "batches.size=16", "batches.epochs=2", "optimizer.lr=1") // 40 examples
	losses, _ := series(t, r.Run, "train/loss")
	epochs, _ := series(t, r.Run, "epoch/loss")
	if len(losses) != 6 || len(epochs) != 2 {
		t.Fatalf("losses %v of steps and %v of epochs", losses, epochs)
	}
	for i, got := range epochs {
		l := losses[3*i:]
		if want := (16*l[0] + 16*l[1] + 8*l[2]) / 40; math.Abs(got-want) > 1e-9 {
			t.Errorf("epoch %d: loss %v, want %v of %v", i+1, got, want, l[:3])
		}
	}
}

// TestOptimizerSettings: an optimiser's name stands for PyTorch's defaults, and a
// setting that it does not have is refused.
func TestOptimizerSettings(t *testing.T) {
	of := func(mnist bool, assignments ...string) Optimizer {
		if mnist { // whose recipe has adam
			assignments = append(assignments, "data.name=mnist", "recipe=fast-at")
		}
		return one(t, assignments...).Optimizer
	}
	for _, c := range []struct {
		got, want Optimizer
		rule      nn.Optimizer
		says      string
	}{
		{of(true), Optimizer{"adam", 0.005, 0, false, 0.9, 0.999, 1e-8, 0, false},
			nn.Adam{Beta1: 0.9, Beta2: 0.999, Eps: 1e-8}, "adam, lr 0.005 x, betas 0.9 0.999, eps 1e-08, weight_decay 0"},
		{of(true, "optimizer.name=adamw"), Optimizer{"adamw", 0.001, 0, false, 0.9, 0.999, 1e-8, 0.01, false},
			nn.Adam{Beta1: 0.9, Beta2: 0.999, Eps: 1e-8, Decay: nn.Decay{Decoupled: true}}, "adamw, lr 0.001 x, betas 0.9 0.999, eps 1e-08, weight_decay 0.01 decoupled"},
		{of(true, "optimizer.name=adam", "optimizer.beta1=0"), Optimizer{"adam", 0.005, 0, false, 0, 0.999, 1e-8, 0, false},
			nn.Adam{Beta2: 0.999, Eps: 1e-8}, "adam, lr 0.005 x, betas 0 0.999, eps 1e-08, weight_decay 0"},
		{of(true, "optimizer.name=adamw", "optimizer.weight_decay=0", "optimizer.lr=0.25"), Optimizer{"adamw", 0.25, 0, false, 0.9, 0.999, 1e-8, 0, false},
			nn.Adam{Beta1: 0.9, Beta2: 0.999, Eps: 1e-8, Decay: nn.Decay{Decoupled: true}}, "adamw, lr 0.25 x, betas 0.9 0.999, eps 1e-08, weight_decay 0"},
		{of(true, "optimizer.name=sgd", "optimizer.momentum=0.5", "optimizer.nesterov=true", "optimizer.weight_decay=0.1", "optimizer.skip_vectors=true"),
			Optimizer{"sgd", 0.1, 0.5, true, 0.9, 0.999, 1e-8, 0.1, true},
			nn.SGD{Momentum: 0.5, Nesterov: true, Decay: nn.Decay{SkipVectors: true}}, "sgd, lr 0.1 x, nesterov momentum 0.5, weight_decay 0.1 but of vectors"},
		{of(false, "optimizer.name=sgdw", "optimizer.weight_decay=0.1"), Optimizer{"sgdw", 0.1, 0, false, 0.9, 0.999, 1e-8, 0.1, false},
			nn.SGD{Decay: nn.Decay{Decoupled: true}}, "sgdw, lr 0.1 x, momentum 0, weight_decay 0.1 decoupled"},
	} {
		rule, err := c.got.build(false)
		if c.got != c.want || err != nil || rule != c.rule {
			t.Errorf("%+v, %+v, %v: want %+v, %+v", c.got, rule, err, c.want, c.rule)
		}
		if says := c.got.describe(Schedule{Name: "x"}); says != c.says {
			t.Errorf("it says %q, want %q", says, c.says)
		}
	}
	for want, assignments := range map[string][]string{
		"optimizer.nesterov without momentum is plain sgdw":                    {"optimizer.name=sgdw", "optimizer.nesterov=true"},
		"optimizer.momentum is 1":                                              {"optimizer.momentum=1"},
		"optimizer.momentum is NaN":                                            {"optimizer.momentum=NaN"},
		"optimizer.weight_decay is NaN":                                        {"optimizer.weight_decay=NaN"},
		"optimizer.weight_decay is -0.1":                                       {"optimizer.weight_decay=-0.1"},
		"optimizer.beta1, beta2 and eps are 0.9, 1 and":                        {"optimizer.beta2=1"},
		"momentum and nesterov belong to sgd and sgdw: leave them out":         {"optimizer.name=adam", "optimizer.momentum=0.9"},
		"sgdw: leave them out, adamw has beta1":                                {"optimizer.name=adamw", "optimizer.nesterov=true"},
		"belong to adam and adamw: leave them out, sgd has momentum":           {"optimizer.beta1=0.8"},
		"adamw: leave them out, sgdw has momentum":                             {"optimizer.name=sgdw", "optimizer.eps=1e-6"},
		`want one of adam, adamw, sgd, sgdw (did you mean "adam" or "adamw"?)`: {"optimizer.name=adamx"},
		"they are of cycle_momentum, which is off":                             {"schedule.name=cyclic", "schedule.base_momentum=0.8"},
		"base_momentum 0.95, max_momentum 0.9: want":                           {"schedule.name=cyclic", "schedule.cycle_momentum=true", "schedule.base_momentum=0.95"},
		`schedule step: it has no setting "cycle-momentum"`:                    {"schedule.name=step", "schedule.gamma=0.5", "schedule.every=1", "schedule.cycle_momentum=true"},
	} {
		if _, err := Resolve(user(assignments...)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one with %q", err, want)
		}
	}
}

// The momentum that a schedule moves is what the steps are made with, of SGD and of
// Adam, and the run's metrics have it.
func TestCycleMomentum(t *testing.T) {
	for optimizer, want := range map[string][]float64{"sgd": {0.9, 0.85, 0.8, 0.85}, "adam": {0.9, 0.8, 0.7, 0.8}} {
		args := []string{"training.method=standard", "batches.epochs=4", "data.structured.train_n=20", "batches.size=20", "schedule.name=cyclic", "schedule.min=0.01", "optimizer.name=" + optimizer, "optimizer.lr=0.1"}
		if optimizer == "sgd" {
			args = append(args, "optimizer.momentum=0.9")
		}
		cycled := append(slices.Clone(args), "schedule.cycle_momentum=true", "schedule.base_momentum="+fmt.Sprint(want[2]))
		moved, stayed := trainedWith(t, cycled...), trainedWith(t, args...)
		got, _ := series(t, moved.Run, "train/momentum")
		if diff := cmp.Diff(want, got, cmpopts.EquateApprox(0, 1e-12)); diff != "" {
			t.Errorf("%s: %s", optimizer, diff)
		}
		if none, _ := series(t, stayed.Run, "train/momentum"); len(none) > 0 {
			t.Errorf("%s: a momentum that does not move is in the metrics", optimizer)
		}
		a, _ := series(t, moved.Run, "train/loss")
		b, _ := series(t, stayed.Run, "train/loss")
		if !slices.Equal(a[:2], b[:2]) || a[3] == b[3] { // the step at 0.9 is the same, those after it are not
			t.Errorf("%s: losses %v with the momentum moved, %v without", optimizer, a, b)
		}
	}
}

// stripes writes a set of two classes of noisy 8×8 images and returns the
// assignments that train a tiny network with batch norm on it.
func stripes(t *testing.T) []string {
	t.Helper()
	var arrays []datasets.NamedArray
	for split, n := range map[string]int{"train": 32, "test": 16} {
		noise := rng.NewStream(uint32(n), "stripes", 0)
		x, y := make([]uint8, n*3*8*8), make([]int64, n)
		for i := range y {
			y[i] = int64(i % 2)
		}
		for i := range x {
			x[i] = uint8(40 + 100*noise.Uniform())
			if image := i / (3 * 8 * 8); i/(1+image%2*7)%2 == 0 { // vertical or horizontal
				x[i] += 60
			}
		}
		arrays = append(arrays, datasets.NamedArray{Name: "x_" + split, Array: datasets.Array{Shape: []int{n, 3, 8, 8}, Data: x}},
			datasets.NamedArray{Name: "y_" + split, Array: datasets.Array{Shape: []int{n}, Data: y}})
	}
	file := filepath.Join(t.TempDir(), "stripes.npz")
	if err := datasets.SaveNPZ(file, arrays...); err != nil {
		t.Fatal(err)
	}
	return []string{"data.name=npz:" + file, "model.name=preactresnet18", "model.width=2", "model.blocks=[1,1,1,1]", "threat.eps=4/255",
		"training.method=pgd-at", "training.attack.steps=2", "batches.size=8", "batches.epochs=4", "eval.attack.steps=2"}
}

// measured is what temper eval says of a run.
func measured(t *testing.T, dir string, assignments ...string) *Evaluation {
	t.Helper()
	e, err := prepare(Console{}, EvalOptions{Run: dir, User: user(assignments...)})
	if err != nil {
		t.Fatal(err)
	}
	defer e.close()
	r, err := e.measure(context.Background(), Console{io.Discard, io.Discard, false}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// A run with averaged weights evaluates and saves both: temper eval takes the
// averaged ones by itself and the others if asked, and finds what the run found.
func TestAveragedWeights(t *testing.T) {
	base := stripes(t)
	for _, name := range []string{"ema", "swa"} {
		args := append(base, "training.average.name="+name, "training.average.start=1")
		if name == "ema" {
			args = append(args, "training.average.decay=0.9")
		}
		r := trainedWith(t, args...)
		ck, err := run.LatestCheckpoint(r.Run)
		if err != nil {
			t.Fatal(err)
		}
		byName := map[string]run.Tensor{}
		for _, x := range ck.Tensors {
			byName[x.Name] = x
		}
		for _, weight := range []string{"conv1.weight", "bn.running_mean", "bn.num_batches_tracked"} {
			raw, averaged := byName[weight], byName[adversarial.AveragePrefix+weight]
			if len(averaged.Data) != len(raw.Data) || averaged.DType != raw.DType || len(raw.Data) == 0 {
				t.Errorf("%s: %s is %d bytes of %s, averaged %d of %s", name, weight, len(raw.Data), raw.DType, len(averaged.Data), averaged.DType)
			}
			if weight == "conv1.weight" && bytes.Equal(raw.Data, averaged.Data) {
				t.Errorf("%s: the averaged weights are the last ones", name)
			}
		}
		clean, _ := series(t, r.Run, "test/clean")
		rawClean, _ := series(t, r.Run, "raw/clean")
		rawRobust, _ := series(t, r.Run, "raw/robust")
		if len(clean) != 4 || len(rawClean) != 4 || name == "ema" && clean[0] != rawClean[0] { // until it begins the average is the weights
			t.Errorf("%s: %v averaged, %v raw", name, clean, rawClean)
		}
		if got := measured(t, r.Run); got.CleanAccuracy != r.Clean || got.RobustAccuracy != r.Robust || r.Clean.Value != clean[3] {
			t.Errorf("%s: temper eval says %v and %v, training %v and %v", name, got.CleanAccuracy, got.RobustAccuracy, r.Clean, r.Robust)
		}
		if got := measured(t, r.Run, "weights=raw"); got.CleanAccuracy.Value != rawClean[3] || got.RobustAccuracy.Value != rawRobust[3] {
			t.Errorf("%s, raw: temper eval says %v and %v, training %v and %v", name, got.CleanAccuracy, got.RobustAccuracy, rawClean[3], rawRobust[3])
		}
	}
	plain := trainedWith(t, append(base, "batches.epochs=1")...)
	for want, assignment := range map[string]string{
		"this run averaged no weights":   "weights=average",
		`unknown weights "swa": want av`: "weights=swa",
	} {
		if _, err := prepare(Console{}, EvalOptions{Run: plain.Run, User: user(assignment)}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one with %q", err, want)
		}
	}
}

// Batch norm's statistics of swa are those of the averaged network on the
// training examples, whatever the order of their batches' past.
func TestRecomputedStatistics(t *testing.T) {
	r := trainedWith(t, append(stripes(t), "training.average.name=swa", "batches.size=32")...)
	ck, err := run.LatestCheckpoint(r.Run)
	if err != nil {
		t.Fatal(err)
	}
	averaged, err := weightsOf(ck.Tensors, averagedWeights)
	if err != nil {
		t.Fatal(err)
	}
	e, err := prepare(Console{}, EvalOptions{Run: r.Run, User: user("split=train")})
	if err != nil {
		t.Fatal(err)
	}
	defer e.close()
	g, err := adversarial.StatisticsGraph(e.model, 32, graph.U8)
	if err != nil {
		t.Fatal(err)
	}
	exe, err := e.dev.Compile(g, e.state, engine.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer exe.Close()
	stream, err := datasets.NewStream(e.examples, datasets.StreamOptions{BatchSize: 32, Epochs: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	b, _ := stream.Next()
	if err := errors.Join(feed(exe, b), exe.Set("weight", 1), exe.Run()); err != nil {
		t.Fatal(err)
	}
	for _, x := range averaged {
		if !strings.Contains(x.Name, "running") {
			continue
		}
		if got, err := e.state.Bytes(x.Name); err != nil || !bytes.Equal(got, x.Data) {
			t.Errorf("%s differs, %v", x.Name, err)
		}
	}
}

// ε rises through the step block: the executable of the first step is that of the
// last one.
func TestWarmupRecompilesNothing(t *testing.T) {
	s := one(t, append(stripes(t), "device=cpu", "training.eps_warmup=2", "training.average.name=ema")...)
	c := Console{io.Discard, io.Discard, false}
	tr, err := newTrainer(c, &s, "")
	if err != nil {
		t.Fatal(err)
	}
	defer tr.close()
	dir := t.TempDir()
	if tr.run, err = run.Create(dir); err != nil {
		t.Fatal(err)
	}
	defer tr.run.Close()
	if tr.metrics, err = run.OpenMetrics(dir); err != nil {
		t.Fatal(err)
	}
	before, err := tr.program.For(8)
	if err != nil {
		t.Fatal(err)
	}
	if err := tr.initialize(); err != nil {
		t.Fatal(err)
	}
	if err := tr.loop(context.Background()); err != nil {
		t.Fatal(err)
	}
	if after, err := tr.program.For(8); err != nil || after != before {
		t.Errorf("another executable, %v", err)
	}
	eps, _ := series(t, dir, "train/eps")
	if len(eps) != 16 || !slices.IsSorted(eps) || math.Abs(eps[0]*255-0.5) > 1e-9 || math.Abs(eps[7]*255-4) > 1e-9 || eps[15] != eps[7] {
		t.Errorf("ε is %v", eps)
	}
}
