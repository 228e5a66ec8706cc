package kernel

import (
	"slices"
	"strings"
	"testing"

	"temper/engine/rng"
)

// places draws a pixel of each window, and now and then one outside of it.
func places(stream *rng.Stream, s ConvShape, ph, pw int) []int32 {
	oh, ow := s.Out()
	at := make([]int32, s.N*oh/ph*(ow/pw)*s.O)
	for i := range at {
		window := i / s.O % (oh / ph * (ow / pw))
		y, x := window/(ow/pw)*ph+stream.IntN(ph), window%(ow/pw)*pw+stream.IntN(pw)
		if at[i] = int32(y*ow + x); stream.IntN(16) == 0 {
			at[i] = int32(stream.IntN(1<<20) - 1<<19)
		}
	}
	return at
}

// unpool is the gradient dy that values at places stand for.
func unpool[T Float](s ConvShape, ph, pw int, v []T, at []int32) []T {
	oh, ow := s.Out()
	dy := make([]T, s.N*oh*ow*s.O)
	for i := range v {
		window := i / s.O % (oh / ph * (ow / pw))
		image := i / s.O / (oh / ph * (ow / pw))
		y, x := int(at[i])/ow, int(at[i])%ow
		if at[i] >= 0 && y/ph == window/(ow/pw) && x/pw == window%(ow/pw) {
			dy[((image*oh+y)*ow+x)*s.O+i%s.O] = v[i]
		}
	}
	return dy
}

func runPooled[T Float](t testing.TB, s ConvShape, ph, pw, workers int, v []T, at []int32, w []T) []T {
	t.Helper()
	pool := NewPool(workers)
	defer pool.Close()
	fence := newFence[T](t)
	pack, err := PackPooled[T](s, ph, pw)
	if err != nil {
		t.Fatal(err)
	}
	shape, _ := s.PooledShape(ph, pw)
	packed := fence.new(product(shape))
	pack(packed, fence.copy(w))
	k, err := NewPooledConv[T](pool, s, ph, pw)
	if err != nil {
		t.Fatal(err)
	}
	dx := fence.new(s.N * s.H * s.W * s.C)
	k.Run(fence.new(k.Workspace()), dx, fence.copy(v), at, packed)
	return slices.Clone(dx)
}

func testPooled[T Float](t *testing.T, s ConvShape, ph, pw int, seed uint32) {
	t.Helper()
	stream := rng.NewStream(seed, "pooled", 0)
	at := places(stream, s, ph, pw)
	v, w := random[T](stream, len(at)), random[T](stream, s.O*s.KH*s.KW*s.C)
	for i := range v {
		if stream.IntN(3) == 0 {
			v[i] = 0
		}
	}
	sizeX, _, _ := s.sizes()
	want, mass := reference(s, make([]T, sizeX), w, unpool(s, ph, pw, v, at))
	got := runPooled(t, s, ph, pw, 1, v, at, w)
	if !same(got, runPooled(t, s, ph, pw, 3, v, at, w)) {
		t.Fatalf("%+v: 3 workers give other bits than one", s)
	}
	for i, x := range got {
		if d := abs(float64(x) - want[1][i]); !(d <= tolerance[T](mass[1][i])) {
			t.Fatalf("%+v, windows %d×%d: element %d is %v, want %v", s, ph, pw, i, x, want[1][i])
		}
	}
}

func TestPooledConv(t *testing.T) {
	type windowed struct {
		ConvShape
		ph, pw int
	}
	eachLevel(t, func(t *testing.T) {
		cases := []windowed{
			{square(2, 3, 8, 32, 3, 1, 1, 1), 2, 2},
			{square(2, 1, 28, 32, 5, 1, 2, 1), 2, 2},
			{square(1, 3, 32, 70, 3, 1, 1, 1), 2, 2}, // blocks of channels
			{square(1, 4, 9, 5, 4, 1, 0, 1), 3, 2},   // a window of six
			{square(1, 3, 16, 9, 7, 1, 3, 1), 2, 2},  // blocks of vectors
			{square(3, 2, 11, 20, 3, 2, 1, 1), 1, 2}, // strides, flat windows
			{square(1, 1, 1, 1, 1, 1, 0, 1), 1, 1},
			{square(2, 3, 13, 3, 2, 1, 4, 2), 1, 1}, // padding beyond the kernel, dilation
		}
		s := rng.NewStream(1, "pooled shapes", 0)
		for len(cases) < 60 {
			c := windowed{randomShape(func(n int) int { return s.IntN(n) }), 1 + s.IntN(3), 1 + s.IntN(3)}
			if _, err := c.PooledShape(c.ph, c.pw); err == nil {
				cases = append(cases, c)
			}
		}
		for i, c := range cases {
			testPooled[float32](t, c.ConvShape, c.ph, c.pw, uint32(i))
			testPooled[float64](t, c.ConvShape, c.ph, c.pw, uint32(i))
		}
	})
}

func TestPooledConvRefuses(t *testing.T) {
	s := square(2, 3, 8, 4, 3, 1, 1, 1)
	if _, err := NewPooledConv[float32](newPool(t, 1), s, 3, 2); err == nil || !strings.Contains(err.Error(), "windows 3×2 do not tile 8×8") {
		t.Errorf("error %v", err)
	}
	k, err := NewPooledConv[float32](newPool(t, 1), s, 2, 2)
	if err != nil {
		t.Fatal(err)
	}
	long, at := make([]float32, 1<<16), make([]int32, 1<<16)
	shape, _ := s.PooledShape(2, 2)
	for what, call := range map[string]func(){
		"ws":     func() { k.Run(long[:k.Workspace()-1], long, long, at, long) },
		"dx":     func() { k.Run(long, long[:2*8*8*3-1], long, at, long) },
		"values": func() { k.Run(long, long, long[:2*16*4-1], at, long) },
		"places": func() { k.Run(long, long, long, at[:2*16*4-1], long) },
		"packed": func() { k.Run(long, long, long, at, long[:product(shape)-1]) },
	} {
		mustPanic(t, what, call)
	}
}

func TestPooledConvAllocatesNothing(t *testing.T) {
	s := square(3, 3, 8, 20, 3, 1, 1, 1)
	k, err := NewPooledConv[float32](newPool(t, 2), s, 2, 2)
	if err != nil {
		t.Fatal(err)
	}
	shape, _ := s.PooledShape(2, 2)
	stream := rng.NewStream(1, "pooled", 0)
	at := places(stream, s, 2, 2)
	v, packed := random[float32](stream, len(at)), random[float32](stream, product(shape))
	ws, dx := make([]float32, k.Workspace()), make([]float32, 3*8*8*3)
	if n := testing.AllocsPerRun(10, func() { k.Run(ws, dx, v, at, packed) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
