//go:build cgo && !windows

package cuda_test

import (
	"bytes"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"temper/adversarial"
	"temper/cuda"
	"temper/cuda/emulator"
	"temper/engine"
	"temper/engine/graph"
	"temper/engine/rng"
	"temper/nn"
)

// testDevice is the device that tests outside the package run on: the emulator, or
// $TEMPER_TEST_DEVICE. Nothing is timed there.
func testDevice(t *testing.T) string {
	t.Helper()
	t.Setenv("TEMPER_TUNE", "off")
	if spec := os.Getenv("TEMPER_TEST_DEVICE"); spec != "" {
		return spec
	}
	if err := emulator.Available(); err != nil && !slices.Contains(strings.Split(os.Getenv("TEMPER_REQUIRE"), ","), "cxx") {
		t.Skip(err)
	}
	return "emulator"
}

// scalarsModel is a narrow residual network on images of 8×8 pixels.
func scalarsModel(t *testing.T) *nn.Model {
	t.Helper()
	m, err := nn.Lookup("preactresnet18", nn.Config{Input: graph.Shape{3, 8, 8}, Classes: 5, Width: 8, Blocks: []int{1, 1, 1, 1}})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// trainer is a compiled training step of scalarsModel, with all that a step reads
// from the step block.
type trainer struct {
	t  *testing.T
	st *engine.State
	e  *engine.Executable
}

const trainerBatch = 4

var trainerScalars = map[string]float64{"seed": 5, "step": 2, "eps": 0.1, "alpha": 0.05, "lr": 0.1, "momentum": 0.45, "weight_decay": 5e-4, "average": 0.25}

func newTrainer(t *testing.T, dev *engine.Device) *trainer {
	t.Helper()
	tr := &trainer{t: t, st: dev.NewState()}
	training, err := adversarial.LookupTraining("pgd-at")
	tr.ok(err)
	training.Attack.Steps = 2
	training.Augment = adversarial.Augment{Crop: 1, Flip: true}
	training.Average.Name = "ema"
	threat := adversarial.ThreatModel{Norm: adversarial.Linf, Epsilon: adversarial.MustEpsilon("0.1"), Domain: adversarial.Unit}
	g, err := adversarial.StepGraph(scalarsModel(t), training, nn.SGD{Cycled: true}, threat, trainerBatch, graph.U8)
	tr.ok(err)
	tr.e, err = dev.Compile(g, tr.st, engine.Options{})
	tr.ok(err)
	t.Cleanup(func() { tr.e.Close(); tr.st.Free() })
	x, random := make([]byte, trainerBatch*3*8*8), rng.NewStream(1, "scalars", 0)
	for i := range x {
		x[i] = byte(random.IntN(256))
	}
	tr.ok(tr.e.FeedBytes("x", x))
	tr.ok(tr.e.FeedBytes("y", engine.Bytes([]int32{0, 1, 2, 4})))
	tr.ok(tr.e.FeedBytes("ids", engine.Bytes([]uint32{7, 1, 4, 9})))
	tr.set(trainerScalars)
	return tr
}

func (tr *trainer) ok(err error) {
	tr.t.Helper()
	if err != nil {
		tr.t.Fatal(err)
	}
}

func (tr *trainer) set(scalars map[string]float64) {
	tr.t.Helper()
	for name, v := range scalars {
		tr.ok(tr.e.Set(name, v))
	}
}

// start gives the states their first values.
func (tr *trainer) start(states map[string][]byte) {
	tr.t.Helper()
	for name, b := range states {
		tr.ok(tr.st.SetBytes(name, b))
	}
}

// states reads what every state is now.
func (tr *trainer) states() map[string][]byte {
	tr.t.Helper()
	all := map[string][]byte{}
	for _, name := range tr.st.Names() {
		b, err := tr.st.Bytes(name)
		tr.ok(err)
		all[name] = b
	}
	return all
}

// Each scalar of a training step, changed between two runs, acts in the second as
// if it had been so from the start, to the bit; nothing is compiled or
// instantiated for it.
func TestStepScalars(t *testing.T) {
	dev, err := engine.Open(testDevice(t), engine.DeviceOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dev.Close() })
	tr := newTrainer(t, dev)
	first := map[string][]byte{}
	for name, b := range tr.states() { // filters that do something, statistics of 1
		f, random := make([]float32, len(b)/4), rng.NewStream(1, name, 0)
		for i := range f {
			switch {
			case strings.HasSuffix(name, "num_batches_tracked"):
			case strings.HasSuffix(name, "running_var"):
				f[i] = 1
			case !strings.Contains(name, "momentum_buffer"):
				f[i] = random.Uniform() - 0.4
			}
		}
		first[name] = slices.Clone(engine.Bytes(f))
	}
	tr.start(first)
	tr.ok(tr.e.Run())
	second := tr.states()
	tr.ok(tr.e.Run())
	unchanged := tr.states()
	if known := slices.Sorted(maps.Keys(trainerScalars)); !slices.Equal(slices.Sorted(slices.Values(tr.e.Scalars())), known) {
		t.Errorf("the scalars are %v, want %v", tr.e.Scalars(), known)
	}
	compiled, captured := cuda.Made(dev)
	changed := map[string]map[string][]byte{}
	for name, v := range trainerScalars {
		tr.set(trainerScalars)
		tr.start(first)
		tr.ok(tr.e.Run())
		tr.ok(tr.e.Set(name, 2*v))
		tr.ok(tr.e.Run())
		changed[name] = tr.states()
		if maps.EqualFunc(changed[name], unchanged, bytes.Equal) {
			t.Errorf("%s does nothing", name)
		}
	}
	if nowCompiled, nowCaptured := cuda.Made(dev); nowCompiled != compiled || nowCaptured != captured {
		t.Errorf("%d kernels were compiled and %d graphs instantiated for changes of scalars", nowCompiled-compiled, nowCaptured-captured)
	}
	for name, v := range trainerScalars {
		anew := newTrainer(t, dev)
		anew.start(second)
		anew.ok(anew.e.Set(name, 2*v))
		anew.ok(anew.e.Run())
		if !maps.EqualFunc(changed[name], anew.states(), bytes.Equal) {
			t.Errorf("%s changed between runs gives other weights than from the start", name)
		}
	}
}
