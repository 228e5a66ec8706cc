// What device.h needs of CUDA and of PTX, for host C++: types, built-in
// variables, intrinsics, and calls into the emulator. The file is part of every
// emulated module, which is one translation unit and needs nothing of the
// emulator's library but the table that it is given when it is loaded.
#pragma once
#include <math.h>
#include <string.h>

#include "abi.h"

struct uint2 { unsigned x, y; };
struct alignas(8) float2 { float x, y; };
struct alignas(16) uint4 { unsigned x, y, z, w; };
struct alignas(16) float4 { float x, y, z, w; };

#define __global__
#define __device__
#define __host__
#define __constant__ static const
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __cluster_dims__(...)
#define __grid_constant__
#define __align__(n) __attribute__((aligned(n)))
#define __restrict__ __restrict
#define DEVICE static inline
#define METHOD inline
#define UNROLL
#define UNROLL8
#define LOCATION const char *file = __builtin_FILE(), int line = __builtin_LINE()

// The module's own: the table, and the bounds of its static shared memory.
static const emulator_calls* emulator;
extern "C" {
extern char __start_emulated_shared[] __attribute__((weak, visibility("hidden")));
extern char __stop_emulated_shared[] __attribute__((weak, visibility("hidden")));
#if defined(TEMPER_CHECKED)
__attribute__((visibility("default"))) int emulator_checked = 1;
#endif
__attribute__((visibility("default"), no_sanitize("thread"))) void emulator_attach(const emulator_calls* calls, char** shared_from, char** shared_to) {
  emulator = calls;
  *shared_from = __start_emulated_shared;
  *shared_to = __stop_emulated_shared;
}
}
#define __shared__ static __attribute__((section("emulated_shared")))
#define DYNAMIC_SHARED(T, name) T* const name = (T*)emulator->block->dynamic_shared

#define threadIdx ((*emulator->thread)->index)
#define blockIdx (emulator->block->index)
#define blockDim (emulator->block->threads)
#define gridDim (emulator->block->grid)

// EXPORT describes a kernel: the sizes of its parameters, and how to call it.
template <int... I> struct emulator_indices {};
template <int N, int... I> struct emulator_upto : emulator_upto<N - 1, N - 1, I...> {};
template <int... I> struct emulator_upto<0, I...> { typedef emulator_indices<I...> type; };
template <auto F> struct emulator_export;
template <class... A, void (*F)(A...)> struct emulator_export<F> {
  static constexpr unsigned short sizes[sizeof...(A) + 1] = {sizeof(A)...};
  template <int... I> static void spread(void** params, emulator_indices<I...>) { F(*(A*)params[I]...); }
  static void call(void** params) { spread(params, typename emulator_upto<sizeof...(A)>::type{}); }
};
#define EXPORT(name) EXPORT_CLUSTER(name, 1)
#define EXPORT_CLUSTER(name, blocks)                                                          \
  extern "C" __attribute__((visibility("default"))) const emulated_kernel emulated_##name = { \
      #name, sizeof(emulator_export<name>::sizes) / sizeof(short) - 1, emulator_export<name>::sizes, blocks, emulator_export<name>::call};

// Intrinsics. The compiler is told not to fuse products with sums.
static inline unsigned __float_as_uint(float a) { unsigned r; memcpy(&r, &a, 4); return r; }
static inline float __uint_as_float(unsigned a) { float r; memcpy(&r, &a, 4); return r; }
static inline double __longlong_as_double(long long a) { double r; memcpy(&r, &a, 8); return r; }
static inline float __fadd_rn(float a, float b) { return a + b; }
static inline float __fmul_rn(float a, float b) { return a * b; }
static inline float __fdiv_rn(float a, float b) { return a / b; }
static inline float __fsqrt_rn(float a) { return sqrtf(a); }
static inline double __dadd_rn(double a, double b) { return a + b; }
static inline double __dmul_rn(double a, double b) { return a * b; }
static inline double __ddiv_rn(double a, double b) { return a / b; }
static inline double __dsqrt_rn(double a) { return sqrt(a); }
static inline unsigned __umulhi(unsigned a, unsigned b) { return (unsigned)((unsigned long long)a * b >> 32); }

static inline void __syncthreads(LOCATION) { emulator->barrier(file, line); }
static inline void __syncwarp(unsigned mask = ~0u, LOCATION) { emulator->sync_warp(mask, file, line); }
template <class T> static inline T emulator_shuffle(unsigned mask, int kind, T v, int arg, const char* file, int line) {
  unsigned long long bits = 0;
  memcpy(&bits, &v, sizeof v);
  emulator->shuffle(mask, kind, &bits, arg, file, line);
  memcpy(&v, &bits, sizeof v);
  return v;
}
template <class T> static inline T __shfl_sync(unsigned m, T v, int lane, LOCATION) { return emulator_shuffle(m, SHUFFLE_INDEX, v, lane, file, line); }
template <class T> static inline T __shfl_xor_sync(unsigned m, T v, int lanes, LOCATION) { return emulator_shuffle(m, SHUFFLE_XOR, v, lanes, file, line); }
template <class T> static inline T __shfl_down_sync(unsigned m, T v, int by, LOCATION) { return emulator_shuffle(m, SHUFFLE_DOWN, v, by, file, line); }
template <class T> static inline T __shfl_up_sync(unsigned m, T v, int by, LOCATION) { return emulator_shuffle(m, SHUFFLE_UP, v, by, file, line); }
static inline unsigned __ballot_sync(unsigned m, int p, LOCATION) { return emulator->vote(m, p, file, line); }
static inline int __any_sync(unsigned m, int p, LOCATION) { return emulator->vote(m, p, file, line) != 0; }
static inline int __all_sync(unsigned m, int p, LOCATION) { return emulator->vote(m, p, file, line) == m; }

// The wrappers of device.h.
static inline bf16 f32_to_bf16(f32 a) {
  unsigned u = __float_as_uint(a);
  if (a != a) return bf16{0x7fff};
  return bf16{(u16)((u + 0x7fff + (u >> 16 & 1)) >> 16)};
}
static inline u32 f32_to_tf32(f32 a) {  // ties away from zero
  return a - a == 0 ? (__float_as_uint(a) + 0x1000u) & 0xffffe000u : __float_as_uint(a);
}
static inline void copy_async16(void* to, const void* from, bool wanted, LOCATION) { emulator->copy_async(to, from, wanted, file, line); }
static inline void copy_async_commit() { emulator->copy_commit(); }
template <int N> static inline void copy_async_wait() { emulator->copy_wait(N); }
static inline void load_matrices(u32 (&r)[4], const void* row, LOCATION) { emulator->load_matrices(r, row, 0, file, line); }
static inline void load_matrices_transposed(u32 (&r)[4], const void* row, LOCATION) { emulator->load_matrices(r, row, 1, file, line); }
static inline void mma_bf16(f32 (&d)[4], const u32 (&a)[4], const u32 (&b)[2], LOCATION) { emulator->mma(MMA_BF16, 1, 1, d, a, b, file, line); }
static inline void mma_tf32(f32 (&d)[4], const u32 (&a)[4], const u32 (&b)[2], LOCATION) { emulator->mma(MMA_TF32, 1, 1, d, a, b, file, line); }
template <int M, int N> static inline void mma_bf16(f32 (&d)[M][N][4], const u32 (&a)[M][4], const u32 (&b)[N][2], LOCATION) {
  emulator->mma(MMA_BF16, M, N, d[0][0], a[0], b[0], file, line);
}
template <int M, int N> static inline void mma_tf32(f32 (&d)[M][N][4], const u32 (&a)[M][4], const u32 (&b)[N][2], LOCATION) {
  emulator->mma(MMA_TF32, M, N, d[0][0], a[0], b[0], file, line);
}
static inline void wait_for_turn() { emulator->wait_for_turn(); }
static inline u32 shared_address(const void* p) { return (u32)((const unsigned char*)p - emulator->block->dynamic_shared); }
template <u32 THREADS> static inline void group_sync(u32 barrier, LOCATION) { emulator->group_sync(barrier, THREADS, file, line); }
template <u32 N> static inline void release_registers() { static_assert(N % 8 == 0 && N >= 24 && N <= 256, ""); }
template <u32 N> static inline void acquire_registers() { static_assert(N % 8 == 0 && N >= 24 && N <= 256, ""); }
static inline void mbarrier_init(u64* b, u32 arrivals, LOCATION) { emulator->mbarrier_init(b, arrivals, file, line); }
static inline void mbarrier_arrive(u64* b, LOCATION) { emulator->mbarrier_arrive(b, 0, file, line); }
static inline void mbarrier_arrive_expecting(u64* b, u32 bytes, LOCATION) { emulator->mbarrier_arrive(b, bytes, file, line); }
static inline void mbarrier_arrive_at(u64* b, u32 block, LOCATION) { emulator->mbarrier_arrive_at(b, block, file, line); }
static inline void cluster_sync(LOCATION) { emulator->cluster_sync(file, line); }
static inline void mbarrier_wait(u64* b, u32 parity, LOCATION) { emulator->mbarrier_wait(b, parity, file, line); }
static inline void fence_proxy_async() { emulator->fence_async(); }
template <u32 BLOCKS = 0> static inline void copy_tile(void* to, const tensor_map* from, u64* done, i32 x, i32 y, i32 z, LOCATION) {
  const tensor_copy_call call = {to, from, done, {x, y, z, 0}, 0, 0, false, BLOCKS};
  emulator->tensor_copy(&call, file, line);
}
template <u32 BLOCKS = 0> static inline void copy_pixels(void* to, const tensor_map* from, u64* done, i32 c, i32 w, i32 h, i32 n, u16 right, u16 down, LOCATION) {
  const tensor_copy_call call = {to, from, done, {c, w, h, n}, right, down, true, BLOCKS};
  emulator->tensor_copy(&call, file, line);
}
template <int M, int Q> static inline void wgmma_fence(f32 (&)[M][Q]) { emulator->wgmma_fence(); }
static inline void wgmma_commit() { emulator->wgmma_commit(); }
template <int GROUPS> static inline void wgmma_wait(LOCATION) { emulator->wgmma_wait(GROUPS, file, line); }
template <int M, int Q> static inline void wgmma_wait_for(f32 (&)[M][Q], LOCATION) { emulator->wgmma_wait(0, file, line); }
template <bool A_ALONG_K, bool B_ALONG_K, u32 K, int Q> static inline void wgmma_bf16(f32 (&d)[Q], u64 a, u64 b, u32 a_step, u32 b_step, LOCATION) {
  static_assert(Q == 16 || Q == 32 || Q == 64 || Q == 80 || Q == 128, "device.h has no such product");
  const wgmma_call call = {d, 2 * Q, K, a, b, a_step, b_step, A_ALONG_K, B_ALONG_K};
  emulator->wgmma(&call, file, line);
}

// In a checked module the compiler (-fsanitize=thread) calls a hook before each
// access to memory that another thread might see. No sanitizer is linked: the
// hooks are these.
#if defined(TEMPER_CHECKED)
#define HOOK extern "C" __attribute__((visibility("hidden"), no_sanitize("thread"), used)) void
#define ACCESS(n, is_write) emulator->access(p, n, is_write, __builtin_return_address(0))
#define HOOKS(n)                                                    \
  HOOK __tsan_read##n(void* p) { ACCESS(n, 0); }                    \
  HOOK __tsan_write##n(void* p) { ACCESS(n, 1); }                   \
  HOOK __tsan_unaligned_read##n(void* p) { ACCESS(n, 0); }          \
  HOOK __tsan_unaligned_write##n(void* p) { ACCESS(n, 1); }         \
  HOOK __tsan_volatile_read##n(void* p) { ACCESS(n, 0); }           \
  HOOK __tsan_volatile_write##n(void* p) { ACCESS(n, 1); }
HOOKS(1) HOOKS(2) HOOKS(4) HOOKS(8) HOOKS(16)
HOOK __tsan_read_range(void* p, unsigned long n) { emulator->access_range(p, n, 0, __builtin_return_address(0)); }
HOOK __tsan_write_range(void* p, unsigned long n) { emulator->access_range(p, n, 1, __builtin_return_address(0)); }
HOOK __tsan_init() {}
HOOK __tsan_func_entry(void*) {}
HOOK __tsan_func_exit(void*) {}
#endif
