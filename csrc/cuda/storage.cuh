// The types that tensors are stored in and the ones that are computed in; host and device code.
#pragma once

#include <type_traits>

#include "csrc/cells/cell.h"
#include "csrc/cuda/launch.h"

namespace fused_rnn::cuda {

// S is a storage type (float, double, __half, __nv_bfloat16); Compute<S> is the type of its sums and states.
template <typename S>
using Compute = std::conditional_t<std::is_same_v<S, double>, double, float>;

FUSED_RNN_FN float to_compute(float value) {
  return value;
}
FUSED_RNN_FN double to_compute(double value) {
  return value;
}
FUSED_RNN_FN float to_compute(__half value) {
  return __half2float(value);
}
FUSED_RNN_FN float to_compute(__nv_bfloat16 value) {
  return __bfloat162float(value);
}

template <typename S>
FUSED_RNN_FN S to_storage(Compute<S> value) {
  if constexpr (std::is_same_v<S, __half>) {
    return __float2half_rn(value);
  } else if constexpr (std::is_same_v<S, __nv_bfloat16>) {
    return __float2bfloat16_rn(value);
  } else {
    return value;
  }
}

// A state between two steps: unrounded in workspace, or in the storage type where it comes from the caller.
template <typename S>
struct State {
  const void* data;  // [B, H]
  bool rounded;      // of type S; else of type Compute<S>

  FUSED_RNN_FN Compute<S> operator[](int64_t index) const {
    return rounded ? to_compute(static_cast<const S*>(data)[index]) : static_cast<const Compute<S>*>(data)[index];
  }
};

// The rows of the batch: how long each is, and in which direction it runs.
struct Rows {
  int64_t T, B;
  const int64_t* lengths;  // [B], on the device; null: every row has T steps
  bool reverse;

  FUSED_RNN_FN int64_t length(int64_t b) const { return lengths == nullptr ? T : lengths[b]; }
  // Whether loop step `step` of row b exists, and which time index it stands at if it does.
  FUSED_RNN_FN bool live(int64_t b, int64_t step) const { return step < length(b); }
  FUSED_RNN_FN int64_t time(int64_t b, int64_t step) const { return reverse ? length(b) - 1 - step : step; }
};

}  // namespace fused_rnn::cuda
