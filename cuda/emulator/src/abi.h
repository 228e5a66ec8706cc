// What an emulated module and the emulator's library share.
#pragma once

struct uint3 { unsigned x, y, z; };
struct dim3 { unsigned x, y, z; };

struct emulated_kernel {
  const char* name;
  int params;
  const unsigned short* sizes;  // of the parameters, in bytes
  unsigned cluster;             // blocks of one
  void (*call)(void** params);
};

struct emulated_thread { uint3 index; };
struct emulated_block {
  uint3 index;
  dim3 threads, grid;
  unsigned char* dynamic_shared;
};

enum { SHUFFLE_INDEX, SHUFFLE_XOR, SHUFFLE_DOWN, SHUFFLE_UP };
enum { MMA_BF16, MMA_TF32 };
enum { MMA_COLUMNS = 32 };  // the most fragments

// What the emulator keeps in a CUtensorMap: a tensor of bf16 or f32, its axes
// counted from the fastest one.
struct emulated_tensor_map {
  unsigned magic;
  short axes, element_bytes;
  const unsigned char* base;
  unsigned extent[4];
  unsigned long long stride[3];  // in bytes, of the axes behind the first
  unsigned box[4];               // of a tile; of pixels: channels, pixels
  short swizzle;                 // bytes: 0, 32, 64, 128
  short pixels;                  // not a tile
  short lower[2], upper[2];      // corners, across and down
  unsigned char step[4];
};
enum { TENSOR_MAP_MAGIC = 0x74656d70 };

struct tensor_copy_call {
  void* to;
  const void* map;
  void* barrier;
  int at[4];
  unsigned right, down;
  bool pixels;
  unsigned blocks;  // of the cluster that get it, a bit for each; 0: this one
};

struct wgmma_call {
  float* d;  // n / 2
  int n, k;
  unsigned long long a, b;
  unsigned a_step, b_step;
  bool a_along_k, b_along_k;
};

struct emulator_calls {
  emulated_thread** thread;  // the one that runs
  emulated_block* block;
  void (*barrier)(const char* file, int line);
  void (*sync_warp)(unsigned mask, const char* file, int line);
  void (*shuffle)(unsigned mask, int kind, unsigned long long* v, int arg, const char* file, int line);
  unsigned (*vote)(unsigned mask, int p, const char* file, int line);
  void (*copy_async)(void* to, const void* from, bool wanted, const char* file, int line);
  void (*copy_commit)();
  void (*copy_wait)(int groups);
  void (*load_matrices)(unsigned* r, const void* row, int transposed, const char* file, int line);
  // mma multiplies rows by columns fragments.
  void (*mma)(int kind, int rows, int columns, float* d, const unsigned* a, const unsigned* b, const char* file, int line);
  void (*wait_for_turn)();
  void (*group_sync)(unsigned barrier, unsigned threads, const char* file, int line);
  void (*mbarrier_init)(void* b, unsigned arrivals, const char* file, int line);
  void (*mbarrier_arrive)(void* b, unsigned bytes, const char* file, int line);
  void (*mbarrier_arrive_at)(void* b, unsigned rank, const char* file, int line);
  void (*cluster_sync)(const char* file, int line);
  void (*mbarrier_wait)(void* b, unsigned parity, const char* file, int line);
  void (*fence_async)();
  void (*tensor_copy)(const tensor_copy_call* call, const char* file, int line);
  void (*wgmma_fence)();
  void (*wgmma)(const wgmma_call* call, const char* file, int line);
  void (*wgmma_commit)();
  void (*wgmma_wait)(int groups, const char* file, int line);
  // Checks of memory accesses, called from pc.
  void (*access)(const void* p, int bytes, int is_write, const void* pc);
  void (*access_range)(const void* p, unsigned long bytes, int is_write, const void* pc);
};
