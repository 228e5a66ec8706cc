package cuda

import (
	"fmt"
	"regexp"
)

// A group that reads little for an element has too little under way if each thread
// asks for four neighbours and waits: in the 0.8 µs or so that an H200's memory
// takes to answer, it could deliver some 30 KB to each multiprocessor (4.8 TB/s), and
// more has to be asked for, because threads compute and store, too; 2048 threads
// that wait for four bf16 each have asked for 16 KB. Such a group takes several items
// at once: it loads all, and computes then. What belongs to the channels is the same
// in each of a thread's items, because the grid steps over whole rows, and loaded
// before the first one. That takes registers, so groups that read more for an
// element, or of more channels' vectors, take item after item.
const (
	streamBytes   = 32 // that a thread asks for at once, if no more
	streamVectors = 4  // of channels that it keeps
	streamsPerSM  = 6  // blocks of a multiprocessor, with 40 registers a thread
	mostWholeRows = 8  // blocks to whole rows: as many of a grid may be left out
)

// itemsAtOnce is the number of items that a thread loads before it computes their
// body.
func (e *emitter) itemsAtOnce(items int, body string) int {
	last := len(e.f.Space) - 1
	if e.prefix != "" || e.wholeRows() > mostWholeRows {
		return 1
	}
	for a := range last {
		if mentions(body, fmt.Sprintf("x%d", a)) {
			return 1
		}
	}
	bytes, vectors := 0, 0
	for _, r := range e.reads {
		switch {
		case r.ofItem() && r.count > 0:
			bytes += r.count * r.t.Size()
		case !r.ofItem() && !r.ofThread(last):
			return 1
		case r.count > 0:
			vectors++
		}
	}
	if bytes == 0 || vectors > streamVectors {
		return 1
	}
	const grid = streamsPerSM * multiprocessors * BlockThreads
	n := 1
	for 2*n*bytes <= streamBytes && 2*n*grid <= items {
		n *= 2
	}
	return n
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
	e.perSM, e.multiple = streamsPerSM, e.wholeRows()
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
