// The shadow of device and shared memory: for every two bytes, who wrote them and who read them last.
#include "tests/emulator/access.h"

#include <sys/mman.h>

#include <cstdio>
#include <cstdlib>

#include "tests/emulator/scheduler.h"

namespace emulator {

namespace {

constexpr size_t kArenaBytes = size_t{16} << 30, kGrain = 2;

// Of the readers of one block, the last, and another one that the last is not ordered after, of another warp if there
// is one: then no access can come after all readers that are left out and yet after both of these, as long as threads
// of a block meet only at barriers and in their warps.
using Readers = Stamp[2];

struct alignas(32) Cell {
  Stamp writer;
  Readers readers;      // in an ordinary launch, of the block that read last
  Stamp reader_before;  // in an ordinary launch, of a block before that one
};

// For cooperative launches, of which many blocks may read before one writes.
struct BlocksReaders {
  Readers of[kMaxCooperativeBlocks];
};

// One Kept for each grain of the arena. Of this address space only what is touched takes memory.
template <typename Kept>
Kept* shadow() {
  static Kept* all = [] {
    const size_t bytes = kArenaBytes / kGrain * sizeof(Kept);
    void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) {
      std::perror("emulator: no address space for the shadow of device memory");
      std::abort();
    }
    return static_cast<Kept*>(memory);
  }();
  return all;
}

BlocksReaders& blocks_readers(const Cell& cell) {
  return shadow<BlocksReaders>()[&cell - shadow<Cell>()];
}

[[noreturn]] void stop_race(const char* verb, Stamp earlier, const char* participle) {
  stop_launch(std::string(verb) + " what " + who(earlier) + " has " + participle + ", and nothing orders the two");
}

void add_reader(Readers& readers, Stamp stamp) {
  if (readers[0] == stamp || readers[1] == stamp) return;
  const bool second = unordered(readers[0], stamp) && (!unordered(readers[1], stamp) || same_warp(readers[1], stamp));
  readers[second] = stamp;
}

void check_read(Cell& cell, Stamp stamp) {
  if (cell.writer == kNever && running != nullptr) stop_launch("read memory that nobody has written");
  if (unordered(cell.writer, stamp)) stop_race("read", cell.writer, "written");
  if (running == nullptr) return;
  if (group.cooperative) {
    add_reader(blocks_readers(cell).of[running->block], stamp);
    return;
  }
  if (unordered(cell.readers[0], stamp) && block_in_group(cell.readers[0]) >= group.blocks) {
    cell.reader_before = cell.readers[0];
    cell.readers[0] = cell.readers[1] = kNever;
  }
  add_reader(cell.readers, stamp);
}

void check_readers(const Stamp* readers, int count, Stamp stamp) {
  for (int i = 0; i < count; ++i) {
    if (unordered(readers[i], stamp)) stop_race("wrote", readers[i], "read");
  }
}

void check_write(Cell& cell, Stamp stamp) {
  if (unordered(cell.writer, stamp)) stop_race("wrote", cell.writer, "written");
  if (running != nullptr && group.cooperative) {
    for (const Readers& readers : blocks_readers(cell).of) check_readers(readers, 2, stamp);
  } else {
    check_readers(cell.readers, 2, stamp);
    check_readers(&cell.reader_before, 1, stamp);
  }
  cell.writer = stamp;
}

template <typename Check>
void for_each_cell(const void* memory, size_t bytes, Check&& check) {
  const uintptr_t at = reinterpret_cast<uintptr_t>(memory) - arena().begin;
  if (bytes == 0 || at >= kArenaBytes) return;
  Cell* cell = shadow<Cell>() + at / kGrain;
  for (Cell* end = shadow<Cell>() + (at + bytes - 1) / kGrain + 1; cell < end; ++cell) check(*cell);
}

}  // namespace

void access(const void* memory, size_t bytes, bool write, bool as_flag) {
  if (running != nullptr && group.cooperative) give_way();
  const Stamp stamp = running == nullptr ? kHost : running->stamp | (as_flag ? kFlag : 0);
  const bool beyond = reinterpret_cast<uintptr_t>(memory) >= arena().next;
  for_each_cell(memory, bytes, [&](Cell& cell) {
    if (beyond || cell.writer == kForbidden) {
      const std::string did = (write ? "wrote to address " : "read address ") +
                              std::to_string(reinterpret_cast<uintptr_t>(memory)) + ", which is in no allocation";
      if (running != nullptr) stop_launch(did);
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
  madvise(shadow<Cell>() + at / kGrain, bytes / kGrain * sizeof(Cell), MADV_DONTNEED);
  madvise(shadow<BlocksReaders>() + at / kGrain, bytes / kGrain * sizeof(BlocksReaders), MADV_DONTNEED);
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
