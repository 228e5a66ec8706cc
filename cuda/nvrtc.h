// NVRTC, CUDA's run-time compiler, as far as temper uses it, found at run time
// by name.
#pragma once
#include <stddef.h>
#include <stdint.h>

typedef uintptr_t nvrtc_program;

#define NVRTC_CALLS(X)                                                                  \
  X(nvrtcVersion, (int* major, int* minor), (major, minor))                             \
  X(nvrtcGetNumSupportedArchs, (int* n), (n))                                           \
  X(nvrtcGetSupportedArchs, (int* archs), (archs))                                      \
  X(nvrtcCreateProgram, (nvrtc_program* p, const char* source, const char* name, int n, const char* const* headers, const char* const* names), \
    (p, source, name, n, headers, names))                                               \
  X(nvrtcDestroyProgram, (nvrtc_program* p), (p))                                       \
  X(nvrtcCompileProgram, (nvrtc_program p, int n, const char* const* options), (p, n, options)) \
  X(nvrtcGetCUBINSize, (nvrtc_program p, size_t* size), (p, size))                      \
  X(nvrtcGetCUBIN, (nvrtc_program p, char* cubin), (p, cubin))                          \
  X(nvrtcGetProgramLogSize, (nvrtc_program p, size_t* size), (p, size))                 \
  X(nvrtcGetProgramLog, (nvrtc_program p, char* log), (p, log))

#define EACH(...) __VA_ARGS__

typedef struct nvrtc {
#define X(name, params, args) int(*name) params;
  NVRTC_CALLS(X)
#undef X
  const char* (*nvrtcGetErrorString)(int code);
} nvrtc;

// preload loads a library that another will look for by its name alone.
void preload(const char* path);

// nvrtc_open returns 0 and says why in *error, to be freed, if the library cannot be used.
nvrtc* nvrtc_open(const char* path, char** error);

#define X(name, params, args) int call_##name(nvrtc* lib, EACH params);
NVRTC_CALLS(X)
#undef X
const char* call_nvrtcGetErrorString(nvrtc* lib, int code);
