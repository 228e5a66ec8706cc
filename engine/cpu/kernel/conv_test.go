package kernel

import (
	"math"
	"slices"
	"strings"
	"testing"

	"temper/engine/rng"
)

// naiveConv visits every product of a convolution: offsets into y, x and w.
func naiveConv(s ConvShape, visit func(y, x, w int)) {
	oh, ow := s.Out()
	for n := range s.N {
		for i := range oh {
			for j := range ow {
				for kh := range s.KH {
					for kw := range s.KW {
						h, w := i*s.SH-s.PH+kh*s.DH, j*s.SW-s.PW+kw*s.DW
						if h < 0 || h >= s.H || w < 0 || w >= s.W {
							continue
						}
						for o := range s.O {
							for c := range s.C {
								visit(((n*oh+i)*ow+j)*s.O+o, ((n*s.H+h)*s.W+w)*s.C+c, ((o*s.KH+kh)*s.KW+kw)*s.C+c)
							}
						}
					}
				}
			}
		}
	}
}

// of is the algorithm itself, but Direct where it is of the other direction.
func (a Algorithm) of(d Direction) Algorithm {
	if a == Patches && d == Forward {
		return Direct
	}
	return a
}

// serves reports whether an algorithm computes a convolution.
func (s ConvShape) serves(a Algorithm) bool {
	return s.check(InputGrad, a) == nil
}

// runConv runs the three kernels and returns y, dx and dw. All slices lie
// between pages that cannot be touched.
func runConv[T Float](t testing.TB, s ConvShape, a Algorithm, workers int, x, w, dy []T) [3][]T {
	t.Helper()
	pool := NewPool(workers)
	defer pool.Close()
	fence := newFence[T](t)
	var out [3][]T
	for d, src := range [][]T{x, dy} {
		a := a.of(Direction(d))
		pack, err := NewFilterPack[T](pool, s, Direction(d), a)
		if err != nil {
			t.Fatal(err)
		}
		k, err := NewConv[T](pool, s, Direction(d), a)
		if err != nil {
			t.Fatal(err)
		}
		packed := fence.new(pack.Size())
		pack.Run(fence.new(pack.Workspace()), packed, fence.copy(w))
		sizeX, _, sizeY := s.sizes()
		y := fence.new([]int{sizeY, sizeX}[d])
		k.Run(fence.new(k.Workspace()), y, fence.copy(src), packed)
		out[d] = slices.Clone(y)
	}
	g, err := NewConvFilterGrad[T](pool, s, a.of(Forward))
	if err != nil {
		t.Fatal(err)
	}
	dw := fence.new(len(w))
	g.Run(fence.new(g.Workspace()), dw, fence.copy(x), fence.copy(dy))
	out[2] = slices.Clone(dw)
	return out
}

// reference computes y, dx and dw in float64, and the absolute terms' sums.
func reference[T Float](s ConvShape, x, w, dy []T) (want, mass [3][]float64) {
	sizeX, sizeW, sizeY := s.sizes()
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
	return want, mass
}

var results = [3]string{"forward", "input gradient", "filter gradient"}

// testConv compares one algorithm with the loop above. Winograd's error is
// bounded by the largest element of the result, had all taps met the image: it
// transforms them all.
func testConv[T Float](t *testing.T, s ConvShape, a Algorithm, seed uint32) {
	t.Helper()
	stream := rng.NewStream(seed, "conv", 0)
	sizeX, sizeW, sizeY := s.sizes()
	x, w, dy := random[T](stream, sizeX), random[T](stream, sizeW), random[T](stream, sizeY)
	want, mass := reference(s, x, w, dy)
	got := runConv(t, s, a, 1, x, w, dy)
	again := runConv(t, s, a, 3, x, w, dy)
	for i, what := range results {
		if !same(got[i], again[i]) {
			t.Fatalf("%+v %s: 3 workers give other bits than one", s, what)
		}
		most := slices.Max(mass[i]) * float64(s.KH*s.KW) / float64(min(s.KH, s.H)*min(s.KW, s.W))
		for at, v := range got[i] {
			bound := tolerance[T](mass[i][at])
			if a == Winograd {
				bound = tolerance[T](map[int]float64{3: 4, 5: 10}[s.KH] * most)
			}
			if d := abs(float64(v) - want[i][at]); !(d <= bound) {
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
			square(3, 1, 28, 16, 4, 2, 1, 1), // one channel, overlapping phases
			square(2, 2, 9, 7, 5, 1, 2, 1),   // LeNet's
			square(5, 30, 4, 20, 3, 1, 1, 1), // panels with an edge, small images
			square(9, 17, 7, 33, 1, 1, 0, 1), // 1×1 in place
			square(1, 17, 9, 33, 3, 1, 1, 1), // blocks of 8 and of 9 input channels
			square(3, 5, 11, 6, 1, 2, 0, 1),  // 1×1 shortcut: phases without taps
			square(2, 3, 12, 4, 3, 2, 1, 2),  // dilation 2 with stride 2: even phases only
			square(2, 2, 7, 3, 3, 1, 4, 1),   // padding beyond kernel - 1
			square(2, 2, 10, 3, 2, 3, 0, 1),  // stride beyond kernel
			square(1, 2, 50, 3, 3, 1, 1, 1),  // bands of rows
			square(20, 1, 2, 3, 2, 1, 0, 1),  // one pixel an image
			square(1, 1, 5, 2, 5, 1, 6, 1),   // kernel as large as the image
			square(1, 400, 3, 9, 1, 1, 0, 1), // in place, a pixel longer than a block
			square(1, 150, 4, 9, 3, 1, 1, 1), // padded, a row longer than a block
			square(2, 3, 4, 300, 2, 1, 0, 1), // a long row of results
			square(17, 2, 16, 2, 3, 1, 1, 1), // more images than parts
			square(1, 1, 20, 1, 17, 1, 0, 1),
			square(19, 3, 13, 4, 1, 1, 0, 1), // in place, several images
			square(1, 3, 90, 2, 1, 2, 0, 1),  // in place, bands
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
			testConv[float32](t, c, Direct, uint32(i))
			testConv[float64](t, c, Direct, uint32(i))
			if c.C <= MaxPatchChannels {
				testConv[float32](t, c, Patches, uint32(i))
				testConv[float64](t, c, Patches, uint32(i))
			}
		}
	})
}

func TestWinograd(t *testing.T) {
	eachLevel(t, func(t *testing.T) {
		for i, c := range []ConvShape{
			square(1, 16, 1, 16, 3, 1, 1, 1),   // one pixel
			square(2, 16, 4, 32, 3, 1, 1, 1),   // one tile an image
			square(1, 32, 9, 16, 3, 1, 1, 1),   // tiles cut off
			square(2, 16, 10, 16, 3, 1, 0, 1),  // no padding
			square(1, 16, 6, 16, 3, 1, 2, 1),   // full padding
			square(1, 16, 3, 16, 3, 1, 4, 1),   // tiles of padding alone
			square(3, 48, 13, 80, 3, 1, 1, 1),  // several chunks
			square(1, 272, 5, 128, 3, 1, 1, 1), // a filter that workers share; two blocks of channels
			square(5, 80, 32, 16, 3, 1, 1, 1),  // more tiles than a step of the filter's gradient
			square(1, 16, 1, 16, 5, 1, 2, 1),   // 5×5: one pixel
			square(2, 32, 14, 64, 5, 1, 2, 1),  // whole tiles
			square(3, 48, 13, 32, 5, 1, 2, 1),  // tiles cut off
			square(2, 16, 9, 16, 5, 1, 0, 1),   // no padding
			square(1, 16, 6, 32, 5, 1, 4, 1),   // full padding
			square(1, 272, 5, 128, 5, 1, 2, 1), // a filter that workers share
			{N: 1, C: 16, H: 7, W: 12, O: 16, KH: 3, KW: 3, SH: 1, SW: 1, PH: 2, PW: 0, DH: 1, DW: 1},
		} {
			testConv[float32](t, c, Winograd, uint32(i))
			testConv[float64](t, c, Winograd, uint32(i))
		}
	})
}

// Special values among the images go where the products take them, and nowhere
// else: Winograd may spread NaN over the tiles that it touches, no farther than
// its image, but loses none.
func TestConvSpecialValues(t *testing.T) {
	inf, nan := math.Inf(1), math.NaN()
	eachLevel(t, func(t *testing.T) {
		for _, c := range []struct {
			s ConvShape
			a Algorithm
		}{
			{square(4, 3, 9, 20, 3, 1, 1, 1), Direct}, {square(4, 3, 9, 20, 3, 2, 1, 1), Direct}, {square(4, 17, 6, 5, 1, 1, 0, 1), Direct},
			{square(4, 3, 9, 20, 3, 1, 1, 1), Patches}, {square(4, 16, 9, 16, 3, 1, 1, 1), Winograd},
		} {
			for _, special := range []float64{nan, inf, -inf, 0x1p-149, -0x1p-127, math.Copysign(0, -1)} {
				stream := rng.NewStream(7, "special", 0)
				sizeX, sizeW, sizeY := c.s.sizes()
				x, w, dy := random[float32](stream, sizeX), random[float32](stream, sizeW), random[float32](stream, sizeY)
				// In the third image; not at its border, where the product with
				// padding is NaN too.
				oh, ow := c.s.Out()
				x[sizeX/2+(c.s.H/2*c.s.W+c.s.W/2)*c.s.C] = float32(special)
				dy[sizeY/2+(oh/2*ow+ow/2)*c.s.O] = float32(special)
				want, mass := reference(c.s, x, w, dy)
				got := runConv(t, c.s, c.a, 2, x, w, dy)
				for i, what := range results {
					for at, v := range got[i] {
						exact, image := want[i][at], at*c.s.N/len(got[i])
						finite := exact-exact == 0
						spread := c.a == Winograd && special-special != 0 && (image == 2 || i == 2)
						switch {
						case !finite && float64(v)-float64(v) == 0:
							t.Fatalf("%+v %s with %v: element %d is %v, want %v", c, what, special, at, v, exact)
						case !finite && c.a != Winograd && (exact == exact) != (v == v):
							t.Fatalf("%+v %s with %v: element %d is %v, want %v", c, what, special, at, v, exact)
						case finite && !spread && !(abs(float64(v)-exact) <= tolerance[float32](4*mass[i][at]+1)):
							t.Fatalf("%+v %s with %v: element %d is %v, want %v", c, what, special, at, v, exact)
						}
					}
				}
			}
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
		_, err1 := NewConv[float32](pool, s, Forward, Direct)
		_, err2 := NewFilterPack[float32](pool, s, InputGrad, Direct)
		_, err3 := NewConvFilterGrad[float32](pool, s, Direct)
		for _, err := range []error{err1, err2, err3} {
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%+v: error %v, want %q", s, err, c.want)
			}
		}
	}
}

func TestWinogradRefusesShapes(t *testing.T) {
	for _, s := range []ConvShape{square(2, 3, 8, 16, 3, 1, 1, 1), square(2, 16, 8, 16, 3, 2, 1, 1), square(2, 16, 8, 16, 1, 1, 0, 1)} {
		if _, err := NewConv[float32](newPool(t, 1), s, Forward, Winograd); err == nil || !strings.Contains(err.Error(), "no Winograd for") {
			t.Errorf("%+v: error %v", s, err)
		}
	}
}

func TestConvRefusesShortSlices(t *testing.T) {
	pool := newPool(t, 1)
	long := make([]float32, 1<<20)
	for _, s := range []ConvShape{square(2, 3, 8, 5, 3, 1, 1, 1), square(2, 16, 8, 16, 3, 1, 1, 1)} {
		sizeX, sizeW, sizeY := s.sizes()
		for _, a := range []Algorithm{Direct, Winograd} {
			if !s.serves(a) {
				continue
			}
			p, _ := NewFilterPack[float32](pool, s, Forward, a)
			k, _ := NewConv[float32](pool, s, Forward, a)
			g, _ := NewConvFilterGrad[float32](pool, s, a)
			for what, call := range map[string]func(){
				"filter":     func() { p.Run(long, long, long[:sizeW-1]) },
				"packed":     func() { p.Run(long, long[:p.Size()-1], long) },
				"ws":         func() { k.Run(long[:k.Workspace()-1], long, long, long) },
				"y":          func() { k.Run(long, long[:sizeY-1], long, long) },
				"x":          func() { k.Run(long, long, long[:sizeX-1], long) },
				"with":       func() { k.Run(long, long, long, long[:p.Size()-1]) },
				"filter ws":  func() { g.Run(long[:g.Workspace()-1], long, long, long) },
				"filter dw":  func() { g.Run(long, long[:sizeW-1], long, long) },
				"filter x":   func() { g.Run(long, long, long[:sizeX-1], long) },
				"filter dy":  func() { g.Run(long, long, long, long[:sizeY-1]) },
				"pack space": func() { p.Run(nil, long, long); panic("none is wanted") },
			} {
				if what != "pack space" || p.Workspace() > 0 {
					mustPanic(t, what, call)
				}
			}
		}
	}
}

// convSet is what a benchmark or an allocation test runs.
type convSet struct {
	pack   [2]*FilterPack[float32]
	conv   [2]Conv[float32]
	filter ConvFilterGrad[float32]
	x, y   []float32
	w, ws  []float32
	packed [2][]float32
}

func newConvSet(t testing.TB, pool *Pool, s ConvShape, a Algorithm) *convSet {
	t.Helper()
	sizeX, sizeW, sizeY := s.sizes()
	stream := rng.NewStream(1, "set", 0)
	c := &convSet{x: random[float32](stream, sizeX), y: random[float32](stream, sizeY), w: random[float32](stream, sizeW)}
	space := 0
	given := a
	for d := range c.conv {
		a = given.of(Direction(d))
		var err1, err2 error
		c.pack[d], err1 = NewFilterPack[float32](pool, s, Direction(d), a)
		c.conv[d], err2 = NewConv[float32](pool, s, Direction(d), a)
		if err1 != nil || err2 != nil {
			t.Fatal(err1, err2)
		}
		space = max(space, c.pack[d].Workspace(), c.conv[d].Workspace())
		c.packed[d] = make([]float32, c.pack[d].Size())
	}
	c.filter, _ = NewConvFilterGrad[float32](pool, s, given.of(Forward))
	c.ws = make([]float32, max(space, c.filter.Workspace()))
	return c
}

func (c *convSet) packs() {
	for d, p := range c.pack {
		p.Run(c.ws, c.packed[d], c.w)
	}
}

func TestConvAllocatesNothing(t *testing.T) {
	for _, s := range []ConvShape{square(5, 3, 12, 7, 3, 2, 1, 1), square(5, 3, 7, 7, 1, 1, 0, 1), square(2, 16, 9, 32, 3, 1, 1, 1), square(1, 272, 5, 128, 3, 1, 1, 1)} {
		pool := newPool(t, 2)
		for _, a := range []Algorithm{Direct, Winograd, Patches} {
			if !s.serves(a) {
				continue
			}
			c := newConvSet(t, pool, s, a)
			n := testing.AllocsPerRun(20, func() {
				c.packs()
				c.conv[0].Run(c.ws, c.y, c.x, c.packed[0])
				c.conv[1].Run(c.ws, c.x, c.y, c.packed[1])
				c.filter.Run(c.ws, c.w, c.x, c.y)
			})
			if n != 0 {
				t.Errorf("%+v, algorithm %d: %v allocations a run", s, a, n)
			}
		}
	}
}

func FuzzConv(f *testing.F) {
	f.Add([]byte{2, 3, 8, 8, 5, 3, 3, 0, 0, 1, 1, 0, 0})
	f.Add([]byte{1, 4, 19, 3, 17, 0, 4, 2, 1, 3, 0, 2, 1})
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
			testConv[float32](t, s, Direct, 1)
			if s.C <= MaxPatchChannels {
				testConv[float32](t, s, Patches, 1)
			}
		}
		w := ConvShape{N: s.N, C: 16 * s.KH, H: s.H, W: s.W, O: 16 * s.KW, KH: 3, KW: 3, SH: 1, SW: 1, PH: s.PH, PW: s.PW, DH: 1, DW: 1}
		if w.Check() == nil {
			testConv[float32](t, w, Winograd, 1)
		}
	})
}

var benchShapes = []struct {
	name string
	s    ConvShape
}{
	{"64x32²to64k3", square(128, 64, 32, 64, 3, 1, 1, 1)},
	{"128x16²to128k3", square(128, 128, 16, 128, 3, 1, 1, 1)},
	{"256x8²to256k3", square(128, 256, 8, 256, 3, 1, 1, 1)},
	{"512x4²to512k3", square(128, 512, 4, 512, 3, 1, 1, 1)},
	{"64x32²to128k3s2", square(64, 64, 32, 128, 3, 2, 1, 1)},
	{"64x32²to128k1s2", square(64, 64, 32, 128, 1, 2, 0, 1)},
	{"64x32²to64k1", square(64, 64, 32, 64, 1, 1, 0, 1)},
	{"1x28²to16k4s2", square(128, 1, 28, 16, 4, 2, 1, 1)},
	{"16x14²to32k4s2", square(128, 16, 14, 32, 4, 2, 1, 1)},
	{"3x32²to32k3", square(128, 3, 32, 32, 3, 1, 1, 1)},
	{"1x28²to32k5", square(128, 1, 28, 32, 5, 1, 2, 1)},
	{"32x14²to64k5", square(128, 32, 14, 64, 5, 1, 2, 1)},
}

// Each result is reported as the rate of the direct method's operations, and
// as its share of the ceiling of the same workers.
func BenchmarkConv(b *testing.B) {
	for _, c := range benchShapes {
		s := c.s
		_, _, sizeY := s.sizes()
		flops := 2 * float64(sizeY) * float64(s.C*s.KH*s.KW)
		pool := newPool(b, benchWorkers())
		for a, name := range []string{"direct", "winograd", "patches"} {
			if !s.serves(Algorithm(a)) {
				continue
			}
			k := newConvSet(b, pool, s, Algorithm(a))
			k.packs()
			for i, run := range []func(){
				func() { k.conv[0].Run(k.ws, k.y, k.x, k.packed[0]) },
				func() { k.conv[1].Run(k.ws, k.x, k.y, k.packed[1]) },
				func() { k.filter.Run(k.ws, k.w, k.x, k.y) },
				k.packs,
			} {
				what := []string{"forward", "input", "filter", "pack"}[i]
				b.Run(c.name+"/"+name+"/"+what, func(b *testing.B) { measure(b, pool, flops, run) })
			}
		}
	}
}
