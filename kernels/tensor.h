// Contractions in tiles: a block computes a tile of a product of matrices whose
// elements Sources find in memory, so that a convolution is one too (conv.h).
// Nothing is padded: what lies beyond an edge counts as zero.
//
// Operands go through some stages of shared memory, which asynchronous copies
// fill while the tensor cores work on an earlier one. The sums then lie in the
// same memory, from where threads give them, eight neighbours at a time, to a
// Result, which stores them and may compute more on the way.
#pragma once
#include "device.h"

// How f32 is multiplied; behind each, its error relative to the sum of the
// products' absolute values. bf16 is multiplied exactly and summed in f32.
enum precision {
  EXACT,   // f32, without tensor cores: as the CPU does it
  TF32X3,  // operands as sums of two tf32 numbers, three products: 2^-21
  TF32,    // operands rounded to tf32, 11 bits: 2^-10
};

// ROWS x COLUMNS results of a block's eight warps. T is the operands' type,
// bf16 or f32; sums are f32.
template <class T_, u32 ROWS_, u32 COLUMNS_, precision P_ = EXACT, u32 STAGES_ = 3> struct tensor_tile {
  typedef T_ T;
  static constexpr precision P = P_;
  static constexpr u32 ROWS = ROWS_, COLUMNS = COLUMNS_, STAGES = STAGES_;
  static constexpr u32 DEPTH = 64 / sizeof(T);  // products at a time
  static constexpr u32 WARPS_ACROSS = COLUMNS >= 128 ? 4 : COLUMNS >= 32 ? 2 : 1, WARPS_DOWN = BLOCK / 32 / WARPS_ACROSS;
  static constexpr u32 WARP_ROWS = ROWS / WARPS_DOWN, WARP_COLUMNS = COLUMNS / WARPS_ACROSS;
  static constexpr u32 M = WARP_ROWS / 16, N = WARP_COLUMNS / 8;  // fragments of 16 x 8
  static constexpr u32 RESULT_STRIDE = COLUMNS + 8;               // of sums in shared memory
  static constexpr u32 THREADS = BLOCK;                           // that give a tile's results
  METHOD static u32 thread() { return threadIdx.x; }              // which of them this is
  METHOD static void sync() { __syncthreads(); }                  // is theirs
};

// Chunks are the 16 bytes that an asynchronous copy moves.
template <class T> struct chunk { static constexpr u32 SIZE = 16 / sizeof(T); };

// EXTENT rows (or columns) of an operand as they lie in shared memory: in lines
// along k, [EXTENT][DEPTH], or across it, [DEPTH][EXTENT]. The lines' padding
// keeps a warp's reads in different banks.
template <class T, u32 EXTENT, bool ALONG_K_> struct operand_tile {
  static constexpr bool ALONG_K = ALONG_K_;
  static constexpr u32 DEPTH = 64 / sizeof(T);
  static constexpr u32 LINES = ALONG_K ? EXTENT : DEPTH, STRIDE = ALONG_K ? DEPTH + chunk<T>::SIZE : EXTENT + 8;
  static constexpr u32 SIZE = LINES * STRIDE;
  static constexpr u32 CHUNKS = (ALONG_K ? DEPTH : EXTENT) / chunk<T>::SIZE;  // of a line
  static constexpr u32 AT_ONCE = BLOCK / CHUNKS;                              // lines that a block copies at once
  static constexpr u32 TURNS = (LINES + AT_ONCE - 1) / AT_ONCE;
};

// A Source is an operand, element by element. It has
//   T, row_state, depth_state: types;
//   ALONG_K: chunks run along k, not across it;
//   VECTORS: chunks are in one piece in memory, 16-byte aligned, and either
//            whole or beyond an edge; if not, elements are copied one by one;
//   x:       the operand's address;
//   row(i), depth(k): what follows from a row's or a product's position alone;
//   at(row, depth): the address of the element, or null where it is 0;
//   TRANSFORMS; then, of a Source with VECTORS, transform(chunk, row, depth) is
//            what becomes of a chunk (for which at is not null) on its way.

// matrix is the Source of a matrix in memory, with lines of STRIDE elements
// along k or across it.
template <class T_, bool ALONG_K_, u32 STRIDE> struct matrix {
  typedef T_ T;
  typedef const T* row_state;
  typedef u32 depth_state;
  static constexpr bool ALONG_K = ALONG_K_, VECTORS = STRIDE % chunk<T>::SIZE == 0, TRANSFORMS = false;
  const T* x;
  METHOD row_state row(u32 i) const { return x + (ALONG_K ? i * STRIDE : i); }
  METHOD depth_state depth(u32 k) const { return ALONG_K ? k : k * STRIDE; }
  METHOD const T* at(row_state r, depth_state k) const { return r + k; }
};

// fetcher copies an operand's tiles to shared memory: rows first, first + 1, …
// below rows, products below depth.
template <class Source, u32 EXTENT> struct fetcher {
  typedef typename Source::T T;
  typedef operand_tile<T, EXTENT, Source::ALONG_K> tile;
  static constexpr bool ALONG_K = Source::ALONG_K;
  static constexpr u32 KEPT = ALONG_K ? tile::TURNS : 1;
  const Source& source;
  const u32 first, rows, depth, line, part;  // part: where this thread's chunks begin in their lines
  typename Source::row_state kept[KEPT];

  METHOD fetcher(const Source& source, u32 first, u32 rows, u32 depth)
      : source(source), first(first), rows(rows), depth(depth), line(threadIdx.x / tile::CHUNKS),
        part(threadIdx.x % tile::CHUNKS * chunk<T>::SIZE) {
    UNROLL for (u32 i = 0; i < KEPT; i++) kept[i] = source.row(row_of(i));
  }
  METHOD u32 row_of(u32 turn, u32 e = 0) const { return first + (ALONG_K ? line + turn * tile::AT_ONCE : part + e); }
  METHOD u32 depth_of(u32 turn, u32 k, u32 e = 0) const { return k + (ALONG_K ? part + e : line + turn * tile::AT_ONCE); }
  METHOD typename Source::row_state row(u32 turn, u32 e = 0) const {
    if constexpr (ALONG_K) return kept[turn];
    else return e == 0 ? kept[0] : source.row(row_of(turn, e));
  }
  METHOD const T* at(u32 turn, u32 k, u32 e = 0) const {
    return row_of(turn, e) < rows && depth_of(turn, k, e) < depth ? source.at(row(turn, e), source.depth(depth_of(turn, k, e))) : 0;
  }
  METHOD T* place(T* to, u32 turn) const { return to + (line + turn * tile::AT_ONCE) * tile::STRIDE + part; }
  METHOD bool mine(u32 turn) const { return tile::LINES % tile::AT_ONCE == 0 || line + turn * tile::AT_ONCE < tile::LINES; }

  // fetch begins to copy products k, k + 1, ….
  METHOD void fetch(T* to, u32 k) const {
    UNROLL for (u32 i = 0; i < tile::TURNS; i++) {
      if (!mine(i)) continue;
      if constexpr (Source::VECTORS) {
        const T* from = at(i, k);
        copy_async16(place(to, i), from ? from : source.x, from != 0);
      } else {
        __align__(16) T v[chunk<T>::SIZE];
        UNROLL for (u32 e = 0; e < chunk<T>::SIZE; e++) {
          const T* from = at(i, k, e);
          v[e] = from ? *from : T{};
        }
        *(uint4*)place(to, i) = *(const uint4*)v;
      }
    }
  }

  // transform rewrites what this thread has copied.
  METHOD void transform(T* copied, u32 k) const {
    UNROLL for (u32 i = 0; i < tile::TURNS; i++) {
      if (!mine(i) || !at(i, k)) continue;
      T v[chunk<T>::SIZE];
      load_vector(v, place(copied, i));
      source.transform(v, row(i), source.depth(depth_of(i, k)));
      store_vector(place(copied, i), v);
    }
  }
};

// ---- fragments: of rows, those of 16; of columns, two of 8; 32 bytes of each
// along k. Along k both types have one layout, in bytes, that of load_matrices.

template <class Tile, class T> DEVICE void load_rows(u32 (&r)[4], const T* from, u32 row, u32 k) {
  const u32 lane = threadIdx.x % 32;
  if constexpr (Tile::ALONG_K) {
    load_matrices(r, from + (row + lane % 16) * Tile::STRIDE + k + lane / 16 * chunk<T>::SIZE);
  } else if constexpr (sizeof(T) == 2) {
    load_matrices_transposed(r, from + (k + lane / 16 * 8 + lane % 8) * Tile::STRIDE + row + lane / 8 % 2 * 8);
  } else {
    UNROLL for (u32 q = 0; q < 4; q++) r[q] = __float_as_uint(from[(k + lane % 4 + q / 2 * 4) * Tile::STRIDE + row + lane / 4 + q % 2 * 8]);
  }
}
template <class Tile, class T> DEVICE void load_columns(u32 (&r)[4], const T* from, u32 column, u32 k) {
  const u32 lane = threadIdx.x % 32;
  if constexpr (Tile::ALONG_K) {
    load_matrices(r, from + (column + lane / 16 * 8 + lane % 8) * Tile::STRIDE + k + lane / 8 % 2 * chunk<T>::SIZE);
  } else if constexpr (sizeof(T) == 2) {
    load_matrices_transposed(r, from + (k + lane / 8 % 2 * 8 + lane % 8) * Tile::STRIDE + column + lane / 16 * 8);
  } else {
    UNROLL for (u32 q = 0; q < 4; q++) r[q] = __float_as_uint(from[(k + lane % 4 + q % 2 * 4) * Tile::STRIDE + column + lane / 4 + q / 2 * 8]);
  }
}

// to_tf32 rounds fragments; split_tf32 leaves what was lost, rounded, in low.
template <int M, int Q> DEVICE void to_tf32(u32 (&x)[M][Q]) {
  UNROLL for (int i = 0; i < M; i++) UNROLL for (int q = 0; q < Q; q++) x[i][q] = f32_to_tf32(f32_bits(x[i][q]));
}
template <int M, int Q> DEVICE void split_tf32(u32 (&x)[M][Q], u32 (&low)[M][Q]) {
  UNROLL for (int i = 0; i < M; i++) UNROLL for (int q = 0; q < Q; q++) {
    const f32 v = f32_bits(x[i][q]);
    x[i][q] = f32_to_tf32(v);
    low[i][q] = f32_to_tf32(sub_(v, f32_bits(x[i][q])));
  }
}

// multiply adds the products of two operands' tiles to a warp's sums. A and B
// are the operand_tiles, row and column where the warp's part begins.
template <class Tile, class A, class B>
DEVICE void multiply(f32 (&sums)[Tile::M][Tile::N][4], const typename Tile::T* rows, const typename Tile::T* columns, u32 row, u32 column) {
  typedef typename Tile::T T;
  constexpr u32 M = Tile::M, N = Tile::N;
  f32 part[M][N][4] = {};  // for TF32X3: tensor cores cut sums off, so long ones are added here
  UNROLL for (u32 k = 0; k < Tile::DEPTH; k += 32 / sizeof(T)) {
    u32 a[M][4], b[N][2];
    UNROLL for (u32 i = 0; i < M; i++) load_rows<A>(a[i], rows, row + i * 16, k);
    UNROLL for (u32 j = 0; j < N; j += 2) {
      u32 r[4];
      load_columns<B>(r, columns, column + j * 8, k);
      UNROLL for (u32 q = 0; q < 4; q++) b[j + q / 2][q % 2] = r[q];
    }
    if constexpr (sizeof(T) == 2) {
      mma_bf16(sums, a, b);
    } else if constexpr (Tile::P == TF32) {
      to_tf32(a), to_tf32(b);
      mma_tf32(sums, a, b);
    } else {
      u32 a_low[M][4], b_low[N][2];
      split_tf32(a, a_low), split_tf32(b, b_low);
      mma_tf32(part, a_low, b);
      mma_tf32(part, a, b_low);
      mma_tf32(part, a, b);
    }
  }
  if constexpr (sizeof(T) == 4 && Tile::P == TF32X3) {
    UNROLL for (u32 i = 0; i < M; i++) UNROLL for (u32 j = 0; j < N; j++) UNROLL for (u32 q = 0; q < 4; q++) sums[i][j][q] += part[i][j][q];
  }
}

// load4 loads four elements along k of a row or column.
template <class Tile> DEVICE void load4(f32 (&r)[4], const f32* from, u32 row, u32 k) {
  if constexpr (Tile::ALONG_K) {
    const float4 v = *(const float4*)(from + row * Tile::STRIDE + k);
    r[0] = v.x, r[1] = v.y, r[2] = v.z, r[3] = v.w;
  } else {
    UNROLL for (u32 q = 0; q < 4; q++) r[q] = from[(k + q) * Tile::STRIDE + row];
  }
}

// multiply_exact is multiply without tensor cores; a lane has the same sums as
// of fragments.
template <class Tile, class A, class B>
DEVICE void multiply_exact(f32 (&sums)[Tile::M][Tile::N][4], const f32* rows, const f32* columns, u32 row, u32 column) {
  const u32 lane = threadIdx.x % 32;
  for (u32 k = 0; k < Tile::DEPTH; k += 4) {  // unrolled it would need more registers than there are
    f32 a[2 * Tile::M][4], b[2 * Tile::N][4];
    UNROLL for (u32 i = 0; i < 2 * Tile::M; i++) load4<A>(a[i], rows, row + i * 8 + lane / 4, k);
    UNROLL for (u32 j = 0; j < 2 * Tile::N; j++) load4<B>(b[j], columns, column + j / 2 * 8 + lane % 4 * 2 + j % 2, k);
    UNROLL for (u32 l = 0; l < 4; l++) UNROLL for (u32 i = 0; i < 2 * Tile::M; i++) UNROLL for (u32 j = 0; j < 2 * Tile::N; j++) {
      f32& s = sums[i / 2][j / 2][i % 2 * 2 + j % 2];
      s = multiply_add(a[i][l], b[j][l], s);
    }
  }
}

// tensor_shared is the shared memory, in bytes, that tensor_contract needs.
template <class Tile, bool A_ALONG_K, bool B_ALONG_K> DEVICE constexpr u32 tensor_shared() {
  typedef typename Tile::T T;
  constexpr u32 stages = Tile::STAGES * sizeof(T) * (operand_tile<T, Tile::ROWS, A_ALONG_K>::SIZE + operand_tile<T, Tile::COLUMNS, B_ALONG_K>::SIZE);
  constexpr u32 results = sizeof(f32) * Tile::ROWS * Tile::RESULT_STRIDE;
  return stages > results ? stages : results;
}

// tensor_sums computes one tile of rows x columns sums, over products from begin to
// end, and leaves them in shared, 16-byte aligned, in lines of RESULT_STRIDE.
template <class Tile, class A, class B>
DEVICE const f32* tensor_sums(u8* shared, const A& a, const B& b, u32 row0, u32 column0, u32 rows, u32 columns, u32 begin, u32 end) {
  typedef typename Tile::T T;
  typedef fetcher<A, Tile::ROWS> a_fetcher;
  typedef fetcher<B, Tile::COLUMNS> b_fetcher;
  typedef typename a_fetcher::tile a_tile;
  typedef typename b_fetcher::tile b_tile;
  constexpr u32 STAGE = a_tile::SIZE + b_tile::SIZE;
  const u32 warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const u32 row = warp / Tile::WARPS_ACROSS * Tile::WARP_ROWS, column = warp % Tile::WARPS_ACROSS * Tile::WARP_COLUMNS;
  const a_fetcher from_a(a, row0, rows, end);
  const b_fetcher from_b(b, column0, columns, end);
  T* const stages = (T*)shared;
  auto fetch = [&](u32 stage, u32 k) {
    if (k < end) {
      from_a.fetch(stages + stage * STAGE, k);
      from_b.fetch(stages + stage * STAGE + a_tile::SIZE, k);
    }
    copy_async_commit();
  };

  __syncthreads();  // the last tile's results have been read
  f32 sums[Tile::M][Tile::N][4] = {};
  UNROLL for (u32 i = 0; i + 1 < Tile::STAGES; i++) fetch(i, begin + i * Tile::DEPTH);
  u32 stage = 0;
  for (u32 k = begin; k < end; k += Tile::DEPTH) {
    T* const tiles = stages + stage * STAGE;
    copy_async_wait<Tile::STAGES - 2>();
    if constexpr (A::TRANSFORMS) from_a.transform(tiles, k);
    if constexpr (B::TRANSFORMS) from_b.transform(tiles + a_tile::SIZE, k);
    __syncthreads();
    fetch(stage == 0 ? Tile::STAGES - 1 : stage - 1, k + (Tile::STAGES - 1) * Tile::DEPTH);
    if constexpr (sizeof(T) == 4 && Tile::P == EXACT) multiply_exact<Tile, a_tile, b_tile>(sums, tiles, tiles + a_tile::SIZE, row, column);
    else multiply<Tile, a_tile, b_tile>(sums, tiles, tiles + a_tile::SIZE, row, column);
    stage = stage + 1 == Tile::STAGES ? 0 : stage + 1;
  }

  __syncthreads();  // the stages have been read
  f32* const s = (f32*)shared;
  UNROLL for (u32 i = 0; i < Tile::M; i++) UNROLL for (u32 j = 0; j < Tile::N; j++) UNROLL for (u32 q = 0; q < 4; q += 2) {
    float2 v;
    v.x = sums[i][j][q], v.y = sums[i][j][q + 1];
    *(float2*)(s + (row + i * 16 + lane / 4 + q / 2 * 8) * Tile::RESULT_STRIDE + column + j * 8 + lane % 4 * 2) = v;
  }
  __syncthreads();
  return s;
}

// tensor_contract calls result(row, column, sums) for each eight neighbours of such
// a tile of which at least the first exists.
template <class Tile, class A, class B, class Result>
DEVICE void tensor_contract(u8* shared, const A& a, const B& b, u32 row0, u32 column0, u32 rows, u32 columns, u32 begin, u32 end, Result result) {
  const f32* const s = tensor_sums<Tile>(shared, a, b, row0, column0, rows, columns, begin, end);
  constexpr u32 ACROSS = Tile::COLUMNS / 8;
  const u32 c = threadIdx.x % ACROSS * 8;
  for (u32 r = threadIdx.x / ACROSS; r < Tile::ROWS; r += BLOCK / ACROSS) {
    if (row0 + r >= rows || column0 + c >= columns) break;
    const float4 x = *(const float4*)(s + r * Tile::RESULT_STRIDE + c), y = *(const float4*)(s + r * Tile::RESULT_STRIDE + c + 4);
    f32 v[8] = {x.x, x.y, x.z, x.w, y.x, y.y, y.z, y.w};
    result(row0 + r, column0 + c, v);
  }
}

// tensor_matmul computes tile i, column tiles first, of a product of matrices.
template <class Tile, u32 ROWS, u32 COLUMNS, class A, class B, class Result>
DEVICE void tensor_matmul(u8* shared, u32 i, const A& a, const B& b, u32 begin, u32 end, Result result) {
  constexpr u32 ACROSS = (COLUMNS + Tile::COLUMNS - 1) / Tile::COLUMNS;
  tensor_contract<Tile>(shared, a, b, i / ACROSS * Tile::ROWS, i % ACROSS * Tile::COLUMNS, ROWS, COLUMNS, begin, end, result);
}

// ---- what results do

// load8 and store8 are of eight neighbours in a row of COLUMNS elements, of
// which those beyond its end are left alone.
template <u32 COLUMNS, class T> DEVICE void load8(T (&v)[8], const T* from, u32 column) {
  if constexpr (COLUMNS % 8 == 0) load_vector(v, from);
  else UNROLL for (u32 c = 0; c < 8; c++) v[c] = column + c < COLUMNS ? from[c] : T{};
}
template <u32 COLUMNS, class T> DEVICE void store8(T* to, u32 column, const T (&v)[8]) {
  if constexpr (COLUMNS % 8 == 0) store_vector(to, v);
  else UNROLL for (u32 c = 0; c < 8; c++) if (column + c < COLUMNS) to[c] = v[c];
}
// store_sums is store8 of sums.
template <u32 COLUMNS, class T> DEVICE void store_sums(T* to, u32 column, const f32 (&v)[8]) {
  T x[8];
  UNROLL for (u32 c = 0; c < 8; c++) x[c] = convert<T>(v[c]);
  store8<COLUMNS>(to, column, x);
}

// half_of is the largest power of two below n.
DEVICE constexpr u32 half_of(u32 n) {
  u32 half = 1;
  while (half * 2 < n) half *= 2;
  return half;
}

// store_part joins, in a fixed tree, what the threads that gave a Result the rows
// of tile i have of their eight columns, of COLUMNS in all, and stores the tile's
// row of parts.
template <class Tile, u32 COLUMNS, class F> DEVICE void store_part(u8* shared, f32 (&v)[8], f32* parts, u32 i, F join) {
  constexpr u32 ACROSS = Tile::COLUMNS / 8, DOWN = Tile::THREADS / ACROSS, TILES = (COLUMNS + Tile::COLUMNS - 1) / Tile::COLUMNS;
  f32* const tree = (f32*)shared;
  const u32 t = Tile::thread();
  Tile::sync();  // the tile's sums, or the last tree, have been read
  store_vector(tree + t * 8, v);
  UNROLL for (u32 rows = half_of(DOWN); rows > 0; rows /= 2) {
    Tile::sync();
    if (t < rows * ACROSS && (2 * rows <= DOWN || t + rows * ACROSS < DOWN * ACROSS)) {
      f32 other[8];
      load_vector(other, tree + (t + rows * ACROSS) * 8);
      UNROLL for (u32 e = 0; e < 8; e++) v[e] = join(v[e], other[e]);
      store_vector(tree + t * 8, v);
    }
  }
  const u32 column = i % TILES * Tile::COLUMNS + t * 8;
  if (t < ACROSS && column < COLUMNS) store8<COLUMNS>(parts + i / TILES * COLUMNS + column, column, v);
}
