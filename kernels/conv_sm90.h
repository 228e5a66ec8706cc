// Convolutions of bf16 on sm_90a: the contractions of conv.h, by warpgroups. A
// thread of its own has the copy engine bring operands to shared memory, stage by
// stage: a box of pixels, which the engine looks up as it goes, and of filters.
// Two warpgroups multiply what has come, sum up in registers, and give the sums
// to a Result as the tiles of tensor.h do. A block takes tile after tile, so that
// the next one's operands come while the last one's results are stored.
#pragma once
#include "conv.h"

// wgmma_operand is EXTENT rows (or columns) and DEPTH products of an operand, as a
// tensor copy leaves it in lines of SPAN bytes: a row's products, or one product
// of SPAN / 2 rows.
template <u32 EXTENT, u32 DEPTH, u32 SPAN, bool ALONG_K_> struct wgmma_operand {
  static constexpr bool ALONG_K = ALONG_K_;
  static constexpr u32 WIDTH = SPAN / 2;
  static constexpr u32 BYTES = ALONG_K ? EXTENT * SPAN : EXTENT / WIDTH * DEPTH * SPAN;
  static constexpr u32 STEP = ALONG_K ? 32 : 16 * SPAN;  // to the next 16 products
  static_assert(ALONG_K ? DEPTH == WIDTH : EXTENT % WIDTH == 0, "");
  static_assert(BYTES % (8 * SPAN) == 0, "");
  METHOD static u64 matrix(const u8* p, u32 row) {
    return wgmma_matrix<SPAN>(p + (ALONG_K ? row * SPAN : row / WIDTH * DEPTH * SPAN), DEPTH * SPAN, 8 * SPAN);
  }
};

// wgmma_tile is the tile of a block: ROWS x COLUMNS results, which reach their
// Result as R, column by column if they are TURNED, and so many stages of DEPTH
// products. The first BLOCK threads, two warpgroups, multiply; one more copies.
template <u32 ROWS_, u32 COLUMNS_, u32 DEPTH_, u32 STAGES_, class A_, class B_, class R_, bool TURNED_ = false> struct wgmma_tile {
  typedef A_ A;
  typedef B_ B;
  typedef R_ R;
  static constexpr u32 ROWS = ROWS_, COLUMNS = COLUMNS_, DEPTH = DEPTH_, STAGES = STAGES_;
  static constexpr u32 M = ROWS / 128;  // of a warpgroup, 64 x COLUMNS each
  static constexpr bool TURNED = TURNED_;
  static constexpr u32 LINES = TURNED ? COLUMNS : ROWS, LINE = TURNED ? ROWS : COLUMNS, STRIDE = LINE + 8;  // of results in shared memory
  static constexpr u32 STAGE = A::BYTES + B::BYTES, RESULTS = LINES * STRIDE * sizeof(R);
  static constexpr u32 SHARED = STAGES * STAGE + RESULTS + 2 * STAGES * sizeof(u64);
  static_assert(STAGE % 1024 == 0 && ROWS % 128 == 0, "");
  METHOD static void sync() { group_sync<BLOCK>(1); }
};

// wgmma_threads are those of a block. Of its registers those that multiply get
// more, for their sums.
constexpr u32 wgmma_threads = BLOCK + 128, COPYING_REGISTERS = 40, MULTIPLYING_REGISTERS = 232;

// wgmma_pipeline is the stages in shared memory, and which of them this thread is
// at: those that are filled follow one another in a ring.
template <class Tile> struct wgmma_pipeline {
  u8 *const stages, *const results;
  u64 *const filled, *const emptied;  // of each stage
  u32 stage, parity;

  METHOD wgmma_pipeline(u8* shared)
      : stages(shared), results(shared + Tile::STAGES * Tile::STAGE), filled((u64*)(results + Tile::RESULTS)), emptied(filled + Tile::STAGES), stage(0), parity(0) {
    if (threadIdx.x == 0) {
      UNROLL for (u32 i = 0; i < Tile::STAGES; i++) mbarrier_init(filled + i, 1), mbarrier_init(emptied + i, BLOCK / 32);
      fence_proxy_async();
    }
    __syncthreads();
  }
  METHOD void next() {
    if (++stage == Tile::STAGES) stage = 0, parity ^= 1;
  }
  // fill waits until the stage is empty, and expects its operands there.
  METHOD u8* fill() {
    mbarrier_wait(emptied + stage, parity ^ 1);
    mbarrier_arrive_expecting(filled + stage, Tile::STAGE);
    return stages + stage * Tile::STAGE;
  }
  // release gives back the stage before this one, of which the warp's products are
  // done.
  METHOD void release() {
    if (threadIdx.x % 32 == 0) mbarrier_arrive(emptied + (stage == 0 ? Tile::STAGES : stage) - 1);
  }
};

// wgmma_contract adds up so many stages, and calls result(row, column, sums) for
// each eight neighbours of which at least the first is among rows and columns; with
// turned results, result(column, row, sums).
template <class Tile, class Result>
DEVICE void wgmma_contract(wgmma_pipeline<Tile>& pipe, u32 steps, u32 row0, u32 column0, u32 rows, u32 columns, Result result) {
  typedef typename Tile::A A;
  typedef typename Tile::B B;
  typedef typename Tile::R R;
  const u32 first = threadIdx.x / 128 * (Tile::ROWS / 2);  // of the warpgroup's rows
  f32 sums[Tile::M][Tile::COLUMNS / 2] = {};
  for (u32 k = 0; k < steps; k++) {
    const u8* a = pipe.stages + pipe.stage * Tile::STAGE;
    mbarrier_wait(pipe.filled + pipe.stage, pipe.parity);
    wgmma_fence(sums);
    UNROLL for (u32 i = 0; i < Tile::M; i++)
      wgmma_bf16<A::ALONG_K, B::ALONG_K, Tile::DEPTH>(sums[i], A::matrix(a, first + i * 64), B::matrix(a + A::BYTES, 0), A::STEP, B::STEP);
    wgmma_commit();
    wgmma_wait<1>();
    if (k > 0) pipe.release();
    pipe.next();
  }
  wgmma_wait_for(sums);
  if (steps > 0) pipe.release();

  Tile::sync();  // the last tile's results have been read
  R* const s = (R*)pipe.results;
  const u32 lane = threadIdx.x % 32, row = first + threadIdx.x / 32 % 4 * 16 + lane / 4, column = lane % 4 * 2;
  UNROLL for (u32 i = 0; i < Tile::M; i++) UNROLL for (u32 q = 0; q < Tile::COLUMNS / 2; q += 2) {
    const R v[2] = {convert<R>(sums[i][q]), convert<R>(sums[i][q + 1])};
    const u32 r = row + i * 64 + q / 2 % 2 * 8, c = q / 4 * 8 + column;
    if constexpr (Tile::TURNED) s[c * Tile::STRIDE + r] = v[0], s[(c + 1) * Tile::STRIDE + r] = v[1];
    else store_vector(s + r * Tile::STRIDE + c, v);
  }
  Tile::sync();
  constexpr u32 ACROSS = Tile::LINE / 8, DOWN = BLOCK / ACROSS;
  const u32 line0 = Tile::TURNED ? column0 : row0, lines = Tile::TURNED ? columns : rows;
  const u32 c = (Tile::TURNED ? row0 : column0) + threadIdx.x % ACROSS * 8;
  if (threadIdx.x >= DOWN * ACROSS || c >= (Tile::TURNED ? rows : columns)) return;
  for (u32 r = threadIdx.x / ACROSS; r < Tile::LINES && line0 + r < lines; r += DOWN) {
    R x[8];
    load_vector(x, s + r * Tile::STRIDE + threadIdx.x % ACROSS * 8);
    f32 v[8];
    UNROLL for (u32 e = 0; e < 8; e++) v[e] = convert<f32>(x[e]);
    result(line0 + r, c, v);
  }
}

// The contractions. Each has a tile; fill, which brings the operands of tile i,
// whose maps are a's and b's; and compute, which adds them up. Channels count WIDTH
// at a time, of which the last may be beyond the end, and 0.

// conv_forward_sm90: pixels are rows, filters columns, and products run from begin
// to end, multiples of WIDTH. a is of x: ROWS pixels, through the windows' first
// ones; b of the filters, (C, R S, O).
template <class G, u32 ROWS, u32 COLUMNS, u32 WIDTH, u32 STAGES, class R> struct conv_forward_sm90 {
  typedef wgmma_tile<ROWS, COLUMNS, WIDTH, STAGES, wgmma_operand<ROWS, WIDTH, 2 * WIDTH, true>, wgmma_operand<COLUMNS, WIDTH, 2 * WIDTH, true>, R> tile;
  typedef wgmma_pipeline<tile> pipeline;
  static constexpr u32 ACROSS = (G::O + COLUMNS - 1) / COLUMNS, CHUNKS = (G::C + WIDTH - 1) / WIDTH;

  METHOD static void fill(pipeline& pipe, const tensor_map* a, const tensor_map* b, u32 i, u32 begin, u32 end) {
    const u32 pixel = i / ACROSS * ROWS, q = pixel % G::Q, p = pixel / G::Q % G::P, n = pixel / (G::Q * G::P);
    for (u32 k = begin / WIDTH; k < end / WIDTH; k++, pipe.next()) {
      const u32 c = k % CHUNKS * WIDTH, tap = k / CHUNKS, r = tap / G::S, s = tap % G::S;
      u8* const to = pipe.fill();
      u64* const filled = pipe.filled + pipe.stage;
      copy_pixels(to, a, filled, c, (i32)q * G::STRIDE_W - G::PAD_W, (i32)p * G::STRIDE_H - G::PAD_H, n, s * G::DILATION_W, r * G::DILATION_H);
      copy_tile(to + tile::A::BYTES, b, filled, c, tap, i % ACROSS * COLUMNS);
    }
  }
  template <class Result> METHOD static void compute(pipeline& pipe, u32 i, u32 begin, u32 end, Result result) {
    wgmma_contract(pipe, (end - begin) / WIDTH, i / ACROSS * ROWS, i % ACROSS * COLUMNS, G::N * G::P * G::Q, G::O, result);
  }
};

// conv_input_grad_sm90: a phase's pixels are rows (conv.h), channels columns. a are
// of dy, one for each phase: ROWS pixels, through the windows' first ones; b of the
// filters, (C, R S, O), in blocks of SPAN bytes of channels by WIDTH outputs.
template <class G, u32 ROWS, u32 COLUMNS, u32 WIDTH, u32 STAGES, class R> struct conv_input_grad_sm90 {
  static constexpr u32 SPAN = COLUMNS % 64 == 0 ? 128 : 64;
  typedef wgmma_tile<ROWS, COLUMNS, WIDTH, STAGES, wgmma_operand<ROWS, WIDTH, 2 * WIDTH, true>, wgmma_operand<COLUMNS, WIDTH, SPAN, false>, R> tile;
  typedef wgmma_pipeline<tile> pipeline;
  static constexpr u32 ACROSS = (G::C + COLUMNS - 1) / COLUMNS, CHUNKS = (G::O + WIDTH - 1) / WIDTH;

  // with_phase calls f with the phase that tile i, counted through the phases, is
  // of, the phase's number, and the tile's in it.
  template <class F> METHOD static void with_phase(u32 i, F f) {
    u32 number = 0;
    for (u32 h = 0; h < G::H && h < G::STRIDE_H; h++)
      for (u32 w = 0; w < G::W && w < G::STRIDE_W; w++, number++) {
        const phase<G> of(h, w);
        const u32 tiles = (of.pixels() + ROWS - 1) / ROWS * ACROSS;
        if (i < tiles) {
          f(of, number, i);
          return;
        }
        i -= tiles;
      }
  }
  METHOD static void fill(pipeline& pipe, const tensor_map* a, const tensor_map* b, u32 i, u32, u32) {
    with_phase(i, [&](const phase<G>& f, u32 number, u32 i) {
      const u32 pixel = i / ACROSS * ROWS, x = pixel % f.across.pixels, y = pixel / f.across.pixels % f.down.pixels, n = pixel / (f.across.pixels * f.down.pixels);
      for (u32 k = 0; k < f.down.taps * f.across.taps * CHUNKS; k++, pipe.next()) {
        const u32 o = k % CHUNKS * WIDTH, tap = k / CHUNKS, r = tap / f.across.taps, s = tap % f.across.taps;
        const u32 down = (f.down.taps - 1) * f.down.SHIFT, across = (f.across.taps - 1) * f.across.SHIFT;  // of the window, but for its first pixel
        u8* const to = pipe.fill();
        u64* const filled = pipe.filled + pipe.stage;
        copy_pixels(to, a + number, filled, o, (i32)(x - across) + f.across.base, (i32)(y - down) + f.down.base, n, across - s * f.across.SHIFT, down - r * f.down.SHIFT);
        UNROLL for (u32 c = 0; c < COLUMNS; c += SPAN / 2)
          copy_tile(to + tile::A::BYTES + c * 2 * WIDTH, b, filled, i % ACROSS * COLUMNS + c, (f.down.first + r * f.down.STEP) * G::S + f.across.first + s * f.across.STEP, o);
      }
    });
  }
  template <class Result> METHOD static void compute(pipeline& pipe, u32 i, u32, u32, Result result) {
    with_phase(i, [&](const phase<G>& f, u32, u32 i) {
      wgmma_contract(pipe, f.down.taps * f.across.taps * CHUNKS, i / ACROSS * ROWS, i % ACROSS * COLUMNS, f.pixels(), G::C,
                     [&](u32 row, u32 column, f32 (&v)[8]) { result(f.pixel(row), column, v); });
    });
  }
};

// conv_filter_grad_sm90: taps (r, s, c), with WIDTH channels at a time, are rows,
// filters columns, and products run over output pixels, from begin to end,
// multiples of DEPTH. The results are turned: the filters' layout is (O, R S C). a
// is of x: DEPTH pixels, the first ones of windows, and WIDTH channels; b of dy,
// (O, N P Q), in blocks of SPAN bytes of outputs by DEPTH pixels.
template <class G, u32 ROWS, u32 COLUMNS, u32 WIDTH, u32 STAGES, class R> struct conv_filter_grad_sm90 {
  static constexpr u32 DEPTH = 64, SPAN = COLUMNS % 64 == 0 ? 128 : 64;
  typedef wgmma_tile<ROWS, COLUMNS, DEPTH, STAGES, wgmma_operand<ROWS, DEPTH, 2 * WIDTH, false>, wgmma_operand<COLUMNS, DEPTH, SPAN, false>, R, true> tile;
  typedef wgmma_pipeline<tile> pipeline;
  static constexpr u32 ACROSS = (G::O + COLUMNS - 1) / COLUMNS, CHUNKS = (G::C + WIDTH - 1) / WIDTH, TAPS = G::R * G::S;

  METHOD static void fill(pipeline& pipe, const tensor_map* a, const tensor_map* b, u32 i, u32 begin, u32 end) {
    for (u32 pixel = begin; pixel < end; pixel += DEPTH, pipe.next()) {
      const u32 q = pixel % G::Q, p = pixel / G::Q % G::P, n = pixel / (G::Q * G::P);
      u8* const to = pipe.fill();
      u64* const filled = pipe.filled + pipe.stage;
      UNROLL for (u32 k = 0; k < ROWS / WIDTH; k++) {
        const u32 chunk = i / ACROSS * (ROWS / WIDTH) + k, tap = smaller(chunk / CHUNKS, TAPS - 1), r = tap / G::S, s = tap % G::S;
        const u32 c = (chunk - tap * CHUNKS) * WIDTH;  // beyond the last tap, beyond the channels
        copy_pixels(to + k * DEPTH * 2 * WIDTH, a, filled, c, (i32)q * G::STRIDE_W - G::PAD_W, (i32)p * G::STRIDE_H - G::PAD_H, n, s * G::DILATION_W, r * G::DILATION_H);
      }
      UNROLL for (u32 o = 0; o < COLUMNS; o += SPAN / 2) copy_tile(to + tile::A::BYTES + o * 2 * DEPTH, b, filled, i % ACROSS * COLUMNS + o, pixel, 0);
    }
  }
  template <class Result> METHOD static void compute(pipeline& pipe, u32 i, u32 begin, u32 end, Result result) {
    wgmma_contract(pipe, (end - begin) / DEPTH, i / ACROSS * ROWS, i % ACROSS * COLUMNS, TAPS * CHUNKS * WIDTH, G::O, [&](u32 o, u32 k, f32 (&v)[8]) {
      const u32 c = k % (CHUNKS * WIDTH);
      if (c < G::C) result(o, k / (CHUNKS * WIDTH) * G::C + c, v);
    });
  }
};
