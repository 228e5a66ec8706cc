package datasets

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"temper/engine/rng"
)

func open(t testing.TB, src Source, opt StreamOptions) *Stream {
	t.Helper()
	s, err := NewStream(src, opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// draw takes n batches, or all where n is -1, and writes each as a line.
func draw(t testing.TB, s *Stream, n int) []string {
	t.Helper()
	var lines []string
	for len(lines) != n {
		b, ok := s.Next()
		if !ok {
			break
		}
		if b.N != len(b.Labels) || b.N != len(b.IDs) || b.Values.size() != b.N*s.src.Info().Elements() {
			t.Errorf("batch of %d with %d labels, %d ids, %d elements", b.N, len(b.Labels), len(b.IDs), b.Values.size())
		}
		lines = append(lines, fmt.Sprintln(b.At, b.IDs, b.Labels, b.U8, b.F32))
		b.Release()
	}
	return lines
}

func TestStreamSequential(t *testing.T) {
	src := tiny(t, 5)
	for _, c := range []struct {
		drop bool
		want []string
	}{
		{false, []string{
			"{0 0} [0 1] [0 1] [0 1 1 2] []", "{0 1} [2 3] [2 0] [2 3 3 4] []", "{0 2} [4] [1] [4 5] []",
			"{1 0} [0 1] [0 1] [0 1 1 2] []", "{1 1} [2 3] [2 0] [2 3 3 4] []", "{1 2} [4] [1] [4 5] []",
		}},
		{true, []string{
			"{0 0} [0 1] [0 1] [0 1 1 2] []", "{0 1} [2 3] [2 0] [2 3 3 4] []",
			"{1 0} [0 1] [0 1] [0 1 1 2] []", "{1 1} [2 3] [2 0] [2 3 3 4] []",
		}},
	} {
		s := open(t, src, StreamOptions{BatchSize: 2, DropLast: c.drop, Epochs: 2})
		if got := draw(t, s, -1); strings.Join(got, "") != strings.Join(c.want, "\n")+"\n" {
			t.Errorf("drop_last %v: %q, want %q", c.drop, got, c.want)
		}
		if got := s.BatchesPerEpoch() * 2; got != len(c.want) {
			t.Errorf("%d batches in two epochs, want %d", got, len(c.want))
		}
		if b, ok := s.Next(); ok {
			t.Errorf("batch %v after the last", b.At)
		}
	}
}

// The order is the documented permutation, and each epoch has its own.
func TestStreamShuffled(t *testing.T) {
	src := tiny(t, 50)
	s := open(t, src, StreamOptions{BatchSize: 7, Shuffle: true, Seed: 3, Epochs: 2})
	var order [2][]uint32
	for {
		b, ok := s.Next()
		if !ok {
			break
		}
		order[b.At.Epoch] = append(order[b.At.Epoch], b.IDs...)
		for k, id := range b.IDs {
			if b.U8[2*k] != byte(id) || b.Labels[k] != int32(id%3) {
				t.Errorf("example %d came with the values or label of another", id)
			}
		}
		b.Release()
	}
	for epoch, got := range order {
		for k, want := range rng.NewStream(3, "shuffle", uint32(epoch)).Perm(50) {
			if got[k] != uint32(want) {
				t.Fatalf("epoch %d is in the order %v", epoch, got)
			}
		}
	}
	if slices.Equal(order[0], order[1]) {
		t.Error("two epochs have the same order")
	}
}

// The examples of a part come with the numbers that they have in the whole.
func TestStreamOfASubset(t *testing.T) {
	part, err := Subset(tiny(t, 50), []int{41, 3, 17, 20, 8})
	if err != nil {
		t.Fatal(err)
	}
	for _, shuffle := range []bool{false, true} {
		s := open(t, part, StreamOptions{BatchSize: 3, Shuffle: shuffle, Seed: 3, Epochs: 1})
		var ids []uint32
		for {
			b, ok := s.Next()
			if !ok {
				break
			}
			for k, id := range b.IDs {
				if b.U8[2*k] != byte(id) || b.Labels[k] != int32(id%3) {
					t.Errorf("example %d came with the values or label of another", id)
				}
			}
			ids = append(ids, b.IDs...)
			b.Release()
		}
		if !shuffle && !slices.Equal(ids, []uint32{41, 3, 17, 20, 8}) {
			t.Errorf("in their order: %v", ids)
		}
		if slices.Sort(ids); !slices.Equal(ids, []uint32{3, 8, 17, 20, 41}) {
			t.Errorf("examples %v", ids)
		}
	}
}

// A stream started at any position goes on as the uninterrupted one, and
// neither prefetching nor the batch size of the consumer's hold changes it.
func TestStreamResumes(t *testing.T) {
	src := tiny(t, 23)
	for _, drop := range []bool{false, true} {
		opt := StreamOptions{BatchSize: 4, Shuffle: true, Seed: 1, DropLast: drop, Epochs: 3, Prefetch: 1}
		want := draw(t, open(t, src, opt), -1)
		first := open(t, src, opt)
		for i := range want {
			o := opt
			o.Start, o.Prefetch = first.Position(), 1+i%4
			if got := draw(t, open(t, src, o), -1); !slices.Equal(got, want[i:]) {
				t.Fatalf("resumed at %v: %v, want %v", o.Start, got, want[i:])
			}
			draw(t, first, 1)
		}
		if at := first.Position(); at != (Position{Epoch: 3}) {
			t.Errorf("position %v after the last batch", at)
		}
	}
}

func TestStreamFloat32AndAlloc(t *testing.T) {
	train, _ := generate(t, DefaultStructured(), 1)
	var allocated []int
	s := open(t, train, StreamOptions{BatchSize: 16, Prefetch: 3, Epochs: 1, Alloc: func(bytes int) []byte {
		allocated = append(allocated, bytes)
		return make([]byte, bytes)
	}})
	e := train.Info().Elements()
	if want := slices.Repeat([]int{4 * 16 * e, 64, 64}, 4); !slices.Equal(allocated, want) {
		t.Errorf("allocated %v, want %v", allocated, want)
	}
	at := 0
	for b, ok := s.Next(); ok; b, ok = s.Next() {
		if !slices.Equal(b.F32, train.Values().F32[at*e:(at+b.N)*e]) || b.U8 != nil {
			t.Errorf("batch %v differs from the source", b.At)
		}
		at += b.N
		b.Release()
	}
	if at != train.Len() {
		t.Errorf("%d examples, want %d", at, train.Len())
	}
}

// A held batch is not written to while others are read.
func TestStreamHeldBatchesStay(t *testing.T) {
	s := open(t, tiny(t, 40), StreamOptions{BatchSize: 4, Prefetch: 2, Epochs: 1})
	first, _ := s.Next()
	for range 5 {
		b, _ := s.Next()
		b.Release()
	}
	if !slices.Equal(first.IDs, []uint32{0, 1, 2, 3}) || first.U8[7] != 4 {
		t.Errorf("the held batch has become %v %v", first.IDs, first.U8)
	}
	first.Release()
}

func TestStreamMisuse(t *testing.T) {
	src := tiny(t, 9)
	for _, c := range []struct {
		opt StreamOptions
		err string
	}{
		{StreamOptions{}, "batch size 0"},
		{StreamOptions{BatchSize: 10, DropLast: true}, "no batch of 10 can be cut from 9"},
		{StreamOptions{BatchSize: 2, Prefetch: -1}, "prefetch -1"},
		{StreamOptions{BatchSize: 2, Start: Position{0, 5}}, "position 5 of epoch 0 does not exist; an epoch has 5 batches"},
		{StreamOptions{BatchSize: 2, Start: Position{-1, 0}}, "of epoch -1 does not exist"},
		{StreamOptions{BatchSize: 2, Alloc: func(int) []byte { return nil }}, "allocator returned 0 bytes, want 4"},
		{StreamOptions{BatchSize: 2, Alloc: func(n int) []byte { return make([]byte, n+64)[1 : n+1] }}, "aligned to 4"},
	} {
		_, err := NewStream(src, c.opt)
		wantError(t, err, c.err)
	}
	s := open(t, src, StreamOptions{BatchSize: 2})
	b, _ := s.Next()
	b.Release()
	wantBug(t, b.Release)
	for range s.slots {
		s.Next()
	}
	wantBug(t, func() { s.Next() })
}

func wantBug(t *testing.T, f func()) {
	t.Helper()
	defer func() {
		if r, _ := recover().(string); !strings.HasPrefix(r, "BUG: ") {
			t.Errorf("panic %q, want one with BUG", r)
		}
	}()
	f()
}

func TestStreamCloseEndsTheReader(t *testing.T) {
	before := runtime.NumGoroutine()
	for i := range 20 {
		s, err := NewStream(tiny(t, 9), StreamOptions{BatchSize: 2, Shuffle: true})
		if err != nil {
			t.Fatal(err)
		}
		for range i % 3 {
			s.Next()
		}
		s.Close()
		s.Close()
		if _, ok := s.Next(); ok {
			t.Error("a batch after Close")
		}
	}
	deadline := time.Now().Add(5 * time.Second)
	for runtime.NumGoroutine() > before && time.Now().Before(deadline) {
		runtime.Gosched()
	}
	if after := runtime.NumGoroutine(); after > before {
		t.Errorf("%d goroutines, %d before", after, before)
	}
}

func TestStreamDoesNotAllocate(t *testing.T) {
	s := open(t, tiny(t, 100), StreamOptions{BatchSize: 16, Shuffle: true})
	step := func() {
		b, _ := s.Next()
		b.Release()
	}
	for range 20 {
		step()
	}
	// A run is three epochs, so that shuffling counts too.
	if n := testing.AllocsPerRun(20, func() {
		for range 21 {
			step()
		}
	}); n != 0 {
		t.Errorf("%g allocations in three epochs", n)
	}
}

func BenchmarkStream(b *testing.B) {
	x := make([]byte, 10000*3072)
	src, err := NewSet(cifar10Info(Train), Values{U8: x}, make([]int32, 10000))
	if err != nil {
		b.Fatal(err)
	}
	s := open(b, src, StreamOptions{BatchSize: 128, Shuffle: true})
	b.SetBytes(128 * 3072)
	b.ReportAllocs()
	for b.Loop() {
		batch, _ := s.Next()
		batch.Release()
	}
}
