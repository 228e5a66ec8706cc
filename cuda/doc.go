// Package cuda is the home of the CUDA back end: whatever knows that there is a
// GPU, but not what runs on it, which is package kernels.
//
//   - the driver (driver.go, memory.go, module.go, stream.go, driver.h): a thin
//     layer over libcuda.so.1, which is opened at run time, so that building
//     needs no CUDA header and one binary runs with and without a GPU;
//   - the run-time compiler (compiler.go, nvrtc.go, nvrtc.h), NVRTC, opened at
//     run time likewise, and what it made, on disk (cubins.go);
//   - Emit (emit.go), which writes the CUDA C++ of a plan's fused groups, and
//     EmitOp (emit_op.go, emit_contract.go), that of its other operations;
//   - emulator, a folder: a look-alike of libcuda that runs kernels, compiled as
//     host C++, on a CPU;
//   - cache, a folder: where both compilers' products are kept;
//   - GorgoniaDevices (gorgoniacu.go), which lists the GPUs through
//     gorgonia.org/cu, in builds with the tag gorgoniacu.
//
// What calls C is left out of builds without cgo, where Probe says why.
//
// What will live here, and does not exist yet: the back end proper, which turns
// a plan into one CUDA graph and is registered with package engine as "cuda"
// and "emulator"; contractions on tensor cores, with their neighbours fused in;
// a second driver under the tag gorgoniacu, over gorgonia.org/cu's functions
// and the primary context.
package cuda
