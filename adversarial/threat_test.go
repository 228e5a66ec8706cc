package adversarial

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"temper/engine/graph"
	"temper/engine/interp"
	"temper/engine/rng"
)

// everyThreat runs a test for each norm and domain.
func everyThreat(t *testing.T, f func(t *testing.T, m ThreatModel)) {
	for _, n := range Norms() {
		for _, d := range Domains() {
			t.Run(fmt.Sprint(n, " ", d), func(t *testing.T) { f(t, ThreatModel{n, MustEpsilon("0.3"), d}) })
		}
	}
}

// interpreters are exact arithmetic and float32's.
var interpreters = map[string]func(*graph.Graph, interp.Feed) (*interp.Result, error){"float64": interp.Run, "float32": interp.RunRounded}

func random(s *rng.Stream, shape graph.Shape, lo, hi float64) *interp.Tensor {
	x := interp.New(graph.F32, shape)
	for i := range x.Data {
		x.Data[i] = float64(float32(lo + (hi-lo)*float64(s.Uniform())))
	}
	return x
}

// Whatever is projected lies in the ball and in the domain, and stays where it
// is when projected again.
func TestProjection(t *testing.T) {
	shape := graph.Shape{5, 3, 2, 4}
	everyThreat(t, func(t *testing.T, m ThreatModel) {
		g := graph.New("projection")
		x, v, eps := g.Input("x", graph.F32, shape...), g.Input("v", graph.F32, shape...), g.Scalar("eps", graph.F32)
		b := m.around(x, eps)
		once := b.project(v)
		g.Output("once", once)
		g.Output("twice", b.project(once))
		g.Output("size", m.Size(once.Sub(x)))
		g.Output("inside", b.project(x))
		s := rng.NewStream(1, "projection", 0)
		for _, far := range []float64{1e-3, 0.3, 1, 1e3, 1e30} {
			feed := interp.Feed{
				"input x":    random(s, shape, 0, 1),
				"input v":    random(s, shape, -far, 1+far),
				"scalar eps": interp.New(graph.F32, nil, m.Epsilon.Float64()),
			}
			for name, run := range interpreters {
				r, err := run(g, feed)
				must(t, err)
				for _, size := range r.Outputs["size"].Data {
					if !m.Allows(size) || name == "float64" && size > m.Epsilon.Float64()*(1+1e-12) {
						t.Errorf("%s: a projection of size %v", name, size)
					}
				}
				if m.Domain == Unit {
					for _, p := range r.Outputs["once"].Data {
						if !(p >= 0 && p <= 1) {
							t.Fatalf("%s: %v is not in [0,1]", name, p)
						}
					}
				}
				tolerance := map[string]float64{"float64": 1e-15, "float32": 1e-6}[name]
				if m.Norm == Linf {
					tolerance = 0
				}
				if d, _ := apart(r.Outputs["twice"].Data, r.Outputs["once"].Data); !(d <= tolerance) {
					t.Errorf("%s: a second projection moves by %v", name, d)
				}
				if d, _ := apart(r.Outputs["inside"].Data, feed["input x"].Data); d != 0 {
					t.Errorf("%s: the centre moves by %v", name, d)
				}
			}
		}
	})
}

// Steps have unit size in their norm, whatever the gradient's, and none where
// the gradient is zero.
func TestSteepest(t *testing.T) {
	for _, n := range Norms() {
		m := ThreatModel{Norm: n}
		g := graph.New("steepest")
		d := m.steepest(g.Input("g", graph.F32, 4, 2, 1, 3))
		g.Output("size", m.Size(d))
		g.Output("d", d)
		grad := random(rng.NewStream(2, "steepest", 0), graph.Shape{4, 2, 1, 3}, -1, 1)
		for i, scale := range []float64{1, 1e-30, 1e30, 0} { // float32 squares of the middle two leave its range
			for k := range 6 {
				grad.Data[6*i+k] *= scale
			}
		}
		r, err := interp.RunRounded(g, interp.Feed{"input g": grad})
		must(t, err)
		for i, want := range []float64{1, 1, 1, 0} {
			if got := r.Outputs["size"].Data[i]; !(math.Abs(got-want) <= 1e-6) {
				t.Errorf("%s: step %d has size %v, want %v", n, i, got, want)
			}
		}
		for i, v := range r.Outputs["d"].Data {
			if v*grad.Data[i] < 0 {
				t.Errorf("%s: element %d goes down", n, i)
			}
		}
	}
}

// Starts are uniform in the ball: the share inside a smaller ball is the ratio
// of the volumes, and no direction is preferred.
func TestStartIsUniform(t *testing.T) {
	const n = 4000
	for norm, dims := range map[Norm]int{Linf: 2, L2: 2, L1: 2, PatchL2: 1} {
		m := ThreatModel{norm, MustEpsilon("0.3"), Unbounded}
		g := graph.New("start")
		x := g.Const(graph.F32, []float64{0.5}, n, 1, 1, 2)
		c := func(v float64) *graph.Node { return g.Const(graph.U32, []float64{v}) }
		draw := graph.Draw{Seed: c(1), IDs: g.Iota(graph.U32, 0, n), Step: c(0), Iter: c(0)}
		delta := m.around(x, g.Scalar("eps", graph.F32)).start(draw).Sub(x)
		g.Output("delta", delta)
		if norm == PatchL2 {
			delta = delta.Slice(3, 0, 1) // two patches of one value each
		}
		g.Output("size", m.Size(delta))
		r := eval(t, g, interp.Feed{"scalar eps": interp.New(graph.F32, nil, 0.3)})
		inside := 0
		for _, s := range r.Outputs["size"].Data {
			if s > 0.3*(1+1e-6) {
				t.Fatalf("%s: a start of size %v", norm, s)
			}
			if s < 0.15 {
				inside++
			}
		}
		p := math.Pow(0.5, float64(dims))
		if got, sd := float64(inside)/n, math.Sqrt(p*(1-p)/n); math.Abs(got-p) > 4*sd {
			t.Errorf("%s: a share of %v lies within half of the radius, want %v", norm, got, p)
		}
		sum := [2]float64{}
		for i, v := range r.Outputs["delta"].Data {
			sum[i%2] += v / n
		}
		if sd := 0.3 / math.Sqrt(n); math.Abs(sum[0]) > 4*sd || math.Abs(sum[1]) > 4*sd || sum[0] == sum[1] {
			t.Errorf("%s: the mean is %v", norm, sum)
		}
	}
}

func TestThreatModel(t *testing.T) {
	good := ThreatModel{Linf, MustEpsilon("8/255"), Unit}
	must(t, good.Validate())
	if good.String() != "L∞ 8/255" {
		t.Errorf("it is written %q", good)
	}
	for want, m := range map[string]ThreatModel{
		`unknown norm "l7": want one of linf, l2, l1, patch-l2`: {"l7", good.Epsilon, Unit},
		`unknown domain ""`: {Linf, good.Epsilon, ""},
		"eps is not set":    {Linf, Epsilon{}, Unit},
		"eps is 0":          {Linf, MustEpsilon("0/255"), Unit},
		"8 is larger than":  {Linf, MustEpsilon("8"), Unit},
	} {
		if err := m.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v: want %q", m, err, want)
		}
	}
}

// What an attack returns is refused beyond ε, outside the domain, and where it is
// no number; rounding is allowed for.
func TestCheck(t *testing.T) {
	unit := ThreatModel{Linf, MustEpsilon("0.1"), Unit}
	free := ThreatModel{L2, MustEpsilon("0.1"), Unbounded}
	nan, inf := math.NaN(), math.Inf(1)
	for _, c := range []struct {
		threat ThreatModel
		size   float64
		x      []float32
		want   string // "" is allowed
	}{
		{unit, 0.1, []float32{0, 1}, ""},
		{unit, float64(float32(0.1)), []float32{0.5}, ""},
		{unit, 0.1001, []float32{0.5}, "size 0.1001, beyond L∞ 0.1"},
		{unit, nan, []float32{0.5}, "size NaN, beyond"},
		{unit, 0.05, []float32{0.5, -1e-7}, "an element -1e-07 outside the domain unit"},
		{unit, 0.05, []float32{1.0000001, 0.5}, "an element 1.0000001 outside"},
		{unit, 0.05, []float32{0.5, float32(nan)}, "an element NaN outside"},
		{free, 0.1, []float32{-7, 3}, ""},
		{free, 0.1, []float32{-7, float32(inf)}, "an element +Inf outside the domain unbounded"},
		{free, 0.1, []float32{float32(nan)}, "an element NaN outside"},
		{free, inf, nil, "size +Inf, beyond L2 0.1"},
		{free.Share(0.5), 0.05, nil, ""},
		{free.Share(0.5), 0.051, nil, "size 0.051, beyond L2 0.05"},
		{unit.Share(1), 0.1, nil, ""},
	} {
		err := c.threat.Check(c.size, c.x)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%v, size %v, %v: %v, want %q", c.threat, c.size, c.x, err, c.want)
		}
	}
}
