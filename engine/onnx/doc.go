// Package onnx writes a forward graph, with its weights, as an ONNX file that
// other runtimes load.
//
// The file has opset 17 and IR version 8 (ONNX 1.12, 2022): every runtime of the
// last years reads it, and the operations of later opsets bring nothing that a
// classifier needs. The batch size is symbolic: a graph of temper has fixed
// shapes, so the writer asks for it at two batch sizes and takes for a multiple
// of the batch what differs between them. Whatever else differs (a mean over the
// batch, say) is an error: such a program is none of single examples.
//
// What an operation makes of NaN, ONNX leaves open; for other values the meaning
// is the same as here, or the operation is refused by name.
//
// What belongs here: how operations are said in ONNX, and the few messages of
// its protocol buffers.
package onnx
