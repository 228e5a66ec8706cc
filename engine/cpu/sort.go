package cpu

import (
	"math"
	"slices"
	"unsafe"

	"temper/engine/graph"
)

// argSortFloats sorts lines of float32: those of an attack are images, as long
// as they have pixels, and are sorted in each of its steps.
func (c *code) argSortFloats(n *graph.Node) func() {
	x := n.In(0)
	to, from := c.plan.Buffer(n), c.plan.Buffer(x)
	outer, m, inner := axisLines(x.Shape(), n.Attrs().Axis)
	flip := uint32(0)
	if n.Attrs().Descending {
		flip = math.MaxUint32
	}
	c.reserve(2 * 8 * m)
	return c.chunked(outer*inner, max(1, elementsPerChunk/m), func(worker, lo, hi int) {
		v, y := slice[float32](c, from), slice[int32](c, to)
		work := unsafe.Slice((*uint64)(unsafe.Pointer(&c.scratch.tiles[worker][0])), 2*m)
		for l := lo; l < hi; l++ {
			at := l/inner*m*inner + l%inner
			sortLine(y[at:], v[at:], inner, flip, work[:m], work[m:])
		}
	})
}

// reserve gives every worker that many bytes of scratch.
func (c *code) reserve(bytes int) {
	for i := range c.scratch.tiles {
		if t := &c.scratch.tiles[i]; len(*t) < bytes {
			*c.held -= len(*t)
			*t = c.alloc(bytes)
		}
	}
}

// sortKey is a number whose order is that of floats: −0 and 0 are one, and NaN
// stands on top.
func sortKey(v float32) uint32 {
	if v != v {
		return math.MaxUint32
	}
	bits := math.Float32bits(v + 0) // −0 + 0 = 0
	return bits ^ (uint32(int32(bits)>>31) | 1<<31)
}

// insertionMost is the longest line that is sorted by insertion: the logits of
// most networks. From there to about 100 elements all ways take the same time.
const insertionMost = 64

// sortLine gives y the order of a line; both step through memory by step. An
// element of a is the key of a float, flipped for the descending order, above
// its place in the line: so equal ones keep their order. Long lines are sorted
// digit by digit of the key, between a and b.
func sortLine(y []int32, line []float32, step int, flip uint32, a, b []uint64) {
	for k := range a {
		a[k] = uint64(sortKey(line[k*step])^flip)<<32 | uint64(k)
	}
	if len(a) <= insertionMost {
		for i := 1; i < len(a); i++ {
			v, j := a[i], i
			for ; j > 0 && a[j-1] > v; j-- {
				a[j] = a[j-1]
			}
			a[j] = v
		}
	} else {
		a = radixSort(a, b)
	}
	for k, v := range a {
		y[k*step] = int32(uint32(v))
	}
}

// radixSort sorts a by its upper half, from the lowest of four digits on, and
// returns the one of a and b that holds the result.
func radixSort(a, b []uint64) []uint64 {
	var counts [4][256]int32
	for _, v := range a {
		counts[0][uint8(v>>32)]++
		counts[1][uint8(v>>40)]++
		counts[2][uint8(v>>48)]++
		counts[3][uint8(v>>56)]++
	}
	for digit := range counts {
		at, shift := &counts[digit], 32+8*digit
		if int(at[uint8(a[0]>>shift)]) == len(a) { // all have the same
			continue
		}
		sum := int32(0)
		for i, n := range at {
			at[i], sum = sum, sum+n
		}
		for _, v := range a {
			p := &at[uint8(v>>shift)]
			b[*p] = v
			*p++
		}
		a, b = b, a
	}
	return a
}

// argSort sorts indices in the result's own memory when it is contiguous, and
// through insertion otherwise: lines that are not of float32 are rare.
func argSort[T float | integer](y []int32, line []T, m, step int, desc bool) {
	order := func(a, b int32) int {
		x, z := line[int(a)*step], line[int(b)*step]
		if desc {
			x, z = z, x
		}
		switch {
		case above(z, x):
			return -1
		case above(x, z):
			return 1
		}
		return int(a - b)
	}
	if step == 1 {
		idx := y[:m]
		for k := range idx {
			idx[k] = int32(k)
		}
		slices.SortFunc(idx, order)
		return
	}
	for k := range m {
		j := k
		for ; j > 0 && order(int32(k), y[(j-1)*step]) < 0; j-- {
			y[j*step] = y[(j-1)*step]
		}
		y[j*step] = int32(k)
	}
}
