package main

import (
	"fmt"
	"strings"
)

func vector(f *file) {
	pause(f)
	binaries(f)
	unaries(f)
	comparisons(f)
	selects(f)
	conversions(f)
	philox(f)
}

func pause(f *file) {
	fn := f.begin("pause", "", "tells the processor that this is a spinning loop.")
	for range 4 {
		fn.op("PAUSE")
	}
	fn.op("RET")
}

// body computes one vector from operands that are memory or registers, and
// returns the register that holds the result. It may use the registers of its
// set.
type body func(fn *function, set regs, in []string) string

// regs is the set of registers of one copy of a loop's body.
type regs []string

const (
	maskReg  = "Y15" // of the last, partial vector
	freeRegs = 14
)

// loop writes a function over slices: dst and others of its arguments, 8
// elements at a time, copies times per round; the last vector is loaded and
// stored under a mask. in names the arguments that are operands.
func loop(f *file, name, signature, doc string, in []string, copies int, b body) {
	fn := f.begin(name, signature, doc)
	types := argTypes(signature)
	pointers := []string{"SI", "DX", "BX"}
	ptr := map[string]string{"dst": "DI"}
	fn.load("dst_base", "DI", "dst_len", "CX")
	for _, arg := range in {
		if ptr[arg] == "" {
			ptr[arg], pointers = pointers[0], pointers[1:]
			fn.load(arg+"_base", ptr[arg])
		}
	}
	fn.op("XORQ", "AX", "AX")
	per := freeRegs / copies
	round := func(n int) {
		for c := range n {
			set := regs{}
			for i := range per {
				set = append(set, y(c*per+i))
			}
			var operands []string
			for i, arg := range in {
				operands = append(operands, fn.operand(types[arg], ptr[arg], c, set[per-1-i]))
			}
			fn.store(types["dst"], b(fn, set, operands), ptr["dst"], c)
		}
		fn.op("ADDQ", imm(8*n), "AX")
		fn.op("SUBQ", imm(8*n), "CX")
	}
	if copies > 1 {
		fn.label("wide")
		fn.op("CMPQ", "CX", imm(8*copies))
		fn.op("JLT", "narrow")
		round(copies)
		fn.op("JMP", "wide")
	}
	fn.label("narrow")
	fn.op("CMPQ", "CX", "$8")
	fn.op("JLT", "last")
	round(1)
	fn.op("JMP", "narrow")

	fn.label("last")
	fn.op("TESTQ", "CX", "CX")
	fn.op("JLE", "done")
	fn.op("LEAQ", f.window(), "R8")
	fn.op("MOVQ", "CX", "R9")
	fn.op("NEGQ", "R9")
	fn.op("VMOVUPS", "32(R8)(R9*4)", maskReg)
	set := regs{}
	for i := range per {
		set = append(set, y(i))
	}
	var operands []string
	for i, arg := range in {
		operands = append(operands, fn.partOperand(types[arg], ptr[arg], set[per-1-i], fmt.Sprint("byte", i)))
	}
	fn.storePart(types["dst"], b(fn, set, operands), ptr["dst"])
	fn.label("done")
	fn.end()
}

// argTypes maps the arguments of a signature to their element types.
func argTypes(signature string) map[string]string {
	types := map[string]string{}
	var group []string
	for _, part := range strings.Split(signature, ", ") {
		words := strings.SplitN(part, " ", 2)
		group = append(group, words[0])
		if len(words) == 2 {
			for _, arg := range group {
				types[arg] = words[1]
			}
			group = nil
		}
	}
	return types
}

// operand returns vector c of an argument behind element AX.
func (fn *function) operand(kind, ptr string, c int, reg string) string {
	if kind == "[]uint8" {
		fn.op("VPMOVZXBD", idx(8*c, ptr, "AX", 1), reg)
		return reg
	}
	return idx(32*c, ptr, "AX", 4)
}

// partOperand loads the CX < 8 last elements of an argument.
func (fn *function) partOperand(kind, ptr, reg, label string) string {
	if kind == "[]uint8" {
		fn.op("MOVQ", "CX", "R9")
		fn.op("LEAQ", idx(0, ptr, "AX", 1), "R10")
		fn.op("XORQ", "R11", "R11")
		fn.label(label)
		fn.op("SHLQ", "$8", "R11")
		fn.op("MOVBLZX", "-1(R10)(R9*1)", "R12")
		fn.op("ORQ", "R12", "R11")
		fn.op("DECQ", "R9")
		fn.op("JNZ", label)
		fn.op("VMOVQ", "R11", "X"+reg[1:])
		fn.op("VPMOVZXBD", "X"+reg[1:], reg)
		return reg
	}
	fn.op("VMASKMOVPS", idx(0, ptr, "AX", 4), maskReg, reg)
	return reg
}

// store writes a result; a mask of full lanes becomes bytes 0 and 1.
func (fn *function) store(kind, reg, ptr string, c int) {
	if kind == "[]uint8" {
		fn.bytes(reg)
		fn.op("VMOVQ", "X"+reg[1:], idx(8*c, ptr, "AX", 1))
		return
	}
	fn.op("VMOVUPS", reg, idx(32*c, ptr, "AX", 4))
}

func (fn *function) storePart(kind, reg, ptr string) {
	if kind == "[]uint8" {
		fn.bytes(reg)
		fn.op("VMOVQ", "X"+reg[1:], "R9")
		fn.op("LEAQ", idx(0, ptr, "AX", 1), "R10")
		fn.label("byte")
		fn.op("MOVB", "R9", "(R10)")
		fn.op("SHRQ", "$8", "R9")
		fn.op("INCQ", "R10")
		fn.op("DECQ", "CX")
		fn.op("JNZ", "byte")
		return
	}
	fn.op("VMASKMOVPS", reg, maskReg, idx(0, ptr, "AX", 4))
}

// bytes packs 8 lanes of all or no bits into 8 bytes 1 or 0.
func (fn *function) bytes(reg string) {
	low := "X" + reg[1:]
	fn.op("VEXTRACTF128", "$1", reg, "X13")
	fn.op("VPACKSSDW", "X13", low, low)
	fn.op("VPACKSSWB", low, low, low)
	fn.op("VPAND", fn.file.bits(0x01010101), low, low)
}

const (
	vvSig = "dst, a, b []float32"
	vSig  = "dst, a []float32"
)

// named is a body with the name of its operation.
type named struct {
	name string
	body body
}

func plain(instruction string) body {
	return func(fn *function, set regs, in []string) string {
		fn.move(in[0], set[0])
		fn.op(instruction, in[1], set[0], set[0])
		return set[0]
	}
}

// extreme keeps NaN: the processor's maximum is its second operand if one is
// NaN, so what is left to do is to keep a NaN of the first.
func extreme(instruction string) body {
	return func(fn *function, set regs, in []string) string {
		fn.move(in[0], set[0])
		fn.op(instruction, in[1], set[0], set[1])
		fn.op("VCMPPS", unordered, set[0], set[0], set[2])
		fn.op("VBLENDVPS", set[2], set[0], set[1], set[1])
		return set[1]
	}
}

// move copies an operand to a register, unless it is there.
func (fn *function) move(from, to string) {
	if from != to {
		fn.op("VMOVUPS", from, to)
	}
}

var arithmetic = []named{
	{"add", plain("VADDPS")}, {"sub", plain("VSUBPS")}, {"mul", plain("VMULPS")}, {"div", plain("VDIVPS")},
	{"max", extreme("VMAXPS")}, {"min", extreme("VMINPS")},
}

func binaries(f *file) {
	for _, op := range arithmetic {
		loop(f, op.name+"VVAVX2", vvSig, "is "+op.name+"VV.", []string{"a", "b"}, 4, op.body)
	}
}

// Predicates of VCMPPS, all without signalling NaN.
const (
	equal          = "$0"
	unordered      = "$3"
	notEqual       = "$4"
	ordered        = "$7"
	notLessEqual   = "$22"
	less           = "$17"
	lessEqual      = "$18"
	notGreaterEq   = "$25"
	greaterEqual   = "$29"
	greater        = "$30"
	signBit        = 0x80000000
	infinity       = 0x7f800000
	largestFloat   = 0x7f7fffff
	smallestNormal = 0x00800000
)

// simple lists the operations on one operand that take few instructions.
func simple(f *file) []named {
	// with makes a body of an instruction and a constant.
	with := func(instruction, constant string) body {
		return func(fn *function, set regs, in []string) string {
			fn.op("VMOVUPS", in[0], set[0])
			fn.op(instruction, constant, set[0], set[0])
			return set[0]
		}
	}
	return []named{
		{"neg", with("VXORPS", f.bits(signBit))},
		{"abs", with("VANDPS", f.bits(signBit-1))},
		{"relu", func(fn *function, set regs, in []string) string {
			// Of zero and NaN, the instruction gives its second source: x, not 0.
			fn.op("VXORPS", set[0], set[0], set[0])
			fn.op("VMAXPS", in[0], set[0], set[0])
			return set[0]
		}},
		{"floor", func(fn *function, set regs, in []string) string {
			fn.op("VROUNDPS", "$9", in[0], set[0])
			return set[0]
		}},
		{"sqrt", func(fn *function, set regs, in []string) string {
			fn.op("VSQRTPS", in[0], set[0])
			return set[0]
		}},
		{"sign", func(fn *function, set regs, in []string) string {
			x, t, r := set[0], set[1], set[2]
			fn.op("VMOVUPS", in[0], x)
			fn.op("VCMPPS", greater, fn.file.bits(0), x, r)
			fn.op("VANDPS", fn.file.float(1), r, r)
			fn.op("VCMPPS", less, fn.file.bits(0), x, t)
			fn.op("VANDPS", fn.file.float(-1), t, t)
			fn.op("VORPS", t, r, r)
			return r
		}},
	}
}

func unaries(f *file) {
	u := func(name string, copies int, b body) {
		loop(f, name+"AVX2", vSig, "is "+name+".", []string{"a"}, copies, b)
	}
	for _, op := range simple(f) {
		u(op.name, 4, op.body)
	}
	u("exp", 1, func(fn *function, set regs, in []string) string {
		fn.op("VMOVUPS", in[0], set[0])
		return fn.exp(set)
	})
	u("sigmoid", 1, sigmoid)
	u("tanh", 1, tanh)
	u("log", 1, log)
}

// Constants of math.go, where they are explained.
const (
	log2e       = 1.44269504
	ln2hi       = 0.693359375
	ln2lo       = -2.12194440e-4
	roundMagic  = 0x4b400000
	expLow      = -105
	expHigh     = 89
	logOffset   = 0x3f3504f3
	mantissa    = 0x7fffff
	logScale    = 25
	tanhSmall   = 0.625
	tanhLargest = 10
)

var (
	expPoly  = []float32{0.00138143206, 0.00836885069, 0.0416684002, 0.166665196, 0.49999994}
	logPoly  = []float32{0.0691554099, -0.117898643, 0.118729256, -0.12384335, 0.142186642, -0.166692525, 0.200022265, -0.249999866, 0.333333105}
	tanhPoly = []float32{0.00214753998, -0.00818267744, 0.0217029694, -0.0539472029, 0.133332103, -0.333333313}
)

// poly evaluates a polynomial of x, highest power first, into s.
func (fn *function) poly(c []float32, x, s string) {
	fn.op("VMOVUPS", fn.file.float(c[0]), s)
	for _, a := range c[1:] {
		fn.op("VMULPS", x, s, s)
		fn.op("VADDPS", fn.file.float(a), s, s)
	}
}

// exp is exp32 of set[0], by way of the first five registers.
func (fn *function) exp(set regs) string {
	f := fn.file
	x, r, e, n, t := set[0], set[1], set[2], set[3], set[4]
	high := x
	fn.op("VMOVUPS", f.float(expHigh), r) // a NaN is kept as second operand
	fn.op("VMINPS", x, r, r)
	fn.op("VMOVUPS", f.float(expLow), e)
	fn.op("VMAXPS", r, e, r)
	fn.op("VMULPS", f.float(log2e), r, e)
	fn.op("VADDPS", f.bits(roundMagic), e, e)
	fn.op("VSUBPS", f.bits(roundMagic), e, n)
	fn.op("VPSUBD", f.bits(roundMagic), e, e)
	fn.op("VMULPS", f.float(ln2hi), n, t)
	fn.op("VSUBPS", t, r, high)
	fn.op("VMULPS", f.float(ln2lo), n, t)
	fn.op("VSUBPS", t, high, r)
	fn.op("VSUBPS", r, high, high)
	fn.op("VSUBPS", t, high, high) // what rounding r lost
	fn.poly(expPoly, r, n)
	fn.op("VMULPS", r, r, t)
	fn.op("VMULPS", t, n, n)
	fn.op("VADDPS", high, n, n)
	fn.op("VADDPS", r, n, n)
	fn.op("VADDPS", f.float(1), n, n)
	fn.op("VPSRAD", "$1", e, t)
	fn.op("VPSUBD", t, e, e)
	for _, half := range []string{t, e} {
		fn.op("VPADDD", f.bits(127), half, half)
		fn.op("VPSLLD", "$23", half, half)
		fn.op("VMULPS", half, n, n)
	}
	return n
}

func sigmoid(fn *function, set regs, in []string) string {
	one := fn.file.float(1)
	x, d, y, lost, inverse := set[5], set[0], set[1], set[2], set[4]
	fn.op("VMOVUPS", in[0], x)
	fn.op("VORPS", fn.file.bits(signBit), x, set[0])
	e := fn.exp(set)
	fn.op("VADDPS", one, e, d)
	fn.op("VSUBPS", one, d, lost)
	fn.op("VSUBPS", lost, e, lost)
	fn.op("VCMPPS", greaterEqual, fn.file.bits(0), x, x)
	fn.op("VBLENDVPS", x, one, e, y)
	fn.op("VDIVPS", d, y, y)
	fn.op("VMOVUPS", one, inverse)
	fn.op("VSUBPS", y, inverse, inverse)
	fn.op("VBLENDVPS", x, y, inverse, inverse)
	fn.op("VMULPS", inverse, lost, lost)
	fn.op("VMULPS", y, lost, lost)
	fn.op("VSUBPS", lost, y, y)
	return y
}

func tanh(fn *function, set regs, in []string) string {
	f := fn.file
	x, a, z, small := set[5], set[6], set[7], set[8]
	fn.op("VMOVUPS", in[0], x)
	fn.op("VANDPS", f.bits(signBit-1), x, a)
	fn.op("VMULPS", a, a, z)
	fn.poly(tanhPoly, z, small)
	fn.op("VMULPS", z, small, small)
	fn.op("VMULPS", a, small, small)
	fn.op("VADDPS", a, small, small)
	fn.op("VMOVUPS", f.float(tanhLargest), set[0])
	fn.op("VMINPS", a, set[0], set[0])
	fn.op("VADDPS", set[0], set[0], set[0])
	e := fn.exp(set)
	fn.op("VADDPS", f.float(1), e, e)
	fn.op("VMOVUPS", f.float(2), set[0])
	fn.op("VDIVPS", e, set[0], e)
	fn.op("VMOVUPS", f.float(1), set[0])
	fn.op("VSUBPS", e, set[0], e)
	fn.op("VCMPPS", less, f.float(tanhSmall), a, a)
	fn.op("VBLENDVPS", a, small, e, e)
	fn.op("VANDPS", f.bits(signBit), x, x)
	fn.op("VORPS", x, e, e)
	return e
}

func log(fn *function, set regs, in []string) string {
	f := fn.file
	x, b, e, m, z, s, t := set[0], set[1], set[2], set[3], set[4], set[5], set[6]
	fn.op("VMOVUPS", in[0], x)
	fn.op("VCMPPS", less, f.bits(smallestNormal), x, t)
	fn.op("VMULPS", f.float(1<<logScale), x, b)
	fn.op("VBLENDVPS", t, b, x, b)
	fn.op("VPAND", f.bits(logScale), t, t)
	fn.op("VPSUBD", f.bits(logOffset), b, b)
	fn.op("VPSRAD", "$23", b, e)
	fn.op("VPSUBD", t, e, e)
	fn.op("VCVTDQ2PS", e, e)
	fn.op("VPAND", f.bits(mantissa), b, m)
	fn.op("VPADDD", f.bits(logOffset), m, m)
	fn.op("VSUBPS", f.float(1), m, m)
	fn.op("VMULPS", m, m, z)
	fn.poly(logPoly, m, s)
	fn.op("VMULPS", z, m, t)
	fn.op("VMULPS", t, s, s)
	fn.op("VMULPS", f.float(ln2lo), e, t)
	fn.op("VADDPS", t, s, s)
	fn.op("VMULPS", f.float(0.5), z, t)
	fn.op("VSUBPS", t, s, s)
	fn.op("VADDPS", m, s, s)
	fn.op("VMULPS", f.float(ln2hi), e, t)
	fn.op("VADDPS", t, s, s)
	fn.op("VCMPPS", greater, f.bits(largestFloat), x, t)
	fn.op("VBLENDVPS", t, x, s, s)
	fn.op("VCMPPS", equal, f.bits(0), x, t)
	fn.op("VBLENDVPS", t, f.bits(signBit|infinity), s, s)
	fn.op("VCMPPS", notGreaterEq, f.bits(0), x, t)
	fn.op("VORPS", t, s, s)
	return s
}

var predicates = []struct{ name, predicate string }{
	{"eq", equal}, {"ne", notEqual}, {"lt", less}, {"le", lessEqual}, {"gt", greater}, {"ge", greaterEqual},
}

// comparison gives lanes of all or no bits.
func comparison(predicate string) body {
	return func(fn *function, set regs, in []string) string {
		fn.move(in[0], set[0])
		fn.op("VCMPPS", predicate, in[1], set[0], set[0])
		return set[0]
	}
}

func comparisons(f *file) {
	for _, op := range predicates {
		b := comparison(op.predicate)
		loop(f, op.name+"VVAVX2", "dst []uint8, a, b []float32", "is "+op.name+"VV.", []string{"a", "b"}, 4, b)
	}
}

func selects(f *file) {
	b := func(fn *function, set regs, in []string) string {
		fn.op("VPCMPEQD", fn.file.bits(0), in[0], set[0])
		fn.op("VMOVUPS", in[1], set[1])
		fn.op("VBLENDVPS", set[0], in[2], set[1], set[1])
		return set[1]
	}
	loop(f, "selectVVAVX2", "dst []float32, mask []uint8, a, b []float32", "is selectVV.", []string{"mask", "a", "b"}, 2, b)
}

func conversions(f *file) {
	loop(f, "fromU8AVX2", "dst []float32, a []uint8", "is fromU8.", []string{"a"}, 4,
		func(fn *function, set regs, in []string) string {
			fn.op("VCVTDQ2PS", in[0], set[0])
			return set[0]
		})
}

// philox computes eight blocks of Philox 4x32-10 at a time, one to a lane.
func philox(f *file) {
	fn := f.begin("philoxAVX2", "dst, state []uint32",
		"stores the words of consecutive blocks, a multiple of 32\n// words; state is the key, the first three words of the counter, and the first\n// block's number.")
	fn.load("dst_base", "DI", "dst_len", "CX", "state_base", "SI")
	fn.op("VPBROADCASTD", "20(SI)", "Y15")
	fn.op("VPADDD", f.sequence(), "Y15", "Y15")
	fn.op("SHRQ", "$5", "CX")
	fn.op("JZ", "done")
	fn.label("loop")
	const k0, k1 = "Y13", "Y14"
	fn.op("VPBROADCASTD", "(SI)", k0)
	fn.op("VPBROADCASTD", "4(SI)", k1)
	c := []string{"Y0", "Y1", "Y2", "Y3"}
	for i := range 3 {
		fn.op("VPBROADCASTD", mem(8+4*i, "SI"), c[i])
	}
	fn.op("VMOVDQU", "Y15", c[3])
	free := []string{"Y4", "Y5", "Y6", "Y7", "Y8", "Y9"}
	// mul leaves the high and low words of a product in two free registers.
	mul := func(a string, by uint32, even, odd, high string) {
		fn.op("VMOVSHDUP", a, odd)
		fn.op("VPMULUDQ", f.bits(by), a, even)
		fn.op("VPMULUDQ", f.bits(by), odd, odd)
		fn.op("VPSRLQ", "$32", even, high)
		fn.op("VPBLENDD", "$0xaa", odd, high, high)
		fn.op("VPSLLQ", "$32", odd, odd)
		fn.op("VPBLENDD", "$0xaa", odd, even, even)
	}
	for range 10 {
		low0, high0, low1, high1 := free[0], free[2], free[3], free[5]
		mul(c[0], 0xD2511F53, low0, free[1], high0)
		mul(c[2], 0xCD9E8D57, low1, free[4], high1)
		fn.op("VPXOR", c[1], high1, high1)
		fn.op("VPXOR", k0, high1, high1)
		fn.op("VPXOR", c[3], high0, high0)
		fn.op("VPXOR", k1, high0, high0)
		fn.op("VPADDD", f.bits(0x9E3779B9), k0, k0)
		fn.op("VPADDD", f.bits(0xBB67AE85), k1, k1)
		c, free = []string{high1, low1, high0, low0}, []string{free[1], free[4], c[0], c[1], c[2], c[3]}
	}
	t := free // words of a block side by side
	fn.op("VPUNPCKLDQ", c[1], c[0], t[0])
	fn.op("VPUNPCKHDQ", c[1], c[0], t[1])
	fn.op("VPUNPCKLDQ", c[3], c[2], t[2])
	fn.op("VPUNPCKHDQ", c[3], c[2], t[3])
	fn.op("VPUNPCKLQDQ", t[2], t[0], c[0])
	fn.op("VPUNPCKHQDQ", t[2], t[0], c[1])
	fn.op("VPUNPCKLQDQ", t[3], t[1], c[2])
	fn.op("VPUNPCKHQDQ", t[3], t[1], c[3])
	for i, half := range []string{"$0x20", "$0x31"} {
		fn.op("VPERM2I128", half, c[1], c[0], t[0])
		fn.op("VPERM2I128", half, c[3], c[2], t[1])
		fn.op("VMOVDQU", t[0], mem(64*i, "DI"))
		fn.op("VMOVDQU", t[1], mem(64*i+32, "DI"))
	}
	fn.op("VPADDD", f.bits(8), "Y15", "Y15")
	fn.op("ADDQ", "$128", "DI")
	fn.op("DECQ", "CX")
	fn.op("JNZ", "loop")
	fn.label("done")
	fn.end()
}
