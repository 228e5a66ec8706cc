package adversarial

import (
	"math"
	"slices"
	"strings"
	"testing"

	"temper/engine/graph"
	"temper/engine/interp"
	"temper/nn"
)

// The weights of an average, step by step, give what its definition says.
func TestAverageWeights(t *testing.T) {
	const perEpoch, epochs = 3, 5
	for _, c := range []struct {
		average Average
		want    func(w []float64, step int) float64 // of the weights w[0] … w[step] after each step
	}{
		{Average{Name: "ema", Decay: 0.75}, func(w []float64, step int) float64 {
			at := w[0]
			for _, v := range w[1 : step+1] {
				at = 0.75*at + 0.25*v
			}
			return at
		}},
		{Average{Name: "ema", Decay: 0.75, Start: 2}, func(w []float64, step int) float64 {
			if step < 2*perEpoch {
				return w[step]
			}
			at := w[2*perEpoch]
			for _, v := range w[2*perEpoch+1 : step+1] {
				at = 0.75*at + 0.25*v
			}
			return at
		}},
		{Average{Name: "swa", Start: 2}, func(w []float64, step int) float64 {
			done := (step + 1) / perEpoch
			if step < 2*perEpoch {
				return w[step]
			}
			sum := 0.0
			for e := 2; e <= done; e++ {
				sum += w[e*perEpoch-1]
			}
			return sum / float64(done-1)
		}},
	} {
		at := 100.0
		w := make([]float64, perEpoch*epochs)
		for step := range w {
			w[step] = math.Sin(float64(step))
			weight := c.average.Weight(nn.Progress{Step: step, PerEpoch: perEpoch, Epochs: epochs})
			at += weight * (w[step] - at)
			if want := c.want(w, step); math.Abs(at-want) > 1e-12 {
				t.Errorf("%s: %v after step %d, want %v", c.average.Describe(), at, step+1, want)
			}
		}
	}
}

// An average that begins within an epoch takes that epoch's end for its first.
func TestSWAStartsWithinAnEpoch(t *testing.T) {
	for start, first := range map[float64]int{0: 1, 1: 1, 1.5: 2, 2: 2, 2.01: 3} {
		a := Average{Name: "swa", Start: start}
		for epoch := 1; epoch <= 5; epoch++ {
			want := 1.0
			if epoch > first {
				want = 1 / float64(epoch-first+1)
			}
			if got := a.Weight(nn.Progress{Step: 4*epoch - 1, PerEpoch: 4, Epochs: 5}); got != want {
				t.Errorf("from %v on, the end of epoch %d weighs %v, want %v", start, epoch, got, want)
			}
		}
	}
}

// A step moves the averaged states by their share towards what it makes of the
// others, with or without batch norm's statistics, and moves the others as a step
// without an average does, to the bit.
func TestAverageInStep(t *testing.T) {
	const n, share = 4, 0.25
	m := tiny(t, "preactresnet18")
	start := with(startOf(t, m, 1), batch(m, n, graph.F32, 1), scalars(8./255, 4./255, 0.1))
	for _, s := range m.Specs() {
		x := start["state "+s.Name]
		y := interp.New(x.DType, x.Shape, slices.Clone(x.Data)...)
		for i := range y.Data {
			y.Data[i] += float64(i % 3)
		}
		start["state "+AveragePrefix+s.Name] = y
	}
	run := func(a Average) *interp.Result {
		tr := Training{Method: "pgd-at", Attack: Attack{Name: "pgd", Steps: 1}, Average: a}
		g, err := StepGraph(m, tr, nn.SGD{}, imageThreat, n, graph.F32)
		must(t, err)
		return eval(t, g, start)
	}
	plain := run(Average{})
	for _, bn := range []string{bnAverage, bnRecompute} {
		got := run(Average{Name: "ema", BN: bn})
		for _, s := range m.Specs() {
			if !slices.Equal(got.States[s.Name].Data, plain.States[s.Name].Data) {
				t.Errorf("bn %s: %s is another one", bn, s.Name)
			}
			after := got.States[AveragePrefix+s.Name]
			if s.Buffer && bn == bnRecompute {
				if after != nil {
					t.Errorf("bn %s: %s is assigned", bn, s.Name)
				}
				continue
			}
			old := start["state "+AveragePrefix+s.Name].Data
			for i, v := range plain.States[s.Name].Data {
				want := (1-share)*old[i] + share*v
				if s.DType == graph.I32 {
					want = v
				}
				if math.Abs(after.Data[i]-want) > 1e-12 {
					t.Fatalf("bn %s: %s[%d] is %v, want %v", bn, s.Name, i, after.Data[i], want)
				}
			}
		}
	}
}

// Measured anew over batches, running statistics are the mean of the batches'
// own, as PyTorch's update_bn makes them; normalising by one batch's, evaluation
// gives what batch mode gives, up to the variance's n/(n−1).
func TestStatistics(t *testing.T) {
	const n = 8
	m := tiny(t, "preactresnet18")
	g, err := StatisticsGraph(m, n, graph.F32)
	must(t, err)
	state := startOf(t, m, 1)
	for _, s := range m.Specs() {
		if s.DType == graph.I32 { // as an earlier pass leaves it
			state["state "+s.Name].Data[0] = 7
		}
	}
	var own []map[string][]float64
	for k := range 3 {
		h := graph.New("own")
		params, buffers := m.Declare(h, "")
		x := h.Input("x", graph.F32, n, m.Input[0], m.Input[1], m.Input[2])
		for _, l := range m.Apply(params, buffers, x, nn.BatchUpdate).Buffers {
			h.Output(l.Name, l.Node)
		}
		feed := with(state, batch(m, n, graph.F32, uint32(k+1)), scalars(0, 0, 0), interp.Feed{"scalar weight": interp.New(graph.F32, nil, 1/float64(k+1))})
		before := map[string][]float64{}
		for _, s := range m.Specs() {
			before[s.Name] = state["state "+s.Name].Data
		}
		after, batchOwn := eval(t, h, feed).Outputs, map[string][]float64{}
		for name, x := range after {
			for i, v := range x.Data { // undo the blending
				batchOwn[name] = append(batchOwn[name], (v-0.9*before[name][i])/0.1)
			}
		}
		own = append(own, batchOwn)
		r := eval(t, g, feed)
		for name, x := range r.States {
			state["state "+name] = x
		}
	}
	for _, s := range m.Specs() {
		if s.DType == graph.I32 {
			if got := state["state "+s.Name].Data[0]; got != 3 {
				t.Errorf("%s counts %v batches, want 3", s.Name, got)
			}
			continue
		}
		if !s.Buffer {
			continue
		}
		for i, got := range state["state "+s.Name].Data {
			want := (own[0][s.Name][i] + own[1][s.Name][i] + own[2][s.Name][i]) / 3
			if math.Abs(got-want) > 1e-9*(1+math.Abs(want)) {
				t.Fatalf("%s[%d] is %v, want %v", s.Name, i, got, want)
			}
		}
	}
}

func TestAverageSettings(t *testing.T) {
	for want, a := range map[string]Average{
		"unknown average":        {Name: "polyak"},
		"decay, start and bn":    {Decay: 0.5},
		"decay belongs to ema":   {Name: "swa", Decay: 0.5},
		"decay 1: want at least": {Name: "ema", Decay: 1},
		"start -1":               {Name: "swa", Start: -1},
		"unknown average.bn":     {Name: "swa", BN: "copy"},
	} {
		err := Training{Method: "standard", Average: a}.Validate()
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one with %q", err, want)
		}
	}
	if a := (Training{Method: "standard", Average: Average{Name: "swa"}}).Resolve(imageThreat).Average; a.BN != bnRecompute {
		t.Errorf("swa resolves to %+v", a)
	}
	if a := (Training{Method: "standard", Average: Average{Name: "ema"}}).Resolve(imageThreat).Average; a.BN != bnAverage || a.Decay != 0.999 {
		t.Errorf("ema resolves to %+v", a)
	}
}
