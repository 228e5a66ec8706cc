// What an emulated module and the emulator's library share.
#pragma once

struct uint3 { unsigned x, y, z; };
struct dim3 { unsigned x, y, z; };

struct emulated_kernel {
  const char* name;
  int params;
  const unsigned short* sizes;  // of the parameters, in bytes
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
  // Checks of memory accesses, called from pc.
  void (*access)(const void* p, int bytes, int is_write, const void* pc);
  void (*access_range)(const void* p, unsigned long bytes, int is_write, const void* pc);
};
