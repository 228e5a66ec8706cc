package nn

import (
	"fmt"
	"math"

	"temper/engine/graph"
)

// Losses take logits (N,k) and labels y (N) of type i32 in 0 … k-1, and give
// one value per sample, (N): take Mean() or Sum() of it.

// LogSumExp is log Σⱼ exp xⱼ over the last axis, which it removes. No finite
// input overflows.
func LogSumExp(x *graph.Node) *graph.Node {
	top := x.ReduceMaxKeep(-1).StopGradient() // its derivative cancels
	sum := x.Sub(top).Exp().SumKeep(-1).Log().Add(top)
	return sum.Reshape(x.Shape()[:max(x.Rank()-1, 0)]...)
}

// LogSoftmax is x − LogSumExp(x) over the last axis.
func LogSoftmax(x *graph.Node) *graph.Node {
	z := x.Sub(x.ReduceMaxKeep(-1).StopGradient())
	return z.Sub(z.Exp().SumKeep(-1).Log())
}

// Softmax is exp xᵢ / Σⱼ exp xⱼ over the last axis.
func Softmax(x *graph.Node) *graph.Node {
	e := x.Sub(x.ReduceMaxKeep(-1).StopGradient()).Exp()
	return e.Div(e.SumKeep(-1))
}

// CrossEntropy is −log p_y per sample (N).
func CrossEntropy(logits, y *graph.Node) *graph.Node { return Pick(LogSoftmax(logits), y).Neg() }

// SmoothedCrossEntropy is CrossEntropy against the target
// (1−smoothing)·onehot(y) + smoothing/k, as PyTorch's label_smoothing.
func SmoothedCrossEntropy(logits, y *graph.Node, smoothing float64) *graph.Node {
	logp := LogSoftmax(logits)
	return Pick(logp, y).MulC(smoothing - 1).Sub(logp.Mean(1).MulC(smoothing))
}

// KLDivergence is KL(p ‖ q) = Σⱼ pⱼ (log pⱼ − log qⱼ) per sample (N), of the
// softmax of two logits (N,k). TRADES (Zhang et al., ICML 2019) takes p from
// the clean images and q from the adversarial ones.
func KLDivergence(p, q *graph.Node) *graph.Node {
	logp := LogSoftmax(p)
	return logp.Exp().Mul(logp.Sub(LogSoftmax(q))).Sum(1)
}

// BoostedCrossEntropy is −log p_y − log(1 − max_{j≠y} p_j) per sample (N): MART's
// loss at the adversarial images (Wang et al., ICLR 2020), with the authors'
// constants against log 0.
func BoostedCrossEntropy(logits, y *graph.Node) *graph.Node {
	other := Others(Softmax(logits), y).ReduceMax(1)
	return CrossEntropy(logits, y).Sub(other.Neg().AddC(1.0001 + 1e-12).Log())
}

// WeightedDivergence is KL(p ‖ q)·(1 − p_y) per sample (N), p of the clean logits
// and q of the adversarial ones (N,k), with the authors' constants: MART's
// regulariser.
func WeightedDivergence(clean, adv, y *graph.Node) *graph.Node {
	logp := LogSoftmax(clean)
	p := logp.Exp()
	kl := p.Mul(logp.Sub(Softmax(adv).AddC(1e-12).Log())).Sum(1)
	return kl.Mul(Pick(p, y).Neg().AddC(1.0000001))
}

// LSEMargin is log Σ_{j≠y} exp z_j − z_y per sample (N): the attack loss of
// the structured-data experiments. Its gradient is the cross-entropy's divided
// by 1−p_y, without the 0/0 that this division becomes as p_y rounds to 1.
func LSEMargin(logits, y *graph.Node) *graph.Node {
	return LogSumExp(Others(logits, y)).Sub(Pick(logits, y))
}

// CWMargin is max_{j≠y} z_j − z_y per sample (N), positive where the sample is
// misclassified (Carlini and Wagner, 2017, without its clamp).
func CWMargin(logits, y *graph.Node) *graph.Node {
	return Others(logits, y).ReduceMax(1).Sub(Pick(logits, y))
}

// dlrEps keeps the quotient finite where all logits are equal, as in the
// reference implementation.
const dlrEps = 1e-12

// DLR is the difference of logits ratio per sample (N) of Croce and Hein
// (ICML 2020): (max_{j≠y} z_j − z_y)/(z_π1 − z_π3), π sorting downwards. It
// needs at least three classes.
func DLR(logits, y *graph.Node) *graph.Node {
	order, sorted := descending(logits, 3)
	first := column(order, 0).Eq(y)
	other := graph.Select(first, column(sorted, 1), column(sorted, 0))
	spread := column(sorted, 0).Sub(column(sorted, 2)).AddC(dlrEps)
	return other.Sub(Pick(logits, y)).Div(spread)
}

// TargetedDLR is the targeted variant (N): (z_t − z_y)/(z_π1 − (z_π3+z_π4)/2)
// for targets t (N). It needs at least four classes.
func TargetedDLR(logits, y, target *graph.Node) *graph.Node {
	_, sorted := descending(logits, 4)
	spread := column(sorted, 0).Sub(column(sorted, 2).Add(column(sorted, 3)).MulC(0.5)).AddC(dlrEps)
	return Pick(logits, target).Sub(Pick(logits, y)).Div(spread)
}

// Correct is, per sample (N), whether the largest logit is y's; the first of
// equal ones counts as the largest.
func Correct(logits, y *graph.Node) *graph.Node { return logits.ArgMax(1).Eq(y) }

// CountCorrect is the number of correctly classified samples, an i32 scalar.
func CountCorrect(logits, y *graph.Node) *graph.Node {
	return Correct(logits, y).Convert(graph.I32).Sum()
}

// Pick is z[n, y[n]] of z (N,k) and y (N): (N).
func Pick(z, y *graph.Node) *graph.Node { return z.Gather(1, y.Expand(1)).Reshape(y.Dim(0)) }

// Others is z (N,k) with −∞ at the label y (N).
func Others(z, y *graph.Node) *graph.Node {
	own := y.OneHot(z.Dim(1), graph.Bool)
	return graph.Select(own, z.C(math.Inf(-1)), z)
}

// descending is the order of each row's logits, and the sorted logits.
func descending(z *graph.Node, classes int) (order, sorted *graph.Node) {
	if z.Dim(1) < classes {
		z.Graph().Fail(fmt.Errorf("this loss needs at least %d classes: there are %d", classes, z.Dim(1)))
	}
	order = z.ArgSort(1, true)
	return order, z.Gather(1, order)
}

func column(z *graph.Node, i int) *graph.Node { return z.Slice(1, i, i+1).Reshape(z.Dim(0)) }
