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
	b := block{act: activations[c.Activation], names: torchNames, shortcut: "shortcut.0", init: DefaultWeight}
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
	b := block{act: activations[c.Activation], names: torchNames, shortcut: "convShortcut", init: KaimingNormal(FanOut)}
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

// dmWideResNet is the wide residual network of Gowal et al. (2020, arXiv
// 2010.03593) with the names of their PyTorch version, which RobustBench's
// strongest CIFAR-10 entries use too. It differs from wideResNet in those, in its
// activation, and in TensorFlow's padding. Their state also holds the
// normalisation's mean and std, which here are constants.
func dmWideResNet(c Config) Forward {
	b := block{act: activations[c.Activation], names: [4]string{"batchnorm_0", "conv_0", "batchnorm_1", "conv_1"}, shortcut: "shortcut", same: true, init: DefaultWeight}
	return func(s *Scope, x *graph.Node) (features, logits *graph.Node) {
		x = b.conv(s.Sub("init_conv"), x, c.Width, 3, 1)
		for stage, count := range c.Blocks {
			part := s.Sub("layer").Sub(fmt.Sprint(stage)).Sub("block")
			x = b.stage(part, x, c.Width*c.Widen<<stage, count, min(stage+1, 2))
		}
		features = GlobalAvgPool(b.act(BatchNorm(s.Sub("batchnorm"), x)))
		return features, Linear(s.Sub("logits"), features, c.Classes, nil)
	}
}

// resNet is the residual network of He et al. (CVPR 2016) with basic blocks, for
// images of 32 pixels, as adversarial training uses it: no max pool, a first
// convolution of 3×3, and the names that are usual for it, those of
// kuangliu/pytorch-cifar.
func resNet(c Config) Forward {
	act := activations[c.Activation]
	conv := func(s *Scope, x *graph.Node, out, kernel, stride int) *graph.Node {
		return Conv2D(s, x, Conv{Out: out, Kernel: kernel, Stride: stride, Pad: kernel / 2, NoBias: true})
	}
	block := func(s *Scope, x *graph.Node, out, stride int) *graph.Node {
		y := act(BatchNorm(s.Sub("bn1"), conv(s.Sub("conv1"), x, out, 3, stride)))
		y = BatchNorm(s.Sub("bn2"), conv(s.Sub("conv2"), y, out, 3, 1))
		if stride != 1 || x.Dim(1) != out {
			x = BatchNorm(s.Sub("shortcut.1"), conv(s.Sub("shortcut.0"), x, out, 1, stride))
		}
		return act(y.Add(x))
	}
	return func(s *Scope, x *graph.Node) (features, logits *graph.Node) {
		x = act(BatchNorm(s.Sub("bn1"), conv(s.Sub("conv1"), x, c.Width, 3, 1)))
		for stage, count := range c.Blocks {
			for i := range count {
				stride := 1
				if stage > 0 && i == 0 {
					stride = 2
				}
				x = block(s.Sub(fmt.Sprintf("layer%d.%d", stage+1, i)), x, c.Width<<stage, stride)
			}
		}
		features = GlobalAvgPool(x)
		return features, Linear(s.Sub("linear"), features, c.Classes, nil)
	}
}

// block is a pre-activation residual block of two 3×3 convolutions:
// x → act(bn) → conv → act(bn) → conv, plus the shortcut.
type block struct {
	act      func(*graph.Node) *graph.Node
	names    [4]string // scopes of bn, conv, bn, conv
	shortcut string    // scope of the 1×1 convolution where the shape changes
	same     bool      // TensorFlow's "same": a stride of 2 pads below and on the right only
	init     Init
}

var torchNames = [4]string{"bn1", "conv1", "bn2", "conv2"}

// stage is count blocks; the first one has the stride and changes the width.
func (b block) stage(s *Scope, x *graph.Node, out, count, stride int) *graph.Node {
	for i := range count {
		x = b.apply(s.Sub(fmt.Sprint(i)), x, out, stride)
		stride = 1
	}
	return x
}

func (b block) apply(s *Scope, x *graph.Node, out, stride int) *graph.Node {
	in := b.act(BatchNorm(s.Sub(b.names[0]), x))
	y := b.conv(s.Sub(b.names[1]), in, out, 3, stride)
	y = b.conv(s.Sub(b.names[3]), b.act(BatchNorm(s.Sub(b.names[2]), y)), out, 3, 1)
	if stride != 1 || x.Dim(1) != out {
		x = b.conv(s.Sub(b.shortcut), in, out, 1, stride) // from the activation, in all of them
	}
	return y.Add(x)
}

func (b block) conv(s *Scope, x *graph.Node, out, kernel, stride int) *graph.Node {
	pad := kernel / 2
	if b.same && pad > 0 && stride == 2 {
		x, pad = x.PadND([]int{0, 0, 0, 0}, []int{0, 0, 1, 1}, []int{1, 1, 1, 1}), 0
	}
	return Conv2D(s, x, Conv{Out: out, Kernel: kernel, Stride: stride, Pad: pad, NoBias: true, Init: b.init})
}
