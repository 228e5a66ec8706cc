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
