//go:build unix

package kernel

import (
	"fmt"
	"math"
	"testing"

	"temper/engine/cpu/kernel/fence"
	"temper/engine/rng"
)

// fences are rooms for the operands of element-wise kernels and their results,
// for one level's and for the Go loops'.
type fences struct {
	t     testing.TB
	rooms [5]*fence.Room
	draw  *rng.Stream
	n     int
	last  bool // where in their rooms slices lie
	a, b  []float32
	mask  []uint8
}

const fencedLen = 1200

func newFences(t testing.TB) *fences {
	f := &fences{t: t}
	for i := range f.rooms {
		f.rooms[i] = fence.New(t, 4*fencedLen)
	}
	return f
}

// fill draws operands of n elements, a third of them special.
func (f *fences) fill(n int, last bool, seed uint32) {
	f.n, f.last, f.draw = n, last, rng.NewStream(seed, "fences", 0)
	f.a, f.b, f.mask = make([]float32, n), make([]float32, n), make([]uint8, n)
	for i := range n {
		f.a[i], f.b[i] = f.number(), f.number()
		f.mask[i] = uint8(f.draw.IntN(2))
	}
}

func (f *fences) number() float32 {
	if f.draw.IntN(3) == 0 {
		return specials[f.draw.IntN(len(specials))]
	}
	return f.draw.Normal() * float32(math.Pow(2, float64(f.draw.IntN(60)-30)))
}

// place copies an operand to a room.
func place[T any](f *fences, room int, v []T) []T {
	if len(v) == 0 {
		return nil
	}
	w := at[T](f.rooms[room], len(v), f.last)
	copy(w, v)
	return w
}

// agree runs a kernel on fenced slices and the Go loops on others.
func agree[R float32 | uint8 | uint32](f *fences, name string, before []R, run func(dst []R, a, b []float32, mask []uint8), loop func(dst []R, a, b []float32, mask []uint8)) {
	f.t.Helper()
	got, want := place(f, 0, before), append([]R(nil), before...)
	run(got, place(f, 1, f.a), place(f, 2, f.b), place(f, 3, f.mask))
	loop(want, f.a, f.b, f.mask)
	for i := range want {
		if !same1(got[i], want[i]) {
			f.t.Fatalf("%s, %s, %d elements: element %d is %v, want %v, of %v and %v", active.name, name, f.n, i, got[i], want[i], f.a[i], f.b[i])
		}
	}
}

// same1 tells zeros apart and takes all NaN for one.
func same1[R float32 | uint8 | uint32](a, b R) bool {
	if a != a || b != b {
		return a != a && b != b
	}
	return a == b && math.Signbit(float64(a)) == math.Signbit(float64(b))
}

// all runs every element-wise kernel of the active level.
func (f *fences) all() {
	v, p := active.v32, portable.v32
	floats, bytes := make([]float32, f.n), make([]uint8, f.n)
	type floatLoop = func(dst, a, b []float32, mask []uint8)
	type byteLoop = func(dst []uint8, a, b []float32, mask []uint8)
	for op := range binaryOps {
		do := func(v *vector[float32]) floatLoop {
			return func(dst, a, b []float32, _ []uint8) { v.vv[op](dst, a, b) }
		}
		agree(f, fmt.Sprint("binary ", op), floats, do(v), do(p))
	}
	for op := range unaryOps {
		do := func(v *vector[float32]) floatLoop {
			return func(dst, a, _ []float32, _ []uint8) { v.unary[op](dst, a) }
		}
		agree(f, fmt.Sprint("unary ", op), floats, do(v), do(p))
	}
	for op := range compareOps {
		do := func(v *vector[float32]) byteLoop {
			return func(dst []uint8, a, b []float32, _ []uint8) { v.compareVV[op](dst, a, b) }
		}
		agree(f, fmt.Sprint("compare ", op), bytes, do(v), do(p))
	}
	for name, do := range map[string]func(v *vector[float32]) floatLoop{
		"select": func(v *vector[float32]) floatLoop {
			return func(dst, a, b []float32, m []uint8) { v.selectVV(dst, m, a, b) }
		},
		"bytes": func(v *vector[float32]) floatLoop { return func(dst, _, _ []float32, m []uint8) { v.fromU8(dst, m) } },
	} {
		agree(f, name, f.b, do(v), do(p))
	}
	d := rng.Draw{Seed: f.draw.Uint32(), ID: 3}
	agree(f, "words", make([]uint32, f.n), func(dst []uint32, _, _ []float32, _ []uint8) { active.words(dst, d, 5) },
		func(dst []uint32, _, _ []float32, _ []uint8) { words(dst, d, 5) })
	f.columns()
}

// columns runs the kernels of matrices, of as many columns as divide n.
func (f *fences) columns() {
	for _, wide := range []int{1, 3, 8, 17, 40, 64} {
		if f.n == 0 || f.n%wide != 0 {
			continue
		}
		sums := func(c columns) func(dst, a, _ []float32, _ []uint8) {
			return func(dst, a, _ []float32, _ []uint8) {
				acc := make([]float64, wide)
				c.add(acc, a)
				acc[0] += c.sum(a)
				for i := range acc {
					dst[i] = float32(acc[i])
				}
			}
		}
		agree(f, "columns", make([]float32, f.n), sums(active.columns), sums(portableColumns))
		gather := func(c columns, at []int32) func(dst []uint32, _, _ []float32, _ []uint8) {
			src := make([]uint32, f.n)
			for i := range src {
				src[i] = uint32(i)
			}
			return func(dst []uint32, _, _ []float32, _ []uint8) { c.gather(dst, at, src, wide, f.n/wide-1) }
		}
		rows := make([]int32, f.n)
		for i := range rows {
			rows[i] = int32(f.draw.IntN(f.n/wide+4)) - 2 // some out of range
		}
		agree(f, "gather", make([]uint32, f.n), gather(active.columns, place(f, 4, rows)), gather(portableColumns, rows))
	}
}

// Every element-wise kernel gives the bits of the Go loops, for special values
// too, and touches nothing but its operands.
func TestFenced(t *testing.T) {
	eachLevel(t, func(t *testing.T) {
		f := newFences(t)
		for n := range 80 {
			f.fill(n, n%2 == 0, uint32(n))
			f.all()
			f.fill(n, n%2 == 1, uint32(n+1000))
			f.all()
		}
		for _, n := range []int{255, 256, 320, 511, 960, fencedLen} {
			f.fill(n, true, uint32(n))
			f.all()
		}
	})
}

func FuzzVector(f *testing.F) {
	f.Add(uint16(37), true, uint32(1))
	f.Fuzz(func(t *testing.T, n uint16, last bool, seed uint32) {
		s := newFences(t)
		s.fill(int(n%(fencedLen+1)), last, seed)
		s.all()
	})
}
