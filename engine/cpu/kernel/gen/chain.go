package main

import "fmt"

// chain writes an interpreter: one piece of code an operation, each of which
// jumps to the next one's. All work on the accumulator, Y0 … Y7, 64 elements, and
// on as many at the address of a slot. What is left at the end is computed by a
// second set of code, 32 elements at a time, under the masks Y12 … Y15.
//
// R8 and AX are the chain and the step at hand, R9 the table of the code, R10
// that of slots' addresses, CX the offset of the elements and DX that of the end
// of whole blocks, R11 the number of elements behind it.
func chain(f *file) {
	fn := f.begin("chainAVX2", "code *ChainStep, addr **float32, n int", "is level.chain.")
	fn.load("code", "R8", "addr", "R10", "n", "R11")
	fn.op("MOVQ", "R11", "DX")
	fn.op("ANDQ", imm(-8*wholeVectors), "DX")
	fn.op("SUBQ", "DX", "R11")
	fn.op("SHLQ", "$2", "DX")
	fn.op("XORQ", "CX", "CX")
	fn.op("TESTQ", "DX", "DX")
	fn.op("JZ", "rest")
	fn.op("LEAQ", "chainWhole<>(SB)", "R9")
	dispatch(fn)
	fn.label("rest")
	fn.op("JMP", "chainRest<>(SB)")

	fn = f.local("chainRest")
	fn.op("TESTQ", "R11", "R11")
	fn.op("JLE", "done")
	fn.op("LEAQ", f.window(), "R9")
	fn.op("XORQ", "SI", "SI")
	fn.op("MOVQ", "$8", "DI")
	for i := range partVectors {
		fn.op("MOVQ", "R11", "BX") // between 0 and 8 of them
		fn.op("CMPQ", "BX", "SI")
		fn.op("CMOVQLT", "SI", "BX")
		fn.op("CMPQ", "BX", "DI")
		fn.op("CMOVQGT", "DI", "BX")
		fn.op("NEGQ", "BX")
		fn.op("VMOVUPS", "32(R9)(BX*4)", y(12+i))
		fn.op("SUBQ", "$8", "R11")
	}
	fn.op("LEAQ", "chainPart<>(SB)", "R9")
	dispatch(fn)
	fn.label("done")
	fn.end()

	for _, part := range []bool{false, true} {
		name := "chainWhole"
		if part {
			name = "chainPart"
		}
		var handlers []string
		for _, op := range chainOps(f) {
			handlers = append(handlers, name+op.name)
			fn := f.local(name + op.name)
			op.write(fn, part)
			if op.name != "End" {
				fn.op("ADDQ", "$24", "AX")
				fn.op("MOVQ", "(AX)", "BX")
				fn.op("JMP", "(R9)(BX*8)")
			}
		}
		f.addresses(name, handlers)
	}
}

// Vectors of a block, whole or under masks.
const (
	wholeVectors = 8
	partVectors  = 4
)

func chainVectors(part bool) int {
	if part {
		return partVectors
	}
	return wholeVectors
}

// dispatch begins with the first step.
func dispatch(fn *function) {
	fn.op("MOVQ", "R8", "AX")
	fn.op("MOVQ", "(AX)", "BX")
	fn.op("JMP", "(R9)(BX*8)")
}

// local begins a piece of code that only this file jumps to.
func (f *file) local(name string) *function {
	fmt.Fprintf(&f.text, "\nTEXT %s<>(SB), NOSPLIT, $0-0\n", name)
	return &function{file: f}
}

// addresses writes a table of pieces of code.
func (f *file) addresses(table string, names []string) {
	f.text.WriteByte('\n')
	for i, name := range names {
		fmt.Fprintf(&f.text, "DATA %s<>+%d(SB)/8, $%s<>(SB)\n", table, 8*i, name)
	}
	fmt.Fprintf(&f.text, "GLOBL %s<>(SB), NOPTR, $%d\n", table, 8*len(names))
}

// chainOp is an operation; part says that the masks count.
type chainOp struct {
	name  string
	write func(fn *function, part bool)
}

// chainOps lists the operations in the order of kernel.ChainOp.
func chainOps(f *file) []chainOp {
	accumulator := func(i int) string { return y(i) }
	spare := func(i, k int) string { return y(8 + i%2*2 + k) }
	slot := func(fn *function, field int, reg string) {
		fn.op("MOVQ", mem(field, "AX"), reg)
		fn.op("MOVQ", "(R10)("+reg+"*8)", reg)
	}
	// from is the operand for vector i behind ptr: memory, or reg under a mask.
	from := func(fn *function, part bool, ptr string, i int, reg string) string {
		at := idx(32*i, ptr, "CX", 1)
		if part {
			fn.op("VMASKMOVPS", at, y(12+i), reg)
			return reg
		}
		return at
	}
	load := func(fn *function, part bool, ptr string, i int, reg string) {
		fn.move(from(fn, part, ptr, i, reg), reg)
	}
	ops := []chainOp{
		{"Load", func(fn *function, part bool) {
			slot(fn, 8, "BX")
			for i := range chainVectors(part) {
				load(fn, part, "BX", i, accumulator(i))
			}
		}},
		{"Store", func(fn *function, part bool) {
			slot(fn, 8, "BX")
			for i := range chainVectors(part) {
				if at := idx(32*i, "BX", "CX", 1); part {
					fn.op("VMASKMOVPS", accumulator(i), y(12+i), at)
				} else {
					fn.op("VMOVUPS", accumulator(i), at)
				}
			}
		}},
	}
	binary := func(name string, b body) chainOp {
		return chainOp{name, func(fn *function, part bool) {
			slot(fn, 8, "BX")
			for i := range chainVectors(part) {
				acc, s, t := accumulator(i), spare(i, 0), spare(i, 1)
				fn.move(b(fn, regs{acc, s, t}, []string{acc, from(fn, part, "BX", i, s)}), acc)
			}
		}}
	}
	for _, op := range arithmetic {
		ops = append(ops, binary(op.name, op.body))
	}
	for _, op := range arithmetic {
		ops = append(ops, chainOp{op.name + "To", func(fn *function, part bool) {
			slot(fn, 8, "BX")
			for i := range chainVectors(part) {
				acc, s, t := accumulator(i), spare(i, 0), spare(i, 1)
				load(fn, part, "BX", i, s)
				fn.move(op.body(fn, regs{s, t, acc}, []string{s, acc}), acc)
			}
		}})
	}
	for _, op := range simple(f) {
		ops = append(ops, chainOp{op.name, func(fn *function, part bool) {
			for i := range chainVectors(part) {
				acc := accumulator(i)
				fn.move(op.body(fn, regs{spare(i, 0), spare(i, 1), acc}, []string{acc}), acc)
			}
		}})
	}
	for _, op := range predicates {
		ops = append(ops, binary(op.name, comparison(op.predicate)))
	}
	return append(ops,
		chainOp{"Select", func(fn *function, part bool) {
			slot(fn, 8, "BX")
			slot(fn, 16, "SI")
			for i := range chainVectors(part) {
				acc, s, t := accumulator(i), spare(i, 0), spare(i, 1)
				load(fn, part, "SI", i, s)
				fn.op("VBLENDVPS", acc, from(fn, part, "BX", i, t), s, acc)
			}
		}},
		chainOp{"End", func(fn *function, part bool) {
			fn.op("ADDQ", imm(32*chainVectors(part)), "CX")
			if part {
				fn.op("JMP", "chainRest<>(SB)")
				return
			}
			fn.op("CMPQ", "CX", "DX")
			fn.op("JGE", "last")
			dispatch(fn)
			fn.label("last")
			fn.op("JMP", "chainRest<>(SB)")
		}})
}
