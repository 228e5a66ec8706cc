package nn

import (
	"strings"
	"testing"

	"temper/engine/graph"
)

func mnist() Config { return Config{Input: graph.Shape{1, 28, 28}, Classes: 10} }
func cifar() Config { return Config{Input: graph.Shape{3, 32, 32}, Classes: 10} }

// inputs maps every registered model to the data that it was made for.
var inputs = map[string]Config{
	"patchcnn":            {Input: graph.Shape{16, 1, 81}, Classes: 5},
	"mnist-wong":          mnist(),
	"mnist-madry":         mnist(),
	"cifar-small":         cifar(),
	"preactresnet18":      cifar(),
	"resnet18":            cifar(),
	"dm-wideresnet-28-10": cifar(),
	"wideresnet-28-10":    cifar(),
	"wideresnet-34-10":    cifar(),
}

func lookup(t *testing.T, name string, c Config) *Model {
	t.Helper()
	m, err := Lookup(name, c)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// Every model builds in every mode, can be differentiated, and gives logits,
// features and buffers of the right shapes.
func TestModelsBuild(t *testing.T) {
	for _, name := range Names() {
		m := lookup(t, name, inputs[name])
		for _, mode := range []Mode{Eval, Batch, BatchUpdate} {
			g := graph.New(name)
			x := g.Input("x", graph.F32, append(graph.Shape{2}, m.Input...)...)
			y := g.Input("y", graph.I32, 2)
			params, buffers := m.Declare(g, "")
			out := m.Apply(params, buffers, x, mode)
			grads := Grad(CrossEntropy(out.Logits, y).Mean(), params)
			opt := SGD{Momentum: 0.9}
			slots := opt.Declare(g, "opt/", params)
			p, v := opt.Step(params, grads, slots, Rates{LR: g.Scalar("lr", graph.F32)})
			Assign(params, p)
			Assign(slots, v)
			Assign(buffers, out.Buffers)
			g.Output("logits", out.Logits)
			if err := graph.Verify(g); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if !out.Logits.Shape().Equal(graph.Shape{2, m.Classes}) || out.Features.Rank() != 2 {
				t.Errorf("%s: logits %v, features %v", name, out.Logits.Shape(), out.Features.Shape())
			}
			changed := 0
			for i, b := range out.Buffers {
				if b.Node != buffers[i].Node {
					changed++
				}
			}
			if want := map[bool]int{true: len(buffers)}[mode == BatchUpdate]; changed != want {
				t.Errorf("%s, %v: %d buffers change, want %d", name, mode, changed, want)
			}
		}
	}
}

// The counts that the reference implementations report.
func TestParameters(t *testing.T) {
	patches := mnist()
	patches.Patch = 4
	for _, c := range []struct {
		model  string
		config Config
		want   int
	}{
		{"preactresnet18", cifar(), 11172170},
		{"resnet18", cifar(), 11173962},
		{"dm-wideresnet-28-10", cifar(), 36479194},
		{"wideresnet-28-10", cifar(), 36479194},
		{"wideresnet-34-10", cifar(), 46160474},
		{"mnist-wong", mnist(), 16*16 + 16 + 32*16*16 + 32 + 1568*100 + 100 + 1010},
		{"patchcnn", inputs["patchcnn"], 5 * 16 * 16},
		{"patchcnn", patches, 10 * 16 * 16},
	} {
		if got := lookup(t, c.model, c.config).Parameters(); got != c.want {
			t.Errorf("%s: %d parameters, want %d", c.model, got, c.want)
		}
	}
}

// Two copies of a model live in one graph under different prefixes.
func TestDeclareTwice(t *testing.T) {
	m := lookup(t, "mnist-wong", mnist())
	g := graph.New("two")
	a, _ := m.Declare(g, "")
	b, _ := m.Declare(g, "ema.")
	for i := range a {
		if a[i].Name != b[i].Name || a[i].Node == b[i].Node || b[i].Node.Attrs().Name != "ema."+a[i].Name {
			t.Errorf("%s: states %q and %q", a[i].Name, a[i].Node.Attrs().Name, b[i].Node.Attrs().Name)
		}
	}
}

func TestParseMode(t *testing.T) {
	for _, m := range []Mode{Eval, Batch, BatchUpdate} {
		if got, err := ParseMode(m.String()); got != m || err != nil {
			t.Errorf("ParseMode(%q) = %v, %v", m, got, err)
		}
	}
	if _, err := ParseMode("train"); err == nil || !strings.Contains(err.Error(), "eval, batch, batch-update") {
		t.Errorf("error %v", err)
	}
}

func TestLookupErrors(t *testing.T) {
	with := func(c Config, f func(*Config)) Config { f(&c); return c }
	for _, c := range []struct {
		name   string
		config Config
		want   string
	}{
		{"preactresnet-18", cifar(), `unknown model "preactresnet-18": did you mean preactresnet18, `},
		{"mnist-madry", Config{}, "input [] and 0 classes"},
		{"mnist-madry", Config{Input: graph.Shape{1, 3, 3}, Classes: 10}, "kernel of 2"},
		{"mnist-wong", with(mnist(), func(c *Config) { c.Q = 3 }), `no setting "q" (settings: width, hidden)`},
		{"mnist-wong", with(mnist(), func(c *Config) { c.Width = -1 }), "width -1"},
		{"mnist-wong", with(mnist(), func(c *Config) { c.Mean, c.Std = []float64{1, 2}, []float64{1, 1} }), "2 means"},
		{"patchcnn", with(inputs["patchcnn"], func(c *Config) { c.Q = 1.5 }), "q 1.5"},
		{"preactresnet18", with(cifar(), func(c *Config) { c.Blocks = []int{2, 2} }), "blocks [2 2]: want 4"},
		{"preactresnet18", with(cifar(), func(c *Config) { c.Activation = "gelu" }), `unknown activation "gelu"`},
	} {
		if _, err := Lookup(c.name, c.config); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v does not say %q", c.name, err, c.want)
		}
	}
}
