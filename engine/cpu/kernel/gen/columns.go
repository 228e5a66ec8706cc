package main

// columns writes the kernels of tensors whose last axis, the channels, is long:
// one lane a channel.
func columns(f *file) {
	addColumns(f)
	addWide(f)
	argMaxTaps(f)
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

// argMaxTaps compares the elements of a window, eight channels at a time.
func argMaxTaps(f *file) {
	fn := f.begin("argMaxTapsAVX2", "dst []int32, src []float32, taps []int32", "is argMaxTaps.")
	fn.load("dst_base", "DI", "dst_len", "CX", "src_base", "SI", "taps_base", "DX", "taps_len", "BX")
	fn.op("SHRQ", "$1", "BX")
	lanesLoop(fn, "channel", func(masked bool) {
		more, done := "tap", "store"
		if masked {
			more, done = "taplast", "storelast"
		}
		load := func(to string) {
			fn.op("MOVLQSX", "(R8)", "R10")
			fn.op("LEAQ", "(SI)(R10*4)", "R11")
			if masked {
				fn.op("VMASKMOVPS", "(R11)(AX*4)", maskReg, to)
			} else {
				fn.op("VMOVUPS", "(R11)(AX*4)", to)
			}
		}
		fn.op("MOVQ", "DX", "R8")
		fn.op("MOVQ", "BX", "R9")
		load("Y0")
		fn.op("VPBROADCASTD", "4(R8)", "Y1")
		fn.label(more)
		fn.op("ADDQ", "$8", "R8")
		fn.op("DECQ", "R9")
		fn.op("JZ", done)
		load("Y2")
		fn.op("VPBROADCASTD", "4(R8)", "Y3")
		fn.op("VCMPPS", notLessEqual, "Y0", "Y2", "Y4") // larger, or one of them is NaN
		fn.op("VCMPPS", ordered, "Y0", "Y0", "Y5")      // but the first NaN stays
		fn.op("VANDPS", "Y5", "Y4", "Y4")
		fn.op("VBLENDVPS", "Y4", "Y2", "Y0", "Y0")
		fn.op("VBLENDVPS", "Y4", "Y3", "Y1", "Y1")
		fn.op("JMP", more)
		fn.label(done)
		if masked {
			fn.op("VMASKMOVPS", "Y1", maskReg, "(DI)(AX*4)")
		} else {
			fn.op("VMOVUPS", "Y1", "(DI)(AX*4)")
		}
	})
	fn.end()
}

// spreadTaps writes the elements of a window, eight channels at a time.
func spreadTaps(f *file) {
	fn := f.begin("spreadTapsAVX2", "dst, v []float32, at, taps []int32", "is spreadTaps.")
	fn.load("dst_base", "DI", "v_base", "SI", "v_len", "CX", "at_base", "DX", "taps_base", "R13", "taps_len", "BX")
	fn.op("SHRQ", "$1", "BX")
	lanesLoop(fn, "channel", func(masked bool) {
		more := "tap"
		if masked {
			more = "taplast"
			fn.op("VMASKMOVPS", "(SI)(AX*4)", maskReg, "Y0")
			fn.op("VMASKMOVPS", "(DX)(AX*4)", maskReg, "Y1")
		} else {
			fn.op("VMOVUPS", "(SI)(AX*4)", "Y0")
			fn.op("VMOVUPS", "(DX)(AX*4)", "Y1")
		}
		fn.op("MOVQ", "R13", "R8")
		fn.op("MOVQ", "BX", "R9")
		fn.label(more)
		fn.op("MOVLQSX", "(R8)", "R10")
		fn.op("LEAQ", "(DI)(R10*4)", "R11")
		fn.op("VPBROADCASTD", "4(R8)", "Y2")
		fn.op("VPCMPEQD", "Y1", "Y2", "Y2")
		fn.op("VANDPS", "Y0", "Y2", "Y2")
		if masked {
			fn.op("VMASKMOVPS", "Y2", maskReg, "(R11)(AX*4)")
		} else {
			fn.op("VMOVUPS", "Y2", "(R11)(AX*4)")
		}
		fn.op("ADDQ", "$8", "R8")
		fn.op("DECQ", "R9")
		fn.op("JNZ", more)
	})
	fn.end()
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
