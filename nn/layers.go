package nn

import (
	"fmt"
	"math"

	"temper/engine/graph"
)

// Conv is the geometry of a square convolution.
type Conv struct {
	Out, Kernel int
	Stride      int // 0 means 1
	Pad         int // on all sides
	NoBias      bool
	Init        Init // nil means PyTorch's default
}

// Conv2D is PyTorch's Conv2d: weight (out,in,k,k) and, unless NoBias, bias
// (out). x is (N,in,H,W).
func Conv2D(s *Scope, x *graph.Node, c Conv) *graph.Node { return conv2D(s, x, c, nil) }

// ConvMaxPool is a convolution, then a max pool with stride = kernel. The bias
// is added behind the pool: the largest of sums with one number is the largest
// plus that number, and there are fewer of them.
func ConvMaxPool(s *Scope, x *graph.Node, c Conv, kernel int) *graph.Node {
	return conv2D(s, x, c, func(y *graph.Node) *graph.Node { return MaxPool(y, kernel) })
}

// conv2D is Conv2D with something between the sum of products and the bias.
func conv2D(s *Scope, x *graph.Node, c Conv, between func(*graph.Node) *graph.Node) *graph.Node {
	if c.Init == nil {
		c.Init = DefaultWeight
	}
	shape := []int{c.Out, x.Dim(1), c.Kernel, c.Kernel}
	y := x.Conv2D(s.Param("weight", c.Init, shape...), graph.Square(max(c.Stride, 1), c.Pad))
	if between != nil {
		y = between(y)
	}
	if !c.NoBias {
		y = y.Add(channels(s.Param("bias", DefaultBias(shape...), c.Out)))
	}
	return s.label(y)
}

// Linear is PyTorch's Linear: x·weightᵀ + bias with weight (out,in) and bias
// (out). x is (N,in). A nil bias init means PyTorch's default.
func Linear(s *Scope, x *graph.Node, out int, bias Init) *graph.Node {
	shape := []int{out, x.Dim(1)}
	if bias == nil {
		bias = DefaultBias(shape...)
	}
	y := graph.MatMul(x, s.Param("weight", DefaultWeight, shape...), false, true)
	return s.label(y.Add(s.Param("bias", bias, out)))
}

// Batch normalisation's constants are PyTorch's defaults.
const (
	bnEps      = 1e-5
	bnMomentum = 0.1
)

// BatchNorm is PyTorch's BatchNorm2d of x (N,C,H,W) (Ioffe and Szegedy, 2015).
// The scope's mode chooses the statistics; running variances are unbiased.
//
// Those of a batch are taken about the running mean r, in one walk over x: with
// d = x−r, the variance is the mean of d² less the square of d's mean. Rounding
// grows with the square of the distance from r to the batch's mean, in standard
// deviations: a few at the start of training, and less than one soon after.
func BatchNorm(s *Scope, x *graph.Node) *graph.Node {
	c := x.Dim(1)
	weight, bias := s.Param("weight", Constant(1), c), s.Param("bias", Constant(0), c)
	runMean, runVar := s.Buffer("running_mean", 0, c), s.Buffer("running_var", 1, c)
	tracked := s.Counter("num_batches_tracked")
	centred, variance := x.Sub(channels(runMean)), runVar
	if s.Mode() != Eval {
		shift := centred.Mean(0, 2, 3)
		variance = centred.Square().Mean(0, 2, 3).Sub(shift.Square()).Max(shift.C(0))
		unbiased := variance.MulC(besselFactor(x))
		if s.Mode() == BatchUpdate {
			s.Update("running_mean", blend(runMean, runMean.Add(shift)))
			s.Update("running_var", blend(runVar, unbiased))
			s.Update("num_batches_tracked", tracked.AddC(1))
		}
		centred = centred.Sub(channels(shift))
	}
	scale := weight.Div(variance.AddC(bnEps).Sqrt())
	return s.label(centred.Mul(channels(scale)).Add(channels(bias)))
}

// besselFactor is n/(n−1) for the n values of each channel of x.
func besselFactor(x *graph.Node) float64 {
	n := x.Size() / x.Dim(1)
	if n < 2 {
		x.Graph().Fail(fmt.Errorf("batch statistics of %v: one value a channel has no variance; use a larger batch or mode eval", x.Shape()))
		return 1
	}
	return float64(n) / float64(n-1)
}

// blend moves a running statistic towards the batch's; no derivative flows
// into it.
func blend(running, batch *graph.Node) *graph.Node {
	return running.MulC(1 - bnMomentum).Add(batch.StopGradient().MulC(bnMomentum))
}

// channels shapes (C) so that it broadcasts over (N,C,H,W).
func channels(v *graph.Node) *graph.Node { return v.Reshape(1, -1, 1, 1) }

// MaxPool is PyTorch's max_pool2d with stride = kernel and no padding.
func MaxPool(x *graph.Node, kernel int) *graph.Node {
	return x.MaxPool([2]int{kernel, kernel}, graph.Square(kernel, 0))
}

// AvgPool is PyTorch's avg_pool2d with stride = kernel and no padding.
func AvgPool(x *graph.Node, kernel int) *graph.Node {
	return x.AvgPool([2]int{kernel, kernel}, graph.Square(kernel, 0))
}

// GlobalAvgPool is the mean over positions: (N,C,H,W) to (N,C).
func GlobalAvgPool(x *graph.Node) *graph.Node { return x.Mean(2, 3) }

// Normalize is (x−mean)/std, channel by channel, of x (N,C,H,W); the constants
// are float32 values and no part of the state. No values: x itself.
func Normalize(x *graph.Node, mean, std []float64) *graph.Node {
	if len(mean) == 0 && len(std) == 0 {
		return x
	}
	g, c := x.Graph(), x.Dim(1)
	if len(mean) != c || len(std) != c {
		g.Fail(fmt.Errorf("normalisation by %d means and %d standard deviations of %d channels", len(mean), len(std), c))
		return x
	}
	return x.Sub(channels(g.Const(graph.F32, round32(mean), c))).Div(channels(g.Const(graph.F32, round32(std), c)))
}

func round32(v []float64) []float64 {
	out := make([]float64, len(v))
	for i, x := range v {
		out[i] = float64(float32(x))
	}
	return out
}

// SiLU is x·sigmoid(x).
func SiLU(x *graph.Node) *graph.Node { return x.Mul(x.Sigmoid()) }

// SmoothedReLU is the activation of Li and Li (2024, arXiv 2410.08503), for
// q ≥ 2 and ρ > 0:
//
//	σ(z) = 0 for z<0;  z^q/(q·ρ^(q−1)) for 0≤z≤ρ;  z − (1−1/q)·ρ beyond,
//
// so that σ′(z) = (clamp(z,0,ρ)/ρ)^(q−1). It is written with t = clamp(z,0,ρ)/ρ
// in [0,1], whose powers neither overflow nor divide by a tiny ρ^(q−1).
func SmoothedReLU(z *graph.Node, q, rho float64) *graph.Node {
	t := z.ClampC(0, rho).DivC(rho)
	return power(t, q).MulC(rho / q).Add(z.SubC(rho).ReLU())
}

// power is t^q; by multiplications (square and multiply) for a whole q.
func power(t *graph.Node, q float64) *graph.Node {
	if q != math.Trunc(q) || q > 64 {
		return t.PowC(q)
	}
	var p *graph.Node
	for n := int(q); n > 0; n >>= 1 {
		if n&1 == 1 && p == nil {
			p = t
		} else if n&1 == 1 {
			p = p.Mul(t)
		}
		t = t.Square()
	}
	return p
}
