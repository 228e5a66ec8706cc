#include "conv_sm90.h"

// Each kernel has one bug, in the line that says so. A block is a warpgroup that
// multiplies, and one of which a thread copies: two stages of 64 x 64 from x.

typedef wgmma_operand<64, 64, 128, true> operand;

struct ring {
  u8* stages;
  u64 *filled, *emptied;
  METHOD u8* stage(u32 k) const { return stages + k % 2 * 8192; }
};

DEVICE ring prepared(u8* shared) {
  const ring r{shared, (u64*)(shared + 16384), (u64*)(shared + 16384) + 2};
  if (threadIdx.x == 0) {
    for (u32 i = 0; i < 2; i++) mbarrier_init(r.filled + i, 1), mbarrier_init(r.emptied + i, 4);
    fence_proxy_async();
  }
  __syncthreads();
  return r;
}

// fill copies four stages, by thread 128.
DEVICE void fill(const ring& r, const tensor_map* x) {
  for (u32 k = 0; k < 4 && threadIdx.x == 128; k++) {
    mbarrier_wait(r.emptied + k % 2, k / 2 % 2 ^ 1);
    mbarrier_arrive_expecting(r.filled + k % 2, 8192);
    copy_tile(r.stage(k), x, r.filled + k % 2, 0, 64 * (i32)k, 0);
  }
}
DEVICE void release(const ring& r, u32 k) {
  if (threadIdx.x % 32 == 0) mbarrier_arrive(r.emptied + k % 2);
}
template <int Q> DEVICE void store(f32* out, const f32 (&sums)[1][Q]) {
  for (u32 q = 0; q < Q; q++) out[threadIdx.x * Q + q] = sums[0][q];
}

extern "C" __global__ void read_without_wait(const __grid_constant__ tensor_maps<1> x, f32* out) {
  DYNAMIC_SHARED(u8, shared);
  const ring r = prepared(shared);
  if (threadIdx.x == 128) {
    mbarrier_arrive_expecting(r.filled, 8192);
    copy_tile(shared, x.of, r.filled, 0, 0, 0);
  }
  __syncthreads();
  out[threadIdx.x] = ((const f32*)shared)[threadIdx.x];  // bug: read_without_wait
  mbarrier_wait(r.filled, 0);
}
EXPORT(read_without_wait)

extern "C" __global__ void product_without_wait(const __grid_constant__ tensor_maps<1> x, f32* out) {
  DYNAMIC_SHARED(u8, shared);
  const ring r = prepared(shared);
  if (threadIdx.x >= 128) {
    fill(r, x.of);
    return;
  }
  f32 sums[1][32] = {};
  for (u32 k = 0; k < 4; k++) {
    if (k > 0) mbarrier_wait(r.filled + k % 2, k / 2);
    wgmma_fence(sums);
    wgmma_bf16<true, true, 64>(sums[0], operand::matrix(r.stage(k), 0, 0), operand::matrix(r.stage(k), 0, 0), 32, 32);  // bug: product_without_wait
    wgmma_commit();
    wgmma_wait_for(sums);
    release(r, k);
  }
  store(out, sums);
}
EXPORT(product_without_wait)

extern "C" __global__ void release_too_early(const __grid_constant__ tensor_maps<1> x, f32* out) {
  DYNAMIC_SHARED(u8, shared);
  const ring r = prepared(shared);
  if (threadIdx.x >= 128) {
    fill(r, x.of);
    return;
  }
  f32 sums[1][32] = {};
  for (u32 k = 0; k < 4; k++) {
    mbarrier_wait(r.filled + k % 2, k / 2);
    wgmma_fence(sums);
    wgmma_bf16<true, true, 64>(sums[0], operand::matrix(r.stage(k), 0, 0), operand::matrix(r.stage(k), 0, 0), 32, 32);  // bug: release_too_early
    wgmma_commit();
    release(r, k);
  }
  wgmma_wait_for(sums);
  store(out, sums);
}
EXPORT(release_too_early)

extern "C" __global__ void sums_not_waited_for(const __grid_constant__ tensor_maps<1> x, f32* out) {
  DYNAMIC_SHARED(u8, shared);
  const ring r = prepared(shared);
  if (threadIdx.x >= 128) {
    fill(r, x.of);
    return;
  }
  f32 sums[1][32] = {};
  for (u32 k = 0; k < 4; k++) {
    mbarrier_wait(r.filled + k % 2, k / 2);
    wgmma_fence(sums);
    wgmma_bf16<true, true, 64>(sums[0], operand::matrix(r.stage(k), 0, 0), operand::matrix(r.stage(k), 0, 0), 32, 32);  // bug: sums_not_waited_for
    wgmma_commit();
    wgmma_wait<1>();
    if (k > 0) release(r, k - 1);
  }
  store(out, sums);
}
EXPORT(sums_not_waited_for)

extern "C" __global__ void registers_not_fenced(const __grid_constant__ tensor_maps<1> x, f32* out) {
  DYNAMIC_SHARED(u8, shared);
  const ring r = prepared(shared);
  if (threadIdx.x >= 128) {
    fill(r, x.of);
    return;
  }
  f32 sums[1][32] = {};
  mbarrier_wait(r.filled, 0);
  wgmma_bf16<true, true, 64>(sums[0], operand::matrix(shared, 0, 0), operand::matrix(shared, 0, 0), 32, 32);  // bug: registers_not_fenced
  wgmma_commit();
  wgmma_wait_for(sums);
  store(out, sums);
}
EXPORT(registers_not_fenced)

extern "C" __global__ void operand_not_fenced(const __grid_constant__ tensor_maps<1> x, f32* out) {
  DYNAMIC_SHARED(u8, shared);
  for (u32 i = threadIdx.x; i < 2048; i += 256) ((u32*)shared)[i] = 0;
  __syncthreads();
  if (threadIdx.x >= 128) return;
  f32 sums[1][32] = {};
  wgmma_fence(sums);
  wgmma_bf16<true, true, 64>(sums[0], operand::matrix(shared, 0, 0), operand::matrix(shared, 0, 0), 32, 32);  // bug: operand_not_fenced
  wgmma_commit();
  wgmma_wait_for(sums);
  store(out, sums);
}
EXPORT(operand_not_fenced)

extern "C" __global__ void mbarrier_not_fenced(const __grid_constant__ tensor_maps<1> x, f32* out) {
  DYNAMIC_SHARED(u8, shared);
  u64* const done = (u64*)(shared + 16384);
  if (threadIdx.x == 0) {
    mbarrier_init(done, 1);
    mbarrier_arrive_expecting(done, 8192);
    copy_tile(shared, x.of, done, 0, 0, 0);  // bug: mbarrier_not_fenced
  }
  __syncthreads();
  mbarrier_wait(done, 0);
}
EXPORT(mbarrier_not_fenced)

extern "C" __global__ void mbarrier_not_seen(const __grid_constant__ tensor_maps<1> x, f32* out) {
  DYNAMIC_SHARED(u8, shared);
  u64* const done = (u64*)(shared + 16384);
  if (threadIdx.x == 0) {
    mbarrier_init(done, 1);
    fence_proxy_async();
    mbarrier_arrive_expecting(done, 8192);
    copy_tile(shared, x.of, done, 0, 0, 0);
  }
  mbarrier_wait(done, 0);  // bug: mbarrier_not_seen
}
EXPORT(mbarrier_not_seen)

extern "C" __global__ void too_few_bytes(const __grid_constant__ tensor_maps<1> x, f32* out) {
  DYNAMIC_SHARED(u8, shared);
  const ring r = prepared(shared);
  if (threadIdx.x == 0) {
    mbarrier_arrive_expecting(r.filled, 2 * 8192);
    copy_tile(shared, x.of, r.filled, 0, 0, 0);
  }
  mbarrier_wait(r.filled, 0);  // bug: too_few_bytes
}
EXPORT(too_few_bytes)

extern "C" __global__ void too_many_arrivals(const __grid_constant__ tensor_maps<1> x, f32* out) {
  DYNAMIC_SHARED(u8, shared);
  const ring r = prepared(shared);
  if (threadIdx.x == 0) mbarrier_arrive_expecting(r.filled, 8192);
  __syncthreads();
  if (threadIdx.x == 0) mbarrier_arrive(r.filled);  // bug: too_many_arrivals
}
EXPORT(too_many_arrivals)

extern "C" __global__ void copy_not_swizzled(const __grid_constant__ tensor_maps<1> x, f32* out) {
  DYNAMIC_SHARED(u8, shared);
  const ring r = prepared(shared);
  if (threadIdx.x == 0) {
    mbarrier_arrive_expecting(r.filled, 8192);
    copy_tile(shared + 128, x.of, r.filled, 0, 0, 0);  // bug: copy_not_swizzled
  }
  mbarrier_wait(r.filled, 0);
}
EXPORT(copy_not_swizzled)

extern "C" __global__ void warpgroup_divergence(const __grid_constant__ tensor_maps<1> x, f32* out) {
  if (threadIdx.x < 32) wgmma_wait<0>();
  else wgmma_wait<0>();  // bug: warpgroup_divergence
}
EXPORT(warpgroup_divergence)

// Those of a pair of blocks: each copies to both.

extern "C" __global__ void __cluster_dims__(2, 1, 1) partner_not_ready(const __grid_constant__ tensor_maps<1> x, f32* out) {
  DYNAMIC_SHARED(u8, shared);
  const ring r = prepared(shared);
  if (threadIdx.x == 128) {
    mbarrier_arrive_expecting(r.filled, 2 * 8192);
    copy_tile<3>(r.stage(blockIdx.x % 2), x.of, r.filled, 0, 0, 0);  // bug: partner_not_ready
  }
  mbarrier_wait(r.filled, 0);
  cluster_sync();
}
EXPORT_CLUSTER(partner_not_ready, 2)

extern "C" __global__ void __cluster_dims__(2, 1, 1) partner_not_asked(const __grid_constant__ tensor_maps<1> x, f32* out) {
  DYNAMIC_SHARED(u8, shared);
  const ring r = prepared(shared);
  cluster_sync();
  for (u32 k = 0; k < 2; k++) {
    if (threadIdx.x == 128) mbarrier_arrive_expecting(r.filled, 8192);
    if (threadIdx.x == 128 && blockIdx.x % 2 == k) copy_tile<3>(shared, x.of, r.filled, 0, 0, 0);  // bug: partner_not_asked
    mbarrier_wait(r.filled, k);
    out[(blockIdx.x * 2 + k) * 256 + threadIdx.x] = ((const f32*)shared)[threadIdx.x];
    __syncthreads();
  }
  cluster_sync();
}
EXPORT_CLUSTER(partner_not_asked, 2)

extern "C" __global__ void __cluster_dims__(2, 1, 1) partner_gone(const __grid_constant__ tensor_maps<1> x, f32* out) {
  DYNAMIC_SHARED(u8, shared);
  const ring r = prepared(shared);
  cluster_sync();
  if (blockIdx.x == 1 && threadIdx.x == 255) {
    mbarrier_wait(r.emptied, 1);
    mbarrier_arrive_at(r.emptied, 0);  // bug: partner_gone
  }
}
EXPORT_CLUSTER(partner_gone, 2)

// Those that are launched early, behind turns. The first of them has none.

extern "C" __global__ void turns(const __grid_constant__ tensor_maps<1> x, f32* out) {
  DYNAMIC_SHARED(u8, shared);
  const ring r = prepared(shared);
  wait_for_turn();
  if (threadIdx.x == 128) {
    mbarrier_arrive_expecting(r.filled, 8192);
    copy_tile(shared, x.of, r.filled, 0, 0, 0);
  }
  mbarrier_wait(r.filled, 0);
  out[threadIdx.x] = ((const f32*)shared)[threadIdx.x] + (blockIdx.x ? 0 : 1);
}
EXPORT(turns)

extern "C" __global__ void reads_before_its_turn(const __grid_constant__ tensor_maps<1> x, f32* out) {
  const f32 v = out[threadIdx.x];  // bug: reads_before_its_turn
  wait_for_turn();
  out[threadIdx.x] = v + 1;
}
EXPORT(reads_before_its_turn)

extern "C" __global__ void writes_before_its_turn(const __grid_constant__ tensor_maps<1> x, f32* out) {
  out[threadIdx.x] = 1;  // bug: writes_before_its_turn
  wait_for_turn();
}
EXPORT(writes_before_its_turn)

extern "C" __global__ void copies_before_its_turn(const __grid_constant__ tensor_maps<1> x, f32* out) {
  DYNAMIC_SHARED(u8, shared);
  const ring r = prepared(shared);
  if (threadIdx.x == 128) {
    mbarrier_arrive_expecting(r.filled, 8192);
    copy_tile(shared, x.of, r.filled, 0, 0, 0);  // bug: copies_before_its_turn
  }
  wait_for_turn();
  mbarrier_wait(r.filled, 0);
  out[threadIdx.x] = ((const f32*)shared)[threadIdx.x];
}
EXPORT(copies_before_its_turn)

extern "C" __global__ void copies_chunks_before_its_turn(const __grid_constant__ tensor_maps<1> x, f32* out) {
  DYNAMIC_SHARED(u8, shared);
  copy_async16(shared + threadIdx.x * 16, out + threadIdx.x * 4, true);  // bug: copies_chunks_before_its_turn
  copy_async_commit();
  copy_async_wait<0>();
  wait_for_turn();
}
EXPORT(copies_chunks_before_its_turn)

extern "C" __global__ void never_waits_for_its_turn(const __grid_constant__ tensor_maps<1> x, f32* out) {
  if (threadIdx.x >= 64) wait_for_turn();
}
EXPORT(never_waits_for_its_turn)
