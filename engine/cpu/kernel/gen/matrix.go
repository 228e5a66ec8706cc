package main

import "fmt"

func matrix(f *file) {
	for h := 1; h <= f.rows; h++ {
		tile(f, h)
	}
	copyPanel(f)
	if !f.wide() { // 512 bits would not make it faster
		transpose(f)
	}
	peak(f)
}

// cols is the number of columns of a tile.
func (s isa) cols() int { return s.bytes() / 2 }

// b and t are the registers of B and of broadcast elements of A.
func (s isa) b(i int) string { return y(2*s.rows + i) }
func (s isa) t(i int) string { return y(2*s.rows + 2 + i&1) }

// step multiplies one element of each of h rows of A with two vectors of B.
func step(fn *function, h int, b0, b1 string, a func(row int) string) {
	f := fn.file
	fn.op("VMOVUPS", b0, f.b(0))
	fn.op("VMOVUPS", b1, f.b(1))
	for r := range h {
		fn.op("VBROADCASTSS", a(r), f.t(r))
		fn.op("VFMADD231PS", f.b(0), f.t(r), y(2*r))
		fn.op("VFMADD231PS", f.b(1), f.t(r), y(2*r+1))
	}
}

func zero(fn *function, h int) {
	for i := range 2 * h {
		fn.op("VXORPS", y(i), y(i), y(i))
	}
}

func tile(f *file, h int) {
	rows, cols, half := f.rows, f.cols(), f.bytes()
	fn := f.begin(fmt.Sprintf("tile%d%s", h, f.suffix), "n, k int, a, b, c []float32, ldc, beta int",
		fmt.Sprintf("is micro.tiles[%d]: %d-row A panels, %d columns.", h, rows, cols))
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
		for at := 60; at < 2*half; at += 64 {
			fn.op("PREFETCHT0", mem(at, "R9"))
		}
		fn.op("ADDQ", "SI", "R9")
	}
	fn.op("MOVQ", "CX", "R10")
	fn.op("SHRQ", "$2", "CX")
	fn.op("JZ", "rest")
	fn.label("loop")
	for u := range 4 {
		step(fn, h, mem(u*cols*4, "BX"), mem(u*cols*4+half, "BX"), func(r int) string { return mem((u*rows+r)*4, "AX") })
	}
	fn.op("ADDQ", imm(4*cols*4), "BX")
	fn.op("ADDQ", imm(4*rows*4), "AX")
	fn.op("DECQ", "CX")
	fn.op("JNZ", "loop")
	fn.label("rest")
	fn.op("ANDQ", "$3", "R10")
	fn.op("JZ", "sum")
	fn.label("single")
	step(fn, h, "(BX)", mem(half, "BX"), func(r int) string { return mem(r*4, "AX") })
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
		fn.op("VADDPS", mem(half, "R9"), y(2*r+1), y(2*r+1))
		fn.op("ADDQ", "SI", "R9")
	}
	fn.label("store")
	for r := range h {
		fn.op("VMOVUPS", y(2*r), "(DI)")
		fn.op("VMOVUPS", y(2*r+1), mem(half, "DI"))
		fn.op("ADDQ", "SI", "DI")
	}
	fn.op("DECQ", "R8")
	fn.op("JNZ", "next")
	fn.label("done")
	fn.end()
}

func copyPanel(f *file) {
	fn := f.begin("copyPanel"+f.suffix, "k int, dst, src []float32, stride int", fmt.Sprintf("is micro.copyPanel for %d columns.", f.cols()))
	fn.load("k", "CX", "dst_base", "DI", "src_base", "SI", "stride", "DX")
	fn.op("SHLQ", "$2", "DX")
	fn.op("TESTQ", "CX", "CX")
	fn.op("JLE", "done")
	fn.label("loop")
	fn.op("VMOVUPS", "(SI)", "Y0")
	fn.op("VMOVUPS", mem(f.bytes(), "SI"), "Y1")
	fn.op("VMOVUPS", "Y0", "(DI)")
	fn.op("VMOVUPS", "Y1", mem(f.bytes(), "DI"))
	fn.op("ADDQ", "DX", "SI")
	fn.op("ADDQ", imm(f.cols()*4), "DI")
	fn.op("DECQ", "CX")
	fn.op("JNZ", "loop")
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

// peak is the ceiling the other kernels are measured against: independent
// fused multiply-adds on registers.
func peak(f *file) {
	fn := f.begin("peak"+f.suffix, "n int", fmt.Sprintf("does n rounds of 12 independent multiply-adds on %d lanes.", f.bytes()/4))
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
