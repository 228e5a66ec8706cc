// Package cuda is the home of the CUDA back end: whatever knows that there is a
// GPU, but not what runs on it, which is package kernels.
//
// What is here now:
//   - Emit (emit.go), which writes the CUDA C++ of a plan's fused groups;
//   - GorgoniaDevices (gorgoniacu.go), which lists the GPUs through
//     gorgonia.org/cu, in builds with the tag gorgoniacu.
//
// What will live here, and does not exist yet:
//   - the driver: a thin cgo layer that opens libcuda.so.1 at run time and needs
//     no CUDA header or toolkit to build, so that one binary runs with and
//     without a GPU;
//   - the run-time compiler: NVRTC, found at run time likewise, with a cache of
//     compiled kernels on disk;
//   - the back end proper, registered with package engine as "cuda:0", …: it
//     turns a plan into one CUDA graph;
//   - a second driver under the tag gorgoniacu, over gorgonia.org/cu's functions
//     and the primary context, so that a program that owns cu contexts, streams
//     or device memory can run temper's programs on them without copies;
//   - emulator, a folder: a look-alike of libcuda that runs the kernels, compiled
//     as host C++, on a CPU.
package cuda
