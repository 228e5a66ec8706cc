package kernel

import (
	"strings"
	"testing"

	"temper/engine/rng"
)

// naiveConv visits every product of a convolution: offsets into y, x and w.
func naiveConv(s ConvShape, visit func(y, x, w int)) {
	oh, ow := s.Out()
	for n := range s.N {
		for o := range s.O {
			for i := range oh {
				for j := range ow {
					y := ((n*s.O+o)*oh+i)*ow + j
					for c := range s.C {
						for kh := range s.KH {
							for kw := range s.KW {
								h, w := i*s.SH-s.PH+kh*s.DH, j*s.SW-s.PW+kw*s.DW
								if h < 0 || h >= s.H || w < 0 || w >= s.W {
									continue
								}
								visit(y, ((n*s.C+c)*s.H+h)*s.W+w, ((o*s.C+c)*s.KH+kh)*s.KW+kw)
							}
						}
					}
				}
			}
		}
	}
}

// runConv runs the three kernels and returns y, dx and dw.
func runConv[T Float](t testing.TB, s ConvShape, workers int, x, w, dy []T) [3][]T {
	t.Helper()
	pool := NewPool(workers)
	defer pool.Close()
	f, err := NewConvForward[T](pool, s)
	if err != nil {
		t.Fatal(err)
	}
	g, err := NewConvInputGrad[T](pool, s)
	if err != nil {
		t.Fatal(err)
	}
	h, err := NewConvFilterGrad[T](pool, s)
	if err != nil {
		t.Fatal(err)
	}
	sizeX, sizeW, sizeY := s.sizes()
	y, dx, dw := newGuarded[T](sizeY), newGuarded[T](sizeX), newGuarded[T](sizeW)

	check := func(what string, slices ...guarded[T]) {
		t.Helper()
		for _, v := range slices {
			v.check(t, label("%+v %s", s, what))
		}
	}
	packed, ws := newGuarded[T](f.PackedWeights()), newGuarded[T](f.Workspace())
	f.PackWeights(packed.v, w)
	f.Run(ws.v, y.v, x, packed.v)
	check("forward", packed, ws, y)

	packed, ws = newGuarded[T](g.PackedWeights()), newGuarded[T](g.Workspace())
	g.PackWeights(packed.v, w)
	g.Run(ws.v, dx.v, dy, packed.v)
	check("input gradient", packed, ws, dx)

	ws = newGuarded[T](h.Workspace())
	h.Run(ws.v, dw.v, x, dy)
	check("filter gradient", ws, dw)
	return [3][]T{y.v, dx.v, dw.v}
}

func testConv[T Float](t *testing.T, s ConvShape, seed uint32) {
	t.Helper()
	stream := rng.NewStream(seed, "conv", 0)
	sizeX, sizeW, sizeY := s.sizes()
	x, w, dy := random[T](stream, sizeX), random[T](stream, sizeW), random[T](stream, sizeY)

	var want, mass [3][]float64
	for i, n := range []int{sizeY, sizeX, sizeW} {
		want[i], mass[i] = make([]float64, n), make([]float64, n)
	}
	add := func(which, at int, a, b T) {
		want[which][at] += float64(a) * float64(b)
		mass[which][at] += abs(float64(a) * float64(b))
	}
	naiveConv(s, func(iy, ix, iw int) {
		add(0, iy, x[ix], w[iw])
		add(1, ix, dy[iy], w[iw])
		add(2, iw, x[ix], dy[iy])
	})

	got := runConv(t, s, 1, x, w, dy)
	again := runConv(t, s, 3, x, w, dy)
	for i, what := range []string{"forward", "input gradient", "filter gradient"} {
		if !same(got[i], again[i]) {
			t.Fatalf("%+v %s: 3 workers give other bits than one", s, what)
		}
		for at, v := range got[i] {
			if d := abs(float64(v) - want[i][at]); !(d <= tolerance[T](mass[i][at])) {
				t.Fatalf("%+v %s: element %d is %v, want %v", s, what, at, v, want[i][at])
			}
		}
	}
}

// square is the usual convolution: one stride, padding and size either way.
func square(n, c, size, o, k, stride, pad, dilation int) ConvShape {
	return ConvShape{N: n, C: c, H: size, W: size, O: o, KH: k, KW: k,
		SH: stride, SW: stride, PH: pad, PW: pad, DH: dilation, DW: dilation}
}

func TestConv(t *testing.T) {
	eachLevel(t, func(t *testing.T) {
		cases := []ConvShape{
			square(1, 1, 1, 1, 1, 1, 0, 1),
			square(2, 3, 8, 5, 3, 1, 1, 1),
			square(3, 1, 28, 16, 4, 2, 1, 1), // phases; runs that cross rows and images
			square(2, 2, 9, 7, 5, 1, 2, 1),   // LeNet's
			square(5, 30, 4, 20, 3, 1, 1, 1), // two blocks of channels, small images
			square(9, 17, 7, 33, 1, 1, 0, 1), // 1×1 in place
			square(3, 5, 11, 6, 1, 2, 0, 1),  // 1×1 shortcut: planes nobody reads
			square(2, 3, 12, 4, 3, 2, 1, 2),  // dilation 2 with stride 2: even phases only
			square(2, 2, 7, 3, 3, 1, 4, 1),   // padding beyond kernel - 1
			square(2, 2, 10, 3, 2, 3, 0, 1),  // stride beyond kernel
			square(1, 2, 50, 3, 3, 1, 1, 1),  // bands of rows
			square(20, 1, 2, 3, 2, 1, 0, 1),  // one pixel an image
			square(1, 1, 5, 2, 5, 1, 6, 1),   // kernel as large as the image
			square(1, 300, 3, 9, 1, 1, 0, 1), // in place, two blocks of channels
			square(2, 3, 4, 300, 2, 1, 0, 1), // two blocks of output channels
			square(17, 2, 16, 2, 3, 1, 1, 1), // more images than parts
			square(1, 1, 20, 1, 17, 1, 0, 1), // one tap block longer than blockK
			square(19, 3, 13, 4, 1, 1, 0, 1), // in place, panels that cross images
			{N: 2, C: 3, H: 9, W: 14, O: 4, KH: 2, KW: 5, SH: 2, SW: 3, PH: 1, PW: 3, DH: 3, DW: 1},
			{N: 2, C: 2, H: 3, W: 40, O: 3, KH: 3, KW: 1, SH: 1, SW: 2, PH: 1, PW: 0, DH: 1, DW: 1},
		}
		s := rng.NewStream(1, "conv shapes", 0)
		for len(cases) < 100 {
			c := randomShape(func(n int) int { return s.IntN(n) })
			if c.Check() == nil {
				cases = append(cases, c)
			}
		}
		for i, c := range cases {
			testConv[float32](t, c, uint32(i))
			testConv[float64](t, c, uint32(i))
		}
	})
}

func randomShape(intN func(int) int) ConvShape {
	return ConvShape{
		N: 1 + intN(4), C: 1 + intN(5), H: 1 + intN(20), W: 1 + intN(20),
		O: 1 + intN(20), KH: 1 + intN(5), KW: 1 + intN(5),
		SH: 1 + intN(3), SW: 1 + intN(3), PH: intN(4), PW: intN(4), DH: 1 + intN(3), DW: 1 + intN(3),
	}
}

func TestConvShapeErrors(t *testing.T) {
	for _, c := range []struct {
		change func(*ConvShape)
		want   string
	}{
		{func(s *ConvShape) { s.KH = 11 }, "kernel extent 11×3 exceeds the padded input 10×10"},
		{func(s *ConvShape) { s.DW = 5 }, "kernel extent 3×11 exceeds"},
		{func(s *ConvShape) { s.N = 0 }, "batch size is 0"},
		{func(s *ConvShape) { s.SH = 0 }, "stride is 0"},
		{func(s *ConvShape) { s.PW = -1 }, "padding is (1, -1)"},
		{func(s *ConvShape) { s.O = -3 }, "output channels is -3"},
	} {
		s := square(2, 3, 8, 5, 3, 1, 1, 1)
		c.change(&s)
		pool := newPool(t, 1)
		_, err1 := NewConvForward[float32](pool, s)
		_, err2 := NewConvInputGrad[float32](pool, s)
		_, err3 := NewConvFilterGrad[float32](pool, s)
		for _, err := range []error{err1, err2, err3} {
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%+v: error %v, want %q", s, err, c.want)
			}
		}
	}
}

func TestConvRefusesShortSlices(t *testing.T) {
	s := square(2, 3, 8, 5, 3, 1, 1, 1)
	pool := newPool(t, 1)
	f, _ := NewConvForward[float32](pool, s)
	g, _ := NewConvInputGrad[float32](pool, s)
	h, _ := NewConvFilterGrad[float32](pool, s)
	sizeX, sizeW, sizeY := s.sizes()
	x, w, y := make([]float32, sizeX), make([]float32, sizeW), make([]float32, sizeY)
	long := make([]float32, 1<<20)
	for what, call := range map[string]func(){
		"forward weights":  func() { f.PackWeights(long, w[1:]) },
		"forward packed":   func() { f.PackWeights(long[:f.PackedWeights()-1], w) },
		"forward ws":       func() { f.Run(long[:f.Workspace()-1], y, x, long) },
		"forward y":        func() { f.Run(long, y[1:], x, long) },
		"forward x":        func() { f.Run(long, y, x[1:], long) },
		"forward with":     func() { f.Run(long, y, x, long[:f.PackedWeights()-1]) },
		"gradient weights": func() { g.PackWeights(long, w[1:]) },
		"gradient packed":  func() { g.PackWeights(long[:g.PackedWeights()-1], w) },
		"gradient ws":      func() { g.Run(long[:g.Workspace()-1], x, y, long) },
		"gradient dx":      func() { g.Run(long, x[1:], y, long) },
		"gradient dy":      func() { g.Run(long, x, y[1:], long) },
		"gradient with":    func() { g.Run(long, x, y, long[:g.PackedWeights()-1]) },
		"filter ws":        func() { h.Run(long[:h.Workspace()-1], w, x, y) },
		"filter dw":        func() { h.Run(long, w[1:], x, y) },
		"filter x":         func() { h.Run(long, w, x[1:], y) },
		"filter dy":        func() { h.Run(long, w, x, y[1:]) },
	} {
		mustPanic(t, what, call)
	}
}

func TestConvAllocatesNothing(t *testing.T) {
	for _, s := range []ConvShape{square(5, 3, 12, 7, 3, 2, 1, 1), square(5, 3, 7, 7, 1, 1, 0, 1)} {
		pool := newPool(t, 2)
		f, _ := NewConvForward[float32](pool, s)
		g, _ := NewConvInputGrad[float32](pool, s)
		h, _ := NewConvFilterGrad[float32](pool, s)
		sizeX, sizeW, sizeY := s.sizes()
		x, w, y := make([]float32, sizeX), make([]float32, sizeW), make([]float32, sizeY)
		packed := make([]float32, max(f.PackedWeights(), g.PackedWeights()))
		ws := make([]float32, max(f.Workspace(), g.Workspace(), h.Workspace()))
		n := testing.AllocsPerRun(20, func() {
			f.PackWeights(packed, w)
			f.Run(ws, y, x, packed)
			g.PackWeights(packed, w)
			g.Run(ws, x, y, packed)
			h.Run(ws, w, x, y)
		})
		if n != 0 {
			t.Errorf("%+v: %v allocations a run", s, n)
		}
	}
}

func FuzzConv(f *testing.F) {
	f.Add([]byte{2, 3, 8, 8, 5, 3, 3, 0, 0, 1, 1, 0, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		s := randomShape(func(n int) int {
			if len(data) == 0 {
				return 0
			}
			v := int(data[0]) % n
			data = data[1:]
			return v
		})
		if s.Check() == nil {
			testConv[float32](t, s, 1)
		}
	})
}

var benchShapes = []struct {
	name string
	s    ConvShape
}{
	{"64x32²to64k3", square(64, 64, 32, 64, 3, 1, 1, 1)},
	{"128x16²to128k3", square(64, 128, 16, 128, 3, 1, 1, 1)},
	{"256x8²to256k3", square(64, 256, 8, 256, 3, 1, 1, 1)},
	{"512x4²to512k3", square(64, 512, 4, 512, 3, 1, 1, 1)},
	{"64x32²to128k3s2", square(64, 64, 32, 128, 3, 2, 1, 1)},
	{"64x32²to128k1s2", square(64, 64, 32, 128, 1, 2, 0, 1)},
	{"64x32²to64k1", square(64, 64, 32, 64, 1, 1, 0, 1)},
	{"1x28²to16k4s2", square(128, 1, 28, 16, 4, 2, 1, 1)},
	{"16x14²to32k4s2", square(128, 16, 14, 32, 4, 2, 1, 1)},
	{"3x32²to32k3", square(128, 3, 32, 32, 3, 1, 1, 1)},
	{"1x28²to32k5", square(128, 1, 28, 32, 5, 1, 2, 1)},
	{"32x14²to64k5", square(128, 32, 14, 64, 5, 1, 2, 1)},
}

func BenchmarkConv(b *testing.B) {
	for _, c := range benchShapes {
		s := c.s
		sizeX, sizeW, sizeY := s.sizes()
		flops := 2 * float64(sizeY) * float64(s.C*s.KH*s.KW)
		pool := newPool(b, 0)
		f, _ := NewConvForward[float32](pool, s)
		g, _ := NewConvInputGrad[float32](pool, s)
		h, _ := NewConvFilterGrad[float32](pool, s)
		x, w, y := make([]float32, sizeX), make([]float32, sizeW), make([]float32, sizeY)
		packed := make([]float32, max(f.PackedWeights(), g.PackedWeights()))
		ws := make([]float32, max(f.Workspace(), g.Workspace(), h.Workspace()))
		b.Run(c.name+"/forward", func(b *testing.B) {
			measure(b, flops, func() {
				f.PackWeights(packed, w)
				f.Run(ws, y, x, packed)
			})
		})
		b.Run(c.name+"/input", func(b *testing.B) {
			measure(b, flops, func() {
				g.PackWeights(packed, w)
				g.Run(ws, x, y, packed)
			})
		})
		b.Run(c.name+"/filter", func(b *testing.B) {
			measure(b, flops, func() { h.Run(ws, w, x, y) })
		})
	}
}
