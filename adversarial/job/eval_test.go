package job

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
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
)

func TestBucket(t *testing.T) {
	for _, c := range []struct{ n, full, want int }{
		{200, 200, 200}, {101, 200, 200}, {100, 200, 100}, {51, 200, 100}, {13, 200, 25}, {12, 200, 12}, {9, 200, 12}, {1, 200, 12},
		{1, 64, 8}, {8, 64, 8}, {9, 64, 16}, {3, 5, 5}, {1, 1, 1}, {7, 15, 15},
	} {
		if got := bucket(c.n, c.full); got != c.want {
			t.Errorf("%d of %d go to a batch of %d, want %d", c.n, c.full, got, c.want)
		}
	}
}

// trained is the folder of a small trained network.
func trained(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	quiet := Console{Out: &bytes.Buffer{}, Err: &bytes.Buffer{}}
	must := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	list, err := Resolve(user("training.method=standard", "batches.epochs=20", "device=cpu", "data.structured.test_n=60"))
	must(err)
	must(trainAll(context.Background(), quiet, list, root))
	return root
}

// evaluate is temper eval --json of the newest run.
func evaluate(t *testing.T, ctx context.Context, root string, assignments ...string) (*Evaluation, error) {
	t.Helper()
	out := &bytes.Buffer{}
	err := Eval(ctx, Console{Out: out, Err: &bytes.Buffer{}, JSON: true}, EvalOptions{Root: root, Run: Latest, User: user(assignments...)})
	if err != nil {
		return nil, err
	}
	r := &Evaluation{}
	if err := json.Unmarshal(out.Bytes(), r); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return r, nil
}

var linf = []string{"threat.norm=linf", "threat.eps=0.08"}

// Survivors are worked on in smaller and smaller batches, filled up with rows
// that are ignored: the numbers are those of any other batch size.
func TestBatchesDoNotMatter(t *testing.T) {
	root := trained(t)
	var first *Evaluation
	for _, size := range []int{16, 9} {
		r, err := evaluate(t, context.Background(), root, slices.Concat(linf, []string{"attack.name=autoattack,pgd,random-uniform", "limit=16", "batch_size=" + fmt.Sprint(size)})...)
		if err != nil {
			t.Fatal(err)
		}
		if first == nil {
			first = r
			if r.N != 16 || r.Robust == 0 || r.Robust == r.Clean {
				t.Fatalf("%d of %d: a test that proves little", r.Robust, r.Clean)
			}
			if len(r.Attacks) != 3 || len(r.Attacks[0].Stages) != 4 || r.Attacks[0].Robust != r.Attacks[0].Stages[3].Robust {
				t.Errorf("attacks %+v", r.Attacks)
			}
			for i, s := range r.Attacks[0].Stages {
				if i > 0 && s.Robust > r.Attacks[0].Stages[i-1].Robust {
					t.Errorf("more stand after stage %d than before", i)
				}
			}
			for _, a := range r.Attacks {
				if r.Robust > a.Robust {
					t.Errorf("the worst case, %d, is more than %d under %s", r.Robust, a.Robust, a.Attack)
				}
			}
			if r.Attacks[0].Robust > r.Attacks[1].Robust {
				t.Errorf("autoattack leaves %d, pgd %d", r.Attacks[0].Robust, r.Attacks[1].Robust)
			}
			continue
		}
		if diff := cmp.Diff(first, r, cmpopts.IgnoreFields(Evaluation{}, "Date", "Settings", "Seconds"), cmpopts.EquateApprox(1e-4, 1e-6)); diff != "" {
			t.Errorf("batches of %d:\n%s", size, diff)
		}
	}
}

// TestDataElsewhere: a run that was copied finds the data where this machine has
// them, and one whose folder is there keeps to it.
func TestDataElsewhere(t *testing.T) {
	here := t.TempDir()
	t.Setenv("TEMPER_DATA", here)
	for dir, want := range map[string]string{filepath.Join(here, "gone"): here, filepath.Dir(here): filepath.Dir(here)} {
		s := Defaults()
		s.Data.Dir = dir
		if s.findData(); s.Data.Dir != want {
			t.Errorf("%s: the data are looked for in %s, want %s", dir, s.Data.Dir, want)
		}
	}
}

// TestSplitNPZ: the examples of one network's attack, saved and given to another
// one, or to itself: what the attack said of them is what the evaluation counts. A
// file that has changed is not gone on with.
func TestSplitNPZ(t *testing.T) {
	args := stripes(t)
	r := trainedWith(t, append(args, "training.method=standard", "batches.epochs=12")...)
	file := filepath.Join(t.TempDir(), "adv.npz")
	attack := EvalOptions{Run: r.Run, Save: file, User: user("attack.name=pgd", "threat.eps=30/255", "seed=3")}
	if err := Attack(context.Background(), silent, attack); err != nil {
		t.Fatal(err)
	}
	e, err := prepare(silent, EvalOptions{Run: r.Run, User: user("split=npz:"+file, "attack.name=fgsm")})
	if err != nil {
		t.Fatal(err)
	}
	defer e.close()
	if _, set, ok := strings.Cut(e.describeExamples(), " "); !ok || !strings.HasPrefix(set, "examples of adv.npz (x_adv), SHA-256 ") {
		t.Errorf("it evaluates %s", e.describeExamples())
	}
	before := e.logPath(false)
	saved, err := prepare(silent, EvalOptions{Run: r.Run, User: attack.User})
	if err != nil {
		t.Fatal(err)
	}
	defer saved.close()
	under, err := saved.measure(context.Background(), silent, nil)
	if err != nil {
		t.Fatal(err)
	}
	on, err := e.measure(context.Background(), silent, nil)
	if err != nil {
		t.Fatal(err)
	}
	if on.Clean != under.Robust || on.N != under.N || under.Robust == under.Clean {
		t.Errorf("on the attacked examples %d of %d are right; the attack left %d of %d", on.Clean, on.N, under.Robust, under.Clean)
	}

	attack.User = user("attack.name=pgd", "threat.eps=30/255", "seed=4")
	if err := Attack(context.Background(), silent, attack); err != nil {
		t.Fatal(err)
	}
	changed, err := prepare(silent, EvalOptions{Run: r.Run, User: user("split=npz:"+file, "attack.name=fgsm")})
	if err != nil {
		t.Fatal(err)
	}
	defer changed.close()
	if changed.logPath(false) == before {
		t.Error("an evaluation goes on with a file that has changed")
	}
	for want, assignments := range map[string][]string{
		"split_sha256 is for --split npz:FILE":    {"split_sha256=00"},
		", not 00: it has changed, or is another": {"split=npz:" + file, "split_sha256=00"},
		"no such file or directory":               {"split=npz:" + file + "x"},
		"names no file":                           {"split=npz:"},
		`want test, train, held-out or npz:FILE`:  {"split=npy:x"},
	} {
		if _, err := prepare(silent, EvalOptions{Run: r.Run, User: user(assignments...)}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: error %v, want one with %q", assignments, err, want)
		}
	}
}

// TestOwnDataDomain: images lie in [0,1], in training and in evaluation, unless the
// threat model says that they have no bounds.
func TestOwnDataDomain(t *testing.T) {
	write := func(top float32) string {
		x := make([]float32, 8*16)
		for i := range x {
			x[i] = float32(i%5) / 5
		}
		x[20] = top
		image, label := datasets.Array{Shape: []int{8, 1, 4, 4}, Data: x}, datasets.Array{Shape: []int{8}, Data: []int32{0, 1, 0, 1, 0, 1, 0, 1}}
		file := filepath.Join(t.TempDir(), "own.npz")
		if err := datasets.SaveNPZ(file, datasets.NamedArray{Name: "x_train", Array: image}, datasets.NamedArray{Name: "y_train", Array: label},
			datasets.NamedArray{Name: "x_test", Array: image}, datasets.NamedArray{Name: "y_test", Array: label}); err != nil {
			t.Fatal(err)
		}
		return file
	}
	good, bad := write(1), write(255)
	args := []string{"model.name=cifar-small", "model.width=2", "model.hidden=2", "training.method=standard", "batches.epochs=1", "threat.eps=0.1", "device=cpu", "threads=1"}
	const want = "element [1 0 1 0] is 255: float32 images lie in [0,1]"
	s := one(t, append(args, "data.name="+ownData+bad)...)
	if _, err := newTrainer(silent, &s, ""); err == nil || !strings.Contains(err.Error(), bad+": x_train: "+want) {
		t.Errorf("training: %v", err)
	}
	s = one(t, append(args, "data.name="+ownData+bad, "threat.domain=unbounded")...)
	if tr, err := newTrainer(silent, &s, ""); err != nil {
		t.Errorf("training without bounds: %v", err)
	} else {
		tr.close()
	}
	r := trainedWith(t, append(args, "data.name="+ownData+good)...)
	if _, err := prepare(silent, EvalOptions{Run: r.Run, User: user("split=" + ownData + bad)}); err == nil || !strings.Contains(err.Error(), bad+": x_test: "+want) {
		t.Errorf("evaluation: %v", err)
	}
}

// TestOwnDataChanged: own data are known by their SHA-256, and found from
// anywhere; a run notices that they have changed.
func TestOwnDataChanged(t *testing.T) {
	args := stripes(t)
	file := strings.TrimPrefix(args[0], "data.name="+ownData)
	t.Chdir(filepath.Dir(file))
	s := one(t, append(args, "data.name=npz:"+filepath.Base(file))...)
	sum, err := fileSHA256(file)
	if err != nil {
		t.Fatal(err)
	}
	if s.Data.SHA256 != sum || s.Data.Name != ownData+file {
		t.Errorf("data %+v, want %s with %s", s.Data, file, sum)
	}
	moved := s
	moved.Data.Name = ownData + "/elsewhere.npz"
	other := s
	other.Data.SHA256 = strings.Repeat("0", 64)
	if moved.hash() != s.hash() || other.hash() == s.hash() {
		t.Error("the file's content decides the run, its place does not")
	}
	r := trainedWith(t, append(args, "batches.epochs=1")...)
	changed, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, append(changed, 0), 0o666); err != nil {
		t.Fatal(err)
	}
	_, evalError := prepare(silent, EvalOptions{Run: r.Run})
	_, resumeError := resume(context.Background(), silent, r.Run, "", nil)
	_, newError := Resolve(user(append(args, "data.sha256="+sum)...))
	for what, err := range map[string]error{"eval": evalError, "resume": resumeError, "train": newError} {
		if err == nil || !strings.Contains(err.Error(), file) || !strings.Contains(err.Error(), sum) || !strings.Contains(err.Error(), "it has changed, or is another file") {
			t.Errorf("%s of a file that has changed: %v", what, err)
		}
	}
	if _, err := Resolve(user("data.sha256=" + sum)); err == nil || !strings.Contains(err.Error(), "data.sha256 is for own data, npz:FILE, not for structured") {
		t.Errorf("a sum of structured data: %v", err)
	}
}

// An interrupted evaluation goes on after its last finished round, to the same
// result; other settings begin again.
func TestEvalResumes(t *testing.T) {
	root := trained(t)
	args := slices.Concat(linf, []string{"attack.name=apgd-ce,square", "attack.steps=250", "batch_size=20"})
	straight, err := evaluate(t, context.Background(), root, args...)
	if err != nil {
		t.Fatal(err)
	}
	ctx := &afterCalls{Context: context.Background(), n: 6} // in the second batch: a batch has a call a round, 1 and 3
	if _, err := evaluate(t, ctx, root, args...); !errors.As(err, new(*InterruptedError)) {
		t.Fatalf("not interrupted: %v", err)
	}
	logs := func() []string {
		list, err := filepath.Glob(filepath.Join(root, "latest", evaluations, "unfinished-*.json"))
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	if len(logs()) != 1 {
		t.Fatalf("logs %v", logs())
	}
	kept, err := os.ReadFile(logs()[0])
	if err != nil {
		t.Fatal(err)
	}
	if _, err := evaluate(t, &afterCalls{Context: context.Background(), n: 6}, root, append(args, "seed=1")...); err == nil || len(logs()) != 2 {
		t.Errorf("other settings: %v, logs %v", err, logs())
	}
	stderr := &bytes.Buffer{}
	o := EvalOptions{Root: root, Run: Latest, User: user(args...)}
	out := &bytes.Buffer{}
	if err := Eval(context.Background(), Console{Out: out, Err: stderr, JSON: true}, o); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(stderr.String(), "going on after 20 of 60 examples and 2 of 4 rounds on the next 20, which an interrupted evaluation") {
		t.Errorf("stderr %q", stderr)
	}
	resumed := &Evaluation{}
	if err := json.Unmarshal(out.Bytes(), resumed); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(straight, resumed, cmpopts.IgnoreFields(Evaluation{}, "Date", "Seconds")); diff != "" {
		t.Error(diff)
	}
	path := filepath.Join(root, "latest", evaluations, filepath.Base((&evaluation{}).pathOf(t, root, args)))
	broken := func(change func(l *evalLog)) string {
		l := &evalLog{}
		if err := json.Unmarshal(kept, l); err != nil {
			t.Fatal(err)
		}
		change(l)
		b, err := json.Marshal(l)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	for name, content := range map[string]string{
		"cut off": string(kept[:len(kept)/2]), "of other attacks": `{"batches":[{"labels":[0],"clean":[0],"fates":[]}]}`,
		"too many batches": broken(func(l *evalLog) { l.Batches = slices.Repeat(l.Batches, 4) }),
		"a batch too many": broken(func(l *evalLog) { l.Batches = slices.Repeat(l.Batches, 3) }),
		"no such round":    broken(func(l *evalLog) { l.Underway.Round = 3 }),
		"no such attack":   broken(func(l *evalLog) { l.Underway.Plan = 2 }),
		"no such stage":    broken(func(l *evalLog) { l.Underway.Stage = 1 }),
		"images missing":   broken(func(l *evalLog) { l.Underway.X = l.Underway.X[1:] }),
		"first missing":    broken(func(l *evalLog) { l.Underway.First = nil }),
		"half an element":  strings.Replace(string(kept), `"x":"`, `"x":"AAAA`, 1),
		"fates missing":    broken(func(l *evalLog) { l.Underway.Verdict.Fates = l.Underway.Verdict.Fates[:1] }),
	} {
		if err := os.WriteFile(path, []byte(content), 0o666); err != nil {
			t.Fatal(err)
		}
		if _, err := evaluate(t, context.Background(), root, args...); err == nil || !strings.Contains(err.Error(), "delete it to begin again") {
			t.Errorf("a log %s: %v", name, err)
		}
	}
}

// An evaluation that is interrupted after every few rounds comes to the same
// result, whatever the round is of: a restart, a search's queries, a suite's attack.
func TestEvalResumesAnywhere(t *testing.T) {
	root := trained(t)
	args := slices.Concat(linf, []string{"attack.name=autoattack,pgd", "limit=16", "batch_size=9"})
	straight, err := evaluate(t, context.Background(), root, args...)
	if err != nil {
		t.Fatal(err)
	}
	if straight.Robust == 0 || straight.Robust == straight.Clean {
		t.Fatalf("%d of %d: a test that proves little", straight.Robust, straight.Clean)
	}
	for stops := 0; ; stops++ {
		resumed, err := evaluate(t, &afterCalls{Context: context.Background(), n: 11}, root, args...)
		if errors.As(err, new(*InterruptedError)) && stops < 1000 {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if stops < 8 { // Square alone has 50 rounds a batch
			t.Errorf("interrupted %d times only", stops)
		}
		if diff := cmp.Diff(straight, resumed, cmpopts.IgnoreFields(Evaluation{}, "Date", "Seconds")); diff != "" {
			t.Error(diff)
		}
		return
	}
}

// Of several radii, those that are measured are not measured again after an
// interrupt: their results are taken as they were written.
func TestEvalResumesRadii(t *testing.T) {
	root := trained(t)
	o := EvalOptions{Root: root, Run: Latest, User: user("threat.norm=linf", "threat.eps=0.02,0.08", "attack.name=pgd", "attack.restarts=2", "batch_size=20")}
	written := func() (list []string) {
		files, err := filepath.Glob(filepath.Join(root, "latest", evaluations, "*.json"))
		if err != nil {
			t.Fatal(err)
		}
		files = slices.DeleteFunc(files, func(f string) bool { return filepath.Base(f) == "training.json" })
		for _, f := range files {
			b, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, filepath.Base(f)+": "+string(b))
		}
		return list
	}
	quiet := Console{Out: &bytes.Buffer{}, Err: &bytes.Buffer{}}
	stopped := &afterCalls{Context: context.Background(), n: 6 + 3} // in the second radius: each has 3 batches of 2 rounds
	if err := Eval(stopped, quiet, o); !errors.As(err, new(*InterruptedError)) {
		t.Fatalf("not interrupted: %v", err)
	}
	first := written()
	if len(first) != 3 || strings.HasPrefix(first[0], "unfinished") { // a result and two logs
		t.Fatalf("%d files: %.40q", len(first), first)
	}
	stderr, out := &bytes.Buffer{}, &bytes.Buffer{}
	if err := Eval(context.Background(), Console{Out: out, Err: stderr}, o); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"measured already, before an interrupt: ", "going on after 20 of 60 examples and 1 of 2 rounds on the next 20,"} {
		if !strings.Contains(stderr.String(), want) {
			t.Errorf("%q is not in %s", want, stderr)
		}
	}
	second := written()
	if len(second) != 2 || !slices.Contains(second, first[0]) || slices.ContainsFunc(second, func(s string) bool { return strings.HasPrefix(s, "unfinished") }) {
		t.Errorf("%d files: %.40q, was %.40q", len(second), second, first)
	}
	straight := &bytes.Buffer{}
	if err := Eval(context.Background(), Console{Out: straight, Err: &bytes.Buffer{}}, o); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(straight.String(), out.String()); diff != "" {
		t.Errorf("it prints something else: %s", diff)
	}
}

// pathOf is the log of an evaluation with these settings.
func (*evaluation) pathOf(t *testing.T, root string, args []string) string {
	t.Helper()
	e, err := prepare(Console{}, EvalOptions{Root: root, Run: Latest, User: user(args...)})
	if err != nil {
		t.Fatal(err)
	}
	defer e.close()
	return e.logPath(false)
}

// afterCalls is a context that ends after its error was asked for n times.
type afterCalls struct {
	context.Context
	n int
}

func (c *afterCalls) Err() error {
	if c.n--; c.n < 0 {
		return context.Canceled
	}
	return nil
}

func TestEvalSettings(t *testing.T) {
	s := one(t)
	list, err := evalSettings(&s, user("attack.name=pgd, apgd-t", "threat.norm=l2", "threat.eps=0.5,1", "attack.steps=7"))
	if err != nil || len(list) != 2 {
		t.Fatalf("%d, %v", len(list), err)
	}
	if got, want := list[1].describe(), "PGD-7, L2 1, step 5/14, loss ce; APGD-T-7, L2 1, 9 targets"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if list, err = evalSettings(&s, nil); err != nil || len(list) != 1 || list[0].Attack != s.Eval.Attack.Resolve(s.Threat) {
		t.Errorf("the run's own: %+v, %v", list, err)
	}
	digits := one(t, "data.name=mnist")
	for want, assignments := range map[string][]string{
		"PGD-20, L∞ 0.3, step 0.02, loss ce": nil,
		"PGD-20, L∞ 0.6, step 0.02, loss ce": {"threat.eps=0.6"},
		"PGD-20, L2 2, step 0.25, loss ce":   {"threat.norm=l2", "threat.eps=2"}, // a step of another norm says nothing
		"PGD-20, L2 2, step 0.02, loss ce":   {"threat.norm=l2", "threat.eps=2", "attack.step_size=0.02"},
	} {
		list, err := evalSettings(&digits, user(assignments...))
		if err != nil || list[0].describe() != want {
			t.Errorf("%v: %+v, %v, want %q", assignments, list, err, want)
		}
		short := list[0].Threat.Epsilon.Float64() > 20*list[0].Attack.StepSize.Float64()
		if w := shortSteps(list[0]); short != (len(w) == 1 && w[0].Name == "short-steps") {
			t.Errorf("%s: %v", want, w)
		}
	}
	for _, name := range append(adversarial.AttackNames(), "autoattack") {
		list, err := evalSettings(&digits, user("attack.name="+name, "threat.norm="+map[bool]string{true: "l2", false: "linf"}[name == "cw-l2"]))
		if err != nil {
			t.Fatal(err)
		}
		if w := shortSteps(list[0]); len(w) > 0 {
			t.Errorf("%s as it is known: %v", name, w)
		}
	}
	s.Precision = "bf16"
	for want, assignments := range map[string][]string{"float32": nil, "tf32": {"attack.name=apgd-ce", "threat.norm=linf", "precision=tf32"}} {
		if list, err = evalSettings(&s, user(assignments...)); err != nil || list[0].Precision != want {
			t.Errorf("the run's precision is bf16, the evaluation's %+v, want %s: %v", list, want, err)
		}
	}
	for want, assignments := range map[string][]string{
		`unknown attack "autoattak" (did you mean "autoattack"?)`:        {"attack.name=autoattak"},
		"autoattack has its published settings":                          {"attack.name=autoattack", "threat.norm=linf", "attack.steps=3"},
		"autoattack is not defined in L2 per patch":                      {"attack.name=autoattack"},
		"has no loss: leave loss out":                                    {"attack.name=fab-t", "attack.loss=cw"},
		"attack.targeted needs targets: choose them with --target":       {"attack.targeted=true"},
		"take one of them":                                               {"attack.target=next", "target_labels=x"},
		`unknown target "nearest"`:                                       {"attack.target=nearest"},
		"attack apgd-t: targeted goes towards given labels, targets = 9": {"attack.name=apgd-t", "attack.target=next"},
		"autoattack is not targeted":                                     {"threat.norm=linf", "attack.name=autoattack", "target_labels=x"},
		"eps is 0":                                                       {"threat.eps=1,0"},
		"--test: attack.steps cannot be 0: leave it out, and it is 1":    {"attack.steps=0"},
		"attack.restarts cannot be 0":                                    {"attack.name=pgd", "attack.restarts=0"},
		"attack.targets cannot be 0: leave it out, and it is 9":          {"attack.name=pgd,apgd-t", "threat.norm=linf", "attack.targets=0"},
		"eps is not set":                                                 {"threat.eps=1,"},
		"limit -1, batch size":                                           {"limit=-1"},
		"precision tf32: autoattack is defined in float32":               {"attack.name=autoattack", "threat.norm=linf", "precision=tf32"},
		"or take autoattack-mixed":                                       {"attack.name=autoattack", "threat.norm=linf", "precision=bf16"},
		"precision float32: autoattack-mixed searches in a reduced one":  {"attack.name=autoattack-mixed", "threat.norm=linf", "precision=float32"},
		"autoattack-mixed is an upper bound on robust accuracy, which":   {"attack.name=autoattack,autoattack-mixed", "threat.norm=linf"},
		"autoattack-mixed has its published settings":                    {"attack.name=autoattack-mixed", "threat.norm=linf", "attack.steps=3"},
		`unknown precision "bf17"`:                                       {"precision=bf17"},
	} {
		if _, err := evalSettings(&s, user(assignments...)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, want %q", assignments, err, want)
		}
	}
}

// The mixed suite has the standard one's attacks, a precision of its own for the
// search and float32 for the network, and says everywhere what its number is.
func TestMixedSettings(t *testing.T) {
	s := one(t)
	for _, c := range []struct{ norm, precision, want string }{
		{"linf", "", "autoattack-mixed (bf16 search, confirmed in float32: an upper bound on robust accuracy), L∞ 0.6"},
		{"l2", "tf32", "autoattack-mixed (tf32 search, confirmed in float32: an upper bound on robust accuracy), L2 0.6"},
		{"l1", "tf32x3", "autoattack-mixed (tf32x3 search, confirmed in float32: an upper bound on robust accuracy), L1 0.6"},
	} {
		settings := []string{"attack.name=autoattack-mixed", "threat.norm=" + c.norm}
		if c.precision != "" {
			settings = append(settings, "precision="+c.precision)
		}
		list, err := evalSettings(&s, user(settings...))
		if err != nil {
			t.Fatal(err)
		}
		e := list[0]
		if got := e.describe(); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
		if got := e.networkPrecision(); got != "float32" {
			t.Errorf("the network's own passes are in %s", got)
		}
		standard, _, err := adversarial.LookupSuite("autoattack", e.Threat)
		if err != nil || !slices.Equal(standard, e.entries[0].attacks) {
			t.Errorf("%v, %v: want %v", err, e.entries[0].attacks, standard)
		}
		r := &Evaluation{}
		r.count(nil, &protocol{threat: e.Threat, plans: []planned{{e.entries[0], nil}}}, nil)
		if r.Attacks[0].Attack != c.want {
			t.Errorf("stored as %q", r.Attacks[0].Attack)
		}
	}
}

// TestCount counts by hand what a suite of two attacks and a single one left of four
// examples, of which the network gets the last one wrong.
func TestCount(t *testing.T) {
	pgd, fgsm := adversarial.Attack{Name: "pgd"}, adversarial.Attack{Name: "fgsm"}
	p := &protocol{plans: []planned{
		{entry{name: "both", suite: true, attacks: []adversarial.Attack{pgd, fgsm}}, []stage{{attack: pgd}, {attack: fgsm}}},
		{entry{name: "pgd", attacks: []adversarial.Attack{pgd}}, []stage{{attack: pgd}}},
	}}
	r := &Evaluation{}
	r.count([]string{"a", "b", "c"}, p, []*verdict{
		{Labels: []int32{0, 1}, Clean: []int32{0, 1}, Fates: [][]fate{{{-1, 0, 0.3}, {0, 2, 0.2}}, {{-1, 0, 0.1}, {-1, 1, 0.05}}}},
		{Labels: []int32{1, 2}, Clean: []int32{1, 0}, Fates: [][]fate{{{1, 0, 0.2}, {-1, 0, 0}}, {{0, 2, 0.2}, {-1, 0, 0}}}},
	})
	if r.N != 4 || r.Clean != 3 || r.Robust != 1 || r.LargestNorm != float64(float32(0.3)) {
		t.Errorf("%d examples, %d clean, %d robust, largest norm %v: want 4, 3, 1 and 0.3", r.N, r.Clean, r.Robust, r.LargestNorm)
	}
	if want := []ClassOutcome{{"a", 1, 1, 1}, {"b", 2, 2, 0}, {"c", 1, 0, 0}}; !slices.Equal(r.Classes, want) {
		t.Errorf("classes %v, want %v", r.Classes, want)
	}
	suite, single := r.Attacks[0], r.Attacks[1]
	if suite.Robust != 1 || suite.Stages[0].Robust != 2 || suite.Stages[1].Robust != 1 || single.Robust != 2 || single.Accuracy.Value != 0.5 {
		t.Errorf("the suite left %d (%+v), the attack %d", suite.Robust, suite.Stages, single.Robust)
	}
	clean, attacked := [][]int{{1, 0, 0}, {0, 2, 0}, {1, 0, 0}}, [][]int{{1, 0, 0}, {1, 0, 1}, {1, 0, 0}}
	if !reflect.DeepEqual(r.Confusion.Clean, clean) || !reflect.DeepEqual(r.Confusion.Attacked, attacked) {
		t.Errorf("confusion %v and %v, want %v and %v", r.Confusion.Clean, r.Confusion.Attacked, clean, attacked)
	}
	if r.CleanAccuracy.Value != 0.75 || r.RobustAccuracy.Value != 0.25 {
		t.Errorf("accuracies %v and %v", r.CleanAccuracy, r.RobustAccuracy)
	}
}

// TestLogPath: what decides the verdicts decides the name of their log, and where it
// was computed does not.
func TestLogPath(t *testing.T) {
	e := func(change func(*evaluation)) *evaluation {
		e := &evaluation{dir: "run", weights: "w", eval: &EvalSettings{Split: "test", BatchSize: 8, entries: []entry{{name: "pgd", attacks: []adversarial.Attack{{Name: "pgd", Steps: 3}}}}}}
		change(e)
		return e
	}
	plain := e(func(*evaluation) {}).logPath(false)
	for i, change := range []func(*evaluation){
		func(e *evaluation) { e.weights = "v" },
		func(e *evaluation) { e.targets = []int32{1, 2} },
		func(e *evaluation) { e.eval.Seed = 1 },
		func(e *evaluation) { e.eval.Limit = 5 },
		func(e *evaluation) { e.eval.SplitSHA256 = "00" },
		func(e *evaluation) { e.eval.Precision = "bf16" },
		func(e *evaluation) { e.eval.Threat.Epsilon = adversarial.MustEpsilon("0.1") },
		func(e *evaluation) { e.eval.entries[0].attacks[0].Steps = 4 },
		func(e *evaluation) { e.dir = "another" },
	} {
		if e(change).logPath(false) == plain {
			t.Errorf("change %d: the log is the same", i)
		}
	}
	if e(func(*evaluation) {}).logPath(true) == plain {
		t.Error("with the examples it is the same")
	}
	if e(func(e *evaluation) {
		e.eval.Device, e.eval.Threads, e.eval.DataDir, e.eval.Checkpoint = "cpu", 3, "x", "best" // which only names the weights
	}).logPath(false) != plain {
		t.Error("where it is computed decides the log's name")
	}
}

// firstVerdict evaluates the first batch of some examples; the error is the attack's.
func firstVerdict(t *testing.T, p *protocol, examples datasets.Source, batch int) (*verdict, error) {
	t.Helper()
	stream, err := datasets.NewStream(examples, datasets.StreamOptions{BatchSize: batch, Epochs: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	b, _ := stream.Next()
	u, err := p.begin(b)
	if err != nil {
		t.Fatal(err)
	}
	return u.Verdict, p.attack(context.Background(), b, nil, u, func() error { return nil })
}

// TestTargetedHits: under a targeted attack an example falls when the network says
// the target, and not when it says another wrong class.
func TestTargetedHits(t *testing.T) {
	dev := device(t)
	state := dev.NewState()
	defer state.Free()
	p := &protocol{threat: adversarial.ThreatModel{Norm: adversarial.Linf, Epsilon: adversarial.MustEpsilon("0.1"), Domain: adversarial.Unit}, batch: 8, input: graph.F32}
	program := func(outputs func(g *graph.Graph, x, y *graph.Node)) *engine.Program {
		return dev.NewProgram(state, func(n int) (*graph.Graph, error) {
			g := graph.New("oracle")
			g.Input("ids", graph.U32, n)
			outputs(g, g.Input("x", graph.F32, n, 1, 1, 1), g.Input("y", graph.I32, n))
			return g, g.Err()
		}, engine.Options{})
	}
	p.clean = program(func(g *graph.Graph, _, y *graph.Node) { g.Output("clean_pred", y.AddC(0)) })
	// The target is 2; of classes 0 and 1 the network says 2, of class 3 it says 4.
	attacked := program(func(g *graph.Graph, x, y *graph.Node) {
		g.Scalar("round", graph.I32)
		g.Output("target", y.C(2).BroadcastTo(y.Dim(0)))
		g.Output("adv_pred", graph.Select(y.Lt(y.C(2)), y.C(2).BroadcastTo(y.Dim(0)), y.AddC(1)))
		g.Output("norm", x.Reshape(x.Dim(0)))
		g.Output("x_adv", x)
	})
	a := adversarial.Attack{Name: "pgd", Targeted: true}
	p.plans = []planned{{entry{attacks: []adversarial.Attack{a}}, []stage{{attack: a, rounds: 1, program: attacked}}}}
	defer p.close()
	set, err := datasets.NewSet(datasets.Info{Name: "four", DType: datasets.Float32, Channels: 1, Height: 1, Width: 1, Classes: make([]string, 5)},
		datasets.Values{F32: make([]float32, 4)}, []int32{0, 1, 3, 3})
	if err != nil {
		t.Fatal(err)
	}
	v, err := firstVerdict(t, p, set, 8)
	if err != nil {
		t.Fatal(err)
	}
	if want := []fate{{0, 2, 0}, {0, 2, 0}, {-1, 4, 0}, {-1, 4, 0}}; !slices.Equal(v.Fates[0], want) {
		t.Errorf("fates %v, want %v", v.Fates[0], want)
	}
}

// Bytes that no attack moves are saved as the graphs see them.
func TestDecoded(t *testing.T) {
	s := &rowSet{input: graph.U8, u8: []byte{0, 51, 255}}
	if got := s.decoded(); !slices.Equal(got, []float32{0, 0.2, 1}) {
		t.Errorf("%v", got)
	}
}

// TestRobustIsCleanToo: an example that is right under the attack alone is not robust.
func TestRobustIsCleanToo(t *testing.T) {
	labels := []int32{0, 0, 0, 1, 1, 2, 3, 3, 3, 3}
	set, err := datasets.NewSet(datasets.Info{Name: "ten", DType: datasets.Float32, Channels: 1, Height: 1, Width: 1, Classes: make([]string, 4)},
		datasets.Values{F32: make([]float32, len(labels))}, labels)
	if err != nil {
		t.Fatal(err)
	}
	dev := device(t)
	state := dev.NewState()
	defer state.Free()
	e := &evaluator{threat: adversarial.ThreatModel{Norm: adversarial.Linf, Epsilon: adversarial.MustEpsilon("0.1"), Domain: adversarial.Unit}, batch: 4}
	// Class 0 is right always, 1 clean only, 2 under the attack only, 3 never.
	e.program = dev.NewProgram(state, func(n int) (*graph.Graph, error) {
		g := graph.New("ten")
		x, y := g.Input("x", graph.F32, n, 1, 1, 1), g.Input("y", graph.I32, n)
		g.Input("ids", graph.U32, n)
		g.Output("clean_pred", graph.Select(y.Lt(y.C(2)), y, y.C(0).BroadcastTo(n)))
		g.Output("adv_pred", graph.Select(y.Eq(y.C(0)).Or(y.Eq(y.C(2))), y, y.C(0).BroadcastTo(n)))
		g.Output("norm", x.Reshape(n))
		g.Output("adv_loss", x.Reshape(n))
		g.Output("x_adv", x)
		return g, g.Err()
	}, engine.Options{})
	defer e.close()
	out, err := e.run(context.Background(), set, 0, func(int) {}, nil)
	if err != nil || out.N != 10 || out.Clean != 5 || out.Robust != 3 {
		t.Fatalf("%+v, %v: want 5 clean and 3 robust of 10", out, err)
	}
	alarms := &prober{examples: set, evals: map[string]*evaluator{"single": e}}
	if found, err := alarms.attack(context.Background(), "single"); err != nil || shareRight(found) != 0.3 {
		t.Errorf("the alarms see %+v, %v: want a share of 0.3", found, err)
	}
	for class, want := range []ClassOutcome{{N: 3, Clean: 3, Robust: 3}, {N: 2, Clean: 2}, {N: 1}, {N: 4}} {
		if out.Classes[class] != want {
			t.Errorf("class %d: %+v, want %+v", class, out.Classes[class], want)
		}
	}
}

// An example falls when the confirming network is wrong about what the search
// left, whatever the search's own network says of it.
func TestOnlyConfirmedHitsCount(t *testing.T) {
	root := trained(t)
	for _, attack := range []string{"attack.name=pgd", "attack.name=square"} {
		e, err := prepare(Console{}, EvalOptions{Root: root, Run: Latest, User: user(slices.Concat(linf, []string{attack, "attack.steps=120", "batch_size=30"})...)})
		if err != nil {
			t.Fatal(err)
		}
		defer e.close()
		says := func(answer func(y *graph.Node) *graph.Node) *engine.Program {
			return e.dev.NewProgram(e.state, func(n int) (*graph.Graph, error) {
				g := graph.New("oracle")
				g.Input("x", graph.F32, append([]int{n}, e.model.Input...)...)
				g.Input("ids", graph.U32, n)
				g.Output("clean_pred", answer(g.Input("y", graph.I32, n)))
				return g, g.Err()
			}, engine.Options{})
		}
		for name, c := range map[string]struct {
			confirm *engine.Program
			robust  func(search, clean int) bool
		}{
			"none":              {nil, func(s, c int) bool { return s > 0 && s < c }},
			"always right":      {says(func(y *graph.Node) *graph.Node { return y.AddC(0) }), func(s, c int) bool { return s == c }},
			"always wrong":      {says(func(y *graph.Node) *graph.Node { return y.AddC(1) }), func(s, _ int) bool { return s == 0 }},
			"wrong about 3, 4 ": {says(func(y *graph.Node) *graph.Node { return y.MinC(2) }), func(s, c int) bool { return s > 0 && s < c }},
		} {
			p, err := newProtocol(e.dev, e.state, e.model, e.examples.Info(), e.eval, e.compile)
			if err != nil {
				t.Fatal(err)
			}
			defer p.close()
			p.confirm = c.confirm
			v, err := firstVerdict(t, p, e.examples, 30)
			if err != nil {
				t.Fatal(err)
			}
			clean, robust := 0, 0
			for i, y := range v.Labels {
				stands := v.Clean[i] == y && v.Fates[0][i].Fell < 0
				if v.Clean[i] == y {
					clean++
				}
				if stands {
					robust++
				}
				if said := v.Fates[0][i].Pred; v.Clean[i] == y && stands != (said == y) {
					t.Errorf("%s: example %d of label %d stands: %v, and is said to be %d", name, i, y, stands, said)
				}
			}
			if !c.robust(robust, clean) {
				t.Errorf("%s, confirmed by a network that is %s: %d of %d stand", attack, name, robust, clean)
			}
		}
	}
}

// The checks of the network itself: each fires where it should, and only there.
func TestOutputWarnings(t *testing.T) {
	logits := []float32{1, -2, 3, 0.5, 0.25, 7}
	noisy := slices.Clone(logits)
	noisy[1] += 0.01
	probabilities := []float32{0.5, 0.25, 0.25, 1, 0, 0}
	shares := []float32{0.5, 0.25, 0.25, 0.5, 0.25, 0.5} // in [0,1], but not all of one sum
	for _, c := range []struct {
		a, b []float32
		zero int
		want []string
	}{
		{logits, logits, 0, nil},
		{logits, noisy, 0, []string{"randomised-forward"}},
		{probabilities, probabilities, 0, []string{"softmax-output"}},
		{shares, shares, 0, nil},
		{logits, logits, 2, []string{"zero-gradients"}},
	} {
		var got []string
		for _, w := range judgeOutputs([2][]float32{c.a, c.b}, 2, c.zero) {
			got = append(got, w.Name)
			if w.Text == "" || w.Remedy == "" {
				t.Errorf("%s explains nothing", w.Name)
			}
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Error(diff)
		}
	}
}

// A network that draws random numbers is found out by two passes of different
// seeds.
func TestRandomisedForward(t *testing.T) {
	for want, scale := range map[string]float64{"randomised-forward": 1, "": 0} {
		g := graph.New("noise")
		c := func(v float64) *graph.Node { return g.Const(graph.U32, []float64{v}) }
		d := graph.Draw{Seed: g.Scalar("seed", graph.U32), IDs: g.Input("ids", graph.U32, 3), Step: c(0), Iter: c(0)}
		g.Scalar("eps", graph.F32)
		g.Scalar("alpha", graph.F32)
		g.Output("logits", g.Input("x", graph.F32, 3, 1, 2, 2).Flatten(1).Add(d.Normal("noise", 4).MulC(scale)))
		g.Output("zero", g.Input("y", graph.I32, 3).Lt(g.Const(graph.I32, []float64{0})))
		b := &datasets.Batch{Values: datasets.Values{F32: []float32{.1, .2, .9, .4, .5, .6, .7, .8, .3, .2, .1, .7}}, Labels: []int32{0, 1, 2}, IDs: []uint32{4, 5, 6}, N: 3}
		dev := device(t)
		list, err := checkGraph(dev, dev.NewState(), g, b, engine.Options{})
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		for _, w := range list {
			got += w.Name
		}
		if got != want {
			t.Errorf("noise times %v: %q, want %q", scale, got, want)
		}
	}
}

func TestBlackBoxWarning(t *testing.T) {
	plans := func(names ...string) *protocol {
		p := &protocol{}
		for _, n := range names {
			p.plans = append(p.plans, planned{entry{name: n}, []stage{{attack: adversarial.Attack{Name: n}}}})
		}
		return p
	}
	suite := &protocol{plans: []planned{{entry{name: "autoattack", suite: true}, []stage{
		{attack: adversarial.Attack{Name: "apgd-ce"}}, {attack: adversarial.Attack{Name: "square"}},
	}}}}
	for _, c := range []struct {
		p    *protocol
		left []int
		want bool
	}{
		{plans("pgd", "square"), []int{500, 490}, true},
		{plans("pgd", "square"), []int{500, 498}, false}, // within 0.2 %
		{plans("pgd", "square"), []int{500, 600}, false},
		{plans("pgd", "fgsm", "square"), []int{400, 600, 500}, false}, // the best of the others counts
		{plans("fgsm", "pgd", "square"), []int{600, 400, 390}, true},
		{plans("square", "random-uniform"), []int{500, 400}, false}, // nothing to compare with
		{suite, []int{500, 480}, true},
		{suite, []int{500, 499}, false},
	} {
		r := &Evaluation{Outcome: Outcome{N: 1000, Clean: 900}}
		if c.p == suite {
			a := AttackResult{Robust: c.left[1]}
			for _, n := range c.left {
				a.Stages = append(a.Stages, StageResult{Robust: n})
			}
			r.Attacks = append(r.Attacks, a)
		} else {
			for _, n := range c.left {
				r.Attacks = append(r.Attacks, AttackResult{Robust: n})
			}
		}
		if got := blackBox(r, c.p); len(got) > 0 != c.want {
			t.Errorf("%+v, %v: %v", c.p.plans, c.left, got)
		}
	}
}

// An interrupted temper attack goes on too, to the same file.
func TestAttackResumes(t *testing.T) {
	root := trained(t)
	o := EvalOptions{Root: root, Run: Latest, User: user(slices.Concat(linf, []string{"attack.name=pgd", "attack.restarts=3", "batch_size=20"})...)}
	attack := func(ctx context.Context, name string) (string, error) {
		o.Save = filepath.Join(root, name)
		stderr := &bytes.Buffer{}
		err := Attack(ctx, Console{Out: &bytes.Buffer{}, Err: stderr}, o)
		return stderr.String(), err
	}
	if _, err := attack(context.Background(), "straight.npz"); err != nil {
		t.Fatal(err)
	}
	stopped := &afterCalls{Context: context.Background(), n: 7} // in the third batch: a batch has a call a round, 3
	if _, err := attack(stopped, "resumed.npz"); !errors.As(err, new(*InterruptedError)) {
		t.Fatalf("not interrupted: %v", err)
	}
	log := func() string {
		list, err := filepath.Glob(filepath.Join(root, "latest", evaluations, "unfinished-*"+logExamples))
		if err != nil || len(list) != 1 {
			t.Fatalf("logs %v, %v", list, err)
		}
		return list[0]
	}
	kept, err := os.ReadFile(log())
	if err != nil {
		t.Fatal(err)
	}
	write := func(b []byte) {
		if err := os.WriteFile(log(), b, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	write(kept[:len(kept)-4])
	if _, err := attack(context.Background(), "resumed.npz"); err == nil || !strings.Contains(err.Error(), "delete it to begin again") {
		t.Errorf("a log cut off: %v", err)
	}
	write(append(slices.Clone(kept), "half of a batch"...))
	stderr, err := attack(context.Background(), "resumed.npz")
	if err != nil || !strings.Contains(stderr, "going on after 40 of 60 examples and 1 of 3 rounds on the next 20,") {
		t.Fatalf("%v: %s", err, stderr)
	}
	if left, _ := filepath.Glob(filepath.Join(root, "latest", evaluations, "unfinished-*")); len(left) > 0 {
		t.Errorf("left %v", left)
	}
	a, err := os.ReadFile(filepath.Join(root, "straight.npz"))
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(root, "resumed.npz"))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(a, b) {
		t.Error("the resumed file is another one")
	}
}

// Targets that a user gives are those that a rule chooses: the same numbers
// fall. What is no target is refused.
func TestTargetLabels(t *testing.T) {
	root := trained(t)
	labels := func(change func(i int, y int32) int32) string {
		e, err := prepare(Console{}, EvalOptions{Root: root, Run: Latest})
		if err != nil {
			t.Fatal(err)
		}
		defer e.close()
		var text strings.Builder
		for i := range e.examples.Len() {
			fmt.Fprintln(&text, change(i, e.examples.Label(i)))
		}
		path := filepath.Join(t.TempDir(), "targets.txt")
		if err := os.WriteFile(path, []byte(text.String()), 0o666); err != nil {
			t.Fatal(err)
		}
		return path
	}
	next := labels(func(_ int, y int32) int32 { return (y + 1) % 5 })
	args := slices.Concat(linf, []string{"attack.name=pgd,square", "attack.steps=100"})
	rule, err := evaluate(t, context.Background(), root, append(slices.Clone(args), "attack.target=next")...)
	if err != nil {
		t.Fatal(err)
	}
	given, err := evaluate(t, context.Background(), root, append(slices.Clone(args), "target_labels="+next)...)
	if err != nil {
		t.Fatal(err)
	}
	if rule.Robust == rule.Clean || rule.Robust != given.Robust || rule.Attacks[1].Robust != given.Attacks[1].Robust {
		t.Errorf("%d and %d of %d reach no target", rule.Robust, given.Robust, rule.Clean)
	}
	untargeted, err := evaluate(t, context.Background(), root, args...)
	if err != nil {
		t.Fatal(err)
	}
	if untargeted.Robust >= rule.Robust {
		t.Errorf("%d stand without a target, %d with one", untargeted.Robust, rule.Robust)
	}
	for want, path := range map[string]string{
		"which is the example's own label": labels(func(i int, y int32) int32 { return (y + min(1, int32(i%7))) % 5 }),
		`number 1 is "9": want a class`:    labels(func(int, int32) int32 { return 9 }),
		"no such file":                     "none.txt",
	} {
		if _, err := evaluate(t, context.Background(), root, append(slices.Clone(args), "target_labels="+path)...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: want one that says %q", err, want)
		}
	}
	if _, err := evaluate(t, context.Background(), root, append(slices.Clone(args), "limit=10", "target_labels="+next)...); err == nil || !strings.Contains(err.Error(), "has 60 numbers: want one for each of 10 examples") {
		t.Errorf("too many: %v", err)
	}
}

// A batch is filled up only where rows cannot touch each other.
func TestRowsApart(t *testing.T) {
	build := func(n int, mixing bool) *graph.Graph {
		g := graph.New("net")
		x := g.Input("x", graph.F32, n, 3)
		if mixing {
			x = x.Sub(x.MeanKeep(0))
		}
		g.Output("z", x.Sum(1))
		return g
	}
	if err := rowsApart(build(8, false)); err != nil {
		t.Error(err)
	}
	if err := rowsApart(build(1, true)); err != nil {
		t.Errorf("one row is not filled up: %v", err)
	}
	if err := rowsApart(build(8, true)); err == nil || !strings.Contains(err.Error(), "batches cannot be filled up") || !strings.Contains(err.Error(), "mixes rows") {
		t.Errorf("rows that mix: %v", err)
	}
}

// A checkpoint of another architecture is refused: both are named, and the first
// tensor that differs.
func TestOtherArchitecture(t *testing.T) {
	root := trained(t)
	path := filepath.Join(root, Latest, run.ConfigFile)
	kept, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string][]string{
		`the run's model is patchcnn, its checkpoint is one of patchcnn: the checkpoint's "conv.weight" is F32[80,16,1,1]: this model wants F32[120,16,1,1]`: {
			"filters = 16", "filters = 24"},
		`the run's model is wideresnet-28-10, its checkpoint is one of patchcnn: the checkpoint has no tensor`: {
			"'patchcnn'", "'wideresnet-28-10'", "width = 0", "width = 2", "widen = 0", "widen = 1", "blocks = []", "blocks = [1, 1, 1]", "filters = 16", "filters = 0", "patch = 1", "patch = 0", "q = 3.0", "q = 0.0", "rho = 0.5", "rho = 0.0", "sigma = 0.05", "sigma = 0.0"},
	} {
		changed := strings.NewReplacer(change...).Replace(string(kept))
		if err := os.WriteFile(path, []byte(changed), 0o666); err != nil {
			t.Fatal(err)
		}
		if _, err := evaluate(t, context.Background(), root); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: want one that says %q", err, want)
		}
	}
}

// Evaluations, attacked sets and alarms make no number from a perturbation that
// the threat model does not allow: here they hold it to half of what the attack
// was told.
func TestPerturbationsAreChecked(t *testing.T) {
	e, err := prepare(Console{}, EvalOptions{Root: trained(t), Run: Latest, User: user(slices.Concat(linf, []string{"attack.name=pgd"})...)})
	if err != nil {
		t.Fatal(err)
	}
	defer e.close()
	refused := func(err error) bool {
		return err != nil && strings.Contains(err.Error(), "example ") && strings.Contains(err.Error(), "beyond L∞ 0.04: no result is given")
	}
	threat := e.eval.Threat
	one, err := newEvaluator(e.dev, e.state, e.model, e.examples.Info(), threat, e.eval.entries[0].attacks[0], 0, 20, e.compile)
	if err != nil {
		t.Fatal(err)
	}
	defer one.close()
	one.at = threat.Share(0.5)
	if _, err := one.run(context.Background(), e.examples, 0, func(int) {}, nil); !refused(err) {
		t.Errorf("on the way of training, and by the alarms: %v", err)
	}
	if err := one.scale(0.5); err != nil {
		t.Fatal(err)
	}
	if _, err := one.run(context.Background(), e.examples, 0, func(int) {}, nil); err != nil {
		t.Errorf("at half of ε: %v", err)
	}
	p, err := newProtocol(e.dev, e.state, e.model, e.examples.Info(), e.eval, e.compile)
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	p.threat = threat.Share(0.5)
	if _, err := firstVerdict(t, p, e.examples, 20); !refused(err) {
		t.Errorf("by an evaluation: %v", err)
	}
}

// What a suite's stages leave, counted by hand: of six examples one is wrong
// without an attack, one falls to the first stage, two to the second, one to the
// third, and one stands.
func TestStagesLeave(t *testing.T) {
	p := &protocol{plans: []planned{{entry{name: "autoattack", suite: true}, []stage{
		{attack: adversarial.Attack{Name: "apgd-ce"}}, {attack: adversarial.Attack{Name: "fab"}}, {attack: adversarial.Attack{Name: "square"}},
	}}}}
	v := &verdict{Labels: []int32{0, 0, 0, 1, 1, 1}, Clean: []int32{1, 0, 0, 1, 1, 1}}
	v.Fates = [][]fate{{{-1, 1, 0}, {0, 1, 0.1}, {1, 1, 0.2}, {1, 0, 0.3}, {2, 0, 0.1}, {-1, 1, 0.1}}}
	r := &Evaluation{}
	r.count([]string{"cat", "dog"}, p, []*verdict{v})
	var left []int
	for _, s := range r.Attacks[0].Stages {
		left = append(left, s.Robust)
	}
	if diff := cmp.Diff([]int{4, 2, 1}, left); diff != "" || r.N != 6 || r.Clean != 5 || r.Robust != 1 || r.Attacks[0].Robust != 1 {
		t.Errorf("%d examples, %d clean, %d robust, %d after the suite: %s", r.N, r.Clean, r.Robust, r.Attacks[0].Robust, diff)
	}
	if want := (&Confusion{Clean: [][]int{{2, 1}, {0, 3}}, Attacked: [][]int{{0, 3}, {2, 1}}}); !cmp.Equal(want, r.Confusion) {
		t.Errorf("confusion %+v, want %+v", r.Confusion, want)
	}
	if math.Abs(r.LargestNorm-0.3) > 1e-6 {
		t.Errorf("the largest perturbation has size %v", r.LargestNorm)
	}
}
