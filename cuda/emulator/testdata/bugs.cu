#include "device.h"

// Each kernel has one bug, in the line that says so. a is read, (n); b is
// written, (n); u has never been written.

extern "C" __global__ void out_of_bounds(const f32* a, f32* b, const f32* u, u32 n) {
  const u32 i = blockIdx.x * blockDim.x + threadIdx.x;
  b[i] = a[i < n ? i : 0];  // bug: out_of_bounds
}
EXPORT(out_of_bounds)

extern "C" __global__ void null_pointer(const f32* a, f32* b, const f32* u, u32 n) {
  const f32* p = n > 1u ? nullptr : a;
  b[threadIdx.x] = p[threadIdx.x];  // bug: null_pointer
}
EXPORT(null_pointer)

extern "C" __global__ void misaligned(const f32* a, f32* b, const f32* u, u32 n) {
  if (blockIdx.x == 0 && threadIdx.x < 8) {
    float4 v = *(const float4*)(a + 4 * threadIdx.x + 1);  // bug: misaligned
    *(float4*)(b + 4 * threadIdx.x) = v;
  }
}
EXPORT(misaligned)

extern "C" __global__ void uninitialised_shared(const f32* a, f32* b, const f32* u, u32 n) {
  __shared__ f32 s[256];
  const u32 t = threadIdx.x;
  if (t < 255) s[t] = a[t];
  __syncthreads();
  b[t] = s[t];  // bug: uninitialised_shared
}
EXPORT(uninitialised_shared)

extern "C" __global__ void uninitialised_global(const f32* a, f32* b, const f32* u, u32 n) {
  b[threadIdx.x] = a[threadIdx.x] + u[threadIdx.x];  // bug: uninitialised_global
}
EXPORT(uninitialised_global)

extern "C" __global__ void divergent_barrier(const f32* a, f32* b, const f32* u, u32 n) {
  __shared__ f32 s[256];
  const u32 t = threadIdx.x;
  s[t] = a[t];
  if (t < 64) {
    __syncthreads();
    b[t] = s[255 - t];
  } else {
    __syncthreads();  // bug: divergent_barrier
    b[t] = 0;
  }
}
EXPORT(divergent_barrier)

extern "C" __global__ void deadlock(const f32* a, f32* b, const f32* u, u32 n) {
  f32 v = a[threadIdx.x];
  if (threadIdx.x % 2) v = __shfl_xor_sync(~0u, v, 1);  // bug: deadlock
  else __syncthreads();
  b[threadIdx.x] = v;
}
EXPORT(deadlock)

extern "C" __global__ void warp_divergence(const f32* a, f32* b, const f32* u, u32 n) {
  f32 v = a[threadIdx.x];
  if (threadIdx.x % 2) v = __shfl_xor_sync(~0u, v, 1);
  else v = (f32)__ballot_sync(~0u, v > 0);  // bug: warp_divergence
  b[threadIdx.x] = v;
}
EXPORT(warp_divergence)

extern "C" __global__ void race_across_warps(const f32* a, f32* b, const f32* u, u32 n) {
  __shared__ f32 s[256];
  s[threadIdx.x] = 0;
  __syncthreads();
  s[threadIdx.x] = a[threadIdx.x];
  b[threadIdx.x] = s[threadIdx.x ^ 32];  // bug: race_across_warps
}
EXPORT(race_across_warps)

extern "C" __global__ void race_in_a_warp(const f32* a, f32* b, const f32* u, u32 n) {
  __shared__ f32 s[256];
  s[threadIdx.x] = 0;
  __syncthreads();
  s[threadIdx.x] = a[threadIdx.x];
  b[threadIdx.x] = s[threadIdx.x ^ 1];  // bug: race_in_a_warp
}
EXPORT(race_in_a_warp)

extern "C" __global__ void race_write_after_read(const f32* a, f32* b, const f32* u, u32 n) {
  __shared__ f32 s[256];
  s[threadIdx.x] = a[threadIdx.x];
  __syncthreads();
  b[threadIdx.x] = s[0];
  s[threadIdx.x] = 1;  // bug: race_write_after_read
  __syncthreads();
  b[threadIdx.x] += s[threadIdx.x];
}
EXPORT(race_write_after_read)

extern "C" __global__ void race_global(const f32* a, f32* b, const f32* u, u32 n) {
  b[threadIdx.x] = a[threadIdx.x] + blockIdx.x;  // bug: race_global
}
EXPORT(race_global)

extern "C" __global__ void race_global_in_block(const f32* a, f32* b, const f32* u, u32 n) {
  b[threadIdx.x] = a[threadIdx.x];
  f32 v = b[threadIdx.x ^ 32];  // bug: race_global_in_block
  __syncthreads();
  b[threadIdx.x] = v;
}
EXPORT(race_global_in_block)

extern "C" __global__ void race_of_bytes(const f32* a, f32* b, const f32* u, u32 n) {
  __shared__ u8 s[256];
  s[threadIdx.x] = (u8)threadIdx.x;
  s[(threadIdx.x + 1) % 256] = 0;  // bug: race_of_bytes
  __syncthreads();
  b[threadIdx.x] = s[threadIdx.x];
}
EXPORT(race_of_bytes)

extern "C" __global__ void copy_without_wait(const f32* a, f32* b, const f32* u, u32 n) {
  __shared__ __align__(16) f32 s[256];
  if (threadIdx.x < 64) copy_async16(s + 4 * threadIdx.x, a + 4 * threadIdx.x, true);
  copy_async_commit();
  __syncthreads();
  b[threadIdx.x] = s[threadIdx.x];  // bug: copy_without_wait
}
EXPORT(copy_without_wait)

extern "C" __global__ void copy_without_barrier(const f32* a, f32* b, const f32* u, u32 n) {
  __shared__ __align__(16) f32 s[256];
  s[threadIdx.x] = 0;
  __syncthreads();
  if (threadIdx.x < 64) copy_async16(s + 4 * threadIdx.x, a + 4 * threadIdx.x, true);
  copy_async_commit();
  copy_async_wait<0>();
  b[threadIdx.x] = threadIdx.x < 64 ? s[(threadIdx.x + 4) % 256] : 0;  // bug: copy_without_barrier
}
EXPORT(copy_without_barrier)

extern "C" __global__ void copy_misaligned(const f32* a, f32* b, const f32* u, u32 n) {
  __shared__ __align__(16) f32 s[256];
  copy_async16(s, a + 1, true);  // bug: copy_misaligned
  copy_async_commit();
  copy_async_wait<0>();
  b[0] = s[0];
}
EXPORT(copy_misaligned)

extern "C" __global__ void rows_outside_shared(const f32* a, f32* b, const f32* u, u32 n) {
  u32 r[4];
  load_matrices(r, a);  // bug: rows_outside_shared
  b[threadIdx.x] = (f32)r[0];
}
EXPORT(rows_outside_shared)

extern "C" __global__ void dynamic_out_of_bounds(const f32* a, f32* b, const f32* u, u32 n) {
  DYNAMIC_SHARED(f32, s);
  s[threadIdx.x] = a[threadIdx.x];  // bug: dynamic_out_of_bounds
  b[threadIdx.x] = s[threadIdx.x];
}
EXPORT(dynamic_out_of_bounds)
