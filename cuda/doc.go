// Package cuda is the CUDA back end: whatever knows that there is a GPU, but
// not what runs on it, which is package kernels. Importing it registers the
// devices "cuda:0", "cuda:1", … and "emulator" with package engine.
//
//   - the driver (driver.go, memory.go, module.go, stream.go, driver.h): a thin
//     layer over libcuda.so.1, which is opened at run time, so that building
//     needs no CUDA header and one binary runs with and without a GPU;
//   - the run-time compiler (compiler.go, nvrtc.go, nvrtc.h), NVRTC, opened at
//     run time likewise, and what it made, on disk (cubins.go);
//   - GroupKernels (emit.go, and emit_stream.go for those that read little for an
//     element), which writes the CUDA C++ of a plan's fused groups, and OpKernels,
//     that of its other operations (emit_op.go): contractions on tensor cores
//     (emit_tensor.go), convolutions of sm_90 by warpgroups (emit_sm90.go), which read their operands by tensor maps (tensormap.go);
//     both with the group behind them, its sums over rows included, where it can be
//     computed there (emit_epilogue.go); contractions without tensor cores
//     (emit_contract.go); Kernels (kernel.go), which says how a step's kernels are
//     launched, and which groups share one: small ones in turn (emit.go), those
//     behind a sum (emit_join.go), those that may run at once (emit_set.go);
//   - the autotuner: the choices that there are (choice.go), and how one is made
//     (tune.go), which times kernels on the device once, and keeps a record;
//   - the back end: devices (backend.go), compiling and loading (compile.go), a
//     plan and its memory (program.go) as one CUDA graph (record.go) that runs
//     (run.go);
//   - emulator, a folder: a look-alike of libcuda that runs kernels, compiled as
//     host C++, on a CPU;
//   - cache, a folder: where both compilers' products are kept;
//   - the border with gorgonia.org/cu (gorgoniacu.go), in builds with the tag
//     gorgoniacu: both use a GPU's primary context, so that programs train in
//     memory that cu allocated (AdoptGorgonia; Adopt, for any library's).
//
// # From a plan to a run
//
// Load writes each step's kernels as source, compiles those that the device
// does not have yet (a cubin each, so that the cache serves any program; for the
// emulator a few hundred together), and gives every buffer its address:
// temporaries are in an arena that all programs of the device share, inputs,
// large outputs, constants and the step block are the program's, states the
// caller's. The first Run writes the whole plan down as a list of launches and
// copies, loops unrolled: each iteration has its own arguments, so that its
// number comes from a table and its slices are used where they lie. The list is
// captured once and instantiated as one CUDA graph.
//
// A Run then is: copies of what was fed since the last one, which Feed sent
// ahead on a stream of its own; a copy of the step block, if an entry changed;
// one graph launch. It returns at once; the host may be two runs ahead. Small
// outputs are copied to page-locked memory inside the graph, others when they
// are fetched; either wait is for the last run's end. Nothing is allocated, and
// nothing that may change from step to step is an argument of a kernel.
//
// A device has one stream for all work, so that programs that share states, and
// reads and writes of states, happen in the order in which they are asked for.
// The driver's idea of a current context belongs to a thread, and goroutines
// change threads: every call makes the context current first (driver.c).
//
// # Environment
//
//   - TEMPER_NVRTC: the library of NVRTC, instead of looking for one
//   - TEMPER_CACHE: the folder of compiled kernels, and of choices between them
//   - TEMPER_TUNE=off: time no kernels: what no record has is the cost model's choice
//   - TEMPER_CUDA_GRAPH=off: launch step by step instead of as a graph, for
//     debuggers and profilers
//   - TEMPER_CUDA_EARLY=off: start no kernel before the one before it has ended
//   - TEMPER_CUDA_WITHOUT: parts of sm_90's ways of computing convolutions that are
//     to be left out, such as pairs,strips (see features in choice.go)
//   - TEMPER_EMULATOR: options of the emulator, such as checked,seed=3,memory=64
//     (see emulator_set in emulator/src/driver.cc)
//
// What calls C is left out of builds without cgo, where Probe and the back ends
// say why.
package cuda
