// Command gen writes the assembly of package kernel and its Go declarations.
// Run it with go generate in the package's folder; the output is committed,
// and a test compares it with what this program writes.
//
// asm.go writes functions and constants and knows the instruction sets,
// matrix.go and conv.go write the loops of micro for each of them, vector.go the
// element-wise loops and random words, columns.go sums over pixels and pooling,
// bf16.go conversions and products on matrix tiles.
package main
