// Device memory, and the functions of the CUDA runtime that handle it.
#include "tests/emulator/memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <map>

#include "tests/emulator/access.h"
#include "tests/emulator/emulator.h"

namespace emulator {
namespace {

constexpr size_t kAlignment = 64;

struct Allocation {
  char* pages;
  size_t bytes;
};

std::map<void*, Allocation>& allocations() {
  static std::map<void*, Allocation> all;
  return all;
}

size_t round_up(size_t bytes, size_t to) {
  return (bytes + to - 1) / to * to;
}

}  // namespace

void* allocate_guarded(size_t bytes) {
  const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  const size_t used = round_up(bytes == 0 ? 1 : bytes, kAlignment), mapped = round_up(used, page);
  Arena& all = arena();
  if (mapped + page > all.end - all.next) return nullptr;
  char* first = reinterpret_cast<char*>(all.next);
  if (mprotect(first, mapped, PROT_READ | PROT_WRITE) != 0) return nullptr;
  all.next += mapped + page;
  std::memset(first, 0xff, mapped);
  char* memory = first + mapped - used;
  mark_forbidden(first, memory - first);
  const size_t defined = round_up(bytes, 2);  // values have two bytes at least
  mark_forbidden(memory + defined, used - defined + page);
  allocations()[memory] = {first, mapped + page};
  return memory;
}

void free_guarded(void* memory) {
  const auto found = allocations().find(memory);
  if (found == allocations().end()) return;
  forget(found->second.pages, found->second.bytes);
  madvise(found->second.pages, found->second.bytes, MADV_DONTNEED);
  mprotect(found->second.pages, found->second.bytes, PROT_NONE);
  const uintptr_t begin = reinterpret_cast<uintptr_t>(found->second.pages);
  if (begin + found->second.bytes == arena().next) arena().next = begin;  // as shared memory is, at a launch's end
  allocations().erase(found);
}

}  // namespace emulator

cudaError_t cudaMalloc(void** memory, size_t bytes) {
  *memory = emulator::allocate_guarded(bytes);
  return *memory == nullptr ? cudaErrorMemoryAllocation : cudaSuccess;
}

cudaError_t cudaFree(void* memory) {
  emulator::free_guarded(memory);
  return cudaSuccess;
}

cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind) {
  emulator::access(from, bytes, false);
  emulator::access(to, bytes, true);
  if (bytes > 0) std::memcpy(to, from, bytes);
  return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, cudaStream_t) {
  return cudaMemcpy(to, from, bytes, kind);
}

cudaError_t cudaMemsetAsync(void* memory, int value, size_t bytes, cudaStream_t) {
  emulator::access(memory, bytes, true);
  if (bytes > 0) std::memset(memory, value, bytes);
  return cudaSuccess;
}
