package onnx

import "temper/engine/graph"

// Supported lists the operations that have a counterpart.
func Supported() (ops []graph.Op) {
	for op := range direct {
		ops = append(ops, op)
	}
	for op := range emitters {
		ops = append(ops, op)
	}
	return ops
}
