#include "device.h"

// y = scale x + shift
extern "C" __global__ void scale(const f32* x, f32* y, f32 scale, f32 shift, u32 n) {
  for (u32 i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) y[i] = add_(mul_(x[i], scale), shift);
}
EXPORT(scale)

// y = a - b
extern "C" __global__ void subtract(const f32* a, const f32* b, f32* y, u32 n) {
  for (u32 i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) y[i] = sub_(a[i], b[i]);
}
EXPORT(subtract)
