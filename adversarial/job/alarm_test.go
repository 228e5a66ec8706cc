package job

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"temper/adversarial"
	"temper/adversarial/run"
	"temper/datasets"
	"temper/engine"
	"temper/engine/graph"
)

// realData returns the folder of real data. Without one it skips the test, or
// fails it where TEMPER_REQUIRE lists "data".
func realData(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("TEMPER_DATA")
	if dir == "" {
		if slices.Contains(strings.Split(os.Getenv("TEMPER_REQUIRE"), ","), "data") {
			t.Fatal("TEMPER_REQUIRE lists data, but TEMPER_DATA is not set")
		}
		t.Skip("TEMPER_DATA is not set")
	}
	return dir
}

func TestJudge(t *testing.T) {
	limits := defaultAlarms()
	for _, c := range []struct {
		name string
		r    reading
		want []string
	}{
		{"a healthy network", reading{single: 0.55, multi: 0.48, search: 0.01, surface: 0, predicted: 0.17, labelled: 0.1, robust: 0.5, best: 0.52}, nil},
		{"one step says nothing of ten", reading{single: 0.8, multi: 0.02}, []string{"catastrophic_overfitting"}},
		{"both are low", reading{single: 0.3, multi: 0.02}, nil},
		{"the held-out examples are lost", reading{robust: 0.45, best: 0.53}, []string{"robust_overfitting"}},
		{"the first evaluation", reading{robust: 0.45, best: -1}, nil},
		{"one class of ten", reading{predicted: 1, labelled: 0.1}, []string{"collapse"}},
		{"one class of two", reading{predicted: 0.95, labelled: 0.5}, []string{"collapse"}},
		{"a class that nearly all are of", reading{predicted: 1, labelled: 0.97}, []string{"collapse"}},
		{"a class that all are of", reading{predicted: 1, labelled: 1}, nil},
		{"Square sees more", reading{multi: 0.6, single: 0.6, search: 0.2}, []string{"gradient_masking"}},
		{"blind draws see more", reading{multi: 0.6, single: 0.6, surface: 0.2}, []string{"gradient_masking"}},
	} {
		var got []string
		for _, a := range judge(&c.r, alarms, &limits) {
			got = append(got, a.name)
			if text := a.text(&c.r); text == "" || strings.Contains(text, "NaN") || strings.Contains(text, "%!") {
				t.Errorf("%s: %q", c.name, text)
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

// To stop goes before to go back; to warn does nothing.
func TestDecide(t *testing.T) {
	limits := defaultAlarms()
	holds := alarms[:3]
	if a := decide(holds, &limits); a != nil {
		t.Errorf("%s acts", a.name)
	}
	limits.Catastrophic.Action = actionRollback
	if a := decide(holds, &limits); a == nil || a.name != "catastrophic_overfitting" {
		t.Errorf("%v acts", a)
	}
	limits.Collapse.Action = actionStop
	if a := decide(holds, &limits); a == nil || a.name != "collapse" {
		t.Errorf("%v acts", a)
	}
}

// Each rollback that slows a run down halves its learning rate again.
func TestSlowerRates(t *testing.T) {
	for slower, want := range []float64{1, 0.5, 0.25, 0.125} {
		if h := (history{Slower: slower, Longer: 1}); h.rate() != want {
			t.Errorf("after %d of them the learning rate is × %v, want %v", slower, h.rate(), want)
		}
	}
}

// After a rollback every method has an attack of more steps, and is still one that
// can be built.
func TestLongerAttacks(t *testing.T) {
	want := map[string]string{
		"fgsm-rs": "pgd-at PGD-4 0.05", "n-fgsm": "pgd-at PGD-4 0.05", "free": "pgd-at PGD-4 0.05", // 2.5·ε/4
		"pgd-at": "pgd-at PGD-20 0.02", "trades": "trades PGD-20 0.02", "mart": "mart PGD-20 0.02",
	}
	for method, want := range want {
		s := one(t, "data.name=mnist", "recipe=standard", "threat.eps=0.08", "training.method="+method, "batches.drop_last=true")
		h := history{Longer: 1}
		got := h.training(s.Training, s.Threat)
		title, _, _ := strings.Cut(got.Attack.Describe(s.Threat), ",")
		if is := fmt.Sprintf("%s %s %.4g", got.Method, title, got.Attack.StepSize.Float64()); is != want {
			t.Errorf("%s: %s, want %s", method, is, want)
		}
		if got.Attack.RandomStart != (got.Method == "pgd-at") {
			t.Errorf("%s: random start %v", method, got.Attack.RandomStart)
		}
		h.Longer = 2
		again := h.training(s.Training, s.Threat)
		if again.Attack.Steps != 2*got.Attack.Steps || got.Validate() != nil || again.Validate() != nil {
			t.Errorf("%s: %v, %v; then %d steps", method, got.Validate(), again.Validate(), again.Attack.Steps)
		}
	}
}

func TestAlarmSettings(t *testing.T) {
	for want, assignment := range map[string]string{
		`alarms.collapse: unknown action "wran" (did you mean "warn"?): want off, warn, stop, rollback`: "alarms.collapse.action=wran",
		"alarms.gradient_masking: limit 2: want a share":                                                "alarms.gradient_masking.limit=2",
		"alarms: probe -1, rollbacks 3":                                                                 "alarms.probe=-1",
	} {
		if _, err := Resolve(user(assignment)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one with %q", err, want)
		}
	}
	s := one(t, "data.name=mnist", "alarms.collapse.action=off")
	if got, want := s.describeAlarms(), "probe 100; catastrophic_overfitting warn beyond 0.3, robust_overfitting needs data.held_out, collapse off, gradient_masking warn beyond 0.1"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	s = one(t, "data.name=mnist", "alarms.probe=0")
	if s.describeAlarms() != "none" || len(s.armed()) > 0 {
		t.Errorf("without a probe: %s", s.describeAlarms())
	}
}

// provocations are runs in which the condition of each alarm comes to hold before
// the end.
func provocations(t *testing.T) map[string][]string {
	images := append(stripes(t), "model.name=cifar-small", "model.width=4", "model.hidden=8", "model.blocks=[]", "batches.epochs=6", "eval.every=2")
	return map[string][]string{
		"catastrophic_overfitting": {"training.method=pgd-at", "batches.epochs=20", "eval.every=5"},
		"robust_overfitting":       {"training.method=pgd-at", "data.held_out=20", "data.structured.train_n=60", "optimizer.lr=0.5", "batches.epochs=30", "eval.every=2"},
		"collapse":                 append(images, "threat.eps=0.25", "optimizer.lr=0.5"),
		// Inputs a million times as large saturate the softmax from the start.
		"gradient_masking": append(images, "model.normalize=given", "model.mean=[0.5,0.5,0.5]", "model.std=[1e-6,1e-6,1e-6]", "threat.eps=0.25", "optimizer.lr=1e-9"),
	}
}

// Every alarm can warn, stop the run, and take it back to the last evaluation at
// which it did not hold, from where it goes on otherwise.
func TestEveryAlarmActs(t *testing.T) {
	cases := provocations(t)
	for _, a := range alarms {
		args := slices.Clone(cases[a.name])
		if args == nil {
			t.Fatalf("nothing provokes %s", a.name)
		}
		for _, b := range alarms {
			if !b.is(a) {
				args = append(args, "alarms."+b.name+".action=off")
			}
		}
		end := one(t, args...).Batches.Epochs
		for _, action := range []string{actionWarn, actionStop, actionRollback} {
			t.Run(a.name+" "+action, func(t *testing.T) {
				r := trainedWith(t, append(args, "alarms.rollbacks=1", "alarms."+a.name+".action="+action)...)
				if len(r.Alarms) == 0 || r.Alarms[0].Name != a.name || r.Alarms[0].Action != action || !(r.Alarms[0].Value > 0) {
					t.Fatalf("%+v", r.Alarms)
				}
				first := r.Alarms[0]
				held, epochs := series(t, r.Run, "alarm/"+a.name)
				_, steps := series(t, r.Run, "train/loss")
				last := steps[len(steps)-1] + 1 // epochs that were trained
				switch action {
				case actionWarn:
					begins := 0
					for i, h := range held {
						if h == 1 && (i == 0 || held[i-1] == 0) {
							begins++
						}
					}
					if len(r.Alarms) != begins {
						t.Errorf("told %d times, begins to hold %d times: %v", len(r.Alarms), begins, held)
					}
					if last != end || held[slices.Index(epochs, first.Epoch)] != 1 {
						t.Errorf("it holds %v at %v; the run ends in epoch %d of %d", held, epochs, last, end)
					}
				case actionStop:
					if last != first.Epoch || first.Epoch == end {
						t.Errorf("stopped at epoch %d of %d, the last step is of epoch %d", first.Epoch, end, last)
					}
				case actionRollback:
					change := "learning rate × 0.5"
					if a.change == moreSteps {
						change = "-4, "
					}
					if first.To >= first.Step || !strings.Contains(first.Now, change) {
						t.Errorf("%+v: want %q", first, change)
					}
					if back, _ := series(t, r.Run, "alarm/rollback"); len(back) == 0 || back[0] != 1 {
						t.Errorf("metrics.jsonl has the rollbacks %v", back)
					}
				}
			})
		}
	}
}

// Square has a say in gradient masking in every norm that it knows, where its
// windows have room.
func TestProbes(t *testing.T) {
	for norm, want := range map[string]string{
		"linf": "single multi surface search", "l2": "single multi surface search", "l1": "single multi surface search", "patch-l2": "single multi surface",
	} {
		s := one(t, "data.name=mnist", "recipe=fast-at", "training.attack.free_start=false", "threat.norm="+norm)
		for side, want := range map[int]string{28: want, 4: map[bool]string{true: want, false: "single multi surface"}[norm == "linf"]} {
			var names []string
			for _, p := range s.probes(graph.Shape{1, side, side}) {
				names = append(names, p.name)
			}
			if got := strings.Join(names, " "); got != want {
				t.Errorf("%s, side %d: %s, want %s", norm, side, got, want)
			}
		}
	}
	s := one(t, "data.name=mnist", "training.method=standard")
	if p := s.probes(graph.Shape{1, 28, 28}); len(p) != 1 {
		t.Errorf("standard training: %v", p)
	}
}

// A run that overfits to its one step on real digits at a large ε is told, goes
// back, and goes on with more steps: the network then stands ten.
func TestCatastrophicOverfitting(t *testing.T) {
	args := []string{"data.name=mnist", "data.dir=" + realData(t), "data.limit=1500", "batches.epochs=7", "batches.size=50", "eval.limit=100", "eval.attack.steps=10", "eval.attack.step_size=0.075",
		"training.attack.free_start=false", "threat.eps=0.3", "alarms.gradient_masking.action=off"}
	warned := trainedWith(t, args...)
	if !slices.ContainsFunc(warned.Alarms, func(e Event) bool { return e.Name == "catastrophic_overfitting" && e.Action == "warn" }) {
		t.Fatalf("no alarm: %+v", warned.Alarms)
	}
	back := trainedWith(t, append(args, "alarms.catastrophic_overfitting.action=rollback")...)
	e := back.Alarms[slices.IndexFunc(back.Alarms, func(e Event) bool { return e.Action == "rollback" })]
	if e.To >= e.Step || e.Value <= 0.3 || e.Now != "PGD-4, L∞ 0.3, step 0.1875, loss ce" {
		t.Errorf("%+v", e)
	}
	if !(back.Robust.Value > warned.Robust.Value+0.1) {
		t.Errorf("robust %v after going back, %v without", back.Robust, warned.Robust)
	}
	if n, _ := series(t, back.Run, "alarm/rollback"); len(n) == 0 || n[0] != 1 {
		t.Errorf("metrics.jsonl has the rollbacks %v", n)
	}
	if from, _ := series(t, back.Run, "alarm/rollback_from"); len(from) == 0 || int(from[0]) != e.Step {
		t.Errorf("metrics.jsonl goes back from %v", from)
	}
}

// An alarm that may roll back goes so often and then stops the run; each time the
// attack has twice as many steps, and the checkpoint knows.
func TestRollbacksEnd(t *testing.T) {
	r := trainedWith(t, "training.method=pgd-at", "batches.epochs=20", "eval.every=10", "alarms.rollbacks=2", "alarms.catastrophic_overfitting.action=rollback")
	var actions, now []string
	for _, e := range r.Alarms {
		actions, now = append(actions, e.Action), append(now, e.Now)
	}
	if diff := cmp.Diff([]string{"rollback", "rollback", "stop"}, actions); diff != "" || r.Epoch != 10 {
		t.Errorf("epoch %d: %s", r.Epoch, diff)
	}
	if !strings.HasPrefix(now[0], "Gradient ascent-4,") || !strings.HasPrefix(now[1], "Gradient ascent-8,") || now[2] != "" {
		t.Errorf("now %v", now)
	}
	ck, err := run.LatestCheckpoint(r.Run)
	if err != nil || !strings.Contains(ck.Meta[metaAlarms], `"longer":2`) {
		t.Errorf("checkpoint metadata %v, %v", ck.Meta, err)
	}
	// It is over: to resume does nothing but to measure.
	before, _ := series(t, r.Run, "train/loss")
	if _, err := resume(context.Background(), Console{io.Discard, io.Discard, false}, r.Run, "", nil); err != nil {
		t.Fatal(err)
	}
	if after, _ := series(t, r.Run, "train/loss"); len(before) != 10 || len(after) != 10 {
		t.Errorf("%d steps, after resuming %d", len(before), len(after))
	}
}

// Robust overfitting ends a run where the held-out examples say so.
func TestRobustOverfitting(t *testing.T) {
	args := append(provocations(t)["robust_overfitting"], "checkpoint.choice=best")
	free := trainedWith(t, args...)
	robust, epochs := series(t, free.Run, "held-out/robust")
	end, best := 0, robust[0]
	for i, v := range robust {
		if best = max(best, v); best-v > 0.05 {
			end = epochs[i]
			break
		}
	}
	stopped := trainedWith(t, append(args, "alarms.robust_overfitting.action=stop")...)
	_, did := series(t, stopped.Run, "held-out/robust")
	if len(stopped.Alarms) != 1 || stopped.Alarms[0].Name != "robust_overfitting" || stopped.Alarms[0].Epoch != end || end == 0 || end == 30 || did[len(did)-1] != end {
		t.Errorf("%+v, want to stop at epoch %d", stopped.Alarms, end)
	}
	if stopped.Epoch >= end {
		t.Errorf("the best checkpoint is of epoch %d", stopped.Epoch)
	}
}

// A network that says the same of everything is told, and a rollback then halves
// the learning rate.
func TestCollapse(t *testing.T) {
	args := append(stripes(t), "model.name=cifar-small", "model.width=4", "model.hidden=8", "model.blocks=[]", "threat.eps=0.25", "optimizer.lr=0.5",
		"batches.epochs=10", "eval.every=5", "alarms.collapse.action=rollback", "alarms.rollbacks=1")
	r := trainedWith(t, args...)
	i := slices.IndexFunc(r.Alarms, func(e Event) bool { return e.Name == "collapse" })
	if i < 0 || r.Alarms[i].Now != "learning rate × 0.5" || r.Alarms[i].To != 0 {
		t.Fatalf("%+v", r.Alarms)
	}
	rate, _ := series(t, r.Run, "train/lr")
	usual, _ := series(t, trainedWith(t, append(args, "alarms.probe=0")...).Run, "train/lr")
	for i := range usual[:len(rate)] {
		if rate[i] != usual[i]/2 {
			t.Errorf("learning rates %v, without alarms %v", rate, usual)
			break
		}
	}
}

// looped is a trainer that has trained.
func looped(t *testing.T, s *Settings) *trainer {
	t.Helper()
	tr, err := newTrainer(Console{io.Discard, io.Discard, false}, s, "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tr.close)
	dir := t.TempDir()
	if tr.run, err = run.Create(dir); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tr.run.Close() })
	if tr.metrics, err = run.OpenMetrics(dir); err != nil {
		t.Fatal(err)
	}
	if err := tr.initialize(); err != nil {
		t.Fatal(err)
	}
	if err := tr.loop(context.Background()); err != nil {
		t.Fatal(err)
	}
	return tr
}

// Weights that saturate the softmax leave PGD no gradient where the network is
// right: searches without gradients see more than PGD does.
func TestGradientMasking(t *testing.T) {
	s := one(t, append(stripes(t), "device=cpu", "batches.epochs=8", "threat.eps=16/255")...)
	tr := looped(t, &s)
	masked := func() bool {
		var r reading
		if err := tr.prober.read(context.Background(), &r, 1); err != nil {
			t.Fatal(err)
		}
		t.Logf("%+v", r)
		return slices.ContainsFunc(judge(&r, s.armed(), &s.Alarms), func(a alarm) bool { return a.name == "gradient_masking" })
	}
	if masked() {
		t.Error("the network as it was trained is said to mask gradients")
	}
	for _, name := range []string{"linear.weight", "linear.bias"} {
		b, err := tr.state.Bytes(name)
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(b); i += 4 {
			v := math.Float32frombits(binary.LittleEndian.Uint32(b[i:]))
			binary.LittleEndian.PutUint32(b[i:], math.Float32bits(v*1e5))
		}
		if err := tr.state.SetBytes(name, b); err != nil {
			t.Fatal(err)
		}
	}
	if !masked() {
		t.Error("a network without gradients is not said to mask them")
	}
}

// A run that is resumed from before its good checkpoint goes back, if it must, to
// where it was resumed, not forwards.
func TestGoodIsNotAhead(t *testing.T) {
	r := trainedWith(t, "training.method=pgd-at", "batches.epochs=30", "eval.every=10", "checkpoint.every=5", "checkpoint.keep=0", "alarms.collapse.action=rollback")
	good, err := run.LoadCheckpoint(r.Run, run.GoodCheckpoint)
	if err != nil || good.Step != 30 {
		t.Fatalf("good checkpoint %+v, %v", good, err)
	}
	canceled, cancel := context.WithCancel(context.Background())
	cancel()
	var stopped *InterruptedError
	if _, err := resume(canceled, Console{io.Discard, io.Discard, false}, r.Run, "step-00000005", nil); !errors.As(err, &stopped) || stopped.Step != 5 {
		t.Fatal(err)
	}
	if good, err = run.LoadCheckpoint(r.Run, run.GoodCheckpoint); err != nil || good.Step != 5 {
		t.Errorf("good checkpoint of step %d, %v", good.Step, err)
	}
}

// While ε warms up, the alarms attack with what it has come to.
func TestProbesWarmUp(t *testing.T) {
	s := one(t, append(stripes(t), "device=cpu", "batches.epochs=2", "threat.eps=16/255", "training.eps_warmup=4")...)
	tr := looped(t, &s)
	for name, e := range tr.prober.evals {
		if got, want := e.at.Epsilon.Float64(), 8./255; math.Abs(got-want) > 1e-12 {
			t.Errorf("%s: after two of four epochs ε is %v, want %v", name, got, want)
		}
	}
}

// Nor is it one at which an alarm held, if an earlier one was kept.
func TestGoodHasNoAlarm(t *testing.T) {
	s := one(t, "device=cpu", "batches.epochs=3", "checkpoint.keep=0", "alarms.collapse.action=rollback")
	tr := looped(t, &s)
	end := int64(tr.step)
	for _, c := range []struct {
		holds []string
		want  int64
	}{{[]string{"collapse"}, end}, {[]string{"gradient_masking"}, end}, {nil, end + 3}} {
		tr.step++
		tr.history.Holds = c.holds
		ahead, err := tr.checkpoint()
		if err != nil {
			t.Fatal(err)
		}
		ahead.Step = end + 100
		if err := errors.Join(tr.save(), run.SaveNamed(tr.run.Dir, run.GoodCheckpoint, ahead), tr.freshenGood()); err != nil {
			t.Fatal(err)
		}
		if good, err := run.LoadCheckpoint(tr.run.Dir, run.GoodCheckpoint); err != nil || good.Step != c.want {
			t.Errorf("resumed at step %d, where %v hold: good is step %d, want %d; %v", tr.step, c.holds, good.Step, c.want, err)
		}
	}
}

// A best checkpoint of the part that a run has gone back over gives way to the next
// evaluation; an earlier one counts on.
func TestBestIsNotAbandoned(t *testing.T) {
	s := one(t, append(stripes(t), "device=cpu", "batches.epochs=2", "threat.eps=16/255", "data.held_out=20", "checkpoint.choice=best", "alarms.gradient_masking.action=rollback", "alarms.gradient_masking.limit=0.99")...)
	tr := looped(t, &s)
	end, best := tr.step, tr.best
	for _, test := range []struct {
		ahead int
		want  float64
	}{{0, best}, {1, -1}} {
		tr.history.Holds = nil
		if err := tr.keepGood(); err != nil {
			t.Fatal(err)
		}
		tr.step, tr.best = end+test.ahead, best
		ck, err := tr.checkpoint()
		if err == nil {
			err = run.SaveNamed(tr.run.Dir, run.BestCheckpoint, ck)
		}
		tr.history.Events = append(tr.history.Events, Event{Name: "gradient_masking", Action: actionRollback})
		tr.history.Holds = []string{"gradient_masking"}
		if err = errors.Join(err, tr.rollBack(tr.history.goesBack())); err != nil {
			t.Fatal(err)
		}
		if len(tr.history.Holds) > 0 {
			t.Errorf("back where no alarm held, %v hold", tr.history.Holds)
		}
		if tr.step != end || tr.best != test.want {
			t.Errorf("the best checkpoint %d steps behind the good one: at step %d the best is %v, want %v", test.ahead, tr.step, tr.best, test.want)
		}
	}
}

// Each rollback that lowers the learning rate halves it.
func TestSlower(t *testing.T) {
	for n, want := range []float64{1, 0.5, 0.25, 0.125} {
		if got := (&history{Slower: n}).rate(); got != want {
			t.Errorf("after %d rollbacks the learning rate is multiplied by %v, want %v", n, got, want)
		}
	}
}

// An alarm that warns is told when its condition begins to hold, not at every
// evaluation at which it does; what it sees is in the metrics each time.
func TestToldOnce(t *testing.T) {
	r := trainedWith(t, "training.method=pgd-at", "batches.epochs=40", "eval.every=10", "optimizer.lr=1e-6", "alarms.collapse.limit=0.01", "alarms.catastrophic_overfitting.action=off")
	held, _ := series(t, r.Run, "alarm/collapse")
	if !slices.Equal(held, []float64{1, 1, 1, 1}) {
		t.Fatalf("the condition holds %v: want all the time", held)
	}
	told := 0
	for _, e := range r.Alarms {
		if e.Name == "collapse" {
			told++
		}
	}
	if told != 1 {
		t.Errorf("it is told %d times: %+v", told, r.Alarms)
	}
}

// Draws count as stronger than gradients where their loss is larger by more than
// rounding.
func TestSurfaceTolerance(t *testing.T) {
	dev := device(t)
	state := dev.NewState()
	defer state.Free()
	set, err := datasets.NewSet(datasets.Info{Name: "two", DType: datasets.Float32, Channels: 1, Height: 1, Width: 1, Classes: make([]string, 2)},
		datasets.Values{F32: make([]float32, 4)}, []int32{0, 0, 1, 1})
	if err != nil {
		t.Fatal(err)
	}
	p := &prober{examples: set, evals: map[string]*evaluator{}, order: []string{"single", "multi", "surface"}}
	threat := adversarial.ThreatModel{Norm: adversarial.Linf, Epsilon: adversarial.MustEpsilon("0.1"), Domain: adversarial.Unit}
	for name, losses := range map[string][]float64{"single": {1, 1, 1, 1}, "multi": {1, 1, 1, 1}, "surface": {1.0005, 0.5, 1.01, 1}} {
		e := &evaluator{threat: threat, attack: adversarial.Attack{Name: "pgd"}, batch: 4}
		e.program = dev.NewProgram(state, func(n int) (*graph.Graph, error) {
			g := graph.New(name)
			x, y := g.Input("x", graph.F32, n, 1, 1, 1), g.Input("y", graph.I32, n)
			g.Input("ids", graph.U32, n)
			g.Scalar("eps", graph.F32)
			g.Scalar("alpha", graph.F32)
			g.Output("clean_pred", y.AddC(0))
			g.Output("adv_pred", y.AddC(0))
			g.Output("norm", x.Reshape(n))
			g.Output("adv_loss", g.Const(graph.F32, losses, n))
			g.Output("x_adv", x)
			return g, g.Err()
		}, engine.Options{})
		defer e.close()
		p.evals[name] = e
	}
	r := &reading{}
	if err := p.read(context.Background(), r, 1); err != nil || r.surface != 0.25 || r.multi != 1 || r.predicted != 0.5 {
		t.Errorf("%+v, %v: want a surface of 0.25", r, err)
	}
}
