package cuda

import (
	"fmt"
	"regexp"
)

// A group that reads little for an element has too little under way if each thread
// asks for four neighbours and waits: in the 0.8 µs or so that an H200's memory
// takes to answer, it could deliver some 30 KB to each multiprocessor (4.8 TB/s), and
// more has to be asked for, because threads compute and store, too; 2048 threads
// that wait for four bf16 each have asked for 16 KB. And what belongs to the channels
// comes again for every four of them: of batch norm's derivative, 112 bytes beside 24.
// So a thread takes several items at once: it loads all, and computes then. Its
// channels are the same in each of its items, because the grid steps over whole rows,
// and loaded before the first. That takes registers, and so blocks.
const mostWholeRows = 8 // blocks to whole rows: as many of a grid may be left out

// streams are the loops of such groups: with the registers of so many blocks, a
// thread keeps so many vectors of channels, and asks for so many bytes at once.
var streams = []struct{ perSM, vectors, bytes int }{{6, 4, 32}, {4, 8, 64}}

// itemsAtOnce is the number of items that a thread loads before it computes their
// body, and that of a multiprocessor's blocks.
func (e *emitter) itemsAtOnce(items int, body string) (n, perSM int) {
	last := len(e.f.Space) - 1
	if e.prefix != "" || e.wholeRows() > mostWholeRows {
		return 1, 0
	}
	for a := range last {
		if mentions(body, fmt.Sprintf("x%d", a)) {
			return 1, 0
		}
	}
	bytes, vectors := 0, 0
	for _, r := range e.reads {
		switch {
		case r.ofItem() && r.count > 0:
			bytes += r.count * r.t.Size()
		case !r.ofItem() && !r.ofThread(last):
			return 1, 0
		case r.count > 0:
			vectors++
		}
	}
	for _, s := range streams {
		if bytes == 0 || vectors > s.vectors {
			continue
		}
		for n = 1; 2*n*bytes <= s.bytes && 2*n*s.perSM*multiprocessors*BlockThreads <= items; {
			n *= 2
		}
		return n, s.perSM
	}
	return 1, 0
}

// wholeRows is the number of blocks whose items, side by side, are whole rows.
func (e *emitter) wholeRows() int {
	row := e.f.Space[len(e.f.Space)-1]
	return row / gcd(row, 4*BlockThreads)
}

// ofItem says whether something is read at the item's own place.
func (r read) ofItem() bool { return r.at == "i" }

// ofThread says whether it is the same for all items of a thread: of the last axis,
// which a step from item to item passes through as a whole, or a single number.
func (r read) ofThread(last int) bool { return r.at == "0" || r.at == fmt.Sprintf("x%d", last) }

// stream computes four neighbours of each of so many items at a time.
func (e *emitter) stream(atOnce int, body string) {
	e.multiple = e.wholeRows()
	last := len(e.f.Space) - 1
	e.line(1, "const u32 first = %s * BLOCK + threadIdx.x, step = %s * BLOCK;", e.grid.block, e.grid.blocks)
	if channel := fmt.Sprintf("x%d", last); mentions(e.addresses()+body, channel) {
		e.line(1, "const u32 %s = first * 4u %% %du;  // of each item", channel, e.f.Space[last])
	}
	for _, r := range e.reads {
		if !r.ofItem() {
			e.line(1, "%s", r)
		}
	}
	e.line(1, "for (u32 v = first; v < n; v += %d * step) {", atOnce)
	for _, r := range e.reads {
		if r.ofItem() {
			e.line(2, "%v %s[%d][%d];", r.t, r.name, atOnce, r.count)
		}
	}
	e.line(2, "UNROLL for (u32 k = 0; k < %d; k++) {", atOnce)
	e.line(3, "const u32 i = (v + k * step) * 4u;")
	e.line(3, "if (v + k * step >= n) break;")
	for _, r := range e.reads {
		if r.ofItem() {
			e.line(3, "%s", r.loaded(r.name+"[k]"))
			body = regexp.MustCompile(`\b`+r.name+`\b`).ReplaceAllString(body, r.name+"[k]")
		}
	}
	e.line(2, "}")
	e.line(2, "UNROLL for (u32 k = 0; k < %d; k++) {", atOnce)
	e.line(3, "const u32 i = (v + k * step) * 4u;")
	e.line(3, "if (v + k * step >= n) break;")
	e.neighbourhood(3, indented(body))
	e.line(2, "}")
	e.line(1, "}")
}
