// What sm_90a adds: barriers in shared memory, copies of tensors that complete on
// them, and products of warpgroups, which are done while the threads go on.
#pragma once
#include <math.h>

#include <memory>

#include "block.hpp"

// A tensor copy, or a product, is done as late as can be (opt_copies 0), at once
// (1), or either: a copy when no thread can run, a product when it is waited for.

static bool at_once() { return opt_copies == 1 || (opt_copies == 2 && random_below(2)); }

// ---- barriers of some of the block's warps

static void group_sync(unsigned number, unsigned threads, const char* file, int line) {
  Fiber* f = self();
  if (!number || number > 15 || !threads || threads % 32) fail("group_sync: no barrier %u of %u threads, at %s:%d", number, threads, file, line);
  auto& b = f->of->named[number];
  if (b.arrived && b.threads != threads) fail("group_sync: barrier %u is of %u threads, and of %u at %s:%d", number, b.threads, threads, file, line);
  b.threads = threads;
  f->state = AT_GROUP, f->slot = &b, f->file = file, f->line = line;
  if (++b.arrived == threads) {
    b.arrived = 0;
    uint32_t all[CLOCKS] = {};
    for (int i = 0; i < thread_count; i++)
      if (fibers[i].state == AT_GROUP && fibers[i].slot == &b) join_clock(all, clocks[fibers[i].warp]);
    for (int i = 0; i < thread_count; i++) {
      Fiber& o = fibers[i];
      if (o.state != AT_GROUP || o.slot != &b) continue;
      std::copy(all, all + CLOCKS, clocks[o.warp]);
      clocks[o.warp][o.warp]++;
      push(&o);
    }
  }
  wait();
}

// ---- mbarriers

struct Mbarrier {
  unsigned arrivals, left;
  long long bytes;  // that are expected and not copied yet
  unsigned phase;   // the number of the one under way
  int by;           // who initialised it,
  uint32_t since;   // and when
  bool visible;     // to tensor copies
  uint32_t seen[CLOCKS], passed[CLOCKS];  // what those know who arrived in this phase and before, and before
};
static std::map<const void*, Mbarrier> mbarriers;

static void mbarrier_init(void* b, unsigned arrivals, const char* file, int line) {
  if (!in_shared(b, 8) || (uintptr_t)b % 8) fail("mbarrier_init: no 8 aligned bytes of shared memory, %s, at %s:%d", here().c_str(), file, line);
  Fiber* f = self();
  Mbarrier& m = mbarriers[b] = Mbarrier{};
  m.arrivals = m.left = arrivals, m.by = f->id, m.since = clocks[f->warp][f->warp];
}

static Mbarrier& mbarrier_at(const void* b, const char* what, const char* file, int line) {
  auto it = mbarriers.find(b);
  if (it == mbarriers.end() || !happened_before(it->second.by, it->second.since, self()))
    fail("%s: %s knows of no mbarrier_init, at %s:%d", what, here().c_str(), file, line);
  return it->second;
}

static void proceed(Mbarrier& m) {
  if (m.left || m.bytes) return;
  m.left = m.arrivals;
  m.phase++;
  std::copy(m.seen, m.seen + CLOCKS, m.passed);
  for (int i = 0; i < thread_count; i++)
    if (fibers[i].state == AT_MBARRIER && fibers[i].slot == &m) push(&fibers[i]);
}

static void mbarrier_arrive(void* b, unsigned bytes, const char* file, int line) {
  Mbarrier& m = mbarrier_at(b, "mbarrier_arrive", file, line);
  Fiber* f = self();
  if (!m.left) fail("mbarrier_arrive: more than %u arrivals in a phase, %s, at %s:%d", m.arrivals, here().c_str(), file, line);
  join_clock(m.seen, clocks[f->warp]);
  clocks[f->warp][f->warp]++;
  m.left--;
  m.bytes += bytes;
  proceed(m);
}

// there is where an address of shared memory lies in another block of the cluster.
static void* there(const void* p, unsigned rank) { return blocks[rank].shared + ((const unsigned char*)p - block.dynamic_shared); }

// running checks that another block of the cluster is there, and has not ended: the
// memory of one that has may be another's.
static void running(unsigned rank, const char* what, const char* file, int line) {
  if (rank >= cluster) fail("%s: the cluster has %u blocks, and none is number %u, %s, at %s:%d", what, cluster, rank, here().c_str(), file, line);
  if (blocks[rank].finished == block_threads) fail("%s: block %u of the cluster has ended, %s, at %s:%d", what, rank, here().c_str(), file, line);
}

static void mbarrier_arrive_at(void* b, unsigned rank, const char* file, int line) {
  running(rank, "mbarrier_arrive_at", file, line);
  mbarrier_arrive(there(b, rank), 0, file, line);
}

static void mbarrier_wait(void* b, unsigned parity, const char* file, int line) {
  Mbarrier& m = mbarrier_at(b, "mbarrier_wait", file, line);
  Fiber* f = self();
  while ((m.phase & 1) == parity) {
    f->state = AT_MBARRIER, f->slot = &m, f->file = file, f->line = line;
    wait();
  }
  join_clock(clocks[f->warp], m.passed);
}

// What the warps have written up to these times can be read by products.
static uint32_t fenced[MAX_WARPS];

static void fence_async() {
  Fiber* f = self();
  for (auto& m : mbarriers)
    if (m.second.by == f->id) m.second.visible = true;
  fenced[f->warp] = clocks[f->warp][f->warp]++;
}

// ---- copies of tensors

static void check_operand(const void* p, uint32_t site);
static void check_shared(const void* p, size_t n, bool write, uint32_t site);
static void mark_copied(const void* p, size_t n, uint32_t at, uint32_t site);

struct TensorCopy {
  tensor_copy_call call;
  emulated_tensor_map map;
  Block* of;  // whose memory it fills
  Mbarrier* done;
  uint32_t site;
};
static std::vector<TensorCopy> copies_under_way;
static uint32_t copies_done;

// swizzled is where a byte of shared memory lies in lines of so many bytes: the
// parts of 16 bytes change places, by the number of the 128 bytes they are in.
static unsigned swizzled(unsigned offset, int span) { return offset ^ ((offset >> 7 & (unsigned)(span / 16 - 1)) << 4); }

static size_t bytes_of(const emulated_tensor_map& m) {
  size_t n = (size_t)m.element_bytes * m.box[0] * m.box[1];
  for (int i = 2; !m.pixels && i < m.axes; i++) n *= m.box[i];
  return n;
}

// each_line calls f with the place in memory of each line of the box, null if it
// is outside of the tensor, in the order in which they lie in shared memory.
template <class F> static void each_line(const TensorCopy& c, F f) {
  const emulated_tensor_map& m = c.map;
  auto line = [&](int y, int z, int n) {
    bool inside = y >= 0 && y < (int)m.extent[1] && z >= 0 && z < (int)m.extent[2] && (m.axes < 4 || (n >= 0 && n < (int)m.extent[3]));
    f(inside ? m.base + (size_t)c.call.at[0] * m.element_bytes + (size_t)y * m.stride[0] + (size_t)z * m.stride[1] + (m.axes < 4 ? 0 : (size_t)n * m.stride[2]) : nullptr);
  };
  if (!m.pixels) {
    for (unsigned z = 0; z < m.box[2]; z++)
      for (unsigned y = 0; y < m.box[1]; y++) line(c.call.at[1] + (int)y, c.call.at[2] + (int)z, 0);
    return;
  }
  int w = c.call.at[1], h = c.call.at[2], n = c.call.at[3];
  for (unsigned i = 0; i < m.box[1]; i++) {
    line(w + (int)c.call.right, h + (int)c.call.down, n);
    if ((w += m.step[1]) < (int)m.extent[1] + m.upper[0]) continue;
    w = m.lower[0];
    if ((h += m.step[2]) < (int)m.extent[2] + m.upper[1]) continue;
    h = m.lower[1];
    n++;
  }
}

static void land_tensor(size_t i) {
  TensorCopy c = copies_under_way[i];
  copies_under_way.erase(copies_under_way.begin() + (long)i);
  const emulated_tensor_map& m = c.map;
  const size_t inner = (size_t)m.element_bytes * m.box[0];
  const size_t there = std::min<size_t>(inner, (size_t)std::max(0, (int)m.extent[0] - c.call.at[0]) * m.element_bytes);
  unsigned offset = (unsigned)((unsigned char*)c.call.to - c.of->shared);
  copies_done++;
  each_line(c, [&](const unsigned char* from) {
    for (size_t k = 0; k < inner; k += 16, offset += 16) {
      unsigned char* to = c.of->shared + swizzled(offset, m.swizzle);
      size_t n = from && k < there ? std::min<size_t>(16, there - k) : 0;
      if (n) memcpy(to, from + k, n);
      memset(to + n, 0, 16 - n);
    }
  });
  if (opt_checked) mark_copied(c.call.to, bytes_of(m), copies_done, c.site);
  c.done->seen[COPIES] = copies_done;
  c.done->bytes -= (long long)bytes_of(m);
  proceed(*c.done);
}

// begin_copy has a copy of n bytes to a block begin.
static void begin_copy(TensorCopy& c, size_t n, const char* what, const char* file, int line) {
  c.done = &mbarrier_at(c.call.barrier, what, file, line);
  if (!c.done->visible) fail("%s: no fence_proxy_async behind mbarrier_init, %s, at %s:%d", what, here().c_str(), file, line);
  if (opt_checked) {
    for (size_t k = 0; k < n; k += 16) check_shared((char*)c.call.to + k, 16, true, c.site);
    check_pending(c.call.to, n, c.site);
  }
  memset(c.call.to, 0xff, n);
  copies_under_way.push_back(c);
  if (at_once()) land_tensor(copies_under_way.size() - 1);
}

static void tensor_copy(const tensor_copy_call* call, const char* file, int line) {
  TensorCopy c{*call, {}, self()->of, nullptr, opt_checked ? site_of(file, line) : 0};
  memcpy(&c.map, call->map, sizeof c.map);
  const char* what = call->pixels ? "copy_pixels" : "copy_tile";
  const emulated_tensor_map& m = c.map;
  if (m.magic != TENSOR_MAP_MAGIC || m.axes != (call->pixels ? 4 : 3) || m.pixels != call->pixels) fail("%s: no tensor map of the kind, %s, at %s:%d", what, here().c_str(), file, line);
  its_turn(what, std::string(file) + ":" + std::to_string(line));
  const size_t n = bytes_of(m), atom = 8 * (size_t)m.swizzle;
  if (!in_shared(call->to, n) || (unsigned char*)call->to < block.dynamic_shared) fail("%s: %zu bytes to where they do not fit in dynamic shared memory, %s, at %s:%d", what, n, here().c_str(), file, line);
  if ((uintptr_t)call->to % std::max<size_t>(atom, 128)) fail("%s: the destination is no multiple of %zu bytes, %s, at %s:%d", what, std::max<size_t>(atom, 128), here().c_str(), file, line);
  if (call->at[0] < 0) fail("%s: begins before the first element of a line, %s, at %s:%d", what, here().c_str(), file, line);
  for (int i = 0; call->pixels && i < 2; i++)
    if (call->at[1 + i] < m.lower[i] || call->at[1 + i] >= (int)m.extent[1 + i] + m.upper[i] || (i ? call->down : call->right) > 255)
      fail("%s: pixel (%d,%d) right %u down %u is outside of the map's box, %s, at %s:%d", what, call->at[2], call->at[1], call->right, call->down, here().c_str(), file, line);
  if (opt_checked) {
    const long there = std::min<long>((long)m.box[0], (long)m.extent[0] - call->at[0]) * m.element_bytes;
    each_line(c, [&](const unsigned char* from) {
      for (long k = 0; from && k < there; k += 16) check(from + k, 16, false, c.site);
    });
  }
  if (!call->blocks) {
    begin_copy(c, n, what, file, line);
    return;
  }
  for (unsigned rank = 0; call->blocks >> rank; rank++) {
    if (!(call->blocks >> rank & 1)) continue;
    running(rank, what, file, line);
    c.of = blocks + rank, c.call.to = there(call->to, rank), c.call.barrier = there(call->barrier, rank);
    begin_copy(c, n, what, file, line);
  }
}

// land_some lets a copy land, if there is one: nothing else can go on.
static bool land_some() {
  if (copies_under_way.empty()) return false;
  land_tensor(opt_seed ? random_below((unsigned)copies_under_way.size()) : 0);
  return true;
}

// ---- products of warpgroups

// Sums are those of a warpgroup with products under way: (64,n), and where the
// threads have them, which hold NaN meanwhile.
struct Sums {
  float* d[128];
  int n, products;
  std::vector<float> v;

  template <class F> void each(F f) {  // f(register, sum)
    for (int t = 0; t < 128; t++)
      for (int q = 0; q < n / 2; q++) f(d[t][q], v[(size_t)((t / 32 * 16 + t % 32 / 4 + q / 2 % 2 * 8) * n + q / 4 * 8 + t % 4 * 2 + q % 2)]);
  }
};

struct Product {
  wgmma_call call;
  Sums* sums;
  uint32_t site;
  const char* file;
  int line;
};

struct Warpgroup {
  int arrived;
  const char *what, *file;
  int line;
  std::vector<std::unique_ptr<Sums>> sums;
  std::vector<Product> products;
  std::vector<size_t> groups;  // ends of the committed ones in products
};
static Warpgroup warpgroups[MAX_WARPS / 4];

static Warpgroup& warpgroup_of(Fiber* f) { return warpgroups[f->warp / 4]; }

// gather waits until all threads of the warpgroup are here; the last one does the
// operation for all.
static void gather(const char* what, void* slot, void (*operation)(Warpgroup& g, Fiber* first, void* slot), const char* file, int line) {
  Fiber* f = self();
  Warpgroup& g = warpgroup_of(f);
  Fiber* first = fibers + f->warp / 4 * 128;
  if (first - fibers + 128 > thread_count) fail("%s: warp %d is in no whole warpgroup, at %s:%d", what, f->warp, file, line);
  if (g.arrived && (strcmp(g.what, what) || !same_place(g.file, g.line, file, line)))
    fail("warpgroup %d of block (%u,%u,%u) diverges: %s at %s:%d, and %s at %s:%d", f->warp / 4, block.index.x, block.index.y, block.index.z, g.what, g.file, g.line,
         what, file, line);
  g.what = what, g.file = file, g.line = line;
  f->slot = slot, f->what = what, f->file = file, f->line = line;
  if (++g.arrived < 128) {
    f->state = IN_WARPGROUP;
    wait();
    return;
  }
  g.arrived = 0;
  operation(g, first, slot);
  for (int i = 127; i >= 0; i--)
    if (first + i != f) push_front(first + i);
}

// Operand is a matrix as a descriptor has it: EXTENT rows (or columns), 16 k.
struct Operand {
  unsigned start, leading, stride;
  int span;
  bool along_k;

  Operand(unsigned long long d, unsigned offset, bool along_k)
      : start((unsigned)(d & 0x3fff) * 16 + offset), leading((unsigned)(d >> 16 & 0x3fff) * 16), stride((unsigned)(d >> 32 & 0x3fff) * 16), along_k(along_k) {
    static const int spans[] = {0, 128, 64, 32};
    span = spans[d >> 62];
  }
  const unsigned char* at(int row, int k) const {
    unsigned line = (unsigned)(along_k ? row : k), part = (unsigned)(along_k ? k : row) * 2, width = (unsigned)span;
    unsigned offset = along_k ? part : part / width * leading + part % width;
    return block.dynamic_shared + swizzled(start + offset + line / 8 * stride + line % 8 * width, span);
  }
  float element(int row, int k) const {
    unsigned short bits;
    memcpy(&bits, at(row, k), 2);
    return from_bits((unsigned)bits << 16);
  }
  // check looks at all that a warp reads of rows from to to.
  void check(int from, int to, uint32_t site) const {
    for (int row = from; row < to; row += along_k ? 1 : 8)
      for (int k = 0; k < 16; k += along_k ? 8 : 1) check_operand(at(row, k), site);
  }
};

static const uint32_t NOT_DONE = ~0u >> 1;

// check_product looks at what a product reads: each warp its rows, and all columns.
// Until it has been waited for, nobody else can know that it has been read.
static void check_product(const Product& p, Fiber* first, bool done) {
  emulated_thread* caller = current_thread;
  for (int w = first->warp; w < first->warp + 4; w++) {
    uint32_t& clock = clocks[w][w];
    const uint32_t now = clock;
    if (!done) clock = NOT_DONE;
    current_thread = &fibers[w * 32];
    for (unsigned step = 0; step < (unsigned)p.call.k / 16; step++) {
      Operand(p.call.a, step * p.call.a_step, p.call.a_along_k).check(w % 4 * 16, w % 4 * 16 + 16, p.site);
      Operand(p.call.b, step * p.call.b_step, p.call.b_along_k).check(0, p.call.n, p.site);
    }
    clock = now;
  }
  current_thread = caller;
}

static void multiply_now(Warpgroup& g, Product& p, Fiber* first) {
  const wgmma_call& c = p.call;
  const int n = c.n;
  if (opt_checked) check_product(p, first, true);
  static float a[64 * 16], b[16 * 256];
  for (unsigned step = 0; step < (unsigned)c.k / 16; step++) {
    Operand rows(c.a, step * c.a_step, c.a_along_k), columns(c.b, step * c.b_step, c.b_along_k);
    for (int i = 0; i < 64; i++)
      for (int k = 0; k < 16; k++) a[i * 16 + k] = rows.element(i, k);
    for (int j = 0; j < n; j++)
      for (int k = 0; k < 16; k++) b[k * n + j] = columns.element(j, k);
    for (int i = 0; i < 64; i += 16) multiply(16, n, a + i * 16, b, p.sums->v.data() + i * n);
  }
  if (--p.sums->products) return;
  p.sums->each([](float& d, float& v) { d = v; });
  g.sums.erase(std::find_if(g.sums.begin(), g.sums.end(), [&](auto& s) { return s.get() == p.sums; }));
}

static void multiply_upto(Warpgroup& g, size_t upto, Fiber* first) {
  for (size_t i = 0; i < upto; i++) multiply_now(g, g.products[i], first);
  g.products.erase(g.products.begin(), g.products.begin() + (long)upto);
  for (size_t& e : g.groups) e -= std::min(e, upto);
}

static void wgmma_fence() { self()->fenced = true; }

static void wgmma(const wgmma_call* call, const char* file, int line) {
  Fiber* f = self();
  if (!f->fenced) fail("wgmma: no wgmma_fence since the last wgmma_wait, %s, at %s:%d", here().c_str(), file, line);
  for (unsigned long long d : {call->a, call->b})
    if (!(d >> 62) || (d & 0x3fff) * 16 >= shared_size) fail("wgmma: a descriptor is of no swizzled matrix in shared memory, %s, at %s:%d", here().c_str(), file, line);
  struct Issue { const wgmma_call* call; const char* file; int line; } issue{call, file, line};
  gather("wgmma", &issue, [](Warpgroup& g, Fiber* first, void* slot) {
    const Issue& last = *(Issue*)slot;
    auto of = [&](int t) { return ((Issue*)first[t].slot)->call; };
    Sums* s = nullptr;
    for (auto& known : g.sums)
      if (known->d[0] == of(0)->d) s = known.get();
    if (!s) {
      g.sums.emplace_back(s = new Sums{});
      s->n = last.call->n;
      s->v.resize((size_t)(64 * s->n));
      for (int t = 0; t < 128; t++) s->d[t] = of(t)->d;
      s->each([](float& d, float& v) { v = d, d = NAN; });
    }
    for (int t = 0; t < 128; t++)
      if (of(t)->a != last.call->a || of(t)->b != last.call->b || of(t)->d != s->d[t])
        fail("wgmma: the threads of a warpgroup name different operands, at %s:%d", last.file, last.line);
    s->products++;
    g.products.push_back(Product{*last.call, s, opt_checked ? site_of(last.file, last.line) : 0, last.file, last.line});
    if (opt_checked) check_product(g.products.back(), first, false);
    if (at_once()) multiply_upto(g, g.products.size(), first);
  }, file, line);
}

static void wgmma_commit() {
  Fiber* f = self();
  Warpgroup& g = warpgroup_of(f);
  if (f->id % 128 == 0) g.groups.push_back(g.products.size());
}

static void wgmma_wait(int left, const char* file, int line) {
  self()->fenced = false;
  gather("wgmma_wait", &left, [](Warpgroup& g, Fiber* first, void* slot) {
    size_t keep = (size_t) * (int*)slot;
    if (g.groups.size() <= keep) return;
    multiply_upto(g, g.groups[g.groups.size() - keep - 1], first);
    g.groups.erase(g.groups.begin(), g.groups.end() - (long)keep);
  }, file, line);
}

// ---- the block's beginning, and a thread's end

static void prepare_hopper() {
  mbarriers.clear();
  copies_under_way.clear();
  copies_done = 0;
  memset(fenced, 0, sizeof fenced);
  for (Warpgroup& g : warpgroups) g.arrived = 0, g.sums.clear(), g.products.clear(), g.groups.clear();
}

static void leave_hopper() {
  Warpgroup& g = warpgroup_of(self());
  if (!g.products.empty()) fail("%s ends, and nobody has waited for its products, at %s:%d", here().c_str(), g.products[0].file, g.products[0].line);
  Block* b = self()->of;
  for (TensorCopy& c : copies_under_way)
    if (c.of == b && b->finished + 1 == block_threads) fail("the block ends with a tensor copy under way, %s", here().c_str());
}
