package onnx_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"temper/engine"
	_ "temper/engine/cpu"
	"temper/engine/graph"
	"temper/engine/onnx"
	"temper/engine/rng"
	"temper/nn"
)

// python is an interpreter with onnx and onnxruntime: TEMPER_PYTHON, or python3.
// Without one it skips the test, or fails it where TEMPER_REQUIRE lists "onnx".
func python(t *testing.T) string {
	t.Helper()
	name := os.Getenv("TEMPER_PYTHON")
	if name == "" {
		name = "python3"
	}
	if err := exec.Command(name, "-c", "import onnx, onnxruntime").Run(); err != nil {
		if slices.Contains(strings.Split(os.Getenv("TEMPER_REQUIRE"), ","), "onnx") {
			t.Fatalf("TEMPER_REQUIRE lists onnx, but %s has no onnx and onnxruntime (TEMPER_PYTHON): %v", name, err)
		}
		t.Skipf("%s has no onnx and onnxruntime (TEMPER_PYTHON)", name)
	}
	return name
}

// cifar is a normalised model for CIFAR-10's images.
func cifar(c nn.Config) nn.Config {
	c.Input, c.Classes = graph.Shape{3, 32, 32}, 10
	c.Mean, c.Std = []float64{0.4914, 0.4822, 0.4465}, []float64{0.2471, 0.2435, 0.2616}
	return c
}

var mnist = nn.Config{Input: graph.Shape{1, 28, 28}, Classes: 10, Mean: []float64{0.1307}, Std: []float64{0.3081}}

// configs has an entry, or several, for every model. The wide networks are
// narrow here, with as many layers.
var configs = map[string][]nn.Config{
	"patchcnn":         {{Input: graph.Shape{8, 1, 6}, Classes: 4}, {Input: graph.Shape{3, 32, 32}, Classes: 10, Patch: 4, Q: 2.5}},
	"mnist-wong":       {mnist},
	"mnist-madry":      {mnist},
	"cifar-small":      {cifar(nn.Config{})},
	"preactresnet18":   {cifar(nn.Config{}), cifar(nn.Config{Width: 8, Activation: "silu"})},
	"wideresnet-28-10": {cifar(nn.Config{Widen: 2})},
	"wideresnet-34-10": {cifar(nn.Config{Widen: 1, Activation: "silu"})},
}

// TestModels runs every model of the registry in onnxruntime, at two batch
// sizes of one file.
func TestModels(t *testing.T) {
	interpreter := python(t)
	dir := t.TempDir()
	type question struct {
		File    string `json:"file"`
		X       string `json:"x"`
		Shape   []int  `json:"shape"`
		Want    string `json:"want"`
		Classes int    `json:"classes"`
	}
	var cases []question
	var input bytes.Buffer
	for _, name := range nn.Names() {
		if len(configs[name]) == 0 {
			t.Errorf("no configuration of %s: add one to configs", name)
		}
		for i, c := range configs[name] {
			m, err := nn.Lookup(name, c)
			if err != nil {
				t.Fatal(err)
			}
			base := filepath.Join(dir, name+string(rune('a'+i)))
			n := trained(t, m)
			f, err := os.Create(base + ".onnx")
			if err == nil {
				err = onnx.Write(f, n.logits, onnx.Options{State: n.state.Bytes, Metadata: map[string]string{"model": name}})
			}
			if err == nil {
				err = f.Close()
			}
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			for _, batch := range []int{1, 3} {
				q := question{base + ".onnx", base + ".x", append([]int{batch}, m.Input...), base + ".want", m.Classes}
				q.X, q.Want = q.X+string(rune('0'+batch)), q.Want+string(rune('0'+batch))
				x, want := n.run(t, batch)
				for path, data := range map[string][]byte{q.X: x, q.Want: want} {
					if err := os.WriteFile(path, data, 0o666); err != nil {
						t.Fatal(err)
					}
				}
				cases = append(cases, q)
				if err := json.NewEncoder(&input).Encode(q); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	command := exec.Command(interpreter, filepath.Join("testdata", "run.py"))
	command.Stdin, command.Stderr = &input, os.Stderr
	out, err := command.Output()
	if err != nil {
		t.Fatal(err)
	}
	answers := bufio.NewScanner(bytes.NewReader(out))
	for _, q := range cases {
		answers.Scan()
		var a struct {
			Difference, Largest float64
			Error               string
		}
		name := filepath.Base(q.Want)
		if err := json.Unmarshal(answers.Bytes(), &a); err != nil || a.Error != "" {
			t.Errorf("%s: %v %s", name, err, a.Error)
			continue
		}
		t.Logf("%s: logits differ by %.2g, the largest is %.3g", name, a.Difference, a.Largest)
		if !(a.Difference <= 1e-5*max(1, a.Largest)) || a.Largest == 0 {
			t.Errorf("%s: logits differ by %v, the largest is %v", name, a.Difference, a.Largest)
		}
	}
}

// network is a model with weights on the CPU.
type network struct {
	model  *nn.Model
	dev    *engine.Device
	state  *engine.State
	logits func(batch int) (*graph.Graph, error)
}

// trained has the weights of the start, and running statistics as if it had been
// trained.
func trained(t *testing.T, m *nn.Model) *network {
	t.Helper()
	dev, err := engine.Open("cpu", engine.DeviceOptions{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dev.Close() })
	n := &network{model: m, dev: dev, state: dev.NewState()}
	n.logits = func(batch int) (*graph.Graph, error) {
		g := graph.New(m.Name)
		x := g.Input("x", graph.F32, append([]int{batch}, m.Input...)...)
		params, buffers := m.Declare(g, "")
		g.Output("logits", m.Apply(params, buffers, x, nn.Eval).Logits)
		return g, g.Err()
	}
	init, err := dev.Compile(m.InitGraph(), n.state, engine.Options{})
	if err == nil {
		err = init.Set("seed", 3)
	}
	if err == nil {
		err = init.Run()
	}
	if err != nil {
		t.Fatal(err)
	}
	random := rng.NewStream(5, "statistics", 0)
	for _, s := range m.Specs() {
		low, high := float32(0), float32(0)
		switch {
		case strings.HasSuffix(s.Name, "running_mean"), strings.HasSuffix(s.Name, "fc.bias"):
			low, high = -0.2, 0.2
		case strings.HasSuffix(s.Name, "running_var"):
			low, high = 0.5, 2
		default:
			continue
		}
		v := make([]float32, s.Shape.Size())
		for i := range v {
			v[i] = low + (high-low)*random.Uniform()
		}
		if err := n.state.SetBytes(s.Name, engine.Bytes(v)); err != nil {
			t.Fatal(err)
		}
	}
	return n
}

// run returns a batch of images in [0,1) and temper's logits for it.
func (n *network) run(t *testing.T, batch int) (x, logits []byte) {
	t.Helper()
	random := rng.NewStream(7, "images", uint32(batch))
	v := make([]float32, batch*n.model.Input.Size())
	for i := range v {
		v[i] = random.Uniform()
	}
	g, err := n.logits(batch)
	if err != nil {
		t.Fatal(err)
	}
	exe, err := n.dev.Compile(g, n.state, engine.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer exe.Close()
	x = engine.Bytes(v)
	if err := exe.FeedBytes("x", x); err != nil {
		t.Fatal(err)
	}
	if err := exe.Run(); err != nil {
		t.Fatal(err)
	}
	b, err := exe.FetchBytes("logits")
	if err != nil {
		t.Fatal(err)
	}
	return x, bytes.Clone(b)
}
