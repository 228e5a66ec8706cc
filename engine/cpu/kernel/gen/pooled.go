package main

import "fmt"

// pooledLoops writes a loop for every number of vectors that a patch may have.
func pooledLoops(f *file) {
	for k := 1; k <= 8; k++ {
		pooled(f, k)
	}
	addRows(f)
}

func addRows(f *file) {
	fn := f.begin("addRowsAVX2", "rows, n int, dst []float32, dstStride int, src []float32, srcStride int", "is addRows.")
	fn.load("rows", "BX", "dst_base", "DI", "dstStride", "R8", "src_base", "SI", "srcStride", "R9")
	fn.label("row")
	fn.load("n", "CX")
	lanesLoop(fn, "element", func(masked bool) {
		move(fn, masked, "(DI)(AX*4)", "Y0")
		move(fn, masked, "(SI)(AX*4)", "Y1")
		fn.op("VADDPS", "Y1", "Y0", "Y0")
		move(fn, masked, "Y0", "(DI)(AX*4)")
	})
	fn.op("LEAQ", "(DI)(R8*4)", "DI")
	fn.op("LEAQ", "(SI)(R9*4)", "SI")
	fn.op("DECQ", "BX")
	fn.op("JNZ", "row")
	fn.end()
}

// pooled first lists, for all windows, the values that are not 0 and where their
// filters begin, eight channels at a time; then it multiplies them, one after the
// other. In two loops, because the second can run ahead only where its lists are
// at hand.
func pooled(f *file, k int) {
	fn := f.begin(fmt.Sprintf("pooled%dAVX2", k),
		"n, channels, stride int, v []float32, at []int32, first, advance int, taps []int32, w []float32, next int, list, dst []float32, begin, halves []int",
		fmt.Sprintf("is pooled for %d groups of four.", 2*k))
	fn.load("v_base", "SI", "at_base", "DI", "channels", "DX")
	fn.op("ADDQ", "$23", "DX") // a half of a window's list: roundUp(channels+8)
	fn.op("ANDQ", "$-16", "DX")
	fn.op("SHLQ", "$2", "DX")
	fn.op("SHRQ", "$1", fn.arg("taps_len"))
	fn.op("VPBROADCASTD", fn.arg("next"), "Y11")
	fn.op("VPMULLD", f.sequence(), "Y11", "Y10")
	fn.op("VPSLLD", "$3", "Y11", "Y11") // of eight channels
	fn.load("list_base", "R13", "n", "R14")
	fn.label("window")
	fn.op("LEAQ", "(R13)(DX*1)", "R8")
	fn.op("VPBROADCASTD", fn.arg("first"), "Y9")
	fn.op("VMOVDQA", "Y10", "Y8")
	fn.op("XORQ", "R9", "R9") // how many are listed
	fn.load("channels", "CX")
	lanesLoop(fn, "list", func(masked bool) { listed(fn, masked) })
	fn.op("LEAQ", "(R8)(DX*1)", "R13")
	fn.op("MOVL", "R9", "-4(R13)")
	fn.load("advance", "AX", "stride", "BX")
	fn.op("ADDQ", "AX", fn.arg("first"))
	fn.op("LEAQ", "(SI)(BX*4)", "SI")
	fn.op("LEAQ", "(DI)(BX*4)", "DI")
	fn.op("DECQ", "R14")
	fn.op("JNZ", "window")

	fn.load("list_base", "R13", "w_base", "SI", "begin_base", "DI", "halves_base", "BX")
	fn.label("patch")
	fn.op("LEAQ", "(R13)(DX*1)", "R8")
	fn.op("LEAQ", "(R8)(DX*1)", "R12")
	fn.op("MOVL", "-4(R12)", "R9")
	for i := range k {
		fn.op("VXORPS", y(i), y(i), y(i))
	}
	fn.op("XORQ", "AX", "AX")
	fn.op("TESTQ", "R9", "R9")
	fn.op("JZ", "store")
	fn.label("value")
	fn.op("MOVLQSX", "(R8)(AX*4)", "R10")
	fn.op("VBROADCASTSS", "(R13)(AX*4)", "Y15")
	for i := range k {
		fn.op("VFMADD231PS", idx(32*i, "SI", "R10", 4), "Y15", y(i))
	}
	fn.op("INCQ", "AX")
	fn.op("CMPQ", "AX", "R9")
	fn.op("JLT", "value")
	fn.label("store")
	fn.load("dst_base", "R11")
	fn.op("MOVQ", "(DI)", "AX")
	fn.op("LEAQ", "(R11)(AX*4)", "R11")
	for i := k - 1; i >= 0; i-- {
		fn.op("MOVQ", mem(16*i+8, "BX"), "AX")
		fn.op("VEXTRACTF128", "$1", y(i), "(R11)(AX*4)")
		fn.op("MOVQ", mem(16*i, "BX"), "AX")
		fn.op("VMOVUPS", x(i), "(R11)(AX*4)")
	}
	fn.op("MOVQ", "R12", "R13")
	fn.op("ADDQ", "$8", "DI")
	fn.op("DECQ", fn.arg("n"))
	fn.op("JNZ", "patch")
	fn.end()
}

// listed adds eight channels of a window to its list: values at R13, filters at
// R8, R9 of each so far.
func listed(fn *function, masked bool) {
	tap := "tap"
	if masked {
		tap = "taplast"
		fn.op("VMASKMOVPS", "(SI)(AX*4)", maskReg, "Y0")
		fn.op("VPMASKMOVD", "(DI)(AX*4)", maskReg, "Y1")
	} else {
		fn.op("VMOVUPS", "(SI)(AX*4)", "Y0")
		fn.op("VMOVDQU", "(DI)(AX*4)", "Y1")
	}
	fn.op("VPSUBD", "Y9", "Y1", "Y1")
	fn.op("VPXOR", "Y2", "Y2", "Y2") // whether a pixel has the place
	fn.op("VMOVDQA", "Y8", "Y3")     // where its filter begins
	fn.load("taps_base", "BX", "taps_len", "R10")
	fn.label(tap)
	fn.op("VPBROADCASTD", "(BX)", "Y4")
	fn.op("VPBROADCASTD", "4(BX)", "Y5")
	fn.op("VPCMPEQD", "Y4", "Y1", "Y4")
	fn.op("VPAND", "Y4", "Y5", "Y5")
	fn.op("VPOR", "Y4", "Y2", "Y2")
	fn.op("VPADDD", "Y5", "Y3", "Y3")
	fn.op("ADDQ", "$8", "BX")
	fn.op("DECQ", "R10")
	fn.op("JNZ", tap)
	fn.op("VXORPS", "Y4", "Y4", "Y4")
	fn.op("VCMPPS", notEqual, "Y4", "Y0", "Y4")
	fn.op("VANDPS", "Y2", "Y4", "Y4")
	fn.op("VMOVMSKPS", "Y4", "R10")
	fn.op("LEAQ", fn.file.packing(), "BX")
	fn.op("VPMOVZXBD", "(BX)(R10*8)", "Y5")
	fn.op("VPERMPS", "Y0", "Y5", "Y0")
	fn.op("VPERMD", "Y3", "Y5", "Y3")
	fn.op("VMOVUPS", "Y0", "(R13)(R9*4)")
	fn.op("VMOVDQU", "Y3", "(R8)(R9*4)")
	fn.op("POPCNTQ", "R10", "R10")
	fn.op("ADDQ", "R10", "R9")
	fn.op("VPADDD", "Y11", "Y8", "Y8")
}
