package adversarial

import (
	"fmt"

	"temper/engine/graph"
	"temper/nn"
)

// EvalGraph builds the evaluation of a batch of N, clean and under an attack
// (nil: clean only), as one graph. Batch norm is in mode eval throughout, so
// that samples do not depend on each other.
//
//	inputs   x (N,C,H,W) of u8, decoded to [0,1], or of f32; y (N) of i32;
//	         ids (N) of u32; target (N) of i32, if the attack is targeted
//	scalars  seed (u32); eps, alpha (f32)
//	states   the model's, by their names
//	outputs  clean_pred, adv_pred (i32); clean_correct, adv_correct (bool);
//	         clean_loss, adv_loss (f32): cross-entropy; norm (f32), the
//	         perturbation's in the threat model's norm, for ThreatModel.Allows:
//	         (N) each; x_adv (N,C,H,W) of f32
//
// Without an attack, outputs named adv, norm and x_adv are missing. The random
// draws depend on the seed and on a sample's id only.
func EvalGraph(m *nn.Model, attack *Attack, threat ThreatModel, batch int, input graph.DType) (*graph.Graph, error) {
	name := m.Name + " eval"
	if attack != nil {
		if err := evaluable(*attack, threat); err != nil {
			return nil, err
		}
		name += " " + attack.Describe(threat)
	}
	g := graph.New(name)
	in, err := declare(g, m, threat, batch, input)
	if err != nil {
		return nil, err
	}
	in.draw.Step = g.Const(graph.U32, []float64{0})
	in.x = decode(in.x)
	report := func(prefix string, x *graph.Node) {
		logits := m.Apply(in.params, in.buffers, x, nn.Eval).Logits
		g.Output(prefix+"_pred", logits.ArgMax(1))
		g.Output(prefix+"_correct", nn.Correct(logits, in.y))
		g.Output(prefix+"_loss", nn.CrossEntropy(logits, in.y))
	}
	report("clean", in.x)
	if attack != nil {
		p := in.problem(m)
		if attack.Targeted {
			p.Target = g.Input("target", graph.I32, batch)
		}
		x := attack.Build(p).X
		report("adv", x)
		g.Output("norm", threat.Size(x.Sub(in.x)))
		g.Output("x_adv", x)
	}
	return g, g.Err()
}

func evaluable(a Attack, threat ThreatModel) error {
	if err := threat.Validate(); err != nil {
		return err
	}
	if err := a.Validate(); err != nil {
		return err
	}
	if mode, _ := a.mode(); mode != nn.Eval {
		return fmt.Errorf("attack %s: bn = %q belongs to training: an evaluated network stands still, bn = %q", a.Name, mode, nn.Eval)
	}
	return nil
}
