package adversarial

import (
	"fmt"
	"strings"
	"testing"

	"temper/engine/graph"
	"temper/engine/interp"
	"temper/nn"
)

// Every iterate of every attack that PyTorch stored, and the losses at all of
// them, in float64.
func TestOracleIterates(t *testing.T) {
	runs := []struct {
		name, settings string
		attack         Attack
		norm           Norm
	}{
		{"fgsm", "pgd", Attack{Name: "fgsm"}, Linf},
		{"pgd", "pgd", Attack{Name: "pgd"}, Linf},
		{"pgd_l2", "pgd_l2", Attack{Name: "pgd"}, L2},
		{"pgd_train", "pgd", Attack{Name: "pgd", BN: "batch-update"}, Linf},
	}
	compared := map[string]int{}
	eachFixture(t, func(t *testing.T, f *fixture) {
		for _, r := range runs {
			start := f.tensors[strings.TrimSuffix(r.name, "_train")+"/start"]
			if r.name == "fgsm" {
				start = f.get(t, "x")
			}
			want := f.tensors[r.name+"/loss"]
			if want == nil || start == nil { // no batch norm, or left out for size
				continue
			}
			feed := f.feed(t, map[string]float64{"eps": f.number(t, r.settings, "eps"), "alpha": f.number(t, r.settings, "alpha")})
			feed["input start"] = start
			g, p := f.attackGraph(t, f.threat(r.norm), "start")
			steps := want.Shape[0] - 1
			for i := 0; i <= steps; i++ {
				end := Solution{X: p.Start, Buffers: p.Buffers}
				if i > 0 {
					a := r.attack
					a.Steps = i
					end = a.Build(p)
				}
				mode, _ := r.attack.mode()
				g.Output(fmt.Sprintf("loss/%d", i), nn.CrossEntropy(p.Forward(end.X, p.Buffers, mode).Logits, p.Y))
				g.Output(fmt.Sprintf("%s/%d", r.name, i), end.X)
				if i == steps {
					for _, b := range end.Buffers {
						g.Output(r.name+"/buffer/"+b.Name, b.Node)
					}
				}
			}
			got := eval(t, g, feed).Outputs
			for i := 0; i <= steps; i++ {
				row := interp.New(graph.F32, want.Shape[1:], want.Data[i*want.Shape[1]:][:want.Shape[1]]...)
				near(t, fmt.Sprintf("%s/loss at %d", r.name, i), got[fmt.Sprintf("loss/%d", i)], row)
			}
			if r.name == "fgsm" && f.tensors["fgsm"] != nil {
				near(t, "fgsm", got["fgsm/1"], f.tensors["fgsm"])
				compared["fgsm"]++
			}
			for name, x := range got {
				if w := f.tensors[name]; w != nil {
					near(t, name, x, w)
					compared[r.name]++
				}
			}
		}
	})
	for name, least := range map[string]int{"fgsm": 6, "pgd": 6*5 + 2, "pgd_l2": 6 * 3, "pgd_train": 5 + 2 + 3*20} {
		if compared[name] < least {
			t.Errorf("%d tensors of %s were compared, want at least %d", compared[name], name, least)
		}
	}
}

// The paper's attack: one step of plain gradient ascent on the log-sum-exp
// margin, in a ball around each patch.
func TestOraclePatchAscent(t *testing.T) {
	for _, r := range reduced[:2] {
		t.Run(r.fixture, func(t *testing.T) {
			f := readFixture(t, r.fixture, r.model, r.config)
			g, p := f.attackGraph(t, f.threat(PatchL2), "")
			g.Output("delta", Attack{Name: "ascent", Loss: "lse-margin"}.Build(p).X.Sub(p.X))
			feed := f.feed(t, map[string]float64{"eps": f.number(t, "patch_l2", "eps"), "alpha": f.number(t, "patch_l2", "step")})
			near(t, "delta", eval(t, g, feed).Outputs["delta"], f.get(t, "patch_l2/delta"))
		})
	}
}
