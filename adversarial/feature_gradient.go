package adversarial

import (
	"temper/engine/autodiff"
	"temper/engine/graph"
	"temper/nn"
)

// GradientGraph builds the gradient of a network's loss by its inputs: what a
// network looks at, as Tsipras et al. ("Robustness May Be at Odds with
// Accuracy", ICLR 2019) show it. The loss is lse-margin, whose gradient is
// cross-entropy's divided by 1−p_y and so does not vanish where the network is
// sure. Batch norm is in mode eval.
//
//	inputs   x (N,C,H,W) of u8, decoded to [0,1], or of f32; y (N) of i32
//	states   the model's, by their names
//	outputs  gradient (N,C,H,W) of f32
func GradientGraph(m *nn.Model, batch int, input graph.DType) (*graph.Graph, error) {
	g := graph.New(m.Name + " gradient")
	in, err := declare(g, m, ThreatModel{Domain: Unit}, batch, input)
	if err != nil {
		return nil, err
	}
	x := decode(in.x)
	logits := m.Apply(in.params, in.buffers, x, nn.Eval).Logits
	g.Output("gradient", autodiff.Grad(nn.LSEMargin(logits, in.y).Sum(), x)[0])
	return g, g.Err()
}
