//go:build linux

package kernel

import (
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// fence makes slices that lie between pages that cannot be touched: one slice
// ends at the end of its pages, the next begins at their beginning, by turns.
// What is not written yet is NaN.
type fence[T Float] struct {
	t    testing.TB
	turn int
}

func newFence[T Float](t testing.TB) *fence[T] { return &fence[T]{t: t} }

func (f *fence[T]) new(n int) []T {
	page := unix.Getpagesize()
	var zero T
	bytes := n * int(unsafe.Sizeof(zero))
	room := (bytes + page - 1) / page * page
	mem, err := unix.Mmap(-1, 0, room+2*page, unix.PROT_NONE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err == nil && room > 0 {
		err = unix.Mprotect(mem[page:page+room], unix.PROT_READ|unix.PROT_WRITE)
	}
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() {
		if err := unix.Munmap(mem); err != nil {
			f.t.Error(err)
		}
	})
	if n == 0 {
		return nil
	}
	at := page
	if f.turn++; f.turn%2 == 1 {
		at = page + room - bytes
	}
	v := unsafe.Slice((*T)(unsafe.Pointer(&mem[at])), n)
	nan := zero / zero
	for i := range v {
		v[i] = nan
	}
	return v
}

func (f *fence[T]) copy(v []T) []T {
	w := f.new(len(v))
	copy(w, v)
	return w
}

// threadTime is the processor time of this thread, in seconds.
func threadTime() float64 {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t); err != nil {
		panic(err)
	}
	return float64(t.Nano()) / 1e9
}
