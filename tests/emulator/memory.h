// Device and shared memory.
#pragma once

#include <cstddef>

namespace emulator {

// `bytes` bytes, undefined and all 0xff (as floating point: NaN), aligned to 64; null where the system has none. What
// lies around them is forbidden.
void* allocate_guarded(size_t bytes);
void free_guarded(void* memory);

}  // namespace emulator
