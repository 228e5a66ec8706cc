// The CUDA driver API as far as temper uses it, found at run time by name: no
// CUDA header and no CUDA library is needed to build. Signatures are those of
// CUDA 12; the suffixes _v2 are part of the names that libcuda exports.
#pragma once
#include <stddef.h>
#include <stdint.h>

typedef uint64_t device_ptr;
typedef uintptr_t handle;  // of a context, module, function, stream, event or graph

// CUlaunchAttribute, with the value that is an int, and CUlaunchConfig. The driver
// copies them whole, so that they are laid out as in its header.
typedef struct launch_attribute {
  int id;
  union {
    int on;
    uint64_t all[8];
  } value;
} launch_attribute;
typedef struct launch_config {
  unsigned grid[3], block[3], shared;
  handle stream;
  const launch_attribute* attribute;
  unsigned attributes;
} launch_config;
_Static_assert(sizeof(launch_attribute) == 72 && _Alignof(launch_attribute) == 8 && offsetof(launch_attribute, value) == 8, "CUlaunchAttribute");
_Static_assert(sizeof(launch_config) == 56 && offsetof(launch_config, stream) == 32 && offsetof(launch_config, attribute) == 40 && offsetof(launch_config, attributes) == 48, "CUlaunchConfig");

// Calls that need no current context: X(name, parameters, arguments).
#define LIBRARY_CALLS(X)                                                                \
  X(cuInit, (unsigned flags), (flags))                                                  \
  X(cuDriverGetVersion, (int* version), (version))                                      \
  X(cuGetErrorName, (int code, const char** name), (code, name))                        \
  X(cuGetErrorString, (int code, const char** text), (code, text))                      \
  X(cuDeviceGetCount, (int* count), (count))                                            \
  X(cuDeviceGet, (int* device, int ordinal), (device, ordinal))                         \
  X(cuDeviceGetName, (char* name, int size, int device), (name, size, device))          \
  X(cuDeviceGetAttribute, (int* value, int attribute, int device), (value, attribute, device)) \
  X(cuDeviceTotalMem_v2, (size_t* bytes, int device), (bytes, device))                  \
  X(cuDevicePrimaryCtxRetain, (handle* context, int device), (context, device))         \
  X(cuDevicePrimaryCtxRelease_v2, (int device), (device))                               \
  X(cuCtxSetCurrent, (handle context), (context))

// Calls that work in the device's context.
#define DEVICE_CALLS(X)                                                                 \
  X(cuMemGetInfo_v2, (size_t* unused, size_t* total), (unused, total))                  \
  X(cuMemAlloc_v2, (device_ptr* p, size_t bytes), (p, bytes))                           \
  X(cuMemFree_v2, (device_ptr p), (p))                                                  \
  X(cuMemAllocAsync, (device_ptr* p, size_t bytes, handle stream), (p, bytes, stream))  \
  X(cuMemFreeAsync, (device_ptr p, handle stream), (p, stream))                         \
  X(cuMemHostAlloc, (void** p, size_t bytes, unsigned flags), (p, bytes, flags))        \
  X(cuMemFreeHost, (void* p), (p))                                                      \
  X(cuMemcpyHtoDAsync_v2, (device_ptr to, const void* from, size_t bytes, handle stream), (to, from, bytes, stream)) \
  X(cuMemcpyDtoHAsync_v2, (void* to, device_ptr from, size_t bytes, handle stream), (to, from, bytes, stream)) \
  X(cuMemcpyDtoDAsync_v2, (device_ptr to, device_ptr from, size_t bytes, handle stream), (to, from, bytes, stream)) \
  X(cuMemsetD8Async, (device_ptr to, unsigned char value, size_t bytes, handle stream), (to, value, bytes, stream)) \
  X(cuModuleLoadDataEx, (handle* module, const void* image, unsigned n, int* options, void** values), (module, image, n, options, values)) \
  X(cuModuleUnload, (handle module), (module))                                          \
  X(cuModuleGetFunction, (handle* function, handle module, const char* name), (function, module, name)) \
  X(cuFuncGetAttribute, (int* value, int attribute, handle function), (value, attribute, function)) \
  X(cuFuncSetAttribute, (handle function, int attribute, int value), (function, attribute, value)) \
  X(cuLaunchKernel, (handle function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned shared, handle stream, void** params, void** extra), \
    (function, gx, gy, gz, bx, by, bz, shared, stream, params, extra))                  \
  X(cuLaunchKernelEx, (const launch_config* config, handle function, void** params, void** extra), (config, function, params, extra)) \
  X(cuTensorMapEncodeTiled, (void* map, int type, unsigned axes, device_ptr base, const uint64_t* extents, const uint64_t* strides, const unsigned* box, const unsigned* steps, int interleave, int swizzle, int promotion, int fill), \
    (map, type, axes, base, extents, strides, box, steps, interleave, swizzle, promotion, fill)) \
  X(cuTensorMapEncodeIm2col, (void* map, int type, unsigned axes, device_ptr base, const uint64_t* extents, const uint64_t* strides, const int* lower, const int* upper, unsigned channels, unsigned pixels, const unsigned* steps, int interleave, int swizzle, int promotion, int fill), \
    (map, type, axes, base, extents, strides, lower, upper, channels, pixels, steps, interleave, swizzle, promotion, fill)) \
  X(cuStreamCreate, (handle* stream, unsigned flags), (stream, flags))                  \
  X(cuStreamDestroy_v2, (handle stream), (stream))                                      \
  X(cuStreamSynchronize, (handle stream), (stream))                                     \
  X(cuStreamWaitEvent, (handle stream, handle event, unsigned flags), (stream, event, flags)) \
  X(cuStreamBeginCapture_v2, (handle stream, int mode), (stream, mode))                 \
  X(cuStreamEndCapture, (handle stream, handle* graph), (stream, graph))                \
  X(cuGraphInstantiateWithFlags, (handle* exec, handle graph, unsigned long long flags), (exec, graph, flags)) \
  X(cuGraphExecUpdate_v2, (handle exec, handle graph, void* result), (exec, graph, result)) \
  X(cuGraphLaunch, (handle exec, handle stream), (exec, stream))                        \
  X(cuGraphDestroy, (handle graph), (graph))                                            \
  X(cuGraphExecDestroy, (handle exec), (exec))                                          \
  X(cuEventCreate, (handle* event, unsigned flags), (event, flags))                     \
  X(cuEventRecord, (handle event, handle stream), (event, stream))                      \
  X(cuEventSynchronize, (handle event), (event))                                        \
  X(cuEventElapsedTime, (float* ms, handle from, handle to), (ms, from, to))            \
  X(cuEventDestroy_v2, (handle event), (event))

#define EACH(...) __VA_ARGS__

// An opened library: its functions.
typedef struct library {
  void* dl;
#define X(name, params, args) int(*name) params;
  LIBRARY_CALLS(X) DEVICE_CALLS(X)
#undef X
  int (*emulator_set)(const char* option, long value);  // 0 in a real driver
  const char* (*emulator_log)(void);
} library;

// A device that is in use: the library and the device's primary context.
typedef struct device {
  library* lib;
  handle context;
} device;

// A kernel with its arguments, all in C memory: a launch is one call with two
// pointers.
typedef struct launch {
  handle function;
  unsigned grid[3], block[3], shared;
  int early;  // it may begin before the kernel before it has ended
  void** params;
} launch;

// A tensor of bf16, its axes from the fastest on, and what is copied of it at
// once: a box of three axes, or channels of pixels of a batch of images.
typedef struct tensor_shape {
  int pixels;  // of images: of four axes
  uint64_t extents[4], strides[3];  // strides in bytes, of the axes behind the first
  unsigned box[3];                  // channels and pixels
  unsigned steps[4];
  int lower[2], upper[2];  // corners of what the pixels run through, from the first and the last, across and down
  int swizzle;             // in bytes
} tensor_shape;

enum { TENSOR_MAP_BYTES = 128, INVALID_CONTEXT = 201 };

// library_open returns 0 and says why in *error, to be freed, if the library cannot be opened.
library* library_open(const char* path, char** error);
// library_resolve finds all functions; it returns the name of one that is missing.
const char* library_resolve(library* lib);

// call_cuX calls cuX; where it works in a context, that is made current first
// on the calling thread, which in Go may be another one each time.
#define X(name, params, args) int call_##name(library* lib, EACH params);
LIBRARY_CALLS(X)
#undef X
#define X(name, params, args) int call_##name(device* dev, EACH params);
DEVICE_CALLS(X)
#undef X

// call_tensor_map encodes a tensor at an address, into TENSOR_MAP_BYTES.
int call_tensor_map(device* dev, const tensor_shape* s, device_ptr base, void* map);
int call_launch(device* dev, launch* l, handle stream);
int call_emulator_set(library* lib, const char* option, long value);
const char* call_emulator_log(library* lib);
