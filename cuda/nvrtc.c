//go:build cgo && !windows

#define _POSIX_C_SOURCE 200809L  // strdup

#include "nvrtc.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

void preload(const char* path) { dlopen(path, RTLD_NOW | RTLD_GLOBAL); }

nvrtc* nvrtc_open(const char* path, char** error) {
  void* dl = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (!dl) {
    *error = strdup(dlerror());  // whose own string is the thread's, and Go changes threads
    return 0;
  }
  nvrtc* lib = calloc(1, sizeof *lib);
#define X(name, params, args)                         \
  if (!(*(void**)&lib->name = dlsym(dl, #name))) {    \
    *error = strdup("it has no " #name);              \
    free(lib);                                        \
    return 0;                                         \
  }
  NVRTC_CALLS(X)
  X(nvrtcGetErrorString, , )
#undef X
  return lib;
}

#define X(name, params, args) \
  int call_##name(nvrtc* lib, EACH params) { return lib->name args; }
NVRTC_CALLS(X)
#undef X
const char* call_nvrtcGetErrorString(nvrtc* lib, int code) { return lib->nvrtcGetErrorString(code); }
