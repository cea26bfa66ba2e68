// Memory that ends where an unmapped page begins, so that an access past its end faults.
#pragma once

#include <cstddef>

namespace emulator {

// Of at least `bytes` bytes, all 0xff (as floating point: NaN), aligned to 64; null where the system has none.
void* allocate_guarded(size_t bytes);
void free_guarded(void* memory);
// Whether all that lies between allocations and their pages' bounds is as it was.
bool guards_intact();

}  // namespace emulator
