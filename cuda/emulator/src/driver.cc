// The CUDA driver API as far as temper uses it (cuda/driver.h), over emulated
// kernels: the same names and the same binary interface as libcuda.so.1.
//
// Work is done as late as the API allows: when the host waits for it, or for
// something behind it. So a missing wait shows, as it may on a GPU.
#include <time.h>

#include <algorithm>
#include <deque>
#include <memory>
#include <mutex>
#include <set>

#include "check.hpp"

enum Result {
  SUCCESS = 0,
  INVALID_VALUE = 1,
  OUT_OF_MEMORY = 2,
  INVALID_DEVICE = 101,
  INVALID_IMAGE = 200,
  INVALID_CONTEXT = 201,
  INVALID_HANDLE = 400,
  NOT_FOUND = 500,
  NOT_READY = 600,
  LAUNCH_FAILED = 719,
  CAPTURE_UNSUPPORTED = 900,
  CAPTURE_INVALIDATED = 901,
  CAPTURE_UNMATCHED = 903,
  CAPTURE_UNJOINED = 904,
  CAPTURE_ISOLATION = 905,
  GRAPH_UPDATE_FAILED = 910,
};

typedef uintptr_t handle;
typedef unsigned long long device_ptr;

// ---- objects

struct Function {
  Module* module;
  const emulated_kernel* kernel;
  int static_shared() const { return (int)(module->shared_to - module->shared_from); }  // of the whole module
  int dynamic_limit = std::max(0, (48 << 10) - static_shared());
};

struct Stream;
struct Exec;
struct Capture;

// Work is an entry of a stream's queue, or a node of a graph.
struct Work {
  enum Kind { KERNEL, UPLOAD, DOWNLOAD, COPY, FILL, RELEASE, RECORD, WAIT, GRAPH } kind;
  Function* function = nullptr;
  unsigned grid[3], block[3];
  size_t shared = 0;
  bool early = false;  // before what it comes after has ended
  std::vector<unsigned char> args;  // of a kernel
  unsigned char* to = nullptr;
  const unsigned char* from = nullptr;
  size_t bytes = 0;
  unsigned char value = 0;
  struct Event* event = nullptr;
  Stream* stream = nullptr;  // to wait for, up to position
  unsigned long long position = 0;
  std::shared_ptr<const struct Nodes> nodes;
};

// CUlaunchConfig, and CUlaunchAttribute with the value that is an int.
struct alignas(8) launch_attribute {
  int id, unused, value;
  char rest[60];
};
struct launch_config {
  unsigned grid[3], block[3], shared;
  handle stream;
  const launch_attribute* attribute;
  unsigned attributes;
};
static_assert(sizeof(launch_attribute) == 72 && sizeof(launch_config) == 56, "");

struct Node {
  Work work;
  std::vector<int> after;
};
struct Nodes {
  std::vector<Node> list;
};

struct Graph { std::shared_ptr<Nodes> nodes; };
struct Exec { std::shared_ptr<const Nodes> nodes; };

struct Capture {
  std::shared_ptr<Nodes> nodes = std::make_shared<Nodes>();
  Stream* origin;
  bool invalid = false;
};

struct Stream {
  std::deque<Work> queue;
  unsigned long long submitted = 0, done = 0;
  Capture* capture = nullptr;
  std::vector<int> frontier;  // of the capture: what the next node comes after
};

struct Event {
  Stream* stream = nullptr;
  unsigned long long position = 0;
  double time = 0;
  Capture* capture = nullptr;
  std::vector<int> frontier;
};

static std::recursive_mutex mutex;
static std::set<Stream*> streams;
static Stream* default_stream = new Stream;
static std::map<uintptr_t, size_t> pinned;
static Result failure;
static int context_uses;
static bool opt_lazy = true;
static int opt_devices = 1, opt_capability = 90, opt_driver = 13000;
static long opt_refuse, opt_init, opt_mode;
static bool opt_log;
static std::string log_text, log_given;

static void note(const std::string& line) {
  if (opt_log) log_text += line + "\n";
}

static thread_local bool current;  // the context, on this thread

// Every call is locked, and fails once a kernel has failed.
#define CALL                                           \
  std::lock_guard<std::recursive_mutex> lock(mutex);   \
  note(__func__);                                      \
  if (failure) return failure;                         \
  if (!current) return INVALID_CONTEXT

// ---- doing work

static double now_ms() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

static Result drain(Stream* s, unsigned long long upto);
static Result perform(Work& w);

// before lists all nodes that a node comes after.
static std::vector<bool> before(const Nodes& g, int i) {
  std::vector<bool> seen(g.list.size());
  std::vector<int> next = g.list[(size_t)i].after;
  while (!next.empty()) {
    int k = next.back();
    next.pop_back();
    if (seen[(size_t)k]) continue;
    seen[(size_t)k] = true;
    next.insert(next.end(), g.list[(size_t)k].after.begin(), g.list[(size_t)k].after.end());
  }
  return seen;
}

static Result perform_graph(const Nodes& g) {
  std::vector<int> run;  // the nodes of graph_kernels
  struct Forget { ~Forget() { graph_kernels.clear(); } } forget;
  std::vector<int> waits(g.list.size()), ready;
  for (size_t i = 0; i < g.list.size(); i++)
    if (!(waits[i] = (int)g.list[i].after.size())) ready.push_back((int)i);
  while (!ready.empty()) {
    size_t pick = opt_seed ? random_below((unsigned)ready.size()) : ready.size() - 1;
    int i = ready[pick];
    ready.erase(ready.begin() + (long)pick);
    Work w = g.list[(size_t)i].work;
    if (opt_checked && w.kind == Work::KERNEL) {
      std::vector<bool> earlier = before(g, i);
      for (size_t k = 0; k < run.size(); k++) graph_kernels[k].before = earlier[(size_t)run[k]];
      run.push_back(i);
      graph_kernels.push_back({this_block, w.function->kernel->name, true});
    }
    if (Result r = perform(w)) return r;
    for (size_t k = 0; k < g.list.size(); k++)
      for (int a : g.list[k].after)
        if (a == i && !--waits[k]) ready.push_back((int)k);
  }
  return SUCCESS;
}

static Result perform(Work& w) {
  switch (w.kind) {
    case Work::KERNEL:
      if (run(w.function->module, w.function->kernel, w.grid, w.block, w.shared, w.early, w.args.data())) return SUCCESS;
      report = std::string("kernel ") + w.function->kernel->name + ": " + report;
      return LAUNCH_FAILED;
    case Work::UPLOAD:
      memcpy(w.to, w.from, w.bytes);
      host_wrote(w.to, w.bytes);
      return SUCCESS;
    case Work::DOWNLOAD:
      memcpy(w.to, w.from, w.bytes);
      return SUCCESS;
    case Work::COPY:
      memcpy(w.to, w.from, w.bytes);
      host_wrote(w.to, w.bytes);
      return SUCCESS;
    case Work::FILL:
      memset(w.to, w.value, w.bytes);
      host_wrote(w.to, w.bytes);
      return SUCCESS;
    case Work::RELEASE:
      return release(w.to) ? SUCCESS : INVALID_VALUE;
    case Work::RECORD:
      w.event->time = now_ms();
      return SUCCESS;
    case Work::WAIT:
      return drain(w.stream, w.position);
    case Work::GRAPH:
      note("graph done");
      return perform_graph(*w.nodes);
  }
  return INVALID_VALUE;
}

// drain does a stream's work up to a position.
static Result drain(Stream* s, unsigned long long upto) {
  while (s->done < upto && !s->queue.empty()) {
    Work w = std::move(s->queue.front());
    s->queue.pop_front();
    s->done++;
    if (Result r = perform(w)) return failure = r;
  }
  return failure;
}
static Result drain(Stream* s) { return drain(s, s->submitted); }

static Result drain_all() {
  for (Stream* s : streams)
    if (Result r = drain(s)) return r;
  return drain(default_stream);
}

static Stream* stream_of(handle h) { return h ? (Stream*)h : default_stream; }

// submit queues work, or adds it to the graph that the stream captures.
static Result submit(handle h, Work&& w) {
  Stream* s = stream_of(h);
  if (s->capture) {
    auto& list = s->capture->nodes->list;
    list.push_back(Node{std::move(w), s->frontier});
    s->frontier = {(int)list.size() - 1};
    return SUCCESS;
  }
  s->queue.push_back(std::move(w));
  s->submitted++;
  return opt_lazy ? SUCCESS : drain(s);
}

// refuse ends a capture that did something it must not.
static Result refuse(Stream* s) {
  s->capture->invalid = true;
  return CAPTURE_UNSUPPORTED;
}

static bool is_pinned(const void* p, size_t n) {
  auto it = pinned.upper_bound((uintptr_t)p);
  return it != pinned.begin() && (--it, (uintptr_t)p - it->first + n <= it->second);
}

// ---- the API

#define API extern "C" __attribute__((visibility("default"))) int

// emulator_set sets an option:
//
//	checked     1: look at every memory access of kernels that are compiled so
//	copies      when asynchronous copies land: 0 late, 1 early, 2 at random
//	seed        not 0: threads, blocks and graph nodes run in a random order
//	lazy        0: do work when it is submitted
//	devices     how many there are; they are all the same one
//	capability  the device's compute capability, as 90
//	driver      the driver's version, as 13000
//	memory      device memory in MiB
//	refuse      n: the nth allocation from now on, of the device or the host, fails
//	init        what cuInit returns, as 100
//	mode        the device's compute mode: 2 is prohibited
//	fail        what every call that works in a context, and taking one, returns until reset
//	log         1: write down what emulator_log returns
//	reset       forget a failure and all queued work
API emulator_set(const char* option, long value) {
  std::lock_guard<std::recursive_mutex> lock(mutex);
  std::string o = option;
  if (o == "checked") opt_checked = value != 0;
  else if (o == "copies") opt_copies = (int)value;
  else if (o == "seed") opt_seed = random_state = (unsigned)value;
  else if (o == "lazy") opt_lazy = value != 0;
  else if (o == "devices") opt_devices = (int)value;
  else if (o == "capability") opt_capability = (int)value;
  else if (o == "driver") opt_driver = (int)value;
  else if (o == "memory") memory_total = (size_t)value << 20;
  else if (o == "refuse") opt_refuse = value;
  else if (o == "init") opt_init = value;
  else if (o == "mode") opt_mode = value;
  else if (o == "fail") failure = (Result)value;
  else if (o == "log") opt_log = value != 0, log_text.clear();
  else if (o == "reset") {
    failure = SUCCESS;
    report.clear();
    for (Stream* s : streams) s->queue.clear(), s->done = s->submitted, s->capture = nullptr;
  } else return INVALID_VALUE;
  return SUCCESS;
}

// emulator_log is what was done since it was last called, a line each: the calls
// that work in a context; "graph done" when a launched graph is worked off; and
// for each node of a graph that is instantiated "node", its number, the numbers
// of those that it comes after, and what it does, behind "early:" if that may begin
// before.
extern "C" __attribute__((visibility("default"))) const char* emulator_log() {
  std::lock_guard<std::recursive_mutex> lock(mutex);
  log_given = std::move(log_text);
  log_text.clear();
  return log_given.c_str();
}

static void note_nodes(const Nodes& g) {
  for (size_t i = 0; opt_log && i < g.list.size(); i++) {
    std::string line = "node " + std::to_string(i) + ":";
    for (int a : g.list[i].after) line += " " + std::to_string(a);
    const Work& w = g.list[i].work;
    note(line + (w.early ? " early:" : " ") + (w.kind == Work::KERNEL ? w.function->kernel->name : "copy"));
  }
}

API cuInit(unsigned) { return (int)opt_init; }
API cuDriverGetVersion(int* version) { return *version = opt_driver, SUCCESS; }

API cuGetErrorName(int code, const char** name) {
  static const std::map<int, const char*> names = {
      {INVALID_VALUE, "CUDA_ERROR_INVALID_VALUE"},
      {OUT_OF_MEMORY, "CUDA_ERROR_OUT_OF_MEMORY"},
      {INVALID_DEVICE, "CUDA_ERROR_INVALID_DEVICE"},
      {INVALID_IMAGE, "CUDA_ERROR_INVALID_IMAGE"},
      {INVALID_CONTEXT, "CUDA_ERROR_INVALID_CONTEXT"},
      {INVALID_HANDLE, "CUDA_ERROR_INVALID_HANDLE"},
      {NOT_FOUND, "CUDA_ERROR_NOT_FOUND"},
      {NOT_READY, "CUDA_ERROR_NOT_READY"},
      {LAUNCH_FAILED, "CUDA_ERROR_LAUNCH_FAILED"},
      {CAPTURE_UNSUPPORTED, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED"},
      {CAPTURE_INVALIDATED, "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED"},
      {CAPTURE_UNMATCHED, "CUDA_ERROR_STREAM_CAPTURE_UNMATCHED"},
      {CAPTURE_UNJOINED, "CUDA_ERROR_STREAM_CAPTURE_UNJOINED"},
      {CAPTURE_ISOLATION, "CUDA_ERROR_STREAM_CAPTURE_ISOLATION"},
      {GRAPH_UPDATE_FAILED, "CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE"},
  };
  auto it = names.find(code);
  return it == names.end() ? INVALID_VALUE : (*name = it->second, SUCCESS);
}

API cuGetErrorString(int code, const char** text) {
  static const std::map<int, const char*> texts = {
      {INVALID_VALUE, "invalid argument"},
      {OUT_OF_MEMORY, "out of memory"},
      {INVALID_DEVICE, "invalid device ordinal"},
      {INVALID_IMAGE, "the image was not compiled for the emulator, or not in the mode it is in"},
      {INVALID_CONTEXT, "invalid device context"},
      {INVALID_HANDLE, "invalid resource handle"},
      {NOT_FOUND, "named symbol not found"},
      {NOT_READY, "device not ready"},
      {CAPTURE_UNSUPPORTED, "operation not permitted when stream is capturing"},
      {CAPTURE_INVALIDATED, "operation failed due to a previous error during capture"},
      {CAPTURE_UNMATCHED, "stream capture was not ended in the stream that it began in"},
      {CAPTURE_UNJOINED, "capturing stream has unjoined work"},
      {CAPTURE_ISOLATION, "dependency created on uncaptured work in another stream"},
      {GRAPH_UPDATE_FAILED, "the graph update was not performed because of changes that it cannot make"},
  };
  if (code == LAUNCH_FAILED) return *text = report.c_str(), SUCCESS;
  auto it = texts.find(code);
  return it == texts.end() ? INVALID_VALUE : (*text = it->second, SUCCESS);
}

API cuDeviceGetCount(int* count) { return *count = opt_devices, SUCCESS; }
API cuDeviceGet(int* device, int ordinal) { return *device = ordinal, ordinal >= 0 && ordinal < opt_devices ? SUCCESS : INVALID_DEVICE; }
API cuDeviceGetName(char* name, int size, int) { return snprintf(name, (size_t)size, "emulated GPU"), SUCCESS; }
API cuDeviceTotalMem_v2(size_t* bytes, int) { return *bytes = memory_total, SUCCESS; }
API cuDeviceGetAttribute(int* value, int attribute, int) {
  switch (attribute) {
    case 16: *value = 8; break;  // multiprocessors: few, so that grids are small
    case 20: *value = (int)opt_mode; break;
    case 75: *value = opt_capability / 10; break;
    case 76: *value = opt_capability % 10; break;
    case 97: *value = (int)SHARED_CAPACITY; break;
    default: return INVALID_VALUE;
  }
  return SUCCESS;
}

API cuDevicePrimaryCtxRetain(handle* context, int) {
  std::lock_guard<std::recursive_mutex> lock(mutex);
  if (failure) return failure;
  context_uses++;
  return *context = 1, SUCCESS;
}
API cuDevicePrimaryCtxRelease_v2(int) {
  std::lock_guard<std::recursive_mutex> lock(mutex);
  return context_uses ? (context_uses--, SUCCESS) : INVALID_VALUE;
}
API cuCtxSetCurrent(handle context) {
  current = context == 1 && context_uses;
  return current ? SUCCESS : INVALID_VALUE;
}

// refused says whether an allocation is the one to fail.
static bool refused() { return opt_refuse && !--opt_refuse; }

API cuMemGetInfo_v2(size_t* unused, size_t* total) {
  CALL;
  return *unused = memory_total - std::min(memory_used, memory_total), *total = memory_total, SUCCESS;
}
API cuMemAlloc_v2(device_ptr* p, size_t bytes) {
  CALL;
  if (!bytes) return INVALID_VALUE;
  *p = refused() ? 0 : (device_ptr)allocate(bytes, opt_checked);
  return *p ? SUCCESS : OUT_OF_MEMORY;
}
API cuMemFree_v2(device_ptr p) {
  CALL;
  if (Result r = drain_all()) return r;
  return release((void*)p) ? SUCCESS : INVALID_VALUE;
}
API cuMemAllocAsync(device_ptr* p, size_t bytes, handle) { return cuMemAlloc_v2(p, bytes); }
API cuMemFreeAsync(device_ptr p, handle stream) {
  CALL;
  Work w{Work::RELEASE};
  w.to = (unsigned char*)p;
  return submit(stream, std::move(w));
}
API cuMemHostAlloc(void** p, size_t bytes, unsigned) {
  CALL;
  if (refused()) return OUT_OF_MEMORY;
  if (!bytes || !(*p = aligned_alloc(4096, (bytes + 4095) / 4096 * 4096))) return bytes ? OUT_OF_MEMORY : INVALID_VALUE;
  pinned[(uintptr_t)*p] = bytes;
  return SUCCESS;
}
API cuMemFreeHost(void* p) {
  CALL;
  if (Result r = drain_all()) return r;
  if (!pinned.erase((uintptr_t)p)) return INVALID_VALUE;
  free(p);
  return SUCCESS;
}

API cuMemcpyHtoDAsync_v2(device_ptr to, const void* from, size_t bytes, handle stream) {
  CALL;
  if (!in_bounds((void*)to, bytes)) return INVALID_VALUE;
  Stream* s = stream_of(stream);
  Work w{Work::UPLOAD};
  w.to = (unsigned char*)to, w.bytes = bytes;
  if (!is_pinned(from, bytes) && s->capture) return refuse(s);
  w.from = (const unsigned char*)from;  // as late as for page-locked memory: "might be synchronous" is all that is promised of other memory
  return submit(stream, std::move(w));
}
API cuMemcpyDtoHAsync_v2(void* to, device_ptr from, size_t bytes, handle stream) {
  CALL;
  if (!in_bounds((void*)from, bytes)) return INVALID_VALUE;
  Stream* s = stream_of(stream);
  Work w{Work::DOWNLOAD};
  w.to = (unsigned char*)to, w.from = (const unsigned char*)from, w.bytes = bytes;
  if (!is_pinned(to, bytes) && s->capture) return refuse(s);
  return submit(stream, std::move(w));
}
// The copies that wait, and wait for no stream that temper makes: they are what
// other libraries in the process use.
API cuMemcpyHtoD_v2(device_ptr to, const void* from, size_t bytes) {
  CALL;
  if (!in_bounds((void*)to, bytes)) return INVALID_VALUE;
  memcpy((void*)to, from, bytes);
  host_wrote((void*)to, bytes);
  return SUCCESS;
}
API cuMemcpyDtoH_v2(void* to, device_ptr from, size_t bytes) {
  CALL;
  if (!in_bounds((void*)from, bytes)) return INVALID_VALUE;
  memcpy(to, (void*)from, bytes);
  return SUCCESS;
}
API cuMemcpyDtoDAsync_v2(device_ptr to, device_ptr from, size_t bytes, handle stream) {
  CALL;
  if (!in_bounds((void*)to, bytes) || !in_bounds((void*)from, bytes) || (to < from + bytes && from < to + bytes)) return INVALID_VALUE;
  Work w{Work::COPY};
  w.to = (unsigned char*)to, w.from = (const unsigned char*)from, w.bytes = bytes;
  return submit(stream, std::move(w));
}
API cuMemsetD8Async(device_ptr to, unsigned char value, size_t bytes, handle stream) {
  CALL;
  if (!in_bounds((void*)to, bytes)) return INVALID_VALUE;
  Work w{Work::FILL};
  w.to = (unsigned char*)to, w.value = value, w.bytes = bytes;
  return submit(stream, std::move(w));
}

// An image is a shared object; its length is in the ELF header.
API cuModuleLoadDataEx(handle* out, const void* image, unsigned, int*, void**) {
  CALL;
  if (memcmp(image, "\177ELF\2", 5)) return INVALID_IMAGE;
  const ElfW(Ehdr)* header = (const ElfW(Ehdr)*)image;
  size_t left = header->e_shoff + (size_t)header->e_shentsize * header->e_shnum;
  Module* m = new Module{};
  m->fd = memfd_create("emulated-module", MFD_CLOEXEC);
  for (const char* p = (const char*)image; left;) {
    ssize_t n = write(m->fd, p, left);
    if (n <= 0) return close(m->fd), delete m, OUT_OF_MEMORY;
    p += n, left -= (size_t)n;
  }
  char path[64];
  snprintf(path, sizeof path, "/proc/self/fd/%d", m->fd);
  m->dl = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  auto attach = m->dl ? (void (*)(const emulator_calls*, char**, char**))dlsym(m->dl, "emulator_attach") : nullptr;
  if (m->dl) m->checked = dlsym(m->dl, "emulator_checked") != nullptr;
  if (!attach || (opt_checked && !m->checked)) {
    if (m->dl) dlclose(m->dl);
    return close(m->fd), delete m, INVALID_IMAGE;
  }
  attach(&calls, &m->shared_from, &m->shared_to);
  image_of((void*)attach, &m->from, &m->to);
  return *out = (handle)m, SUCCESS;
}
API cuModuleUnload(handle h) {
  CALL;
  if (Result r = drain_all()) return r;
  Module* m = (Module*)h;
  for (auto& f : m->functions) delete f.second;
  dlclose(m->dl);
  close(m->fd);
  delete m;
  return SUCCESS;
}
API cuModuleGetFunction(handle* out, handle h, const char* name) {
  CALL;
  Module* m = (Module*)h;
  Function*& f = m->functions[name];
  if (!f) {
    auto k = (const emulated_kernel*)dlsym(m->dl, (std::string("emulated_") + name).c_str());
    if (!k) return NOT_FOUND;
    f = new Function{m, k};
  }
  return *out = (handle)f, SUCCESS;
}
API cuFuncGetAttribute(int* value, int attribute, handle h) {
  CALL;
  Function* f = (Function*)h;
  switch (attribute) {
    case 0: *value = MAX_THREADS; break;
    case 1: *value = f->static_shared(); break;
    case 3: *value = 0; break;
    case 4: *value = 0; break;  // registers: there are none
    case 8: *value = f->dynamic_limit; break;
    default: return INVALID_VALUE;
  }
  return SUCCESS;
}
API cuFuncSetAttribute(handle h, int attribute, int value) {
  CALL;
  if (attribute != 8 || value < 0 || value > (int)SHARED_CAPACITY) return INVALID_VALUE;
  ((Function*)h)->dynamic_limit = value;
  return SUCCESS;
}

// ---- tensor maps: of what the driver can encode, what temper uses: bf16, lines
// that fill the swizzle, no interleaving, zeros outside

static int encode_tensor(emulated_tensor_map& m, int type, unsigned axes, void* base, const unsigned long long* extents, const unsigned long long* strides,
                         const unsigned* steps, int interleave, int swizzle, int fill) {
  static const short spans[] = {0, 32, 64, 128};
  if (opt_capability < 90 || type != 9 || interleave || swizzle < 1 || swizzle > 3 || fill) return INVALID_VALUE;
  if (!base || (uintptr_t)base % 16 || !below(base)) return INVALID_VALUE;
  m.magic = TENSOR_MAP_MAGIC, m.axes = (short)axes, m.element_bytes = 2, m.base = (const unsigned char*)base, m.swizzle = spans[swizzle];
  for (unsigned i = 0; i < axes; i++) {
    if (!extents[i] || extents[i] > 1ull << 31 || !steps[i] || steps[i] > 8) return INVALID_VALUE;
    m.extent[i] = (unsigned)extents[i], m.step[i] = (unsigned char)steps[i];
    if (i + 1 == axes) break;
    if (!strides[i] || strides[i] % 16 || strides[i] >= 1ull << 40) return INVALID_VALUE;
    m.stride[i] = strides[i];
  }
  return in_bounds(base, (size_t)(m.stride[axes - 2] * m.extent[axes - 1])) ? SUCCESS : INVALID_VALUE;
}

API cuTensorMapEncodeTiled(void* map, int type, unsigned axes, void* base, const unsigned long long* extents, const unsigned long long* strides, const unsigned* box,
                           const unsigned* steps, int interleave, int swizzle, int, int fill) {
  CALL;
  emulated_tensor_map m = {};
  if ((uintptr_t)map % 64 || axes != 3 || encode_tensor(m, type, axes, base, extents, strides, steps, interleave, swizzle, fill)) return INVALID_VALUE;
  for (unsigned i = 0; i < axes; i++) {
    if (!box[i] || box[i] > 256 || steps[i] != 1) return INVALID_VALUE;
    m.box[i] = box[i];
  }
  if ((int)box[0] * m.element_bytes != m.swizzle) return INVALID_VALUE;
  return memcpy(map, &m, sizeof m), SUCCESS;
}

API cuTensorMapEncodeIm2col(void* map, int type, unsigned axes, void* base, const unsigned long long* extents, const unsigned long long* strides, const int* lower,
                            const int* upper, unsigned channels, unsigned pixels, const unsigned* steps, int interleave, int swizzle, int, int fill) {
  CALL;
  emulated_tensor_map m = {};
  if ((uintptr_t)map % 64 || axes != 4 || encode_tensor(m, type, axes, base, extents, strides, steps, interleave, swizzle, fill)) return INVALID_VALUE;
  for (int i = 0; i < 2; i++) {
    if (lower[i] < -128 || lower[i] > 127 || upper[i] < -128 || upper[i] > 127 || (int)extents[1 + i] + upper[i] <= lower[i]) return INVALID_VALUE;
    m.lower[i] = (short)lower[i], m.upper[i] = (short)upper[i];
  }
  if (channels > 256 || (int)channels * m.element_bytes != m.swizzle || !pixels || pixels > 1024) return INVALID_VALUE;
  m.pixels = 1, m.box[0] = channels, m.box[1] = pixels;
  return memcpy(map, &m, sizeof m), SUCCESS;
}

// fits says whether a kernel's parameters fit into 4 KiB, which each device and
// compiler gives them: each lies at a multiple of its size, up to that of pointers
// or, of tensor maps, to 64.
static bool fits(const emulated_kernel* k) {
  size_t at = 0;
  for (int i = 0; i < k->params; i++) {
    const size_t size = k->sizes[i], alignment = size >= 64 ? 64 : std::min<size_t>(size, 8);
    at = (at + alignment - 1) / alignment * alignment + size;
  }
  return at <= 4096 && k->params <= MAX_PARAMS;
}

// pack copies a kernel's arguments.
static std::vector<unsigned char> pack(const emulated_kernel* k, void** args) {
  std::vector<unsigned char> all;
  for (int i = 0; i < k->params; i++) {
    all.resize(place_of(all.size(), k->sizes[i]));
    all.insert(all.end(), (unsigned char*)args[i], (unsigned char*)args[i] + k->sizes[i]);
  }
  return all;
}

static int launch(handle h, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned shared, handle stream, void** args, bool early) {
  if (!h) return INVALID_HANDLE;
  Function* f = (Function*)h;
  unsigned long long threads = (unsigned long long)bx * by * bz;
  if (!gx || !gy || !gz || gx > 0x7fffffff || gy > 65535 || gz > 65535 || !threads || threads > MAX_THREADS || bz > 64) return INVALID_VALUE;
  if ((int)shared > f->dynamic_limit || !fits(f->kernel)) return INVALID_VALUE;
  Work w{Work::KERNEL};
  w.function = f, w.shared = shared, w.early = early, w.args = pack(f->kernel, args);
  if (w.args.size() > sizeof params_copy) return INVALID_VALUE;
  unsigned g[] = {gx, gy, gz}, b[] = {bx, by, bz};
  std::copy(g, g + 3, w.grid);
  std::copy(b, b + 3, w.block);
  return submit(stream, std::move(w));
}
API cuLaunchKernel(handle h, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned shared, handle stream,
                   void** args, void**) {
  CALL;
  return launch(h, gx, gy, gz, bx, by, bz, shared, stream, args, false);
}

// What precedes a kernel that is launched early has to be a kernel, which alone
// can let it begin.
static bool behind_kernel(Stream* s) {
  if (s->capture) return s->frontier.size() == 1 && s->capture->nodes->list[(size_t)s->frontier[0]].work.kind == Work::KERNEL;
  return s->queue.empty() || s->queue.back().kind == Work::KERNEL;
}
API cuLaunchKernelEx(const launch_config* c, handle h, void** args, void**) {
  CALL;
  enum { PROGRAMMATIC_STREAM_SERIALIZATION = 6 };
  bool early = false;
  for (unsigned i = 0; i < c->attributes; i++) {
    if ((uintptr_t)c->attribute % alignof(launch_attribute) || c->attribute[i].id != PROGRAMMATIC_STREAM_SERIALIZATION || opt_capability < 90) return INVALID_VALUE;
    early = c->attribute[i].value != 0;
  }
  if (early && !behind_kernel(stream_of(c->stream))) return INVALID_VALUE;
  return launch(h, c->grid[0], c->grid[1], c->grid[2], c->block[0], c->block[1], c->block[2], c->shared, c->stream, args, early);
}

API cuStreamCreate(handle* stream, unsigned) {
  CALL;
  Stream* s = new Stream;
  streams.insert(s);
  return *stream = (handle)s, SUCCESS;
}
// A stream's memory stays: events may still point to it.
API cuStreamDestroy_v2(handle stream) {
  CALL;
  if (!streams.count((Stream*)stream)) return INVALID_HANDLE;
  Result r = drain((Stream*)stream);
  streams.erase((Stream*)stream);
  return r;
}
API cuStreamSynchronize(handle stream) {
  CALL;
  Stream* s = stream_of(stream);
  return s->capture ? refuse(s) : drain(s);
}

API cuStreamBeginCapture_v2(handle stream, int) {
  CALL;
  Stream* s = stream_of(stream);
  if (s == default_stream || s->capture) return CAPTURE_UNSUPPORTED;
  s->capture = new Capture;
  s->capture->origin = s;
  s->frontier.clear();
  return SUCCESS;
}

// joined says whether all nodes precede the frontier.
static bool joined(const Nodes& g, std::vector<int> frontier) {
  std::set<int> seen;
  while (!frontier.empty()) {
    int i = frontier.back();
    frontier.pop_back();
    if (seen.insert(i).second) frontier.insert(frontier.end(), g.list[(size_t)i].after.begin(), g.list[(size_t)i].after.end());
  }
  return seen.size() == g.list.size();
}

API cuStreamEndCapture(handle stream, handle* out) {
  CALL;
  Stream* s = stream_of(stream);
  Capture* c = s->capture;
  if (!c || c->origin != s) return CAPTURE_UNMATCHED;
  bool whole = joined(*c->nodes, s->frontier);
  for (Stream* t : streams)
    if (t->capture == c) t->capture = nullptr, t->frontier.clear();
  if (c->invalid) return CAPTURE_INVALIDATED;
  if (!whole) return CAPTURE_UNJOINED;
  return *out = (handle) new Graph{c->nodes}, SUCCESS;  // the capture itself stays: events may still point to it
}

API cuGraphInstantiateWithFlags(handle* out, handle graph, unsigned long long) {
  CALL;
  note_nodes(*((Graph*)graph)->nodes);
  return *out = (handle) new Exec{std::make_shared<const Nodes>(*((Graph*)graph)->nodes)}, SUCCESS;
}
API cuGraphExecUpdate_v2(handle exec, handle graph, void*) {
  CALL;
  const auto &a = ((Exec*)exec)->nodes->list, &b = ((Graph*)graph)->nodes->list;
  bool same = a.size() == b.size();
  for (size_t i = 0; same && i < a.size(); i++)
    same = a[i].work.kind == b[i].work.kind && a[i].work.function == b[i].work.function && a[i].after == b[i].after;
  if (!same) return GRAPH_UPDATE_FAILED;
  ((Exec*)exec)->nodes = std::make_shared<const Nodes>(*((Graph*)graph)->nodes);
  return SUCCESS;
}
API cuGraphLaunch(handle exec, handle stream) {
  CALL;
  if (stream_of(stream)->capture) return refuse(stream_of(stream));
  Work w{Work::GRAPH};
  w.nodes = ((Exec*)exec)->nodes;
  return submit(stream, std::move(w));
}
API cuGraphDestroy(handle graph) {
  CALL;
  delete (Graph*)graph;
  return SUCCESS;
}
API cuGraphExecDestroy(handle exec) {
  CALL;
  delete (Exec*)exec;
  return SUCCESS;
}

API cuEventCreate(handle* event, unsigned) {
  CALL;
  return *event = (handle) new Event, SUCCESS;
}
API cuEventRecord(handle h, handle stream) {
  CALL;
  Event* e = (Event*)h;
  Stream* s = stream_of(stream);
  e->stream = nullptr;
  if ((e->capture = s->capture)) return e->frontier = s->frontier, SUCCESS;
  Work w{Work::RECORD};
  w.event = e;
  e->stream = s, e->position = s->submitted + 1;
  return submit(stream, std::move(w));
}
API cuStreamWaitEvent(handle stream, handle h, unsigned) {
  CALL;
  Event* e = (Event*)h;
  Stream* s = stream_of(stream);
  if (e->capture) {  // joins the capture, or one branch of it to another
    if (s->capture && s->capture != e->capture) return CAPTURE_ISOLATION;
    s->capture = e->capture;
    s->frontier.insert(s->frontier.end(), e->frontier.begin(), e->frontier.end());
    std::sort(s->frontier.begin(), s->frontier.end());
    s->frontier.erase(std::unique(s->frontier.begin(), s->frontier.end()), s->frontier.end());
    return SUCCESS;
  }
  if (s->capture) return CAPTURE_ISOLATION;
  if (!e->stream) return SUCCESS;  // never recorded
  Work w{Work::WAIT};
  w.stream = e->stream, w.position = e->position;
  return submit(stream, std::move(w));
}
API cuEventSynchronize(handle h) {
  CALL;
  Event* e = (Event*)h;
  if (e->capture) return CAPTURE_UNSUPPORTED;
  return e->stream ? drain(e->stream, e->position) : SUCCESS;
}
API cuEventElapsedTime(float* ms, handle from, handle to) {
  CALL;
  for (handle h : {from, to}) {
    Event* e = (Event*)h;
    if (!e->stream) return INVALID_HANDLE;
    if (e->stream->done < e->position) return NOT_READY;
  }
  return *ms = (float)(((Event*)to)->time - ((Event*)from)->time), SUCCESS;
}
// An event's record may still be queued: it stays until all work is done.
API cuEventDestroy_v2(handle h) {
  CALL;
  if (Result r = drain_all()) return r;
  delete (Event*)h;
  return SUCCESS;
}
