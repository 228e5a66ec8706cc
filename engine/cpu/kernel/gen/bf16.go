package main

import (
	"fmt"
	"strings"
)

// bf16 writes the loops that move and convert bf16, and the product on matrix
// tiles.
func bf16(f *file) {
	interleave(f)
	round(f)
	widen(f)
	multiplyTiles(f)
}

func interleave(f *file) {
	fn := f.begin("interleaveAVX2", "panels int, dst []float32, stride int, even, odd []BF16", "is pairs.interleave.")
	fn.load("panels", "CX", "dst_base", "DI", "stride", "DX", "even_base", "SI", "odd_base", "R8")
	fn.op("SHLQ", "$2", "DX")
	fn.label("loop")
	fn.op("VMOVDQU", "(SI)", "Y0")
	fn.op("VMOVDQU", "(R8)", "Y1")
	fn.op("VPUNPCKLWD", "Y1", "Y0", "Y2")
	fn.op("VPUNPCKHWD", "Y1", "Y0", "Y3")
	fn.op("VPERM2I128", "$0x20", "Y3", "Y2", "Y4")
	fn.op("VPERM2I128", "$0x31", "Y3", "Y2", "Y5")
	fn.op("VMOVDQU", "Y4", "(DI)")
	fn.op("VMOVDQU", "Y5", "32(DI)")
	fn.op("ADDQ", "$32", "SI")
	fn.op("ADDQ", "$32", "R8")
	fn.op("ADDQ", "DX", "DI")
	fn.op("DECQ", "CX")
	fn.op("JNZ", "loop")
	fn.end()
}

// round adds what carries into the upper half where the lower one says so, as
// RoundBF16 does.
func round(f *file) {
	fn := f.begin("roundAVX2", "dst []BF16, src []float32", "is halves.round for a multiple of 16 elements.")
	fn.load("dst_len", "CX", "dst_base", "DI", "src_base", "SI")
	fn.op("SHRQ", "$4", "CX")
	fn.op("JZ", "done")
	fn.op("VMOVDQU", f.bits(1), "Y10")
	fn.op("VMOVDQU", f.bits(0x7fff), "Y11")
	fn.op("VMOVDQU", f.bits(0x40), "Y12")
	fn.label("loop")
	for i := range 2 {
		v, upper, r, nan, quiet := y(5*i), y(5*i+1), y(5*i+2), y(5*i+3), y(5*i+4)
		fn.op("VMOVDQU", mem(32*i, "SI"), v)
		fn.op("VPSRLD", "$16", v, upper)
		fn.op("VPAND", "Y10", upper, r)
		fn.op("VPADDD", "Y11", r, r)
		fn.op("VPADDD", v, r, r)
		fn.op("VPSRLD", "$16", r, r)
		fn.op("VCMPPS", "$3", v, v, nan)
		fn.op("VPOR", "Y12", upper, quiet)
		fn.op("VBLENDVPS", nan, quiet, r, r)
	}
	fn.op("VPACKUSDW", "Y7", "Y2", "Y0")
	fn.op("VPERMQ", "$0xd8", "Y0", "Y0")
	fn.op("VMOVDQU", "Y0", "(DI)")
	fn.op("ADDQ", "$64", "SI")
	fn.op("ADDQ", "$32", "DI")
	fn.op("DECQ", "CX")
	fn.op("JNZ", "loop")
	fn.label("done")
	fn.end()
}

func widen(f *file) {
	fn := f.begin("widenAVX2", "dst []float32, src []BF16", "is halves.widen for a multiple of 16 elements.")
	fn.load("dst_len", "CX", "dst_base", "DI", "src_base", "SI")
	fn.op("SHRQ", "$4", "CX")
	fn.op("JZ", "done")
	fn.label("loop")
	for i := range 2 {
		fn.op("VPMOVZXWD", mem(16*i, "SI"), y(i))
		fn.op("VPSLLD", "$16", y(i), y(i))
		fn.op("VMOVDQU", y(i), mem(32*i, "DI"))
	}
	fn.op("ADDQ", "$32", "SI")
	fn.op("ADDQ", "$64", "DI")
	fn.op("DECQ", "CX")
	fn.op("JNZ", "loop")
	fn.label("done")
	fn.end()
}

// multiplyTiles holds the sums of a block in tiles 0 to 3, two tiles of rows in 4
// and 5 and two of columns in 6 and 7. Tiles belong to a thread: they are set up
// and released within the call, which the scheduler does not interrupt.
func multiplyTiles(f *file) {
	const row, half = 2 * 16 * 4, 16 * 4 // bytes of C
	tiles := f.tiles()
	fn := f.begin("multiplyAMX", "blocks, steps int, a []float32, lda int, b []float32, next int, c []float32, beta int", "is pairs.multiply.")
	fn.load("blocks", "R8", "lda", "R11", "c_base", "DI", "beta", "DX")
	fn.op("SHLQ", "$2", "R11")
	fn.op("MOVQ", imm(row), "SI")
	fn.op("MOVQ", imm(half), "R10") // a row of B
	fn.op("LEAQ", mem(16*row, "DI"), "R12")
	fn.op("LEAQ", tiles, "AX")
	fn.encoded("LDTILECFG (AX)", 0xc4, 0xe2, 0x78, 0x49, 0x00)
	fn.load("a_base", "AX")
	fn.label("next")
	fn.load("steps", "CX", "b_base", "BX", "next", "R13")
	fn.op("LEAQ", idx(0, "BX", "R13", 4), "R13")
	fn.op("MOVQ", "R11", "R9")
	fn.op("SHLQ", "$4", "R9")
	fn.op("ADDQ", "AX", "R9")
	fn.op("TESTQ", "DX", "DX")
	fn.op("JZ", "zero")
	fn.tileLoad(0, 0, "DI", "SI")
	fn.tileLoad(1, half, "DI", "SI")
	fn.tileLoad(2, 0, "R12", "SI")
	fn.tileLoad(3, half, "R12", "SI")
	fn.op("JMP", "loop")
	fn.label("zero")
	for t := range 4 {
		fn.encoded(fmt.Sprintf("TILEZERO TMM%d", t), 0xc4, 0xe2, 0x7b, 0x49, 0xc0|byte(t)<<3)
	}
	fn.label("loop")
	fn.tileLoad(4, 0, "AX", "R11")
	fn.tileLoad(6, 0, "BX", "R10")
	fn.tileLoad(7, 0, "R13", "R10")
	fn.tileProduct(0, 4, 6)
	fn.tileProduct(1, 4, 7)
	fn.tileLoad(5, 0, "R9", "R11")
	fn.tileProduct(2, 5, 6)
	fn.tileProduct(3, 5, 7)
	fn.op("ADDQ", "$64", "AX")
	fn.op("ADDQ", "$64", "R9")
	fn.op("ADDQ", "$1024", "BX")
	fn.op("ADDQ", "$1024", "R13")
	fn.op("DECQ", "CX")
	fn.op("JNZ", "loop")
	fn.tileStore(0, 0, "DI", "SI")
	fn.tileStore(1, half, "DI", "SI")
	fn.tileStore(2, 0, "R12", "SI")
	fn.tileStore(3, half, "R12", "SI")
	fn.op("ADDQ", imm(32*row), "DI")
	fn.op("ADDQ", imm(32*row), "R12")
	fn.load("steps", "CX") // A goes from the end of a block's first row to the next block
	fn.op("SHLQ", "$6", "CX")
	fn.op("SUBQ", "CX", "AX")
	fn.op("MOVQ", "R11", "R9")
	fn.op("SHLQ", "$5", "R9")
	fn.op("ADDQ", "R9", "AX")
	fn.op("DECQ", "R8")
	fn.op("JNZ", "next")
	fn.encoded("TILERELEASE", 0xc4, 0xe2, 0x78, 0x49, 0xc0)
	fn.op("RET")
}

// tiles is the operand for a configuration of eight tiles of 16 rows of 64 bytes.
func (f *file) tiles() string {
	const bytes, rows = 64 | 64<<16, 16 | 16<<8 | 16<<16 | 16<<24
	f.table("tiles", 1, 0, 0, 0, bytes, bytes, bytes, bytes, 0, 0, 0, 0, rows, rows, 0, 0)
	return "tiles<>(SB)"
}

// The instructions on tiles are unknown to Go's assembler. They have a VEX prefix
// of three bytes, in which the upper bits of register numbers stand inverted.

var numbers = map[string]byte{"AX": 0, "CX": 1, "DX": 2, "BX": 3, "SI": 6, "DI": 7, "R8": 8, "R9": 9, "R10": 10, "R11": 11, "R12": 12, "R13": 13}

// tileLoad loads a tile of rows that lie stride bytes apart, at disp(base).
func (fn *function) tileLoad(tile, disp int, base, stride string) {
	fn.tileMemory(fmt.Sprintf("TILELOADD %d(%s)(%s*1), TMM%d", disp, base, stride, tile), 0x7b, tile, disp, base, stride)
}

// tileStore stores one.
func (fn *function) tileStore(tile, disp int, base, stride string) {
	fn.tileMemory(fmt.Sprintf("TILESTORED TMM%d, %d(%s)(%s*1)", tile, disp, base, stride), 0x7a, tile, disp, base, stride)
}

// tileMemory encodes VEX.128.pp.0F38.W0 4B with an 8-bit displacement.
func (fn *function) tileMemory(text string, pp byte, tile, disp int, base, stride string) {
	b, s := numbers[base], numbers[stride]
	fn.encoded(text, 0xc4, 0x82|(^s>>3&1)<<6|(^b>>3&1)<<5, pp, 0x4b, 0x44|byte(tile)<<3, s&7<<3|b&7, byte(disp))
}

// tileProduct adds the product of tiles of bf16 to one of sums.
func (fn *function) tileProduct(sum, rows, columns int) {
	fn.encoded(fmt.Sprintf("TDPBF16PS TMM%d, TMM%d, TMM%d", columns, rows, sum), 0xc4, 0xe2, byte(^columns&15)<<3|2, 0x5c, 0xc0|byte(sum)<<3|byte(rows))
}

// encoded writes an instruction by its bytes.
func (fn *function) encoded(text string, code ...byte) {
	list := make([]string, len(code))
	for i, c := range code {
		list[i] = fmt.Sprintf("BYTE $0x%02x", c)
	}
	fmt.Fprintf(&fn.file.text, "\t%s // %s\n", strings.Join(list, "; "), text)
}
