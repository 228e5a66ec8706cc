package adversarial

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"temper/engine/graph"
	"temper/engine/interp"
	"temper/nn"
)

// mixedStep begins a step with mixup and outputs what it made of the batch.
func mixedStep(t *testing.T, tr Training, n int) (*graph.Graph, *step) {
	g, s := begin(t, "mnist-wong", tr, n)
	g.Output("x", s.x)
	g.Output("share", s.mixture.share)
	g.Output("other", s.mixture.y)
	return g, s
}

// Mixup mixes each sample with the one at the mirrored place, by a share of its
// own, and descends the same mixture of the losses of both labels.
func TestMixup(t *testing.T) {
	const n = 6
	g, s := mixedStep(t, Training{Method: "standard", Mixup: 0.4}, n)
	logits := s.model.Apply(s.params, s.buffers, s.x, nn.BatchUpdate).Logits
	g.Output("first", nn.CrossEntropy(logits, s.y))
	g.Output("second", nn.CrossEntropy(logits, s.y.Reverse(0)))
	g.Output("loss", standardStep(s).loss)
	feed := with(startOf(t, s.model, 1), batch(s.model, n, graph.F32, 1), scalars(0, 0, 0))
	r := eval(t, g, feed).Outputs
	x, size := feed["input x"].Data, len(feed["input x"].Data)/n
	loss := 0.0
	for i := range n {
		share := r["share"].Data[i]
		if !(share >= 0 && share <= 1) || i > 0 && share == r["share"].Data[0] {
			t.Errorf("shares %v", r["share"].Data)
		}
		if want := feed["input y"].Data[n-1-i]; r["other"].Data[i] != want {
			t.Errorf("sample %d: second label %v, want %v", i, r["other"].Data[i], want)
		}
		for j := range size {
			want := share*x[i*size+j] + (1-share)*x[(n-1-i)*size+j]
			if got := r["x"].Data[i*size+j]; math.Abs(got-want) > 1e-12 {
				t.Fatalf("sample %d, element %d is %v, want %v", i, j, got, want)
			}
		}
		loss += (share*r["first"].Data[i] + (1-share)*r["second"].Data[i]) / n
	}
	if got := r["loss"].Data[0]; math.Abs(got-loss) > 1e-12 {
		t.Errorf("loss %v, want %v", got, loss)
	}
}

// The shares are draws from Beta(α,α): its moments, and for α = 1 its quartiles.
func TestMixupShares(t *testing.T) {
	const n, steps = 50, 80
	for _, alpha := range []float64{0.2, 1, 3} {
		g, s := mixedStep(t, Training{Method: "standard", Mixup: alpha}, n)
		feed := with(startOf(t, s.model, 1), batch(s.model, n, graph.F32, 1), scalars(0, 0, 0))
		var all []float64
		for i := range steps {
			feed["scalar step"] = interp.New(graph.U32, nil, float64(i))
			all = append(all, eval(t, g, feed).Outputs["share"].Data...)
		}
		mean, square := 0.0, 0.0
		for _, v := range all {
			mean += v / float64(len(all))
			square += (v - 0.5) * (v - 0.5) / float64(len(all))
		}
		variance := 1 / (4 * (2*alpha + 1))
		if math.Abs(mean-0.5) > 4*math.Sqrt(variance/float64(len(all))) || math.Abs(square/variance-1) > 0.1 {
			t.Errorf("α %v: mean %v, variance %v, want 0.5 and %v", alpha, mean, square, variance)
		}
		if slices.Sort(all); alpha == 1 && (math.Abs(all[1000]-0.25) > 0.03 || math.Abs(all[3000]-0.75) > 0.03) {
			t.Errorf("quartiles %v and %v", all[1000], all[3000])
		}
	}
}

// The attack ascends the mixed loss: with shares of 1 or 0 it is the attack on one
// label or the other, which differ.
func TestMixupAttack(t *testing.T) {
	const n = 6
	g, s := begin(t, "mnist-wong", Training{Method: "pgd-at", Attack: Attack{Name: "fgsm"}, Mixup: 1}, n)
	own := s.x
	for i, share := range []float64{1, 0} {
		s.mixture.share = g.Const(graph.F32, []float64{share}).BroadcastTo(n)
		g.Output(fmt.Sprint("mixed", i), s.training.Attack.Build(s.problem()).X)
		p := s.inputs.problem(s.model)
		p.X = own
		if i == 1 {
			p.Y = s.mixture.y
		}
		g.Output(fmt.Sprint("one", i), s.training.Attack.Build(p).X)
	}
	r := eval(t, g, with(startOf(t, s.model, 1), batch(s.model, n, graph.F32, 1), scalars(0.1, 0.1, 0))).Outputs
	for i := range 2 {
		if a, b := r[fmt.Sprint("mixed", i)].Data, r[fmt.Sprint("one", i)].Data; !slices.Equal(a, b) {
			t.Errorf("share %d: the attack is another one", 1-i)
		}
	}
	if slices.Equal(r["mixed0"].Data, r["mixed1"].Data) {
		t.Error("both labels give one attack")
	}
}

// Cutout blackens a square around each place of the image equally often, cut off
// at the border, the same for all channels, and nothing else.
func TestCutout(t *testing.T) {
	const n, side, hole, steps = 10, 6, 3, 80
	a := Augment{Cutout: hole}
	g := graph.New("cutout")
	draw := graph.Draw{Seed: g.Const(graph.U32, []float64{9}), IDs: g.Input("ids", graph.U32, n), Step: g.Scalar("step", graph.U32), Iter: g.Const(graph.U32, []float64{0})}
	g.Output("x", a.Build(g.Input("x", graph.U8, n, 2, side, side), draw))
	x := interp.New(graph.U8, graph.Shape{n, 2, side, side})
	for i := range x.Data {
		x.Data[i] = float64(i%200 + 1)
	}
	ids := interp.New(graph.U32, graph.Shape{n}, 5, 4, 3, 2, 1, 0, 6, 7, 8, 9)
	seen := map[[2]int]int{}
	for step := range steps {
		got := eval(t, g, interp.Feed{"input x": x, "input ids": ids, "scalar step": interp.New(graph.U32, nil, float64(step))}).Outputs["x"].Data
		for i := range n {
			found := false
			for cy := range side {
				for cx := range side {
					same := true
					for j := range 2 * side * side {
						y, x0 := j/side%side, j%side
						in := y >= cy-1 && y <= cy+1 && x0 >= cx-1 && x0 <= cx+1
						want := x.Data[i*2*side*side+j]
						if in {
							want = 0
						}
						same = same && got[i*2*side*side+j] == want
					}
					if same {
						found = true
						seen[[2]int{cy, cx}]++
					}
				}
			}
			if !found {
				t.Fatalf("step %d, sample %d: %v", step, i, got[i*2*side*side:][:side*side])
			}
		}
	}
	if len(seen) != side*side {
		t.Errorf("%d centres of %d", len(seen), side*side)
	}
	for at, count := range seen {
		if mean := float64(n*steps) / (side * side); math.Abs(float64(count)-mean) > 4.5*math.Sqrt(mean) {
			t.Errorf("%v comes %d times of about %v", at, count, mean)
		}
	}
}

// ε and the step size rise together over the warm-up's steps, and stay.
func TestEpsWarmup(t *testing.T) {
	tr := Training{Method: "pgd-at", Attack: Attack{Name: "pgd", Steps: 10, StepSize: MustEpsilon("2/255")}, EpsWarmup: 1.5}
	at := func(tr Training, step int) (eps, alpha float64) {
		eps, alpha = tr.Radius(imageThreat, nn.Progress{Step: step, PerEpoch: 4, Epochs: 3})
		return eps * 255, alpha * 255
	}
	for step, want := range map[int]float64{0: 8. / 6, 2: 4, 5: 8, 6: 8, 11: 8} {
		if eps, alpha := at(tr, step); math.Abs(eps-want) > 1e-9 || math.Abs(alpha-want/4) > 1e-9 {
			t.Errorf("step %d: ε %v/255, step size %v/255, want %v and a quarter of it", step, eps, alpha, want)
		}
	}
	tr.Attack = Attack{Name: "ascent", Steps: 1, StepSize: MustEpsilon("2")}
	if eps, alpha := at(tr, 2); math.Abs(eps-4) > 1e-9 || alpha != 2*255 {
		t.Errorf("ascent: ε %v/255, step size %v", eps, alpha/255)
	}
	tr.EpsWarmup = 0
	if eps, _ := at(tr, 0); eps != 8 {
		t.Errorf("without a warm-up ε is %v/255", eps)
	}
}

// A mixed sample counts as right with the label of the larger share.
func TestMixedLabels(t *testing.T) {
	g := graph.New("labels")
	n := func(v ...float64) *graph.Node { return g.Const(graph.I32, v, len(v)) }
	s := &step{inputs: inputs{y: n(1, 1, 1)}}
	g.Output("plain", s.labels())
	s.mixture = &mixture{n(2, 2, 2), g.Const(graph.F32, []float64{0.9, 0.5, 0.1}, 3)}
	g.Output("mixed", s.labels())
	out := eval(t, g, nil).Outputs
	for name, want := range map[string][]float64{"plain": {1, 1, 1}, "mixed": {1, 1, 2}} {
		if diff, _ := apart(out[name].Data, want); diff != 0 {
			t.Errorf("%s: labels %v, want %v", name, out[name].Data, want)
		}
	}
}
