package kernel

func avx2Vector() *vector[float32] {
	p := portableVector[float32]()
	return &vector[float32]{
		vv: [binaryOps]func(dst, a, b []float32){
			opAdd: addVVAVX2, opSub: subVVAVX2, opMul: mulVVAVX2, opDiv: divVVAVX2, opMax: maxVVAVX2, opMin: minVVAVX2,
		},
		vs: [binaryOps]func(dst, a []float32, s float32){
			opAdd: addVSAVX2, opSub: subVSAVX2, opMul: mulVSAVX2, opDiv: divVSAVX2, opMax: maxVSAVX2, opMin: minVSAVX2,
		},
		sv: [binaryOps]func(dst []float32, s float32, a []float32){opSub: subSVAVX2, opDiv: divSVAVX2},
		unary: [unaryOps]func(dst, a []float32){
			opNeg: negAVX2, opAbs: absAVX2, opSign: signAVX2, opRelu: reluAVX2, opFloor: floorAVX2,
			opSqrt: sqrtAVX2, opRsqrt: rsqrtAVX2, opExp: expAVX2, opLog: logAVX2, opTanh: tanhAVX2, opSigmoid: sigmoidAVX2,
			opExpm1: p.unary[opExpm1], opLog1p: p.unary[opLog1p],
		},
		compareVV: [compareOps]func(dst []uint8, a, b []float32){
			opEq: eqVVAVX2, opNe: neVVAVX2, opLt: ltVVAVX2, opLe: leVVAVX2, opGt: gtVVAVX2, opGe: geVVAVX2,
		},
		compareVS: [compareOps]func(dst []uint8, a []float32, s float32){
			opEq: eqVSAVX2, opNe: neVSAVX2, opLt: ltVSAVX2, opLe: leVSAVX2, opGt: gtVSAVX2, opGe: geVSAVX2,
		},
		selectVV: selectVVAVX2, selectVS: selectVSAVX2, selectSV: selectSVAVX2,
		fill: fillAVX2, fromU8: fromU8AVX2, fromI32: fromI32AVX2, axpy: axpyAVX2,
		sum: sumAVX2, maxOf: maxOfAVX2,
	}
}

// The lanes are passed to assembly directly, not through the level, which
// would move them to the heap.

func sumAVX2(a []float32) float32 {
	var lanes [laneCount]float32
	whole := len(a) &^ (laneCount - 1)
	inPieces(whole, func(i, j int) { addLanesAVX2(lanes[:], a[i:j]) })
	addLanes(lanes[:], a[whole:])
	return joinSum(lanes[:])
}

func maxOfAVX2(a []float32) float32 {
	lanes := noMax[float32]()
	whole := len(a) &^ (laneCount - 1)
	inPieces(whole, func(i, j int) { maxLanesAVX2(lanes[:], a[i:j]) })
	maxLanes(lanes[:], a[whole:])
	return joinMax(lanes[:])
}

var avx2Masks = masks{and: andAVX2, or: orAVX2, not: notAVX2}
