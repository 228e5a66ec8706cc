// Package graph is temper's intermediate representation: a static-shape
// computation graph, the chained builder that writes it, the verifier that
// accepts or refuses it, and its canonical text form with a parser.
//
// A Graph is a block of nodes in topological order. A node is an operation
// applied to nodes; its identity is structural, so building the same value
// twice gives the same node. The one operation with a body is the loop: the
// body is a block of its own that may read any node of the blocks around it.
// Nothing in a graph has an effect but its assignments, which replace state
// once all values of the step are computed.
//
// What belongs here: operations, shape inference, building, checking, printing
// and parsing. Derivatives are in autodiff, rewrites in passes, anything about
// memory or execution further down.
package graph
