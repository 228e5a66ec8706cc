package kernel

import (
	"runtime"
	"sync"
	"sync/atomic"
)

// cacheLine keeps fields that different cores write on different lines.
type cacheLine [64]byte

// Pool is a set of persistent workers that share the chunks of one region of
// work at a time. Workers spin for some hundred microseconds after a
// region, so that the next one starts at once, and then sleep.
type Pool struct {
	workers int
	running atomic.Bool
	fn      func(worker, chunk int)
	chunks  int64

	_    cacheLine
	next atomic.Int64 // chunk to hand out next
	_    cacheLine
	// state is regions<<32 | open<<31 | joined: a worker takes part in a
	// region only by raising joined while open is set, so that the caller
	// need not wait for workers that come too late.
	state atomic.Int64
	_     cacheLine

	parked  atomic.Int32 // workers that sleep until wake
	waiting atomic.Bool  // the caller sleeps until left
	closed  atomic.Bool
	mu      sync.Mutex
	wake    *sync.Cond
	left    *sync.Cond
	ended   sync.WaitGroup

	failed  atomic.Bool
	failure any // the first panic of a chunk, guarded by mu
}

const (
	regionOpen = 1 << 31
	joinedMask = regionOpen - 1

	// spins is how often one looks for what one waits for before one sleeps.
	// A look takes about 60 ns where pause is an instruction. To wake a worker
	// takes longer than most of what runs between two regions.
	spins = 1500
)

// NewPool starts a pool of the given number of workers, the caller of Run
// being one of them. Below 1 it means one worker per processor that Go may
// use.
func NewPool(workers int) *Pool {
	if workers < 1 {
		workers = runtime.GOMAXPROCS(0)
	}
	p := &Pool{workers: workers}
	p.wake, p.left = sync.NewCond(&p.mu), sync.NewCond(&p.mu)
	p.ended.Add(workers - 1)
	for id := 1; id < workers; id++ {
		go p.worker(id)
	}
	return p
}

// Workers returns the number of workers, the caller of Run included.
func (p *Pool) Workers() int { return p.workers }

// Run calls fn(worker, chunk) once for every chunk in [0, chunks) and returns
// when all are done. Chunks are handed out in order to whichever worker is
// free; no two calls with the same worker overlap. A panic in fn is raised
// again here after the other workers have stopped. One region runs at a time:
// calling Run inside fn, or from two goroutines at once, panics.
func (p *Pool) Run(chunks int, fn func(worker, chunk int)) {
	if p.closed.Load() {
		panic("BUG: kernel: Pool.Run after Close")
	}
	if !p.running.CompareAndSwap(false, true) {
		panic("BUG: kernel: Pool.Run inside another Run")
	}
	defer p.finish()
	p.fn, p.chunks = fn, int64(chunks)
	p.next.Store(0)
	if p.workers > 1 && chunks > 1 {
		p.state.Store((p.state.Load()>>32+1)<<32 | regionOpen)
		if p.parked.Load() > 0 {
			p.mu.Lock()
			p.wake.Broadcast()
			p.mu.Unlock()
		}
	}
	p.work(0)
}

// finish shuts the region, waits for the workers that joined it, and raises
// a chunk's panic.
func (p *Pool) finish() {
	p.state.And(^regionOpen)
	if !p.spin(p.empty) {
		p.mu.Lock()
		p.waiting.Store(true)
		for !p.empty() {
			p.left.Wait()
		}
		p.waiting.Store(false)
		p.mu.Unlock()
	}
	p.fn = nil
	failure := p.failure
	p.failure = nil
	p.failed.Store(false)
	p.running.Store(false)
	if failure != nil {
		panic(failure)
	}
}

// empty tells whether no worker but the caller is in the region.
func (p *Pool) empty() bool { return p.state.Load()&joinedMask == 0 }

// spin looks for a short while whether done has become true. To look any
// longer would keep from the processor what is waited for.
func (p *Pool) spin(done func() bool) bool {
	for i := 1; i <= spins; i++ {
		if done() {
			return true
		}
		pause()
		if i%64 == 0 {
			runtime.Gosched()
		}
	}
	return false
}

// join works on the open region and leaves it, also when a chunk ends the
// goroutine.
func (p *Pool) join(id int) {
	defer p.leave()
	p.work(id)
}

func (p *Pool) leave() {
	p.state.Add(-1)
	if p.waiting.Load() {
		p.mu.Lock()
		p.left.Signal()
		p.mu.Unlock()
	}
}

// work runs chunks until none is left or one has failed.
func (p *Pool) work(worker int) {
	defer p.guard()
	for !p.failed.Load() {
		c := p.next.Add(1) - 1
		if c >= p.chunks {
			return
		}
		p.fn(worker, int(c))
	}
}

// guard keeps the first panic of a region for finish to raise.
func (p *Pool) guard() {
	v := recover()
	if v == nil {
		return
	}
	p.mu.Lock()
	if p.failure == nil {
		p.failure = v
	}
	p.mu.Unlock()
	p.failed.Store(true)
}

func (p *Pool) worker(id int) {
	defer p.ended.Done()
	seen := int64(0)
	for {
		s, ok := p.await(seen)
		if !ok {
			return
		}
		seen = s >> 32
		if s&regionOpen != 0 && p.state.CompareAndSwap(s, s+1) {
			p.join(id)
		} else if s&regionOpen != 0 {
			seen-- // another worker joined first: look again
		}
	}
}

// await returns the pool's state once a region later than seen has begun, or
// false once the pool is closed.
func (p *Pool) await(seen int64) (int64, bool) {
	if p.spin(func() bool { return p.state.Load()>>32 != seen }) {
		return p.state.Load(), true
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.parked.Add(1)
	defer p.parked.Add(-1)
	for {
		if p.closed.Load() {
			return 0, false
		}
		if s := p.state.Load(); s>>32 != seen {
			return s, true
		}
		p.wake.Wait()
	}
}

// Close ends the workers and waits until they are gone. The pool cannot be
// used afterwards; closing it twice is harmless.
func (p *Pool) Close() {
	p.mu.Lock()
	p.closed.Store(true)
	p.wake.Broadcast()
	p.mu.Unlock()
	p.ended.Wait()
}
