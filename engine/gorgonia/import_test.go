package gorgonia

import (
	"fmt"
	"math"
	"strings"
	"testing"

	G "gorgonia.org/gorgonia"
	"gorgonia.org/tensor"

	"temper/engine"
	"temper/engine/autodiff"
	_ "temper/engine/cpu"
	"temper/engine/graph"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func openCPU(t testing.TB) *engine.Device {
	t.Helper()
	d, err := engine.Open("cpu", engine.DeviceOptions{})
	must(t, err)
	t.Cleanup(func() { d.Close() })
	return d
}

// runOurs compiles an imported graph with the derivatives of its loss by the
// given nodes of theirs, feeds the inputs, and returns the loss and the
// derivatives.
func runOurs(t *testing.T, im *Imported, feeds map[*G.Node]*tensor.Dense, wrt ...*G.Node) (float64, []*tensor.Dense) {
	t.Helper()
	var at []*graph.Node
	for _, n := range wrt {
		at = append(at, im.Nodes[n])
	}
	for k, d := range autodiff.Grad(im.Loss, at...) {
		im.Graph.Output(fmt.Sprintf("d%d", k), d)
	}
	dev := openCPU(t)
	st := dev.NewState()
	e, err := dev.Compile(im.Graph, st, engine.Options{})
	must(t, err)
	must(t, im.Init(st))
	for n, v := range feeds {
		must(t, e.Feed(im.Nodes[n].Attrs().Name, v))
	}
	must(t, e.Run())
	loss, err := e.Scalar("loss")
	must(t, err)
	var grads []*tensor.Dense
	for k := range wrt {
		d, err := e.Fetch(fmt.Sprintf("d%d", k))
		must(t, err)
		grads = append(grads, d)
	}
	return loss, grads
}

// Every operation of the audit, imported: its value must be right, its
// derivatives must agree with the differences of that value, and with
// gorgonia's derivatives where these are cleared.
func TestImportedOperations(t *testing.T) {
	for _, a := range audit {
		t.Run(a.name, func(t *testing.T) {
			values := a.values()
			theirs, operands, err := a.theirs(values)
			must(t, err)
			im, err := Import(theirs, operands...)
			if a.refused != "" {
				if err == nil || !strings.Contains(err.Error(), a.refused) || !strings.Contains(err.Error(), "import_test.go:") {
					t.Fatalf("error %v: want its line and %q", err, a.refused)
				}
				return
			}
			must(t, err)
			feeds := map[*G.Node]*tensor.Dense{}
			for k, n := range operands {
				feeds[n] = values[k]
			}
			loss, grads := runOurs(t, im, feeds, operands...)
			want, err := a.value(values)
			must(t, err)
			if math.Abs(loss-want) > 1e-10*(1+math.Abs(want)) {
				t.Errorf("value %v, want %v", loss, want)
			}
			var ours [][]float64
			for k, d := range grads {
				f, err := numbers(d, values[k].Shape())
				must(t, err)
				ours = append(ours, f)
			}
			if err := a.disagreement(ours); err != nil {
				t.Error(err)
			}
			if a.wrong != "" {
				return
			}
			oracle, err := a.gradients(values)
			must(t, err)
			for k := range oracle {
				if d := distance(ours[k], oracle[k]); d > 1e-10 {
					t.Errorf("derivative by operand %d is %.1e from gorgonia's", k, d)
				}
			}
		})
	}
}

// distance is the largest difference of two vectors, relative to the largest
// element of the second.
func distance(got, want []float64) float64 {
	worst, scale := 0.0, 0.0
	for i, w := range want {
		worst, scale = max(worst, math.Abs(got[i]-w)), max(scale, math.Abs(w))
	}
	return worst / scale
}
