//go:build unix

package kernel

import (
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"temper/engine/cpu/kernel/fence"
)

// fenced makes slices that lie between pages that cannot be touched: one slice
// ends at the end of its pages, the next begins at their beginning, by turns.
// What is not written yet is NaN.
type fenced[T Float] struct {
	t    testing.TB
	turn int
}

func newFence[T Float](t testing.TB) *fenced[T] { return &fenced[T]{t: t} }

func (f *fenced[T]) new(n int) []T {
	if n == 0 {
		return nil
	}
	f.turn++
	v := at[T](fence.New(f.t, n*size[T]()), n, f.turn%2 == 1)
	nan := (v[0] - v[0]) / (v[0] - v[0])
	for i := range v {
		v[i] = nan
	}
	return v
}

func (f *fenced[T]) copy(v []T) []T {
	w := f.new(len(v))
	copy(w, v)
	return w
}

func size[T any]() int {
	var zero T
	return int(unsafe.Sizeof(zero))
}

// at is a slice of n ≥ 1 elements at one of a room's ends.
func at[T any](r *fence.Room, n int, last bool) []T {
	b := r.First(n * size[T]())
	if last {
		b = r.Last(n * size[T]())
	}
	return unsafe.Slice((*T)(unsafe.Pointer(&b[0])), n)
}

// threadTime is the processor time of this thread, in seconds.
func threadTime() float64 {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t); err != nil {
		panic(err)
	}
	return float64(t.Nano()) / 1e9
}
