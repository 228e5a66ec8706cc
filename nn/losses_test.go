package nn

import (
	"cmp"
	"math"
	"slices"
	"strings"
	"testing"

	"temper/engine/graph"
	"temper/engine/interp"
)

var testLogits = interp.New(graph.F32, graph.Shape{4, 5},
	1, 3, -2, 0.5, 2,
	4, -1, 0, 1, 2,
	-3, -3.5, -1, -2, -8,
	1e4, 0, 5, -1e4, 9999)

var testLabels = interp.New(graph.I32, graph.Shape{4}, 1, 4, 3, 0)

// evalLoss gives a loss per sample and the gradient of its sum (N,k).
func evalLoss(t *testing.T, loss func(z, y *graph.Node) *graph.Node) (value, grad *interp.Tensor) {
	t.Helper()
	g := graph.New("loss")
	z, y := g.Input("z", graph.F32, testLogits.Shape...), g.Input("y", graph.I32, testLabels.Shape...)
	l := loss(z, y)
	g.Output("loss", l)
	g.Output("grad", Grad(l.Sum(), Tree{{"z", z}})[0].Node)
	r := eval(t, g, interp.Feed{"input z": testLogits, "input y": testLabels})
	return r.Outputs["loss"], r.Outputs["grad"]
}

// ranked is the order of one sample's logits, downwards.
func ranked(z []float64) []int {
	order := make([]int, len(z))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return cmp.Compare(z[b], z[a]) })
	return order
}

// The margin losses against their formulas, values and gradients; the third
// sample's top classes leave the label in third place.
func TestMarginLosses(t *testing.T) {
	target := interp.New(graph.I32, graph.Shape{4}, 0, 2, 1, 3)
	for name, c := range map[string]struct {
		loss func(z, y *graph.Node) *graph.Node
		want func(n int, z []float64, y int) (value float64, grad map[int]float64)
	}{
		"cw": {CWMargin, func(n int, z []float64, y int) (float64, map[int]float64) {
			j := rival(z, y)
			return z[j] - z[y], map[int]float64{j: 1, y: -1}
		}},
		"dlr": {DLR, func(n int, z []float64, y int) (float64, map[int]float64) {
			j, r := rival(z, y), ranked(z)
			return quotient(z, map[int]float64{j: 1, y: -1}, r[0], map[int]float64{r[2]: 1})
		}},
		"targeted dlr": {
			func(z, y *graph.Node) *graph.Node {
				return TargetedDLR(z, y, z.Graph().Const(graph.I32, target.Data, 4))
			},
			func(n int, z []float64, y int) (float64, map[int]float64) {
				r := ranked(z)
				return quotient(z, map[int]float64{int(target.Data[n]): 1, y: -1}, r[0], map[int]float64{r[2]: 0.5, r[3]: 0.5})
			},
		},
	} {
		value, grad := evalLoss(t, c.loss)
		for n := range 4 {
			z, y := testLogits.Data[5*n:5*n+5], int(testLabels.Data[n])
			want, slope := c.want(n, z, y)
			if math.Abs(value.Data[n]-want) > 1e-9*math.Abs(want) {
				t.Errorf("%s of sample %d: %v, want %v", name, n, value.Data[n], want)
			}
			for j := range z {
				if got := grad.Data[5*n+j]; math.Abs(got-slope[j]) > 1e-9 {
					t.Errorf("%s: gradient %v at (%d,%d), want %v", name, got, n, j, slope[j])
				}
			}
		}
	}
}

// rival is the largest class but y.
func rival(z []float64, y int) int {
	r := ranked(z)
	if r[0] == y {
		return r[1]
	}
	return r[0]
}

// quotient is (Σ up·z)/(z_top − Σ low·z) and its gradient.
func quotient(z []float64, up map[int]float64, top int, low map[int]float64) (float64, map[int]float64) {
	above, below := 0.0, z[top]
	for j, c := range up {
		above += c * z[j]
	}
	for j, c := range low {
		below -= c * z[j]
	}
	grad := map[int]float64{top: -above / (below * below)}
	for j, c := range low {
		grad[j] += c * above / (below * below)
	}
	for j, c := range up {
		grad[j] += c / below
	}
	return above / below, grad
}

// In float32, logits far apart neither overflow nor give NaN.
func TestLossesAreStable(t *testing.T) {
	for name, loss := range map[string]func(z, y *graph.Node) *graph.Node{
		"cross entropy": CrossEntropy, "lse margin": LSEMargin, "cw": CWMargin, "dlr": DLR,
		"kl": func(z, y *graph.Node) *graph.Node { return KLDivergence(z, z.MulC(-1)) },
	} {
		g := graph.New(name)
		z, y := g.Input("z", graph.F32, 3, 4), g.Input("y", graph.I32, 3)
		l := loss(z, y)
		g.Output("loss", l)
		g.Output("grad", Grad(l.Sum(), Tree{{"z", z}})[0].Node)
		logits := interp.New(graph.F32, graph.Shape{3, 4}, 1e38, -5e37, 0, 1, -90, 90, 1e4, -1e4, 7, 7, 7, 7)
		r, err := interp.RunRounded(g, interp.Feed{"input z": logits, "input y": interp.New(graph.I32, graph.Shape{3}, 0, 3, 1)})
		must(t, err)
		for k, x := range r.Outputs {
			for _, v := range x.Data {
				if math.IsNaN(v) || math.IsInf(v, 0) {
					t.Errorf("%s: %s is %v", name, k, x.Data)
					break
				}
			}
		}
	}
}

func TestCountCorrect(t *testing.T) {
	g := graph.New("correct")
	z, y := g.Input("z", graph.F32, 4, 5), g.Input("y", graph.I32, 4)
	g.Output("correct", Correct(z, y))
	g.Output("count", CountCorrect(z, y))
	r := eval(t, g, interp.Feed{"input z": testLogits, "input y": testLabels})
	if got := r.Outputs["correct"].Data; !slices.Equal(got, []float64{1, 0, 0, 1}) {
		t.Errorf("correct: %v", got)
	}
	if got := r.Outputs["count"]; got.Data[0] != 2 || got.DType != graph.I32 {
		t.Errorf("count: %v", got)
	}
}

func TestDLRNeedsClasses(t *testing.T) {
	g := graph.New("dlr")
	DLR(g.Input("z", graph.F32, 4, 2), g.Input("y", graph.I32, 4))
	if err := g.Err(); err == nil || !strings.Contains(err.Error(), "at least 3 classes") {
		t.Errorf("error %v", err)
	}
}

func TestSoftmax(t *testing.T) {
	g := graph.New("softmax")
	z := g.Input("z", graph.F32, 4, 5)
	g.Output("softmax", Softmax(z))
	g.Output("exp", LogSoftmax(z).Exp())
	g.Output("sum", Softmax(z).Sum(1))
	r := eval(t, g, interp.Feed{"input z": testLogits}).Outputs
	near(t, "softmax", r["softmax"], r["exp"])
	near(t, "sum", r["sum"], interp.New(graph.F32, graph.Shape{4}, 1))
}
