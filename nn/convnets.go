package nn

import (
	"strconv"

	"temper/engine/graph"
)

// patchCNN is the two-layer network of Li and Li (2024, arXiv 2410.08503):
// F_i(X) = Σ_r Σ_p σ(⟨w_{i,r}, x_p⟩) with the smoothed ReLU σ, no bias, and
// w ~ N(0, σ₀²). Structured data are (N,d,1,P); images are cut into square
// patches side by side. Filter r of class i is row i·m+r of conv.weight
// (k·m,C,s,s), s the side of a patch.
func patchCNN(c Config) Forward {
	conv := Conv{Out: c.Classes * c.Filters, Kernel: c.Patch, Stride: c.Patch, NoBias: true, Init: Normal(c.Sigma)}
	return func(s *Scope, x *graph.Node) (features, logits *graph.Node) {
		z := Conv2D(s.Sub("conv"), x, conv)              // (N,k·m,H/s,W/s)
		features = SmoothedReLU(z, c.Q, c.Rho).Sum(2, 3) // (N,k·m)
		return features, features.Reshape(x.Dim(0), c.Classes, c.Filters).Sum(2)
	}
}

// mnistWong is the MNIST network of Wong and Kolter (ICML 2018), as Wong et
// al. (ICLR 2020) use it: an nn.Sequential, hence the numbers.
func mnistWong(c Config) Forward {
	return func(s *Scope, x *graph.Node) (features, logits *graph.Node) {
		for i, out := range []int{c.Width, 2 * c.Width} {
			x = Conv2D(s.Sub(strconv.Itoa(2*i)), x, Conv{Out: out, Kernel: 4, Stride: 2, Pad: 1}).ReLU()
		}
		features = Linear(s.Sub("5"), x.Flatten(1), c.Hidden, nil).ReLU()
		return features, Linear(s.Sub("7"), features, c.Classes, nil)
	}
}

// mnistMadry is the MNIST network of Madry et al. (ICLR 2018).
func mnistMadry(c Config) Forward { return twoStages(c, 5) }

// cifarSmall is a network for CIFAR-10 and SVHN that a CPU trains in minutes.
func cifarSmall(c Config) Forward { return twoStages(c, 3) }

// twoStages is twice (convolution, ReLU, 2×2 max pool), then two linear layers.
// The ReLU stands behind the pool: the largest of rectified values is the
// largest value rectified, with the same derivative, for a quarter of the work.
func twoStages(c Config, kernel int) Forward {
	return func(s *Scope, x *graph.Node) (features, logits *graph.Node) {
		conv := Conv{Out: c.Width, Kernel: kernel, Pad: kernel / 2}
		x = ConvMaxPool(s.Sub("conv1"), x, conv, 2).ReLU()
		conv.Out *= 2
		x = ConvMaxPool(s.Sub("conv2"), x, conv, 2).ReLU()
		features = Linear(s.Sub("fc1"), x.Flatten(1), c.Hidden, nil).ReLU()
		return features, Linear(s.Sub("fc2"), features, c.Classes, nil)
	}
}
