package main

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// isa is the instruction set that a file is written for. Functions name vector
// registers Y0, Y1, …; with 512 bits they are called Z0, Z1, ….
type isa struct {
	suffix string // of the functions' names
	bits   int
	rows   int // of a matrix tile
}

var (
	// The AVX2 tile is 6 rows by 2 vectors: 12 accumulators, two vectors of B
	// and two broadcast elements of A, 16 registers in all.
	avx2 = isa{"AVX2", 256, 6}
	// The AVX-512 tile is 8 rows by 2 vectors: 16 multiply-adds to 10 loads,
	// and as many rows as a transposition has.
	avx512 = isa{"AVX512", 512, 8}
)

func (s isa) bytes() int { return s.bits / 8 }
func (s isa) wide() bool { return s.bits == 512 }

// file collects the functions of one assembly file and their Go declarations.
type file struct {
	isa
	text      strings.Builder
	stubs     strings.Builder
	constants []uint32 // 32 bits each, stored as whole vectors
	windowed  bool     // the mask table is in use
	sequenced bool     // the sequence is in use
	packs     bool     // the packing is in use
}

// float is the operand for a vector of one number.
func (f *file) float(v float32) string { return f.bits(math.Float32bits(v)) }

// bits is the operand for a vector of one 32-bit word.
func (f *file) bits(v uint32) string {
	if !slices.Contains(f.constants, v) {
		f.constants = append(f.constants, v)
	}
	return fmt.Sprintf("c%08x<>(SB)", v)
}

// window is the operand for a table of 8 full words and 8 empty ones: the
// vector n words before the middle is a mask of n elements.
func (f *file) window() string {
	f.windowed = true
	return "window<>(SB)"
}

// sequence is the operand for the words 0 … 7.
func (f *file) sequence() string {
	f.sequenced = true
	return "sequence<>(SB)"
}

// packing is the operand for a table of 8 bytes for every mask of 8 bits: the
// numbers of the bits that are set, then 0.
func (f *file) packing() string {
	f.packs = true
	return "packing<>(SB)"
}

// data writes the constants.
func (f *file) data() {
	for _, v := range f.constants {
		f.table(fmt.Sprintf("c%08x", v), v, v, v, v, v, v, v, v)
	}
	if f.windowed {
		const full = 1<<32 - 1
		f.table("window", full, full, full, full, full, full, full, full, 0, 0, 0, 0, 0, 0, 0, 0)
	}
	if f.sequenced {
		f.table("sequence", 0, 1, 2, 3, 4, 5, 6, 7)
	}
	if f.packs {
		var words []uint32
		for mask := range 256 {
			var numbers, n uint64
			for bit := range uint64(8) {
				if mask>>bit&1 != 0 {
					numbers |= bit << (8 * n)
					n++
				}
			}
			words = append(words, uint32(numbers), uint32(numbers>>32))
		}
		f.table("packing", words...)
	}
}

// table writes words as data.
func (f *file) table(name string, words ...uint32) {
	f.text.WriteByte('\n')
	for i := 0; i < len(words); i += 2 {
		fmt.Fprintf(&f.text, "DATA %s<>+%d(SB)/8, $0x%08x%08x\n", name, 4*i, words[i+1], words[i])
	}
	fmt.Fprintf(&f.text, "GLOBL %s<>(SB), RODATA|NOPTR, $%d\n", name, 4*len(words))
}

// function is one assembly function being written.
type function struct {
	file   *file
	offset map[string]int // of each argument's first word from FP
}

// begin starts a function. The signature is written as in Go, with a type
// behind each group of names; doc is the comment of the Go declaration.
func (f *file) begin(name, signature, doc string) *function {
	return f.beginFrame(name, signature, doc, 0)
}

// beginFrame is begin for a function with local memory, in bytes.
func (f *file) beginFrame(name, signature, doc string, frame int) *function {
	fn := &function{file: f, offset: map[string]int{}}
	size := 0
	group := []string{}
	for _, part := range strings.Split(signature, ", ") {
		if part == "" {
			continue
		}
		words := strings.SplitN(part, " ", 2)
		group = append(group, words[0])
		if len(words) == 1 {
			continue
		}
		for _, arg := range group {
			width := map[string]int{"int": 8}[words[1]]
			switch {
			case strings.HasPrefix(words[1], "[]"):
				arg, width = arg+"_base", 24
			case strings.HasPrefix(words[1], "*"):
				width = 8
			}
			if width == 0 {
				panic("gen: argument type " + words[1])
			}
			size = (size + min(width, 8) - 1) / min(width, 8) * min(width, 8)
			fn.offset[arg] = size
			size += width
		}
		group = group[:0]
	}
	fmt.Fprintf(&f.stubs, "\n// %s %s\n//\n//go:noescape\nfunc %s(%s)\n", name, doc, name, signature)
	flags := "NOSPLIT" // no room for a frame is asked for
	if frame > 0 {
		flags = "0"
	}
	fmt.Fprintf(&f.text, "\n// func %s(%s)\nTEXT ·%s(SB), %s, $%d-%d\n", name, signature, name, flags, frame, size)
	return fn
}

// arg names an argument's word for use as an operand; a slice's pointer is
// called name_base and its length name_len.
func (fn *function) arg(name string) string {
	if base, ok := strings.CutSuffix(name, "_len"); ok {
		return fmt.Sprintf("%s+%d(FP)", name, fn.offset[base+"_base"]+8)
	}
	at, ok := fn.offset[name]
	if !ok {
		panic("gen: no argument " + name)
	}
	return fmt.Sprintf("%s+%d(FP)", name, at)
}

// load moves arguments to registers, given as pairs.
func (fn *function) load(pairs ...string) {
	for i := 0; i < len(pairs); i += 2 {
		fn.op("MOVQ", fn.arg(pairs[i]), pairs[i+1])
	}
}

// op writes one instruction.
func (fn *function) op(name string, operands ...string) {
	fmt.Fprintf(&fn.file.text, "\t%s", name)
	if len(operands) > 0 {
		list := strings.Join(operands, ", ")
		if fn.file.wide() {
			list = strings.ReplaceAll(list, "Y", "Z")
		}
		fmt.Fprintf(&fn.file.text, " %s", list)
	}
	fn.file.text.WriteByte('\n')
}

// constant fills a vector register with one number.
func (fn *function) constant(v float32, reg string) {
	if fn.file.wide() {
		fn.op("VBROADCASTSS", fn.file.float(v), reg)
	} else {
		fn.op("VMOVUPS", fn.file.float(v), reg)
	}
}

// label writes a jump target.
func (fn *function) label(name string) { fmt.Fprintf(&fn.file.text, "%s:\n", name) }

// end leaves the function with clean upper vector halves, without which the
// compiler's SSE code would be slow.
func (fn *function) end() {
	fn.op("VZEROUPPER")
	fn.op("RET")
}

func y(i int) string { return fmt.Sprintf("Y%d", i) }
func x(i int) string { return fmt.Sprintf("X%d", i) }

// mem is the operand disp(reg).
func mem(disp int, reg string) string { return fmt.Sprintf("%d(%s)", disp, reg) }

// idx is the operand disp(reg)(index*scale).
func idx(disp int, reg, index string, scale int) string {
	return fmt.Sprintf("%d(%s)(%s*%d)", disp, reg, index, scale)
}

func imm(v int) string { return fmt.Sprintf("$%d", v) }
