package adversarial

import (
	"gonum.org/v1/gonum/mathext"

	"temper/engine/graph"
)

// mixture is what mixup makes of a batch beside the inputs: each sample's second
// label, and the share of its first one.
type mixture struct {
	y     *graph.Node // (N) of i32
	share *graph.Node // (N) of f32
}

// mixup replaces the inputs by λ·x + (1−λ)·x′ (Zhang et al., ICLR 2018). x′ is the
// sample at the mirrored place of the batch, as in timm: batches are shuffled
// already. λ is drawn for each sample.
func (s *step) mixup() {
	share := s.beta(s.training.Mixup)
	lambda := share.Reshape(-1, 1, 1, 1)
	other := s.x.Reverse(0)
	s.x = other.Add(s.x.Sub(other).Mul(lambda))
	s.mixture = &mixture{s.y.Reverse(0), share}
}

// betaQuantiles is the number of equally likely values that a draw from a beta
// distribution can have: its distribution function is right to 1/8192.
const betaQuantiles = 4096

// beta draws from Beta(a,a) for each sample (N).
func (s *step) beta(a float64) *graph.Node {
	values := make([]float64, betaQuantiles)
	for i := range values {
		values[i] = mathext.InvRegIncBeta(a, a, (float64(i)+0.5)/betaQuantiles)
	}
	table := s.x.Graph().Const(graph.F32, values, betaQuantiles)
	place := s.draw.Uniform("training.mixup", 1).MulC(betaQuantiles).Convert(graph.I32)
	return table.Gather(0, place.Reshape(-1))
}

// mixed is a loss per sample (N) of the labels; with mixup, of both of them.
func (s *step) mixed(loss func(y *graph.Node) *graph.Node) *graph.Node {
	if s.mixture == nil {
		return loss(s.y)
	}
	first, second := loss(s.y), loss(s.mixture.y)
	return second.Add(first.Sub(second).Mul(s.mixture.share))
}

// labels are those that count as right (N): with mixup, of the larger share.
func (s *step) labels() *graph.Node {
	if s.mixture == nil {
		return s.y
	}
	return graph.Select(s.mixture.share.Ge(s.mixture.share.C(0.5)), s.y, s.mixture.y)
}
