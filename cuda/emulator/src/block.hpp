// A cluster of blocks of threads, usually of one: one fiber a thread, on one thread
// of the host, switched where threads meet. Clusters run one after the other.
#pragma once
#include <dlfcn.h>
#include <link.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <string>

#include "abi.h"
#include "memory.hpp"

// ---- options, set from outside

static bool opt_checked;
static int opt_copies;     // when asynchronous copies land: 0 as late as possible, 1 at once, 2 either
static unsigned opt_seed;  // not 0: threads, blocks and graph nodes run in a random order

static unsigned random_state;
static unsigned random_below(unsigned n) {
  random_state = random_state * 1664525u + 1013904223u;
  return (unsigned)((uint64_t)(random_state) * n >> 32);
}

// ---- loaded modules

struct Module {
  void* dl;
  int fd;  // of its image
  uintptr_t from, to;  // where it lies
  char *shared_from, *shared_to;  // its kernels' static shared memory
  bool checked;
  std::map<std::string, struct Function*> functions;
};

// image_of finds where the library that has an address lies.
static void image_of(const void* address, uintptr_t* from, uintptr_t* to) {
  struct Search { uintptr_t address, *from, *to; } search{(uintptr_t)address, from, to};
  dl_iterate_phdr([](dl_phdr_info* info, size_t, void* data) {
    Search* s = (Search*)data;
    uintptr_t lo = ~(uintptr_t)0, hi = 0;
    for (int i = 0; i < info->dlpi_phnum; i++) {
      const ElfW(Phdr)& h = info->dlpi_phdr[i];
      if (h.p_type != PT_LOAD) continue;
      lo = std::min(lo, (uintptr_t)(info->dlpi_addr + h.p_vaddr));
      hi = std::max(hi, (uintptr_t)(info->dlpi_addr + h.p_vaddr + h.p_memsz));
    }
    if (s->address < lo || s->address >= hi) return 0;
    *s->from = lo, *s->to = hi;
    return 1;
  }, &search);
}

// ---- fibers

enum State { NEW, READY, RUNNING, AT_BARRIER, AT_CLUSTER, IN_WARP, AT_GROUP, AT_MBARRIER, IN_WARPGROUP, DONE };

struct Copy {
  unsigned char* to;
  const unsigned char* from;
  bool wanted;
  uint32_t site;
};

struct Fiber : emulated_thread {
  void* sp;
  unsigned char* stack;
  State state;
  int id, warp, lane;  // in the cluster
  struct Block* of;
  const char *what, *file;  // where it waits, and for what
  int line;
  unsigned mask;
  void* slot;  // its operands of a warp's operation, or the barrier that it waits at
  bool fenced;  // its registers are for products
  bool waited;  // for its turn
  std::vector<Copy> copies;
  std::vector<size_t> groups;  // ends of the committed ones in copies
};

// Meeting is a warp's operation for which lanes are waiting.
struct Meeting {
  unsigned mask, arrived;
  const char *what, *file;
  int line;
};

static const int MAX_THREADS = 1024, MAX_WARPS = 32, MAX_CLUSTER = 8, QUEUE = 2048, STACK = 64 << 10, PAGE = 4096;
static const size_t SHARED_CAPACITY = 227 << 10;

static Fiber fibers[MAX_THREADS];
static emulated_thread* current_thread;
static emulated_block block;  // of the thread that runs
static struct Block {
  uint3 index;
  unsigned char* shared;  // dynamic
  int first, finished, at_barrier;  // threads
  bool barrier_differs;
  const char* barrier_file;
  int barrier_line;
  struct { unsigned threads, arrived; } named[16];  // barriers
} blocks[MAX_CLUSTER];
static unsigned cluster;  // blocks
static Module* module;
static unsigned char* stacks;  // MAX_THREADS of STACK bytes
static std::vector<unsigned char*> free_stacks;
static Fiber* ready[QUEUE];
static unsigned head, tail;
static int block_threads, thread_count, started, finished, at_cluster;
static Meeting meetings[MAX_WARPS][4];
static void* main_sp;
static const int MAX_PARAMS = 512;  // more than 4 KiB hold
alignas(64) static unsigned char params_copy[MAX_PARAMS * 16];  // of the launch
static void* params[MAX_PARAMS];
static void (*entry)(void** params);
static size_t shared_size;  // dynamic
static bool launched_early;  // the kernel before may still run
static std::string report;  // of the first failure
static bool block_failed;

static Fiber* self() { return (Fiber*)current_thread; }

extern "C" void emulator_switch(void** save, void* to);
#if defined(__x86_64__)
__asm__(
    ".text\n.globl emulator_switch\n.hidden emulator_switch\n.type emulator_switch,@function\nemulator_switch:\n"
    "pushq %rbp\npushq %rbx\npushq %r12\npushq %r13\npushq %r14\npushq %r15\n"
    "movq %rsp,(%rdi)\nmovq %rsi,%rsp\n"
    "popq %r15\npopq %r14\npopq %r13\npopq %r12\npopq %rbx\npopq %rbp\nret\n"
    ".size emulator_switch,.-emulator_switch\n");
static void* first_frame(unsigned char* top, void (*start)()) {
  void** s = (void**)top;
  *--s = nullptr;  // start returns to nowhere
  *--s = (void*)start;
  for (int i = 0; i < 6; i++) *--s = nullptr;
  return s;
}
#elif defined(__aarch64__)
__asm__(
    ".text\n.globl emulator_switch\n.hidden emulator_switch\n.type emulator_switch,%function\nemulator_switch:\n"
    "sub sp,sp,#160\nstp x19,x20,[sp]\nstp x21,x22,[sp,#16]\nstp x23,x24,[sp,#32]\nstp x25,x26,[sp,#48]\n"
    "stp x27,x28,[sp,#64]\nstp x29,x30,[sp,#80]\nstp d8,d9,[sp,#96]\nstp d10,d11,[sp,#112]\nstp d12,d13,[sp,#128]\n"
    "stp d14,d15,[sp,#144]\nmov x9,sp\nstr x9,[x0]\nmov sp,x1\n"
    "ldp x19,x20,[sp]\nldp x21,x22,[sp,#16]\nldp x23,x24,[sp,#32]\nldp x25,x26,[sp,#48]\nldp x27,x28,[sp,#64]\n"
    "ldp x29,x30,[sp,#80]\nldp d8,d9,[sp,#96]\nldp d10,d11,[sp,#112]\nldp d12,d13,[sp,#128]\nldp d14,d15,[sp,#144]\n"
    "add sp,sp,#160\nret\n");
static void* first_frame(unsigned char* top, void (*start)()) {
  void** s = (void**)top - 20;
  s[11] = (void*)start;
  return s;
}
#else
#error the emulator switches stacks on x86-64 and arm64 only
#endif

// fail reports, gives the block up, and does not return to the kernel.
__attribute__((format(printf, 1, 2))) static void fail(const char* format, ...) {
  char text[4096];
  va_list args;
  va_start(args, format);
  vsnprintf(text, sizeof text, format, args);
  va_end(args);
  if (report.empty()) report = text;
  block_failed = true;
  emulator_switch(&self()->sp, main_sp);
}

static std::string here() {
  char text[200];
  snprintf(text, sizeof text, "thread %d of block (%u,%u,%u)", self()->id - self()->of->first, block.index.x, block.index.y, block.index.z);
  return text;
}

static void push(Fiber* f) {
  f->state = READY;
  ready[tail++ % QUEUE] = f;
}
static void push_front(Fiber* f) {
  f->state = READY;
  ready[--head % QUEUE] = f;
}

static void become(Fiber* f) {
  current_thread = f;
  f->state = RUNNING;
  block.index = f->of->index, block.dynamic_shared = f->of->shared;
}

static void resume(Fiber* from, Fiber* to) {
  become(to);
  emulator_switch(from ? &from->sp : &main_sp, to->sp);
}

static void fiber_main();

static Fiber* start_next() {
  Fiber* f = &fibers[started++];
  f->stack = free_stacks.back();
  free_stacks.pop_back();
  // Tops at different lines, so that the stacks do not share one set of the cache.
  f->sp = first_frame(f->stack + STACK - (size_t)(f->id * 7 % 61) * 64, fiber_main);
  return f;
}

static bool land_some();

// next picks a thread that can run; null if there is none.
static Fiber* next() {
  while (head == tail && started == thread_count && land_some()) {}
  unsigned waiting = tail - head, fresh = (unsigned)(thread_count - started);
  if (opt_seed && waiting + fresh > 1) {
    unsigned r = random_below(waiting + (fresh ? 1 : 0));
    if (r >= waiting) return start_next();
    std::swap(ready[(head + r) % QUEUE], ready[head % QUEUE]);
    return ready[head++ % QUEUE];
  }
  if (waiting) return ready[head++ % QUEUE];
  return fresh ? start_next() : nullptr;
}

static void deadlock() {
  std::map<std::string, std::pair<int, int>> groups;  // what they do: how many, the first
  for (int i = 0; i < thread_count; i++) {
    Fiber& f = fibers[i];
    char text[400] = "have finished";
    if (f.state == AT_BARRIER) snprintf(text, sizeof text, "wait at __syncthreads, %s:%d", f.file, f.line);
    if (f.state == AT_CLUSTER) snprintf(text, sizeof text, "wait at cluster_sync, %s:%d", f.file, f.line);
    if (f.state == AT_GROUP) snprintf(text, sizeof text, "wait at group_sync, %s:%d", f.file, f.line);
    if (f.state == AT_MBARRIER) snprintf(text, sizeof text, "wait at mbarrier_wait, %s:%d", f.file, f.line);
    if (f.state == IN_WARPGROUP) snprintf(text, sizeof text, "wait at %s, %s:%d", f.what, f.file, f.line);
    if (f.state == IN_WARP) snprintf(text, sizeof text, "wait at %s with mask %08x, %s:%d", f.what, f.mask, f.file, f.line);
    auto& g = groups[text];
    if (!g.first++) g.second = i;
  }
  std::string s;
  for (auto& g : groups) {
    char text[500];
    snprintf(text, sizeof text, "%s%d threads (first %d) %s", s.empty() ? "" : "; ", g.second.first, g.second.second, g.first.c_str());
    s += text;
  }
  fail("deadlock in block (%u,%u,%u): %s", block.index.x, block.index.y, block.index.z, s.c_str());
}

// wait runs others until this thread can go on.
static void wait() {
  Fiber *f = self(), *n = next();
  if (!n) deadlock();
  if (n == f) f->state = RUNNING;
  else resume(f, n);
}

static void release_barrier(Block& b);
static void release_cluster();
static void leave_hopper();
static void leave_early();

static void fiber_main() {
  for (;;) {
    entry(params);
    leave_hopper();
    leave_early();
    Fiber* f = self();
    f->copies.clear();
    f->groups.clear();
    f->state = DONE;
    finished++;
    Block& b = *f->of;
    if (++b.finished < block_threads && b.at_barrier == block_threads - b.finished) release_barrier(b);
    if (at_cluster && at_cluster == thread_count - finished) release_cluster();
    if (!opt_seed && head == tail && started < thread_count) {
      // The next thread starts on this stack, which is hot, without a switch.
      Fiber* n = &fibers[started++];
      n->stack = f->stack;
      become(n);
      continue;
    }
    if (finished == thread_count) emulator_switch(&f->sp, main_sp);
    Fiber* n = next();  // which is not to start on this stack: it is in use
    if (!n) deadlock();
    free_stacks.push_back(f->stack);
    resume(f, n);
  }
}

// ---- order: a clock for each warp, and what it knows of the others', and of
// tensor copies', who write as a thread of their own

enum { COPIES = MAX_WARPS, CLOCKS, COPIER = COPIES * 32 };
static uint32_t clocks[MAX_WARPS][CLOCKS];
static int warp_count;

static void join_clock(uint32_t* to, const uint32_t* from) {
  for (int i = 0; i < CLOCKS; i++) to[i] = std::max(to[i], from[i]);
}

// join_clocks lets the warps of threads from first on know all that each of them knows.
static void join_clocks(int first, int threads) {
  uint32_t all[CLOCKS] = {};
  const int from = first / 32, to = (first + threads + 31) / 32;
  for (int w = from; w < to; w++) join_clock(all, clocks[w]);
  for (int w = from; w < to; w++) {
    std::copy(all, all + CLOCKS, clocks[w]);
    clocks[w][w]++;
  }
}

static std::string thread_name(int thread) {
  if (thread == COPIER) return "a tensor copy";
  std::string name = "thread " + std::to_string(thread % block_threads);
  return cluster == 1 ? name : name + " of the cluster's block " + std::to_string(thread / block_threads);
}

// happened_before says whether an earlier access by a thread of this cluster is
// ordered before what thread f does now.
static bool happened_before(int thread, uint32_t at, Fiber* f) {
  int w = thread / 32;
  return thread == f->id || (w == f->warp ? clocks[w][w] > at : clocks[f->warp][w] >= at);
}

// ---- barriers

static void release_barrier(Block& b) {
  Fiber* const of = fibers + b.first;
  if (b.barrier_differs) {
    std::map<std::string, int> places;
    for (int i = 0; i < block_threads; i++)
      if (of[i].state == AT_BARRIER) places[of[i].file + (":" + std::to_string(of[i].line))]++;
    std::string s;
    for (auto& p : places) s += (s.empty() ? "" : ", ") + std::to_string(p.second) + " threads at " + p.first;
    fail("divergent __syncthreads in block (%u,%u,%u): %s", block.index.x, block.index.y, block.index.z, s.c_str());
  }
  b.at_barrier = 0;
  join_clocks(b.first, block_threads);
  for (int i = 0; i < block_threads; i++)
    if (of[i].state == AT_BARRIER) push(&of[i]);
}

static bool same_place(const char* a, int i, const char* b, int j) { return i == j && (a == b || !strcmp(a, b)); }

static void barrier(const char* file, int line) {
  Fiber* f = self();
  f->state = AT_BARRIER, f->file = file, f->line = line;
  Block& b = *f->of;
  if (b.at_barrier++ == 0) b.barrier_file = file, b.barrier_line = line, b.barrier_differs = false;
  else if (!same_place(b.barrier_file, b.barrier_line, file, line)) b.barrier_differs = true;
  if (b.at_barrier == block_threads - b.finished) release_barrier(b);
  wait();
}

static void release_cluster() {
  at_cluster = 0;
  join_clocks(0, thread_count);
  for (int i = 0; i < thread_count; i++)
    if (fibers[i].state == AT_CLUSTER) push(&fibers[i]);
}

static void cluster_sync(const char* file, int line) {
  Fiber* f = self();
  f->state = AT_CLUSTER, f->file = file, f->line = line;
  if (++at_cluster == thread_count - finished) release_cluster();
  wait();
}

// ---- operations of a warp

// meet waits until all lanes of the mask are here, with a pointer to their
// operands each; the last one does the operation for all.
static void meet(unsigned mask, const char* what, bool same_instruction, void* slot, void (*operation)(void** slots), const char* file, int line) {
  Fiber* f = self();
  Fiber* lanes = fibers + f->warp * 32;
  int left = thread_count - f->warp * 32;
  unsigned exist = left >= 32 ? ~0u : (1u << left) - 1;
  if (!(mask >> f->lane & 1)) fail("%s: lane %d is not in its own mask %08x, %s, at %s:%d", what, f->lane, mask, here().c_str(), file, line);
  if (mask & ~exist) fail("%s: mask %08x names lanes beyond the block's %d threads, at %s:%d", what, mask, thread_count, file, line);
  Meeting* m = nullptr;
  for (Meeting& q : meetings[f->warp])
    if (q.arrived && (q.mask & mask)) m = &q;
  if (m) {
    if (m->mask != mask || strcmp(m->what, what) || (same_instruction && !same_place(m->file, m->line, file, line)))
      fail("warp %d of block (%u,%u,%u) diverges: %s with mask %08x at %s:%d, and %s with mask %08x at %s:%d", f->warp, block.index.x,
           block.index.y, block.index.z, m->what, m->mask, m->file, m->line, what, mask, file, line);
  } else {
    m = std::find_if(meetings[f->warp], meetings[f->warp] + 4, [](Meeting& q) { return !q.arrived; });
    if (m == meetings[f->warp] + 4) fail("%s: more than four disjoint masks of a warp at once, at %s:%d", what, file, line);
    *m = Meeting{mask, 0, what, file, line};
  }
  f->slot = slot;
  m->arrived |= 1u << f->lane;
  f->what = what, f->file = file, f->line = line, f->mask = mask;
  if (m->arrived != mask) {
    f->state = IN_WARP;
    wait();
    return;
  }
  void* slots[32];
  for (int i = 0; i < 32; i++) slots[i] = mask >> i & 1 ? lanes[i].slot : nullptr;
  m->arrived = 0;
  if (operation) operation(slots);
  for (int i = 31; i >= 0; i--)
    if ((mask >> i & 1) && i != f->lane) push_front(&lanes[i]);
}

static void sync_warp(unsigned mask, const char* file, int line) {
  // The clock stands for the whole warp: a barrier of some lanes counts for all.
  meet(mask, "__syncwarp", false, nullptr, [](void**) { clocks[self()->warp][self()->warp]++; }, file, line);
}

struct Shuffle {
  unsigned long long in, out;
  int arg;
};

template <int KIND> static void shuffle_all(void** slots) {
  for (int i = 0; i < 32; i++) {
    if (!slots[i]) continue;
    Shuffle* s = (Shuffle*)slots[i];
    int from = KIND == SHUFFLE_INDEX ? s->arg & 31 : KIND == SHUFFLE_XOR ? i ^ s->arg : KIND == SHUFFLE_DOWN ? i + s->arg : i - s->arg;
    if (from < 0 || from > 31) from = i;
    s->out = slots[from] ? ((Shuffle*)slots[from])->in : ~0ull;  // undefined: a lane that takes no part
  }
}

static void shuffle(unsigned mask, int kind, unsigned long long* v, int arg, const char* file, int line) {
  static const char* names[] = {"__shfl_sync", "__shfl_xor_sync", "__shfl_down_sync", "__shfl_up_sync"};
  static void (*const all[])(void**) = {shuffle_all<0>, shuffle_all<1>, shuffle_all<2>, shuffle_all<3>};
  Shuffle s{*v, 0, arg};
  meet(mask, names[kind], false, &s, all[kind], file, line);
  *v = s.out;
}

static unsigned vote(unsigned mask, int p, const char* file, int line) {
  unsigned v = p != 0;
  meet(mask, "a vote", false, &v, [](void** slots) {
    unsigned all = 0;
    for (int i = 0; i < 32; i++)
      if (slots[i] && *(unsigned*)slots[i]) all |= 1u << i;
    for (int i = 0; i < 32; i++)
      if (slots[i]) *(unsigned*)slots[i] = all;
  }, file, line);
  return v;
}

// ---- checks (check.hpp)

static uint32_t site_of(const char* file, int line);
static void check(const void* p, size_t n, bool write, uint32_t site);
static void check_pending(const void* p, size_t n, uint32_t site);

static bool in_shared(const void* p, size_t n) {
  auto within = [&](const void* lo, const void* hi) { return p >= lo && (const char*)p + n <= (const char*)hi; };
  return within(block.dynamic_shared, block.dynamic_shared + shared_size) || within(module->shared_from, module->shared_to);
}

// ---- matrices: lane l holds row l/4 and columns 2(l%4), 2(l%4)+1 of an 8x8 matrix

struct Load {
  unsigned* r;
  const void* row;
};

template <bool TRANSPOSED> static void load_all(void** slots) {
  for (int m = 0; m < 4; m++) {
    const unsigned short* rows[8];
    for (int i = 0; i < 8; i++) rows[i] = (const unsigned short*)((Load*)slots[m * 8 + i])->row;
    for (int l = 0; l < 32; l++) {
      int g = l / 4, t = l % 4;
      unsigned short low = TRANSPOSED ? rows[2 * t][g] : rows[g][2 * t];
      unsigned short high = TRANSPOSED ? rows[2 * t + 1][g] : rows[g][2 * t + 1];
      ((Load*)slots[l])->r[m] = low | (unsigned)high << 16;
    }
  }
}

static void load_matrices(unsigned* r, const void* row, int transposed, const char* file, int line) {
  if ((uintptr_t)row % 16) fail("ldmatrix: the row of %s is not 16-byte aligned, at %s:%d", here().c_str(), file, line);
  if (!in_shared(row, 16)) fail("ldmatrix: the row of %s is not in shared memory, at %s:%d", here().c_str(), file, line);
  if (opt_checked) check(row, 16, false, site_of(file, line));
  Load l{r, row};
  meet(~0u, "ldmatrix", true, &l, transposed ? load_all<true> : load_all<false>, file, line);
}

struct Mma {
  int rows, columns;  // fragments
  float* d;
  const unsigned *a, *b;
};

static float from_bits(unsigned u) {
  float f;
  memcpy(&f, &u, 4);
  return f;
}

#if defined(__x86_64__)
__attribute__((target_clones("arch=x86-64-v3", "default")))  // the same bits: nothing is fused
#endif
static void multiply(int k, int n, const float* __restrict__ a, const float* __restrict__ b, float* __restrict__ d) {
  for (int i = 0; i < 16; i++)
    for (int l = 0; l < k; l++)
      for (int j = 0; j < n; j++) d[i * n + j] += a[i * k + l] * b[l * n + j];
}

// mma_all multiplies (16 rows,K) by (K,8 columns). The elements of a register
// are one f32 (tf32: its upper 19 bits) or two bf16, the lower half first.
template <int KIND> static void mma_all(void** slots) {
  constexpr int PER = KIND == MMA_BF16 ? 2 : 1, K = 8 * PER;
  const int rows = ((Mma*)slots[0])->rows, columns = ((Mma*)slots[0])->columns, n = 8 * columns;
  float a[16 * K], b[K * 8 * MMA_COLUMNS], d[16 * 8 * MMA_COLUMNS];
  auto element = [](unsigned u, int e) { return from_bits(KIND == MMA_BF16 ? (e ? u & 0xffff0000u : u << 16) : u & 0xffffe000u); };
  for (int l = 0; l < 32; l++)
    for (int c = 0; c < columns; c++)
      for (int q = 0; q < 2; q++)
        for (int e = 0; e < PER; e++) b[((q * 4 + l % 4) * PER + e) * n + c * 8 + l / 4] = element(((Mma*)slots[l])->b[c * 2 + q], e);
  auto at = [&](int l, int c, int q) { return (l / 4 + q / 2 * 8) * n + c * 8 + l % 4 * 2 + q % 2; };
  for (int r = 0; r < rows; r++) {
    for (int l = 0; l < 32; l++) {
      Mma* m = (Mma*)slots[l];
      for (int q = 0; q < 4; q++)
        for (int e = 0; e < PER; e++) a[(l / 4 + q % 2 * 8) * K + (q / 2 * 4 + l % 4) * PER + e] = element(m->a[r * 4 + q], e);
      for (int c = 0; c < columns; c++)
        for (int q = 0; q < 4; q++) d[at(l, c, q)] = m->d[(r * columns + c) * 4 + q];
    }
    multiply(K, n, a, b, d);
    for (int l = 0; l < 32; l++)
      for (int c = 0; c < columns; c++)
        for (int q = 0; q < 4; q++) ((Mma*)slots[l])->d[(r * columns + c) * 4 + q] = d[at(l, c, q)];
  }
}

static void mma(int kind, int rows, int columns, float* d, const unsigned* a, const unsigned* b, const char* file, int line) {
  if (columns > MMA_COLUMNS) fail("mma: %d fragments side by side are more than %d, at %s:%d", columns, (int)MMA_COLUMNS, file, line);
  Mma m{rows, columns, d, a, b};
  meet(~0u, "mma", true, &m, kind == MMA_BF16 ? mma_all<MMA_BF16> : mma_all<MMA_TF32>, file, line);
}

// ---- asynchronous copies of 16 bytes to shared memory

static void land(Copy& c) {
  if (c.wanted) memcpy(c.to, c.from, 16);
  else memset(c.to, 0, 16);
  if (opt_checked) check(c.to, 16, true, c.site);
}

static void wait_for_turn() { self()->waited = true; }

// its_turn fails for what reads or writes global memory in a kernel that was
// launched early and has not waited.
static void its_turn(const char* what, const std::string& where) {
  if (launched_early && !self()->waited)
    fail("%s before wait_for_turn, while the kernel before this one may still run, %s, at %s", what, here().c_str(), where.c_str());
}
static void leave_early() {
  if (launched_early && !self()->waited) fail("%s ends without wait_for_turn: what comes behind might overtake the kernel before this one", here().c_str());
}

static void copy_async(void* to, const void* from, bool wanted, const char* file, int line) {
  Fiber* f = self();
  uint32_t site = opt_checked ? site_of(file, line) : 0;
  if ((uintptr_t)to % 16 || (uintptr_t)from % 16) fail("cp.async: an address of %s is not 16-byte aligned, at %s:%d", here().c_str(), file, line);
  if (!in_shared(to, 16)) fail("cp.async: the destination of %s is not in shared memory, at %s:%d", here().c_str(), file, line);
  if (wanted) its_turn("cp.async", std::string(file) + ":" + std::to_string(line));
  if (wanted && !in_bounds(from, 16)) fail("cp.async: the source of %s is in no allocation, at %s:%d", here().c_str(), file, line);
  if (opt_checked) {
    if (wanted) check(from, 16, false, site);
    check(to, 16, true, site);
  }
  Copy c{(unsigned char*)to, (const unsigned char*)from, wanted, site};
  if (opt_copies == 1 || (opt_copies == 2 && random_below(2))) {
    land(c);
    return;
  }
  memset(to, 0xff, 16);
  if (opt_checked) check_pending(to, 16, site);
  f->copies.push_back(c);
}

static void copy_commit() { self()->groups.push_back(self()->copies.size()); }

static void copy_wait(int left) {
  Fiber* f = self();
  if ((int)f->groups.size() <= left) return;
  size_t upto = f->groups[f->groups.size() - left - 1];
  for (size_t i = 0; i < upto; i++) land(f->copies[i]);
  f->copies.erase(f->copies.begin(), f->copies.begin() + upto);
  f->groups.erase(f->groups.begin(), f->groups.end() - left);
  for (size_t& g : f->groups) g -= upto;
}
