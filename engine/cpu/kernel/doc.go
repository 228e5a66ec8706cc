// Package kernel holds the numeric kernels of the CPU back end: a worker pool,
// matrix multiplication, the three convolutions, and loops over contiguous
// slices. It knows slices and integers only, no graph and no tensor.
//
// Images and filters have their channels last. A convolution takes its filter
// packed (filter.go) and is computed directly (direct.go), by Winograd's
// F(4×4,3×3) or F(4×4,5×5) (winograd.go) or, back to images of few channels, patch by patch
// (patches.go) or window by window where maxima were pooled (pooled.go); all but
// the last, and the gradients of filters (filtergrad.go), are
// products of rows found through tables with panels of Lanes columns: one
// inner loop, micro.gathers.
//
// Products of bf16 (bf16.go) have an inner loop of their own, pairs.multiply, on
// AMX's matrix tiles: operands are packed in pairs (bf16_gemm.go), and a
// convolution copies the pixels under its filter first (bf16_conv.go).
//
// Every kernel exists as a plain Go loop (level "portable"); the hot ones also
// exist as AVX2 assembly that the generator in gen/ writes, those of products
// and convolutions as AVX-512 assembly too. Level tells which set is in use.
// Products and convolutions may differ in the last bits between levels;
// element-wise kernels, sums and random numbers do not.
//
// Two rules hold throughout. No kernel allocates after its plan is built:
// scratch memory is a workspace slice that the caller passes in. And no result
// depends on the number of workers: each sum is taken in an order that follows
// from the shape alone.
//
// What belongs here: loops over numbers that a profile shows. Scheduling,
// buffers and fusion belong to the back end above.
package kernel

//go:generate go run ./gen
