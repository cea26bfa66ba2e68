// Where a gate's weights stand, known at compile time; and a loop over gates whose index is known then, too.
#pragma once

#include <utility>

#include "csrc/cells/cells.h"
#include "csrc/cuda/launch.h"

namespace fused_rnn::cuda {

// Calls f(integral_constant) for 0 .. kCount - 1.
template <typename F, int... kIndex>
__device__ __forceinline__ void for_each_index(F&& f, std::integer_sequence<int, kIndex...>) {
  (f(std::integral_constant<int, kIndex>{}), ...);
}

template <int kCount, typename F>
__device__ __forceinline__ void for_each_index(F&& f) {
  for_each_index(f, std::make_integer_sequence<int, kCount>{});
}

// Where the columns of a gate stand: in which kernel, and behind how many other gates there.
template <typename CellType>
__host__ __device__ constexpr int kernel_of(int gate) {
  int kernel = 0;
  while (gate >= CellType::kInfo.kernel_gates[kernel]) gate -= CellType::kInfo.kernel_gates[kernel++];
  return kernel;
}

template <typename CellType>
__host__ __device__ constexpr int place_of(int gate) {
  for (int kernel = 0; gate >= CellType::kInfo.kernel_gates[kernel]; ++kernel) {
    gate -= CellType::kInfo.kernel_gates[kernel];
  }
  return gate;
}

}  // namespace fused_rnn::cuda
