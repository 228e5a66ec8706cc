package kernel

import (
	"fmt"
	"slices"
)

// ConvShape is the shape of a 2-d convolution in PyTorch's terms: images
// x (N,C,H,W), weights w (O,C,KH,KW), result y (N,O,OH,OW).
type ConvShape struct {
	N, C, H, W int // images
	O, KH, KW  int // weights
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

// planes says how a channel is laid out once padded: with strides sh×sw, the
// padded image is dealt out to sh·sw phase planes by its row and column
// numbers modulo the stride. Under one tap of the kernel, neighbouring output
// pixels then read neighbouring elements of one plane, whatever the stride.
// Only planes that some tap reads are kept.
type planes struct {
	ConvShape
	oh, ow  int
	window  int   // KH·KW
	image   int   // OH·OW
	rows    int   // of one plane
	cols    int   // of one plane
	phasesH []int // row numbers modulo the stride that are in use
	phasesW []int // column numbers modulo the stride that are in use
	channel int   // elements of a padded channel: all its planes
	taps    []int // (KH, KW): where in a channel output pixel (0, 0) reads
	left    []int // per phasesW: the first plane column inside the image
	right   []int // per phasesW: the first plane column behind it
	covers  bool  // the planes hold every pixel of the image
	direct  bool  // 1×1, stride 1, no padding: x is its own padded form
}

// newPlanes lays out outRows output rows' worth of a channel.
func newPlanes(s ConvShape, outRows int) planes {
	p := planes{ConvShape: s, window: s.KH * s.KW}
	p.oh, p.ow = s.Out()
	p.image = p.oh * p.ow
	p.rows = outRows + (s.KH-1)*s.DH/s.SH
	p.cols = p.ow + (s.KW-1)*s.DW/s.SW
	p.phasesH = phases(s.KH, s.DH, s.SH)
	p.phasesW = phases(s.KW, s.DW, s.SW)
	p.channel = len(p.phasesH) * len(p.phasesW) * p.rows * p.cols
	for kh := range s.KH {
		for kw := range s.KW {
			y, x := kh*s.DH, kw*s.DW
			plane := slices.Index(p.phasesH, y%s.SH)*len(p.phasesW) + slices.Index(p.phasesW, x%s.SW)
			p.taps = append(p.taps, (plane*p.rows+y/s.SH)*p.cols+x/s.SW)
		}
	}
	for _, f := range p.phasesW {
		// Column j of the plane is column j·sw + f - pw of the image.
		p.left = append(p.left, min(p.cols, max(0, ceilDiv(s.PW-f, s.SW))))
		p.right = append(p.right, min(p.cols, max(0, ceilDiv(s.W+s.PW-f, s.SW))))
	}
	p.covers = len(p.phasesH) == s.SH && len(p.phasesW) == s.SW && p.rows*s.SH >= s.H+s.PH && p.cols*s.SW >= s.W+s.PW
	p.direct = s.KH == 1 && s.KW == 1 && s.SH == 1 && s.SW == 1 && s.PH == 0 && s.PW == 0
	return p
}

// phases lists, in order, the values of k·dilation modulo the stride.
func phases(kernel, dilation, stride int) []int {
	used := make([]bool, stride)
	for k := range kernel {
		used[k*dilation%stride] = true
	}
	var list []int
	for f, u := range used {
		if u {
			list = append(list, f)
		}
	}
	return list
}

// koffs lists where output pixel (0, 0) reads under each channel and tap, for
// a number of channels that lie in one buffer.
func (p *planes) koffs(channels int) []int {
	if p.direct {
		offs := make([]int, channels)
		for c := range offs {
			offs[c] = c * p.H * p.W
		}
		return offs
	}
	offs := make([]int, 0, channels*p.window)
	for c := range channels {
		for _, t := range p.taps {
			offs = append(offs, c*p.channel+t)
		}
	}
	return offs
}

// inside returns the rows of a plane, whose first is output row row0, that lie
// inside the image, for the plane of row numbers phase modulo the stride.
func (p *planes) inside(phase, row0 int) (from, to int) {
	// Row i of the plane is row (row0+i)·sh + phase - ph of the image.
	from = max(0, ceilDiv(p.PH-phase, p.SH)-row0)
	to = min(p.rows, ceilDiv(p.H+p.PH-phase, p.SH)-row0)
	return from, max(from, to)
}

// pad lays out one channel src (H, W) in planes that begin at output row row0.
func pad[T Float](m *micro[T], p *planes, dst, src []T, row0 int) {
	clear(dst[:p.channel])
	for _, fh := range p.phasesH {
		from, to := p.inside(fh, row0)
		y := (row0+from)*p.SH + fh - p.PH
		for w, fw := range p.phasesW {
			if l, r := p.left[w], p.right[w]; from < to && l < r {
				m.copyRows(to-from, r-l, dst[from*p.cols+l:], p.cols, src[y*p.W+l*p.SW+fw-p.PW:], p.SH*p.W, p.SW)
			}
			dst = dst[p.rows*p.cols:]
		}
	}
}

// padImages lays out some channels of images [n0, n1) of x, side by side in
// padded, where an image has room for slots channels.
func padImages[T Float](m *micro[T], p *planes, padded, x []T, in block, slots, n0, n1, row0 int) {
	for n := n0; n < n1; n++ {
		for c := range in.n {
			pad(m, p, padded[((n-n0)*slots+c)*p.channel:], x[(n*p.C+in.from+c)*p.H*p.W:], row0)
		}
	}
}

// unpad is the inverse of pad at row 0: it takes one channel dst (H, W) out of
// its planes and leaves the padding behind.
func unpad[T Float](m *micro[T], p *planes, dst, src []T) {
	if !p.covers {
		clear(dst[:p.H*p.W])
	}
	for _, fh := range p.phasesH {
		from, to := p.inside(fh, 0)
		y := from*p.SH + fh - p.PH
		for w, fw := range p.phasesW {
			if l, r := p.left[w], p.right[w]; from < to && l < r {
				m.spreadRows(to-from, r-l, dst[y*p.W+l*p.SW+fw-p.PW:], p.SH*p.W, p.SW, src[from*p.cols+l:], p.cols)
			}
			src = src[p.rows*p.cols:]
		}
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

// largest returns the length of the longest block.
func largest(list []block) int {
	n := 0
	for _, b := range list {
		n = max(n, b.n)
	}
	return n
}
