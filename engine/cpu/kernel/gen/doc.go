// Command gen writes the assembly of package kernel and its Go declarations.
// Run it with go generate in the package's folder; the output is committed,
// and a test compares it with what this program writes.
//
// asm.go writes functions and constants, matrix.go the loops of micro,
// vector.go the element-wise loops and random words. A new level of processor
// adds its own files here and its own tables in the package.
package main
