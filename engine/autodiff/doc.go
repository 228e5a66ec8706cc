// Package autodiff is reverse-mode differentiation of graphs, graph to graph:
// a gradient is made of ordinary nodes, built where the graph is being built.
// So it can be taken any number of times, inside a loop's body, and of itself.
//
// What belongs here: the sweep (autodiff.go) and the derivative of each
// operation (rules.go), one entry an operation. Conventions at kinks are
// PyTorch's.
package autodiff
