package kernel

import (
	"runtime"
	"sync/atomic"
	"testing"
	"time"
)

func TestPoolRunsEveryChunkOnce(t *testing.T) {
	for _, workers := range []int{1, 2, 5} {
		p := newPool(t, workers)
		for _, chunks := range []int{0, 1, 2, 7, 1000} {
			count := make([]atomic.Int32, chunks)
			busy := make([]atomic.Bool, workers)
			p.Run(chunks, func(worker, chunk int) {
				if !busy[worker].CompareAndSwap(false, true) {
					t.Errorf("worker %d runs two chunks at once", worker)
				}
				count[chunk].Add(1)
				busy[worker].Store(false)
			})
			for i := range count {
				if n := count[i].Load(); n != 1 {
					t.Fatalf("%d workers, %d chunks: chunk %d ran %d times", workers, chunks, i, n)
				}
			}
		}
	}
}

// Regions follow one another closely, and also after the workers fell asleep.
func TestPoolManyRegions(t *testing.T) {
	p := newPool(t, 4)
	var sum atomic.Int64
	add := func(_, chunk int) { sum.Add(int64(chunk)) }
	const regions = 3000
	for i := range regions {
		p.Run(4, add)
		if i%1000 == 0 {
			time.Sleep(2 * time.Millisecond)
		}
	}
	if sum.Load() != regions*6 {
		t.Errorf("sum %d, want %d", sum.Load(), regions*6)
	}
}

func TestPoolUsesItsWorkers(t *testing.T) {
	p := newPool(t, 3)
	var meet, seen [3]atomic.Bool
	p.Run(3, func(worker, chunk int) {
		seen[worker].Store(true)
		meet[chunk].Store(true)
		for deadline := time.Now().Add(10 * time.Second); ; runtime.Gosched() {
			if meet[0].Load() && meet[1].Load() && meet[2].Load() {
				return
			}
			if time.Now().After(deadline) {
				t.Errorf("chunk %d waited alone", chunk)
				return
			}
		}
	})
	if !seen[0].Load() || !seen[1].Load() || !seen[2].Load() {
		t.Error("three chunks that wait for one another did not get three workers")
	}
}

// Run sleeps until the last worker has left, and not beyond.
func TestPoolWaitsForStragglers(t *testing.T) {
	p := newPool(t, 2)
	for range 20 {
		var begun, ended atomic.Int32
		p.Run(2, func(worker, _ int) {
			begun.Add(1)
			for begun.Load() < 2 { // one chunk each
				runtime.Gosched()
			}
			if worker == 1 {
				time.Sleep(2 * time.Millisecond)
			}
			ended.Add(1)
		})
		if ended.Load() != 2 {
			t.Fatalf("Run returned with %d of 2 chunks done", ended.Load())
		}
	}
}

func TestPoolRaisesPanics(t *testing.T) {
	for _, workers := range []int{1, 3} {
		p := newPool(t, workers)
		func() {
			defer func() {
				if v := recover(); v != "chunk 7" {
					t.Errorf("recovered %v", v)
				}
			}()
			p.Run(100, func(_, chunk int) {
				if chunk == 7 {
					panic("chunk 7")
				}
			})
		}()
		n := atomic.Int32{} // and it still works
		p.Run(10, func(_, _ int) { n.Add(1) })
		if n.Load() != 10 {
			t.Errorf("after a panic: %d of 10 chunks ran", n.Load())
		}
	}
}

func TestPoolRefusesNesting(t *testing.T) {
	for _, workers := range []int{1, 2} {
		p := newPool(t, workers)
		mustPanic(t, "nested", func() {
			p.Run(3, func(_, _ int) { p.Run(1, func(_, _ int) {}) })
		})
	}
	p := NewPool(2)
	p.Close()
	p.Close()
	mustPanic(t, "closed", func() { p.Run(1, func(_, _ int) {}) })
}

func TestPoolCloseEndsGoroutines(t *testing.T) {
	before := runtime.NumGoroutine()
	p := NewPool(8)
	p.Run(8, func(_, _ int) {})
	p.Close()
	for range 100 {
		if runtime.NumGoroutine() <= before {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Errorf("%d goroutines, %d before", runtime.NumGoroutine(), before)
}

func TestPoolAllocatesNothing(t *testing.T) {
	p := newPool(t, 2)
	work := func(_, _ int) {}
	if n := testing.AllocsPerRun(100, func() { p.Run(4, work) }); n != 0 {
		t.Errorf("%v allocations a region", n)
	}
}

// An idle pool sleeps.
func TestPoolParks(t *testing.T) {
	p := newPool(t, 3)
	p.Run(3, func(_, _ int) {})
	for range 1000 {
		if p.parked.Load() == 2 {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Errorf("%d of 2 workers sleep", p.parked.Load())
}

func BenchmarkPoolRegion(b *testing.B) {
	p := newPool(b, 0)
	work := func(_, _ int) {}
	for b.Loop() {
		p.Run(2, work)
	}
}
