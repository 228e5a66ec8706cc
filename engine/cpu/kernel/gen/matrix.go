package main

import "fmt"

// The AVX2 tile is 6 rows by 16 columns: 12 accumulators, two vectors of B,
// two broadcast elements of A, 16 registers in all.
const (
	rows = 6
	cols = 16
)

func matrix(f *file) {
	for h := 1; h <= rows; h++ {
		tile(f, h)
	}
	for h := 1; h <= rows; h++ {
		gather(f, h)
	}
	copyPanel(f)
	copyRuns(f)
	transpose(f)
	addRows(f)
	copyRows(f)
	spreadRows(f)
	peak(f)
}

// step multiplies one element of each of h rows of A with one row of B.
func step(fn *function, h int, b string, disp int, a func(row int) string) {
	fn.op("VMOVUPS", mem(disp, b), "Y12")
	fn.op("VMOVUPS", mem(disp+32, b), "Y13")
	for r := range h {
		t := y(14 + r&1)
		fn.op("VBROADCASTSS", a(r), t)
		fn.op("VFMADD231PS", "Y12", t, y(2*r))
		fn.op("VFMADD231PS", "Y13", t, y(2*r+1))
	}
}

func zero(fn *function, h int) {
	for i := range 2 * h {
		fn.op("VXORPS", y(i), y(i), y(i))
	}
}

func tile(f *file, h int) {
	fn := f.begin(fmt.Sprintf("tile%dAVX2", h), "n, k int, a, b, c []float32, ldc, beta int",
		fmt.Sprintf("is micro.tiles[%d]: 6-row A panels, 16 columns.", h))
	fn.load("n", "R8", "a_base", "AX", "c_base", "DI", "ldc", "SI", "beta", "DX")
	fn.op("SHLQ", "$2", "SI")
	fn.op("TESTQ", "R8", "R8")
	fn.op("JLE", "done")
	fn.label("next")
	fn.load("k", "CX", "b_base", "BX")
	zero(fn, h)
	fn.op("MOVQ", "DI", "R9")
	for range h { // C is wanted when the sums are done
		fn.op("PREFETCHT0", "(R9)")
		fn.op("PREFETCHT0", "60(R9)")
		fn.op("ADDQ", "SI", "R9")
	}
	fn.op("MOVQ", "CX", "R10")
	fn.op("SHRQ", "$2", "CX")
	fn.op("JZ", "rest")
	fn.label("loop")
	for u := range 4 {
		step(fn, h, "BX", u*cols*4, func(r int) string { return mem((u*rows+r)*4, "AX") })
	}
	fn.op("ADDQ", imm(4*cols*4), "BX")
	fn.op("ADDQ", imm(4*rows*4), "AX")
	fn.op("DECQ", "CX")
	fn.op("JNZ", "loop")
	fn.label("rest")
	fn.op("ANDQ", "$3", "R10")
	fn.op("JZ", "sum")
	fn.label("single")
	step(fn, h, "BX", 0, func(r int) string { return mem(r*4, "AX") })
	fn.op("ADDQ", imm(cols*4), "BX")
	fn.op("ADDQ", imm(rows*4), "AX")
	fn.op("DECQ", "R10")
	fn.op("JNZ", "single")
	fn.label("sum")
	fn.op("TESTQ", "DX", "DX")
	fn.op("JZ", "store")
	fn.op("MOVQ", "DI", "R9")
	for r := range h {
		fn.op("VADDPS", "(R9)", y(2*r), y(2*r))
		fn.op("VADDPS", "32(R9)", y(2*r+1), y(2*r+1))
		fn.op("ADDQ", "SI", "R9")
	}
	fn.label("store")
	for r := range h {
		fn.op("VMOVUPS", y(2*r), "(DI)")
		fn.op("VMOVUPS", y(2*r+1), "32(DI)")
		fn.op("ADDQ", "SI", "DI")
	}
	fn.op("DECQ", "R8")
	fn.op("JNZ", "next")
	fn.label("done")
	fn.end()
}

func gather(f *file, h int) {
	fn := f.begin(fmt.Sprintf("gather%dAVX2", h), "width int, starts, offs []int, a, b, c []float32, beta int",
		fmt.Sprintf("is micro.gathers[%d] for 16 columns.", h))
	fn.load("a_base", "DX", "offs_base", "SI", "starts_base", "R8", "starts_len", "R9", "b_base", "BX", "c_base", "DI")
	fn.op("MOVQ", "(SI)", "AX")
	fn.op("LEAQ", "(DX)(AX*4)", "DX")
	offs := []string{"", "R10", "R11", "R12", "R13", "SI"} // of rows 1 … 5 from row 0
	for r := 1; r < h; r++ {
		fn.op("MOVQ", mem(8*r, "SI"), offs[r])
		fn.op("SUBQ", "AX", offs[r])
		fn.op("SHLQ", "$2", offs[r])
	}
	zero(fn, h)
	fn.op("TESTQ", "R9", "R9")
	fn.op("JZ", "sum")
	fn.label("segment")
	fn.op("MOVQ", "(R8)", "AX")
	fn.op("LEAQ", "(DX)(AX*4)", "AX")
	fn.load("width", "CX")
	fn.label("loop")
	step(fn, h, "BX", 0, func(r int) string {
		if r == 0 {
			return "(AX)"
		}
		return idx(0, "AX", offs[r], 1)
	})
	fn.op("ADDQ", imm(cols*4), "BX")
	fn.op("ADDQ", "$4", "AX")
	fn.op("DECQ", "CX")
	fn.op("JNZ", "loop")
	fn.op("ADDQ", "$8", "R8")
	fn.op("DECQ", "R9")
	fn.op("JNZ", "segment")
	fn.label("sum")
	fn.op("CMPQ", fn.arg("beta"), "$0")
	fn.op("JEQ", "store")
	for i := range 2 * h {
		fn.op("VADDPS", mem(32*i, "DI"), y(i), y(i))
	}
	fn.label("store")
	for i := range 2 * h {
		fn.op("VMOVUPS", y(i), mem(32*i, "DI"))
	}
	fn.end()
}

func copyPanel(f *file) {
	fn := f.begin("copyPanelAVX2", "k int, dst, src []float32, stride int", "is micro.copyPanel for 16 columns.")
	fn.load("k", "CX", "dst_base", "DI", "src_base", "SI", "stride", "DX")
	fn.op("SHLQ", "$2", "DX")
	fn.op("TESTQ", "CX", "CX")
	fn.op("JLE", "done")
	fn.label("loop")
	fn.op("VMOVUPS", "(SI)", "Y0")
	fn.op("VMOVUPS", "32(SI)", "Y1")
	fn.op("VMOVUPS", "Y0", "(DI)")
	fn.op("VMOVUPS", "Y1", "32(DI)")
	fn.op("ADDQ", "DX", "SI")
	fn.op("ADDQ", imm(cols*4), "DI")
	fn.op("DECQ", "CX")
	fn.op("JNZ", "loop")
	fn.label("done")
	fn.end()
}

// copyRuns copies whole rows of 16 for each run; what a row leaves behind its
// run, the next run or the next row overwrites.
func copyRuns(f *file) {
	fn := f.begin("copyRunsAVX2", "dst, src []float32, koff []int, runs []run", "is micro.copyRuns for 16 columns.")
	fn.load("dst_base", "DI", "src_base", "SI", "koff_base", "R8", "koff_len", "CX", "runs_base", "R9", "runs_len", "R10")
	fn.op("TESTQ", "CX", "CX")
	fn.op("JLE", "done")
	fn.op("TESTQ", "R10", "R10")
	fn.op("JLE", "done")
	const col, off, size = 0, 16, 24 // of run

	copyRow := func(from, to string) {
		fn.op("VMOVUPS", mem(0, from), "Y0")
		fn.op("VMOVUPS", mem(32, from), "Y1")
		fn.op("VMOVUPS", "Y0", mem(0, to))
		fn.op("VMOVUPS", "Y1", mem(32, to))
	}
	fn.op("CMPQ", "R10", "$2")
	fn.op("JEQ", "two")
	fn.op("JGT", "many")

	// One run.
	fn.op("MOVQ", mem(off, "R9"), "AX")
	fn.op("LEAQ", "(SI)(AX*4)", "SI")
	fn.op("MOVQ", mem(col, "R9"), "AX")
	fn.op("LEAQ", "(DI)(AX*4)", "DI")
	fn.label("loop1")
	fn.op("MOVQ", "(R8)", "AX")
	fn.op("LEAQ", "(SI)(AX*4)", "BX")
	copyRow("BX", "DI")
	fn.op("ADDQ", "$8", "R8")
	fn.op("ADDQ", imm(cols*4), "DI")
	fn.op("DECQ", "CX")
	fn.op("JNZ", "loop1")
	fn.op("JMP", "done")

	fn.label("two")
	fn.op("MOVQ", mem(off, "R9"), "R10")
	fn.op("MOVQ", mem(size+off, "R9"), "R11")
	fn.op("LEAQ", "(SI)(R11*4)", "R11")
	fn.op("LEAQ", "(SI)(R10*4)", "SI")
	fn.op("MOVQ", mem(col, "R9"), "R10")
	fn.op("MOVQ", mem(size+col, "R9"), "R12")
	fn.op("LEAQ", "(DI)(R12*4)", "R12")
	fn.op("LEAQ", "(DI)(R10*4)", "DI")
	fn.label("loop2")
	fn.op("MOVQ", "(R8)", "AX")
	fn.op("LEAQ", "(SI)(AX*4)", "BX")
	fn.op("LEAQ", "(R11)(AX*4)", "DX")
	copyRow("BX", "DI")
	copyRow("DX", "R12")
	fn.op("ADDQ", "$8", "R8")
	fn.op("ADDQ", imm(cols*4), "DI")
	fn.op("ADDQ", imm(cols*4), "R12")
	fn.op("DECQ", "CX")
	fn.op("JNZ", "loop2")
	fn.op("JMP", "done")

	fn.label("many")
	fn.op("MOVQ", "(R8)", "AX")
	fn.op("LEAQ", "(SI)(AX*4)", "BX")
	fn.op("MOVQ", "R9", "R11")
	fn.op("MOVQ", "R10", "R12")
	fn.label("each")
	fn.op("MOVQ", mem(off, "R11"), "AX")
	fn.op("LEAQ", "(BX)(AX*4)", "AX")
	fn.op("MOVQ", mem(col, "R11"), "DX")
	fn.op("LEAQ", "(DI)(DX*4)", "DX")
	copyRow("AX", "DX")
	fn.op("ADDQ", imm(size), "R11")
	fn.op("DECQ", "R12")
	fn.op("JNZ", "each")
	fn.op("ADDQ", "$8", "R8")
	fn.op("ADDQ", imm(cols*4), "DI")
	fn.op("DECQ", "CX")
	fn.op("JNZ", "many")
	fn.label("done")
	fn.end()
}

// transpose works on 8×8 blocks. Rows past the last are read from the last.
// Rows r and r+4 are loaded into the halves of one vector, which saves the
// exchange of halves.
func transpose(f *file) {
	fn := f.begin("transposeAVX2", "rows, n int, dst []float32, dstStride int, src []float32, srcStride int",
		"is micro.transpose for n a multiple of 8; it may\n// touch 8 lanes of every row of dst.")
	row := []string{"SI", "R8", "R9", "R10", "R11", "R12", "R13", "AX"}
	fn.load("rows", "CX", "srcStride", "DX", "src_base", row[0])
	fn.op("SHLQ", "$2", "DX")
	for r := 1; r < 8; r++ {
		fn.op("LEAQ", idx(0, row[r-1], "DX", 1), row[r])
		fn.op("CMPQ", "CX", imm(r+1))
		fn.op("CMOVQLT", row[r-1], row[r])
	}
	fn.load("n", "CX", "dst_base", "DI", "dstStride", "BX")
	fn.op("SHLQ", "$2", "BX")
	fn.op("XORQ", "DX", "DX")
	fn.label("loop")
	for half := 0; half < 32; half += 16 {
		for r := range 4 {
			fn.op("VMOVUPS", idx(half, row[r], "DX", 1), x(r))
			fn.op("VINSERTF128", "$1", idx(half, row[r+4], "DX", 1), y(r), y(r))
		}
		fn.op("VUNPCKLPS", "Y1", "Y0", "Y4")
		fn.op("VUNPCKHPS", "Y1", "Y0", "Y5")
		fn.op("VUNPCKLPS", "Y3", "Y2", "Y6")
		fn.op("VUNPCKHPS", "Y3", "Y2", "Y7")
		fn.op("VUNPCKLPD", "Y6", "Y4", "Y8")
		fn.op("VUNPCKHPD", "Y6", "Y4", "Y9")
		fn.op("VUNPCKLPD", "Y7", "Y5", "Y10")
		fn.op("VUNPCKHPD", "Y7", "Y5", "Y11")
		for k := 0; k < 4; k += 2 {
			fn.op("VMOVUPS", y(8+k), "(DI)")
			fn.op("VMOVUPS", y(9+k), idx(0, "DI", "BX", 1))
			fn.op("LEAQ", idx(0, "DI", "BX", 2), "DI")
		}
	}
	fn.op("ADDQ", "$32", "DX")
	fn.op("SUBQ", "$8", "CX")
	fn.op("JG", "loop")
	fn.end()
}

// rowLoop writes a function over rows of width elements: body works on the
// elements from DX on, 8, 4 or 1 of them. DI and SI are the rows of dst and
// src, R9 and R10 the strides in bytes.
func rowLoop(fn *function, body func(n int)) {
	fn.load("rows", "R8", "dst_base", "DI", "dstStride", "R9", "src_base", "SI", "srcStride", "R10", "width", "R11")
	fn.op("SHLQ", "$2", "R9")
	fn.op("SHLQ", "$2", "R10")
	fn.op("TESTQ", "R8", "R8")
	fn.op("JLE", "done")
	fn.label("row")
	fn.op("XORQ", "DX", "DX") // element
	fn.op("MOVQ", "R11", "CX")
	fn.op("SHRQ", "$3", "CX")
	fn.op("JZ", "four")
	fn.label("eight")
	body(8)
	fn.op("ADDQ", "$8", "DX")
	fn.op("DECQ", "CX")
	fn.op("JNZ", "eight")
	fn.label("four")
	fn.op("TESTQ", "$4", "R11")
	fn.op("JZ", "rest")
	body(4)
	fn.op("ADDQ", "$4", "DX")
	fn.label("rest")
	fn.op("MOVQ", "R11", "CX")
	fn.op("ANDQ", "$3", "CX")
	fn.op("JZ", "end")
	fn.label("one")
	body(1)
	fn.op("INCQ", "DX")
	fn.op("DECQ", "CX")
	fn.op("JNZ", "one")
	fn.label("end")
	fn.op("ADDQ", "R9", "DI")
	fn.op("ADDQ", "R10", "SI")
	fn.op("DECQ", "R8")
	fn.op("JNZ", "row")
}

// move and reg are the instruction and the register for n elements.
func move(n int) string { return map[int]string{8: "VMOVUPS", 4: "VMOVUPS", 1: "VMOVSS"}[n] }
func reg(i, n int) string {
	if n == 8 {
		return y(i)
	}
	return x(i)
}

func addRows(f *file) {
	fn := f.begin("addRowsAVX2", "rows, width int, dst []float32, dstStride int, src []float32, srcStride int", "is micro.addRows.")
	rowLoop(fn, func(n int) {
		fn.op(move(n), "(DI)(DX*4)", reg(0, n))
		fn.op(map[int]string{8: "VADDPS", 4: "VADDPS", 1: "VADDSS"}[n], "(SI)(DX*4)", reg(0, n), reg(0, n))
		fn.op(move(n), reg(0, n), "(DI)(DX*4)")
	})
	fn.label("done")
	fn.end()
}

// copyRows has loops for the steps 1 and 2, and one for the others.
func copyRows(f *file) {
	fn := f.begin("copyRowsAVX2", "rows, width int, dst []float32, dstStride int, src []float32, srcStride, step int", "is micro.copyRows.")
	fn.load("step", "BX")
	fn.op("CMPQ", "BX", "$1")
	fn.op("JNE", "apart")
	rowLoop(fn, func(n int) {
		fn.op(move(n), "(SI)(DX*4)", reg(0, n))
		fn.op(move(n), reg(0, n), "(DI)(DX*4)")
	})
	fn.op("JMP", "done")

	fn.label("apart")
	fn.load("rows", "R8", "dst_base", "DI", "dstStride", "R9", "src_base", "SI", "srcStride", "R10", "width", "R11")
	fn.op("SHLQ", "$2", "R9")
	fn.op("SHLQ", "$2", "R10")
	fn.op("SHLQ", "$2", "BX")
	fn.op("TESTQ", "R8", "R8")
	fn.op("JLE", "done")
	fn.label("line")
	fn.op("MOVQ", "SI", "AX")
	fn.op("MOVQ", "DI", "DX")
	fn.op("MOVQ", "R11", "CX")
	fn.op("CMPQ", "BX", "$8")
	fn.op("JNE", "single")
	// Eight elements take 15 of src; a ninth must follow, lest the second
	// vector reach behind the end.
	fn.label("pairs")
	fn.op("CMPQ", "CX", "$8")
	fn.op("JLE", "single")
	fn.op("VMOVUPS", "(AX)", "Y0")
	fn.op("VMOVUPS", "32(AX)", "Y1")
	fn.op("VSHUFPS", "$0x88", "Y1", "Y0", "Y0")
	fn.op("VPERMPD", "$0xd8", "Y0", "Y0")
	fn.op("VMOVUPS", "Y0", "(DX)")
	fn.op("ADDQ", "$64", "AX")
	fn.op("ADDQ", "$32", "DX")
	fn.op("SUBQ", "$8", "CX")
	fn.op("JMP", "pairs")
	fn.label("single")
	fn.op("TESTQ", "CX", "CX")
	fn.op("JLE", "next")
	fn.label("element")
	fn.op("VMOVSS", "(AX)", "X0")
	fn.op("VMOVSS", "X0", "(DX)")
	fn.op("ADDQ", "BX", "AX")
	fn.op("ADDQ", "$4", "DX")
	fn.op("DECQ", "CX")
	fn.op("JNZ", "element")
	fn.label("next")
	fn.op("ADDQ", "R9", "DI")
	fn.op("ADDQ", "R10", "SI")
	fn.op("DECQ", "R8")
	fn.op("JNZ", "line")
	fn.label("done")
	fn.end()
}

func spreadRows(f *file) {
	fn := f.begin("spreadRowsAVX2", "rows, width int, dst []float32, dstStride, step int, src []float32, srcStride int", "is micro.spreadRows.")
	fn.load("step", "BX")
	fn.op("CMPQ", "BX", "$1")
	fn.op("JNE", "apart")
	rowLoop(fn, func(n int) {
		fn.op(move(n), "(SI)(DX*4)", reg(0, n))
		fn.op(move(n), reg(0, n), "(DI)(DX*4)")
	})
	fn.op("JMP", "done")

	fn.label("apart")
	fn.load("rows", "R8", "dst_base", "DI", "dstStride", "R9", "src_base", "SI", "srcStride", "R10", "width", "R11")
	fn.op("SHLQ", "$2", "R9")
	fn.op("SHLQ", "$2", "R10")
	fn.op("SHLQ", "$2", "BX")
	fn.op("TESTQ", "R8", "R8")
	fn.op("JLE", "done")
	fn.op("TESTQ", "R11", "R11")
	fn.op("JLE", "done")
	fn.op("LEAQ", "(BX)(BX*2)", "R12")
	fn.label("line")
	fn.op("MOVQ", "SI", "AX")
	fn.op("MOVQ", "DI", "DX")
	fn.op("MOVQ", "R11", "CX")
	fn.op("SUBQ", "$4", "CX")
	fn.op("JLT", "single")
	fn.label("fours")
	fn.op("VMOVUPS", "(AX)", "X0")
	fn.op("VMOVSS", "X0", "(DX)")
	fn.op("VEXTRACTPS", "$1", "X0", "(DX)(BX*1)")
	fn.op("VEXTRACTPS", "$2", "X0", "(DX)(BX*2)")
	fn.op("VEXTRACTPS", "$3", "X0", "(DX)(R12*1)")
	fn.op("ADDQ", "$16", "AX")
	fn.op("LEAQ", "(DX)(BX*4)", "DX")
	fn.op("SUBQ", "$4", "CX")
	fn.op("JGE", "fours")
	fn.label("single")
	fn.op("ADDQ", "$4", "CX")
	fn.op("JZ", "next")
	fn.label("element")
	fn.op("VMOVSS", "(AX)", "X0")
	fn.op("VMOVSS", "X0", "(DX)")
	fn.op("ADDQ", "$4", "AX")
	fn.op("ADDQ", "BX", "DX")
	fn.op("DECQ", "CX")
	fn.op("JNZ", "element")
	fn.label("next")
	fn.op("ADDQ", "R9", "DI")
	fn.op("ADDQ", "R10", "SI")
	fn.op("DECQ", "R8")
	fn.op("JNZ", "line")
	fn.label("done")
	fn.end()
}

// peak is the ceiling the other kernels are measured against: independent
// fused multiply-adds on registers.
func peak(f *file) {
	fn := f.begin("peakAVX2", "n int", "does n rounds of 12 independent multiply-adds on 8 lanes.")
	fn.load("n", "CX")
	for i := range 14 {
		fn.op("VXORPS", y(i), y(i), y(i))
	}
	fn.label("loop")
	for i := range 12 {
		fn.op("VFMADD231PS", "Y12", "Y13", y(i))
	}
	fn.op("DECQ", "CX")
	fn.op("JG", "loop")
	fn.end()
}
