package adversarial

import (
	"fmt"

	"temper/engine/autodiff"
	"temper/engine/graph"
	"temper/nn"
)

// MatchGraph builds images that a network cannot tell from given ones by its
// features: the construction of robust and non-robust data sets of Ilyas et
// al. ("Adversarial Examples Are Not Bugs, They Are Features", NeurIPS 2019).
// From uniform noise, or from another image, it descends on ‖g(x_r) − g(x)‖₂,
// g the penultimate layer, by steps of a fixed ℓ₂ length, clipped to [0,1].
//
//	inputs   x (N,C,H,W), to be matched, of u8, decoded to [0,1], or of f32; if
//	         not from noise, start, likewise; ids (N) of u32
//	scalars  seed (u32); rate (f32), the length of a step
//	states   the model's, by their names
//	outputs  match (N,C,H,W) of f32, and of u8: match_u8; before, after (N):
//	         the distance at the start and at the end
func MatchGraph(m *nn.Model, steps int, noise bool, batch int, input graph.DType) (*graph.Graph, error) {
	if steps < 1 {
		return nil, fmt.Errorf("%d descent steps: want at least 1", steps)
	}
	g := graph.New(m.Name + " match")
	in, err := declare(g, m, ThreatModel{Norm: L2, Domain: Unit}, batch, input)
	if err != nil {
		return nil, err
	}
	in.draw.Step = g.Const(graph.U32, []float64{0})
	rate := g.Scalar("rate", graph.F32)
	x := decode(in.x)
	start := in.draw.Uniform("feature.match", m.Input...)
	if !noise {
		start = decode(g.Input("start", input, in.x.Shape()...))
	}
	features := func(x *graph.Node) *graph.Node { return m.Apply(in.params, in.buffers, x, nn.Eval).Features }
	target := features(x)
	distance := func(x *graph.Node) *graph.Node { return length(features(x).Sub(target), 1).Reshape(batch) }
	last, _ := g.Loop(steps, []*graph.Node{start}, nil, func(_ *graph.Node, carry, _ []*graph.Node) (next, stack []*graph.Node) {
		x := carry[0].StopGradient()
		slope := autodiff.Grad(features(x).Sub(target).Square().Sum(), x)[0]
		return []*graph.Node{x.Sub(unit(slope, L2.axes()).Mul(rate)).ClampC(0, 1)}, nil
	})
	g.Output("match", last[0])
	g.Output("match_u8", last[0].MulC(255).AddC(0.5).Convert(graph.U8))
	g.Output("before", distance(start))
	g.Output("after", distance(last[0]))
	return g, g.Err()
}
