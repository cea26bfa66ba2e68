// The shadow of device and shared memory: for every two bytes, who wrote them and who read them last.
#include "tests/emulator/access.h"

#include <sys/mman.h>

#include <cstdio>
#include <cstdlib>

namespace emulator {

Position position;

namespace {

constexpr size_t kArenaBytes = size_t{16} << 30, kGrain = 2;

// Who and when, in one number: launch, block, interval, thread.
using Stamp = uint64_t;
constexpr int kThreadBits = 10, kIntervalBits = 14, kBlockBits = 18;
constexpr int kInBlock = kThreadBits + kIntervalBits;
static_assert(kMaxBlocks == int64_t{1} << kBlockBits);
constexpr Stamp kNever = 0, kHost = 1, kForbidden = ~Stamp{0};

struct alignas(32) Cell {
  // The last two readers that differ: enough within a block. And the last one of a block before the reader's.
  Stamp writer, reader, other_reader, reader_before;
};

Cell* cells() {
  static Cell* all = [] {
    const size_t bytes = kArenaBytes / kGrain * sizeof(Cell);
    void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) {
      std::perror("emulator: no address space for the shadow of device memory");
      std::abort();
    }
    return static_cast<Cell*>(memory);
  }();
  return all;
}

Stamp now() {
  if (!position.in_kernel) return kHost;
  if (position.interval >> kIntervalBits != 0) stop_launch("met more barriers than the emulator can count");
  Stamp stamp = position.launch;
  stamp = stamp << kBlockBits | position.block;
  stamp = stamp << kIntervalBits | position.interval;
  return stamp << kThreadBits | position.thread;
}

// Whether nothing orders two accesses: in one launch, nothing orders blocks, and only a barrier orders threads of a
// block.
bool unordered(Stamp earlier, Stamp later) {
  if (earlier == later || earlier <= kHost || later == kHost) return false;
  if (earlier >> (kInBlock + kBlockBits) != later >> (kInBlock + kBlockBits)) return false;  // another launch
  return earlier >> kInBlock != later >> kInBlock || earlier >> kThreadBits == later >> kThreadBits;
}

std::string who(Stamp stamp) {
  return "thread " + std::to_string(stamp & ((1 << kThreadBits) - 1)) + " of block " +
         std::to_string(stamp >> kInBlock & ((1 << kBlockBits) - 1));
}

[[noreturn]] void stop_race(const char* verb, Stamp earlier, const char* participle) {
  stop_launch(std::string(verb) + " what " + who(earlier) + " has " + participle + ", and nothing orders the two");
}

void check_read(Cell& cell, Stamp stamp) {
  if (cell.writer == kNever && position.in_kernel) stop_launch("read memory that nobody has written");
  if (unordered(cell.writer, stamp)) stop_race("read", cell.writer, "written");
  if (cell.reader == stamp) return;
  if (cell.reader >> kInBlock != stamp >> kInBlock) cell.reader_before = cell.reader;
  cell.other_reader = cell.reader;
  cell.reader = stamp;
}

void check_write(Cell& cell, Stamp stamp) {
  if (unordered(cell.writer, stamp)) stop_race("wrote", cell.writer, "written");
  for (const Stamp reader : {cell.reader, cell.other_reader, cell.reader_before}) {
    if (unordered(reader, stamp)) stop_race("wrote", reader, "read");
  }
  cell.writer = stamp;
}

template <typename Check>
void for_each_cell(const void* memory, size_t bytes, Check&& check) {
  const uintptr_t at = reinterpret_cast<uintptr_t>(memory) - arena().begin;
  if (bytes == 0 || at >= kArenaBytes) return;
  Cell* cell = cells() + at / kGrain;
  for (Cell* end = cells() + (at + bytes - 1) / kGrain + 1; cell < end; ++cell) check(*cell);
}

}  // namespace

void access(const void* memory, size_t bytes, bool write) {
  const Stamp stamp = now();
  const bool beyond = reinterpret_cast<uintptr_t>(memory) >= arena().next;
  for_each_cell(memory, bytes, [&](Cell& cell) {
    if (beyond || cell.writer == kForbidden) {
      const std::string did = (write ? "wrote to address " : "read address ") +
                              std::to_string(reinterpret_cast<uintptr_t>(memory)) + ", which is in no allocation";
      if (position.in_kernel) stop_launch(did);
      std::fprintf(stderr, "emulator: the host %s\n", did.c_str());
      std::abort();
    }
    write ? check_write(cell, stamp) : check_read(cell, stamp);
  });
}

Arena& arena() {
  static Arena all = [] {
    void* memory = mmap(nullptr, kArenaBytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) {
      std::perror("emulator: no address space for device memory");
      std::abort();
    }
    const uintptr_t begin = reinterpret_cast<uintptr_t>(memory);
    return Arena{begin, begin, begin + kArenaBytes};
  }();
  return all;
}

void mark_undefined(void* memory, size_t bytes) {
  for_each_cell(memory, bytes, [](Cell& cell) { cell = Cell{}; });
}

void mark_forbidden(void* memory, size_t bytes) {
  for_each_cell(memory, bytes, [](Cell& cell) { cell.writer = kForbidden; });
}

void forget(void* pages, size_t bytes) {
  const uintptr_t at = reinterpret_cast<uintptr_t>(pages) - arena().begin;
  madvise(cells() + at / kGrain, bytes / kGrain * sizeof(Cell), MADV_DONTNEED);
}

}  // namespace emulator

// What GCC calls with -fsanitize=thread and without tsan-instrument-func-entry-exit.
#define EMULATOR_ACCESS(bytes)              \
  void __tsan_read##bytes(void* memory) {   \
    emulator::access(memory, bytes, false); \
  }                                         \
  void __tsan_write##bytes(void* memory) {  \
    emulator::access(memory, bytes, true);  \
  }

extern "C" {
void __tsan_init() {}
void __tsan_read_range(void* memory, size_t bytes) {
  emulator::access(memory, bytes, false);
}
void __tsan_write_range(void* memory, size_t bytes) {
  emulator::access(memory, bytes, true);
}
EMULATOR_ACCESS(1)
EMULATOR_ACCESS(2)
EMULATOR_ACCESS(4)
EMULATOR_ACCESS(8)
EMULATOR_ACCESS(16)
}
