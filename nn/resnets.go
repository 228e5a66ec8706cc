package nn

import (
	"fmt"

	"temper/engine/graph"
)

// preActResNet is the pre-activation residual network of He et al. (ECCV 2016)
// with basic blocks, in the version of Rice et al. (ICML 2020) and Wong et al.
// (ICLR 2020): a final batch norm and ReLU before the mean over positions.
// Channels double with each stage.
func preActResNet(c Config) Forward {
	b := block{act: activations[c.Activation], shortcut: "shortcut.0", init: DefaultWeight}
	return func(s *Scope, x *graph.Node) (features, logits *graph.Node) {
		x = b.conv(s.Sub("conv1"), x, c.Width, 3, 1)
		for stage, count := range c.Blocks {
			x = b.stage(s.Sub(fmt.Sprintf("layer%d", stage+1)), x, c.Width<<stage, count, min(stage+1, 2))
		}
		features = GlobalAvgPool(b.act(BatchNorm(s.Sub("bn"), x)))
		return features, Linear(s.Sub("linear"), features, c.Classes, nil)
	}
}

// wideResNet is the wide residual network of Zagoruyko and Komodakis (BMVC
// 2016) without dropout, with the names and the initialisation of TRADES
// (Zhang et al., ICML 2019).
func wideResNet(c Config) Forward {
	b := block{act: activations[c.Activation], shortcut: "convShortcut", init: KaimingNormal(FanOut)}
	return func(s *Scope, x *graph.Node) (features, logits *graph.Node) {
		x = b.conv(s.Sub("conv1"), x, c.Width, 3, 1)
		for stage, count := range c.Blocks {
			part := s.Sub(fmt.Sprintf("block%d", stage+1)).Sub("layer")
			x = b.stage(part, x, c.Width*c.Widen<<stage, count, min(stage+1, 2))
		}
		features = GlobalAvgPool(b.act(BatchNorm(s.Sub("bn1"), x)))
		return features, Linear(s.Sub("fc"), features, c.Classes, Constant(0))
	}
}

// block is a pre-activation residual block of two 3×3 convolutions:
// x → act(bn) → conv → act(bn) → conv, plus the shortcut.
type block struct {
	act      func(*graph.Node) *graph.Node
	shortcut string // scope of the 1×1 convolution where the shape changes
	init     Init
}

// stage is count blocks; the first one has the stride and changes the width.
func (b block) stage(s *Scope, x *graph.Node, out, count, stride int) *graph.Node {
	for i := range count {
		x = b.apply(s.Sub(fmt.Sprint(i)), x, out, stride)
		stride = 1
	}
	return x
}

func (b block) apply(s *Scope, x *graph.Node, out, stride int) *graph.Node {
	in := b.act(BatchNorm(s.Sub("bn1"), x))
	y := b.conv(s.Sub("conv1"), in, out, 3, stride)
	y = b.conv(s.Sub("conv2"), b.act(BatchNorm(s.Sub("bn2"), y)), out, 3, 1)
	if stride != 1 || x.Dim(1) != out {
		x = b.conv(s.Sub(b.shortcut), in, out, 1, stride) // from the activation, in both networks
	}
	return y.Add(x)
}

func (b block) conv(s *Scope, x *graph.Node, out, kernel, stride int) *graph.Node {
	return Conv2D(s, x, Conv{Out: out, Kernel: kernel, Stride: stride, Pad: kernel / 2, NoBias: true, Init: b.init})
}
