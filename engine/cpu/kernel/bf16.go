package kernel

import (
	"math"
	"unsafe"
)

// BF16 is the upper half of a float32.
type BF16 uint16

// Float32 is the number, exactly.
func (b BF16) Float32() float32 { return math.Float32frombits(uint32(b) << 16) }

// RoundBF16 rounds to nearest, ties to even; NaN stays NaN.
func RoundBF16(x float32) BF16 {
	bits := math.Float32bits(x)
	if x != x {
		return BF16(bits>>16 | 0x40)
	}
	return BF16((bits + 0x7fff + bits>>16&1) >> 16)
}

// ToBF16 sets dst to src, rounded as by RoundBF16.
func ToBF16(dst []BF16, src []float32) { active.halves.round(dst, src) }

// FromBF16 sets dst to src.
func FromBF16(dst []float32, src []BF16) { active.halves.widen(dst, src) }

// halves are the conversions. src is as long as dst.
type halves struct {
	round func(dst []BF16, src []float32)
	widen func(dst []float32, src []BF16)
}

var portableHalves = halves{
	round: func(dst []BF16, src []float32) {
		for i, v := range src[:len(dst)] {
			dst[i] = RoundBF16(v)
		}
	},
	widen: func(dst []float32, src []BF16) {
		for i, v := range src[:len(dst)] {
			dst[i] = v.Float32()
		}
	},
}

// HasBF16 reports whether the level in use has products of bf16: AMX's tiles,
// or portable's slow twin of them.
func HasBF16() bool { return active.pairs != nil }

// checkBF16 panics where the level in use has no bf16.
func checkBF16() {
	if active.pairs == nil {
		panic("BUG: kernel: level " + active.name + " has no bf16")
	}
}

// pairs is the set of inner loops for products of bf16, whose sums are float32.
//
// The inner dimension goes in pairs of elements, and a pair is a word: 32 bits,
// the first element in the lower half. Words are moved about as float32 that
// nobody computes with. The inner dimension is padded with zeros to whole steps.
type pairs struct {
	// multiply computes blocks of tallRows rows, one below the other, by
	// blockCols columns: C = beta·C + A·B, beta 0 or 1. Rows of A lie lda words
	// apart. B is two panels of (16·steps, Lanes) words that lie next apart, or,
	// if that is 0, the same one twice. Rows of C lie blockCols apart.
	//
	// A step adds up its first elements' products and its second elements',
	// each in order, and then both to the sum. AMX takes subnormal operands for
	// zero and flushes such results; the portable twin does not.
	multiply func(blocks, steps int, a []float32, lda int, b []float32, next int, c []float32, beta int)

	// interleave makes words of the elements of two rows of so many panels, which
	// go to places that lie stride apart.
	interleave func(panels int, dst []float32, stride int, even, odd []BF16)

	// transpose is micro.transpose, of words.
	transpose func(rows, n int, dst []float32, dstStride int, src []float32, srcStride int)
}

const (
	stepWords = 16 // of a step: a tile's row
	stepDepth = 2 * stepWords
	tallRows  = 32 // of a block: two tiles each way
	blockCols = 2 * Lanes

	// callSteps bounds the work of one call of multiply, in steps of a block:
	// some 40 µs.
	callSteps = 1 << 11
)

// depthWords is an inner dimension of k elements in words, padded.
func depthWords(k int) int { return ceilDiv(k, stepDepth) * stepWords }

// rowWords is how far rows of A of so many words lie apart: not by a power of
// two, which would be hard on the caches.
func rowWords(words int) int { return words + stepWords }

// elements views words as the elements that they are made of.
func elements(words []float32) []BF16 {
	return unsafe.Slice((*BF16)(unsafe.Pointer(unsafe.SliceData(words))), 2*len(words))
}

// wordsOf views elements as the words that they make.
func wordsOf(packed []BF16) []float32 {
	return unsafe.Slice((*float32)(unsafe.Pointer(unsafe.SliceData(packed))), len(packed)/2)
}

// block multiplies rows of A with one panel or, if there are more, with two that
// lie next apart.
func (p *pairs) block(rows, words int, a, b []float32, panels, next int, c []float32, beta int) {
	steps, lda := words/stepWords, rowWords(words)
	if panels < 2 {
		next = 0
	}
	most := max(1, callSteps/steps)
	blocks := ceilDiv(rows, tallRows)
	for i := 0; i < blocks; i += most {
		p.multiply(min(most, blocks-i), steps, a[i*tallRows*lda:], lda, b, next, c[i*tallRows*blockCols:], beta)
	}
}

// interleaveRow makes words of n columns of two rows and puts them into panels
// that lie stride apart. What fills the last panel is 0. edge has 2·Lanes
// elements.
func (p *pairs) interleaveRow(n int, dst []float32, stride int, even, odd, edge []BF16) {
	whole := n / Lanes
	if whole > 0 {
		p.interleave(whole, dst, stride, even, odd)
	}
	if rest := n - whole*Lanes; rest > 0 {
		clear(edge)
		copy(edge[:rest], even[whole*Lanes:])
		copy(edge[Lanes:][:rest], odd[whole*Lanes:])
		p.interleave(1, dst[whole*stride:], stride, edge, edge[Lanes:])
	}
}

var portablePairs = &pairs{multiply: multiplyPairs, interleave: interleavePairs, transpose: transpose[float32]}

func multiplyPairs(blocks, steps int, a []float32, lda int, b []float32, next int, c []float32, beta int) {
	for r := range blocks * tallRows {
		row := a[r*lda:][:steps*stepWords]
		for half := range 2 {
			sums := (*[Lanes]float32)(c[r*blockCols+half*Lanes:])
			if beta == 0 {
				*sums = [Lanes]float32{}
			}
			panel := b[half*next:]
			for s := 0; s < len(row); s += stepWords {
				var first, second [Lanes]float32
				for i, word := range row[s:][:stepWords] {
					x0, x1 := halvesOf(word)
					for j, w := range (*[Lanes]float32)(panel[(s+i)*Lanes:]) {
						w0, w1 := halvesOf(w)
						first[j] += x0 * w0
						second[j] += x1 * w1
					}
				}
				for j := range sums {
					sums[j] += first[j] + second[j]
				}
			}
		}
	}
}

// halvesOf are the elements of a word.
func halvesOf(word float32) (first, second float32) {
	bits := math.Float32bits(word)
	return math.Float32frombits(bits << 16), math.Float32frombits(bits &^ 0xffff)
}

func interleavePairs(panels int, dst []float32, stride int, even, odd []BF16) {
	for p := range panels {
		for i := range Lanes {
			dst[p*stride+i] = math.Float32frombits(uint32(even[p*Lanes+i]) | uint32(odd[p*Lanes+i])<<16)
		}
	}
}
