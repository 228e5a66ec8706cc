//go:build cgo && !windows

#define _POSIX_C_SOURCE 200809L  // strdup

#include "driver.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

library* library_open(const char* path, char** error) {
  void* dl = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (!dl) {
    *error = strdup(dlerror());  // whose own string is the thread's, and Go changes threads
    return 0;
  }
  library* lib = calloc(1, sizeof *lib);
  lib->dl = dl;
  return lib;
}

const char* library_resolve(library* lib) {
#define X(name, params, args) \
  if (!(*(void**)&lib->name = dlsym(lib->dl, #name))) return #name;
  LIBRARY_CALLS(X) DEVICE_CALLS(X)
#undef X
  *(void**)&lib->emulator_set = dlsym(lib->dl, "emulator_set");
  *(void**)&lib->emulator_log = dlsym(lib->dl, "emulator_log");
  return 0;
}

#define X(name, params, args) \
  int call_##name(library* lib, EACH params) { return lib->name args; }
LIBRARY_CALLS(X)
#undef X
#define X(name, params, args)                            \
  int call_##name(device* dev, EACH params) {            \
    if (!dev) return INVALID_CONTEXT; /* closed */       \
    int r = dev->lib->cuCtxSetCurrent(dev->context);     \
    return r ? r : dev->lib->name args;                  \
  }
DEVICE_CALLS(X)
#undef X

int call_tensor_map(device* dev, const tensor_shape* s, device_ptr base, void* map) {
  enum { BFLOAT16 = 9, PROMOTE_256B = 3 };  // of the driver API; interleaving and filling: none, zeros
  _Alignas(128) char encoded[TENSOR_MAP_BYTES];  // as CUDA 13's header has it; 64 in CUDA 12's
  const int swizzle = s->swizzle == 128 ? 3 : s->swizzle == 64 ? 2 : 1;
  int r = s->pixels ? call_cuTensorMapEncodeIm2col(dev, encoded, BFLOAT16, 4, base, s->extents, s->strides, s->lower, s->upper, s->box[0],
                                                   s->box[1], s->steps, 0, swizzle, PROMOTE_256B, 0)
                    : call_cuTensorMapEncodeTiled(dev, encoded, BFLOAT16, 3, base, s->extents, s->strides, s->box, s->steps, 0, swizzle,
                                                  PROMOTE_256B, 0);
  memcpy(map, encoded, sizeof encoded);
  return r;
}

int call_launch(device* dev, launch* l, handle stream) {
  if (l->early) {
    enum { PROGRAMMATIC_STREAM_SERIALIZATION = 6 };
    const launch_attribute early = {.id = PROGRAMMATIC_STREAM_SERIALIZATION, .value.on = 1};
    const launch_config config = {{l->grid[0], l->grid[1], l->grid[2]}, {l->block[0], l->block[1], l->block[2]}, l->shared, stream, &early, 1};
    return call_cuLaunchKernelEx(dev, &config, l->function, l->params, 0);
  }
  return call_cuLaunchKernel(dev, l->function, l->grid[0], l->grid[1], l->grid[2], l->block[0], l->block[1], l->block[2],
                             l->shared, stream, l->params, 0);
}

int call_emulator_set(library* lib, const char* option, long value) {
  return lib->emulator_set ? lib->emulator_set(option, value) : -1;
}

const char* call_emulator_log(library* lib) { return lib->emulator_log ? lib->emulator_log() : ""; }
