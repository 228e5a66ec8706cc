package job

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"temper/adversarial/run"
	"temper/datasets"
	"temper/engine"
	_ "temper/engine/cpu"
	"temper/engine/graph"
	"temper/nn"
)

func user(assignments ...string) (list []Assignment) {
	for _, a := range assignments {
		key, value, _ := strings.Cut(a, "=")
		list = append(list, Assignment{key, value, "--test"})
	}
	return list
}

func one(t *testing.T, assignments ...string) Settings {
	t.Helper()
	list, err := Resolve(user(assignments...))
	if err != nil {
		t.Fatalf("%v: %v", assignments, err)
	}
	return list[len(list)-1]
}

// TestPrecedence: defaults, recipe, what names stand for, assignments.
func TestPrecedence(t *testing.T) {
	for _, c := range []struct {
		user []string
		want string // key=value, as config.toml has it
	}{
		{nil, "recipe=structured"},
		{nil, "training.method=pgd-at"},
		{nil, "eval.every=50"},           // recipe over default
		{nil, "checkpoint.keep=3"},       // default
		{nil, "training.attack.bn=eval"}, // resolved
		{[]string{"eval.every=7"}, "eval.every=7"},
		{[]string{"eval.every=7", "eval.every=8"}, "eval.every=8"},
		{[]string{"data.name=mnist"}, "recipe=fast-at"},
		{[]string{"data.name=mnist"}, "training.attack.step_size=0.375"},
		{[]string{"data.name=mnist", "threat.eps=0.1"}, "training.attack.step_size=0.375"},
		{[]string{"data.name=mnist", "threat.norm=l2", "threat.eps=2"}, "training.attack.step_size=2.5"}, // 1.25·ε: that of another norm says nothing
		{[]string{"data.name=mnist", "threat.norm=l2", "threat.eps=2"}, "eval.attack.step_size=0.25"},
		{[]string{"data.name=mnist", "threat.norm=l2", "threat.eps=2", "eval.attack.step_size=0.3"}, "eval.attack.step_size=0.3"},
		{[]string{"threat.norm=l2"}, "training.attack.step_size=2"}, // of ascent, in units of the gradient
		{[]string{"data.name=mnist", "recipe=pgd-at"}, "training.attack.steps=40"},
		{[]string{"data.name=mnist", "training.method=standard"}, "training.attack.name="},
		{[]string{"data.name=mnist", "training.method=standard"}, "model.name=mnist-wong"},
		{[]string{"data.name=mnist", "training.method=pgd-at"}, "training.attack.step_size=0.375"},
		{[]string{"data.name=mnist", "recipe=pgd-at", "training.method=fgsm-rs", "training.attack.steps=1"}, "training.attack.step_size=0.01"},
		{[]string{"data.name=mnist", "recipe=standard", "training.method=pgd-at"}, "training.attack.step_size=0.075"}, // 2.5·0.3/10
		{[]string{"data.name=mnist", "recipe=pgd-at", "training.attack.name=pgd"}, "training.attack.steps=10"},        // the name starts afresh
		{[]string{"data.name=mnist", "training.attack.steps=3", "training.attack.name=pgd", "training.method=pgd-at"}, "training.attack.steps=3"},
		{[]string{"data.name=cifar10"}, "recipe=small-pgd7"},
		{[]string{"data.name=cifar10", "recipe=pgd-at"}, "model.mean=[0.4914 0.4822 0.4465]"},
		{[]string{"data.name=svhn", "model.normalize=dataset"}, "model.std=[0.198 0.201 0.197]"},
		{[]string{"data.name=svhn", "model.normalize=dataset"}, "model.mean=[0.4377 0.4438 0.4728]"},
		{[]string{"data.name=cifar100", "model.normalize=dataset"}, "model.mean=[0.5071 0.4865 0.4409]"},
		{[]string{"data.name=cifar100", "model.normalize=dataset"}, "model.std=[0.2673 0.2564 0.2762]"},
		{[]string{"data.name=npz:../job/doc.go"}, "recipe=small-pgd7"}, // any file: what is in it is read later
	} {
		s := one(t, c.user...)
		m, err := byName(s)
		if err != nil {
			t.Fatal(err)
		}
		key, want, _ := strings.Cut(c.want, "=")
		if got := lookup(m, key); got != want {
			t.Errorf("%v: %s is %s, want %s", c.user, key, got, want)
		}
	}
	if list, err := Resolve(nil); err != nil || len(list) != 2 || list[0].Training.Method != "standard" || list[1].Training.Method != "pgd-at" {
		t.Errorf("the default recipe makes %+v, %v", list, err)
	}
}

// What is said of training's attack is said once.
func TestDescribeAttack(t *testing.T) {
	for want, assignments := range map[string][]string{
		"PGD-2, L2 per patch 0.6, step 0.75, loss ce; random_start true, best true, bn batch": {"training.attack.name=pgd", "training.attack.steps=2", "training.attack.best=true", "training.attack.bn=batch"},
		"PGD-2, L2 per patch 0.6, step 0.75, loss ce; random_start true, best false, bn eval": {"training.attack.name=pgd", "training.attack.steps=2"},
	} {
		s := one(t, assignments...)
		if got := s.describeAttack(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// A number that the user gives is not replaced by a default: 0 means 0 or is refused.
func TestNumbersStay(t *testing.T) {
	for want, assignments := range map[string][]string{
		"--test: training.attack.steps cannot be 0: leave it out, and it is 10": {"training.attack.name=pgd", "training.attack.steps=0"},
		"training.attack.steps cannot be 5: leave it out, and it is 1":          {"training.method=fgsm-rs", "training.attack.steps=5"},
		"training.attack.restarts cannot be 0":                                  {"training.attack.restarts=0"},
		"training.attack.targets cannot be 0: leave it out, and it is 9":        {"training.attack.name=apgd-t", "training.attack.targets=0"},
		"training.attack.momentum cannot be 0: leave it out, and it is 1":       {"training.attack.name=mi-fgsm", "training.attack.momentum=0"},
		"eval.attack.steps cannot be 0":                                         {"eval.attack.steps=0"},
		"training.beta cannot be 0: leave it out, and it is 6":                  {"training.method=trades", "training.beta=0"},
		"training.replays cannot be 0: leave it out, and it is 8":               {"training.method=free", "training.replays=0"},
		"training.noise cannot be 0: leave it out, and it is 2":                 {"training.method=n-fgsm", "training.noise=0"},
		"training.average.decay cannot be 0: leave it out, and it is 0.999":     {"training.average.name=ema", "training.average.decay=0"},
		"schedule.warm cannot be 0: leave it out, and it is 0.3":                {"schedule.name=one-cycle", "schedule.warm=0"},
		"schedule.up cannot be 0: leave it out, and it is 2.5":                  {"schedule.name=cyclic", "schedule.up=0", "batches.epochs=5"},
		"model.filters cannot be 0: leave it out, and it is 16":                 {"model.filters=0"},
		"model.blocks cannot be []: leave it out, and it is [2 2 2 2]":          {"model.name=preactresnet18", "model.blocks=[]"},
		`model.mean and model.std are for model.normalize = "given": it is`:     {"model.std=[1]"},
		`= "given": it is "dataset"`:                                            {"data.name=mnist", "model.normalize=dataset", "model.mean=[0.5]"},
		"batches.epochs is 0: want at least 1":                                  {"batches.epochs=0"},
		"batches.size is 0":                                                     {"batches.size=0"},
		"eval.every is 0":                                                       {"eval.every=0"},
		"eval.batch_size is 0":                                                  {"eval.batch_size=0"},
		"checkpoint.every is 0":                                                 {"checkpoint.every=0"},
		"eps is 0, which allows no perturbation":                                {"threat.eps=0"},
		"step_size is 0: want a positive number":                                {"training.attack.step_size=0"},
		"learning rate 0: want a positive number":                               {"optimizer.lr=0"},
		"a positive eps":           {"optimizer.eps=0"},
		"alarms.collapse: limit 0": {"alarms.collapse.limit=0"},
	} {
		if _, err := Resolve(user(assignments...)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: error %v, want one with %q", assignments, err, want)
		}
	}
	for _, stays := range []string{
		"seed=0", "threads=0", "data.limit=0", "data.held_out=0", "optimizer.momentum=0", "optimizer.weight_decay=0", "training.awp=0", "training.grad_align=0",
		"training.mixup=0", "training.clip_grad=0", "training.label_smoothing=0", "training.eps_warmup=0", "training.augment.crop=0", "training.average.start=0",
		"training.attack.targets=0", "eval.limit=0", "checkpoint.keep=0", "alarms.probe=0", "alarms.rollbacks=0", "data.structured.jitter=0", "data.structured.noise_std=0",
	} {
		s := one(t, stays)
		key, _, _ := strings.Cut(stays, "=")
		if value, ok := run.Setting(&s, key); !ok || !isNumber(value) || !isNothing(value) {
			t.Errorf("%s: it is %v", stays, value)
		}
	}
	// What belongs to the other method only is no mistake.
	list, err := Resolve(user("training.method=standard,pgd-at", "training.attack.steps=3"))
	if err != nil || list[0].Training.Attack.Steps != 0 || list[1].Training.Attack.Steps != 3 {
		t.Errorf("two methods: %+v, %v", list, err)
	}
}

func lookup(m map[string]any, key string) string {
	head, tail, more := strings.Cut(key, ".")
	if sub, ok := m[head].(map[string]any); ok && more {
		return lookup(sub, tail)
	}
	return fmt.Sprint(m[head])
}

// infos describes the data sets without their files.
var infos = map[string]datasets.Info{
	"structured": {DType: datasets.Float32, Channels: 16, Height: 1, Width: 81, Classes: make([]string, 5)},
	"mnist":      {Channels: 1, Height: 28, Width: 28, Classes: make([]string, 10)},
	"cifar10":    {Channels: 3, Height: 32, Width: 32, Classes: make([]string, 10)},
	"cifar100":   {Channels: 3, Height: 32, Width: 32, Classes: make([]string, 100)},
	"svhn":       {Channels: 3, Height: 32, Width: 32, Classes: make([]string, 10)},
	"npz":        {Channels: 3, Height: 8, Width: 8, Classes: make([]string, 4)},
}

// TestRecipes builds the training step of every recipe for each of its sets.
func TestRecipes(t *testing.T) {
	for _, r := range Recipes() {
		if r.Summary == "" {
			t.Errorf("%s has no summary", r.file)
		}
		for _, d := range r.Datasets {
			s := one(t, "data.name="+strings.Replace(d, "npz", "npz:doc.go", 1), "recipe="+r.Name)
			m, err := s.model(infos[d])
			if err != nil {
				t.Errorf("%s, %s: %v", r.file, d, err)
				continue
			}
			g, err := s.stepGraph(m, infos[d], 4)
			if err != nil {
				t.Errorf("%s, %s: %v", r.file, d, err)
				continue
			}
			if err := graph.Verify(g); err != nil {
				t.Errorf("%s, %s: %v", r.file, d, err)
			}
		}
	}
}

// The paper's network cuts images into patches, as the features' experiments do.
func TestPatchesOfImages(t *testing.T) {
	s := one(t, "data.name=mnist", "model.name=patchcnn", "model.patch=7", "model.width=0", "model.hidden=0")
	m, err := s.model(infos["mnist"])
	if err != nil {
		t.Fatal(err)
	}
	if got, want := m.Specs()[0].Shape, (graph.Shape{160, 1, 7, 7}); !got.Equal(want) {
		t.Errorf("filters %v, want %v", got, want)
	}
}

func TestHash(t *testing.T) {
	base := one(t).hash()
	for assignment, same := range map[string]bool{
		"threads=3": true, "device=cpu": true, "data.dir=/elsewhere": true,
		"seed=1": false, "optimizer.lr=0.2": false, "eval.every=51": false, "exact_conv=true": false,
	} {
		if (one(t, assignment).hash() == base) != same {
			t.Errorf("%s: same hash %v, want %v", assignment, !same, same)
		}
	}
}

// TestAccuracy: intervals from Newcombe's table (Statistics in Medicine, 1998)
// and the closed forms at 0 and n.
func TestAccuracy(t *testing.T) {
	for _, c := range []struct {
		k, n      int
		low, high float64
	}{
		{81, 263, 0.2527, 0.3676},
		{15, 148, 0.0578, 0.1617},
		{0, 20, 0, 1 - math.Pow(0.025, 1.0/20)},
		{29, 29, math.Pow(0.025, 1.0/29), 1},
		{1, 1, 0.025, 1},
	} {
		a := accuracy(c.k, c.n)
		if math.Abs(a.Low-c.low) > 5e-5 || math.Abs(a.High-c.high) > 5e-5 {
			t.Errorf("%d of %d: [%.4f, %.4f], want [%.4f, %.4f]", c.k, c.n, a.Low, a.High, c.low, c.high)
		}
	}
}

func device(t *testing.T) *engine.Device {
	t.Helper()
	d, err := engine.Open("cpu", engine.DeviceOptions{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// TestState takes a network with batch norm to safetensors and back: names are
// PyTorch's, counters are int64 there, and every bit returns.
func TestState(t *testing.T) {
	dev := device(t)
	m, err := nn.Lookup("preactresnet18", nn.Config{Input: graph.Shape{3, 8, 8}, Classes: 3, Width: 4})
	if err != nil {
		t.Fatal(err)
	}
	fill := func(seed float64) *engine.State {
		st := dev.NewState()
		e, err := dev.Compile(m.InitGraph(), st, engine.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer e.Close()
		if err := e.Set("seed", seed); err != nil {
			t.Fatal(err)
		}
		if err := e.Run(); err != nil {
			t.Fatal(err)
		}
		return st
	}
	from, to := fill(1), fill(2)
	const tracked = "layer1.0.bn1.num_batches_tracked"
	if err := from.SetBytes(tracked, []byte{7, 1, 0, 0}); err != nil {
		t.Fatal(err)
	}
	saved, err := saveState(from)
	if err != nil {
		t.Fatal(err)
	}
	var file bytes.Buffer
	if err := run.WriteSafetensors(&file, &run.Tensors{List: saved}); err != nil {
		t.Fatal(err)
	}
	read, err := run.ReadSafetensors(&file, int64(file.Len()))
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range read.List {
		if r.Name == tracked && (r.DType != "I64" || binary.LittleEndian.Uint64(r.Data) != 263) {
			t.Errorf("%s is %s %v", r.Name, r.DType, r.Data)
		}
	}
	if err := loadState(to, read.List); err != nil {
		t.Fatal(err)
	}
	again, err := saveState(to)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(saved, again); diff != "" {
		t.Error(diff)
	}
	renamed := append([]run.Tensor{}, read.List...)
	renamed[0].Name = "other"
	for want, tensors := range map[string][]run.Tensor{
		"the checkpoint has no tensor": read.List[1:],
		`a tensor "other" that`:        append([]run.Tensor{renamed[0]}, read.List...),
		"this model wants":             append([]run.Tensor{{Name: read.List[0].Name, DType: "F32", Shape: []int{2}, Data: make([]byte, 8)}}, read.List[1:]...),
	} {
		if err := loadState(to, tensors); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	if err := loadState(to, append([]run.Tensor{{Name: "optimizer/step"}}, read.List...)); err != nil {
		t.Errorf("an evaluation does without the optimiser's tensors: %v", err)
	}
}

// TestFirstNonFinite plants numbers that overflow at a known place.
func TestFirstNonFinite(t *testing.T) {
	dev := device(t)
	for _, c := range []struct {
		name  string
		x     []float32
		build func(g *graph.Graph, x *graph.Node) *graph.Node
		want  string
	}{
		{"nothing", []float32{1, 2}, func(g *graph.Graph, x *graph.Node) *graph.Node { return x.Exp().Sum() }, ""},
		{"top level", []float32{1, 100}, func(g *graph.Graph, x *graph.Node) *graph.Node {
			return x.Exp().Named("powers").Log().Sum()
		}, "exp f32[2] of powers, x: 1 of 2 elements"},
		{"an input", []float32{1, float32(math.NaN())}, func(g *graph.Graph, x *graph.Node) *graph.Node {
			return x.AddC(1).Sum()
		}, "input f32[2] of x: 1 of 2 elements"},
		{"a mask is meant", []float32{1, 100}, func(g *graph.Graph, x *graph.Node) *graph.Node {
			masked := graph.Select(x.Gt(x.C(2)), x.C(math.Inf(-1)), x)
			return masked.Exp().Sum().Sub(masked.ReduceMax()).MulC(1e38).MulC(100)
		}, "mul f32[]: 1 of 1 elements"},
		{"in a loop", []float32{1, 3}, func(g *graph.Graph, x *graph.Node) *graph.Node {
			last, _ := g.Loop(9, []*graph.Node{x}, nil, func(_ *graph.Node, carry, _ []*graph.Node) (next, stack []*graph.Node) {
				return []*graph.Node{carry[0].MulC(1e10).Named("grown")}, nil
			})
			return last[0].Sum()
		}, "mul f32[2] of grown, loop iteration 4: 2 of 2 elements"},
		{"in a loop in a loop", []float32{1, 3}, func(g *graph.Graph, x *graph.Node) *graph.Node {
			body := func(_ *graph.Node, carry, _ []*graph.Node) (next, stack []*graph.Node) {
				inner, _ := g.Loop(2, carry, nil, func(_ *graph.Node, carry, _ []*graph.Node) (next, stack []*graph.Node) {
					return []*graph.Node{carry[0].MulC(1e10).Named("grown")}, nil
				})
				return inner, nil
			}
			last, _ := g.Loop(3, []*graph.Node{x}, nil, body)
			return last[0].Sum()
		}, "mul f32[2] of grown, loop iteration 2, loop iteration 2: 2 of 2 elements"},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := graph.New("test")
			g.Output("y", c.build(g, g.Input("x", graph.F32, 2)))
			checks, err := addChecks(g)
			if err != nil {
				t.Fatal(err)
			}
			if err := graph.Verify(checks.g); err != nil {
				t.Fatal(err)
			}
			e, err := dev.Compile(checks.g, dev.NewState(), engine.Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer e.Close()
			if err := e.FeedBytes("x", engine.Bytes(c.x)); err != nil {
				t.Fatal(err)
			}
			if err := e.Run(); err != nil {
				t.Fatal(err)
			}
			got, err := checks.first(e)
			if err != nil {
				t.Fatal(err)
			}
			if number, rest, ok := strings.Cut(got, ", "); ok {
				if !strings.Contains(g.String(), number+" = ") {
					t.Errorf("the listing has no %s", number)
				}
				got = rest
			}
			if got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}
