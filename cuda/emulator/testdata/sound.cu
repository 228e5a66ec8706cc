#include "device.h"

// Kernels without a bug, that use what a checker might get wrong.

struct Shape {
  u32 rows, columns;
  f32 scale;
};

// y (columns, rows) = scale x^T, x (rows, columns): static shared memory with
// padding, a parameter struct, two-dimensional blocks.
extern "C" __global__ void transpose(const f32* x, f32* y, Shape s) {
  __shared__ f32 tile[16][17];
  u32 c = blockIdx.x * 16 + threadIdx.x, r = blockIdx.y * 16 + threadIdx.y;
  if (r < s.rows && c < s.columns) tile[threadIdx.y][threadIdx.x] = mul_(x[r * s.columns + c], s.scale);
  __syncthreads();
  r = blockIdx.y * 16 + threadIdx.x, c = blockIdx.x * 16 + threadIdx.y;
  if (r < s.rows && c < s.columns) y[c * s.rows + r] = tile[threadIdx.x][threadIdx.y];
}
EXPORT(transpose)

// The warp's running sum, over shared memory with __syncwarp, and by shuffles.
extern "C" __global__ void scan(const f32* x, f32* y, f32* z) {
  __shared__ f32 s[256];
  const u32 t = threadIdx.x, lane = t % 32;
  f32 v = x[t], w = v;
  s[t] = v;
  for (u32 by = 1; by < 32; by *= 2) {
    __syncwarp();
    f32 other = lane >= by ? s[t - by] : 0;
    __syncwarp();
    s[t] = v = add_(v, other);
    other = __shfl_up_sync(~0u, w, by);
    if (lane >= by) w = add_(w, other);
  }
  y[t] = v;
  z[t] = w;
}
EXPORT(scan)

// Bytes of neighbouring blocks in one word, and threads that leave early.
extern "C" __global__ void bytes(const f32* x, bool* positive, u32 n) {
  const u32 i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  positive[i] = x[i] > 0;
  __syncthreads();
}
EXPORT(bytes)

// c (m,n) f32 = a (m,k) b (n,k)^T, bf16, m, n, k multiples of 64, 64 and 32:
// copies two tiles ahead, ldmatrix, mma. Warps are 2 by 2, of 32 x 32.
extern "C" __global__ void gemm_bf16(const u16* a, const u16* b, f32* c, u32 n, u32 k) {
  DYNAMIC_SHARED(u16, shared);  // 3 stages of (128, 32), 8 elements behind each row
  constexpr u32 ROW = 40, STAGE = 128 * ROW;
  const u32 t = threadIdx.x, lane = t % 32, wm = t / 64, wn = t / 32 % 2;
  const u32 m0 = blockIdx.y * 64, n0 = blockIdx.x * 64, tiles = k / 32;
  auto fetch = [&](u32 tile) {
    for (u32 i = t; i < 512; i += 128) {
      const u32 row = i / 4, part = i % 4 * 8;
      const u16* from = row < 64 ? a + (m0 + row) * k : b + (n0 + row - 64) * k;
      copy_async16(shared + tile % 3 * STAGE + row * ROW + part, from + tile * 32 + part, true);
    }
  };
  f32 d[2][4][4] = {};
  for (u32 i = 0; i < 2; i++) {
    if (i < tiles) fetch(i);
    copy_async_commit();
  }
  for (u32 tile = 0; tile < tiles; tile++) {
    copy_async_wait<1>();
    __syncthreads();
    if (tile + 2 < tiles) fetch(tile + 2);
    copy_async_commit();
    const u16* s = shared + tile % 3 * STAGE;
    for (u32 kk = 0; kk < 32; kk += 16) {
      u32 fa[2][4], fb[4][2];
      for (u32 i = 0; i < 2; i++) {
        load_matrices(fa[i], s + (wm * 32 + i * 16 + lane % 16) * ROW + kk + lane / 16 * 8);
        u32 r[4];
        load_matrices(r, s + (64 + wn * 32 + i * 16 + lane % 8 + lane / 16 * 8) * ROW + kk + lane / 8 % 2 * 8);
        for (u32 j = 0; j < 4; j++) fb[i * 2 + j / 2][j % 2] = r[j];
      }
      mma_bf16(d, fa, fb);
    }
  }
  for (u32 i = 0; i < 2; i++)
    for (u32 j = 0; j < 4; j++)
      for (u32 q = 0; q < 4; q++)
        c[(m0 + wm * 32 + i * 16 + lane / 4 + q / 2 * 8) * n + n0 + wn * 32 + j * 8 + lane % 4 * 2 + q % 2] = d[i][j][q];
}
EXPORT(gemm_bf16)

// d (16,8) = a (16,8) b (8,8), one warp: the layout of tf32's operands, and
// ldmatrix with a transposition, which out shows.
extern "C" __global__ void fragments(const u32* a, const u32* b, f32* d, const u16* rows, u32* out) {
  __shared__ __align__(16) u16 s[32 * 8];
  const u32 l = threadIdx.x, g = l / 4, q = l % 4;
  const u32 fa[4] = {a[g * 8 + q], a[(g + 8) * 8 + q], a[g * 8 + q + 4], a[(g + 8) * 8 + q + 4]};
  const u32 fb[2] = {b[q * 8 + g], b[(q + 4) * 8 + g]};
  f32 fd[4] = {};
  mma_tf32(fd, fa, fb);
  for (u32 i = 0; i < 4; i++) d[(g + i / 2 * 8) * 8 + 2 * q + i % 2] = fd[i];
  for (u32 i = 0; i < 8; i++) s[l * 8 + i] = rows[l * 8 + i];
  __syncwarp();
  u32 r[4];
  load_matrices_transposed(r, s + l * 8);
  for (u32 i = 0; i < 4; i++) out[l * 4 + i] = r[i];
}
EXPORT(fragments)
