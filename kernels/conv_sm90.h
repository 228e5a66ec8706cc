// Convolutions of bf16 on sm_90a: the contractions of conv.h, by warpgroups. A
// thread of its own has the copy engine bring operands to shared memory, stage by
// stage: a box of pixels, which the engine looks up as it goes, and of filters.
// Either the pixels are those of one tap, or, in strips, all lines that the taps of
// one column of the windows read, so that these need to be brought only once.
// Two warpgroups multiply what has come, sum up in registers, and give the sums
// to a Result as the tiles of tensor.h do. A block takes tile after tile, so that
// the next one's operands come while the last one's results are stored. The
// warpgroups share a tile, or take turns: one multiplies its tile while the other
// stores the results of the last. Blocks may be pairs, neighbours with one operand
// in common: each brings half of it to both.
#pragma once
#include "conv.h"

// wgmma_operand is EXTENT rows (or columns) and DEPTH products of an operand, for each
// of TAPS_ taps, as tensor copies leave it in lines of SPAN bytes: a row's products, or
// one product of SPAN / 2 rows.
template <u32 EXTENT, u32 DEPTH, u32 SPAN, bool ALONG_K_, u32 TAPS_ = 1> struct wgmma_operand {
  static constexpr bool ALONG_K = ALONG_K_;
  static constexpr u32 WIDTH = SPAN / 2, TAPS = TAPS_;
  static constexpr u32 TAP = ALONG_K ? EXTENT * SPAN : EXTENT / WIDTH * DEPTH * SPAN, BYTES = TAPS * TAP;
  static constexpr u32 STEP = ALONG_K ? 32 : 16 * SPAN;  // to the next 16 products
  static_assert(ALONG_K ? DEPTH == WIDTH : EXTENT % WIDTH == 0, "");
  static_assert(TAP % (8 * SPAN) == 0, "");
  METHOD static u64 matrix(const u8* p, u32 row, u32 tap) {
    return wgmma_matrix<SPAN>(p + tap * TAP + (ALONG_K ? row * SPAN : row / WIDTH * DEPTH * SPAN), DEPTH * SPAN, 8 * SPAN);
  }
};

// wgmma_strips is ROWS pixels, in lines of LINE, with WIDTH channels along k, for
// TAPS_ taps that stand one above the other: the pixels lie in pieces of PIECE, each
// with the lines below it that the further taps read.
template <u32 ROWS, u32 WIDTH, u32 PIECE, u32 LINE, u32 TAPS_> struct wgmma_strips {
  static constexpr bool ALONG_K = true;
  static constexpr u32 TAPS = TAPS_, SPAN = 2 * WIDTH, STEP = 32;
  static constexpr u32 STRIP = PIECE + (TAPS - 1) * LINE, PIXELS = ROWS / PIECE * STRIP, BYTES = PIXELS * SPAN;
  static_assert(ROWS % PIECE == 0 && PIECE % LINE == 0 && PIECE % 64 == 0, "");  // 64 rows are in one piece
  static_assert(LINE % 8 == 0 && BYTES % 1024 == 0, "");                         // atoms stay whole
  METHOD static u64 matrix(const u8* p, u32 row, u32 tap) {
    return wgmma_matrix<SPAN>(p + (row / PIECE * STRIP + row % PIECE + tap * LINE) * SPAN, 0, 8 * SPAN);
  }
};

// wgmma_way is how the threads share the work. A block's first BLOCK threads, two
// warpgroups, multiply, in GROUPS_ with a tile each; one more copies. The tensor cores
// take 64 rows at a time and all columns, or, CROSSED_, 64 columns and all rows. A
// block is alone, or one of two with the same rows or the same columns: copy gives each
// half of the COPIES of an operand that they have in common, to BLOCKS, both.
enum pairing { ALONE, SAME_ROWS, SAME_COLUMNS };
template <u32 GROUPS_, bool CROSSED_, pairing PAIRS_> struct wgmma_way {
  static constexpr u32 GROUPS = GROUPS_, PARTNERS = PAIRS_ == ALONE ? 1 : 2;
  static constexpr bool CROSSED = CROSSED_;
  static constexpr pairing PAIRS = PAIRS_;
  template <pairing SAME> struct operand {
    static constexpr bool COMMON = PAIRS == SAME;
    static constexpr u32 HALVES = COMMON ? 2 : 1, BLOCKS = COMMON ? 3 : 0;
    template <u32 COPIES, class F> METHOD static void copy(F one) {
      static_assert(COPIES % HALVES == 0, "");
      UNROLL for (u32 j = 0; j < COPIES; j += HALVES) one(COMMON ? j + blockIdx.x % 2 : j);
    }
  };
  typedef operand<SAME_ROWS> rows;
  typedef operand<SAME_COLUMNS> columns;
  // item is the j-th tile where there are ACROSS side by side: a pair's follow one
  // another.
  template <u32 ACROSS> METHOD static u32 item(u32 j) { return PAIRS == SAME_COLUMNS ? (j / 2 / ACROSS * 2 + j % 2) * ACROSS + j / 2 % ACROSS : j; }
};

// wgmma_tile is a tile: ROWS x COLUMNS results, which reach their Result as R, from
// stages of operands A, of the rows, and B, of the columns, with DEPTH products of each
// tap, by threads that share the work as W says.
template <u32 ROWS_, u32 COLUMNS_, u32 DEPTH_, u32 STAGES_, class W_, class A_, class B_, class R_> struct wgmma_tile {
  typedef W_ W;
  typedef A_ A;
  typedef B_ B;
  typedef R_ R;
  static constexpr bool CROSSED = W::CROSSED;
  static constexpr u32 ROWS = ROWS_, COLUMNS = COLUMNS_, DEPTH = DEPTH_, STAGES = STAGES_, GROUPS = W::GROUPS, TAPS = A::TAPS;
  static constexpr u32 THREADS = BLOCK / GROUPS, N = CROSSED ? ROWS : COLUMNS, M = ROWS * COLUMNS / N * 2 / THREADS;  // of a warpgroup, 64 x N each
  static constexpr u32 STRIDE = COLUMNS + 8;                                                                          // of results in shared memory
  static constexpr u32 STAGE = A::BYTES + B::BYTES, RESULTS = ROWS * STRIDE * sizeof(R);
  static constexpr u32 TURNS = GROUPS == 1 ? 0 : GROUPS, SHARED = STAGES * STAGE + GROUPS * RESULTS + (2 * STAGES + TURNS) * sizeof(u64);
  static_assert(STAGE % 1024 == 0 && A::BYTES % 1024 == 0 && RESULTS % 16 == 0, "");
  static_assert(TAPS == B::TAPS && M > 0 && M * N * THREADS / 2 == ROWS * COLUMNS, "");
  METHOD static u32 group() { return threadIdx.x / THREADS; }
  METHOD static u32 thread() { return threadIdx.x % THREADS; }
  METHOD static void sync() { group_sync<THREADS>(1 + group()); }
  // multiply adds a tap's products, from a stage, to the 64 rows (or columns) from first on.
  METHOD static void multiply(f32 (&sums)[N / 2], const u8* stage, u32 first, u32 tap) {
    if constexpr (CROSSED) wgmma_bf16<B::ALONG_K, A::ALONG_K, DEPTH>(sums, B::matrix(stage + A::BYTES, first, tap), A::matrix(stage, 0, tap), B::STEP, A::STEP);
    else wgmma_bf16<A::ALONG_K, B::ALONG_K, DEPTH>(sums, A::matrix(stage, first, tap), B::matrix(stage + A::BYTES, 0, tap), A::STEP, B::STEP);
  }
};

// wgmma_threads are those of a block. Of its registers those that multiply get
// more, for their sums.
constexpr u32 wgmma_threads = BLOCK + 128, COPYING_REGISTERS = 56, MULTIPLYING_REGISTERS = 224;

// wgmma_pipeline is the stages in shared memory, and which of them this thread is
// at: those that are filled follow one another in a ring. Groups take turns at them.
template <class Tile> struct wgmma_pipeline {
  u8 *const stages, *const results;
  u64 *const filled, *const emptied;  // of each stage
  u64* const turns;                   // of each group
  u32 stage, parity, turn;

  METHOD wgmma_pipeline(u8* shared)
      : stages(shared), results(shared + Tile::STAGES * Tile::STAGE + Tile::group() * Tile::RESULTS),
        filled((u64*)(shared + Tile::STAGES * Tile::STAGE + Tile::GROUPS * Tile::RESULTS)), emptied(filled + Tile::STAGES), turns(emptied + Tile::STAGES),
        stage(0), parity(0), turn(0) {
    if (threadIdx.x == 0) {
      UNROLL for (u32 i = 0; i < Tile::STAGES; i++) mbarrier_init(filled + i, 1), mbarrier_init(emptied + i, Tile::W::PARTNERS * Tile::THREADS / 32);
      UNROLL for (u32 i = 0; i < Tile::TURNS; i++) mbarrier_init(turns + i, Tile::THREADS / 32);
      fence_proxy_async();
    }
    meet();
  }
  // meet is a barrier of all threads, the partner's too. Behind the last tile it keeps
  // a block whose partner may yet arrive; the copying thread's warp goes there as one.
  METHOD static void meet() {
    if constexpr (Tile::W::PARTNERS == 1) __syncthreads();
    else {
      __syncwarp();
      cluster_sync();
    }
  }
  // mine says whether a tile is this group's, and otherwise passes over its stages.
  METHOD bool mine(u32 steps) {
    if (Tile::GROUPS == 1 || turn++ % Tile::GROUPS == Tile::group()) return true;
    parity ^= (stage + steps) / Tile::STAGES & 1;
    stage = (stage + steps) % Tile::STAGES;
    return false;
  }
  // begin waits, before a tile of this group, until the other one has waited for all
  // stages of the last tile: a parity tells a phase from the next, but not from the
  // one after that. pass is what it waits for.
  METHOD void begin() {
    if (Tile::GROUPS > 1 && turn > 1) mbarrier_wait(turns + Tile::group(), (turn / 2 + 1) % 2);
  }
  METHOD void pass() {
    if (Tile::GROUPS > 1 && threadIdx.x % 32 == 0) mbarrier_arrive(turns + 1 - Tile::group());
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
    if (threadIdx.x % 32 != 0) return;
    u64* const last = emptied + (stage == 0 ? Tile::STAGES : stage) - 1;
    mbarrier_arrive(last);
    if constexpr (Tile::W::PARTNERS == 2) mbarrier_arrive_at(last, 1 - blockIdx.x % 2);
  }
};

// wgmma_contract adds up so many stages, and calls result(row, column, sums) for
// each eight neighbours of which at least the first is among rows and columns.
template <class Tile, class Result>
DEVICE void wgmma_contract(wgmma_pipeline<Tile>& pipe, u32 steps, u32 row0, u32 column0, u32 rows, u32 columns, Result result) {
  typedef typename Tile::R R;
  const u32 first = Tile::thread() / 128 * (Tile::M * 64);  // of the warpgroup's
  f32 sums[Tile::M][Tile::N / 2] = {};
  pipe.begin();
  for (u32 k = 0; k < steps; k++) {
    mbarrier_wait(pipe.filled + pipe.stage, pipe.parity);
    wgmma_fence(sums);
    UNROLL for (u32 tap = 0; tap < Tile::TAPS; tap++) UNROLL for (u32 i = 0; i < Tile::M; i++)
      Tile::multiply(sums[i], pipe.stages + pipe.stage * Tile::STAGE, first + i * 64, tap);
    wgmma_commit();
    wgmma_wait<1>();
    if (k > 0) pipe.release();
    pipe.next();
  }
  pipe.pass();
  wgmma_wait_for(sums);
  if (steps > 0) pipe.release();

  Tile::sync();  // the last tile's results have been read
  R* const s = (R*)pipe.results;
  const u32 lane = threadIdx.x % 32, m0 = first + threadIdx.x / 32 % 4 * 16 + lane / 4, n0 = lane % 4 * 2;
  UNROLL for (u32 i = 0; i < Tile::M; i++) UNROLL for (u32 q = 0; q < Tile::N / 2; q += 2) {
    const R v[2] = {convert<R>(sums[i][q]), convert<R>(sums[i][q + 1])};
    const u32 m = m0 + i * 64 + q / 2 % 2 * 8, n = n0 + q / 4 * 8;
    if constexpr (Tile::CROSSED) s[n * Tile::STRIDE + m] = v[0], s[(n + 1) * Tile::STRIDE + m] = v[1];
    else store_vector(s + m * Tile::STRIDE + n, v);
  }
  Tile::sync();
  constexpr u32 ACROSS = Tile::COLUMNS / 8, DOWN = Tile::THREADS / ACROSS;
  const u32 t = Tile::thread(), column = column0 + t % ACROSS * 8;
  if (t >= DOWN * ACROSS || column >= columns) return;
  for (u32 r = t / ACROSS; r < Tile::ROWS && row0 + r < rows; r += DOWN) {
    R x[8];
    load_vector(x, s + r * Tile::STRIDE + t % ACROSS * 8);
    f32 v[8];
    UNROLL for (u32 e = 0; e < 8; e++) v[e] = convert<f32>(x[e]);
    result(row0 + r, column, v);
  }
}

// The contractions. Each has a tile; steps, the stages of tile i; fill, which brings
// their operands, whose maps are a's and b's; and compute, which adds them up.
// Channels count WIDTH at a time, of which the last may be beyond the end, and 0.

// conv_forward_sm90: pixels are rows, filters columns, and products run from begin
// to end, multiples of WIDTH. a is of x: ROWS pixels, through the windows' first
// ones; b of the filters, (C, R S, O).
template <class G, u32 ROWS, u32 COLUMNS, u32 WIDTH, u32 STAGES, class W, class R> struct conv_forward_sm90 {
  typedef wgmma_tile<ROWS, COLUMNS, WIDTH, STAGES, W, wgmma_operand<ROWS, WIDTH, 2 * WIDTH, true>, wgmma_operand<COLUMNS, WIDTH, 2 * WIDTH, true>, R> tile;
  typedef wgmma_pipeline<tile> pipeline;
  static constexpr u32 ACROSS = (G::O + COLUMNS - 1) / COLUMNS, CHUNKS = (G::C + WIDTH - 1) / WIDTH;

  METHOD static u32 steps(u32, u32 begin, u32 end) { return (end - begin) / WIDTH; }
  METHOD static void fill(pipeline& pipe, const tensor_map* a, const tensor_map* b, u32 i, u32 begin, u32 end) {
    constexpr u32 PIXELS = ROWS / W::rows::HALVES, FILTERS = COLUMNS / W::columns::HALVES;  // of a copy
    for (u32 k = begin / WIDTH; k < end / WIDTH; k++, pipe.next()) {
      const u32 c = k % CHUNKS * WIDTH, tap = k / CHUNKS, r = tap / G::S, s = tap % G::S;
      u8* const to = pipe.fill();
      u64* const filled = pipe.filled + pipe.stage;
      W::rows::template copy<W::rows::HALVES>([&](u32 j) {
        const u32 pixel = i / ACROSS * ROWS + j * PIXELS, q = pixel % G::Q, p = pixel / G::Q % G::P, n = pixel / (G::Q * G::P);
        copy_pixels<W::rows::BLOCKS>(to + j * PIXELS * 2 * WIDTH, a, filled, c, (i32)q * G::STRIDE_W - G::PAD_W, (i32)p * G::STRIDE_H - G::PAD_H, n, s * G::DILATION_W, r * G::DILATION_H);
      });
      W::columns::template copy<W::columns::HALVES>([&](u32 j) {
        copy_tile<W::columns::BLOCKS>(to + tile::A::BYTES + j * FILTERS * 2 * WIDTH, b, filled, c, tap, i % ACROSS * COLUMNS + j * FILTERS);
      });
    }
  }
  template <class Result> METHOD static void compute(pipeline& pipe, u32 i, u32 begin, u32 end, Result result) {
    wgmma_contract(pipe, steps(i, begin, end), i / ACROSS * ROWS, i % ACROSS * COLUMNS, G::N * G::P * G::Q, G::O, result);
  }
};

// conv_input_grad_sm90: a phase's pixels are rows (conv.h), channels columns, and
// products run from begin to end, multiples of WIDTH, of which phases with fewer taps
// have fewer. a are
// of dy, one for each phase: ROWS pixels, through the windows' first ones; b of the
// filters, (C, R S, O), in blocks of SPAN bytes of channels by WIDTH outputs, or half
// as many.
template <class G, u32 ROWS, u32 COLUMNS, u32 WIDTH, u32 STAGES, class W, class R> struct conv_input_grad_sm90 {
  static constexpr u32 SPAN = COLUMNS % 64 == 0 ? 128 : 64;
  typedef wgmma_tile<ROWS, COLUMNS, WIDTH, STAGES, W, wgmma_operand<ROWS, WIDTH, 2 * WIDTH, true>, wgmma_operand<COLUMNS, WIDTH, SPAN, false>, R> tile;
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
  METHOD static u32 last(const phase<G>& f, u32 end) { return smaller(f.down.taps * f.across.taps * CHUNKS, end / WIDTH); }
  METHOD static u32 steps(u32 i, u32 begin, u32 end) {
    u32 n = 0;
    with_phase(i, [&](const phase<G>& f, u32, u32) { n = last(f, end) - begin / WIDTH; });
    return n;
  }
  METHOD static void fill(pipeline& pipe, const tensor_map* a, const tensor_map* b, u32 i, u32 begin, u32 end) {
    constexpr u32 PIXELS = ROWS / W::rows::HALVES, OUTPUTS = WIDTH / W::columns::HALVES;  // of a copy
    with_phase(i, [&](const phase<G>& f, u32 number, u32 i) {
      for (u32 k = begin / WIDTH; k < last(f, end); k++, pipe.next()) {
        const u32 o = k % CHUNKS * WIDTH, tap = k / CHUNKS, r = tap / f.across.taps, s = tap % f.across.taps;
        const u32 down = (f.down.taps - 1) * f.down.SHIFT, across = (f.across.taps - 1) * f.across.SHIFT;  // of the window, but for its first pixel
        u8* const to = pipe.fill();
        u64* const filled = pipe.filled + pipe.stage;
        W::rows::template copy<W::rows::HALVES>([&](u32 j) {
          const u32 pixel = i / ACROSS * ROWS + j * PIXELS, x = pixel % f.across.pixels, y = pixel / f.across.pixels % f.down.pixels, n = pixel / (f.across.pixels * f.down.pixels);
          copy_pixels<W::rows::BLOCKS>(to + j * PIXELS * 2 * WIDTH, a + number, filled, o, (i32)(x - across) + f.across.base, (i32)(y - down) + f.down.base, n, across - s * f.across.SHIFT, down - r * f.down.SHIFT);
        });
        UNROLL for (u32 c = 0; c < COLUMNS; c += SPAN / 2)
          W::columns::template copy<W::columns::HALVES>([&](u32 j) {
            copy_tile<W::columns::BLOCKS>(to + tile::A::BYTES + c * 2 * WIDTH + j * OUTPUTS * SPAN, b, filled, i % ACROSS * COLUMNS + c, (f.down.first + r * f.down.STEP) * G::S + f.across.first + s * f.across.STEP, o + j * OUTPUTS);
          });
      }
    });
  }
  template <class Result> METHOD static void compute(pipeline& pipe, u32 i, u32 begin, u32 end, Result result) {
    with_phase(i, [&](const phase<G>& f, u32, u32 i) {
      wgmma_contract(pipe, last(f, end) - begin / WIDTH, i / ACROSS * ROWS, i % ACROSS * COLUMNS, f.pixels(), G::C,
                     [&](u32 row, u32 column, f32 (&v)[8]) { result(f.pixel(row), column, v); });
    });
  }
};

// conv_strips_sm90: the forward convolution, or the GRADIENT of its input, with
// strides and dilations of 1. A stage is a column of the windows, with WIDTH channels:
// what that column's taps read of an image, in COPIES copies, and the filters' numbers
// for each of them. Products run over stages, from begin to end, multiples of
// R * WIDTH. a is of x, or of dy, as for windows that are one line high; b of the
// filters, as above.
template <class G, bool GRADIENT, u32 ROWS, u32 COLUMNS, u32 WIDTH, u32 STAGES, class W, class R> struct conv_strips_sm90 {
  static constexpr u32 DOWN = GRADIENT ? G::H : G::P, LINE = GRADIENT ? G::W : G::Q, PIXELS = G::N * DOWN * LINE;  // of the result
  static constexpr u32 IN = GRADIENT ? G::O : G::C, OUT = GRADIENT ? G::C : G::O;
  static constexpr i32 ABOVE = GRADIENT ? (i32)G::R - 1 - G::PAD_H : G::PAD_H, BESIDE = GRADIENT ? (i32)G::S - 1 - G::PAD_W : G::PAD_W;  // of padding
  static constexpr u32 PIECE = ROWS < DOWN * LINE ? ROWS : DOWN * LINE, SPAN = GRADIENT && COLUMNS % 64 == 0 ? 128 : 64;
  typedef wgmma_strips<ROWS, WIDTH, PIECE, LINE, G::R> A;
  typedef wgmma_operand<COLUMNS, WIDTH, GRADIENT ? SPAN : 2 * WIDTH, !GRADIENT, G::R> B;
  typedef wgmma_tile<ROWS, COLUMNS, WIDTH, STAGES, W, A, B, R> tile;
  typedef wgmma_pipeline<tile> pipeline;
  static constexpr u32 ACROSS = (OUT + COLUMNS - 1) / COLUMNS, CHUNKS = (IN + WIDTH - 1) / WIDTH;
  static constexpr u32 COPIES = (A::PIXELS / W::rows::HALVES + 255) / 256 * W::rows::HALVES, COPY = A::PIXELS / COPIES;
  static_assert(A::PIXELS % (8 * COPIES) == 0 && PIXELS % ROWS == 0 && DOWN * LINE % PIECE == 0, "");

  METHOD static u32 steps(u32, u32 begin, u32 end) { return (end - begin) / (G::R * WIDTH); }
  METHOD static void fill(pipeline& pipe, const tensor_map* a, const tensor_map* b, u32 i, u32 begin, u32 end) {
    constexpr u32 HALF = (GRADIENT ? WIDTH : COLUMNS) / W::columns::HALVES;  // of a tap's filters
    const u32 line = i / ACROSS * ROWS / LINE, first = (line / DOWN * (DOWN + G::R - 1) + line % DOWN) * LINE;  // pixel, of images that have their padding above and below
    for (u32 k = begin / (G::R * WIDTH); k < end / (G::R * WIDTH); k++, pipe.next()) {
      const u32 c = k % CHUNKS * WIDTH, s = k / CHUNKS;
      u8* const to = pipe.fill();
      u64* const filled = pipe.filled + pipe.stage;
      W::rows::template copy<COPIES>([&](u32 j) {
        const u32 pixel = first + j * COPY, y = pixel / LINE % (DOWN + G::R - 1), n = pixel / (LINE * (DOWN + G::R - 1));
        copy_pixels<W::rows::BLOCKS>(to + j * COPY * 2 * WIDTH, a, filled, c, (i32)(pixel % LINE) - BESIDE, (i32)y - ABOVE, n, s, 0);
      });
      UNROLL for (u32 r = 0; r < G::R; r++)
        W::columns::template copy<W::columns::HALVES>([&](u32 j) {
          u8* const filters = to + A::BYTES + r * B::TAP + j * HALF * (GRADIENT ? SPAN : 2 * WIDTH);
          if constexpr (GRADIENT) {
            UNROLL for (u32 o = 0; o < COLUMNS; o += SPAN / 2)
              copy_tile<W::columns::BLOCKS>(filters + o * 2 * WIDTH, b, filled, i % ACROSS * COLUMNS + o, (G::R - 1 - r) * G::S + G::S - 1 - s, c + j * HALF);
          } else copy_tile<W::columns::BLOCKS>(filters, b, filled, c, r * G::S + s, i % ACROSS * COLUMNS + j * HALF);
        });
    }
  }
  template <class Result> METHOD static void compute(pipeline& pipe, u32 i, u32 begin, u32 end, Result result) {
    wgmma_contract(pipe, steps(i, begin, end), i / ACROSS * ROWS, i % ACROSS * COLUMNS, PIXELS, OUT, result);
  }
};
template <class G, u32 ROWS, u32 COLUMNS, u32 WIDTH, u32 STAGES, class W, class R> using conv_forward_strips_sm90 = conv_strips_sm90<G, false, ROWS, COLUMNS, WIDTH, STAGES, W, R>;
template <class G, u32 ROWS, u32 COLUMNS, u32 WIDTH, u32 STAGES, class W, class R> using conv_input_grad_strips_sm90 = conv_strips_sm90<G, true, ROWS, COLUMNS, WIDTH, STAGES, W, R>;

// conv_filter_grad_sm90: taps (r, s, c), with WIDTH channels at a time, are rows,
// filters columns, and products run over output pixels, from begin to end,
// multiples of DEPTH. The results are turned: the filters' layout is (O, R S C). a
// is of x: DEPTH pixels, or half as many, the first ones of windows, and WIDTH
// channels; b of dy, (O, N P Q), in blocks of SPAN bytes of outputs by as many pixels.
template <class G, u32 ROWS, u32 COLUMNS, u32 WIDTH, u32 STAGES, class W, class R> struct conv_filter_grad_sm90 {
  static constexpr u32 DEPTH = 64, SPAN = COLUMNS % 64 == 0 ? 128 : 64;
  typedef wgmma_tile<COLUMNS, ROWS, DEPTH, STAGES, wgmma_way<W::GROUPS, !W::CROSSED, W::PAIRS>, wgmma_operand<COLUMNS, DEPTH, SPAN, false>, wgmma_operand<ROWS, DEPTH, 2 * WIDTH, false>, R> tile;
  typedef wgmma_pipeline<tile> pipeline;
  static constexpr u32 ACROSS = (G::O + COLUMNS - 1) / COLUMNS, CHUNKS = (G::C + WIDTH - 1) / WIDTH, TAPS = G::R * G::S;

  METHOD static u32 steps(u32, u32 begin, u32 end) { return (end - begin) / DEPTH; }
  METHOD static void fill(pipeline& pipe, const tensor_map* a, const tensor_map* b, u32 i, u32 begin, u32 end) {
    constexpr u32 PIXELS = DEPTH / W::rows::HALVES, OUTPUTS = DEPTH / W::columns::HALVES;  // of a copy
    for (u32 k = begin; k < end; k += DEPTH, pipe.next()) {
      u8* const to = pipe.fill();
      u64* const filled = pipe.filled + pipe.stage;
      W::rows::template copy<W::rows::HALVES>([&](u32 j) {
        const u32 pixel = k + j * PIXELS, q = pixel % G::Q, p = pixel / G::Q % G::P, n = pixel / (G::Q * G::P);
        UNROLL for (u32 part = 0; part < ROWS / WIDTH; part++) {
          const u32 chunk = i / ACROSS * (ROWS / WIDTH) + part, tap = smaller(chunk / CHUNKS, TAPS - 1), r = tap / G::S, s = tap % G::S;
          const u32 c = (chunk - tap * CHUNKS) * WIDTH;  // beyond the last tap, beyond the channels
          copy_pixels<W::rows::BLOCKS>(to + tile::A::BYTES + (part * DEPTH + j * PIXELS) * 2 * WIDTH, a, filled, c, (i32)q * G::STRIDE_W - G::PAD_W, (i32)p * G::STRIDE_H - G::PAD_H, n, s * G::DILATION_W, r * G::DILATION_H);
        }
      });
      W::columns::template copy<W::columns::HALVES>([&](u32 j) {
        UNROLL for (u32 o = 0; o < COLUMNS; o += SPAN / 2)
          copy_tile<W::columns::BLOCKS>(to + o * 2 * DEPTH + j * OUTPUTS * SPAN, b, filled, i % ACROSS * COLUMNS + o, k + j * OUTPUTS, 0);
      });
    }
  }
  template <class Result> METHOD static void compute(pipeline& pipe, u32 i, u32 begin, u32 end, Result result) {
    wgmma_contract(pipe, steps(i, begin, end), i % ACROSS * COLUMNS, i / ACROSS * ROWS, G::O, TAPS * CHUNKS * WIDTH, [&](u32 o, u32 k, f32 (&v)[8]) {
      const u32 c = k % (CHUNKS * WIDTH);
      if (c < G::C) result(o, k / (CHUNKS * WIDTH) * G::C + c, v);
    });
  }
};
