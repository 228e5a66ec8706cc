package features

import (
	"bytes"
	"context"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"temper/adversarial/job"
	"temper/adversarial/run"
	"temper/datasets"
	"temper/engine"
	"temper/engine/graph"
)

// dataDir is the folder of real data sets. Without it the test is skipped, or
// fails where TEMPER_REQUIRE lists "data".
func dataDir(t *testing.T) string {
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

// TestImagesQuick runs the whole protocol on few images of each data set: the
// folder is complete, the nets learn, and the bits do not depend on threads.
func TestImagesQuick(t *testing.T) {
	dir := dataDir(t)
	for _, c := range []struct{ dataset, model string }{{"mnist", "mnist-wong"}, {"mnist", "patchcnn"}, {"svhn", "cifar-small"}, {"cifar10", "patchcnn"}} {
		t.Run(c.dataset+" "+c.model, func(t *testing.T) {
			var first []byte
			workers := []int{2}
			if c.model == "mnist-wong" {
				workers = []int{2, 1}
			}
			for _, threads := range workers {
				root := t.TempDir()
				o := Options{Root: root, Dataset: c.dataset, DataDir: dir, Device: "cpu", Threads: threads, Quick: true}
				for key, v := range map[string]string{"model": c.model, "match_n": "60", "test_n": "60", "limit": "300", "match_steps": "10", "attack_steps": "2", "test_steps": "3", "epochs": "1", "start": map[string]string{"mnist-wong": "noise"}[c.model]} {
					if v == "" {
						v = "image"
					}
					o.User = append(o.User, job.Assignment{Key: key, Value: v, Source: "--set"})
				}
				var out, errs bytes.Buffer
				if err := Command(t.Context(), job.Console{Out: &out, Err: &errs, JSON: true}, o); err != nil {
					t.Fatal(err)
				}
				if first == nil {
					first = out.Bytes()
					checkImages(t, root, out.Bytes())
				}
				if !bytes.Equal(out.Bytes(), first) {
					t.Error("other bits with another number of threads")
				}
			}
		})
	}
}

func checkImages(t *testing.T, root string, out []byte) {
	var r ImageResult
	if err := json.Unmarshal(out, &r); err != nil {
		t.Fatal(err)
	}
	if len(r.Trials) != 2 || len(r.Trials[0].Epochs) != 2 || len(r.Claims) != len(imageClaims) {
		t.Fatalf("trials %+v", r.Trials)
	}
	for _, trial := range r.Trials {
		for _, e := range trial.Epochs {
			for _, a := range accuracies {
				if v, ok := e.Values[a.name]; !ok || v < 0 || v > 1 {
					t.Errorf("%s, epoch %d: %s = %v", trial.Training, e.Epoch, a.name, v)
				}
			}
			if c, ok := e.Values["to_means"]; !ok || c < -1 || c > 1 {
				t.Errorf("%s: a cosine of %v", trial.Training, c)
			}
			if e.Values["robust"] > e.Values["clean"] {
				t.Errorf("%s: more right under attack than without: %v", trial.Training, e.Values)
			}
		}
	}
	if want := (ImageSizes{Generators: 150, Scored: 150, Set: 60, Test: 60}); r.Sizes != want {
		t.Errorf("sizes %+v, want %+v", r.Sizes, want)
	}
	for set, left := range r.Matched {
		if !(left[0] < 1) {
			t.Errorf("%s: the descent leaves %v of the distance", set, left)
		}
	}
	dirs, _ := filepath.Glob(filepath.Join(root, "*-features-*"))
	checkGallery(t, filepath.Join(dirs[0], trialsFile))
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
		if bytes.Contains(b, []byte("image/jpg")) {
			t.Errorf("%s: PNG is called JPEG", svg)
		}
	}
	for _, set := range ConstructedSets() {
		file, err := run.ReadSafetensorsFile(filepath.Join(dirs[0], setsDir, "seed0-"+set+".safetensors"))
		if err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(file.List, func(x run.Tensor) bool { return x.Name == "x" && x.Shape[0] == 60 })
		if len(file.List) != 2 || i < 0 {
			t.Errorf("%s: %d tensors, no x of 60 images", set, len(file.List))
		}
	}
}

// checkGallery: a row for each set, and each net's perturbations and gradients,
// which are not flat.
func checkGallery(t *testing.T, file string) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var one SeedResult
	if err := json.Unmarshal(b, &one); err != nil {
		t.Fatal(err)
	}
	var labels []string
	for at, row := range one.Gallery.Rows {
		labels = append(labels, row.Label)
		for i, x := range row.Images {
			if ofNet := at > len(ConstructedSets()); ofNet && (slices.Min(x) > 64 || slices.Max(x) < 192) {
				t.Errorf("%s of class %s: shades from %d to %d", row.Label, one.Gallery.Classes[i], slices.Min(x), slices.Max(x))
			}
		}
	}
	want := []string{"given", "D_R", "D_NR", "control", "δ, standard", "∂L/∂x, standard", "δ, adversarial", "∂L/∂x, adversarial"}
	if !slices.Equal(labels, want) {
		t.Errorf("rows %q, want %q", labels, want)
	}
}

// TestGallery: perturbations and gradients are shown in their own units, and the
// pictures of the sets are the sets'.
func TestGallery(t *testing.T) {
	given, err := datasets.NewSet(datasets.Info{Name: "four", Channels: 1, Height: 1, Width: 2, Classes: []string{"a", "b", "c"}},
		datasets.Values{U8: []byte{1, 2, 3, 4, 5, 6, 7, 8}}, []int32{2, 0, 2, 0})
	if err != nil {
		t.Fatal(err)
	}
	g := newGallery(given)
	if !slices.Equal(g.Classes, []string{"a", "c"}) || !slices.Equal(g.Rows[0].Images[0], []byte{3, 4}) || !slices.Equal(g.Rows[0].Images[1], []byte{1, 2}) {
		t.Errorf("columns %v of %v", g.Classes, g.Rows)
	}
	if got := g.shades([]float64{-1, 0, 0.5, 7}); !slices.Equal(got[0], []byte{0, 128}) || !slices.Equal(got[1], []byte{191, 255}) {
		t.Errorf("shades %v", got)
	}
	if b := g.batch(); b.N != 2 || !slices.Equal(b.Labels, []int32{0, 2}) || !slices.Equal(b.IDs, []uint32{1, 0}) || !slices.Equal(b.U8, []byte{3, 4, 1, 2}) {
		t.Errorf("batch %+v", b)
	}
	var none *gallery
	none.addSet("nothing", given)
	if err := none.addNet(nil, Standard); err != nil {
		t.Error(err)
	}
}

// TestImageHalves: no image is on both sides, and no two nets share a seed.
func TestImageHalves(t *testing.T) {
	seen := map[uint32]bool{}
	for seed := range uint32(5) {
		for i := range len(ConstructedSets()) + len(Trainings()) {
			if s := netSeed(seed, i); seen[s] {
				t.Errorf("seed %d, net %d: its seed is taken", seed, i)
			} else {
				seen[s] = true
			}
		}
	}
	train, _, err := datasets.DefaultStructured().Generate(0)
	if err != nil {
		t.Fatal(err)
	}
	a, b, err := datasets.HoldOut(train, train.Len()/2, 1, true)
	if err != nil {
		t.Fatal(err)
	}
	ids := map[uint32]bool{}
	for i := range a.Len() {
		ids[a.ID(i)] = true
	}
	for i := range b.Len() {
		if ids[b.ID(i)] {
			t.Errorf("image %d is in both halves", b.ID(i))
		}
	}
}

func TestBadImageInput(t *testing.T) {
	for _, c := range []struct {
		o    Options
		want string
	}{
		{Options{Dataset: "imagenet"}, `unknown dataset "imagenet"`},
		{Options{Dataset: "mnist", Sweep: "ratio"}, "--sweep is for structured data"},
		{Options{Quick: true}, "--quick is for real images"},
		{Options{Dataset: "mnist", DataDir: "nowhere"}, "temper data fetch mnist"},
		{Options{Dataset: "mnist", User: []job.Assignment{{Key: "seeds", Value: "0", Source: "--seeds"}}}, "seeds = 0: want at least 1"},
		{Options{Dataset: "mnist", User: []job.Assignment{{Key: "eps", Value: "0", Source: "--set"}}}, "want eps > 0"},
		{Options{Dataset: "mnist", User: []job.Assignment{{Key: "k", Value: "3", Source: "--set"}}}, "k"},
		{Options{Dataset: "mnist", User: []job.Assignment{{Key: "start", Value: "zero", Source: "--set"}}}, "want noise or image"},
		{Options{Dataset: "mnist", User: []job.Assignment{{Key: "limit", Value: "1", Source: "--set"}}}, "limit = 1"},
		{Options{Dataset: "mnist", User: []job.Assignment{{Key: "eps", Value: "1e-30", Source: "--set"}}}, "eps = 1e-30"},
		{Options{Dataset: "mnist", User: []job.Assignment{{Key: "patch", Value: "4", Source: "--set"}}}, "only the model patchcnn"},
		{Options{Dataset: "mnist", User: []job.Assignment{{Key: "model", Value: "patchcnn", Source: "--set"}, {Key: "patch", Value: "0", Source: "--set"}}}, "patch cannot be 0: leave it out, and it is 4"},
	} {
		c.o.Root = t.TempDir()
		c.o.Device = "cpu"
		err := Command(t.Context(), job.Console{Out: &bytes.Buffer{}, Err: &bytes.Buffer{}}, c.o)
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%+v: %v; want one line with %q", c.o, err, c.want)
		}
		if left, _ := os.ReadDir(c.o.Root); len(left) > 0 {
			t.Errorf("%+v: left %v", c.o, left)
		}
	}
}

func TestToMeans(t *testing.T) {
	n := &net{studio: &studio{means: [][]float64{{0, 0}, {1, 0}, {0, 1}}}}
	x := []byte{51, 51} // 0.2
	for _, c := range []struct {
		moved []float64
		y     int
		want  float64
	}{
		{[]float64{0.5, 0.2}, 0, 1},              // straight to class 1
		{[]float64{0.2, 0.9}, 0, 1},              // to class 2
		{[]float64{0.1, 0.2}, 0, 0},              // away from 1, across to 2
		{[]float64{0.1, 0.2}, 1, 1},              // from 1 to 0
		{[]float64{0.2, 0.2}, 1, 0},              // not moved
		{[]float64{0.3, 0.3}, 0, math.Sqrt(0.5)}, // between the two
	} {
		if got := n.toMeans(c.moved, x, c.y); math.Abs(got-c.want) > 1e-9 {
			t.Errorf("%v from class %d: %v, want %v", c.moved, c.y, got, c.want)
		}
	}
}

// TestRobustIsCleanToo: an image that is right under the attack alone is not robust.
func TestRobustIsCleanToo(t *testing.T) {
	s, err := ImageDefaults("mnist")
	if err != nil {
		t.Fatal(err)
	}
	dev, err := engine.Open("cpu", engine.DeviceOptions{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	labels := []int32{0, 0, 0, 1, 1, 2, 3, 3, 3, 3}
	test, err := datasets.NewSet(datasets.Info{Name: "ten", Channels: 1, Height: 1, Width: 1, Classes: make([]string, 4)}, datasets.Values{U8: make([]byte, len(labels))}, labels)
	if err != nil {
		t.Fatal(err)
	}
	state := dev.NewState()
	defer state.Free()
	n := &net{studio: &studio{ImageSettings: s, dev: dev, test: test, means: [][]float64{{0}, {1}, {1}, {1}}}, state: state}
	// Class 0 is right always, 1 clean only, 2 under the attack only, 3 never.
	n.hard = dev.NewProgram(state, func(batch int) (*graph.Graph, error) {
		g := graph.New("ten")
		x, y := g.Input("x", graph.U8, batch, 1, 1, 1).Convert(graph.F32), g.Input("y", graph.I32, batch)
		g.Input("ids", graph.U32, batch)
		g.Output("clean_correct", y.Lt(y.C(2)))
		g.Output("adv_correct", y.Eq(y.C(0)).Or(y.Eq(y.C(2))))
		g.Output("norm", x.Reshape(batch))
		g.Output("x_adv", x)
		return g, g.Err()
	}, engine.Options{})
	defer n.hard.Close()
	values := map[string]float64{}
	if err := n.withstand(t.Context(), values); err != nil || values["clean"] != 0.5 || values["robust"] != 0.3 {
		t.Errorf("%v, %v: want clean 0.5 and robust 0.3", values, err)
	}
}

// TestImageVerdicts: a claim about images holds if the whole interval over seeds is
// beyond 0; one seed has none, and settles nothing.
func TestImageVerdicts(t *testing.T) {
	for _, c := range []struct {
		better         []float64 // adversarial over standard training on D_R, by seed
		holds, settled bool
		verdict        string
	}{
		{[]float64{0.2, 0.21, 0.22}, true, true, "holds             "},
		{[]float64{0.01, 0.2, 0.4}, false, false, "does not hold here (the interval crosses it: 3 seeds do not settle this)"},
		{[]float64{-0.2, -0.21, -0.22}, false, true, "does not hold here"},
		{[]float64{0.2}, false, false, "is not decided     (one seed has no interval)"},
	} {
		r := &ImageResult{}
		for _, training := range Trainings() {
			for seed, v := range c.better {
				values := map[string]float64{RobustSet: 0.5}
				if training == Adversarial {
					values[RobustSet] += v
				}
				r.Trials = append(r.Trials, ImageTrial{Seed: uint32(seed), Training: training, Epochs: []EpochReading{{Values: values}}})
			}
		}
		v := r.verdicts()[1]
		if v.ID != "adversarial-learns-robust" || v.Holds != c.holds || v.Settled != c.settled || v.verdict()+v.caveat() != c.verdict {
			t.Errorf("%v: %+v, %q", c.better, v, v.verdict()+v.caveat())
		}
	}
}

// TestClassMeans against a mean by hand, on two grey images and an empty class.
func TestClassMeans(t *testing.T) {
	set, err := datasets.NewSet(datasets.Info{Name: "two", Channels: 1, Height: 1, Width: 2, Classes: []string{"a", "b"}},
		datasets.Values{U8: []byte{0, 255, 255, 255}}, []int32{0, 0})
	if err != nil {
		t.Fatal(err)
	}
	if m := classMeans(set); !slices.Equal(m[0], []float64{0.5, 1}) || !slices.Equal(m[1], []float64{0, 0}) {
		t.Errorf("%v", m)
	}
}

// TestImagesResume: a run whose second seed was lost goes on with it, and ends
// as one that was not interrupted.
func TestImagesResume(t *testing.T) {
	o := Options{Root: t.TempDir(), Dataset: "mnist", DataDir: dataDir(t), Device: "cpu", Quick: true}
	for key, v := range map[string]string{"seeds": "2", "match_n": "40", "test_n": "40", "limit": "120", "match_steps": "3", "attack_steps": "1", "test_steps": "2", "epochs": "1"} {
		o.User = append(o.User, job.Assignment{Key: key, Value: v, Source: "--set"})
	}
	do := func(ctx context.Context, o Options) (string, error) {
		var out bytes.Buffer
		err := Command(ctx, job.Console{Out: &out, Err: &bytes.Buffer{}, JSON: true}, o)
		return out.String(), err
	}
	straight, err := do(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	dirs, _ := filepath.Glob(filepath.Join(o.Root, "*-features-mnist"))
	trials := filepath.Join(dirs[0], trialsFile)
	b, err := os.ReadFile(trials)
	if err != nil {
		t.Fatal(err)
	}
	first := bytes.IndexByte(b, '\n') + 1
	if err := os.WriteFile(trials, b[:first+30], 0o666); err != nil {
		t.Fatal(err)
	}
	again := Options{Root: o.Root, Dataset: "mnist", DataDir: o.DataDir, Device: "cpu", Resume: filepath.Base(dirs[0])}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := do(ctx, again); err == nil || !strings.Contains(err.Error(), "temper features --dataset mnist --resume "+dirs[0]) {
		t.Errorf("interrupted: %v", err)
	}
	if resumed, err := do(t.Context(), again); err != nil || resumed != straight {
		t.Errorf("%v\nresumed:  %s\nstraight: %s", err, resumed, straight)
	}
	again.Dataset = "" // the run's
	if resumed, err := do(t.Context(), again); err != nil || resumed != straight {
		t.Errorf("without the data set's name: %v\nresumed:  %s\nstraight: %s", err, resumed, straight)
	}
	again.Dataset = "svhn"
	if _, err := do(t.Context(), again); err == nil || !strings.Contains(err.Error(), "is a run on mnist") {
		t.Errorf("another data set: %v", err)
	}
}

func TestUnknownImageModel(t *testing.T) {
	o := Options{Root: t.TempDir(), Dataset: "mnist", DataDir: dataDir(t), Device: "cpu",
		User: []job.Assignment{{Key: "model", Value: "mnist-wang", Source: "--set"}}}
	err := Command(t.Context(), job.Console{Out: &bytes.Buffer{}, Err: &bytes.Buffer{}}, o)
	if err == nil || !strings.Contains(err.Error(), "did you mean mnist-wong") {
		t.Errorf("%v", err)
	}
	if left, _ := os.ReadDir(o.Root); len(left) > 0 {
		t.Errorf("left %v", left)
	}
}

func TestInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := Command(ctx, job.Console{Out: &bytes.Buffer{}, Err: &bytes.Buffer{}}, Options{Root: t.TempDir()})
	if job.ExitCode(err) != 130 || !strings.Contains(err.Error(), "interrupted") {
		t.Errorf("%v, exit code %d", err, job.ExitCode(err))
	}
}
