package adversarial

import (
	"fmt"

	"temper/engine/graph"
)

// Augment says how training images vary from step to step. The draws depend on
// the seed, the sample and the step only.
type Augment struct {
	Crop int  `toml:"crop"` // zeros around, then a window of the old size: torchvision's RandomCrop(size, padding=crop)
	Flip bool `toml:"flip"` // mirror left to right for half of the samples: RandomHorizontalFlip()
	// Cutout blackens a square of this side whose centre is anywhere in the image
	// (DeVries and Taylor, 2017: 16 for CIFAR-10; theirs is filled with the mean).
	Cutout int `toml:"cutout"`
}

// Validate reports the first setting that makes no sense.
func (a Augment) Validate() error {
	if a.Crop < 0 {
		return fmt.Errorf("augmentation: crop %d: want the number of zeros around an image, 4 for CIFAR-10", a.Crop)
	}
	if a.Cutout < 0 {
		return fmt.Errorf("augmentation: cutout %d: want the side of a square, 16 for CIFAR-10", a.Cutout)
	}
	return nil
}

// Build augments x (N,C,H,W) of any type.
func (a Augment) Build(x *graph.Node, draw graph.Draw) *graph.Node {
	n, c, h, w := x.Dim(0), x.Dim(1), x.Dim(2), x.Dim(3)
	if p := a.Crop; p > 0 {
		ones := []int{1, 1, 1, 1}
		padded := x.PadND([]int{0, 0, p, p}, []int{0, 0, p, p}, ones)
		hw := draw.Uniform("augment.crop", 2).MulC(float64(2*p + 1)).Convert(graph.I32) // 0 … 2p
		starts := graph.Concat(1, x.Graph().Const(graph.I32, []float64{0}, n, 1), hw)
		x = padded.DynSlice(starts, c, h, w)
	}
	if a.Flip {
		heads := draw.Words("augment.flip", 1).Shr(x.Graph().Const(graph.U32, []float64{31})).Convert(graph.Bool)
		x = graph.Select(heads.Reshape(n, 1, 1, 1), x.Reverse(3), x)
	}
	if a.Cutout > 0 {
		centre := draw.Uniform("augment.cutout", 2)
		x = graph.Select(a.hole(centre, 0, x, 2).And(a.hole(centre, 1, x, 3)), x.C(0), x)
	}
	return x
}

// hole says which rows or columns of x, along an axis, cutout's square covers,
// given the draws of its centre (N,2).
func (a Augment) hole(centre *graph.Node, which int, x *graph.Node, axis int) *graph.Node {
	at := centre.Slice(1, which, which+1).MulC(float64(x.Dim(axis))).Convert(graph.I32).Reshape(-1, 1, 1, 1)
	first := at.SubC(float64(a.Cutout / 2))
	shape := []int{1, 1, 1, 1}
	shape[axis] = x.Dim(axis)
	i := x.Graph().Iota(graph.I32, axis, shape...)
	return i.Ge(first).And(i.Lt(first.AddC(float64(a.Cutout))))
}

// decode gives images as f32: bytes become 0 … 1, as torchvision's ToTensor
// makes them; floats stay.
func decode(x *graph.Node) *graph.Node {
	if x.DType() == graph.U8 {
		return x.Convert(graph.F32).DivC(255)
	}
	return x
}
