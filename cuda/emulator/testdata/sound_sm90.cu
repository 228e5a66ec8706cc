#include "conv_sm90.h"

// Kernels of sm_90a without a bug. They write and read shared memory where the
// PTX manual says that elements lie, so that copies and products are each held to
// it, and not to one another.

// swizzled is where a byte lies in shared memory that starts at a multiple of 1024.
DEVICE u32 swizzled(u32 offset, u32 span) { return offset ^ (offset >> 7 & (span / 16 - 1)) << 4; }

// products computes d (64,N) = a (64,64) b (64,N), K-major or not: element (i, k)
// of an operand is at i * 64 + k.
template <u32 SPAN, bool A_ALONG_K, bool B_ALONG_K, u32 N> DEVICE void products(const u16* a, const u16* b, f32* d) {
  constexpr u32 DEPTH = SPAN / 2, WIDTH = SPAN / 2;
  typedef wgmma_operand<64, DEPTH, SPAN, A_ALONG_K> rows;
  typedef wgmma_operand<N, DEPTH, SPAN, B_ALONG_K> columns;
  DYNAMIC_SHARED(u8, shared);
  auto put = [&](u8* to, const u16* from, u32 extent, bool along_k, u32 k0) {
    for (u32 e = threadIdx.x; e < extent * DEPTH; e += blockDim.x) {
      const u32 i = e / DEPTH, k = e % DEPTH;
      const u32 offset = along_k ? i * SPAN + 2 * k : i / WIDTH * DEPTH * SPAN + k * SPAN + i % WIDTH * 2;
      *(u16*)(to + swizzled(offset, SPAN)) = from[i * 64 + k0 + k];
    }
  };
  f32 sums[1][N / 2] = {};
  for (u32 k = 0; k < 64; k += DEPTH) {
    put(shared, a, 64, A_ALONG_K, k);
    put(shared + 8192, b, N, B_ALONG_K, k);
    fence_proxy_async();
    __syncthreads();
    wgmma_fence(sums);
    wgmma_bf16<A_ALONG_K, B_ALONG_K, DEPTH>(sums[0], rows::matrix(shared, 0, 0), columns::matrix(shared + 8192, 0, 0), rows::STEP, columns::STEP);
    wgmma_commit();
    wgmma_wait_for(sums);
    __syncthreads();
  }
  const u32 lane = threadIdx.x % 32;
  for (u32 q = 0; q < N / 2; q++) d[(threadIdx.x / 32 * 16 + lane / 4 + q / 2 % 2 * 8) * N + q / 4 * 8 + lane % 4 * 2 + q % 2] = sums[0][q];
}
#define PRODUCTS(SPAN, A, B, N)                                                                                                             \
  extern "C" __global__ void products_##SPAN##A##B##N(const u16* a, const u16* b, f32* d) { products<SPAN, #A[0] == 'k', #B[0] == 'k', N>(a, b, d); } \
  EXPORT(products_##SPAN##A##B##N)
PRODUCTS(32, k, k, 32)
PRODUCTS(64, k, k, 160)
PRODUCTS(128, k, k, 128)
PRODUCTS(32, k, m, 160)
PRODUCTS(64, k, m, 32)
PRODUCTS(128, k, m, 128)
PRODUCTS(32, m, k, 64)
PRODUCTS(64, m, m, 160)
PRODUCTS(128, m, m, 64)
PRODUCTS(64, k, k, 256)
PRODUCTS(128, m, m, 256)

// What a copy brings, line by line: n lines of SPAN bytes.
template <u32 SPAN, class F> DEVICE void copied(u16* out, u32 n, F copy) {
  DYNAMIC_SHARED(u8, shared);
  u64* const done = (u64*)(shared + 32768);
  if (threadIdx.x == 0) {
    mbarrier_init(done, 1);
    fence_proxy_async();
    mbarrier_arrive_expecting(done, n * SPAN);
    copy(shared, done);
  }
  __syncthreads();
  mbarrier_wait(done, 0);
  for (u32 e = threadIdx.x; e < n * SPAN / 2; e += blockDim.x) out[e] = *(const u16*)(shared + swizzled(2 * e, SPAN));
}
extern "C" __global__ void tile_64(const __grid_constant__ tensor_maps<1> x, u16* out, u32 n, i32 c, i32 y, i32 z) {
  copied<64>(out, n, [&](void* to, u64* done) { copy_tile(to, x.of, done, c, y, z); });
}
EXPORT(tile_64)
// halves has each of a pair of blocks copy half of 2 n lines to both.
extern "C" __global__ void __cluster_dims__(2, 1, 1) halves(const __grid_constant__ tensor_maps<1> x, const __grid_constant__ tensor_maps<1> pixels, u16* out, u32 n) {
  DYNAMIC_SHARED(u8, shared);
  u64* const done = (u64*)(shared + 32768);
  if (threadIdx.x == 0) {
    mbarrier_init(done, 1);
    fence_proxy_async();
  }
  cluster_sync();
  const u32 half = blockIdx.x % 2;
  if (threadIdx.x == 0) {
    mbarrier_arrive_expecting(done, 4 * n * 64);
    copy_tile<3>(shared + half * n * 64, x.of, done, 0, 0, half);
    copy_pixels<3>(shared + (2 + half) * n * 64, pixels.of, done, 0, 0, 0, half, 0, 0);
  }
  mbarrier_wait(done, 0);
  for (u32 e = threadIdx.x; e < 4 * n * 32; e += blockDim.x) out[blockIdx.x * 4 * n * 32 + e] = *(const u16*)(shared + swizzled(2 * e, 64));
  cluster_sync();
}
EXPORT_CLUSTER(halves, 2)
extern "C" __global__ void pixels_32(const __grid_constant__ tensor_maps<2> x, u16* out, u32 n, i32 c, i32 w, i32 h, i32 image, u32 right, u32 down) {
  copied<32>(out, n, [&](void* to, u64* done) { copy_pixels(to, x.of + 1, done, c, w, h, image, right, down); });
}
EXPORT(pixels_32)
