package datasets

import (
	"fmt"
	"unsafe"

	"temper/engine/rng"
)

// Position names a batch: its epoch and its index in the epoch, both from 0.
type Position struct{ Epoch, Index int }

// StreamOptions say how a source is cut into batches.
type StreamOptions struct {
	BatchSize int
	// Shuffle draws a new order for each epoch, decided by Seed and the epoch
	// alone; without it every epoch goes through the source in its own order.
	Shuffle bool
	Seed    uint32
	// DropLast leaves out the last batch of an epoch where it is not full, as
	// drop_last does in PyTorch.
	DropLast bool
	// Epochs ends the stream before the epoch of this number; 0 never ends it.
	Epochs int
	// Start is the first batch to be given; see [Stream.Position].
	Start Position
	// Prefetch is the number of batches that are read ahead, 2 where it is 0.
	Prefetch int
	// Alloc returns at least so many bytes for a buffer, aligned to 4; nil uses
	// the Go heap. A device back end gives pinned memory here. It is called only by
	// NewStream; the stream does not use the memory after Close.
	Alloc func(bytes int) []byte
}

// Batch is N consecutive examples of an epoch's order. Its memory belongs to
// the stream again after Release.
type Batch struct {
	Values          // (N,C,H,W)
	Labels []int32  // (N)
	IDs    []uint32 // (N), see Source.ID
	N      int      // BatchSize, or less in the last batch of an epoch
	At     Position // where in the stream it stands
	buffer buffer   // of BatchSize examples
	stream *Stream  // to which Release returns it
	held   bool     // between Next and Release
}

// buffer is the memory of a full batch.
type buffer struct {
	values Values
	labels []int32
	ids    []uint32
}

// Stream gives the batches of a source, epoch after epoch. A goroutine reads
// ahead into a fixed ring of buffers; after the first round nothing is
// allocated. The same source, seed and batch size give the same batches
// whatever the prefetching and wherever the stream was resumed. Its methods and
// those of its batches are called from one goroutine.
type Stream struct {
	src   Source
	opt   StreamOptions
	next  Position
	slots int
	held  int
	order []int32 // this epoch's order of examples, used by the reader alone

	free, ready chan *Batch
	quit, done  chan struct{}
	closed      bool
}

// NewStream starts a stream over src. Close ends it.
func NewStream(src Source, opt StreamOptions) (*Stream, error) {
	name, n := src.Info().Name, src.Len()
	if opt.Prefetch == 0 {
		opt.Prefetch = 2
	}
	s := &Stream{src: src, opt: opt, next: opt.Start, slots: opt.Prefetch + 1}
	switch {
	case opt.BatchSize < 1:
		return nil, fmt.Errorf("%s: batch size %d, want at least 1", name, opt.BatchSize)
	case opt.Prefetch < 0:
		return nil, fmt.Errorf("%s: prefetch %d, want at least 1", name, opt.Prefetch)
	case opt.DropLast && opt.BatchSize > n:
		return nil, fmt.Errorf("%s: no batch of %d can be cut from %d examples when the last one is dropped", name, opt.BatchSize, n)
	case opt.Start.Epoch < 0 || opt.Start.Index < 0 || opt.Start.Index >= s.BatchesPerEpoch():
		return nil, fmt.Errorf("%s: position %d of epoch %d does not exist; an epoch has %d batches", name, opt.Start.Index, opt.Start.Epoch, s.BatchesPerEpoch())
	}
	s.free, s.ready = make(chan *Batch, s.slots), make(chan *Batch, s.slots)
	s.quit, s.done = make(chan struct{}), make(chan struct{})
	for range s.slots {
		b, err := s.newBatch()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		s.free <- b
	}
	if opt.Shuffle {
		s.order = make([]int32, n)
	}
	go s.read()
	return s, nil
}

// newBatch allocates the memory of a batch.
func (s *Stream) newBatch() (*Batch, error) {
	alloc := s.opt.Alloc
	if alloc == nil {
		alloc = func(bytes int) []byte { return make([]byte, (bytes+3)&^3) } // Go aligns 6 bytes to 2
	}
	in, size := s.src.Info(), s.opt.BatchSize
	width := 1
	if in.DType == Float32 {
		width = 4
	}
	var memory [3][]byte
	for i, want := range [3]int{size * in.Elements() * width, 4 * size, 4 * size} {
		m := alloc(want)
		if len(m) < want || uintptr(unsafe.Pointer(unsafe.SliceData(m)))%4 != 0 {
			return nil, fmt.Errorf("the batch allocator returned %d bytes, want %d, aligned to 4", len(m), want)
		}
		memory[i] = m[:want]
	}
	b := &Batch{stream: s}
	if in.DType == Float32 {
		b.buffer.values.F32 = view[float32](memory[0])
	} else {
		b.buffer.values.U8 = memory[0]
	}
	b.buffer.labels = view[int32](memory[1])
	b.buffer.ids = view[uint32](memory[2])
	return b, nil
}

// view looks at bytes as 4-byte elements.
func view[T int32 | uint32 | float32](b []byte) []T {
	return unsafe.Slice((*T)(unsafe.Pointer(unsafe.SliceData(b))), len(b)/4)
}

// BatchesPerEpoch returns the number of batches of an epoch.
func (s *Stream) BatchesPerEpoch() int {
	n, size := s.src.Len(), s.opt.BatchSize
	if s.opt.DropLast {
		return n / size
	}
	return (n + size - 1) / size
}

// Next returns the next batch, and false after the last one or after Close. The
// caller releases each batch; at most Prefetch+1 can be held at a time.
func (s *Stream) Next() (*Batch, bool) {
	if s.held == s.slots {
		panic("BUG: datasets: Stream.Next with every batch held; release them")
	}
	if s.closed {
		return nil, false
	}
	b, ok := <-s.ready
	if !ok {
		return nil, false
	}
	s.held++
	b.held = true
	s.next = s.after(b.At)
	return b, true
}

// Release gives the batch's memory back to its stream.
func (b *Batch) Release() {
	if !b.held {
		panic("BUG: datasets: Batch.Release of a batch that is not held")
	}
	b.held = false
	b.stream.held--
	b.stream.free <- b
}

// Position returns the position of the batch that Next returns next. A stream
// started there goes on with the same batches.
func (s *Stream) Position() Position { return s.next }

// Close ends the reading goroutine and waits for it. Batches that are held stay
// valid if their memory does.
func (s *Stream) Close() {
	if !s.closed {
		s.closed = true
		close(s.quit)
		<-s.done
	}
}

// after returns the position that follows p.
func (s *Stream) after(p Position) Position {
	if p.Index++; p.Index == s.BatchesPerEpoch() {
		p = Position{Epoch: p.Epoch + 1}
	}
	return p
}

// read fills free batches until the last one or Close.
func (s *Stream) read() {
	defer close(s.done)
	shuffled := -1 // the epoch that order holds
	for at := s.opt.Start; s.opt.Epochs == 0 || at.Epoch < s.opt.Epochs; at = s.after(at) {
		var b *Batch
		select {
		case b = <-s.free:
		case <-s.quit:
			return
		}
		if s.opt.Shuffle && shuffled != at.Epoch {
			shuffle(s.order, s.opt.Seed, at.Epoch)
			shuffled = at.Epoch
		}
		s.fill(b, at)
		s.ready <- b // never blocks: it holds all batches there are
	}
	close(s.ready)
}

// shuffle writes the epoch's order: Perm of the stream of this site and epoch,
// without its allocation.
func shuffle(order []int32, seed uint32, epoch int) {
	r := rng.NewStream(seed, "shuffle", uint32(epoch))
	for i := range order {
		j := r.IntN(i + 1)
		order[i] = order[j]
		order[j] = int32(i)
	}
}

// fill reads the examples of one position.
func (s *Stream) fill(b *Batch, at Position) {
	e := s.src.Info().Elements()
	lo := at.Index * s.opt.BatchSize
	b.At, b.N = at, min(s.opt.BatchSize, s.src.Len()-lo)
	b.Values = b.buffer.values.slice(0, b.N*e)
	b.Labels, b.IDs = b.buffer.labels[:b.N], b.buffer.ids[:b.N]
	for k := range b.N {
		i := lo + k
		if s.opt.Shuffle {
			i = int(s.order[i])
		}
		s.src.Read(i, b.Values.slice(k*e, (k+1)*e))
		b.Labels[k], b.IDs[k] = s.src.Label(i), s.src.ID(i)
	}
}
