// Contractions of any layout and type, without tensor cores: one product of
// matrices whose elements are computed, not stored, so that a convolution is one
// too. It serves what tensor.h does not: images (N,C,H,W) and f64.
#pragma once
#include "device.h"

constexpr u32 TILE = 64, DEPTH = 16;  // a block computes TILE x TILE results, DEPTH products at a time

template <class T> struct contract_tiles {
  T a[DEPTH][TILE + 4], b[DEPTH][TILE + 4];
};

// result(i, j) gets the sum over k of a(i, k) b(k, j), for one tile of (m, n)
// results; a thread computes 4 x 4 of them, 16 apart.
template <class T, class A, class B, class R>
DEVICE void contract(contract_tiles<T>& s, u32 tile_row, u32 tile_column, u32 m, u32 n, u32 depth, A a, B b, R result) {
  const u32 row = tile_row * TILE, column = tile_column * TILE, ty = threadIdx.x / 16, tx = threadIdx.x % 16;
  T sums[4][4] = {};
  for (u32 k0 = 0; k0 < depth; k0 += DEPTH) {
    __syncthreads();  // the last tiles have been read
    UNROLL for (u32 e = threadIdx.x; e < TILE * DEPTH; e += BLOCK) {
      const u32 i = e % TILE, k = e / TILE;
      s.a[k][i] = row + i < m && k0 + k < depth ? convert<T>(a(row + i, k0 + k)) : T(0);
      s.b[k][i] = column + i < n && k0 + k < depth ? convert<T>(b(k0 + k, column + i)) : T(0);
    }
    __syncthreads();
    UNROLL for (u32 k = 0; k < DEPTH; k++) {
      T x[4], y[4];
      UNROLL for (u32 i = 0; i < 4; i++) x[i] = s.a[k][ty + 16 * i], y[i] = s.b[k][tx + 16 * i];
      UNROLL for (u32 i = 0; i < 4; i++) UNROLL for (u32 j = 0; j < 4; j++) sums[i][j] = multiply_add(x[i], y[j], sums[i][j]);
    }
  }
  UNROLL for (u32 i = 0; i < 4; i++) UNROLL for (u32 j = 0; j < 4; j++) {
    const u32 r = row + ty + 16 * i, c = column + tx + 16 * j;
    if (r < m && c < n) result(r, c, sums[i][j]);
  }
}
