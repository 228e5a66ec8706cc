package kernel

func avx2Vector() *vector[float32] {
	p := portableVector[float32]()
	return &vector[float32]{
		vv: [binaryOps]func(dst, a, b []float32){
			opAdd: addVVAVX2, opSub: subVVAVX2, opMul: mulVVAVX2, opDiv: divVVAVX2, opMax: maxVVAVX2, opMin: minVVAVX2,
		},
		unary: [unaryOps]func(dst, a []float32){
			opNeg: negAVX2, opAbs: absAVX2, opSign: signAVX2, opRelu: reluAVX2, opFloor: floorAVX2,
			opSqrt: sqrtAVX2, opExp: expAVX2, opLog: logAVX2, opTanh: tanhAVX2, opSigmoid: sigmoidAVX2,
			opExpm1: p.unary[opExpm1], opLog1p: p.unary[opLog1p],
		},
		compareVV: [compareOps]func(dst []uint8, a, b []float32){
			opEq: eqVVAVX2, opNe: neVVAVX2, opLt: ltVVAVX2, opLe: leVVAVX2, opGt: gtVVAVX2, opGe: geVVAVX2,
		},
		selectVV: selectVVAVX2, fromU8: fromU8AVX2,
	}
}
