// The one header that every kernel includes: element types, element functions,
// reductions, random numbers, and wrappers of the tensor-core and copy
// instructions, which are the only places with inline PTX. NVRTC compiles it
// for a GPU; the emulator compiles it, with TEMPER_EMULATOR defined, as host
// C++ against emulator.h, which stands in for CUDA's built-ins and for the PTX.
#pragma once

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef int i32;
typedef long long i64;
typedef float f32;
typedef double f64;
struct bf16 {  // the upper half of an f32
  u16 bits;
};
struct alignas(64) tensor_map {  // CUtensorMap: a tensor in memory, and what is copied of it at once
  u64 opaque[16];
};
template <u32 N> struct tensor_maps { tensor_map of[N]; };

#if defined(TEMPER_EMULATOR)
#include "emulator.h"
#else
#define DEVICE static __device__ __forceinline__
#define METHOD __device__ __forceinline__
#define UNROLL _Pragma("unroll")
#define UNROLL8 _Pragma("unroll 8")
// EXPORT(kernel) follows each kernel: the emulator needs the parameters' sizes.
#define EXPORT(kernel)
#define EXPORT_CLUSTER(kernel, blocks)  // of one with __cluster_dims__(blocks)
// DYNAMIC_SHARED declares the launch's dynamic shared memory as an array of T.
#define DYNAMIC_SHARED(T, name)                              \
  extern __shared__ __align__(1024) u8 dynamic_shared[]; \
  T* const name = reinterpret_cast<T*>(dynamic_shared)
#endif

// ---- element functions: one for each element-wise operation of the engine,
// named after it. Floating-point arithmetic is rounded after every operation
// (the _rn functions are never fused), so that a sum of products has the bits
// that the CPU gives it.

template <class T> struct limits;  // of integers; smallest() starts a maximum
template <> struct limits<u8> {
  static constexpr u8 smallest = 0, largest = 255;
};
template <> struct limits<i32> {
  static constexpr i32 smallest = -2147483647 - 1, largest = 2147483647;
};
template <> struct limits<u32> {
  static constexpr u32 smallest = 0, largest = 4294967295u;
};
template <class T> struct is_float { static constexpr bool value = false; };
template <> struct is_float<f32> { static constexpr bool value = true; };
template <> struct is_float<f64> { static constexpr bool value = true; };

DEVICE f32 f32_bits(u32 b) { return __uint_as_float(b); }
DEVICE f64 f64_bits(u64 b) { return __longlong_as_double((i64)b); }

DEVICE f32 add_(f32 a, f32 b) { return __fadd_rn(a, b); }
DEVICE f32 sub_(f32 a, f32 b) { return __fadd_rn(a, -b); }
DEVICE f32 mul_(f32 a, f32 b) { return __fmul_rn(a, b); }
DEVICE f32 div_(f32 a, f32 b) { return __fdiv_rn(a, b); }
DEVICE f64 add_(f64 a, f64 b) { return __dadd_rn(a, b); }
DEVICE f64 sub_(f64 a, f64 b) { return __dadd_rn(a, -b); }
DEVICE f64 mul_(f64 a, f64 b) { return __dmul_rn(a, b); }
DEVICE f64 div_(f64 a, f64 b) { return __ddiv_rn(a, b); }

// multiply_add is for sums that no other machine is to give the bits of: fused
// on a GPU.
#if defined(TEMPER_EMULATOR)
DEVICE f32 multiply_add(f32 a, f32 b, f32 c) { return a * b + c; }
DEVICE f64 multiply_add(f64 a, f64 b, f64 c) { return a * b + c; }
#else
DEVICE f32 multiply_add(f32 a, f32 b, f32 c) { return __fmaf_rn(a, b, c); }
DEVICE f64 multiply_add(f64 a, f64 b, f64 c) { return __fma_rn(a, b, c); }
#endif

// Integers wrap: the low bits of the result are those of u32 arithmetic.
template <class T> DEVICE T add_(T a, T b) { return (T)((u32)a + (u32)b); }
template <class T> DEVICE T sub_(T a, T b) { return (T)((u32)a - (u32)b); }
template <class T> DEVICE T mul_(T a, T b) { return (T)((u32)a * (u32)b); }
DEVICE i32 div_(i32 a, i32 b) { return b == 0 ? 0 : b == -1 ? (i32)(0u - (u32)a) : a / b; }
template <class T> DEVICE T div_(T a, T b) { return b == 0 ? 0 : a / b; }

template <class T> DEVICE T neg_(T a) {
  if constexpr (is_float<T>::value) return -a;
  else return (T)(0u - (u32)a);
}
DEVICE f32 abs_(f32 a) { return fabsf(a); }
DEVICE f64 abs_(f64 a) { return fabs(a); }
template <class T> DEVICE T abs_(T a) { return a < T(0) ? neg_(a) : a; }
template <class T> DEVICE T sign_(T a) { return T(a > T(0)) - T(a < T(0)); }
template <class T> DEVICE T relu_(T a) { return a < T(0) ? T(0) : a; }
template <class T> DEVICE T max_(T a, T b) { return a > b || a != a ? a : b; }  // NaN wins
template <class T> DEVICE T min_(T a, T b) { return a < b || a != a ? a : b; }
DEVICE f32 floor_(f32 a) { return floorf(a); }
DEVICE f64 floor_(f64 a) { return floor(a); }
DEVICE f32 sqrt_(f32 a) { return __fsqrt_rn(a); }
DEVICE f64 sqrt_(f64 a) { return __dsqrt_rn(a); }
DEVICE f32 pow_(f32 a, f32 b) { return powf(a, b); }
DEVICE f64 pow_(f64 a, f64 b) { return pow(a, b); }
DEVICE f32 expm1_(f32 a) { return expm1f(a); }
DEVICE f64 expm1_(f64 a) { return expm1(a); }
DEVICE f32 log1p_(f32 a) { return log1pf(a); }
DEVICE f64 log1p_(f64 a) { return log1p(a); }

DEVICE bool not_(bool a) { return !a; }
template <class T> DEVICE T and_(T a, T b) { return (T)(a & b); }
template <class T> DEVICE T or_(T a, T b) { return (T)(a | b); }
template <class T> DEVICE T xor_(T a, T b) { return (T)(a ^ b); }
template <class T> DEVICE T shl_(T a, T b) { return (u32)b >= 8 * sizeof(T) ? T(0) : (T)((u32)a << (u32)b); }
template <class T> DEVICE T shr_(T a, T b) {
  if ((u32)b >= 8 * sizeof(T)) return a < T(0) ? (T)-1 : T(0);
  return (T)(a >> (u32)b);
}
template <class T> DEVICE bool eq_(T a, T b) { return a == b; }
template <class T> DEVICE bool ne_(T a, T b) { return a != b; }
template <class T> DEVICE bool lt_(T a, T b) { return a < b; }
template <class T> DEVICE bool le_(T a, T b) { return a <= b; }
template <class T> DEVICE bool gt_(T a, T b) { return a > b; }
template <class T> DEVICE bool ge_(T a, T b) { return a >= b; }
template <class T> DEVICE T select_(bool c, T a, T b) { return c ? a : b; }
template <class T> DEVICE T stop_gradient_(T a) { return a; }
template <class T> DEVICE T broadcast_(T a) { return a; }

DEVICE f32 bf16_to_f32(bf16 a) { return f32_bits((u32)a.bits << 16); }
DEVICE bf16 f32_to_bf16(f32 a);  // to nearest even

// convert: floats truncate to integers and saturate, NaN is 0; integers wrap;
// anything but zero is true. bf16 converts from and to f32 alone.
template <class T, class S> DEVICE T saturate_(S a) {
  if (a != a) return 0;
  return a <= (S)limits<T>::smallest ? limits<T>::smallest : a >= (S)limits<T>::largest ? limits<T>::largest : (T)a;
}
template <class T, class S> struct converter {
  DEVICE T of(S a) {
    if constexpr (is_float<S>::value && !is_float<T>::value) return saturate_<T>(a);
    else return (T)a;
  }
};
template <class S> struct converter<bool, S> {
  DEVICE bool of(S a) { return a != S(0); }
};
template <> struct converter<f32, bf16> {
  DEVICE f32 of(bf16 a) { return bf16_to_f32(a); }
};
template <> struct converter<bf16, f32> {
  DEVICE bf16 of(f32 a) { return f32_to_bf16(a); }
};
template <class T, class S> DEVICE T convert(S a) { return converter<T, S>::of(a); }

// above orders elements, with NaN on top.
template <class T> DEVICE bool above(T a, T b) { return a > b || (a != a && b == b); }
DEVICE bool above(bf16 a, bf16 b) { return above(bf16_to_f32(a), bf16_to_f32(b)); }
DEVICE i32 clamp_index(i32 i, i32 last) { return i < 0 ? 0 : i > last ? last : i; }

// The functions below are the CPU's (engine/cpu/kernel), operation by
// operation, and give its bits.

template <int N> DEVICE f32 polynomial(const f32 (&c)[N], f32 x) {  // highest power first
  f32 s = c[0];
  UNROLL for (int i = 1; i < N; i++) s = add_(mul_(s, x), c[i]);
  return s;
}

DEVICE f32 power_of_two(i32 e) { return f32_bits((u32)(e + 127) << 23); }

DEVICE f32 exp_(f32 x) {  // 2^n e^r, where x = n ln 2 + r
  constexpr f32 c[] = {0.00138143206f, 0.00836885069f, 0.0416684002f, 0.166665196f, 0.49999994f};
  constexpr f32 magic = 12582912.f;  // 3 2^22: a sum with it rounds to an integer
  if (x != x) return x;
  x = x > 89.f ? 89.f : x < -105.f ? -105.f : x;
  f32 t = add_(mul_(x, 1.44269504f), magic), n = sub_(t, magic);
  i32 e = (i32)__float_as_uint(t) - (i32)__float_as_uint(magic);
  f32 high = sub_(x, mul_(n, 0.693359375f)), low = mul_(n, -2.12194440e-4f);
  f32 r = sub_(high, low), lost = sub_(sub_(high, r), low);
  f32 y = add_(add_(add_(mul_(polynomial(c, r), mul_(r, r)), lost), r), 1.f);
  i32 half = e >> 1;  // in two steps: 2^n itself may be out of range
  return mul_(mul_(y, power_of_two(half)), power_of_two(e - half));
}
DEVICE f64 exp_(f64 x) { return exp(x); }

DEVICE f32 log_(f32 x) {
  constexpr f32 c[] = {0.0691554099f, -0.117898643f, 0.118729256f, -0.12384335f, 0.142186642f,
                       -0.166692525f, 0.200022265f, -0.249999866f, 0.333333105f};
  if (x != x || x < 0.f) return f32_bits(0x7fc00000u);
  if (x == 0.f) return f32_bits(0xff800000u);
  if (x > 3.40282347e38f) return x;
  i32 shift = 0;
  if (x < 1.17549435e-38f) {
    x = mul_(x, 33554432.f);
    shift = 25;
  }
  i32 b = (i32)__float_as_uint(x) - 0x3f3504f3;  // leaves a mantissa in [sqrt 1/2, sqrt 2)
  f32 e = (f32)((b >> 23) - shift);
  f32 f = sub_(f32_bits((u32)((b & 0x7fffff) + 0x3f3504f3)), 1.f);
  f32 z = mul_(f, f);
  f32 y = mul_(polynomial(c, f), mul_(f, z));
  y = add_(y, mul_(e, -2.12194440e-4f));
  y = sub_(y, mul_(0.5f, z));
  return add_(add_(f, y), mul_(e, 0.693359375f));
}
DEVICE f64 log_(f64 x) { return log(x); }

DEVICE f32 tanh_(f32 x) {
  constexpr f32 c[] = {0.00214753998f, -0.00818267744f, 0.0217029694f, -0.0539472029f, 0.133332103f, -0.333333313f};
  f32 a = fabsf(x), y;
  if (a < 0.625f) {
    f32 z = mul_(a, a);
    y = add_(mul_(a, mul_(z, polynomial(c, z))), a);
  } else {
    y = sub_(1.f, div_(2.f, add_(exp_(mul_(2.f, a > 10.f ? 10.f : a)), 1.f)));
  }
  return f32_bits(__float_as_uint(y) | (__float_as_uint(x) & 0x80000000u));
}
DEVICE f64 tanh_(f64 x) { return tanh(x); }

DEVICE f32 sigmoid_(f32 x) {
  f32 e = exp_(-fabsf(x)), d = add_(1.f, e);
  f32 lost = sub_(e, sub_(d, 1.f));  // by rounding d
  f32 y = div_(e, d), inverse = sub_(1.f, y);
  if (x >= 0.f) inverse = y = div_(1.f, d);
  return sub_(y, mul_(y, mul_(lost, inverse)));
}
DEVICE f64 sigmoid_(f64 x) {
  f64 e = exp(-fabs(x));
  return x >= 0 ? 1 / (1 + e) : e / (1 + e);
}

// ---- reductions of a block of 256 threads, always in the same order: within
// each warp a butterfly, then the warps' results in another.

constexpr u32 BLOCK = 256;

template <class T> DEVICE T sum_start() { return T(0); }
template <class T> DEVICE T max_start() {
  if constexpr (is_float<T>::value) return (T)f32_bits(0xff800000u);
  else return limits<T>::smallest;
}

// Each thread gives v; thread 0 gets the result. tree has a place for each warp.
template <class T, class F> DEVICE T block_reduce(T v, T* tree, F join) {
  UNROLL for (int lanes = 16; lanes > 0; lanes >>= 1) v = join(v, __shfl_xor_sync(~0u, v, lanes));
  __syncthreads();  // the tree's last results have been read
  if (threadIdx.x % 32 == 0) tree[threadIdx.x / 32] = v;
  __syncthreads();
  if (threadIdx.x < 32) {
    v = tree[threadIdx.x % (BLOCK / 32)];
    UNROLL for (u32 lanes = BLOCK / 64; lanes > 0; lanes >>= 1) v = join(v, __shfl_xor_sync(~0u, v, lanes));
  }
  return v;
}
template <class T> DEVICE T block_sum(T v, T* tree) {
  return block_reduce(v, tree, [](T a, T b) { return add_(a, b); });
}
template <class T> DEVICE T block_max(T v, T* tree) {
  return block_reduce(v, tree, [](T a, T b) { return max_(a, b); });
}

// Each thread gives v; the threads of a column, those WIDTH apart, are joined in
// a fixed tree, and the first WIDTH threads get the results. tree has BLOCK
// places.
template <u32 WIDTH, class T, class F> DEVICE T column_reduce(T v, T* tree, F join) {
  __syncthreads();  // the tree's last results have been read
  tree[threadIdx.x] = v;
  __syncthreads();
  UNROLL for (u32 rows = BLOCK / WIDTH / 2; rows > 0; rows /= 2) {
    if (threadIdx.x < rows * WIDTH) tree[threadIdx.x] = v = join(v, tree[threadIdx.x + rows * WIDTH]);
    __syncthreads();
  }
  return v;
}
template <u32 WIDTH, class T> DEVICE T column_sum(T v, T* tree) {
  return column_reduce<WIDTH>(v, tree, [](T a, T b) { return add_(a, b); });
}
template <u32 WIDTH, class T> DEVICE T column_max(T v, T* tree) {
  return column_reduce<WIDTH>(v, tree, [](T a, T b) { return max_(a, b); });
}

// join_tree is where join_parts joins: one place for all that a kernel joins, one
// after another.
template <class T> DEVICE T* join_tree() {
  __shared__ T tree[BLOCK];
  return tree;
}

// join_parts joins PARTS rows of n results, one of several blocks WIDTH columns at a
// time.
template <u32 PARTS, u32 WIDTH, class T, class F> DEVICE void join_parts(const T* parts, T* out, u32 n, u32 block, u32 blocks, F join) {
  T* const tree = join_tree<T>();
  for (u32 first = block * WIDTH; first < n; first += blocks * WIDTH) {
    const u32 column = first + threadIdx.x % WIDTH, row = threadIdx.x / WIDTH;
    T v = T();
    bool some = false;
    if (column < n)
      UNROLL8 for (u32 k = row; k < PARTS; k += BLOCK / WIDTH) {
        const T x = parts[k * n + column];
        v = some ? join(v, x) : x;
        some = true;
      }
    __syncthreads();  // the tree's last results have been read
    tree[threadIdx.x] = v;
    __syncthreads();
    if (row == 0 && column < n) {
      for (u32 k = 1; k < BLOCK / WIDTH && k < PARTS; k++) v = join(v, tree[k * WIDTH + threadIdx.x]);
      out[column] = v;
    }
  }
}

DEVICE u32 smaller(u32 a, u32 b) { return a < b ? a : b; }

// ---- N neighbours at once, aligned to their size, but no more than 16 bytes

template <class T, int N> struct __align__(N * sizeof(T) < 16 ? N * sizeof(T) : 16) neighbours { T e[N]; };
template <class T, int N> DEVICE void load_vector(T (&v)[N], const T* from) {
  const neighbours<T, N> x = *(const neighbours<T, N>*)from;
  UNROLL for (int e = 0; e < N; e++) v[e] = x.e[e];
}
template <class T, int N> DEVICE void store_vector(T* to, const T (&v)[N]) {
  neighbours<T, N> x;
  UNROLL for (int e = 0; e < N; e++) x.e[e] = v[e];
  *(neighbours<T, N>*)to = x;
}

// ---- random numbers: engine/rng, bit for bit

struct words4 {
  u32 w[4];
};

DEVICE words4 philox(u32 k0, u32 k1, u32 c0, u32 c1, u32 c2, u32 c3) {
  UNROLL for (int round = 0; round < 10; round++) {
    u32 h0 = __umulhi(0xD2511F53u, c0), l0 = 0xD2511F53u * c0;
    u32 h1 = __umulhi(0xCD9E8D57u, c2), l1 = 0xCD9E8D57u * c2;
    c0 = h1 ^ c1 ^ k0;
    c1 = l1;
    c2 = h0 ^ c3 ^ k1;
    c3 = l0;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return words4{{c0, c1, c2, c3}};
}

DEVICE f32 rng_log(f32 x) {
  u32 b = __float_as_uint(x) - 0x3f3504f3u;
  f32 e = (f32)((i32)b >> 23);
  f32 m = f32_bits((b & 0x7fffffu) + 0x3f3504f3u);
  f32 s = div_(sub_(m, 1.f), add_(m, 1.f)), z = mul_(s, s);
  constexpr f32 c[] = {(f32)(1.0 / 9), (f32)(1.0 / 7), (f32)(1.0 / 5), (f32)(1.0 / 3), 1.f};
  return add_(mul_(e, 0.6931472f), mul_(mul_(2.f, s), polynomial(c, z)));
}

DEVICE f32 normal_(u32 w) {
  constexpr f32 central[] = {2.81022636e-08f, 3.43273939e-07f, -3.5233877e-06f, -4.39150654e-06f, 0.00021858087f,
                             -0.00125372503f, -0.00417768164f, 0.246640727f, 1.50140941f};
  constexpr f32 tail[] = {-0.000200214257f, 0.000100950558f, 0.00134934322f, -0.00367342844f, 0.00573950773f,
                          -0.0076224613f, 0.00943887047f, 1.00167406f, 2.83297682f};
  f32 p = mul_(add_((f32)(w >> 9), 0.5f), 5.9604644775390625e-8f);  // 2^-24
  f32 q = mul_(4.f, mul_(p, sub_(1.f, p)));
  f32 t = -rng_log(q);
  f32 s = t < 5.f ? polynomial(central, sub_(t, 2.5f)) : polynomial(tail, sub_(sqrt_(t), 3.f));
  f32 z = mul_(1.4142135f, mul_(s, sub_(1.f, mul_(2.f, p))));
  return w & 0x100u ? -z : z;
}

// ---- instructions without a name in CUDA C++. Fragments are those of the PTX
// manual: lane l holds, of each 8x8 matrix, row l/4 and columns 2(l%4), 2(l%4)+1.

// wgmma_matrix describes an operand of a warpgroup's product to the tensor cores:
// bf16 at p in shared memory, in lines of SPAN bytes (32, 64 or 128), of which
// eight make an atom that starts at a multiple of its size and lies as a tensor
// copy swizzles it. Along k, a line is a row's; across k, it is a k's, and blocks
// of SPAN / 2 rows are LEADING bytes apart. STRIDE is from an atom to the next:
// eight rows along k, eight k across it.
DEVICE u32 shared_address(const void* p);
template <u32 SPAN> DEVICE u64 wgmma_matrix(const void* p, u32 leading, u32 stride) {
  static_assert(SPAN == 32 || SPAN == 64 || SPAN == 128, "");
  constexpr u64 SWIZZLE = SPAN == 128 ? 1 : SPAN == 64 ? 2 : 3;
  return (u64)(shared_address(p) >> 4) | (u64)(leading >> 4) << 16 | (u64)(stride >> 4) << 32 | SWIZZLE << 62;
}

#if !defined(TEMPER_EMULATOR)
DEVICE bf16 f32_to_bf16(f32 a) {
  bf16 r;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(r.bits) : "f"(a));
  return r;
}

DEVICE u32 shared_address(const void* p) { return (u32)__cvta_generic_to_shared(p); }

// Rounds to the 11 significant bits of a tf32 number.
DEVICE u32 f32_to_tf32(f32 a) {
  u32 r;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(r) : "f"(a));
  return r;
}

// Copies 16 bytes to shared memory in the background, or zeros if not wanted.
DEVICE void copy_async16(void* to, const void* from, bool wanted) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)), "l"(from), "r"(wanted ? 16 : 0) : "memory");
}
// Closes the group of this thread's copies since the last.
DEVICE void copy_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// Waits until at most N groups are under way.
template <int N> DEVICE void copy_async_wait() { asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory"); }

// Loads four 8x8 matrices of 16-bit elements: lanes 8k to 8k+7 give the rows of
// matrix k.
DEVICE void load_matrices(u32 (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(shared_address(row)) : "memory");
}
DEVICE void load_matrices_transposed(u32 (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(shared_address(row)) : "memory");
}

// d += a b: (16,16) x (16,8) of bf16, in f32.
DEVICE void mma_bf16(f32 (&d)[4], const u32 (&a)[4], const u32 (&b)[2]) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
// d += a b: (16,8) x (8,8) of f32 of which the upper 19 bits count, in f32.
DEVICE void mma_tf32(f32 (&d)[4], const u32 (&a)[4], const u32 (&b)[2]) {
  asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// The same for M by N fragments, as the tile of a warp has them: the emulator
// lets the lanes meet once for all.
template <int M, int N> DEVICE void mma_bf16(f32 (&d)[M][N][4], const u32 (&a)[M][4], const u32 (&b)[N][2]) {
  UNROLL for (int i = 0; i < M; i++) UNROLL for (int j = 0; j < N; j++) mma_bf16(d[i][j], a[i], b[j]);
}
template <int M, int N> DEVICE void mma_tf32(f32 (&d)[M][N][4], const u32 (&a)[M][4], const u32 (&b)[N][2]) {
  UNROLL for (int i = 0; i < M; i++) UNROLL for (int j = 0; j < N; j++) mma_tf32(d[i][j], a[i], b[j]);
}

// wait_for_turn waits, on sm_90, until what was launched before on the stream has
// ended and all that it wrote is seen, and then lets the kernel behind begin, up to
// this place: a kernel may be started early, so that its start is not waited for.
// Each thread calls it once, before it reads or writes global memory.
DEVICE void wait_for_turn() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

// ---- of sm_90a

// group_sync is a barrier of THREADS threads, whole warps, among those who name
// the same barrier, 1 to 15.
template <u32 THREADS> DEVICE void group_sync(u32 barrier) { asm volatile("bar.sync %0, %1;" ::"r"(barrier), "n"(THREADS) : "memory"); }

// The block's registers are moved between warpgroups: each thread of the calling
// one keeps, or gets, N.
template <u32 N> DEVICE void release_registers() { asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(N)); }
template <u32 N> DEVICE void acquire_registers() { asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(N)); }

// A phase of an mbarrier, in shared memory, is complete when so many threads have
// arrived and all bytes that they expect have been copied. Waiting for a parity
// waits for the last phase of that parity: 0 is that of the first.
DEVICE void mbarrier_init(u64* b, u32 arrivals) { asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(b)), "r"(arrivals) : "memory"); }
DEVICE void mbarrier_arrive(u64* b) { asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(b)) : "memory"); }
DEVICE void mbarrier_arrive_expecting(u64* b, u32 bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(b)), "r"(bytes) : "memory");
}
DEVICE void mbarrier_wait(u64* b, u32 parity) {
  asm volatile("{\n.reg .pred done;\nagain:\nmbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n@!done bra again;\n}"
               ::"r"(shared_address(b)), "r"(parity) : "memory");
}
// Arrives at a barrier as another block of the cluster has it, at the same place.
DEVICE void mbarrier_arrive_at(u64* b, u32 block) {
  asm volatile("{\n.reg .u32 there;\nmapa.shared::cluster.u32 there, %0, %1;\nmbarrier.arrive.release.cluster.shared::cluster.b64 _, [there];\n}"
               ::"r"(shared_address(b)), "r"(block) : "memory");
}
// A barrier of all threads of the cluster's blocks that have not ended.
DEVICE void cluster_sync() {
  asm volatile("barrier.cluster.arrive.release;\nbarrier.cluster.wait.acquire;" ::: "memory");
}
// What this thread has written to shared memory, mbarriers included, is seen by
// tensor copies and the tensor cores.
DEVICE void fence_proxy_async() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

// Copies a box of a tensor of three axes, the one at (x, y, z), to shared memory: to
// this block's, or to the same place of some BLOCKS of the cluster, a bit for each,
// whose own barriers at the place of done hear of it.
template <u32 BLOCKS = 0> DEVICE void copy_tile(void* to, const tensor_map* from, u64* done, i32 x, i32 y, i32 z) {
  if constexpr (BLOCKS == 0)
    asm volatile("cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5}], [%2];"
                 ::"r"(shared_address(to)), "l"(from), "r"(shared_address(done)), "r"(x), "r"(y), "r"(z) : "memory");
  else
    asm volatile("cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes.multicast::cluster [%0], [%1, {%3, %4, %5}], [%2], %6;"
                 ::"r"(shared_address(to)), "l"(from), "r"(shared_address(done)), "r"(x), "r"(y), "r"(z), "h"((u16)BLOCKS) : "memory");
}
// Copies channels c, c + 1, … of pixels of images (N,H,W,C) to shared memory: the
// map has how many of both, and the box through which the pixels run, from
// (n, h, w), row by row. Each is the one right and down of there; those outside
// of the image are 0.
template <u32 BLOCKS = 0> DEVICE void copy_pixels(void* to, const tensor_map* from, u64* done, i32 c, i32 w, i32 h, i32 n, u16 right, u16 down) {
  if constexpr (BLOCKS == 0)
    asm volatile("cp.async.bulk.tensor.4d.shared::cluster.global.im2col.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5, %6}], [%2], {%7, %8};"
                 ::"r"(shared_address(to)), "l"(from), "r"(shared_address(done)), "r"(c), "r"(w), "r"(h), "r"(n), "h"(right), "h"(down) : "memory");
  else
    asm volatile("cp.async.bulk.tensor.4d.shared::cluster.global.im2col.mbarrier::complete_tx::bytes.multicast::cluster [%0], [%1, {%3, %4, %5, %6}], [%2], {%7, %8}, %9;"
                 ::"r"(shared_address(to)), "l"(from), "r"(shared_address(done)), "r"(c), "r"(w), "r"(h), "r"(n), "h"(right), "h"(down), "h"((u16)BLOCKS) : "memory");
}

// The compiler takes sums that it is told to be touched to be where they are by
// then, and no later.
template <int M, int Q> DEVICE void touch(f32 (&d)[M][Q]) {
  UNROLL for (int i = 0; i < M; i++) UNROLL for (int q = 0; q < Q; q++) asm volatile("" : "+f"(d[i][q])::"memory");
}
// Before a warpgroup's products: their sums, in registers, are ready.
template <int M, int Q> DEVICE void wgmma_fence(f32 (&d)[M][Q]) {
  touch(d);
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
// Closes the group of products since the last.
DEVICE void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
// Waits until at most GROUPS groups are under way.
template <int GROUPS> DEVICE void wgmma_wait() { asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(GROUPS) : "memory"); }
// Waits for all; then the sums may be read.
template <int M, int Q> DEVICE void wgmma_wait_for(f32 (&d)[M][Q]) {
  wgmma_wait<0>();
  touch(d);
}

// d += a b: (64,16) x (16,N) of bf16, in f32, by a warpgroup. Sums lie as those of
// mma do, warp w having rows 16 w to 16 w + 15: 8 columns in four registers.
#define REGISTERS_16 "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15"
#define REGISTERS_32 REGISTERS_16 ", %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define REGISTERS_64 REGISTERS_32 ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47" \
                     ", %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define REGISTERS_80 REGISTERS_64 ", %64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79"
#define REGISTERS_128 REGISTERS_80 ", %80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95" \
                      ", %96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111"  \
                      ", %112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127"
#define SUMS_8(i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), "+f"(d[i + 6]), "+f"(d[i + 7])
#define SUMS_16(i) SUMS_8(i), SUMS_8(i + 8)
#define SUMS_32(i) SUMS_16(i), SUMS_16(i + 16)
#define SUMS_64(i) SUMS_32(i), SUMS_32(i + 32)
#define SUMS_80(i) SUMS_64(i), SUMS_16(i + 64)
#define SUMS_128(i) SUMS_64(i), SUMS_64(i + 64)
#define WGMMA(N, Q, A, B, A_ACROSS, B_ACROSS)                                                                                     \
  template <bool A_ALONG_K, bool B_ALONG_K> DEVICE void wgmma_bf16(f32 (&d)[Q], u64 a, u64 b) {                                   \
    asm volatile("wgmma.mma_async.sync.aligned.m64n" #N "k16.f32.bf16.bf16 {" REGISTERS_##Q "}, " A ", " B ", 1, 1, 1, " A_ACROSS \
                 ", " B_ACROSS ";"                                                                                                \
                 : SUMS_##Q(0) : "l"(a), "l"(b), "n"(A_ALONG_K ? 0 : 1), "n"(B_ALONG_K ? 0 : 1));                                 \
  }
WGMMA(32, 16, "%16", "%17", "%18", "%19")
WGMMA(64, 32, "%32", "%33", "%34", "%35")
WGMMA(128, 64, "%64", "%65", "%66", "%67")
WGMMA(160, 80, "%80", "%81", "%82", "%83")
WGMMA(256, 128, "%128", "%129", "%130", "%131")

// The same for K / 16 steps, the operands of which are so many bytes apart: the
// emulator lets the warpgroup meet once for all.
template <bool A_ALONG_K, bool B_ALONG_K, u32 K, int Q> DEVICE void wgmma_bf16(f32 (&d)[Q], u64 a, u64 b, u32 a_step, u32 b_step) {
  UNROLL for (u32 k = 0; k < K / 16; k++) wgmma_bf16<A_ALONG_K, B_ALONG_K>(d, a + (k * a_step >> 4), b + (k * b_step >> 4));
}
#endif
