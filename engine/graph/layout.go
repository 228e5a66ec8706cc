package graph

import "fmt"

// Layout is the order of the axes of images and filters in convolutions and
// pooling.
type Layout uint8

// The layouts. Models are built in NCHW; the pass channels-last writes NHWC for
// the back ends that want it.
const (
	NCHW Layout = iota // images (N,C,H,W), filters (O,C,kh,kw)
	NHWC               // images (N,H,W,C), filters (O,kh,kw,C)
)

func (l Layout) String() string { return [...]string{"nchw", "nhwc"}[l] }

// Channel is the axis of the channels, of images and of filters.
func (l Layout) Channel() int {
	if l == NHWC {
		return 3
	}
	return 1
}

// Spatial is the first of the two spatial axes.
func (l Layout) Spatial() int {
	if l == NHWC {
		return 1
	}
	return 2
}

// Shape orders the extents of images (n,c,h,w) or of filters (o,c,kh,kw).
func (l Layout) Shape(n, c, h, w int) Shape {
	if l == NHWC {
		return Shape{n, h, w, c}
	}
	return Shape{n, c, h, w}
}

func parseLayout(s string) (Layout, error) {
	for _, l := range []Layout{NCHW, NHWC} {
		if l.String() == s {
			return l, nil
		}
	}
	return 0, fmt.Errorf("want nchw or nhwc, got %s", s)
}

// Algorithm is how a convolution is computed.
type Algorithm uint8

// The algorithms.
const (
	Direct   Algorithm = iota // product by product
	Winograd                  // F(4×4,3×3), F(4×4,5×5): a quarter of the products or a sixth, larger rounding errors
	Patches                   // conv2d-input-grad for few channels: whole patches, added up
	// Pooled is conv2d-input-grad for few channels where the convolution's result
	// is max-pooled, by windows that tile it. Its operands are the gradient of the
	// pooled values and, after the filter, their places as pool-argmax gives them.
	Pooled
	Pairs // of bf16: pixels under the filter, side by side, with pairs of the filter's elements
)

func (a Algorithm) String() string {
	return [...]string{"direct", "winograd", "patches", "pooled", "pairs"}[a]
}

func parseAlgorithm(s string) (Algorithm, error) {
	for _, a := range []Algorithm{Direct, Winograd, Patches, Pooled, Pairs} {
		if a.String() == s {
			return a, nil
		}
	}
	return 0, fmt.Errorf("want direct, winograd, patches, pooled or pairs, got %s", s)
}

// Lanes is the number of channels in a panel of a packed filter.
const Lanes = 16

// PackedShape is the shape of a packed filter, from that of the filter
// (O,kh,kw,C). The panels of Lanes channels are those of the result: output
// channels, or input channels where InputGrad is set; m is their number and k
// that of the others. Direct: (m/16, kh·kw·k, 16), padded with zeros; taps are
// in the order of the filter or, for the input gradient, sorted by the
// remainders of kh·dilation and kw·dilation by the stride and falling within
// them. Winograd: ((kh+3)², m/16·k + 1, 16), the points of G·w·Gᵀ, with w turned by half
// a turn for the input gradient; a point's last row is 0, since points that lay a
// power of two apart would share a few lines of the cache. Patches:
// (kh·kw·m/16, k, 16), panels of taps and channels in the order of the filter.
// Pooled: (O, window, patch), the filter as it lies in the patch (h,w,C) of the
// image that a window reaches, for each pixel of the window; a patch's rows are
// padded to multiples of 4 elements, the whole of it to one of 8.
func PackedShape(w Shape, a *Attrs) Shape {
	m, k := w[0], w[3]
	if a.InputGrad {
		m, k = k, m
	}
	switch a.Algorithm {
	case Winograd:
		return Shape{(w[1] + 3) * (w[2] + 3), m/Lanes*k + 1, Lanes}
	case Patches:
		return Shape{(w[1]*w[2]*m + Lanes - 1) / Lanes, k, Lanes}
	case Pooled:
		h, row := PooledPatch(w, a)
		return Shape{w[0], a.Pool[0] * a.Pool[1], (h*row + 7) &^ 7}
	case Pairs:
		depth := 0
		for _, taps := range PackedTaps(w, a) {
			depth += PairDepth(len(taps) * k)
		}
		return Shape{(m + Lanes - 1) / Lanes, depth / 2, 2 * Lanes}
	}
	return Shape{(m + Lanes - 1) / Lanes, w[1] * w[2] * k, Lanes}
}

// PooledPatch is the extents of the patch of an image that a window of results
// reaches: its rows, and the elements of one of them, padded.
func PooledPatch(w Shape, a *Attrs) (rows, row int) {
	reach := func(i int) int { return (a.Pool[i]-1)*a.Stride[i] + (w[1+i]-1)*a.Dilation[i] + 1 }
	return reach(0), (reach(1)*w[3] + 3) &^ 3
}

// MaxPatchChannels is the largest number of image channels that Patches and Pooled take.
const MaxPatchChannels = 4

// CanPatches reports whether Patches and Pooled serve a convolution with filter
// w (O,kh,kw,C): the input gradient's, for few channels.
func CanPatches(w Shape, a *Attrs) bool { return a.InputGrad && w[3] <= MaxPatchChannels }

// CanWinograd reports whether Winograd's algorithm serves a convolution with
// filter w (O,kh,kw,C): 3×3 or 5×5, stride and dilation 1, whole panels of channels.
func CanWinograd(w Shape, a *Attrs) bool {
	one := [2]int{1, 1}
	return (w[1] == 3 || w[1] == 5) && w[2] == w[1] && a.Stride == one && a.Dilation == one && w[0]%Lanes == 0 && w[3]%Lanes == 0
}

// PairDepth is an inner dimension of Pairs, padded.
func PairDepth(k int) int { return (k + 31) / 32 * 32 }

// PackedTaps are the taps of a filter (O,kh,kw,C), as (h,w), in the order of the
// packed filter: all of them, or those of the input gradient that meet the same
// pixels modulo the strides.
func PackedTaps(w Shape, a *Attrs) (groups [][][2]int) {
	if !a.InputGrad {
		groups = [][][2]int{nil}
		for i := range w[1] {
			for j := range w[2] {
				groups[0] = append(groups[0], [2]int{i, j})
			}
		}
		return groups
	}
	for p := range a.Stride[0] {
		for q := range a.Stride[1] {
			var taps [][2]int
			for i := w[1] - 1; i >= 0; i-- {
				for j := w[2] - 1; j >= 0; j-- {
					if i*a.Dilation[0]%a.Stride[0] == p && j*a.Dilation[1]%a.Stride[1] == q {
						taps = append(taps, [2]int{i, j})
					}
				}
			}
			groups = append(groups, taps)
		}
	}
	return groups
}
