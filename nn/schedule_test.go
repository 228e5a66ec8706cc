package nn

import (
	"math"
	"reflect"
	"strings"
	"testing"

	"temper/engine/graph"
	"temper/engine/interp"
)

// PyTorch's schedulers step 50 times; where a setting of ours is in epochs, an
// epoch has one step here.
func TestOracleSchedules(t *testing.T) {
	f := readFixture(t, "schedules")
	for _, c := range []struct {
		name     string
		config   ScheduleConfig
		perEpoch int
	}{
		{"StepLR", ScheduleConfig{Name: "step", LR: 0.1, Gamma: 0.1, Every: 15}, 1},
		{"MultiStepLR", ScheduleConfig{Name: "multistep", LR: 0.1, Gamma: 0.1, Milestones: []int{20, 40}}, 1},
		{"CosineAnnealingLR", ScheduleConfig{Name: "cosine", LR: 0.1, Min: 0.001}, 1},
		{"CyclicLR", ScheduleConfig{Name: "cyclic", LR: 0.2, Min: 0.01, Up: 12, Down: 18}, 1},
		{"CyclicLR", ScheduleConfig{Name: "cyclic", LR: 0.2, Min: 0.01, Up: 1.2, Down: 1.8}, 10},
		{"OneCycleLR", ScheduleConfig{Name: "one-cycle", LR: 0.2}, 10},
		{"OneCycleLR-linear", ScheduleConfig{Name: "one-cycle", LR: 0.2, Warm: 0.4, Linear: true}, 5},
		{"PiecewiseLinear", ScheduleConfig{Name: "piecewise", LR: 0.2, Knots: []float64{0, 2, 5}, Factors: []float64{0, 1, 0}}, 10},
	} {
		s, err := c.config.Schedule()
		must(t, err)
		rates := interp.New(graph.F32, graph.Shape{50})
		for i := range rates.Data {
			rates.Data[i] = s(Progress{Step: i, PerEpoch: c.perEpoch, Epochs: 50 / c.perEpoch})
		}
		near(t, c.name, rates, f.get(t, c.name))
	}
}

// The momentum that moves with the rate, and what an optimiser that takes it makes
// of a weight: PyTorch's, step by step.
func TestOracleMomentum(t *testing.T) {
	f := readFixture(t, "schedules")
	for _, c := range []struct {
		name     string
		config   ScheduleConfig
		perEpoch int
		opt      Optimizer
	}{
		{"CyclicLR-momentum", ScheduleConfig{Name: "cyclic", LR: 0.2, Min: 0.01, Up: 1.2, Down: 1.8, CycleMomentum: true}, 10, SGD{Cycled: true}},
		{"CyclicLR-nesterov", ScheduleConfig{Name: "cyclic", LR: 0.2, Min: 0.01, CycleMomentum: true, BaseMomentum: 0.5, MaxMomentum: 0.75}, 5,
			SGD{Momentum: 0.9, Nesterov: true, Cycled: true}},
		{"OneCycleLR-momentum", ScheduleConfig{Name: "one-cycle", LR: 0.2, CycleMomentum: true}, 5, SGD{Cycled: true}},
		{"OneCycleLR-linear-adam", ScheduleConfig{Name: "one-cycle", LR: 0.2, Warm: 0.4, Linear: true, CycleMomentum: true}, 50,
			Adam{Beta1: 0.9, Beta2: 0.999, Eps: 1e-8, Cycled: true}},
	} {
		rate, err := c.config.Schedule()
		must(t, err)
		momentum, err := c.config.Momentum()
		must(t, err)
		g := graph.New(c.name)
		params := Tree{{"w", g.State("w", graph.F32)}}
		slots := c.opt.Declare(g, "opt/", params)
		grads := Tree{{"w", params.Get("w").AddC(-0.25)}}
		newParams, newSlots := c.opt.Step(params, grads, slots, Rates{LR: g.Scalar("lr", graph.F32), Momentum: g.Scalar("momentum", graph.F32)})
		Assign(params, newParams)
		Assign(slots, newSlots)
		feed := interp.Feed{"state w": interp.New(graph.F32, nil, 1)}
		for _, s := range slots {
			feed[interp.Key(s.Node)] = interp.New(s.Node.DType(), s.Node.Shape())
		}
		series := map[string]*interp.Tensor{}
		for _, name := range []string{"", "/momentum", "/w"} {
			series[name] = interp.New(graph.F32, graph.Shape{50})
		}
		for i := range 50 {
			p := Progress{Step: i, PerEpoch: c.perEpoch, Epochs: 50 / c.perEpoch}
			series[""].Data[i], series["/momentum"].Data[i] = rate(p), momentum(p)
			feed["scalar lr"], feed["scalar momentum"] = interp.New(graph.F32, nil, rate(p)), interp.New(graph.F32, nil, momentum(p))
			r := eval(t, g, feed)
			for name, v := range r.States {
				feed["state "+name] = v
			}
			series["/w"].Data[i] = r.States["w"].Data[0]
		}
		for name, got := range series {
			near(t, c.name+name, got, f.get(t, c.name+name))
		}
	}
	if m, err := (ScheduleConfig{Name: "cyclic", LR: 0.2}).Momentum(); m != nil || err != nil {
		t.Errorf("a momentum that was not asked for moves: %v", err)
	}
}

// Per-epoch schedules hold their rate within an epoch; the others move.
func TestSchedulesWithinEpoch(t *testing.T) {
	for _, c := range []struct {
		config ScheduleConfig
		want   []float64 // steps 0, 3, 4, 9 of 3 epochs of 4 steps
	}{
		{ScheduleConfig{Name: "constant", LR: 0.1}, []float64{0.1, 0.1, 0.1, 0.1}},
		{ScheduleConfig{Name: "step", LR: 1, Gamma: 0.5, Every: 1}, []float64{1, 1, 0.5, 0.25}},
		{ScheduleConfig{Name: "multistep", LR: 1, Gamma: 0.5, Milestones: []int{1, 1, 3}}, []float64{1, 1, 0.25, 0.25}},
		{ScheduleConfig{Name: "cosine", LR: 1}, []float64{1, (1 + math.Cos(math.Pi/4)) / 2, 0.75, (1 + math.Cos(math.Pi*3/4)) / 2}},
		{ScheduleConfig{Name: "cyclic", LR: 1}, []float64{0, 0.5, 4. / 6, 0.5}},
		{ScheduleConfig{Name: "piecewise", LR: 2, Knots: []float64{0.5, 1}, Factors: []float64{1, 3}}, []float64{2, 6, 6, 6}},
	} {
		s, err := c.config.Schedule()
		must(t, err)
		for i, step := range []int{0, 3, 4, 9} {
			if got := s(Progress{Step: step, PerEpoch: 4, Epochs: 3}); math.Abs(got-c.want[i]) > 1e-12 {
				t.Errorf("%s: rate %v at step %d, want %v", c.config.Name, got, step, c.want[i])
			}
		}
	}
}

// What Complete makes visible is what the schedule does without it.
func TestScheduleComplete(t *testing.T) {
	for _, c := range []struct{ config, want ScheduleConfig }{
		{ScheduleConfig{Name: "cyclic", LR: 1}, ScheduleConfig{Name: "cyclic", LR: 1, Up: 1.5, Down: 1.5}},
		{ScheduleConfig{Name: "cyclic", LR: 1, Up: 1}, ScheduleConfig{Name: "cyclic", LR: 1, Up: 1, Down: 1}},
		{ScheduleConfig{Name: "cyclic", LR: 1, Up: 1, Down: 2}, ScheduleConfig{Name: "cyclic", LR: 1, Up: 1, Down: 2}},
		{ScheduleConfig{Name: "one-cycle", LR: 1, Div: 5}, ScheduleConfig{Name: "one-cycle", LR: 1, Warm: 0.3, Div: 5, FinalDiv: 1e4}},
		{ScheduleConfig{Name: "cosine", LR: 1}, ScheduleConfig{Name: "cosine", LR: 1}},
	} {
		full := c.config.Complete(3)
		if !reflect.DeepEqual(full, c.want) {
			t.Errorf("%+v becomes %+v, want %+v", c.config, full, c.want)
		}
		before, err := c.config.Schedule()
		must(t, err)
		after, err := full.Schedule()
		must(t, err)
		for step := range 12 {
			if p := (Progress{Step: step, PerEpoch: 4, Epochs: 3}); before(p) != after(p) {
				t.Errorf("%+v: rate %v at step %d, with its defaults made visible %v", c.config, before(p), step, after(p))
			}
		}
	}
}

func TestScheduleErrors(t *testing.T) {
	for _, c := range []struct {
		config ScheduleConfig
		want   string
	}{
		{ScheduleConfig{Name: "cos", LR: 1}, `unknown schedule "cos": did you mean cosine`},
		{ScheduleConfig{Name: "cosine"}, "learning rate 0"},
		{ScheduleConfig{Name: "cosine", LR: 1, Min: 2}, "min 2"},
		{ScheduleConfig{Name: "constant", LR: 1, Gamma: 1}, `no setting "gamma" (settings: none)`},
		{ScheduleConfig{Name: "step", LR: 1, Gamma: 0.1}, "every 0"},
		{ScheduleConfig{Name: "multistep", LR: 1, Gamma: 0.1, Milestones: []int{5, 2}}, "milestones [5 2]"},
		{ScheduleConfig{Name: "cyclic", LR: 1, Down: 3}, "down 3"},
		{ScheduleConfig{Name: "one-cycle", LR: 1, Warm: 1}, "warm 1"},
		{ScheduleConfig{Name: "cyclic", LR: 1, CycleMomentum: true, BaseMomentum: 0.95}, "base_momentum 0.95, max_momentum 0.9: want"},
		{ScheduleConfig{Name: "one-cycle", LR: 1, CycleMomentum: true, MaxMomentum: 1}, "base_momentum 0.85, max_momentum 1: want"},
		{ScheduleConfig{Name: "cyclic", LR: 1, MaxMomentum: 0.95}, "they are of cycle_momentum, which is off"},
		{ScheduleConfig{Name: "cosine", LR: 1, CycleMomentum: true}, `schedule cosine: it has no setting "cycle-momentum"`},
		{ScheduleConfig{Name: "piecewise", LR: 1, Knots: []float64{0, 1}, Factors: []float64{1}}, "knots [0 1]"},
	} {
		if _, err := c.config.Schedule(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: error %v does not say %q", c.config, err, c.want)
		}
	}
}
