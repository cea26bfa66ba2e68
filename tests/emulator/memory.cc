// Memory that ends where an unmapped page begins, and the functions of the CUDA runtime that handle memory.
#include "tests/emulator/memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <map>

#include "tests/emulator/emulator.h"

namespace emulator {
namespace {

constexpr size_t kAlignment = 64;

struct Allocation {
  char* pages;
  size_t mapped, bytes;
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
  void* pages = mmap(nullptr, mapped + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (pages == MAP_FAILED) return nullptr;
  char* first = static_cast<char*>(pages);
  mprotect(first + mapped, page, PROT_NONE);
  std::memset(first, 0xff, mapped);
  void* memory = first + mapped - used;
  allocations()[memory] = {first, mapped + page, bytes};
  return memory;
}

void free_guarded(void* memory) {
  const auto found = allocations().find(memory);
  if (found == allocations().end()) return;
  munmap(found->second.pages, found->second.mapped);
  allocations().erase(found);
}

bool guards_intact() {
  bool intact = true;
  for (const auto& [memory, allocation] : allocations()) {
    const char* first = static_cast<char*>(memory);
    for (const char* at = allocation.pages; at < first; ++at) intact &= *at == '\xff';
    const char* end = first + round_up(allocation.bytes == 0 ? 1 : allocation.bytes, kAlignment);
    for (const char* at = first + allocation.bytes; at < end; ++at) intact &= *at == '\xff';
  }
  return intact;
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
  if (bytes > 0) std::memcpy(to, from, bytes);
  return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, cudaStream_t) {
  return cudaMemcpy(to, from, bytes, kind);
}

cudaError_t cudaMemsetAsync(void* memory, int value, size_t bytes, cudaStream_t) {
  if (bytes > 0) std::memset(memory, value, bytes);
  return cudaSuccess;
}
