// Package cpu is the CPU back end: it turns a plan into a list of closures over
// one arena and runs them on a pool of workers.
//
// Fused groups run on a small vector machine (fused.go): for a tile of the
// index space at a time, each member is one call on slices that stay in the
// first-level cache; calls in a row that are plain arithmetic on float32 become
// one chain, whose values stay in registers (chain.go). Everything else is an operation's own kernel (ops.go,
// move.go). The loops over numbers are in the folder kernel; what belongs here
// is the translation from plan to calls.
//
// The iterations of a parallel loop run on the pool, one worker each: a worker
// has the body's closures, memory and scratch for itself, and the kernels in it
// run in line (cpu.go). How chunks of a batch become such loops is the business
// of the pass "rows".
//
// Importing the package registers the device "cpu".
package cpu
