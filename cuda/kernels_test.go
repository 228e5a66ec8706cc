//go:build cgo && !windows

package cuda

import (
	"math"
	"os"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"

	"temper/cuda/emulator"
	"temper/engine"
	"temper/engine/graph"
	"temper/engine/interp"
	"temper/engine/optest"
	"temper/engine/passes"
	"temper/engine/plan"
	"temper/engine/rng"
)

func planOf(t testing.TB, g *graph.Graph, precision graph.Precision) *plan.Plan {
	t.Helper()
	return plan.Build(must(passes.Run(g, passes.Options{Target: Target(precision)}))(t), Target(precision).Plan(plan.Options{}))
}

// testDevice is the device that tests run on: the emulator, or $TEMPER_TEST_DEVICE.
func testDevice() string {
	if spec := os.Getenv("TEMPER_TEST_DEVICE"); spec != "" {
		return spec
	}
	return "emulator"
}

// openEmulator opens the emulator as a back end, in the mode that options ask
// for, and with all kernels of some plans compiled together. On another testDevice
// the options are ignored, and what is for checked mode is skipped.
func openEmulator(t testing.TB, options string, plans ...*plan.Plan) (*engine.Device, *gpu) {
	t.Helper()
	spec := testDevice()
	if err := emulator.Available(); spec == "emulator" && err != nil && !required("cxx") {
		t.Skip(err)
	}
	if spec != "emulator" && strings.Contains(options, "checked") {
		t.Skip("checked mode is the emulator's")
	}
	t.Setenv("TEMPER_EMULATOR", options)
	t.Setenv("TEMPER_TUNE", "off")
	dev, err := engine.Open(spec, engine.DeviceOptions{})
	if err != nil {
		t.Fatal(err)
	}
	g := dev.Driver.(*gpu)
	t.Cleanup(func() {
		if err := dev.Close(); err != nil && !t.Failed() {
			t.Error(err)
		}
		if spec == "emulator" {
			usual(t, g.lib)
		}
	})
	loadAll(t, g, plans)
	return dev, g
}

// loadAll compiles all kernels of some plans together.
func loadAll(t testing.TB, g *gpu, plans []*plan.Plan) {
	t.Helper()
	var all []Kernel
	for _, p := range plans {
		_, ks, err := kernelsOf(p, target{capability: g.Device.Info.Capability})
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, ks...)
	}
	if err := g.load(all); err != nil {
		t.Fatal(err)
	}
}

// kernelCase is an op case at one type.
type kernelCase struct {
	*optest.Case
	dt   graph.DType
	g    *graph.Graph
	plan *plan.Plan
}

func (c *kernelCase) name() string { return c.Name + "/" + c.dt.String() }

// foreign says whether a case has operations that only passes for other targets
// write: filters in panels are the CPU's.
func foreign(c *optest.Case) bool { return strings.HasPrefix(c.Name, "pack") }

// kernelCases lists the op cases that keep accepts.
func kernelCases(t *testing.T, keep func(c *kernelCase) bool) (cases []*kernelCase, plans []*plan.Plan) {
	for _, c := range optest.Cases() {
		if foreign(c) {
			continue
		}
		for _, dt := range c.Types {
			e := &kernelCase{Case: c, dt: dt, g: must(c.Graph(dt))(t)}
			e.plan = planOf(t, e.g, graph.PrecisionFloat32)
			if keep(e) {
				cases, plans = append(cases, e), append(plans, e.plan)
			}
		}
	}
	return cases, plans
}

// agree compares the back end with the reference interpreter.
func agree(t *testing.T, dev *engine.Device, cases []*kernelCase) {
	run := optest.On(dev, engine.Options{})
	for _, c := range cases {
		t.Run(c.name(), func(t *testing.T) {
			feed := c.Feed(c.dt)
			want := must(interp.RunRounded(c.g, feed))(t)
			if err := c.Tol.CompareResults(want, must(run(c.g, feed))(t)); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestKernels runs every op case.
func TestKernels(t *testing.T) {
	cases, plans := kernelCases(t, func(*kernelCase) bool { return true })
	dev, _ := openEmulator(t, "", plans...)
	agree(t, dev, cases)
}

// TestKernelsChecked runs the small ones of f32 in checked mode: the
// kernels must be free of races and read nothing that is not there. In other orders:
// go test -run KernelsChecked -args -mode copies=2,seed=5.
func TestKernelsChecked(t *testing.T) {
	cases, plans := kernelCases(t, func(c *kernelCase) bool {
		bytes := 0
		for i := range c.plan.Buffers {
			bytes += c.plan.Buffers[i].Bytes()
		}
		return c.dt == graph.F32 && bytes < 1<<18
	})
	dev, _ := openEmulator(t, "checked,seed=1,"+*emulatorMode, plans...)
	agree(t, dev, cases)
}

// TestKernelsCompile compiles kernels of TestKernels for a GPU. Those of
// gradients and of f64 are the same but for indices and types.
func TestKernelsCompile(t *testing.T) {
	c := nvrtc(t)
	_, plans := kernelCases(t, func(c *kernelCase) bool { return c.dt != graph.F64 && !strings.HasSuffix(c.Name, "/gradient") })
	seen := map[string]bool{}
	var names, sources []string
	for _, p := range plans {
		_, ks, err := kernelsOf(p, target{capability: 80})
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range ks {
			if !seen[k.Name] {
				seen[k.Name] = true
				names, sources = append(names, k.Name), append(sources, k.Source)
			}
		}
	}
	var group errgroup.Group
	group.SetLimit(2)
	for from := 0; from < len(names); from += 200 {
		to := min(from+200, len(names))
		group.Go(func() error {
			_, resources, err := c.Compile("kernels.cu", Unit(sources[from:to]...), "sm_90")
			for _, name := range names[from:to] {
				if r := resources[name]; err == nil && (r.Registers == 0 || r.Spills != 0) {
					t.Errorf("%s: %d registers, %d bytes of spills", name, r.Registers, r.Spills)
				}
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
}

// TestNormalBits compares words and normals with package rng to the bit.
func TestNormalBits(t *testing.T) {
	g := graph.New("normals")
	draw := graph.Draw{Seed: g.Scalar("seed", graph.U32), IDs: g.Input("ids", graph.U32, 5), Step: g.Scalar("step", graph.U32), Iter: g.Scalar("iter", graph.U32)}
	words := draw.Words("site", 10007)
	g.Output("words", words)
	g.Output("normal", g.Make(graph.OpNormal, graph.Attrs{}, words))
	g.Output("uniform", draw.Uniform("site", 10007))
	ids := []float64{0, 1, 77, 1 << 31, math.MaxUint32}
	dev, _ := openEmulator(t, "")
	got := must(optest.On(dev, engine.Options{})(g, interp.Feed{
		"scalar seed": interp.New(graph.U32, nil, 3), "input ids": interp.New(graph.U32, graph.Shape{5}, ids...),
		"scalar step": interp.New(graph.U32, nil, 9), "scalar iter": interp.New(graph.U32, nil, 2),
	}))(t)
	for i := range 5 * 10007 {
		w := rng.Draw{Seed: 3, Site: rng.Site("site"), ID: uint32(ids[i/10007]), Step: 9, Iter: 2}.Word(uint32(i % 10007))
		for name, want := range map[string]float64{"words": float64(w), "normal": float64(rng.Normal(w)), "uniform": float64(rng.Uniform(w))} {
			if v := got.Outputs[name].Data[i]; math.Float64bits(v) != math.Float64bits(want) {
				t.Fatalf("%s %d is %v, want %v", name, i, v, want)
			}
		}
	}
}

// TestPGD runs ten ascent steps of a small convolutional network in checked
// mode. A gradient that is all but zero may have either sign.
func TestPGD(t *testing.T) {
	dev, _ := openEmulator(t, "checked")
	g, feed := pgdStep(), interp.Feed{}
	s := rng.NewStream(1, "TestPGD", 0)
	for _, n := range g.Root().Nodes() {
		switch name := n.Attrs().Name; n.Op() {
		case graph.OpInput, graph.OpState, graph.OpScalar:
			x := interp.New(n.DType(), n.Shape())
			for i := range x.Data {
				switch {
				case name == "y":
					x.Data[i] = float64(s.IntN(10))
				case name == "eps":
					x.Data[i] = float64(float32(0.1))
				case name == "alpha":
					x.Data[i] = float64(float32(0.02))
				case n.Op() == graph.OpInput:
					x.Data[i] = float64(s.Uniform())
				default:
					x.Data[i] = float64(s.Uniform() - 0.5)
				}
			}
			feed[interp.Key(n)] = x
		}
	}
	want := must(interp.Run(g, feed))(t).Outputs["x_adv"]
	got := must(optest.On(dev, engine.Options{})(g, feed))(t).Outputs["x_adv"]
	differ, moved := 0, 0
	for i, w := range want.Data {
		if math.Abs(got.Data[i]-w) > 1e-5 {
			differ++
		}
		if w != feed["input x"].Data[i] {
			moved++
		}
	}
	if n := len(want.Data); differ > n/1000 || moved < n/2 {
		t.Errorf("of %d pixels %d differ and %d were moved", n, differ, moved)
	}
}
