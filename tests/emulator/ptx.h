// Stands in for the inline PTX of csrc/cuda/ptx.cuh, which says what each of these does.
#pragma once

#include <cstdint>

#include "tests/emulator/emulator.h"

namespace emulator {

// Both are of cooperative launches only: in another, the block that is waited for may not be there. A thread that spins
// on a flag lets others run.
unsigned load_acquire(const unsigned* flag);
void store_release(unsigned* flag, unsigned value);

float round_to_tf32(float value);

// A lane's share of sums [16, 8] += a [16, kDepth] . b [kDepth, 8], in the fragments that PTX describes.
template <typename Factor>
struct Fragments {
  float (&sums)[4];
  const uint32_t (&a)[4];
  const uint32_t (&b)[2];
};
struct Tf32Factor {};
// Factor: __half, __nv_bfloat16, Tf32Factor.
template <typename Factor>
void multiply_accumulate(Fragments<Factor> fragments);

}  // namespace emulator
