package job

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"temper/adversarial/run"
	"temper/engine"
	"temper/engine/graph"
	"temper/engine/rng"
	"temper/nn"
)

// TestHalf compares with the numbers of IEEE 754.
func TestHalf(t *testing.T) {
	for bits, want := range map[uint16]float64{
		0x0000: 0, 0x3c00: 1, 0xc000: -2, 0x7bff: 65504, 0x0400: 0x1p-14, 0x0001: 0x1p-24, 0x03ff: 0x1p-14 - 0x1p-24,
		0x3555: 0.333251953125, 0x7c00: math.Inf(1), 0xfc00: math.Inf(-1),
	} {
		if got := half(bits); got != want {
			t.Errorf("%#04x is %v, want %v", bits, got, want)
		}
	}
	if math.Float64bits(half(0x8000)) != math.Float64bits(math.Copysign(0, -1)) || !math.IsNaN(half(0x7e00)) {
		t.Error("-0 or NaN")
	}
}

// tiny is a network with batch norm, and tensors for it.
func tiny(t *testing.T) (*nn.Model, []run.Tensor) {
	t.Helper()
	m, err := nn.Lookup("preactresnet18", nn.Config{Input: graph.Shape{3, 8, 8}, Classes: 3, Width: 2, Blocks: []int{1, 1, 1, 1}})
	if err != nil {
		t.Fatal(err)
	}
	var tensors []run.Tensor
	for k, s := range m.Specs() {
		x := run.Tensor{Name: s.Name, DType: "F32", Shape: s.Shape}
		for i := range s.Shape.Size() {
			x.Data = binary.LittleEndian.AppendUint32(x.Data, math.Float32bits(float32(k)+float32(i)/1024))
		}
		if s.DType == graph.I32 {
			x.DType, x.Data = "I64", []byte{9, 0, 0, 0, 0, 0, 0, 0}
		}
		tensors = append(tensors, x)
	}
	return m, tensors
}

// TestFit: what others write becomes a state; what is not the model's is refused
// by name.
func TestFit(t *testing.T) {
	m, good := tiny(t)
	edit := func(change func(x *run.Tensor) bool) (out []run.Tensor) {
		for _, x := range good {
			if change(&x) {
				out = append(out, x)
			}
		}
		return out
	}
	cast := func(name, dtype string, data ...byte) []run.Tensor {
		return edit(func(x *run.Tensor) bool {
			if x.Name == name {
				x.DType, x.Data = dtype, data
			}
			return true
		})
	}
	counter := func(x *run.Tensor) bool { return strings.HasSuffix(x.Name, counter) }
	for name, c := range map[string]struct {
		tensors []run.Tensor
		want    fitted // but for its tensors
	}{
		"as it is": {good, fitted{converted: map[string]int{}}},
		"module.":  {edit(func(x *run.Tensor) bool { x.Name = "module." + x.Name; return true }), fitted{converted: map[string]int{}, wrapper: "module."}},
		"i32": {edit(func(x *run.Tensor) bool {
			if counter(x) {
				x.DType, x.Data = "I32", x.Data[:4]
			}
			return true
		}), fitted{converted: map[string]int{}}},
		"no counters": {edit(func(x *run.Tensor) bool { return !counter(x) }), fitted{converted: map[string]int{},
			counters: 9}},
		"with the optimiser's": {append(slices.Clone(good), run.Tensor{Name: "optimizer/x", DType: "F32"}), fitted{converted: map[string]int{}}},
	} {
		f, err := fit(m, &run.Tensors{List: c.tensors})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if c.want.counters == 0 {
			if diff := cmp.Diff(good, f.tensors); diff != "" {
				t.Errorf("%s: %s", name, diff)
			}
		}
		f.tensors = nil
		if diff := cmp.Diff(c.want, *f, cmp.AllowUnexported(fitted{})); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	const bias = "linear.bias" // (3)
	for dtype, data := range map[string][]byte{
		"F16":  {0x00, 0x3c, 0x00, 0xc0, 0x00, 0x38},
		"BF16": {0x80, 0x3f, 0x00, 0xc0, 0x00, 0x3f},
		"F64":  {0, 0, 0, 0, 0, 0, 0xf0, 0x3f, 0, 0, 0, 0, 0, 0, 0, 0xc0, 0, 0, 0, 0, 0, 0, 0xe0, 0x3f},
	} {
		f, err := fit(m, &run.Tensors{List: cast(bias, dtype, data...)})
		if err != nil {
			t.Errorf("%s: %v", dtype, err)
			continue
		}
		got, _ := floats(byTensorName(f.tensors)[bias])
		if !slices.Equal(got, []float64{1, -2, 0.5}) || f.converted[dtype] != 1 {
			t.Errorf("%s: %v, %v", dtype, got, f.converted)
		}
	}
	for want, tensors := range map[string][]run.Tensor{
		`of another network, not of preactresnet18: 1 tensors are missing, the first is "conv1.weight"; 1 are not the model's, the first is "conv1.w"`: append(edit(func(x *run.Tensor) bool {
			return x.Name != "conv1.weight"
		}), run.Tensor{Name: "conv1.w", DType: "F32", Data: make([]byte, 4)}),
		`"linear.bias" is [1], want [3] (1 of other shapes)`: edit(func(x *run.Tensor) bool {
			if x.Name == bias {
				x.Shape, x.Data = []int{1}, x.Data[:4]
			}
			return true
		}),
		`tensor "linear.bias": element 1 is NaN, which float32 does not hold`:    cast(bias, "F32", 0, 0, 0, 0, 0, 0, 0xc0, 0x7f, 0, 0, 0, 0),
		`tensor "linear.bias": element 0 is 1e+300, which float32 does not hold`: cast(bias, "F64", append(binary.LittleEndian.AppendUint64(nil, math.Float64bits(1e300)), make([]byte, 16)...)...),
		`tensor "linear.bias" is U8: want floating-point numbers`:                cast(bias, "U8", 1, 2, 3),
		`num_batches_tracked" is -1: want a counter of 31 bits`:                  cast("bn.num_batches_tracked", "I64", 255, 255, 255, 255, 255, 255, 255, 255),
		`num_batches_tracked" is F32: want I64`:                                  cast("bn.num_batches_tracked", "F32", 0, 0, 0, 0),
	} {
		_, err := fit(m, &run.Tensors{List: tensors})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
	other, err := nn.Lookup("cifar-small", nn.Config{Input: graph.Shape{3, 8, 8}, Classes: 3})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fit(other, &run.Tensors{List: good}); err == nil || !strings.Contains(err.Error(), "of another network, not of cifar-small") {
		t.Error(err)
	}
}

// TestArchitectureOf tells the models apart by their tensors.
func TestArchitectureOf(t *testing.T) {
	for name, input := range map[string]graph.Shape{"mnist-madry": {1, 28, 28}, "cifar-small": {3, 32, 32}, "mnist-wong": {1, 28, 28}, "wideresnet-34-10": {3, 32, 32}, "preactresnet18": {3, 32, 32}, "resnet18": {3, 32, 32}, "dm-wideresnet-28-10": {3, 32, 32}} {
		m, err := nn.Lookup(name, nn.Config{Input: input, Classes: 10})
		if err != nil {
			t.Fatal(err)
		}
		var tensors []run.Tensor
		for _, s := range m.Specs() {
			tensors = append(tensors, run.Tensor{Name: s.Name, Shape: s.Shape})
		}
		if got := architectureOf(tensors); got != name {
			t.Errorf("%s is taken for %s", name, got)
		}
	}
}

// TestStrictInPyTorch loads every model's exported weights into the reference
// implementation with load_state_dict(strict=True), and compares the logits.
// TEMPER_REQUIRE=torch makes PyTorch a must; CI has none.
func TestStrictInPyTorch(t *testing.T) {
	python, err := exec.LookPath("python3")
	if p := os.Getenv("TEMPER_PEER_PYTHON"); p != "" {
		python, err = p, nil
	}
	if err == nil {
		err = exec.Command(python, "-c", "import torch, numpy").Run()
	}
	if err != nil {
		if slices.Contains(strings.Split(os.Getenv("TEMPER_REQUIRE"), ","), "torch") {
			t.Fatal("TEMPER_REQUIRE lists torch, but no python3 with torch and numpy was found (TEMPER_PEER_PYTHON)")
		}
		t.Skip("no python3 with torch and numpy (TEMPER_PEER_PYTHON)")
	}
	type question struct {
		Model  string         `json:"model"`
		Args   []any          `json:"args"`
		Kwargs map[string]any `json:"kwargs"`
		Mean   []float64      `json:"mean"`
		Std    []float64      `json:"std"`
		File   string         `json:"file"`
		X      string         `json:"x"`
		Shape  []int          `json:"shape"`
		Want   string         `json:"want"`
	}
	var input bytes.Buffer
	cases := []struct { // every model of nn
		settings []string
		model    string
		args     []any
	}{
		{[]string{"data.name=structured"}, "PatchCNN", []any{5, 16, 16, 3, 0.5}},
		{[]string{"data.name=mnist", "model.name=mnist-wong"}, "mnist_wong", []any{16, 32, 100, 28}},
		{[]string{"data.name=mnist", "model.name=mnist-madry", "model.normalize=dataset"}, "SmallCNN", []any{1, 28, 32, 64, 1024, 5}},
		{[]string{"data.name=cifar10", "model.name=cifar-small", "model.normalize=dataset"}, "SmallCNN", []any{3, 32, 32, 64, 128, 3}},
		{[]string{"data.name=cifar10", "model.name=preactresnet18", "model.normalize=dataset"}, "PreActResNet", []any{64, []int{2, 2, 2, 2}}},
		{[]string{"data.name=cifar10", "model.name=wideresnet-28-10", "model.widen=2", "model.normalize=none"}, "WideResNet", []any{28, 2, 16}},
		{[]string{"data.name=cifar10", "model.name=wideresnet-34-10", "model.widen=1", "model.normalize=none"}, "WideResNet", []any{34, 1, 16}},
		{[]string{"data.name=cifar10", "model.name=resnet18", "model.normalize=dataset"}, "ResNet", []any{64, []int{2, 2, 2, 2}}},
		{[]string{"data.name=cifar10", "model.name=dm-wideresnet-28-10", "model.widen=2", "model.normalize=none"}, "DMWideResNet", []any{28, 2, 16}},
	}
	left := nn.Names()
	for i, c := range cases {
		s := one(t, c.settings...)
		left = slices.DeleteFunc(left, func(name string) bool { return name == s.Model.Name })
		s.Device, s.Threads = "cpu", 1
		dir := t.TempDir()
		path := func(ext string) string { return filepath.Join(dir, c.model+string(rune('a'+i))+ext) }
		x, logits, shape := strictCase(t, &s, path(".safetensors"))
		for ext, data := range map[string][]byte{".x": x, ".want": logits} {
			if err := os.WriteFile(path(ext), data, 0o666); err != nil {
				t.Fatal(err)
			}
		}
		q := question{c.model, c.args, map[string]any{}, s.Model.Mean, s.Model.Std, path(".safetensors"), path(".x"), shape, path(".want")}
		if err := json.NewEncoder(&input).Encode(q); err != nil {
			t.Fatal(err)
		}
	}
	if len(left) > 0 {
		t.Errorf("%v are not compared", left)
	}
	command := exec.Command(python, filepath.Join("..", "..", "build", "oracle", "strict.py"))
	command.Stdin, command.Stderr = &input, os.Stderr
	out, err := command.Output()
	if err != nil {
		t.Fatal(err)
	}
	answers := bufio.NewScanner(bytes.NewReader(out))
	for _, c := range cases {
		answers.Scan()
		var a struct {
			Difference, Largest float64
			Error               string
		}
		if err := json.Unmarshal(answers.Bytes(), &a); err != nil || a.Error != "" {
			t.Errorf("%v: %v %s", c.settings, err, a.Error)
			continue
		}
		t.Logf("%v: logits differ by %.2g, the largest is %.3g", c.settings, a.Difference, a.Largest)
		if !(a.Difference <= 1e-5*max(1, a.Largest)) || a.Largest == 0 {
			t.Errorf("%v: logits differ by %v, the largest is %v", c.settings, a.Difference, a.Largest)
		}
	}
}

// strictCase exports a fresh network, with running statistics as if it had been
// trained, and returns two examples and its logits.
func strictCase(t *testing.T, s *Settings, file string) (x, logits []byte, shape []int) {
	t.Helper()
	ses, err := openSession(Console{}, s, infos[s.Data.Name], "")
	if err != nil {
		t.Fatal(err)
	}
	defer ses.close()
	if err := ses.initialize(); err != nil {
		t.Fatal(err)
	}
	random := rng.NewStream(5, "strict", 0)
	for _, spec := range ses.model.Specs() {
		low, high := float32(-0.2), float32(0.2)
		switch {
		case strings.HasSuffix(spec.Name, "running_var"):
			low, high = 0.5, 2
		case !strings.HasSuffix(spec.Name, "running_mean") && spec.Name != "fc.bias":
			continue
		}
		v := make([]float32, spec.Shape.Size())
		for i := range v {
			v[i] = low + (high-low)*random.Uniform()
		}
		if err := ses.state.SetBytes(spec.Name, engine.Bytes(v)); err != nil {
			t.Fatal(err)
		}
	}
	tensors, err := saveState(ses.state)
	if err == nil {
		tensors, err = modelWeights(ses.model, tensors)
	}
	if err != nil {
		t.Fatal(err)
	}
	meta, err := s.metadata(0)
	if err != nil {
		t.Fatal(err)
	}
	if err := run.WriteFileAtomic(file, func(w io.Writer) error {
		return run.WriteSafetensors(w, &run.Tensors{List: tensors, Metadata: meta})
	}); err != nil {
		t.Fatal(err)
	}
	shape = append([]int{2}, ses.model.Input...)
	v := make([]float32, graph.Shape(shape).Size())
	for i := range v {
		v[i] = random.Uniform()
	}
	g := graph.New("logits")
	params, buffers := ses.model.Declare(g, "")
	g.Output("logits", ses.model.Apply(params, buffers, g.Input("x", graph.F32, shape...), nn.Eval).Logits)
	e, err := ses.dev.Compile(g, ses.state, engine.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	x = engine.Bytes(v)
	if err := e.FeedBytes("x", x); err != nil {
		t.Fatal(err)
	}
	if err := e.Run(); err != nil {
		t.Fatal(err)
	}
	logits, err = e.FetchBytes("logits")
	if err != nil {
		t.Fatal(err)
	}
	return x, bytes.Clone(logits), shape
}

// An exported file says which data its network is for, and not where they lay; it
// comes back for any file like them.
func TestExportOwnData(t *testing.T) {
	args := stripes(t)
	file := strings.TrimPrefix(args[0], "data.name="+ownData)
	r := trainedWith(t, append(args, "batches.epochs=1")...)
	out := exportOf(t, r.Run)
	read, err := run.ReadSafetensorsFile(out)
	if err != nil {
		t.Fatal(err)
	}
	if config := read.Metadata[metaConfig]; !strings.Contains(config, "name = 'npz:stripes.npz'\n") || strings.Contains(config, filepath.Dir(file)) {
		t.Errorf("the file says %s", config)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(t.TempDir(), "other.npz")
	if err := os.WriteFile(other, append(b, 0), 0o666); err != nil { // another sum, the same arrays
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "again")
	if err := Import(silent, ImportOptions{File: out, Out: dir, User: user("data.name=" + ownData + other)}); err != nil {
		t.Fatal(err)
	}
	if e := measured(t, dir, "attack.name=fgsm"); e.N != 16 {
		t.Errorf("%d examples, want 16", e.N)
	}
}

// A file's own model keeps its sizes, named again or not; another model has its own.
func TestImportSizes(t *testing.T) {
	s := one(t, "data.name=mnist", "recipe=standard", "model.name=mnist-wong", "model.hidden=12")
	meta, err := s.metadata(1)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]int{"": 12, "mnist-wong": 12, "mnist-madry": one(t, "data.name=mnist", "recipe=standard", "model.name=mnist-madry").Model.Hidden} {
		var given []Assignment
		if name != "" {
			given = user("model.name=" + name)
		}
		got, err := importSettings(meta, given)
		if err != nil || got.Model.Hidden != want {
			t.Errorf("--model %q: %+v, %v; want %d hidden units", name, got, err, want)
		}
	}
}
