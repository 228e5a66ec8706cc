package nn

import (
	"math"
	"testing"

	"temper/engine/graph"
	"temper/engine/interp"
	"temper/engine/rng"
)

func TestOracleInit(t *testing.T) {
	f := readFixture(t, "init")
	for _, r := range f.settings["initialisers"].([]any) {
		row := r.(map[string]any)
		var shape graph.Shape
		for _, d := range row["shape"].([]any) {
			shape = append(shape, int(d.(float64)))
		}
		for name, c := range map[string]struct {
			init Init
			kind LawKind
		}{
			"kaiming_uniform_a_sqrt5_bound":   {DefaultWeight, UniformLaw},
			"default_bias_bound":              {DefaultBias(shape...), UniformLaw},
			"kaiming_normal_fan_out_relu_std": {KaimingNormal(FanOut), NormalLaw},
			"xavier_uniform_bound":            {XavierUniform, UniformLaw},
			"xavier_normal_std":               {XavierNormal, NormalLaw},
		} {
			law, want := c.init(shape), row[name].(float64)
			if law.Kind != c.kind || math.Abs(law.Scale/want-1) > 1e-12 {
				t.Errorf("%s of %v: %v, want %v", name, shape, law, want)
			}
		}
		if law, want := KaimingNormal(FanIn)(shape), math.Sqrt(2/row["fan_in"].(float64)); law != (Law{NormalLaw, want}) {
			t.Errorf("KaimingNormal(FanIn) of %v: %v, want std %v", shape, law, want)
		}
	}
}

// What each kind of tensor starts from.
func TestModelLaws(t *testing.T) {
	for _, c := range []struct {
		model, name string
		want        Law
	}{
		{"patchcnn", "conv.weight", Law{NormalLaw, 0.05}},
		{"mnist-wong", "0.weight", Law{UniformLaw, 1. / 4}},
		{"mnist-wong", "0.bias", Law{UniformLaw, 1. / 4}},
		{"mnist-wong", "2.bias", Law{UniformLaw, 1. / 16}},
		{"mnist-madry", "fc1.weight", Law{UniformLaw, 1. / 56}},
		{"preactresnet18", "conv1.weight", Law{UniformLaw, 1 / math.Sqrt(27)}},
		{"preactresnet18", "linear.bias", Law{UniformLaw, 1 / math.Sqrt(512)}},
		{"preactresnet18", "bn.weight", Law{ConstantLaw, 1}},
		{"preactresnet18", "bn.running_var", Law{ConstantLaw, 1}},
		{"preactresnet18", "bn.num_batches_tracked", Law{ConstantLaw, 0}},
		{"wideresnet-28-10", "conv1.weight", Law{NormalLaw, math.Sqrt(2. / 144)}},
		{"wideresnet-28-10", "fc.weight", Law{UniformLaw, 1 / math.Sqrt(640)}},
		{"wideresnet-28-10", "fc.bias", Law{ConstantLaw, 0}},
	} {
		for _, s := range lookup(t, c.model, inputs[c.model]).Specs() {
			if s.Name == c.name && (s.Law.Kind != c.want.Kind || math.Abs(s.Law.Scale-c.want.Scale) > 1e-15) {
				t.Errorf("%s, %s: %v, want %v", c.model, c.name, s.Law, c.want)
			}
		}
	}
}

// The initial values follow their laws, differ between tensors and between
// seeds, and are the generator's own words.
func TestInitGraph(t *testing.T) {
	c := cifar()
	c.Width = 8
	m := lookup(t, "preactresnet18", c)
	seed := func(s float64) map[string]*interp.Tensor {
		g := m.InitGraph()
		feed := interp.Feed{"scalar seed": interp.New(graph.U32, nil, s)}
		for _, a := range g.Assigns() {
			feed[interp.Key(a.State)] = interp.New(a.State.DType(), a.State.Shape(), math.NaN())
		}
		r, err := interp.RunRounded(g, feed)
		must(t, err)
		return r.States
	}
	one, two := seed(1), seed(2)
	for _, s := range m.Specs() {
		x := one[s.Name]
		if x == nil || !x.Shape.Equal(s.Shape) {
			t.Fatalf("%s: %v", s.Name, x)
		}
		checkLaw(t, s, x.Data)
		if s.Law.Kind != ConstantLaw && x.Data[0] == two[s.Name].Data[0] {
			t.Errorf("%s does not depend on the seed", s.Name)
		}
	}
	if a, b := one["layer1.0.conv1.weight"].Data[0], one["layer1.0.conv2.weight"].Data[0]; a == b {
		t.Error("two tensors start from the same draws")
	}
	d := rng.Draw{Seed: 1, Site: rng.Site("conv1.weight")}
	bound := float32(m.Specs()[0].Law.Scale)
	for i, v := range one["conv1.weight"].Data {
		if want := float64(float32((2*rng.Uniform(d.Word(uint32(i))) - 1) * bound)); v != want {
			t.Fatalf("conv1.weight[%d] is %v, want %v", i, v, want)
		}
	}
}

// checkLaw checks the bound, and mean and variance to five standard errors.
func checkLaw(t *testing.T, s Spec, x []float64) {
	t.Helper()
	n, sum, squares := float64(len(x)), 0.0, 0.0
	for _, v := range x {
		if s.Law.Kind == UniformLaw && math.Abs(v) > s.Law.Scale*(1+0x1p-24) || s.Law.Kind == ConstantLaw && v != s.Law.Scale {
			t.Fatalf("%s: %v outside of %v", s.Name, v, s.Law)
		}
		sum += v
		squares += v * v
	}
	variance, kurtosis := s.Law.Scale*s.Law.Scale, 3.0
	if s.Law.Kind == UniformLaw {
		variance, kurtosis = variance/3, 9./5
	}
	if s.Law.Kind == ConstantLaw {
		return
	}
	if mean := sum / n; math.Abs(mean) > 5*math.Sqrt(variance/n) {
		t.Errorf("%s: mean %v of %v", s.Name, mean, s.Law)
	}
	if r := squares / n / variance; math.Abs(r-1) > 5*math.Sqrt((kurtosis-1)/n) {
		t.Errorf("%s: variance off by a factor of %v", s.Name, r)
	}
}
