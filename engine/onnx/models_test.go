package onnx_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"temper/engine"
	_ "temper/engine/cpu"
	"temper/engine/graph"
	"temper/engine/onnx"
	"temper/engine/rng"
	"temper/nn"
)

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
	"patchcnn":            {{Input: graph.Shape{8, 1, 6}, Classes: 4}, {Input: graph.Shape{3, 32, 32}, Classes: 10, Patch: 4, Q: 2.5}},
	"mnist-wong":          {mnist},
	"mnist-madry":         {mnist},
	"cifar-small":         {cifar(nn.Config{})},
	"preactresnet18":      {cifar(nn.Config{}), cifar(nn.Config{Width: 8, Activation: "silu"})},
	"resnet18":            {cifar(nn.Config{Width: 16})},
	"dm-wideresnet-28-10": {cifar(nn.Config{Widen: 1})},
	"wideresnet-28-10":    {cifar(nn.Config{Widen: 2})},
	"wideresnet-34-10":    {cifar(nn.Config{Widen: 1, Activation: "silu"})},
}

// TestModels runs every model of the registry in onnxruntime, at two batch
// sizes of one file.
func TestModels(t *testing.T) {
	r := &runtime{python: python(t)}
	dir := t.TempDir()
	type run struct {
		*question
		name string
		want []float32
	}
	var runs []run
	for _, name := range nn.Names() {
		if len(configs[name]) == 0 {
			t.Errorf("no configuration of %s: add one to configs", name)
		}
		for i, c := range configs[name] {
			m, err := nn.Lookup(name, c)
			if err != nil {
				t.Fatal(err)
			}
			n := trained(t, m)
			var file bytes.Buffer
			if err := onnx.Write(&file, n.logits, onnx.Options{State: n.state.Bytes, Metadata: map[string]string{"model": name}}); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			for _, batch := range []int{1, 3} {
				path := filepath.Join(dir, fmt.Sprintf("%s-%d-%d.onnx", name, i, batch))
				if err := os.WriteFile(path, file.Bytes(), 0o666); err != nil {
					t.Fatal(err)
				}
				x, want := n.run(t, batch)
				shape := append(graph.Shape{batch}, m.Input...)
				q := r.ask(t, path, map[string]graph.Shape{"x": shape}, map[string][]byte{"x": engine.Bytes(x)}, "logits")
				runs = append(runs, run{q, filepath.Base(path), want})
			}
		}
	}
	r.run(t)
	for _, q := range runs {
		if q.Error != "" {
			t.Errorf("%s: %s", q.name, q.Error)
			continue
		}
		if q.Declared["x"][0] != "N" || q.Declared["logits"][0] != "N" || len(q.Declared["x"]) != 4 {
			t.Errorf("%s: declared %v", q.name, q.Declared)
		}
		difference, largest := 0.0, 0.0
		b := q.output(t, "logits")
		if len(b) != 4*len(q.want) {
			t.Fatalf("%s: %d bytes for %d logits", q.name, len(b), len(q.want))
		}
		for i, want := range q.want {
			got := math.Float32frombits(binary.LittleEndian.Uint32(b[4*i:]))
			difference = math.Max(difference, math.Abs(float64(got)-float64(want)))
			largest = math.Max(largest, math.Abs(float64(want)))
		}
		t.Logf("%s: logits differ by %.2g, the largest is %.3g", q.name, difference, largest)
		if !(difference <= 1e-5*max(1, largest)) || largest == 0 {
			t.Errorf("%s: logits differ by %v, the largest is %v", q.name, difference, largest)
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
func (n *network) run(t *testing.T, batch int) (x, logits []float32) {
	t.Helper()
	random := rng.NewStream(7, "images", uint32(batch))
	x = make([]float32, batch*n.model.Input.Size())
	for i := range x {
		x[i] = random.Uniform()
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
	if err := exe.FeedBytes("x", engine.Bytes(x)); err != nil {
		t.Fatal(err)
	}
	if err := exe.Run(); err != nil {
		t.Fatal(err)
	}
	logits = make([]float32, batch*n.model.Classes)
	b, err := exe.FetchBytes("logits")
	if err != nil {
		t.Fatal(err)
	}
	copy(engine.Bytes(logits), b)
	return x, logits
}
