package main

// columns writes the kernels of tensors whose last axis, the channels, is long:
// one lane a channel.
func columns(f *file) {
	addColumns(f)
	addWide(f)
	maxTaps(f)
	spreadTaps(f)
	gatherRows(f)
	pooledLoops(f)
}

// addColumns keeps the sums of 16 columns, then of 8, in registers down all rows.
func addColumns(f *file) {
	fn := f.begin("addColumnsAVX2", "acc []float64, v []float32, rows, stride int",
		"is addColumns for a multiple of 8 columns; stride is the\n// number of elements from row to row.")
	fn.load("acc_base", "DI", "acc_len", "CX", "v_base", "SI", "rows", "DX", "stride", "BX")
	fn.op("SHLQ", "$2", "BX")
	block := func(columns int, label, next string) {
		fn.label(label)
		fn.op("CMPQ", "CX", imm(columns))
		fn.op("JLT", next)
		for i := range columns / 4 {
			fn.op("VMOVUPD", mem(32*i, "DI"), y(i))
		}
		fn.op("MOVQ", "SI", "R8")
		fn.op("MOVQ", "DX", "R9")
		fn.label(label + "row")
		for i := range columns / 4 {
			fn.op("VCVTPS2PD", mem(16*i, "R8"), y(8+i))
			fn.op("VADDPD", y(8+i), y(i), y(i))
		}
		fn.op("ADDQ", "BX", "R8")
		fn.op("DECQ", "R9")
		fn.op("JNZ", label+"row")
		for i := range columns / 4 {
			fn.op("VMOVUPD", y(i), mem(32*i, "DI"))
		}
		fn.op("ADDQ", imm(8*columns), "DI")
		fn.op("ADDQ", imm(4*columns), "SI")
		fn.op("SUBQ", imm(columns), "CX")
		fn.op("JMP", label)
	}
	block(16, "wide", "narrow")
	block(8, "narrow", "done")
	fn.label("done")
	fn.end()
}

// addWide sums in 16 lanes of float64.
func addWide(f *file) {
	fn := f.begin("addWideAVX2", "lanes []float64, a []float32", "adds a multiple of 16 elements to 16 lanes.")
	fn.load("lanes_base", "DI", "a_base", "SI", "a_len", "CX")
	for i := range 4 {
		fn.op("VMOVUPD", mem(32*i, "DI"), y(i))
	}
	fn.op("SHRQ", "$4", "CX")
	fn.op("JZ", "done")
	fn.label("loop")
	for i := range 4 {
		fn.op("VCVTPS2PD", mem(16*i, "SI"), y(4+i))
		fn.op("VADDPD", y(4+i), y(i), y(i))
	}
	fn.op("ADDQ", "$64", "SI")
	fn.op("DECQ", "CX")
	fn.op("JNZ", "loop")
	fn.label("done")
	for i := range 4 {
		fn.op("VMOVUPD", y(i), mem(32*i, "DI"))
	}
	fn.end()
}

// lanesLoop writes a loop over CX elements from AX = 0, 8 at a time, the last
// ones under a mask in maskReg; body's argument says whether the mask counts.
func lanesLoop(fn *function, name string, body func(masked bool)) {
	fn.op("XORQ", "AX", "AX")
	fn.label(name)
	fn.op("CMPQ", "CX", "$8")
	fn.op("JLT", name+"last")
	body(false)
	fn.op("ADDQ", "$8", "AX")
	fn.op("SUBQ", "$8", "CX")
	fn.op("JMP", name)
	fn.label(name + "last")
	fn.op("TESTQ", "CX", "CX")
	fn.op("JLE", name+"done")
	fn.op("LEAQ", fn.file.window(), "R12")
	fn.op("NEGQ", "CX")
	fn.op("VMOVUPS", "32(R12)(CX*4)", maskReg)
	body(true)
	fn.label(name + "done")
}

// eachWindow repeats body for every window and for 16 of its channels, 8, or,
// under a mask, the last few: body works on so many vectors, the channels from
// AX on. Y13 holds what is added to the numbers of the window's elements. advance
// steps to the next window.
func eachWindow(fn *function, body func(name string, vectors int, masked bool), advance func()) {
	fn.op("VPXOR", "Y13", "Y13", "Y13")
	fn.label("window")
	fn.op("XORQ", "AX", "AX")
	fn.load("channels", "CX")
	for _, v := range []struct {
		name, next string
		vectors    int
	}{{"wide", "narrow", 2}, {"narrow", "last", 1}} {
		fn.label(v.name)
		fn.op("CMPQ", "CX", imm(8*v.vectors))
		fn.op("JLT", v.next)
		body(v.name, v.vectors, false)
		fn.op("ADDQ", imm(8*v.vectors), "AX")
		fn.op("SUBQ", imm(8*v.vectors), "CX")
		fn.op("JMP", v.name)
	}
	fn.label("last")
	fn.op("TESTQ", "CX", "CX")
	fn.op("JLE", "next")
	fn.op("LEAQ", fn.file.window(), "R12")
	fn.op("NEGQ", "CX")
	fn.op("VMOVUPS", "32(R12)(CX*4)", maskReg)
	body("last", 1, true)
	fn.label("next")
	fn.load("channels", "CX", "step", "R8")
	fn.op("VPBROADCASTD", fn.arg("next"), "Y0")
	fn.op("VPADDD", "Y0", "Y13", "Y13")
	advance()
	fn.op("DECQ", fn.arg("n"))
	fn.op("JNZ", "window")
	fn.end()
}

// move copies a vector between a register and memory, under the mask if need be.
func move(fn *function, masked bool, from, to string) {
	if masked {
		fn.op("VMASKMOVPS", from, maskReg, to)
	} else {
		fn.op("VMOVUPS", from, to)
	}
}

// maxTaps keeps the largest elements so far and their numbers in registers.
func maxTaps(f *file) {
	fn := f.begin("maxTapsAVX2", "n int, at []int32, top, image []float32, taps []int32, channels, step, next int",
		"is MaxTaps.")
	fn.load("at_base", "DI", "top_base", "R13", "image_base", "SI", "taps_base", "DX")
	fn.op("SHRQ", "$1", fn.arg("taps_len"))
	eachWindow(fn, func(name string, vectors int, masked bool) {
		load := func(first int) {
			fn.op("MOVLQSX", "(R8)", "R10")
			fn.op("LEAQ", "(SI)(R10*4)", "R11")
			for i := range vectors {
				move(fn, masked, mem(32*i, "R11")+"(AX*4)", y(first+i))
			}
		}
		fn.op("MOVQ", "DX", "R8")
		fn.load("taps_len", "R9")
		load(0)
		for i := range vectors {
			fn.op("VPBROADCASTD", "4(R8)", y(2+i))
		}
		fn.label(name + "tap")
		fn.op("ADDQ", "$8", "R8")
		fn.op("DECQ", "R9")
		fn.op("JZ", name+"store")
		load(4)
		fn.op("VPBROADCASTD", "4(R8)", "Y6")
		for i := range vectors {
			top, at, v, more, first := y(i), y(2+i), y(4+i), y(7+i), y(9+i)
			fn.op("VCMPPS", notLessEqual, top, v, more) // larger, or one of them is NaN
			fn.op("VCMPPS", ordered, top, top, first)   // but the first NaN stays
			fn.op("VANDPS", first, more, more)
			fn.op("VBLENDVPS", more, v, top, top)
			fn.op("VBLENDVPS", more, "Y6", at, at)
		}
		fn.op("JMP", name+"tap")
		fn.label(name + "store")
		for i := range vectors {
			fn.op("VPADDD", "Y13", y(2+i), y(2+i))
			move(fn, masked, y(2+i), mem(32*i, "DI")+"(AX*4)")
		}
		fn.op("TESTQ", "R13", "R13")
		fn.op("JZ", name+"done")
		for i := range vectors {
			move(fn, masked, y(i), mem(32*i, "R13")+"(AX*4)")
		}
		fn.label(name + "done")
	}, func() {
		fn.op("LEAQ", "(SI)(R8*4)", "SI")
		fn.op("LEAQ", "(DI)(CX*4)", "DI")
		fn.op("LEAQ", "(R13)(CX*4)", "R8")
		fn.op("TESTQ", "R13", "R13")
		fn.op("CMOVQNE", "R8", "R13")
	})
}

// spreadTaps writes the elements of windows.
func spreadTaps(f *file) {
	fn := f.begin("spreadTapsAVX2", "n int, image, v []float32, at, taps []int32, channels, step, next int", "is SpreadTaps.")
	fn.load("image_base", "DI", "v_base", "SI", "at_base", "DX", "taps_base", "R13")
	fn.op("SHRQ", "$1", fn.arg("taps_len"))
	eachWindow(fn, func(name string, vectors int, masked bool) {
		for i := range vectors {
			move(fn, masked, mem(32*i, "SI")+"(AX*4)", y(i))
			move(fn, masked, mem(32*i, "DX")+"(AX*4)", y(2+i))
			fn.op("VPSUBD", "Y13", y(2+i), y(2+i))
		}
		fn.op("MOVQ", "R13", "R8")
		fn.load("taps_len", "R9")
		fn.label(name + "tap")
		fn.op("MOVLQSX", "(R8)", "R10")
		fn.op("LEAQ", "(DI)(R10*4)", "R11")
		fn.op("VPBROADCASTD", "4(R8)", "Y4")
		for i := range vectors {
			fn.op("VPCMPEQD", y(2+i), "Y4", y(5+i))
			fn.op("VANDPS", y(i), y(5+i), y(5+i))
			move(fn, masked, y(5+i), mem(32*i, "R11")+"(AX*4)")
		}
		fn.op("ADDQ", "$8", "R8")
		fn.op("DECQ", "R9")
		fn.op("JNZ", name+"tap")
	}, func() {
		fn.op("LEAQ", "(DI)(R8*4)", "DI")
		fn.op("LEAQ", "(SI)(CX*4)", "SI")
		fn.op("LEAQ", "(DX)(CX*4)", "DX")
	})
}

// gatherRows looks eight channels up at a time.
func gatherRows(f *file) {
	fn := f.begin("gatherRowsAVX2", "dst []uint32, at []int32, src []uint32, columns, limit int",
		"is gatherRows for rows of so many columns; limit is the\n// largest index.")
	fn.load("dst_base", "DI", "dst_len", "R8", "at_base", "SI", "src_base", "DX", "columns", "BX")
	fn.op("VPBROADCASTD", fn.arg("limit"), "Y13")
	fn.op("VPBROADCASTD", fn.arg("columns"), "Y12")
	fn.op("VPXOR", "Y11", "Y11", "Y11")
	fn.label("row")
	fn.op("TESTQ", "R8", "R8")
	fn.op("JLE", "end")
	fn.op("MOVQ", "BX", "CX")
	fn.op("VMOVDQU", f.sequence(), "Y10")
	lanesLoop(fn, "channel", func(masked bool) {
		if masked {
			fn.op("VMASKMOVPS", "(SI)(AX*4)", maskReg, "Y0")
			fn.op("VMOVDQU", maskReg, "Y2")
		} else {
			fn.op("VMOVDQU", "(SI)(AX*4)", "Y0")
			fn.op("VPCMPEQD", "Y2", "Y2", "Y2")
		}
		fn.op("VPMAXSD", "Y11", "Y0", "Y0")
		fn.op("VPMINSD", "Y13", "Y0", "Y0")
		fn.op("VPMULLD", "Y12", "Y0", "Y0")
		fn.op("VPADDD", "Y10", "Y0", "Y0")
		fn.op("VPGATHERDD", "Y2", "(DX)(Y0*4)", "Y1")
		fn.op("VPADDD", f.bits(8), "Y10", "Y10")
		if masked {
			fn.op("VMASKMOVPS", "Y1", maskReg, "(DI)(AX*4)")
		} else {
			fn.op("VMOVDQU", "Y1", "(DI)(AX*4)")
		}
	})
	fn.op("LEAQ", "(DI)(BX*4)", "DI")
	fn.op("LEAQ", "(SI)(BX*4)", "SI")
	fn.op("SUBQ", "BX", "R8")
	fn.op("JMP", "row")
	fn.label("end")
	fn.end()
}
