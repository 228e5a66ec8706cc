/*
plan "pgd": arena 37632 bytes
  b1 = transpose input:x
  b3 = transpose state:conv.weight
  b6 = scatter-add const4 input:y
  fused over [8,3,8,8]
    t0 = sub input:x, scalar:eps by [0 0 0 0] -> b8
    t1 = add input:x, scalar:eps by [0 0 0 0] -> b9
  b10 = transpose b8
  b11 = transpose b9
  b12 = copy b1
  loop 10 times
    b14 = conv2d b12 b3
    fused over [8,8,8,4] reducing [1 2]
      t0 = add b14, state:conv.bias by [0 0 0 1]
      t1 = relu t0  # relu
      t2 = reduce-sum t1 -> b16
      t3 = le t1, 0 -> b17
    fused over [8,4]
      t0 = mul b16, 0.015625 -> b18
    b20 = matmul b18 state:fc.weight
    fused over [8,10] reducing [1]
      t0 = reduce-max b20 -> b21
    fused over [8,10] reducing [1]
      t0 = sub b20, b21 by [1 0]
      t1 = exp t0 -> b22
      t2 = reduce-sum t1 -> b23
    fused over [8]
      t0 = div 1, b23 -> b24
    fused over [8,10]
      t0 = mul b24 by [1 0], b22
      t1 = add b6, t0 -> b25
    b26 = matmul b25 state:fc.weight
    fused over [8,4]
      t0 = mul b26, 0.015625 -> b27
    fused over [8,8,8,4]
      t0 = select b17, 0, b27 by [4 0 0 1] -> b28
    b29 = conv2d-input-grad b28 b3
    fused over [8,8,8,3]
      t0 = sign b29
      t1 = mul t0, scalar:alpha by [0 0 0 0]
      t2 = add b12, t1
      t3 = lt t2, b10
      t4 = gt t2, b11
      t5 = select t4, b11, t2
      t6 = select t3, b10, t5
      t7 = lt t6, 0
      t8 = gt t6, 1
      t9 = select t8, 1, t6
      t10 = select t7, 0, t9 -> b12  # x_adv
  b32 = transpose b12
*/

extern "C" __global__ void kernel0(const f32* in0, f32* __restrict__ out, u32 n) {
  wait_for_turn();
  for (u32 i = blockIdx.x * BLOCK + threadIdx.x; i < n; i += gridDim.x * BLOCK) {
    const i32 x3 = (i32)(i / 1u % 3u);
    const i32 x2 = (i32)(i / 3u % 8u);
    const i32 x1 = (i32)(i / 24u % 8u);
    const i32 x0 = (i32)(i / 192u % 8u);
    out[i] = in0[0u + (x0) * 192u + (x3) * 64u + (x1) * 8u + (x2) * 1u];
  }
}
EXPORT(kernel0)

extern "C" __global__ void kernel1(const f32* in0, f32* __restrict__ out, u32 n) {
  wait_for_turn();
  for (u32 i = blockIdx.x * BLOCK + threadIdx.x; i < n; i += gridDim.x * BLOCK) {
    const i32 x3 = (i32)(i / 1u % 3u);
    const i32 x2 = (i32)(i / 3u % 3u);
    const i32 x1 = (i32)(i / 9u % 3u);
    const i32 x0 = (i32)(i / 27u % 4u);
    out[i] = in0[0u + (x0) * 27u + (x3) * 9u + (x1) * 3u + (x2) * 1u];
  }
}
EXPORT(kernel1)

extern "C" __global__ void kernel2(const f32* in0, const i32* in1, f32* __restrict__ out, u32 n) {
  wait_for_turn();
  for (u32 i = blockIdx.x * BLOCK + threadIdx.x; i < n; i += gridDim.x * BLOCK) {
    const i32 x1 = (i32)(i / 1u % 1u);
    const i32 x0 = (i32)(i / 1u % 8u);
    const u32 from = 0u + (x0) * 1u, to = 0u + (x0) * 10u + (0) * 1u;
    for (u32 k = 0; k < 10u; k++) out[to + k * 1u] = f32{};
    for (u32 k = 0; k < 1u; k++) {
      f32& s = out[to + (u32)clamp_index(in1[from + k * 1u], 9) * 1u];
      s = add_(s, in0[from + k * 1u]);
    }
  }
}
EXPORT(kernel2)

extern "C" __global__ void kernel3(const f32* in0, const f32* in1, f32* __restrict__ out0, f32* __restrict__ out1, u32 n) {
  wait_for_turn();
  for (u32 v = blockIdx.x * BLOCK + threadIdx.x; v < n; v += gridDim.x * BLOCK) {
    const u32 i = v * 4u;
    f32 v0[4]; load_vector(v0, in0 + i);
    const f32 v1 = in1[0];
    f32 r0[4];
    f32 r1[4];
    UNROLL for (u32 e = 0; e < 4; e++) {
      const f32 t0 = sub_(v0[e], v1);
      r0[e] = t0;
      const f32 t1 = add_(v0[e], v1);
      r1[e] = t1;
    }
    store_vector(out0 + i, r0);
    store_vector(out1 + i, r1);
  }
}
EXPORT(kernel3)

extern "C" __global__ void kernel4(const f32* in0, f32* __restrict__ out, u32 n) {
  wait_for_turn();
  for (u32 i = blockIdx.x * BLOCK + threadIdx.x; i < n; i += gridDim.x * BLOCK) {
    const i32 x3 = (i32)(i / 1u % 3u);
    const i32 x2 = (i32)(i / 3u % 8u);
    const i32 x1 = (i32)(i / 24u % 8u);
    const i32 x0 = (i32)(i / 192u % 8u);
    out[i] = in0[0u + (x0) * 192u + (x3) * 64u + (x1) * 8u + (x2) * 1u];
  }
}
EXPORT(kernel4)

extern "C" __global__ void kernel5(const f32* in0, f32* __restrict__ out, u32 n) {
  wait_for_turn();
  for (u32 i = blockIdx.x * BLOCK + threadIdx.x; i < n; i += gridDim.x * BLOCK) {
    const i32 x3 = (i32)(i / 1u % 3u);
    const i32 x2 = (i32)(i / 3u % 8u);
    const i32 x1 = (i32)(i / 24u % 8u);
    const i32 x0 = (i32)(i / 192u % 8u);
    out[i] = in0[0u + (x0) * 192u + (x3) * 64u + (x1) * 8u + (x2) * 1u];
  }
}
EXPORT(kernel5)

extern "C" __global__ void __launch_bounds__(BLOCK, 2) kernel6(const f32* in0, const f32* in1, f32* __restrict__ out, u32 n) {
  typedef tensor_tile<f32, 64, 32, EXACT> tile;
  typedef convolution<8, 3, 8, 8, 4, 3, 3, 8, 8, 1, 1, 1, 1, 1, 1> shape;
  static_assert(tensor_shared<tile, true, true>() == 23040, "");
  DYNAMIC_SHARED(u8, shared);
  wait_for_turn();
  for (u32 i = blockIdx.x; i < n; i += gridDim.x) {
    conv_forward<tile, shape>(shared, i, pixels_by_taps<f32, shape>(in0), in1, 0, 27,
        [&](u32 row, u32 column, const f32 (&v)[8]) { store_sums<4>(out + row * 4u + column, column, v); });
  }
}
EXPORT(kernel6)

extern "C" __global__ void kernel7(const f32* in0, const f32* in1, f32* __restrict__ out0, bool* __restrict__ out1, u32 n) {
  wait_for_turn();
  __shared__ f32 tree0_f32[BLOCK];
  for (u32 b = blockIdx.x; b < n; b += gridDim.x) {
    const u32 column = b % 1u * 4u + threadIdx.x % 4u, part = b / 1u % 1u, outer = b / 1u;
    f32 s2 = sum_start<f32>();
    const u32 end = column < 4u ? smaller(part * 64u + 64u, 64u) : 0;
    for (u32 r = part * 64u + threadIdx.x / 4u; r < end; r += BLOCK / 4u) {
      const u32 i = (outer * 64u + r) * 4u + column;
      const u32 x3 = i % 4u;
      const f32 t0 = add_(in0[i], in1[x3]);
      const f32 t1 = relu_(t0);
      s2 = add_(s2, t1);
      const bool t3 = le_(t1, f32(0x0p+00));
      out1[i] = t3;
    }
    s2 = column_sum<4>(s2, tree0_f32);
    if (threadIdx.x < 4u && column < 4u) {
      out0[outer * 4u + column] = s2;
    }
  }
}
EXPORT(kernel7)

extern "C" __global__ void kernel8(const f32* in0, f32* __restrict__ out0, u32 n) {
  wait_for_turn();
  for (u32 v = blockIdx.x * BLOCK + threadIdx.x; v < n; v += gridDim.x * BLOCK) {
    const u32 i = v * 4u;
    f32 v0[4]; load_vector(v0, in0 + i);
    f32 r0[4];
    UNROLL for (u32 e = 0; e < 4; e++) {
      const f32 t0 = mul_(v0[e], f32(0x1p-06));
      r0[e] = t0;
    }
    store_vector(out0 + i, r0);
  }
}
EXPORT(kernel8)

extern "C" __global__ void __launch_bounds__(BLOCK, 2) kernel9(const f32* in0, const f32* in1, f32* __restrict__ out, u32 n) {
  typedef tensor_tile<f32, 64, 32, EXACT> tile;
  static_assert(tensor_shared<tile, true, true>() == 23040, "");
  DYNAMIC_SHARED(u8, shared);
  wait_for_turn();
  for (u32 i = blockIdx.x; i < n; i += gridDim.x) {
    tensor_matmul<tile, 8, 10>(shared, i, matrix<f32, true, 4>{in0}, matrix<f32, true, 4>{in1}, 0, 4,
        [&](u32 row, u32 column, const f32 (&v)[8]) { store_sums<10>(out + row * 10u + column, column, v); });
  }
}
EXPORT(kernel9)

extern "C" __global__ void kernel10(const f32* g0_in0, f32* g0_out0, const f32* g1_in0, const f32* g1_in1, f32* g1_out0, f32* g1_out1, const f32* g2_in0, f32* g2_out0, const f32* g3_in0, const f32* g3_in1, const f32* g3_in2, f32* g3_out0, u32 n) {
  wait_for_turn();
  for (u32 o = threadIdx.x; o < 8u; o += BLOCK) {
    const u32 x0 = o;
    f32 s0 = max_start<f32>();
    for (u32 r = 0; r < 10u; r += 1) {
      const u32 x1 = r;
      s0 = max_(s0, g0_in0[x0 * 10u + x1]);
    }
    g0_out0[o] = s0;
  }
  __syncthreads();  // what stands above has been stored
  for (u32 o = threadIdx.x; o < 8u; o += BLOCK) {
    const u32 x0 = o;
    f32 s2 = sum_start<f32>();
    for (u32 r = 0; r < 10u; r += 1) {
      const u32 x1 = r;
      const f32 t0 = sub_(g1_in0[x0 * 10u + x1], g1_in1[x0]);
      const f32 t1 = exp_(t0);
      g1_out0[x0 * 10u + x1] = t1;
      s2 = add_(s2, t1);
    }
    g1_out1[o] = s2;
  }
  __syncthreads();  // what stands above has been stored
  for (u32 v = threadIdx.x; v < 2u; v += BLOCK) {
    const u32 i = v * 4u;
    f32 v0[4]; load_vector(v0, g2_in0 + i);
    f32 r0[4];
    UNROLL for (u32 e = 0; e < 4; e++) {
      const f32 t0 = div_(f32(0x1p+00), v0[e]);
      r0[e] = t0;
    }
    store_vector(g2_out0 + i, r0);
  }
  __syncthreads();  // what stands above has been stored
  for (u32 i = threadIdx.x; i < 80u; i += BLOCK) {
    const u32 x0 = i / 10u;
    const f32 t0 = mul_(g3_in0[x0], g3_in1[i]);
    const f32 t1 = add_(g3_in2[i], t0);
    g3_out0[i] = t1;
  }
}
EXPORT(kernel10)

extern "C" __global__ void __launch_bounds__(BLOCK, 2) kernel11(const f32* in0, const f32* in1, f32* __restrict__ out0, u32 n) {
  typedef tensor_tile<f32, 64, 32, EXACT> tile;
  static_assert(tensor_shared<tile, true, false>() == 23040, "");
  DYNAMIC_SHARED(u8, shared);
  wait_for_turn();
  for (u32 i = blockIdx.x; i < n; i += gridDim.x) {
    tensor_matmul<tile, 8, 4>(shared, i, matrix<f32, true, 10>{in0}, matrix<f32, false, 4>{in1}, 0, 10,
        [&](u32 row, u32 column, const f32 (&sums)[8]) {
          const u32 first = row * 4u + column;
          f32 r0[8];
          UNROLL for (u32 e = 0; e < 8; e++) {
            const u32 i = first + (column + e < 4u ? e : 0);
            const f32 y = convert<f32>(sums[e]);
            const f32 t0 = mul_(y, f32(0x1p-06));
            r0[e] = t0;
          }
          store8<4>(out0 + first, column, r0);
        });
  }
}
EXPORT(kernel11)

extern "C" __global__ void kernel12(const bool* in0, const f32* in1, f32* __restrict__ out0, u32 n) {
  wait_for_turn();
  for (u32 v = blockIdx.x * BLOCK + threadIdx.x; v < n; v += gridDim.x * BLOCK) {
    const u32 i = v * 4u;
    const u32 x0 = i / 256u;
    const u32 x3 = i % 4u;
    bool v0[4]; load_vector(v0, in0 + i);
    f32 v1[4]; load_vector(v1, in1 + (x0 * 4u + x3));
    f32 r0[4];
    UNROLL for (u32 e = 0; e < 4; e++) {
      const f32 t0 = select_(v0[e], f32(0x0p+00), v1[e]);
      r0[e] = t0;
    }
    store_vector(out0 + i, r0);
  }
}
EXPORT(kernel12)

extern "C" __global__ void __launch_bounds__(BLOCK, 2) kernel13(const f32* in0, const f32* in1, const f32* in2, const f32* in3, const f32* in4, f32* out0, u32 n) {
  typedef tensor_tile<f32, 256, 32, EXACT> tile;
  typedef convolution<8, 3, 8, 8, 4, 3, 3, 8, 8, 1, 1, 1, 1, 1, 1> shape;
  static_assert(tensor_shared<tile, true, false>() == 69120, "");
  DYNAMIC_SHARED(u8, shared);
  wait_for_turn();
  for (u32 i = blockIdx.x; i < n; i += gridDim.x) {
    conv_input_grad_few<tile, shape, 8>(shared, i, in0, in1,
        [&](u32 row, u32 column, const f32 (&sums)[8]) {
          const u32 first = row * 3u + column;
          const f32 v0 = in2[0];
          f32 v1[8]; load8<3>(v1, out0 + first, column);
          f32 v2[8]; load8<3>(v2, in3 + first, column);
          f32 v3[8]; load8<3>(v3, in4 + first, column);
          f32 r0[8];
          UNROLL for (u32 e = 0; e < 8; e++) {
            const u32 i = first + (column + e < 3u ? e : 0);
            const f32 y = convert<f32>(sums[e]);
            const f32 t0 = sign_(y);
            const f32 t1 = mul_(t0, v0);
            const f32 t2 = add_(v1[e], t1);
            const bool t3 = lt_(t2, v2[e]);
            const bool t4 = gt_(t2, v3[e]);
            const f32 t5 = select_(t4, v3[e], t2);
            const f32 t6 = select_(t3, v2[e], t5);
            const bool t7 = lt_(t6, f32(0x0p+00));
            const bool t8 = gt_(t6, f32(0x1p+00));
            const f32 t9 = select_(t8, f32(0x1p+00), t6);
            const f32 t10 = select_(t7, f32(0x0p+00), t9);
            r0[e] = t10;
          }
          store8<3>(out0 + first, column, r0);
        });
  }
}
EXPORT(kernel13)

extern "C" __global__ void kernel14(const f32* in0, f32* __restrict__ out, u32 n) {
  wait_for_turn();
  for (u32 i = blockIdx.x * BLOCK + threadIdx.x; i < n; i += gridDim.x * BLOCK) {
    const i32 x3 = (i32)(i / 1u % 8u);
    const i32 x2 = (i32)(i / 8u % 8u);
    const i32 x1 = (i32)(i / 64u % 3u);
    const i32 x0 = (i32)(i / 192u % 8u);
    out[i] = in0[0u + (x0) * 192u + (x2) * 24u + (x3) * 3u + (x1) * 1u];
  }
}
EXPORT(kernel14)
