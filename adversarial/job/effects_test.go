//go:build evidence

package job

import (
	"fmt"
	"math"
	"testing"
)

// arm is a way of training that an experiment compares.
type arm struct {
	name string
	args []string
}

// effectSeeds are those of docs/results/effects.
var effectSeeds = []int{0, 1, 2}

// table trains every arm with every seed and logs, as a table, what measure finds
// of each run. It returns the rows, arm by arm, seed by seed.
func table(t *testing.T, head string, arms []arm, measure func(dir string) []float64) [][][]float64 {
	var all [][][]float64
	t.Logf("| arm | seed | %s |", head)
	for _, a := range arms {
		var rows [][]float64
		for _, seed := range effectSeeds {
			r := trainedWith(t, append(a.args, fmt.Sprint("seed=", seed))...)
			row := measure(r.Run)
			text := ""
			for _, v := range row {
				text += fmt.Sprintf(" %.1f |", 100*v)
			}
			t.Logf("| %s | %d |%s", a.name, seed, text)
			rows = append(rows, row)
		}
		all = append(all, rows)
	}
	return all
}

// last is the last value of a series.
func last(t *testing.T, dir, name string) float64 {
	t.Helper()
	v, _ := series(t, dir, name)
	if len(v) == 0 {
		t.Fatalf("%s: no %s", dir, name)
	}
	return v[len(v)-1]
}

// answered says whether a difference has the sign that was asked for with every
// seed, and on average the size.
func answered(t *testing.T, question string, differences []float64, least float64) {
	mean, lowest := 0.0, math.Inf(1)
	for _, d := range differences {
		mean, lowest = mean+d/float64(len(differences)), min(lowest, d)
	}
	yes := "no"
	if lowest > 0 && mean >= least {
		yes = "yes"
	}
	t.Logf("%s %s: %.1f points on average, %.1f with the worst seed; the threshold was %.0f, and above 0 with every seed", question, yes, 100*mean, 100*lowest, 100*least)
}

// TestEffectGradAlign: does GradAlign prevent catastrophic overfitting?
func TestEffectGradAlign(t *testing.T) {
	base := []string{"data.name=mnist", "data.dir=" + realData(t), "data.limit=3000", "training.method=pgd-at", "training.attack.name=fgsm", "threat.eps=0.3", "training.eps_warmup=4",
		"batches.size=50", "batches.epochs=8", "eval.every=8", "eval.limit=1000", "eval.attack.steps=10", "eval.attack.step_size=0.075"}
	rows := table(t, "clean | robust, PGD-10 | probe, one step | probe, PGD-10", []arm{
		{"FGSM", base}, {"FGSM and GradAlign", append(base, "training.grad_align=0.1")},
	}, func(dir string) []float64 {
		return []float64{last(t, dir, "test/clean"), last(t, dir, "test/robust"), last(t, dir, "probe/single_step"), last(t, dir, "probe/multi_step")}
	})
	var differences []float64
	for i := range effectSeeds {
		differences = append(differences, rows[1][i][1]-rows[0][i][1])
	}
	answered(t, "Does GradAlign raise the robust accuracy that FGSM loses?", differences, 0.1)
}

// TestEffectAWP: does AWP narrow the robust generalisation gap? And do averaged
// weights stand better than the last ones?
func TestEffectAWP(t *testing.T) {
	base := []string{"data.name=mnist", "data.dir=" + realData(t), "data.limit=500", "training.method=pgd-at", "training.attack.name=pgd", "training.attack.steps=5", "training.attack.step_size=0.075",
		"threat.eps=0.2", "training.eps_warmup=20", "training.average.name=ema", "training.average.decay=0.98", "batches.size=50", "batches.epochs=60",
		"schedule.name=constant", "optimizer.lr=0.002", "eval.every=60", "eval.limit=1000", "eval.attack.steps=10", "eval.attack.step_size=0.05", "alarms.probe=0"}
	rows := table(t, "robust on training examples | robust on test examples | the same, averaged weights", []arm{
		{"PGD-5", base}, {"PGD-5 and AWP", append(base, "training.awp=0.01")},
	}, func(dir string) []float64 {
		own := measured(t, dir, "split=train", "weights=raw")
		return []float64{own.RobustAccuracy.Value, last(t, dir, "raw/robust"), last(t, dir, "test/robust")}
	})
	var narrower, averaged []float64
	for i := range effectSeeds {
		gap := func(arm int) float64 { return rows[arm][i][0] - rows[arm][i][1] }
		narrower = append(narrower, gap(0)-gap(1))
		averaged = append(averaged, rows[0][i][2]-rows[0][i][1])
	}
	answered(t, "Does AWP narrow the gap?", narrower, 0.05)
	answered(t, "Do averaged weights stand better?", averaged, 0.01)
}
