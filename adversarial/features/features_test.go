package features

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"html"
	"io"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"temper/adversarial"
	"temper/adversarial/job"
	"temper/adversarial/report"
	_ "temper/engine/cpu"
)

// experiment runs an experiment.
func experiment(t *testing.T, s Settings) *Result {
	t.Helper()
	r, err := Run(t.Context(), s, 0, func(int, int) {})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// endsOnly is Defaults measured at its beginning and end, for so many seeds.
func endsOnly(seeds int) Settings {
	s := Defaults()
	s.Seeds, s.Every = seeds, s.Steps
	return s
}

// TestRunS is the reference run with three seeds, or five where the evidence is
// asked for (make evidence-features): the means land in every band, and every
// claim holds.
func TestRunS(t *testing.T) {
	seeds := 3
	if os.Getenv("TEMPER_EVIDENCE") != "" {
		seeds = 5
	}
	r := experiment(t, endsOnly(seeds))
	want := len(bandsThree)
	if seeds == 5 {
		want = len(bandsFive)
	}
	if len(r.Bands) != want {
		t.Errorf("%d bands were checked, want %d", len(r.Bands), want)
	}
	for _, b := range r.Bands {
		t.Logf("%s %s = %.3f, band %s", b.Training, b.Figure, b.Mean, b.interval())
		if !b.In {
			t.Errorf("%s %s = %v is outside %s", b.Training, b.Figure, b.Mean, b.interval())
		}
	}
	if l := r.Learned; l[Standard].Feature != "non-robust" || l[Adversarial].Feature != "robust" {
		t.Errorf("learned: %+v", l)
	}
	for _, p := range r.Predict[:2] { // the growth rates
		if math.Abs(p.Measured.Mean/p.Predicted-1) > 0.1 {
			t.Errorf("%s: predicted %v, measured %v", p.Name, p.Predicted, p.Measured)
		}
	}
}

// TestRaceReversed: with few dense patches and strong sparse ones the theory
// says the opposite, and so must the tool.
func TestRaceReversed(t *testing.T) {
	s := endsOnly(3)
	s.N, s.Alpha = 8, 1.5
	r := experiment(t, s)
	if got := r.Learned[Standard].Feature; got != "robust" {
		t.Errorf("standard training learns %s: %v", got, r.Learned[Standard].VOverU)
	}
	if r.holds("standard-learns-v") || r.holds("standard-attacked-along-v") {
		t.Errorf("a claim holds that must not: %+v", r.Claims[:2])
	}
	if r.Bands != nil {
		t.Error("the bands of run S are applied to another run")
	}
	var text bytes.Buffer
	r.WriteText(&text)
	for _, want := range []string{
		"standard training learns the robust feature u",
		"does not hold here  [paper] standard training learns the non-robust features",
	} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("the report does not say %q:\n%s", want, text.String())
		}
	}
}

// TestEpsilonBelowBeta: an attack too small to cancel β does not stall v.
func TestEpsilonBelowBeta(t *testing.T) {
	s := endsOnly(2)
	s.Eps = adversarial.MustEpsilon("0.4")
	r := experiment(t, s)
	if v, w := r.Final(Adversarial, "v"), r.Settings.plateau(); slices.Min(v.Values) < 1.5*w {
		t.Errorf("v = %v with ε < β; it should pass the plateau %v", v, w)
	}
	if r.holds("plateau") {
		t.Error("the plateau is said to hold with ε < β")
	}
}

// TestPlateau compares w_v* with adversarial training for five step sizes of
// the ascent (docs/paper.md has the table).
func TestPlateau(t *testing.T) {
	for _, c := range []struct {
		step               string
		predicted, measure float64 // of our numpy simulation
	}{{"0.5", 1.00, .98}, {"1", .79, .76}, {"2", .63, .60}, {"5", .46, .42}, {"10", .37, .32}} {
		t.Run("s="+c.step, func(t *testing.T) {
			t.Parallel()
			s := endsOnly(1)
			s.StepSize = adversarial.MustEpsilon(c.step)
			s, err := s.Resolve()
			if err != nil {
				t.Fatal(err)
			}
			if math.Abs(s.plateau()-c.predicted) > 0.005 {
				t.Errorf("predicted %v, want %v", s.plateau(), c.predicted)
			}
			l, err := newLab(s)
			if err != nil {
				t.Fatal(err)
			}
			defer l.close()
			trial, err := l.run(t.Context(), 1, Adversarial, func(int) {})
			if err != nil {
				t.Fatal(err)
			}
			v := trial.Last().Value("v")
			t.Logf("v = %.3f, predicted %.3f", v, s.plateau())
			if math.Abs(v/s.plateau()-1) > 0.15 || math.Abs(v-c.measure) > 0.06 {
				t.Errorf("v = %v: predicted %v, the simulation measured %v", v, s.plateau(), c.measure)
			}
		})
	}
}

func TestPlateauBeyondTheCurve(t *testing.T) {
	s := Defaults()
	s.StepSize = adversarial.MustEpsilon("0.2")
	if got := s.plateau(); got != 2.5 { // σ′ is 1 there: s·w = β
		t.Errorf("plateau %v, want 2.5", got)
	}
}

// TestFloat64 holds every figure of a run to three digits of the same graphs in
// float64.
func TestFloat64(t *testing.T) {
	s := endsOnly(1)
	s.Steps, s.Every = 60, 60
	if os.Getenv("TEMPER_EVIDENCE") != "" {
		s = endsOnly(1)
	}
	single := experiment(t, s)
	s.Precision = float64Everywhere
	double := experiment(t, s)
	figures, largest := 0, 0.0
	check := func(name string, a, b float64) {
		figures++
		apart := math.Abs(a - b)
		largest = max(largest, apart)
		if apart > 5e-4*max(math.Abs(b), 1) {
			t.Errorf("%s: %v in float32, %v in float64", name, a, b)
		}
	}
	for i, trial := range single.Trials {
		for j, r := range trial.Readings {
			d := double.Trials[i].Readings[j]
			for name, v := range r.Values {
				check(name, v, d.Values[name])
			}
			for name, list := range r.Classes {
				for k, v := range list {
					check(name, v, d.Classes[name][k])
				}
			}
		}
	}
	t.Logf("%d figures, the largest difference is %.2g", figures, largest)
	if figures < 200 {
		t.Errorf("only %d figures were compared", figures)
	}
}

// TestSameBits: the result does not depend on the number of workers, nor on
// what they ran before.
func TestSameBits(t *testing.T) {
	s := Defaults()
	s.Seeds, s.Steps, s.Every, s.TestN, s.Batch = 3, 12, 5, 40, 16
	var first []byte
	for _, workers := range []int{1, 2, 5, 1} {
		r, err := Run(t.Context(), s, workers, func(int, int) {})
		if err != nil {
			t.Fatal(err)
		}
		b, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		if first == nil {
			first = b
		}
		if !bytes.Equal(b, first) {
			t.Errorf("%d workers: other bits", workers)
		}
	}
}

func TestTrialsDiffer(t *testing.T) {
	s := Defaults()
	s.Seeds, s.Steps, s.Every, s.TestN = 2, 2, 2, 20
	r := experiment(t, s)
	if len(r.Trials) != 4 || r.Trials[0].Seed != 0 || r.Trials[1].Seed != 1 || r.Trials[1].Training != Standard || r.Trials[2].Training != Adversarial {
		t.Fatalf("order of the trials: %+v", r.Trials)
	}
	if a, b := r.Trials[0].Readings[0], r.Trials[1].Readings[0]; a.Value("u") == b.Value("u") {
		t.Error("two seeds start alike")
	}
	if a, b := r.Trials[0].Readings[0], r.Trials[2].Readings[0]; a.Value("u") != b.Value("u") {
		t.Error("the two trainings of a seed do not start alike")
	}
}

func TestBadInput(t *testing.T) {
	for _, c := range []struct {
		set  []string
		want string
	}{
		{[]string{"d=8"}, "d = 8 < 2k = 10"},
		{[]string{"k=10", "d=16"}, "d = 16 < 2k = 20"},
		{[]string{"seeds=1001"}, "at most 1000"},
		{[]string{"seed=4294967292"}, "the last seed would be beyond 4294967295"},
		{[]string{"m=1000000000"}, "lower m"},
		{[]string{"eps=1e30"}, "eps = 1e30: want 1e-06 to 1e+06"},
		{[]string{"eps=1e-30"}, "eps = 1e-30: want 1e-06 to 1e+06"},
		{[]string{"step_size=1e30"}, "step_size = 1e30: want 1e-06 to 1e+06"},
		{[]string{"n=100000000"}, "exceed"},
		{[]string{"eps=0"}, "eps = 0: want eps > 0"},
		{[]string{"eps=-1"}, "is negative"},
		{[]string{"p=80"}, "r + n = 1 + 80 is not p = 80"},
		{[]string{"q=1.5"}, "q = 1.5: the smoothed ReLU wants q ≥ 2"},
		{[]string{"seeds=0"}, "seeds = 0: want at least 1"},
		{[]string{"r=0"}, "r = 0, n = 80"},
		{[]string{"rho=0"}, "rho > 0"},
		{[]string{"train_n=3"}, "each must be at least k = 5"},
		{[]string{"norm=l3"}, `unknown norm "l3"`},
		{[]string{"attack=bim"}, `unknown attack "bim"`},
		{[]string{"attack_loss=mse"}, `unknown attack loss "mse"`},
		{[]string{"steps=0"}, "steps = 0"},
		{[]string{"lr=NaN"}, "want lr > 0"},
		{[]string{"d=0"}, "--set: d cannot be 0: leave it out, and it is 16"},
		{[]string{"p=0"}, "p cannot be 0: leave it out, and it is 81"},
		{[]string{"batch=0"}, "batch cannot be 0: leave it out, and it is 40"},
		{[]string{"batch=41"}, "batch cannot be 41: leave it out, and it is 40"},
		{[]string{"batch=-1"}, "batch = -1, attack_steps = 1: want at least 1"},
		{[]string{"attack_steps=0"}, "attack_steps = 0: want at least 1"},
		{[]string{"precision=f16"}, `unknown precision "f16"`},
		{[]string{"alhpa=1"}, "alpha"},
		{[]string{"k=many"}, "k=many"},
	} {
		dir := t.TempDir()
		o := Options{Root: dir}
		for _, s := range c.set {
			key, value, _ := strings.Cut(s, "=")
			o.User = append(o.User, job.Assignment{Key: key, Value: value, Source: "--set"})
		}
		var out, errs bytes.Buffer
		err := Command(t.Context(), job.Console{Out: &out, Err: &errs}, o)
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%v: %v; want one line with %q", c.set, err, c.want)
		}
		var usage *job.UsageError
		if !errors.As(err, &usage) {
			t.Errorf("%v: %T is no usage error", c.set, err)
		}
		if left, _ := os.ReadDir(dir); len(left) > 0 || out.Len() > 0 {
			t.Errorf("%v: left %v and printed %q", c.set, left, out.String())
		}
	}
}

// TestBadSweep: what cannot be run leaves nothing behind.
func TestBadSweep(t *testing.T) {
	for _, c := range []struct{ sweep, set, want string }{
		{"ratio=1e5", "", "sweep: ratio 100000 needs n = 1.76e+06 non-robust patches: 1 to 100000 are possible"},
		{"ratio=1e-9", "", "needs n = 0 non-robust patches"},
		{"ratio=5000", "", "exceed"},
		{"eps=1:1e-9", "", "ε/β 1e-09: eps = 0.000000: want eps > 0"},
		{"ratio", "n=8", "--set: n=8: a sweep sets n, p, eps and every itself"},
		{"ratio=x", "", "no positive number"},
	} {
		dir := t.TempDir()
		o := Options{Root: dir, Sweep: c.sweep}
		if key, value, ok := strings.Cut(c.set, "="); ok {
			o.User = []job.Assignment{{Key: key, Value: value, Source: "--set"}}
		}
		err := Command(t.Context(), job.Console{Out: io.Discard, Err: io.Discard}, o)
		var usage *job.UsageError
		if !errors.As(err, &usage) || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%+v: %v; want one line with %q", c, err, c.want)
		}
		if left, _ := os.ReadDir(dir); len(left) > 0 {
			t.Errorf("%+v: left %v", c, left)
		}
	}
}

// TestSettingsFollow: d and p follow k, r and n.
func TestSettingsFollow(t *testing.T) {
	s := Defaults()
	s.K, s.N = 10, 8
	s, err := s.Resolve()
	if err != nil || s.D != 20 || s.P != 9 {
		t.Errorf("d = %d, p = %d, %v", s.D, s.P, err)
	}
	d, _ := Defaults().Resolve()
	if d.D != 16 || d.P != 81 || !d.isRunS() || math.Abs(d.ratio()-4.55) > 0.01 {
		t.Errorf("run S: %+v", d)
	}
}

// TestOtherAdversaries: the other norms and attacks train and keep to their
// threat model (measure checks it).
func TestOtherAdversaries(t *testing.T) {
	for _, c := range []struct{ norm, attack, eps, step, loss string }{
		{"l2", "ascent", "5", "2", "ce"}, {"linf", "fgsm", "0.15", "", "lse-margin"},
		{"patch-l2", "pgd", "0.6", "0.1", "lse-margin"}, {"patch-l2", "fgsm", "0.6", "", "ce"},
	} {
		s := Defaults()
		s.Seeds, s.Steps, s.TestN = 1, 5, 20
		s.Norm, s.Attack, s.AttackLoss = c.norm, c.attack, c.loss
		s.Eps, s.StepSize = adversarial.MustEpsilon(c.eps), adversarial.Epsilon{}
		if c.step != "" {
			s.StepSize = adversarial.MustEpsilon(c.step)
		}
		if c.attack == "pgd" {
			s.AttackSteps = 4
		}
		r := experiment(t, s)
		last := r.Trials[1].Last()
		if size, eps := last.Values["size"], s.Eps.Float64(); size < 0.99*eps {
			t.Errorf("%+v: the largest perturbation is %v of %v", c, size, eps)
		}
		if len(r.Predict) > 2 != r.Settings.plateauApplies() || r.Settings.plateauApplies() {
			t.Errorf("%+v: a plateau is predicted for an attack that it is not derived for", c)
		}
	}
}

func TestEstimate(t *testing.T) {
	e := estimate([]float64{1, 2, 3, 4, 5}, anywhere)
	// mean 3, s = √2.5, t(0.975; 4) = 2.776445
	half := 2.776445 * math.Sqrt(2.5/5)
	if math.Abs(e.Mean-3) > 1e-12 || math.Abs(e.Low-(3-half)) > 1e-5 || math.Abs(e.High-(3+half)) > 1e-5 {
		t.Errorf("%+v, want 3 ± %v", e, half)
	}
	// An accuracy's interval is cut where no mean can be, and one without spread is
	// not printed as one.
	if e := estimate([]float64{0.1, 0.9}, share); e.Low != 0 || e.High != 1 || e.String() != "0.50 [0.00, 1.00]" {
		t.Errorf("%+v, want 0.5 in [0, 1]", e)
	}
	if e := estimate([]float64{1, 1, 1}, share); e.String() != "1.00 in every seed" {
		t.Errorf("%v, want one value in every seed", e)
	}
	if one := estimate([]float64{7}, share); one.Low != 7 || one.High != 7 || one.String() != "7.00" {
		t.Errorf("%+v", one)
	}
}

func TestJitterMoment(t *testing.T) {
	const n = 1000000
	for _, c := range []struct{ j, q float64 }{{0.1, 3}, {0.5, 2}, {0.9, 4}} {
		sum := 0.0
		for i := range n {
			sum += math.Pow(1-c.j+2*c.j*(float64(i)+0.5)/n, c.q)
		}
		if got := jitterMoment(c.j, c.q); math.Abs(got-sum/n) > 1e-6 {
			t.Errorf("E[a^%v] for j = %v: %v, want %v", c.q, c.j, got, sum/n)
		}
	}
	if jitterMoment(0, 3) != 1 {
		t.Error("no jitter, no moment")
	}
}

// TestLearned: what has grown by a factor of two, and is twice the other, is what was
// learned.
func TestLearned(t *testing.T) {
	for _, c := range []struct {
		u, v float64 // at the end; both begin at 1
		want string
	}{{1.9, 1.2, "neither"}, {1.2, 1.9, "neither"}, {4, 1, "robust"}, {1, 4, "non-robust"}, {4, 3, "both"}} {
		r := &Result{Settings: Defaults()}
		reading := func(u, v float64) Reading {
			return Reading{Values: map[string]float64{}, Classes: map[string][]float64{"u_max": {u}, "v_max": {v}}}
		}
		for _, training := range Trainings() {
			r.Trials = append(r.Trials, Trial{Training: training, Readings: []Reading{reading(1, 1), reading(c.u, c.v)}})
		}
		if got := r.learned(Standard).Feature; got != c.want {
			t.Errorf("u %v, v %v: %s, want %s", c.u, c.v, got, c.want)
		}
	}
}

// TestVerdicts: a claim is decided by the mean, and said to be settled if the
// interval agrees.
func TestVerdicts(t *testing.T) {
	for _, c := range []struct {
		values         []float64
		holds, settled bool
	}{
		{[]float64{9, 10, 11}, true, true},
		{[]float64{1, 10, 19}, true, false},
		{[]float64{1, 1.1, 1.2}, false, true},
		{[]float64{2, 4, 6}, false, false},
		{[]float64{9}, true, false},
	} {
		r := &Result{Settings: Defaults()}
		for _, training := range Trainings() {
			for i, v := range c.values {
				// v over u is the statistic of the first claim.
				reading := Reading{Values: map[string]float64{"cos_minus_v": 0, "robust_trained": 0, "acc": 0, "robust_inject_u": 0},
					Classes: map[string][]float64{"u_max": {1}, "v_max": {v}}}
				r.Trials = append(r.Trials, Trial{Seed: uint32(i), Training: training, Readings: []Reading{reading}})
			}
		}
		v := r.verdicts()[0]
		if v.Holds != c.holds || v.Settled != c.settled {
			t.Errorf("%v: holds %v, settled %v", c.values, v.Holds, v.Settled)
		}
	}
}

func TestParseGrid(t *testing.T) {
	g, err := ParseGrid("ratio=4.5:0.5:4.5,eps=1.2")
	if err != nil || len(g.Ratio) != 2 || g.Ratio[0] != 0.5 || len(g.Eps) != 1 {
		t.Errorf("%+v, %v", g, err)
	}
	if g, err = ParseGrid("eps"); err != nil || len(g.Eps) != len(DefaultGrid().Eps) {
		t.Errorf("%+v, %v", g, err)
	}
	many := "ratio=1" + strings.Repeat(":2", 1)
	for i := range 60 {
		many += ":" + strconv.Itoa(i+3)
	}
	for _, bad := range []string{"", "alpha=1", "ratio=", "ratio=0", "ratio=-1", "eps=x", "eps=1,eps=2", "ratio=NaN", "ratio=Inf", many} {
		if g, err := ParseGrid(bad); err == nil || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: %+v, %v", bad, g, err)
		}
	}
}

// TestSweep: a sweep that is interrupted and goes on, its last line torn, ends
// as one that is not.
func TestSweep(t *testing.T) {
	root := t.TempDir()
	set := func(list ...string) (user []job.Assignment) {
		for _, s := range list {
			key, value, _ := strings.Cut(s, "=")
			user = append(user, job.Assignment{Key: key, Value: value, Source: "--set"})
		}
		return user
	}
	o := Options{Root: root, Sweep: "ratio=0.3:1,eps=0.8:1.2", Threads: 2,
		User: set("seeds=2", "steps=4", "test_n=20")}
	run := func(ctx context.Context, o Options) (dir, out string, err error) {
		var stdout bytes.Buffer
		err = Command(ctx, job.Console{Out: &stdout, Err: io.Discard, JSON: true}, o)
		dirs, _ := filepath.Glob(filepath.Join(root, "*-features-sweep*"))
		return dirs[len(dirs)-1], stdout.String(), err
	}
	dir, straight, err := run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	trials := filepath.Join(dir, trialsFile)
	b, err := os.ReadFile(trials)
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.SplitAfter(b, []byte("\n"))
	if len(lines) != 2*2*2*2+1 {
		t.Fatalf("%d trials were kept", len(lines)-1)
	}
	torn := append(bytes.Join(lines[:5], nil), lines[5][:20]...)
	if err := os.WriteFile(trials, torn, 0o666); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, _, err = run(ctx, Options{Root: root, Resume: filepath.Base(dir)})
	var stopped *InterruptedError
	if !errors.As(err, &stopped) || !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "--resume "+dir) {
		t.Fatalf("interrupted: %v", err)
	}
	_, resumed, err := run(t.Context(), Options{Root: root, Resume: dir})
	if err != nil || resumed != straight {
		t.Errorf("resumed: %v\n%s\nstraight:\n%s", err, resumed, straight)
	}
	if _, _, err := run(t.Context(), Options{Root: root, Resume: dir, User: o.User}); err == nil {
		t.Error("settings were changed on resume")
	}
	if svg, err := os.ReadFile(filepath.Join(dir, figuresDir, "features-phase.svg")); err != nil {
		t.Error(err)
	} else {
		wellFormed(t, "phase", svg)
	}
}

// TestCommand: one experiment, its folder, and the same as JSON.
func TestCommand(t *testing.T) {
	root := t.TempDir()
	var out bytes.Buffer
	o := Options{Root: root, User: []job.Assignment{{Key: "steps", Value: "3"}, {Key: "seeds", Value: "2"}, {Key: "test_n", Value: "20"}}}
	if err := Command(t.Context(), job.Console{Out: &out, Err: io.Discard}, o); err != nil {
		t.Fatal(err)
	}
	dirs, _ := filepath.Glob(filepath.Join(root, "*-features"))
	if len(dirs) != 1 {
		t.Fatalf("run folders: %v", dirs)
	}
	for _, want := range []string{"cos(δ, −v_y on J_N)", "[derived]", "does not hold here", dirs[0]} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
	var r Result
	b, err := os.ReadFile(filepath.Join(dirs[0], resultFile))
	if err != nil || json.Unmarshal(b, &r) != nil || len(r.Trials) != 4 || len(r.Claims) != len(claims) {
		t.Errorf("%s: %v", b, err)
	}
	for _, name := range []string{"config.toml", "environment.json"} {
		if _, err := os.Stat(filepath.Join(dirs[0], name)); err != nil {
			t.Error(err)
		}
	}
	page, err := os.ReadFile(filepath.Join(dirs[0], report.File))
	if err != nil || bytes.Count(page, []byte("data:image/svg")) != 3 || bytes.Count(page, []byte("<figcaption>")) != 3 || bytes.Count(page, []byte("The numbers of this figure")) != 3 || !bytes.Contains(page, []byte(filepath.Base(dirs[0]))) {
		t.Errorf("the report lacks figures, captions, tables or its name: %v", err)
	}
	for _, v := range r.Claims {
		row := regexp.QuoteMeta(html.EscapeString(v.Claim)) + `</th><td[^>]*>` + regexp.QuoteMeta(strings.TrimSpace(v.verdict()))
		if !regexp.MustCompile(row).Match(page) {
			t.Errorf("the report lacks the verdict %q", row)
		}
	}
	svgs, _ := filepath.Glob(filepath.Join(dirs[0], figuresDir, "*.svg"))
	if len(svgs) != 3 {
		t.Errorf("figures: %v", svgs)
	}
	for _, svg := range svgs {
		b, err := os.ReadFile(svg)
		if err != nil {
			t.Fatal(err)
		}
		wellFormed(t, svg, b)
	}
}

// wellFormed checks that a figure is XML, has a title first, and no number that
// is none.
func wellFormed(t *testing.T, name string, svg []byte) {
	t.Helper()
	d := xml.NewDecoder(bytes.NewReader(svg))
	var elements []string
	for {
		token, err := d.Token()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if e, ok := token.(xml.StartElement); ok {
			elements = append(elements, e.Name.Local)
			for _, a := range e.Attr {
				if a.Name.Local != "href" && strings.Contains(a.Value, "NaN") {
					t.Errorf("%s: %s has %s = %q", name, e.Name.Local, a.Name.Local, a.Value)
				}
			}
		}
	}
	if named, bare := bytes.Count(svg, []byte("font-family:")), bytes.Count(svg, []byte(",sans-serif;")); named == 0 || named != bare {
		t.Errorf("%s: %d fonts are named, %d with one to fall back on", name, named, bare)
	}
	if len(elements) < 10 || elements[0] != "svg" || elements[1] != "title" {
		t.Errorf("%s: elements %v", name, elements[:min(5, len(elements))])
	}
}
