// What every load and store of a kernel is checked for. The kernels are compiled with -fsanitize=thread, which puts a
// call before each access to memory; access.cc answers those calls in the place of that sanitizer's own library. Memory
// that is neither device nor shared memory is not looked at.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "tests/emulator/order.h"

namespace emulator {

constexpr int64_t kMaxBlocks = 1 << 18;   // of a launch
constexpr int kMaxCooperativeBlocks = 4;  // one for each processor

// The address space that allocations are taken from.
struct Arena {
  uintptr_t begin = 0, next = 0, end = 0;
};
// Reserves it, once.
Arena& arena();

// One access, of the thread that runs or of the host; as_flag: by an instruction for flags, which are no race.
void access(const void* memory, size_t bytes, bool write, bool as_flag = false);

// Memory that holds no value yet, whatever its bytes are; memory that is nobody's to touch.
void mark_undefined(void* memory, size_t bytes);
void mark_forbidden(void* memory, size_t bytes);
// Gives back what is kept about whole pages of memory that nobody will use again.
void forget(void* pages, size_t bytes);

// Ends the launch with an error that says this of the thread that runs.
[[noreturn]] void stop_launch(const std::string& did);

}  // namespace emulator
