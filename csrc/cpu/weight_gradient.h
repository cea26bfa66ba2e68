// Weight gradients: products over all (step, row) pairs of the call, left^T . d_z, blocked so that each operand is
// packed once into the caches and the sums are complete before they are stored.
#pragma once

#include "csrc/cpu/pack.h"

namespace fused_rnn::FUSED_RNN_TARGET {

// The gradient of the rows of one kernel that meet one left operand, for one gate:
//   out[m, n] = sum over pairs of left[pair][m] * d_z[pair, n]  for m in [0, M), n in [0, N)
template <typename S>
struct WeightGradient {
  const S* const* left = nullptr;          // [pairs] rows of M values, or
  const Compute<S>* left_array = nullptr;  // [pairs, left_stride], where left is null
  int64_t left_stride = 0;
  const Compute<S>* d_z;  // [pairs, d_z_stride], from the gate's column on; a multiple of kPanel wide
  int64_t d_z_stride;
  int64_t pairs, M, N;
  S* out;  // [M, out_stride]
  int64_t out_stride;
};

// The rows of the result that one task computes: few enough that they stay in a second-level cache while all pairs go
// by.
constexpr int64_t kGradientRows = 32 * kTileRows;

template <typename S>
int64_t weight_gradient_tasks(const WeightGradient<S>& g) {
  return divide_up(g.M, kGradientRows);
}

// What one thread needs to compute a task.
template <typename T>
struct WeightGradientScratch {
  T* left;  // [kGradientRows / kTileRows, kDepth, kTileRows]
  T* d_z;   // [kDepth, kPanel]
  T* sum;   // [kGradientRows, H_]

  static constexpr int64_t size(int64_t H_) { return (kGradientRows + kPanel<T>)*kDepth + kGradientRows * H_; }
  explicit WeightGradientScratch(T* memory)
      : left(memory), d_z(left + kGradientRows * kDepth), sum(d_z + kPanel<T> * kDepth) {}
};

// to [rows / kTileRows, depth, kTileRows] = columns [m, m + rows) of the left operand of pairs [pair, pair + depth);
// zeros past `rows`.
template <typename S>
void pack_left(const WeightGradient<S>& g, int64_t pair, int64_t depth, int64_t m, int64_t rows, Compute<S>* to) {
  for (int64_t k = 0; k < depth; ++k) {
    const auto copy = [&](const auto* from) {
      int64_t row = 0;
      for (; row + kTileRows <= rows; row += kTileRows) {
        Compute<S>* at = to + row * depth + k * kTileRows;
        load_row(from + row, at, kTileRows, kTileRows);
      }
      if (row < rows) load_row(from + row, to + row * depth + k * kTileRows, rows - row, kTileRows);
    };
    if (g.left != nullptr) {
      copy(g.left[pair + k] + m);
    } else {
      copy(g.left_array + (pair + k) * g.left_stride + m);
    }
  }
}

template <typename S>
void weight_gradient_task(const WeightGradient<S>& g, int64_t task, const WeightGradientScratch<Compute<S>>& scratch) {
  using T = Compute<S>;
  const int64_t tasks = weight_gradient_tasks(g), share = round_up(divide_up(g.M, tasks), kTileRows);
  const int64_t m0 = smaller(g.M, task * share), rows = smaller(share, g.M - m0);
  const int64_t scratch_stride = round_up(g.N, kPanel<T>);
  S* out = g.out + m0 * g.out_stride;
  static constexpr T kZeros[kPanel<T>] = {};
  // With few pairs the results are written faster than memory gives their lines: they are asked for some tiles ahead.
  constexpr int64_t kAhead = 4 * kTileRows;
  for (int64_t pair = 0; pair == 0 || pair < g.pairs; pair += kDepth) {
    const int64_t depth = smaller(kDepth, g.pairs - pair);
    pack_left(g, pair, depth, m0, rows, scratch.left);
    for (int64_t column = 0; column < g.N; column += kPanel<T>) {
      const T* from = g.d_z + pair * g.d_z_stride + column;
      for (int64_t k = 0; k < depth; ++k) {
        load_row(from + k * g.d_z_stride, scratch.d_z + k * kPanel<T>, kPanel<T>, kPanel<T>);
      }
      // Sums that one block completes go where they belong; long ones gather in the scratch memory, whose rows do not
      // fall on one another in the caches.
      T* sum = scratch.sum + column;
      int64_t stride = scratch_stride;
      if constexpr (std::is_same_v<S, T>) {
        if (g.pairs <= kDepth && column + kPanel<T> <= g.N) sum = out + column, stride = g.out_stride;
      }
      for (int64_t m = 0; m < rows; m += kTileRows) {
        T* at = sum + m * stride;
        for (int64_t row = m + kAhead; row < smaller(rows, m + kAhead + kTileRows); ++row) {
          for (int n = 0; n < kPanel<T>; n += 64 / sizeof(T)) __builtin_prefetch(sum + row * stride + n, 1);
        }
        tile_rows<kTileVectors>(static_cast<int>(smaller(kTileRows, rows - m)), depth,
                                Left<T>{scratch.left + m * depth, 1, kTileRows}, Packed<T, kTileVectors>{scratch.d_z},
                                pair == 0 ? kZeros : at, pair == 0 ? 0 : stride, at, stride);
      }
      if (pair + kDepth < g.pairs || sum != scratch.sum + column) continue;
      for (int64_t m = 0; m < rows; ++m) {
        store_row(sum + m * stride, out + m * g.out_stride + column, smaller(kPanel<T>, g.N - column), kPanel<T>);
      }
    }
  }
}

}  // namespace fused_rnn::FUSED_RNN_TARGET
