// Convolutions of images (N,H,W,C) with filters (O,R,S,C), as contractions: the
// result (N,P,Q,O) is the product of a matrix that is never stored, what each
// output pixel reads through each tap, and of the filters.
#pragma once
#include "tensor.h"

template <u32 N_, u32 C_, u32 H_, u32 W_, u32 O_, u32 R_, u32 S_, u32 P_, u32 Q_, i32 STRIDE_H_, i32 STRIDE_W_, i32 PAD_H_, i32 PAD_W_, i32 DILATION_H_, i32 DILATION_W_>
struct convolution {
  static constexpr u32 N = N_, C = C_, H = H_, W = W_, O = O_, R = R_, S = S_, P = P_, Q = Q_;
  static constexpr i32 STRIDE_H = STRIDE_H_, STRIDE_W = STRIDE_W_, PAD_H = PAD_H_, PAD_W = PAD_W_, DILATION_H = DILATION_H_, DILATION_W = DILATION_W_;
};

// image_taps finds what output pixel i of (N,P,Q) reads through tap k of
// (R,S,C). With few channels, taps are as dense as any: 27 of 3x3x3.
template <class T, class G> struct image_taps {
  struct pixel { const T* image; i32 h, w; };
  struct tap { i32 h, w; u32 c; };
  const T* x;
  METHOD pixel pixel_of(u32 i) const {
    const u32 q = i % G::Q, p = i / G::Q % G::P, n = i / (G::Q * G::P);
    return pixel{x + n * (G::H * G::W * G::C), (i32)p * G::STRIDE_H - G::PAD_H, (i32)q * G::STRIDE_W - G::PAD_W};
  }
  METHOD tap tap_of(u32 k) const {
    const u32 c = k % G::C, s = k / G::C % G::S, r = k / (G::C * G::S);
    return tap{(i32)r * G::DILATION_H, (i32)s * G::DILATION_W, c};
  }
  METHOD const T* element(const pixel& p, const tap& t) const {
    const u32 h = p.h + t.h, w = p.w + t.w;  // those above the edge are large numbers
    return h < G::H && w < G::W ? p.image + (h * G::W + w) * G::C + t.c : 0;
  }
};

// pixels_by_taps is the Source with output pixels as rows.
template <class T_, class G> struct pixels_by_taps : image_taps<T_, G> {
  typedef T_ T;
  typedef typename image_taps<T, G>::pixel row_state;
  typedef typename image_taps<T, G>::tap depth_state;
  static constexpr bool ALONG_K = true, VECTORS = G::C % chunk<T>::SIZE == 0, TRANSFORMS = false;
  METHOD pixels_by_taps(const T* x) : image_taps<T, G>{x} {}
  METHOD row_state row(u32 i) const { return this->pixel_of(i); }
  METHOD depth_state depth(u32 k) const { return this->tap_of(k); }
  METHOD const T* at(const row_state& r, const depth_state& k) const { return this->element(r, k); }
  METHOD static u32 channel(const row_state&, const depth_state& k) { return k.c; }
};

// taps_by_pixels is the Source with taps as columns: of the filter's gradient.
template <class T_, class G> struct taps_by_pixels : image_taps<T_, G> {
  typedef T_ T;
  typedef typename image_taps<T, G>::tap row_state;
  typedef typename image_taps<T, G>::pixel depth_state;
  static constexpr bool ALONG_K = false, VECTORS = G::C % chunk<T>::SIZE == 0, TRANSFORMS = false;
  METHOD taps_by_pixels(const T* x) : image_taps<T, G>{x} {}
  METHOD row_state row(u32 i) const { return this->tap_of(i); }
  METHOD depth_state depth(u32 k) const { return this->pixel_of(k); }
  METHOD const T* at(const row_state& r, const depth_state& k) const { return this->element(k, r); }
  METHOD static u32 channel(const row_state& r, const depth_state&) { return r.c; }
};

// on_the_way is a Source of images of which each chunk goes through f(chunk, its
// first channel) on its way; the padding stays 0.
template <class Source, class F> struct on_the_way : Source {
  static constexpr bool TRANSFORMS = true;
  const F& f;
  METHOD on_the_way(const typename Source::T* x, const F& f) : Source(x), f(f) {}
  METHOD void transform(typename Source::T (&v)[chunk<typename Source::T>::SIZE], const typename Source::row_state& r, const typename Source::depth_state& k) const {
    f(v, Source::channel(r, k));
  }
};

// conv_forward computes tile i of the result, (N P Q, O), summed over taps from
// begin to end; result's rows are output pixels. Input is a Source like
// pixels_by_taps.
template <class Tile, class G, class Input, class Result>
DEVICE void conv_forward(u8* shared, u32 i, const Input& x, const typename Tile::T* w, u32 begin, u32 end, Result result) {
  tensor_matmul<Tile, G::N * G::P * G::Q, G::O>(shared, i, x, matrix<typename Tile::T, true, G::R * G::S * G::C>{w}, begin, end, result);
}

// conv_filter_grad computes tile i of the gradient (O, R S C), summed over
// output pixels from begin to end. Input is a Source like taps_by_pixels.
template <class Tile, class G, class Input, class Result>
DEVICE void conv_filter_grad(u8* shared, u32 i, const Input& x, const typename Tile::T* dy, u32 begin, u32 end, Result result) {
  typedef typename Tile::T T;
  tensor_matmul<Tile, G::O, G::R * G::S * G::C>(shared, i, matrix<T, false, G::O>{dy}, x, begin, end, result);
}

// ---- the input's gradient. Pixels h, h + stride, … of the input meet the same
// taps, of which there is one in stride x stride: each such phase is a
// contraction of its own, and none multiplies zeros.

DEVICE constexpr i32 divisor(i32 a, i32 b) {  // the greatest common one
  while (b != 0) {
    const i32 rest = a % b;
    a = b, b = rest;
  }
  return a;
}

// phase_axis has what phase h, of an axis, reads: pixel h + i STRIDE reads
// output i + base - t shift through tap first + t STEP, t < taps.
template <u32 EXTENT, u32 TAPS, i32 STRIDE, i32 PAD, i32 DILATION> struct phase_axis {
  static constexpr i32 STEP = STRIDE / divisor(STRIDE, DILATION), SHIFT = STEP * DILATION / STRIDE;
  u32 pixels, taps, first;
  i32 base;
  METHOD phase_axis(u32 h) : pixels((EXTENT - h + STRIDE - 1) / STRIDE), taps(0), first(0), base(0) {
    UNROLL for (i32 r = 0; r < STEP && r < (i32)TAPS; r++) {
      const i32 distance = (i32)h + PAD - r * DILATION;
      if (distance % STRIDE == 0) first = r, taps = (TAPS - r + STEP - 1) / STEP, base = distance / STRIDE;
    }
  }
};

template <class G> struct phase {
  phase_axis<G::H, G::R, G::STRIDE_H, G::PAD_H, G::DILATION_H> down;
  phase_axis<G::W, G::S, G::STRIDE_W, G::PAD_W, G::DILATION_W> across;
  u32 h, w;
  METHOD phase(u32 h, u32 w) : down(h), across(w), h(h), w(w) {}
  METHOD u32 pixels() const { return G::N * down.pixels * across.pixels; }
  METHOD u32 depth() const { return down.taps * across.taps * G::O; }
  METHOD u32 pixel(u32 i) const {  // the i-th pixel's index in (N,H,W)
    const u32 x = i % across.pixels, y = i / across.pixels % down.pixels, n = i / (across.pixels * down.pixels);
    return (n * G::H + h + y * G::STRIDE_H) * G::W + w + x * G::STRIDE_W;
  }
};

// phase_outputs is the Source of a phase's pixels by its taps (r, s, o): what
// the output's gradient dy has there.
template <class T_, class G> struct phase_outputs {
  typedef T_ T;
  struct row_state { const T* image; i32 p, q; };
  struct depth_state { i32 p, q; u32 o; };
  static constexpr bool ALONG_K = true, VECTORS = G::O % chunk<T>::SIZE == 0, TRANSFORMS = false;
  const T* x;
  const phase<G>& f;
  METHOD row_state row(u32 i) const {
    const u32 q = i % f.across.pixels, p = i / f.across.pixels % f.down.pixels, n = i / (f.across.pixels * f.down.pixels);
    return row_state{x + n * (G::P * G::Q * G::O), (i32)p + f.down.base, (i32)q + f.across.base};
  }
  METHOD depth_state depth(u32 k) const {
    const u32 o = k % G::O, t = k / G::O;
    return depth_state{(i32)(t / f.across.taps) * f.down.SHIFT, (i32)(t % f.across.taps) * f.across.SHIFT, o};
  }
  METHOD const T* at(const row_state& r, const depth_state& k) const {
    const u32 p = r.p - k.p, q = r.q - k.q;
    return p < G::P && q < G::Q ? r.image + (p * G::Q + q) * G::O + k.o : 0;
  }
};

// phase_filters is the Source of the filters (O,R,S,C), with channels as
// columns and a phase's taps along k.
template <class T_, class G> struct phase_filters {
  typedef T_ T;
  typedef u32 row_state;
  typedef const T* depth_state;
  static constexpr bool ALONG_K = false, VECTORS = G::C % chunk<T>::SIZE == 0, TRANSFORMS = false;
  const T* x;
  const phase<G>& f;
  METHOD row_state row(u32 c) const { return c; }
  METHOD depth_state depth(u32 k) const {
    const u32 o = k % G::O, t = k / G::O;
    const u32 r = f.down.first + t / f.across.taps * f.down.STEP, s = f.across.first + t % f.across.taps * f.across.STEP;
    return x + ((o * G::R + r) * G::S + s) * G::C;
  }
  METHOD const T* at(row_state c, depth_state k) const { return k + c; }
};

// conv_input_grad computes tile i of the gradient (N H W, C), counted through
// the phases; result's rows are input pixels.
template <class Tile, class G, class Result>
DEVICE void conv_input_grad(u8* shared, u32 i, const typename Tile::T* dy, const typename Tile::T* w, Result result) {
  typedef typename Tile::T T;
  constexpr u32 ACROSS = (G::C + Tile::COLUMNS - 1) / Tile::COLUMNS;
  for (u32 h = 0; h < G::H && h < G::STRIDE_H; h++)
    for (u32 v = 0; v < G::W && v < G::STRIDE_W; v++) {
      const phase<G> f(h, v);
      const u32 tiles = (f.pixels() + Tile::ROWS - 1) / Tile::ROWS * ACROSS;
      if (i < tiles) {
        tensor_contract<Tile>(shared, phase_outputs<T, G>{dy, f}, phase_filters<T, G>{w, f}, i / ACROSS * Tile::ROWS, i % ACROSS * Tile::COLUMNS,
                              f.pixels(), G::C, 0, f.depth(), [&](u32 row, u32 column, f32 (&x)[8]) { result(f.pixel(row), column, x); });
        return;
      }
      i -= tiles;
    }
}

// ---- the input's gradient where the input has few channels, as a first layer's:
// they would fill few of a tile's columns, and each output pixel would be fetched
// for each tap. So taps are columns too: an output pixel is fetched once, multiplied
// with all of them, and an input pixel adds up what belongs to it. Strides are 1.

// output_rows is the Source of whole rows of output pixels of an image, from row p
// on, by outputs; what is above or below the image is 0.
template <class T_, class G> struct output_rows {
  typedef T_ T;
  typedef const T* row_state;
  typedef u32 depth_state;
  static constexpr bool ALONG_K = true, VECTORS = G::O % chunk<T>::SIZE == 0, TRANSFORMS = false;
  const T* x;
  const u32 image;
  const i32 first;
  METHOD row_state row(u32 i) const {
    const u32 p = first + (i32)(i / G::Q);  // above the image, a large number
    return p < G::P ? x + ((image * G::P + p) * G::Q + i % G::Q) * G::O : 0;
  }
  METHOD depth_state depth(u32 k) const { return k; }
  METHOD const T* at(row_state r, depth_state k) const { return r ? r + k : 0; }
};

// conv_input_grad_few computes tile i of the gradient (N,H,W,C): DOWN rows of an
// image. result gets a pixel's channels, of which there are no more than eight.
template <class Tile, class G, u32 DOWN, class Result>
DEVICE void conv_input_grad_few(u8* shared, u32 i, const typename Tile::T* dy, const typename Tile::T* w, Result result) {
  typedef typename Tile::T T;
  constexpr u32 TAPS = G::R * G::S * G::C, TILES = (G::H + DOWN - 1) / DOWN;
  constexpr u32 REACH = (G::R - 1) * G::DILATION_H, ROWS = (DOWN + REACH) * G::Q;  // output pixels that a tile needs
  static_assert(G::STRIDE_H == 1 && G::STRIDE_W == 1 && G::C <= 8 && TAPS <= Tile::COLUMNS && ROWS <= Tile::ROWS, "");
  const u32 image = i / TILES, top = i % TILES * DOWN;
  const output_rows<T, G> rows{dy, image, (i32)top + G::PAD_H - (i32)REACH};
  const f32* const sums = tensor_sums<Tile>(shared, rows, matrix<T, false, TAPS>{w}, 0, 0, ROWS, TAPS, 0, G::O);
  for (u32 e = threadIdx.x; e < DOWN * G::W && top + e / G::W < G::H; e += BLOCK) {
    const u32 x = e % G::W, y = e / G::W;
    f32 v[8] = {};
    UNROLL for (u32 r = 0; r < G::R; r++) UNROLL for (u32 s = 0; s < G::S; s++) {
      const u32 q = (i32)x + G::PAD_W - (i32)s * G::DILATION_W;
      if (q >= G::Q) continue;
      const f32* const taps = sums + ((y + REACH - r * G::DILATION_H) * G::Q + q) * Tile::RESULT_STRIDE + (r * G::S + s) * G::C;
      UNROLL for (u32 c = 0; c < G::C; c++) v[c] += taps[c];
    }
    result((image * G::H + top + y) * G::W + x, 0, v);
  }
}
