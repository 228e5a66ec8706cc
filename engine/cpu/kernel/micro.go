package kernel

// micro is the set of inner loops that the matrix kernels are built from.
//
// Operands are packed into panels. An A panel holds up to mr rows as [k][mr];
// a B panel holds nr columns as [k][nr]. Unused lanes of a panel may hold
// anything: what they produce is never stored in a result.
type micro[T Float] struct {
	mr, nr int

	// tiles[h], 1 ≤ h ≤ mr, multiplies n stacked A panels of h rows each
	// with one B panel: C = beta*C + A·B, where C has n*h rows of nr columns
	// and beta is 0 or 1.
	tiles []func(n, k int, a, b, c []T, ldc, beta int)

	// gathers[h] multiplies n groups of h rows of A, found through tables,
	// with one B panel of Lanes columns, or with columns/Lanes of them that
	// lie nextB apart. Row r of A is the concatenation, over s, of width
	// elements a[starts[s]+offs[r]+i*stride]. Row r of C is c[to[r]:][:cols]
	// or, with more panels, parts of Lanes that lie nextC apart; it is
	// overwritten where beta is 0 and added to where it is 1. There is at
	// least one group, one start and one element.
	gathers []func(n, width, stride int, starts, offs, to []int, a, b, c []T, nextB, nextC, cols, beta int)
	columns int

	// copyPanel packs nr columns of k rows: dst (k, nr) from src, whose rows
	// lie stride apart.
	copyPanel func(k int, dst, src []T, stride int)

	// copyLanes packs Lanes columns of k rows.
	copyLanes func(k int, dst, src []T, stride int)

	// transpose stores n elements of each of rows ≤ 8 rows side by side:
	// dst[k*dstStride+r] = src[r*srcStride+k]. Lanes rows … 7 of dst may be
	// left with anything, but nothing is written past the last row's lanes.
	transpose func(rows, n int, dst []T, dstStride int, src []T, srcStride int)

	winograd, winograd5 winogradTransforms[T] // of 3×3 filters, of 5×5

	// folds[c], 1 ≤ c ≤ MaxPatchChannels, adds up the elements of patches for
	// n pixels of c channels: see fold. Some elements behind the last may be
	// read.
	folds [MaxPatchChannels + 1]func(n int, elements []int, p []T, step int, dst []T, dstStep int)

	// pooled[k], 1 ≤ k ≤ patchVectors, multiplies values with k vectors of their
	// filters, and addRows adds up what overlaps: see the functions of these names.
	pooled  [patchVectors + 1]pooledLoop[T]
	addRows func(rows, n int, dst []T, dstStride int, src []T, srcStride int)
}

type pooledLoop[T Float] = func(n, channels, stride int, v []T, at []int32, first, advance int, taps []int32, w []T, next int, list, dst []T, begin, halves []int)

// Lanes is the width of a panel of packed filters.
const Lanes = 16

const (
	// blockK is how much of the inner dimension one packed block holds: a B
	// panel of it stays in the first-level cache.
	blockK = 256

	// callWork bounds the work of one call of an inner loop, in multiply-adds
	// per column, because assembly cannot be preempted: some 40 µs.
	callWork = 1 << 17
)

// split cuts n rows into tiles of two heights: tall tiles of h rows, then the
// rest of h-1, so that no tile is nearly empty.
type split struct{ rows, tiles, h, tall int }

func newSplit(rows, mr int) split {
	t := ceilDiv(rows, mr)
	h := ceilDiv(rows, t)
	return split{rows: rows, tiles: t, h: h, tall: rows - t*(h-1)}
}

// start returns the first row of a tile, or the number of rows for the one
// behind the last.
func (s split) start(tile int) int {
	return tile*(s.h-1) + min(tile, s.tall)
}

// gather multiplies len(offs) rows with any number of columns as gathers do.
func (m *micro[T]) gather(width, stride int, starts, offs, to []int, a, b, c []T, nextB, nextC, cols, beta int) {
	s := newSplit(len(offs), len(m.gathers)-1)
	most := callWork / (width * len(starts))
	for ; cols > 0; cols -= m.columns {
		next := nextB
		if cols <= Lanes {
			next = 0 // there is no other panel
		}
		for t := 0; t < s.tiles; {
			h, end := s.h, s.tall
			if t >= s.tall {
				h, end = s.h-1, s.tiles
			}
			n := min(end-t, max(1, most/h))
			row := s.start(t)
			m.gathers[h](n, width, stride, starts, offs[row:row+n*h], to[row:row+n*h], a, b, c, next, nextC, min(cols, m.columns), beta)
			t += n
		}
		if cols > m.columns {
			b, c = b[m.columns/Lanes*nextB:], c[m.columns/Lanes*nextC:]
		}
	}
}

// ceilDiv is a/b rounded up, for b > 0 and any a.
func ceilDiv(a, b int) int {
	q := a / b
	if a%b > 0 {
		q++
	}
	return q
}

// panel multiplies tiles [t0, t1) of a packed block of A with one B panel.
// c begins at the first of these tiles' rows.
func (m *micro[T]) panel(s split, t0, t1, k int, a, b, c []T, ldc, beta int) {
	for t := t0; t < t1; {
		h, end := s.h, min(t1, s.tall)
		if t >= s.tall {
			h, end = s.h-1, t1
		}
		n := min(end-t, max(1, callWork/(h*k)))
		m.tiles[h](n, k, a[t*k*m.mr:], b, c[(s.start(t)-s.start(t0))*ldc:], ldc, beta)
		t += n
	}
}

// packRows packs tiles [t0, t1) of one block of A, k columns wide, from rows
// that lie ld apart.
func (m *micro[T]) packRows(s split, t0, t1, k int, dst, src []T, ld int) {
	for t := t0; t < t1; t++ {
		row, end := s.start(t), s.start(t+1)
		m.packLanes(end-row, k, dst[t*k*m.mr:(t+1)*k*m.mr], m.mr, src[row*ld:], ld)
	}
}

// packLanes stores rows side by side, in groups of 8 from the last to the
// first, so that a group's unused lanes do not destroy another's.
func (m *micro[T]) packLanes(rows, k int, dst []T, lanes int, src []T, ld int) {
	for r := (rows - 1) &^ 7; r >= 0; r -= 8 {
		m.transpose(min(8, rows-r), k, dst[r:], lanes, src[r*ld:], ld)
	}
}

// packColumns is packRows for an A that is stored transposed, as (k, rows).
func (m *micro[T]) packColumns(s split, t0, t1, k int, dst, src []T, ld int) {
	for t := t0; t < t1; t++ {
		row, h := s.start(t), s.start(t+1)-s.start(t)
		d := dst[t*k*m.mr : (t+1)*k*m.mr]
		for i := range k {
			from := src[i*ld+row:][:h]
			to := d[i*m.mr:][:h]
			//lint:ignore S1001 a call of copy costs more than these few elements
			for r, v := range from {
				to[r] = v
			}
		}
	}
}

// packEdge packs the first cols < nr columns of k rows.
func (m *micro[T]) packEdge(k, cols int, dst, src []T, stride int) {
	for i := range k {
		copy(dst[i*m.nr:][:cols], src[i*stride:])
	}
}

// store copies columns [col, col+n) of a block computed apart to its place,
// or adds them where beta is 1.
func (m *micro[T]) store(rows, col, n int, c []T, ldc int, block []T, beta int) {
	for r := range rows {
		from := block[r*m.nr+col:][:n]
		to := c[r*ldc:][:n]
		if beta == 0 {
			copy(to, from)
			continue
		}
		for j, v := range from {
			to[j] += v
		}
	}
}

// winogradOf gives the transforms for square filters of so many taps a side.
func (m *micro[T]) winogradOf(taps int) *winogradTransforms[T] {
	if taps == 5 {
		return &m.winograd5
	}
	return &m.winograd
}
