package cuda

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"temper/engine/autodiff"
	"temper/engine/graph"
	"temper/engine/passes"
	"temper/engine/plan"
)

var update = flag.Bool("update", false, "rewrite the golden sources under testdata")

// pgdStep is an L∞ attack of ten steps on a small convolutional network.
func pgdStep() *graph.Graph {
	g := graph.New("pgd")
	x := g.Input("x", graph.F32, 8, 3, 8, 8)
	y := g.Input("y", graph.I32, 8)
	eps, alpha := g.Scalar("eps", graph.F32), g.Scalar("alpha", graph.F32)
	w, b := g.State("conv.weight", graph.F32, 4, 3, 3, 3), g.State("conv.bias", graph.F32, 4)
	fc := g.State("fc.weight", graph.F32, 10, 4)
	adv, _ := g.Loop(10, []*graph.Node{x}, nil, func(_ *graph.Node, c, _ []*graph.Node) (next, _ []*graph.Node) {
		h := c[0].Conv2D(w, graph.Square(1, 1)).Add(b.Reshape(1, 4, 1, 1)).ReLU().Named("relu")
		logits := graph.MatMul(h.Mean(2, 3), fc, false, true)
		lse := logits.Sub(logits.ReduceMaxKeep(1).StopGradient()).Exp().Sum(1).Log().Add(logits.ReduceMax(1).StopGradient())
		loss := lse.Sub(logits.Gather(1, y.Expand(1)).Reshape(8)).Sum()
		dx := autodiff.Grad(loss, c[0])[0]
		step := c[0].Add(dx.Sign().Mul(alpha))
		return []*graph.Node{step.Clamp(x.Sub(eps), x.Add(eps)).ClampC(0, 1).Named("x_adv")}, nil
	})
	g.Output("x_adv", adv[0])
	return g
}

func TestEmitPGDStep(t *testing.T) {
	g, err := passes.Run(pgdStep(), passes.Options{Target: Target(graph.PrecisionFloat32)})
	if err != nil {
		t.Fatal(err)
	}
	p := plan.Build(g, plan.Options{LessTraffic: true})
	of, _, err := kernelsOf(p, target{capability: 80})
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "/*\n%s*/\n", p)
	count := 0
	var emit func(steps []plan.Step)
	emit = func(steps []plan.Step) {
		for _, s := range steps {
			if s.Loop == nil && s.Copy == nil {
				for _, k := range of[stepKey(s)] {
					fmt.Fprintf(&b, "\n%s", strings.ReplaceAll(k.Source, k.Name, fmt.Sprintf("kernel%d", count)))
					count++
				}
			}
			if s.Loop != nil {
				emit(s.Loop.Steps)
			}
		}
	}
	emit(p.Steps)
	const file = "testdata/pgd.cu"
	if *update {
		if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), b.String()); d != "" {
		t.Errorf("-want +got, or run with -update:\n%s", d)
	}
}
