package adversarial

import (
	"fmt"

	"temper/engine/autodiff"
	"temper/engine/graph"
	"temper/nn"
)

// EvalGraph builds the evaluation of a batch of N, clean and under an attack
// (nil: clean only), as one graph. Batch norm is in mode eval throughout, so
// that samples do not depend on each other.
//
//	inputs   x (N,C,H,W) of u8, decoded to [0,1], or of f32; y (N) of i32;
//	         ids (N) of u32; given (N) of i32, the targets of a targeted attack
//	         that chooses none itself
//	scalars  seed (u32); eps, alpha (f32)
//	states   the model's, by their names
//	outputs  clean_pred, adv_pred (i32); clean_correct, adv_correct (bool);
//	         clean_loss, adv_loss (f32): cross-entropy; norm (f32), the
//	         perturbation's in the threat model's norm, for ThreatModel.Allows:
//	         (N) each; x_adv (N,C,H,W) of f32; target (N) of i32, if the
//	         attack is targeted
//
// Without an attack, outputs named adv, norm and x_adv are missing. The random
// draws depend on the seed and on a sample's id only.
func EvalGraph(m *nn.Model, attack *Attack, threat ThreatModel, batch int, input graph.DType) (*graph.Graph, error) {
	name := m.Name + " eval"
	if attack != nil {
		if err := onModel(*attack, threat, m); err != nil {
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
		found := in.attack(m, *attack, nil)
		x := found.X
		report("adv", x)
		g.Output("norm", threat.Size(x.Sub(in.x)))
		g.Output("x_adv", x)
	}
	return g, g.Err()
}

// RoundGraph builds one round of an attack, for a host that goes through the
// rounds (see [Attack.Rounds]) and leaves out the samples that have fallen. Rows
// do not depend on each other: the host may fill a batch up with any.
//
//	inputs   those of EvalGraph; start (N,C,H,W) of f32, if the attack
//	         continues: what the round before found, anything in round 0
//	scalars  those of EvalGraph; round (i32)
//	outputs  adv_pred (i32), norm (f32): (N) each; x_adv (N,C,H,W) of f32;
//	         target (N) of i32, if the attack is targeted
func RoundGraph(m *nn.Model, attack Attack, threat ThreatModel, batch int, input graph.DType) (*graph.Graph, error) {
	if err := onModel(attack, threat, m); err != nil {
		return nil, err
	}
	g := graph.New(m.Name + " round " + attack.Describe(threat))
	in, err := declare(g, m, threat, batch, input)
	if err != nil {
		return nil, err
	}
	in.draw.Step = g.Const(graph.U32, []float64{0})
	in.x = decode(in.x)
	found := in.attack(m, attack, g.Scalar("round", graph.I32))
	x := found.X
	g.Output("adv_pred", m.Apply(in.params, in.buffers, x, nn.Eval).Logits.ArgMax(1))
	g.Output("norm", threat.Size(x.Sub(in.x)))
	g.Output("x_adv", x)
	return g, g.Err()
}

// attack builds an attack on decoded inputs, or a round of it, and declares
// what it needs besides them.
func (in inputs) attack(m *nn.Model, a Attack, round *graph.Node) Solution {
	g, p := in.x.Graph(), in.problem(m)
	if p.Round = round; round != nil && a.Continues() {
		p.Start = g.Input("start", graph.F32, in.x.Shape()...)
	}
	if a.Targeted && a.Target == "" {
		p.Target = g.Input("given", graph.I32, in.y.Dim(0))
	}
	found := a.Build(p)
	if found.Target != nil {
		g.Output("target", found.Target)
	}
	return found
}

// CheckGraph builds what tells whether the numbers of an evaluation can be
// trusted, for a batch of N: the inputs and scalars of EvalGraph, and
//
//	outputs  logits (N,k) of f32; zero (N) of bool: the gradient of the
//	         cross-entropy is 0 in every element of x
func CheckGraph(m *nn.Model, batch int, input graph.DType) (*graph.Graph, error) {
	g := graph.New(m.Name + " check")
	in, err := declare(g, m, ThreatModel{}, batch, input)
	if err != nil {
		return nil, err
	}
	checkOutputs(in.x, in.y, func(x *graph.Node) *graph.Node { return m.Apply(in.params, in.buffers, x, nn.Eval).Logits })
	return g, g.Err()
}

func checkOutputs(x, y *graph.Node, logits func(*graph.Node) *graph.Node) {
	x = decode(x).StopGradient()
	z := logits(x)
	grad := autodiff.Grad(nn.CrossEntropy(z, y).Sum(), x)[0]
	x.Graph().Output("logits", z)
	x.Graph().Output("zero", grad.Abs().ReduceMax(1, 2, 3).Eq(grad.C(0)))
}

// onModel is evaluable, on a model.
func onModel(a Attack, threat ThreatModel, m *nn.Model) error {
	if err := evaluable(a, threat); err != nil {
		return err
	}
	return a.fits(threat, m)
}

// fits reports why the attack cannot work on a model's inputs and classes.
func (a Attack) fits(threat ThreatModel, m *nn.Model) error {
	if a = a.Resolve(threat); a.Loss == "dlr" {
		need := 3
		if a.Targeted || a.Targets > 0 {
			need = 4
		}
		if m.Classes < need {
			return fmt.Errorf("attack %s: its loss, a ratio of differences of logits, needs at least %d classes, and there are %d: take apgd-ce, fab and square", a.Name, need, m.Classes)
		}
	}
	return a.suits(threat, m.Input)
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
