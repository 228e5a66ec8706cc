/*
plan "pgd": arena 33152 bytes
  b2 = scatter-add const0 input:y
  fused over [8,3,8,8]
    t0 = sub input:x, scalar:eps by [0 0 0 0] -> b5
    t1 = add input:x, scalar:eps by [0 0 0 0] -> b6
  b7 = copy input:x
  loop 10 times
    b10 = conv2d b7 state:conv.weight
    fused over [8,4,8,8] reducing [2 3]
      t0 = add b10, state:conv.bias by [0 1 0 0]
      t1 = relu t0  # relu
      t2 = reduce-sum t1 -> b12
      t3 = le t1, 0 -> b13
    fused over [8,4,1,1]
      t0 = mul b12, 0.015625 -> b14
    b16 = matmul b14 state:fc.weight
    fused over [8,10] reducing [1]
      t0 = reduce-max b16 -> b17
    fused over [8,10] reducing [1]
      t0 = sub b16, b17 by [1 0]
      t1 = exp t0 -> b18
      t2 = reduce-sum t1 -> b19
    fused over [8]
      t0 = div 1, b19 -> b20
    fused over [8,10]
      t0 = mul b20 by [1 0], b18
      t1 = add b2, t0 -> b21
    b22 = matmul b21 state:fc.weight
    fused over [8,4,1,1]
      t0 = mul b22, 0.015625 -> b23
    fused over [8,4,8,8]
      t0 = select b13, 0, b23 by [4 1 0 0] -> b24
    b25 = conv2d-input-grad b24 state:conv.weight
    fused over [8,3,8,8]
      t0 = sign b25
      t1 = mul t0, scalar:alpha by [0 0 0 0]
      t2 = add b7, t1
      t3 = lt t2, b5
      t4 = gt t2, b6
      t5 = select t4, b6, t2
      t6 = select t3, b5, t5
      t7 = lt t6, 0
      t8 = gt t6, 1
      t9 = select t8, 1, t6
      t10 = select t7, 0, t9 -> b7  # x_adv
*/

extern "C" __global__ void op0(const f32* __restrict__ in0, const i32* __restrict__ in1, f32* __restrict__ out, u32 n) {
  for (u32 i = blockIdx.x * BLOCK + threadIdx.x; i < n; i += gridDim.x * BLOCK) {
    const i32 x1 = (i32)(i / 1u % 10u);
    const i32 x0 = (i32)(i / 10u % 8u);
    f32 s = sum_start<f32>();
    for (i32 k = 0; k < 1; k++) {
      const u32 p = 0u + (x0) * 1u;
      if (clamp_index(in1[p], 9) == x1) s = add_(s, in0[p]);
    }
    out[i] = s;
  }
}
EXPORT(op0)

extern "C" __global__ void group1(const f32* __restrict__ in0, const f32* __restrict__ in1, f32* __restrict__ out0, f32* __restrict__ out1, u32 n) {
  for (u32 i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) {
    const f32 t0 = sub_(in0[i], in1[0]);
    out0[i] = t0;
    const f32 t1 = add_(in0[i], in1[0]);
    out1[i] = t1;
  }
}
EXPORT(group1)

extern "C" __global__ void op2(const f32* __restrict__ in0, const f32* __restrict__ in1, f32* __restrict__ out, u32 n) {
  __shared__ contract_tiles<f32> tiles;
  for (u32 i = blockIdx.x; i < n; i += gridDim.x) {
    const i32 x2 = (i32)(i / 1u % 8u);
    const i32 x1 = (i32)(i / 8u % 1u);
    const i32 x0 = (i32)(i / 8u % 1u);
    contract<f32>(tiles, x1, x2, 4u, 512u, 27u,
      [&](u32 i, u32 k) -> f32 { const u32 s = k / 1u % 3u; const u32 r = k / 3u % 3u; const u32 c = k / 9u; return in1[((i * 3u + c) * 3u + r) * 3u + s]; },
      [&](u32 k, u32 j) -> f32 { const u32 s = k / 1u % 3u; const u32 r = k / 3u % 3u; const u32 c = k / 9u; const u32 q = j / 1u % 8u; const u32 p = j / 8u % 8u; const u32 image = j / 64u; const i32 h = (i32)p * 1 - 1 + (i32)r * 1, w = (i32)q * 1 - 1 + (i32)s * 1; return h >= 0 && h < 8 && w >= 0 && w < 8 ? in0[((image * 3u + c) * 8u + (u32)h) * 8u + (u32)w] : f32{}; },
      [&](u32 i, u32 j, f32 v) { const u32 q = j / 1u % 8u; const u32 p = j / 8u % 8u; const u32 image = j / 64u; out[((image * 4u + i) * 8u + p) * 8u + q] = convert<f32>(v); });
  }
}
EXPORT(op2)

extern "C" __global__ void group3(const f32* __restrict__ in0, const f32* __restrict__ in1, f32* __restrict__ out0, bool* __restrict__ out1, u32 n) {
  __shared__ f32 tree2[BLOCK / 32];
  for (u32 o = blockIdx.x; o < n / 64u; o += gridDim.x) {
    const u32 x0 = o / 4u;
    const u32 x1 = o % 4u;
    f32 s2 = sum_start<f32>();
    for (u32 r = threadIdx.x; r < 64u; r += BLOCK) {
      const u32 x2 = r / 8u;
      const u32 x3 = r % 8u;
      const f32 t0 = add_(in0[x0 * 256u + x1 * 64u + x2 * 8u + x3], in1[x1]);
      const f32 t1 = relu_(t0); // relu
      s2 = add_(s2, t1);
      const bool t3 = le_(t1, f32(0x0p+00));
      out1[x0 * 256u + x1 * 64u + x2 * 8u + x3] = t3;
    }
    s2 = block_sum(s2, tree2);
    if (threadIdx.x == 0) out0[o] = s2;
  }
}
EXPORT(group3)

extern "C" __global__ void group4(const f32* __restrict__ in0, f32* __restrict__ out0, u32 n) {
  for (u32 i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) {
    const u32 x0 = i / 4u;
    const u32 x1 = i % 4u;
    const f32 t0 = mul_(in0[x0 * 4u + x1], f32(0x1p-06));
    out0[i] = t0;
  }
}
EXPORT(group4)

extern "C" __global__ void __launch_bounds__(BLOCK, 2) op5(const f32* __restrict__ in0, const f32* __restrict__ in1, f32* __restrict__ out, u32 n) {
  typedef tensor_tile<f32, 64, 32, EXACT> tile;
  static_assert(tensor_shared<tile, true, true>() == 23040, "");
  DYNAMIC_SHARED(u8, shared);
  for (u32 i = blockIdx.x; i < n; i += gridDim.x)
    tensor_matmul<tile, 8, 10>(shared, i, matrix<f32, true, 4>{in0}, matrix<f32, true, 4>{in1}, 0, 4, 
        [&](u32 row, u32 column, const f32 (&v)[8]) { store8<10>(out + row * 10u + column, column, v); });
}
EXPORT(op5)

extern "C" __global__ void group6(const f32* __restrict__ in0, f32* __restrict__ out0, u32 n) {
  for (u32 o = blockIdx.x * BLOCK + threadIdx.x; o < n / 10u; o += gridDim.x * BLOCK) {
    const u32 x0 = o;
    f32 s0 = max_start<f32>();
    for (u32 r = 0; r < 10u; r += 1) {
      const u32 x1 = r;
      s0 = max_(s0, in0[x0 * 10u + x1]);
    }
    out0[o] = s0;
  }
}
EXPORT(group6)

extern "C" __global__ void group7(const f32* __restrict__ in0, const f32* __restrict__ in1, f32* __restrict__ out0, f32* __restrict__ out1, u32 n) {
  for (u32 o = blockIdx.x * BLOCK + threadIdx.x; o < n / 10u; o += gridDim.x * BLOCK) {
    const u32 x0 = o;
    f32 s2 = sum_start<f32>();
    for (u32 r = 0; r < 10u; r += 1) {
      const u32 x1 = r;
      const f32 t0 = sub_(in0[x0 * 10u + x1], in1[x0]);
      const f32 t1 = exp_(t0);
      out0[x0 * 10u + x1] = t1;
      s2 = add_(s2, t1);
    }
    out1[o] = s2;
  }
}
EXPORT(group7)

extern "C" __global__ void group8(const f32* __restrict__ in0, f32* __restrict__ out0, u32 n) {
  for (u32 i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) {
    const f32 t0 = div_(f32(0x1p+00), in0[i]);
    out0[i] = t0;
  }
}
EXPORT(group8)

extern "C" __global__ void group9(const f32* __restrict__ in0, const f32* __restrict__ in1, const f32* __restrict__ in2, f32* __restrict__ out0, u32 n) {
  for (u32 i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) {
    const u32 x0 = i / 10u;
    const f32 t0 = mul_(in0[x0], in1[i]);
    const f32 t1 = add_(in2[i], t0);
    out0[i] = t1;
  }
}
EXPORT(group9)

extern "C" __global__ void __launch_bounds__(BLOCK, 2) op10(const f32* __restrict__ in0, const f32* __restrict__ in1, f32* __restrict__ out, u32 n) {
  typedef tensor_tile<f32, 64, 32, EXACT> tile;
  static_assert(tensor_shared<tile, true, false>() == 23040, "");
  DYNAMIC_SHARED(u8, shared);
  for (u32 i = blockIdx.x; i < n; i += gridDim.x)
    tensor_matmul<tile, 8, 4>(shared, i, matrix<f32, true, 10>{in0}, matrix<f32, false, 4>{in1}, 0, 10, 
        [&](u32 row, u32 column, const f32 (&v)[8]) { store8<4>(out + row * 4u + column, column, v); });
}
EXPORT(op10)

extern "C" __global__ void group11(const f32* __restrict__ in0, f32* __restrict__ out0, u32 n) {
  for (u32 i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) {
    const u32 x0 = i / 4u;
    const u32 x1 = i % 4u;
    const f32 t0 = mul_(in0[x0 * 4u + x1], f32(0x1p-06));
    out0[i] = t0;
  }
}
EXPORT(group11)

extern "C" __global__ void group12(const bool* __restrict__ in0, const f32* __restrict__ in1, f32* __restrict__ out0, u32 n) {
  for (u32 i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) {
    const u32 x0 = i / 256u;
    const u32 x1 = i / 64u % 4u;
    const f32 t0 = select_(in0[i], f32(0x0p+00), in1[x0 * 4u + x1]);
    out0[i] = t0;
  }
}
EXPORT(group12)

extern "C" __global__ void op13(const f32* __restrict__ in0, const f32* __restrict__ in1, f32* __restrict__ out, u32 n) {
  __shared__ contract_tiles<f32> tiles;
  for (u32 i = blockIdx.x; i < n; i += gridDim.x) {
    const i32 x2 = (i32)(i / 1u % 8u);
    const i32 x1 = (i32)(i / 8u % 1u);
    const i32 x0 = (i32)(i / 8u % 1u);
    contract<f32>(tiles, x1, x2, 3u, 512u, 36u,
      [&](u32 i, u32 k) -> f32 { const u32 s = k / 1u % 3u; const u32 r = k / 3u % 3u; const u32 o = k / 9u; return in1[((o * 3u + i) * 3u + r) * 3u + s]; },
      [&](u32 k, u32 j) -> f32 { const u32 s = k / 1u % 3u; const u32 r = k / 3u % 3u; const u32 o = k / 9u; const u32 w = j / 1u % 8u; const u32 h = j / 8u % 8u; const u32 image = j / 64u; const i32 u = (i32)h + 1 - (i32)r * 1, v = (i32)w + 1 - (i32)s * 1; return u >= 0 && u % 1 == 0 && u < 8 && v >= 0 && v % 1 == 0 && v < 8 ? in0[((image * 4u + o) * 8u + (u32)u / 1u) * 8u + (u32)v / 1u] : f32{}; },
      [&](u32 i, u32 j, f32 v) { const u32 w = j / 1u % 8u; const u32 h = j / 8u % 8u; const u32 image = j / 64u; out[((image * 3u + i) * 8u + h) * 8u + w] = convert<f32>(v); });
  }
}
EXPORT(op13)

extern "C" __global__ void group14(const f32* __restrict__ in0, const f32* __restrict__ in1, const f32* __restrict__ in2, const f32* __restrict__ in3, f32* out0, u32 n) {
  for (u32 i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) {
    const f32 t0 = sign_(in0[i]);
    const f32 t1 = mul_(t0, in1[0]);
    const f32 t2 = add_(out0[i], t1);
    const bool t3 = lt_(t2, in2[i]);
    const bool t4 = gt_(t2, in3[i]);
    const f32 t5 = select_(t4, in3[i], t2);
    const f32 t6 = select_(t3, in2[i], t5);
    const bool t7 = lt_(t6, f32(0x0p+00));
    const bool t8 = gt_(t6, f32(0x1p+00));
    const f32 t9 = select_(t8, f32(0x1p+00), t6);
    const f32 t10 = select_(t7, f32(0x0p+00), t9); // x_adv
    out0[i] = t10;
  }
}
EXPORT(group14)
