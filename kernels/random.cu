#include "device.h"

// Words of a draw for each of some samples, (samples, each): the words of
// sample id depend on (seed, site; id, step, iteration) and the element alone.
// A thread computes a block of four; n is the number of such blocks.
extern "C" __global__ void random_words(const u32* seed, const u32* ids, const u32* step,
                                        const u32* iteration, u32* __restrict__ out, u32 site, u32 each, u32 n) {
  wait_for_turn();
  const u32 blocks = (each + 3) / 4;  // of a sample
  for (u32 i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) {
    const u32 sample = i / blocks, block = i % blocks;
    const words4 r = philox(seed[0], site, ids[sample], step[0], iteration[0], block);
    UNROLL for (u32 k = 0; k < 4; k++) {
      const u32 element = 4 * block + k;
      if (element < each) out[sample * each + element] = r.w[k];
    }
  }
}
EXPORT(random_words)
