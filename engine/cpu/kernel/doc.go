// Package kernel holds the numeric kernels of the CPU back end: a worker pool,
// matrix multiplication, the three convolutions, and loops over contiguous
// slices. It knows slices and integers only, no graph and no tensor.
//
// Every kernel exists as a plain Go loop (level "portable"); the hot ones also
// exist as AVX2 assembly that the generator in gen/ writes. Level tells which
// set is in use. Matrix products may differ in the last bits between levels;
// element-wise kernels, sums and random numbers do not.
//
// Two rules hold throughout. No kernel allocates after its plan is built:
// scratch memory is a workspace slice that the caller passes in. And no result
// depends on the number of workers: work is cut up by shape alone, and sums
// are taken in a fixed order.
//
// What belongs here: loops over numbers that a profile shows. Scheduling,
// buffers and fusion belong to the back end above.
package kernel

//go:generate go run ./gen
