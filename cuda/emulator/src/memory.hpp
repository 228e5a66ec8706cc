// Device memory, and who touched it last.
#pragma once
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <array>
#include <map>
#include <vector>

// Cell remembers the last accesses to a byte or an aligned word. Blocks are
// numbered from 1 over all launches, so that what an earlier launch left is
// known as stale.
struct Cell {
  uint32_t written_by = 0, written_at = 0, written_from = 0;  // block, clock of the thread's warp, site
  uint32_t read_by = 0, read_at = 0, read_from = 0;
  uint32_t read_by_another = 0;  // a second block of the launch
  uint32_t readers = 0;          // of several warps or lanes: an index into many_readers
  uint16_t writer = 0, reader = 0;  // threads
};

struct Word {
  Cell cell;
  uint32_t split = 0;  // one more than the index of the bytes' own cells
};

// Region is the record of one piece of memory: by words, and by bytes where
// smaller accesses were made.
struct Region {
  std::vector<Word> words;
  std::vector<std::array<Cell, 4>> bytes;

  void cover(size_t n) {
    if (words.size() < (n + 3) / 4) words.resize((n + 3) / 4);
  }
  template <class F> void each(size_t at, size_t n, F f) {  // f(cell, offset)
    for (size_t w = at / 4; w <= (at + n - 1) / 4; w++) {
      size_t lo = at > w * 4 ? at : w * 4, hi = at + n < w * 4 + 4 ? at + n : w * 4 + 4;
      Word& word = words[w];
      if (!word.split && hi - lo == 4) {
        f(word.cell, lo);
        continue;
      }
      if (!word.split) {
        bytes.push_back({word.cell, word.cell, word.cell, word.cell});
        word.split = (uint32_t)bytes.size();
      }
      for (size_t b = lo; b < hi; b++) f(bytes[word.split - 1][b % 4], b);
    }
  }
};

struct Allocation {
  unsigned char* p = nullptr;
  size_t size = 0;
  bool tracked = false;       // made in checked mode
  std::vector<bool> written;  // bytes
  Region region;
};

static std::map<uintptr_t, Allocation> allocations;
static Allocation* last_found;
static size_t memory_used, memory_total = (size_t)16 << 30;
static const size_t ALIGNMENT = 256;

static unsigned char* allocate(size_t n, bool tracked) {
  if (!n || memory_used + n > memory_total) return nullptr;
  size_t room = (n + 2 * ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;  // allocations never touch
  unsigned char* p = (unsigned char*)aligned_alloc(ALIGNMENT, room);
  if (!p) return nullptr;
  memset(p, 0xff, room);  // NaN, whatever the type
  memory_used += n;
  Allocation& a = allocations[(uintptr_t)p];
  a.p = p, a.size = n, a.tracked = tracked;
  if (tracked) a.written.resize(n), a.region.cover(n);
  return p;
}

static bool release(void* p) {
  auto it = allocations.find((uintptr_t)p);
  if (it == allocations.end()) return false;
  memory_used -= it->second.size;
  free(it->second.p);
  allocations.erase(it);
  last_found = nullptr;
  return true;
}

// below finds the allocation that starts at or before p.
static Allocation* below(const void* p) {
  uintptr_t a = (uintptr_t)p;
  if (last_found && a - (uintptr_t)last_found->p < last_found->size) return last_found;
  auto it = allocations.upper_bound(a);
  return it == allocations.begin() ? nullptr : last_found = &std::prev(it)->second;
}

static bool in_bounds(const void* p, size_t n) {
  Allocation* a = below(p);
  return a && (uintptr_t)p - (uintptr_t)a->p + n <= a->size;
}

// The host's accesses: copies and fills.
static void host_wrote(void* p, size_t n) {
  Allocation* a = below(p);
  if (!a->tracked) return;
  size_t at = (unsigned char*)p - a->p;
  std::fill(a->written.begin() + at, a->written.begin() + at + n, true);
}
