// Package plan turns a graph into the list of kernels that a back end runs and
// the memory that they share: element-wise operations and reductions are fused
// into groups, every value that must exist gets a buffer, and all temporary
// buffers get their place in one arena by their lifetimes. Those of a parallel
// loop's body get theirs in a memory that each worker has for itself.
//
// A plan knows no machine. The CPU back end makes closures of it, the CUDA back
// end makes kernels and launches; both read the same groups and buffers.
package plan
