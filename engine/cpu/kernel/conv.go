package kernel

import "fmt"

// ConvShape is the shape of a 2-d convolution in PyTorch's terms. All tensors
// have their channels last: images x (N,H,W,C), filters w (O,KH,KW,C), result
// y (N,OH,OW,O).
type ConvShape struct {
	N, C, H, W int // images
	O, KH, KW  int // filters
	SH, SW     int // stride
	PH, PW     int // zero padding on either side
	DH, DW     int // dilation
}

// Out returns the height and width of the result. It is meaningful only for
// shapes that Check accepts.
func (s ConvShape) Out() (oh, ow int) {
	return (s.H+2*s.PH-s.DH*(s.KH-1)-1)/s.SH + 1, (s.W+2*s.PW-s.DW*(s.KW-1)-1)/s.SW + 1
}

// Check reports a shape that no convolution has.
func (s ConvShape) Check() error {
	for _, d := range []struct {
		name  string
		value int
	}{
		{"batch size", s.N}, {"input channels", s.C}, {"height", s.H}, {"width", s.W},
		{"output channels", s.O}, {"kernel height", s.KH}, {"kernel width", s.KW},
		{"stride", s.SH}, {"stride", s.SW}, {"dilation", s.DH}, {"dilation", s.DW},
	} {
		if d.value < 1 {
			return fmt.Errorf("conv2d: %s is %d, must be at least 1", d.name, d.value)
		}
	}
	if s.PH < 0 || s.PW < 0 {
		return fmt.Errorf("conv2d: padding is (%d, %d), must not be negative", s.PH, s.PW)
	}
	if h, w := s.DH*(s.KH-1)+1, s.DW*(s.KW-1)+1; h > s.H+2*s.PH || w > s.W+2*s.PW {
		return fmt.Errorf("conv2d: kernel extent %d×%d exceeds the padded input %d×%d: pad more or use a smaller kernel or dilation",
			h, w, s.H+2*s.PH, s.W+2*s.PW)
	}
	return nil
}

// sizes returns the number of elements of x, w and y.
func (s ConvShape) sizes() (x, w, y int) {
	oh, ow := s.Out()
	return s.N * s.C * s.H * s.W, s.O * s.C * s.KH * s.KW, s.N * s.O * oh * ow
}

func checkLen(what string, have, want int) {
	if have < want {
		panic(fmt.Sprintf("BUG: kernel: conv2d %s has %d elements, want %d", what, have, want))
	}
}

// block is a range of channels, images or rows that are handled together.
type block struct{ from, n int }

// blocks cuts [0, n) into ranges of nearly equal length, at most size.
func blocks(n, size int) []block {
	count := ceilDiv(n, size)
	var list []block
	for i := range count {
		from, to := i*n/count, (i+1)*n/count
		list = append(list, block{from, to - from})
	}
	return list
}

// groups cuts [0, n) into ranges of one length, at most size, and a rest. Where
// that is possible the length is a multiple of height, so that a product with so
// many rows consists of whole tiles.
func groups(n, size, height int) []block {
	size -= size % min(size, height)
	var list []block
	for from := 0; from < n; from += size {
		list = append(list, block{from, min(size, n-from)})
	}
	return list
}

// largest returns the length of the longest block.
func largest(list []block) int {
	n := 0
	for _, b := range list {
		n = max(n, b.n)
	}
	return n
}
