package main

import "fmt"

// panelWidth is kernel.Lanes.
const panelWidth = 16

func conv(f *file) {
	for h := 1; h <= f.rows; h++ {
		gather(f, h)
	}
	transformRows(f, "winogradInput", 6, 6, inputTransform, "input")
	transformRows(f, "winogradDelta", 4, 6, deltaTransform, "delta")
	winogradOutput(f, "winogradOutput", 6, outputTransform, "output")
	transformRows(f, "winogradInput5", 8, 8, inputTransform5, "input, of F(4×4,5×5)")
	transformRows(f, "winogradDelta5", 4, 8, deltaTransform5, "delta, of F(4×4,5×5)")
	winogradOutput(f, "winogradOutput5", 8, outputTransform5, "output, of F(4×4,5×5)")
	winogradFilter(f)
	winogradFilterGrad(f)
	if !f.wide() { // four lanes at most
		for channels := 1; channels <= 4; channels++ {
			fold(f, channels)
		}
	}
}

// nextBlock is how far ahead of its use a filter is fetched into the second-level
// cache, in bytes: a block of kernel.maxSegment elements, which the rows of one
// call share. It comes from memory while the block before it is multiplied.
const nextBlock = 384 * panelWidth * 4

// gather finds the rows of A and of C through tables. The arguments that
// change from group to group are kept up to date in their places.
//
// With 256 bits, the two vectors of B are the halves of a panel; with 512, they
// are two panels.
func gather(f *file, h int) {
	fn := f.begin(fmt.Sprintf("gather%d%s", h, f.suffix), "n, width, stride int, starts, offs, to []int, a, b, c []float32, nextB, nextC, cols, beta int",
		fmt.Sprintf("is micro.gathers[%d].", h))
	second := mem(f.bytes(), "BX")
	if f.wide() {
		second = "(BX)(DX*1)"
		fn.load("nextB", "DX")
		fn.op("SHLQ", "$2", "DX")
	}
	fn.load("stride", "DI")
	fn.op("SHLQ", "$2", "DI")
	fn.label("group")
	fn.load("offs_base", "SI", "a_base", "BX", "starts_base", "R8", "starts_len", "R9")
	fn.op("MOVQ", "R9", fn.arg("offs_len")) // segments to go
	fn.op("MOVQ", "(SI)", "AX")
	fn.op("LEAQ", "(BX)(AX*4)", "BX")
	fn.op("MOVQ", "BX", fn.arg("a_len"))                                // row 0
	offs := []string{"", "R9", "R10", "R11", "R12", "R13", "R14", "SI"} // of rows 1, 2, … from row 0
	if h < len(offs) {
		offs[h-1] = "SI" // the last to be read, behind what it points to
	}
	for r := 1; r < h; r++ {
		fn.op("MOVQ", mem(8*r, "SI"), offs[r])
		fn.op("SUBQ", "AX", offs[r])
		fn.op("SHLQ", "$2", offs[r])
	}
	fn.load("b_base", "BX")
	zero(fn, h)
	fn.label("segment")
	fn.op("MOVQ", "(R8)", "AX")
	fn.op("SHLQ", "$2", "AX")
	fn.op("ADDQ", fn.arg("a_len"), "AX")
	fn.load("width", "CX")
	fn.label("loop")
	step(fn, h, "(BX)", second, func(r int) string {
		if r == 0 {
			return "(AX)"
		}
		return idx(0, "AX", offs[r], 1)
	})
	fn.op("PREFETCHT1", mem(nextBlock, "BX"))
	if f.wide() {
		fn.op("PREFETCHT1", idx(nextBlock, "BX", "DX", 1))
	}
	fn.op("ADDQ", imm(panelWidth*4), "BX")
	fn.op("ADDQ", "DI", "AX")
	fn.op("DECQ", "CX")
	fn.op("JNZ", "loop")
	fn.op("ADDQ", "$8", "R8")
	fn.op("DECQ", fn.arg("offs_len"))
	fn.op("JNZ", "segment")

	fn.load("to_base", "SI", "c_base", "R8", "cols", "CX")
	if f.wide() {
		storeMasked(fn, h)
	} else {
		storeHalves(fn, h)
	}
	fn.label("next")
	fn.op("ADDQ", imm(8*h), fn.arg("offs_base"))
	fn.op("ADDQ", imm(8*h), fn.arg("to_base"))
	fn.op("DECQ", fn.arg("n"))
	fn.op("JNZ", "group")
	fn.end()
	if !f.wide() {
		storePart(fn, h)
	}
}

// toRow finds a row of C.
func toRow(fn *function, r int) {
	fn.op("MOVQ", mem(8*r, "SI"), "AX")
	fn.op("LEAQ", "(R8)(AX*4)", "AX")
}

// storeMasked masks columns: the first panel's by K1, the second's by K2.
func storeMasked(fn *function, h int) {
	fn.op("MOVQ", "$1", "AX")
	fn.op("SHLQ", "CX", "AX")
	fn.op("DECQ", "AX")
	fn.op("KMOVW", "AX", "K1")
	fn.op("SHRQ", "$16", "AX")
	fn.op("KMOVW", "AX", "K2")
	fn.load("nextC", "R9")
	fn.op("CMPQ", fn.arg("beta"), "$0")
	fn.op("JEQ", "store")
	for r := range h {
		toRow(fn, r)
		fn.op("VADDPS", "(AX)", y(2*r), "K1", y(2*r))
		fn.op("VADDPS", "(AX)(R9*4)", y(2*r+1), "K2", y(2*r+1))
	}
	fn.label("store")
	for r := range h {
		toRow(fn, r)
		fn.op("VMOVUPS", y(2*r), "K1", "(AX)")
		fn.op("VMOVUPS", y(2*r+1), "K2", "(AX)(R9*4)")
	}
}

// storeHalves leaves panels with an edge to storePart.
func storeHalves(fn *function, h int) {
	fn.op("CMPQ", "CX", imm(panelWidth))
	fn.op("JLT", "part")
	fn.op("CMPQ", fn.arg("beta"), "$0")
	fn.op("JEQ", "store")
	for r := range h {
		toRow(fn, r)
		fn.op("VADDPS", "(AX)", y(2*r), y(2*r))
		fn.op("VADDPS", "32(AX)", y(2*r+1), y(2*r+1))
	}
	fn.label("store")
	for r := range h {
		toRow(fn, r)
		fn.op("VMOVUPS", y(2*r), "(AX)")
		fn.op("VMOVUPS", y(2*r+1), "32(AX)")
	}
}

// storePart stores some of the columns: Y12 and Y13 are masks of the first and
// the last eight.
func storePart(fn *function, h int) {
	fn.label("part")
	fn.op("XORQ", "BX", "BX")
	fn.op("MOVQ", "CX", "AX")
	fn.op("SUBQ", "$8", "AX")
	fn.op("CMOVQLT", "BX", "AX")
	fn.op("SUBQ", "AX", "CX")
	fn.op("LEAQ", fn.file.window(), "BX")
	for i, n := range []string{"CX", "AX"} {
		fn.op("NEGQ", n)
		fn.op("VMOVUPS", idx(32, "BX", n, 4), y(12+i))
	}
	fn.op("CMPQ", fn.arg("beta"), "$0")
	fn.op("JEQ", "storepart")
	for r := range h {
		toRow(fn, r)
		fn.op("VMASKMOVPS", "(AX)", "Y12", "Y14")
		fn.op("VMASKMOVPS", "32(AX)", "Y13", "Y15")
		fn.op("VADDPS", "Y14", y(2*r), y(2*r))
		fn.op("VADDPS", "Y15", y(2*r+1), y(2*r+1))
	}
	fn.label("storepart")
	for r := range h {
		toRow(fn, r)
		fn.op("VMASKMOVPS", y(2*r), "Y12", "(AX)")
		fn.op("VMASKMOVPS", y(2*r+1), "Y13", "32(AX)")
	}
	fn.op("JMP", "next")
}

// The transforms of Winograd's F(4×4,3×3) and F(4×4,5×5) (Lavin and Gray, "Fast
// algorithms for convolutional neural networks", CVPR 2016) work on one vector
// of channels at a time.

// transform is a one-dimensional transform of vectors in Y0, Y1, …. Its body
// tells out the register of each result, which must be stored at once; c is the
// operand of a constant, to be read first in an instruction.
type transform struct {
	constants []float32 // the most used ones first
	body      func(fn *function, c func(v float32) string, out func(i int, reg string))
}

// constantRegs is how many constants 16 registers have room for.
const constantRegs = 5

// begin loads what constants there are registers for. The others are read from
// memory, where there is no other register.
func (t transform) begin(fn *function) func(v float32) string {
	place := map[float32]string{}
	for i, v := range t.constants {
		switch {
		case fn.file.wide():
			place[v] = y(16 + i)
			fn.constant(v, place[v])
		case i < constantRegs:
			place[v] = y(15 - i)
			fn.constant(v, place[v])
		default:
			place[v] = fn.file.float(v)
		}
	}
	return func(v float32) string {
		if place[v] == "" {
			panic(fmt.Sprint("gen: no constant ", v))
		}
		return place[v]
	}
}

// inputTransform is Bᵀ: 6 in, 6 out.
var inputTransform = transform{[]float32{4, 5, 2}, func(fn *function, c func(v float32) string, out func(i int, reg string)) {
	fn.op("VMOVAPS", "Y4", "Y6") // 4·d0 - 5·d2 + d4
	fn.op("VFNMADD231PS", c(5), "Y2", "Y6")
	fn.op("VFMADD231PS", c(4), "Y0", "Y6")
	out(0, "Y6")
	fn.op("VFNMADD231PS", c(5), "Y3", "Y5") // 4·d1 - 5·d3 + d5
	fn.op("VFMADD231PS", c(4), "Y1", "Y5")
	out(5, "Y5")
	fn.op("VMOVAPS", "Y4", "Y7") // d4 - 4·d2
	fn.op("VFNMADD231PS", c(4), "Y2", "Y7")
	fn.op("VMOVAPS", "Y3", "Y8") // d3 - 4·d1
	fn.op("VFNMADD231PS", c(4), "Y1", "Y8")
	sumDifference(fn, "Y7", "Y8", 1, 2, out)
	fn.op("VSUBPS", "Y2", "Y4", "Y4") // d4 - d2
	fn.op("VSUBPS", "Y1", "Y3", "Y3") // d3 - d1
	fn.op("VMOVAPS", "Y4", "Y9")
	fn.op("VFMADD231PS", c(2), "Y3", "Y9")
	out(3, "Y9")
	fn.op("VFNMADD231PS", c(2), "Y3", "Y4")
	out(4, "Y4")
}}

// inputTransform5 is Bᵀ of F(4,5): 8 in, 8 out.
var inputTransform5 = transform{[]float32{4.25, 2.5, 5.25, 0.5, 2, 0.25, 1.25, 4, 5}, func(fn *function, c func(v float32) string, out func(i int, reg string)) {
	for _, end := range []struct{ d, less, plus, minus, i int }{{7, 1, 3, 5, 7}, {6, 0, 2, 4, 0}} {
		to := "Y7" // d7 - d1 + 5.25·(d3 - d5), then d6 - d0 + 5.25·(d2 - d4)
		if end.i == 0 {
			to = "Y0"
		}
		fn.op("VSUBPS", y(end.less), y(end.d), to)
		fn.op("VSUBPS", y(end.minus), y(end.plus), "Y8")
		fn.op("VFMADD231PS", c(5.25), "Y8", to)
		out(end.i, to)
	}
	for i, pair := range []struct{ d2, d4, d1, d3, d5 float32 }{{1, 4.25, 1, 4.25, 1}, {0.25, 1.25, 0.5, 2.5, 2}, {4, 5, 2, 2.5, 0.5}} {
		if pair.d2 == 1 {
			fn.op("VADDPS", "Y6", "Y2", "Y7")
			fn.op("VADDPS", "Y5", "Y1", "Y0")
		} else {
			fn.op("VMOVAPS", "Y6", "Y7")
			fn.op("VFMADD231PS", c(pair.d2), "Y2", "Y7")
			fn.op("VMULPS", c(pair.d1), "Y1", "Y0")
			fn.op("VFMADD231PS", c(pair.d5), "Y5", "Y0")
		}
		fn.op("VFNMADD231PS", c(pair.d4), "Y4", "Y7")
		fn.op("VFNMADD231PS", c(pair.d3), "Y3", "Y0")
		sumDifference(fn, "Y7", "Y0", 1+2*i, 2+2*i, out)
	}
}}

// sumDifference gives out a + b as result i and a - b as result j.
func sumDifference(fn *function, a, b string, i, j int, out func(i int, reg string)) {
	fn.op("VADDPS", b, a, "Y9")
	out(i, "Y9")
	fn.op("VSUBPS", b, a, "Y10")
	out(j, "Y10")
}

// deltaTransform is A: 4 in, 6 out.
var deltaTransform = transform{[]float32{4, 8, 2}, func(fn *function, c func(v float32) string, out func(i int, reg string)) {
	out(5, "Y3")
	deltaPairs(fn, c, out)
}}

// deltaTransform5 is A of F(4,5): 4 in, 8 out.
var deltaTransform5 = transform{[]float32{4, 8, 2, 0.5, 0.25, 0.125}, func(fn *function, c func(v float32) string, out func(i int, reg string)) {
	out(7, "Y3")
	fn.op("VMOVAPS", "Y0", "Y6") // d0 + d2/4
	fn.op("VFMADD231PS", c(0.25), "Y2", "Y6")
	fn.op("VMULPS", c(0.5), "Y1", "Y7") // d1/2 + d3/8
	fn.op("VFMADD231PS", c(0.125), "Y3", "Y7")
	sumDifference(fn, "Y6", "Y7", 5, 6, out)
	deltaPairs(fn, c, out)
}}

// deltaPairs gives results 0 to 4 of both.
func deltaPairs(fn *function, c func(v float32) string, out func(i int, reg string)) {
	out(0, "Y0")
	fn.op("VADDPS", "Y2", "Y0", "Y6")
	fn.op("VADDPS", "Y3", "Y1", "Y7")
	sumDifference(fn, "Y6", "Y7", 1, 2, out)
	fn.op("VFMADD231PS", c(4), "Y2", "Y0") // d0 + 4·d2
	fn.op("VMULPS", c(2), "Y1", "Y1")      // 2·d1 + 8·d3
	fn.op("VFMADD231PS", c(8), "Y3", "Y1")
	sumDifference(fn, "Y0", "Y1", 3, 4, out)
}

// outputTransform is Aᵀ: 6 in, 4 out.
var outputTransform = transform{[]float32{4, 8, 2}, func(fn *function, c func(v float32) string, out func(i int, reg string)) {
	fn.op("VADDPS", "Y2", "Y1", "Y6")
	fn.op("VSUBPS", "Y2", "Y1", "Y7")
	fn.op("VADDPS", "Y4", "Y3", "Y8")
	fn.op("VSUBPS", "Y4", "Y3", "Y9")
	fn.op("VADDPS", "Y6", "Y0", "Y0")
	fn.op("VADDPS", "Y8", "Y0", "Y0")
	out(0, "Y0")
	fn.op("VADDPS", "Y7", "Y5", "Y5")
	fn.op("VFMADD231PS", c(8), "Y9", "Y5")
	out(3, "Y5")
	fn.op("VFMADD231PS", c(2), "Y9", "Y7")
	out(1, "Y7")
	fn.op("VFMADD231PS", c(4), "Y8", "Y6")
	out(2, "Y6")
}}

// outputTransform5 is Aᵀ of F(4,5): 8 in, 4 out.
var outputTransform5 = transform{[]float32{8, 4, 2, 0.5, 0.25, 0.125}, func(fn *function, c func(v float32) string, out func(i int, reg string)) {
	fn.op("VADDPS", "Y2", "Y1", "Y8") // sums in Y8, Y2, Y4, differences in Y1, Y3, Y5
	fn.op("VSUBPS", "Y2", "Y1", "Y1")
	fn.op("VADDPS", "Y4", "Y3", "Y2")
	fn.op("VSUBPS", "Y4", "Y3", "Y3")
	fn.op("VADDPS", "Y6", "Y5", "Y4")
	fn.op("VSUBPS", "Y6", "Y5", "Y5")
	fn.op("VADDPS", "Y8", "Y0", "Y0")
	fn.op("VADDPS", "Y4", "Y2", "Y6")
	fn.op("VADDPS", "Y6", "Y0", "Y0")
	out(0, "Y0")
	fn.op("VADDPS", "Y1", "Y7", "Y7")
	fn.op("VFMADD231PS", c(8), "Y3", "Y7")
	fn.op("VFMADD231PS", c(0.125), "Y5", "Y7")
	out(3, "Y7")
	fn.op("VFMADD231PS", c(2), "Y3", "Y1")
	fn.op("VFMADD231PS", c(0.5), "Y5", "Y1")
	out(1, "Y1")
	fn.op("VFMADD231PS", c(4), "Y2", "Y8")
	fn.op("VFMADD231PS", c(0.25), "Y4", "Y8")
	out(2, "Y8")
}}

// filterTransform is G: 3 in Y0 … Y2, 6 out. Y11 … Y15 are 1/4, -1/6, 1/24,
// 1/12, 1/6.
func filterTransform(fn *function, out func(i int, reg string)) {
	fn.op("VMULPS", "Y0", "Y11", "Y3")
	out(0, "Y3")
	out(5, "Y2")
	fn.op("VADDPS", "Y2", "Y0", "Y3")
	fn.op("VADDPS", "Y1", "Y3", "Y4")
	fn.op("VMULPS", "Y4", "Y12", "Y4")
	out(1, "Y4")
	fn.op("VSUBPS", "Y1", "Y3", "Y4")
	fn.op("VMULPS", "Y4", "Y12", "Y4")
	out(2, "Y4")
	fn.op("VMULPS", "Y0", "Y13", "Y0")
	fn.op("VFMADD231PS", "Y2", "Y15", "Y0")
	fn.op("VMULPS", "Y1", "Y14", "Y1")
	sumDifference(fn, "Y0", "Y1", 3, 4, out)
}

// filterGradTransform is Gᵀ: 6 in Y0 … Y5, 3 out, constants as above.
func filterGradTransform(fn *function, out func(i int, reg string)) {
	fn.op("VADDPS", "Y2", "Y1", "Y6")
	fn.op("VSUBPS", "Y1", "Y2", "Y7")
	fn.op("VADDPS", "Y4", "Y3", "Y8")
	fn.op("VSUBPS", "Y4", "Y3", "Y9")
	fn.op("VMULPS", "Y0", "Y11", "Y0")
	fn.op("VFMADD231PS", "Y6", "Y12", "Y0")
	fn.op("VFMADD231PS", "Y8", "Y13", "Y0")
	out(0, "Y0")
	fn.op("VMULPS", "Y7", "Y15", "Y7")
	fn.op("VFMADD231PS", "Y9", "Y14", "Y7")
	out(1, "Y7")
	fn.op("VFMADD231PS", "Y6", "Y12", "Y5")
	fn.op("VFMADD231PS", "Y8", "Y15", "Y5")
	out(2, "Y5")
}

// workspace aligns DX inside the frame, which has 63 bytes to spare.
func workspace(fn *function) {
	fn.op("LEAQ", "0(SP)", "DX")
	fn.op("ADDQ", "$63", "DX")
	fn.op("ANDQ", "$-64", "DX")
}

func (s isa) frame(vectors int) int { return vectors*s.bytes() + 64 }

// eachPanel repeats body for all vectors of every panel: body works on the
// lanes at dst, and the other pointers move by advance.
func eachPanel(fn *function, dst, panelStride string, body, advance func()) {
	fn.op("SHLQ", "$2", fn.arg(panelStride))
	if fn.file.wide() {
		fn.label("panel")
		body()
		advance()
		fn.op("ADDQ", fn.arg(panelStride), dst)
		fn.op("DECQ", fn.arg("panels"))
		fn.op("JNZ", "panel")
		fn.end()
		return
	}
	fn.op("SUBQ", "$32", fn.arg(panelStride)) // what is left after the first half
	fn.op("SHLQ", "$1", fn.arg("panels"))
	fn.label("half")
	body()
	advance()
	fn.op("MOVQ", "$32", "AX")
	fn.op("DECQ", fn.arg("panels"))
	fn.op("TESTQ", "$1", fn.arg("panels"))
	fn.op("CMOVQEQ", fn.arg(panelStride), "AX")
	fn.op("ADDQ", "AX", dst)
	fn.op("CMPQ", fn.arg("panels"), "$0")
	fn.op("JNE", "half")
	fn.end()
}

// transformRows writes a transform from n×n pixels, some of which may lie outside
// of the image, to side×side points. What six registers do not hold of the rows'
// pointers lies behind the workspace.
func transformRows(f *file, name string, n, side int, t transform, doc string) {
	fn := f.beginFrame(name+f.suffix, "panels int, rows []int, mask, step int, x, zero, dst []float32, pointStride, panelStride int",
		"is winogradTransforms."+doc+".", f.frame(side*n)+8*n)
	c := t.begin(fn)
	workspace(fn)
	fn.load("rows_base", "SI", "x_base", "AX", "zero_base", "CX", "dst_base", "DI")
	held := []string{"R8", "R9", "R10", "R11", "R12", "R13"}
	slot := func(r int) string { return mem(side*n*f.bytes()+8*r, "DX") }
	for r := range n {
		reg := held[r%len(held)]
		fn.op("MOVQ", mem(8*r, "SI"), "R14")
		fn.op("LEAQ", "(AX)(R14*4)", reg)
		fn.op("CMPQ", "R14", imm(outside))
		fn.op("CMOVQEQ", "CX", reg)
		if n > len(held) {
			fn.op("MOVQ", reg, slot(r))
		}
	}
	fn.load("pointStride", "SI", "mask", "BX")
	fn.op("SHLQ", "$2", "SI")
	fn.op("SHLQ", "$2", fn.arg("step"))
	eachPanel(fn, "DI", "panelStride", func() {
		fn.op("XORQ", "CX", "CX")
		for j := range n {
			fn.op("BTQ", imm(j), "BX")
			fn.op("JCC", fmt.Sprintf("outside%d", j))
			for r := range n {
				reg := held[r%len(held)]
				if n > len(held) {
					fn.op("MOVQ", slot(r), reg)
				}
				fn.op("VMOVUPS", idx(0, reg, "CX", 1), y(r))
			}
			t.body(fn, c, func(i int, reg string) { fn.op("VMOVUPS", reg, mem((i*n+j)*f.bytes(), "DX")) })
			fn.label(fmt.Sprintf("column%d", j))
			if j < n-1 {
				fn.op("ADDQ", fn.arg("step"), "CX")
			}
		}
		fn.op("MOVQ", "DI", "AX")
		fn.op("LEAQ", "(SI)(SI*2)", "CX") // 3 points
		for i := range side {
			fn.op("LEAQ", "(AX)(SI*4)", "R14") // point 4
			for j := range n {
				fn.op("VMOVUPS", mem((i*n+j)*f.bytes(), "DX"), y(j))
			}
			t.body(fn, c, func(j int, reg string) { fn.op("VMOVUPS", reg, eighth(j, "AX", "R14", "SI", "CX")) })
			if side == 6 {
				fn.op("LEAQ", "(AX)(CX*2)", "AX")
			} else {
				fn.op("LEAQ", "(AX)(SI*8)", "AX")
			}
		}
	}, func() {
		for r := range n {
			if n > len(held) {
				fn.op("ADDQ", imm(f.bytes()), slot(r))
			} else {
				fn.op("ADDQ", imm(f.bytes()), held[r])
			}
		}
	})
	for j := range n {
		fn.label(fmt.Sprintf("outside%d", j))
		fn.op("VXORPS", "Y0", "Y0", "Y0")
		for i := range side {
			fn.op("VMOVUPS", "Y0", mem((i*n+j)*f.bytes(), "DX"))
		}
		fn.op("JMP", fmt.Sprintf("column%d", j))
	}
}

// outside marks a row that lies outside of the image: kernel.outside.
const outside = -1 << 31

// eighth is the operand of element i of eight: the first is at base, the fifth at
// fifth, stride apart; triple is three strides.
func eighth(i int, base, fifth, stride, triple string) string {
	at := base
	if i >= 4 {
		at = fifth
	}
	switch i % 4 {
	case 0:
		return mem(0, at)
	case 3:
		return idx(0, at, triple, 1)
	}
	return idx(0, at, stride, i%4)
}

// loadColumn loads the points of a column from AX on, a row of points (R8) apart;
// BX is three rows.
func loadColumn(fn *function, side int) {
	fn.op("LEAQ", "(AX)(R8*4)", "R9")
	for i := range side {
		fn.op("VMOVUPS", eighth(i, "AX", "R9", "R8", "BX"), y(i))
	}
}

// rowOfPoints sets R8 to a row of points, SI apart, and BX to three.
func rowOfPoints(fn *function, side int) {
	fn.op("IMUL3Q", imm(side), "SI", "R8")
	fn.op("LEAQ", "(R8)(R8*2)", "BX")
}

// winogradOutput writes a transform from side×side points to the first rows and
// columns of 4×4 pixels.
func winogradOutput(f *file, name string, side int, t transform, doc string) {
	const n = 4
	fn := f.beginFrame(name+f.suffix, "panels int, src []float32, pointStride, panelStride int, dst []float32, rowStride, step, height, width int",
		"is winogradTransforms."+doc+".", f.frame(n*side))
	c := t.begin(fn)
	fn.load("src_base", "R12", "pointStride", "SI", "dst_base", "R13", "step", "R10", "width", "CX")
	workspace(fn)
	fn.op("SHLQ", "$2", "SI")
	fn.op("SHLQ", "$2", "R10")
	fn.op("SHLQ", "$2", fn.arg("rowStride"))
	fn.op("LEAQ", "(R10)(R10*2)", "R11")
	rowOfPoints(fn, side)
	eachPanel(fn, "R12", "panelStride", func() {
		fn.op("MOVQ", "R12", "AX")
		for j := range side {
			loadColumn(fn, side)
			t.body(fn, c, func(i int, reg string) { fn.op("VMOVUPS", reg, mem((i*side+j)*f.bytes(), "DX")) })
			fn.op("ADDQ", "SI", "AX")
		}
		fn.op("MOVQ", "R13", "DI")
		for i := range n {
			if i > 0 {
				fn.op("CMPQ", fn.arg("height"), imm(i))
				fn.op("JLE", "done")
				fn.op("ADDQ", fn.arg("rowStride"), "DI")
			}
			for j := range side {
				fn.op("VMOVUPS", mem((i*side+j)*f.bytes(), "DX"), y(j))
			}
			t.body(fn, c, func(j int, reg string) {
				pixel := eighth(j, "DI", "", "R10", "R11")
				if j == 0 {
					fn.op("VMOVUPS", reg, pixel)
					return
				}
				skip := fmt.Sprintf("skip%d%d", i, j)
				fn.op("CMPQ", "CX", imm(j))
				fn.op("JLE", skip)
				fn.op("VMOVUPS", reg, pixel)
				fn.label(skip)
			})
		}
		fn.label("done")
	}, func() { fn.op("ADDQ", imm(f.bytes()), "R13") })
}

// filterConstants are those of G.
func filterConstants(fn *function) {
	for i, v := range []float32{1. / 4, -1. / 6, 1. / 24, 1. / 12, 1. / 6} {
		fn.constant(v, y(11+i))
	}
}

// eachVector repeats body, which works on a vector at AX and DI, for n lanes.
func eachVector(fn *function, body func()) {
	fn.load("src_base", "R12", "dst_base", "DI")
	fn.label("vector")
	fn.op("MOVQ", "R12", "AX")
	body()
	fn.op("ADDQ", imm(fn.file.bytes()), "R12")
	fn.op("ADDQ", imm(fn.file.bytes()), "DI")
	fn.op("SUBQ", imm(fn.file.bytes()/4), fn.arg("n"))
	fn.op("JGT", "vector")
	fn.end()
}

func winogradFilter(f *file) {
	fn := f.beginFrame("winogradFilter"+f.suffix, "n int, src []float32, first, tapStride int, dst []float32, pointStride int",
		"is winogradTransforms.filter.", f.frame(6*3))
	filterConstants(fn)
	workspace(fn)
	fn.load("tapStride", "SI", "pointStride", "R10")
	fn.op("SHLQ", "$2", "SI")
	fn.op("SHLQ", "$2", "R10")
	fn.op("LEAQ", "(SI)(SI*2)", "R8")
	fn.op("SHLQ", "$2", fn.arg("first"))
	eachVector(fn, func() {
		fn.op("ADDQ", fn.arg("first"), "AX")
		for j := range 3 {
			for i, at := range []string{"(AX)", "(AX)(R8*1)", "(AX)(R8*2)"} {
				fn.op("VMOVUPS", at, y(i))
			}
			filterTransform(fn, func(i int, reg string) { fn.op("VMOVUPS", reg, mem((i*3+j)*f.bytes(), "DX")) })
			fn.op("ADDQ", "SI", "AX")
		}
		fn.op("MOVQ", "DI", "AX")
		fn.op("LEAQ", "(R10)(R10*2)", "R9")
		fn.op("LEAQ", "(R10)(R10*4)", "R11")
		to := []string{"(AX)", "(AX)(R10*1)", "(AX)(R10*2)", "(AX)(R9*1)", "(AX)(R10*4)", "(AX)(R11*1)"}
		for i := range 6 {
			for j := range 3 {
				fn.op("VMOVUPS", mem((i*3+j)*f.bytes(), "DX"), y(j))
			}
			filterTransform(fn, func(j int, reg string) { fn.op("VMOVUPS", reg, to[j]) })
			fn.op("LEAQ", "(AX)(R9*2)", "AX")
		}
	})
}

func winogradFilterGrad(f *file) {
	fn := f.beginFrame("winogradFilterGrad"+f.suffix, "n int, src []float32, pointStride int, dst []float32, tapStride int",
		"is winogradTransforms.filterGrad.", f.frame(3*6))
	filterConstants(fn)
	workspace(fn)
	fn.load("pointStride", "SI", "tapStride", "R10")
	fn.op("SHLQ", "$2", "SI")
	fn.op("SHLQ", "$2", "R10")
	rowOfPoints(fn, 6)
	eachVector(fn, func() {
		for j := range 6 {
			loadColumn(fn, 6)
			filterGradTransform(fn, func(i int, reg string) { fn.op("VMOVUPS", reg, mem((i*6+j)*f.bytes(), "DX")) })
			fn.op("ADDQ", "SI", "AX")
		}
		fn.op("MOVQ", "DI", "AX")
		to := []string{"(AX)", "(AX)(R10*1)", "(AX)(R10*2)"}
		for i := range 3 {
			for j := range 6 {
				fn.op("VMOVUPS", mem((i*6+j)*f.bytes(), "DX"), y(j))
			}
			filterGradTransform(fn, func(j int, reg string) { fn.op("VMOVUPS", reg, to[j]) })
			fn.op("ADDQ", "R10", "AX")
			fn.op("LEAQ", "(AX)(R10*2)", "AX")
		}
	})
}

// fold has a loop for each number of channels. Four are read where there are
// three.
func fold(f *file, channels int) {
	fn := f.begin(fmt.Sprintf("fold%dAVX2", channels), "n int, elements []int, p []float32, step int, dst []float32, dstStep int",
		fmt.Sprintf("is micro.folds[%d]; n is at least 1.", channels))
	fn.load("n", "DX", "elements_base", "R8", "elements_len", "R9", "p_base", "SI", "step", "R11", "dst_base", "DI", "dstStep", "R12")
	fn.op("SHLQ", "$2", "R11")
	fn.op("SHLQ", "$2", "R12")
	fn.label("pixel")
	fn.op("VXORPS", "X0", "X0", "X0")
	fn.op("MOVQ", "R8", "R10")
	fn.op("MOVQ", "R9", "CX")
	fn.op("TESTQ", "CX", "CX")
	fn.op("JZ", "store")
	fn.label("element")
	fn.op("MOVQ", "(R10)", "AX")
	switch channels {
	case 1:
		fn.op("VADDSS", "(SI)(AX*4)", "X0", "X0")
	case 2:
		fn.op("VMOVSD", "(SI)(AX*4)", "X1")
		fn.op("VADDPS", "X1", "X0", "X0")
	default:
		fn.op("VADDPS", "(SI)(AX*4)", "X0", "X0")
	}
	fn.op("ADDQ", "$8", "R10")
	fn.op("DECQ", "CX")
	fn.op("JNZ", "element")
	fn.label("store")
	switch channels {
	case 1:
		fn.op("VMOVSS", "X0", "(DI)")
	case 2:
		fn.op("VMOVSD", "X0", "(DI)")
	case 3:
		fn.op("VMOVSD", "X0", "(DI)")
		fn.op("VEXTRACTPS", "$2", "X0", "8(DI)")
	case 4:
		fn.op("VMOVUPS", "X0", "(DI)")
	}
	fn.op("ADDQ", "R11", "SI")
	fn.op("ADDQ", "R12", "DI")
	fn.op("DECQ", "DX")
	fn.op("JNZ", "pixel")
	fn.end()
}
