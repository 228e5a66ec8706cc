// Checked mode: every access of a kernel to memory is looked at.
#pragma once
#include <algorithm>
#include <set>

#include "hopper.hpp"

// ---- places in the source. A site is an offset in the module, of the
// instruction behind the access, or an entry of the table below.

static const uint32_t IN_TABLE = 1u << 31;
static std::vector<std::pair<const char*, int>> site_table;
static std::set<std::string> site_files;  // which outlive the modules that name them

static uint32_t site_of(const char* file, int line) {
  for (size_t i = 0; i < site_table.size(); i++)
    if (same_place(site_table[i].first, site_table[i].second, file, line)) return IN_TABLE | (uint32_t)i;
  site_table.push_back({site_files.insert(file).first->c_str(), line});
  return IN_TABLE | (uint32_t)(site_table.size() - 1);
}

static const char* base_name(const char* path) {
  const char* slash = strrchr(path, '/');
  return slash ? slash + 1 : path;
}

// place writes a site as "file:line", with the callers of inlined functions.
static std::string place(uint32_t site) {
  if (site & IN_TABLE) {
    auto& s = site_table[site & ~IN_TABLE];
    return base_name(s.first) + (":" + std::to_string(s.second));
  }
  char command[200], line[1000];
  snprintf(command, sizeof command, "addr2line -i -e /proc/%d/fd/%d 0x%x 2>/dev/null", getpid(), module->fd, site - 1);
  std::string s;
  if (FILE* f = popen(command, "r")) {
    while (fgets(line, sizeof line, f)) {
      line[strcspn(line, " \n")] = 0;  // "file:line (discriminator 2)"
      if (!strstr(line, "emulator.h:")) s += (s.empty() ? "" : ", called from ") + std::string(base_name(line));
    }
    pclose(f);
  }
  if (s.empty() || s[0] == '?') snprintf(line, sizeof line, "offset 0x%x of the module (install addr2line to see the line)", site), s = line;
  return s;
}

// ---- races

static uint32_t this_block, first_block;  // serial numbers of clusters: the one that runs, the launch's first

struct Readers {
  uint32_t at[MAX_WARPS], from[MAX_WARPS];
  int16_t thread[MAX_WARPS];  // -1: several
};
static std::vector<Readers> many_readers;  // of this block; entry 0 is none

static void race(const char* memory, const char* order, size_t offset, const std::string& first, uint32_t first_site, uint32_t site) {
  fail("race in %s memory (%s) at byte %zu: %s at %s, and %s at %s", memory, order, offset, first.c_str(), place(first_site).c_str(),
       here().c_str(), place(site).c_str());
}

static std::string block_name(uint32_t serial) { return std::string("the launch's ") + (cluster > 1 ? "cluster" : "block") + " number " + std::to_string(serial - first_block) + " in its order of running"; }

// What runs of a graph: of each kernel so far the serial number of the block before
// its first one and its name, and which of them come before the one that runs.
// Those that do not might run at once with it.
struct GraphKernel {
  uint32_t blocks_from;
  const char* name;
  bool before;
};
static std::vector<GraphKernel> graph_kernels;

static const GraphKernel* in_another_branch(uint32_t serial) {
  if (graph_kernels.empty() || serial <= graph_kernels[0].blocks_from) return nullptr;
  auto behind = std::lower_bound(graph_kernels.begin(), graph_kernels.end(), serial, [](const GraphKernel& k, uint32_t s) { return k.blocks_from < s; });
  return behind[-1].before ? nullptr : &behind[-1];
}

static void check_branches(uint32_t serial, size_t offset, uint32_t site) {
  if (const GraphKernel* k = in_another_branch(serial))
    fail("race in global memory between two branches of a graph, at byte %zu: kernel %s, and %s at %s", offset, k->name, here().c_str(), place(site).c_str());
}

static void note_read(Cell& c, Fiber* f, uint32_t site) {
  uint32_t now = clocks[f->warp][f->warp];
  if (c.read_by == this_block) {
    if (!c.readers && !happened_before(c.reader, c.read_at, f)) {
      many_readers.push_back({});
      c.readers = (uint32_t)many_readers.size() - 1;
      Readers& r = many_readers.back();
      r.at[c.reader / 32] = c.read_at, r.from[c.reader / 32] = c.read_from, r.thread[c.reader / 32] = (int16_t)c.reader;
    }
    if (c.readers) {
      Readers& r = many_readers[c.readers];
      bool more = r.at[f->warp] == now && r.thread[f->warp] != f->id;
      r.at[f->warp] = now, r.from[f->warp] = site, r.thread[f->warp] = more ? -1 : (int16_t)f->id;
    }
  } else {
    if (c.read_by >= first_block || in_another_branch(c.read_by)) c.read_by_another = c.read_by;
    c.read_by = this_block;
    c.readers = 0;
  }
  c.reader = (uint16_t)f->id, c.read_at = now, c.read_from = site;
}

// check_cell looks for a race and notes the access. Other blocks have shared
// memory of their own.
static void check_cell(Cell& c, size_t offset, bool write, bool shared, uint32_t site) {
  Fiber* f = self();
  const char* memory = shared ? "shared" : "global";
  const char* order = write ? "write after write" : "read after write";
  if (c.written_by == this_block) {
    if (!happened_before(c.writer, c.written_at, f)) race(memory, order, offset, thread_name(c.writer), c.written_from, site);
  } else if (c.written_by >= first_block && !shared) {
    race(memory, order, offset, block_name(c.written_by), c.written_from, site);
  } else if (!shared) {
    check_branches(c.written_by, offset, site);
  }
  if (!write) {
    note_read(c, f, site);
    return;
  }
  order = "write after read";
  for (uint32_t b : {c.read_by, c.read_by_another}) {
    if (shared || b == this_block) continue;
    if (b >= first_block) race(memory, order, offset, block_name(b), c.read_from, site);
    check_branches(b, offset, site);
  }
  if (c.read_by == this_block) {
    if (!c.readers && !happened_before(c.reader, c.read_at, f)) race(memory, order, offset, thread_name(c.reader), c.read_from, site);
    for (int w = 0; c.readers && w < warp_count; w++) {
      Readers& r = many_readers[c.readers];
      int thread = r.thread[w] < 0 ? w * 32 + (f->id == w * 32) : r.thread[w];  // any but f
      if (r.at[w] && !happened_before(thread, r.at[w], f)) race(memory, order, offset, thread_name(thread), r.from[w], site);
    }
  }
  c.read_by = c.read_by_another = c.readers = 0;
  c.written_by = this_block, c.writer = (uint16_t)f->id, c.written_at = clocks[f->warp][f->warp], c.written_from = site;
}

// ---- memory

static Region dynamic_region, static_region;
alignas(1024) static unsigned char dynamic_memory[MAX_CLUSTER * SHARED_CAPACITY];
static uintptr_t library_from, library_to;

static void check_shared(Region& r, size_t at, size_t n, bool write, uint32_t site) {
  r.each(at, n, [&](Cell& c, size_t offset) {
    offset %= SHARED_CAPACITY;
    if (!write && c.written_by != this_block) fail("read of shared memory that nothing has been written to yet: byte %zu, %s, at %s", offset, here().c_str(), place(site).c_str());
    check_cell(c, offset, write, true, site);
  });
}

// check_shared looks at dynamic shared memory, of any block of the cluster.
static void check_shared(const void* p, size_t n, bool write, uint32_t site) {
  check_shared(dynamic_region, (size_t)((const unsigned char*)p - dynamic_memory), n, write, site);
}

static void check_global(Allocation* a, size_t at, size_t n, bool write, uint32_t site) {
  if (at + n > a->size)
    fail("out of bounds: %s of %zu bytes, from byte %zu of an allocation of %zu, %s, at %s", write ? "write" : "read", n, at, a->size,
         here().c_str(), place(site).c_str());
  if (!a->tracked) return;
  for (size_t i = at; i < at + n; i++) {
    if (write) a->written[i] = true;
    else if (!a->written[i]) fail("read of uninitialised global memory: byte %zu of an allocation of %zu, %s, at %s", i, a->size, here().c_str(), place(site).c_str());
  }
  a->region.each(at, n, [&](Cell& c, size_t offset) { check_cell(c, offset, write, false, site); });
}

static void check(const void* p, size_t n, bool write, uint32_t site) {
  uintptr_t a = (uintptr_t)p;
  auto offset = [&](const void* from) { return a - (uintptr_t)from; };
  if (offset(stacks) < (size_t)MAX_THREADS * STACK) return;  // a thread's own
  const bool of_cluster = offset(dynamic_memory) < sizeof dynamic_memory;
  if (a >= library_from && a < library_to && !of_cluster) return;
  Allocation* g = nullptr;
  bool is_dynamic = offset(block.dynamic_shared) < SHARED_CAPACITY;
  if (of_cluster && !is_dynamic)
    fail("%s of %zu bytes of another block's shared memory, or outside of this one's, %s, at %s", write ? "write" : "read", n, here().c_str(), place(site).c_str());
  bool is_static = a >= (uintptr_t)module->shared_from && a < (uintptr_t)module->shared_to;
  if (!is_dynamic && !is_static) {
    if (a >= module->from && a < module->to) return;  // constants
    g = below(p);
    if (!g || offset(g->p) > g->size + (1 << 20))
      fail("%s of %zu bytes at address %p, which is in no allocation, %s, at %s", write ? "write" : "read", n, p, here().c_str(), place(site).c_str());
  }
  if (n <= 16 && a % n) fail("misaligned %s of %zu bytes at address %p, %s, at %s", write ? "write" : "read", n, p, here().c_str(), place(site).c_str());
  if (g) {
    if (launched_early && !self()->waited) its_turn(write ? "write of global memory" : "read of global memory", place(site));
    check_global(g, offset(g->p), n, write, site);
  } else if (is_static) {
    if (cluster > 1) fail("the emulator has no static shared memory for clusters, %s, at %s", here().c_str(), place(site).c_str());
    if (a + n > (uintptr_t)module->shared_to) fail("out of bounds: %zu bytes behind static shared memory, %s, at %s", n, here().c_str(), place(site).c_str());
    check_shared(static_region, offset(module->shared_from), n, write, site);
  } else {
    if (offset(block.dynamic_shared) + n > shared_size)
      fail("out of bounds: %s of %zu bytes, from byte %zu of %zu bytes of dynamic shared memory, %s, at %s", write ? "write" : "read", n,
           (size_t)offset(block.dynamic_shared), shared_size, here().c_str(), place(site).c_str());
    check_shared(p, n, write, site);
  }
}

// check_pending marks shared memory that a copy has yet to fill.
static void check_pending(const void* p, size_t n, uint32_t) {
  bool is_static = (uintptr_t)p >= (uintptr_t)module->shared_from && (uintptr_t)p < (uintptr_t)module->shared_to;
  Region& r = is_static ? static_region : dynamic_region;
  r.each((size_t)((const char*)p - (is_static ? module->shared_from : (char*)dynamic_memory)), n, [](Cell& c, size_t) { c.written_by = 0; });
}

// mark_copied notes what a tensor copy has written, which nobody may have touched
// since it began.
static void mark_copied(const void* p, size_t n, uint32_t at, uint32_t site) {
  dynamic_region.each((size_t)((const unsigned char*)p - dynamic_memory), n, [&](Cell& c, size_t offset) {
    if (c.written_by == this_block) race("shared", "write after write", offset % SHARED_CAPACITY, thread_name(c.writer), c.written_from, site);
    c.read_by = c.read_by_another = c.readers = 0;
    c.written_by = this_block, c.writer = COPIER, c.written_at = at, c.written_from = site;
  });
}

// check_operand looks at 16 bytes that a product reads.
static void check_operand(const void* p, uint32_t site) {
  check(p, 16, false, site);
  dynamic_region.each((size_t)((const unsigned char*)p - dynamic_memory), 16, [&](Cell& c, size_t offset) {
    if (c.writer != COPIER && c.written_at > fenced[c.writer / 32])
      fail("wgmma: byte %zu of shared memory was written by %s at %s, without fence_proxy_async behind it, and read at %s", offset % SHARED_CAPACITY, thread_name(c.writer).c_str(),
           place(c.written_from).c_str(), place(site).c_str());
  });
}

static void access(const void* p, int n, int is_write, const void* pc) {
  if (opt_checked) check(p, (size_t)n, is_write, (uint32_t)((uintptr_t)pc - module->from));
}
static void access_range(const void* p, unsigned long n, int is_write, const void* pc) {
  for (unsigned long i = 0; opt_checked && i < n; i++) check((const char*)p + i, 1, is_write, (uint32_t)((uintptr_t)pc - module->from));
}

// ---- blocks and launches

static const emulator_calls calls = {
    &current_thread, &block, barrier, sync_warp, shuffle, vote, copy_async, copy_commit, copy_wait, load_matrices, mma, wait_for_turn,
    group_sync, mbarrier_init, mbarrier_arrive, mbarrier_arrive_at, cluster_sync, mbarrier_wait, fence_async, tensor_copy, wgmma_fence, wgmma, wgmma_commit, wgmma_wait, access, access_range,
};

static void run_cluster(unsigned long long number) {
  dim3 g = block.grid, t = block.threads;
  for (unsigned rank = 0; rank < cluster; rank++) {
    const unsigned long long i = number * cluster + rank;
    Block& b = blocks[rank] = Block{};
    b.index = uint3{(unsigned)(i % g.x), (unsigned)(i / g.x % g.y), (unsigned)(i / g.x / g.y)};
    b.shared = dynamic_memory + rank * SHARED_CAPACITY, b.first = (int)rank * block_threads;
    memset(b.shared, 0xff, shared_size);
  }
  this_block++;
  head = tail = QUEUE;
  started = finished = at_cluster = 0;
  memset(meetings, 0, sizeof meetings);
  prepare_hopper();
  if (module->shared_from) memset(module->shared_from, 0xff, (size_t)(module->shared_to - module->shared_from));
  for (int w = 0; w < warp_count; w++) {
    memset(clocks[w], 0, sizeof clocks[w]);
    clocks[w][w] = 1;
  }
  many_readers.resize(1);
  int id = 0;
  for (unsigned rank = 0; rank < cluster; rank++)
    for (unsigned i = 0; i < (unsigned)block_threads; i++, id++) {
      Fiber& f = fibers[id];
      f.index = uint3{i % t.x, i / t.x % t.y, i / t.x / t.y};
      f.of = blocks + rank;
      f.state = NEW, f.id = id, f.warp = id / 32, f.lane = id % 32;
      f.copies.clear(), f.groups.clear();
      f.fenced = f.waited = false;
    }
  free_stacks.clear();
  for (int i = thread_count - 1; i >= 0; i--) free_stacks.push_back(stacks + (size_t)i * STACK);
  resume(nullptr, next());
  current_thread = nullptr;
}

static void prepare_machine() {
  if (stacks) return;
  stacks = (unsigned char*)mmap(nullptr, (size_t)MAX_THREADS * STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  for (int i = 0; i < MAX_THREADS; i++) mprotect(stacks + (size_t)i * STACK, PAGE, PROT_NONE);  // overflow stops there
  image_of(&calls, &library_from, &library_to);
}

// place_of is where a parameter of a size lies, behind others: aligned for any
// type, and tensor maps.
static size_t place_of(size_t at, size_t size) {
  const size_t alignment = size < 64 ? 16 : 64;
  return (at + alignment - 1) / alignment * alignment;
}

// run launches a kernel; false if it failed, with a report.
static bool run(Module* m, const emulated_kernel* k, const unsigned* grid, const unsigned* threads, size_t shared, bool early, const unsigned char* args) {
  prepare_machine();
  launched_early = early;
  module = m;
  entry = k->call;
  shared_size = shared;
  size_t at = 0;
  for (int i = 0; i < k->params; i++) {  // as pack in driver.cc lays them out
    at = place_of(at, k->sizes[i]);
    memcpy(params_copy + at, args + at, k->sizes[i]);
    params[i] = params_copy + at;
    at += k->sizes[i];
  }
  block.grid = dim3{grid[0], grid[1], grid[2]};
  block.threads = dim3{threads[0], threads[1], threads[2]};
  cluster = k->cluster;
  block_threads = (int)(threads[0] * threads[1] * threads[2]);
  thread_count = (int)cluster * block_threads;
  block_failed = false;
  if (cluster > 1 && (grid[0] % cluster || block_threads % 32 || thread_count > MAX_THREADS)) {
    report = "the emulator runs no clusters of " + std::to_string(cluster) + " blocks of " + std::to_string(block_threads) +
             " threads in a grid of " + std::to_string(grid[0]);
    return false;
  }
  warp_count = (thread_count + 31) / 32;
  if (opt_checked) {
    dynamic_region.cover(cluster * SHARED_CAPACITY);
    static_region.cover((size_t)(m->shared_to - m->shared_from));
  }
  unsigned long long n = (unsigned long long)grid[0] * grid[1] * grid[2] / cluster;
  first_block = this_block + 1;
  std::vector<unsigned long long> order;
  if (opt_seed) {
    random_state = random_state ? random_state : opt_seed;
    for (unsigned long long i = 0; i < n; i++) order.push_back(i);
    for (unsigned long long i = n; i > 1; i--) std::swap(order[i - 1], order[random_below((unsigned)i)]);
  }
  for (unsigned long long i = 0; i < n && !block_failed; i++) run_cluster(opt_seed ? order[i] : i);
  return !block_failed;
}
