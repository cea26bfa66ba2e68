// Weight gradients: products over all (step, row) pairs of the call, left^T . d_z, blocked so that each operand is
// packed once into the caches and the sums are complete before they are stored.
#pragma once

#include "csrc/cpu/pack.h"

namespace fused_rnn::FUSED_RNN_TARGET {

// The gradient of the rows of one kernel that meet one left operand, for one gate:
//   out[m, n] = sum over pairs of left[pair][m] * d_z[pair, n]  for m in [0, M), n in [0, N)
template <typename S>
struct WeightGradient {
  const S* const* left;          // [pairs] rows of M values, or
  const Compute<S>* left_array;  // [pairs, left_stride], where left is null
  int64_t left_stride;
  const Compute<S>* d_z;  // [pairs, d_z_stride], from the gate's column on; kPanel-wide reads stay inside
  int64_t d_z_stride;
  int64_t pairs, M, N;
  S* out;  // [M, out_stride]
  int64_t out_stride;
};

constexpr int64_t kGradientRows = 32 * kTileRows;

template <typename T>
constexpr int64_t kGradientColumns = 4 * kPanel<T>;

template <typename S>
int64_t weight_gradient_tasks(const WeightGradient<S>& g) {
  return divide_up(g.M, kGradientRows) * divide_up(g.N, kGradientColumns<Compute<S>>);
}

// What one thread needs to compute a task.
template <typename T>
struct WeightGradientScratch {
  T* left;  // [kGradientRows / kTileRows, kDepth, kTileRows]
  T* d_z;   // [kGradientColumns / kPanel, kDepth, kPanel]
  T* sum;   // [kGradientRows, kGradientColumns]

  static constexpr int64_t kSize =
      kGradientRows * kDepth + kGradientColumns<T> * kDepth + kGradientRows * kGradientColumns<T>;
  explicit WeightGradientScratch(T* memory)
      : left(memory), d_z(left + kGradientRows * kDepth), sum(d_z + kGradientColumns<T> * kDepth) {}
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
  const int64_t column_blocks = divide_up(g.N, kGradientColumns<T>);
  const int64_t m0 = task / column_blocks * kGradientRows, n0 = task % column_blocks * kGradientColumns<T>;
  const int64_t rows = smaller(kGradientRows, g.M - m0), columns = smaller(kGradientColumns<T>, g.N - n0);
  const int64_t panels = divide_up(columns, kPanel<T>), stride = panels * kPanel<T>;
  memset(scratch.sum, 0, round_up(rows, kTileRows) * stride * sizeof(T));
  for (int64_t pair = 0; pair < g.pairs; pair += kDepth) {
    const int64_t depth = smaller(kDepth, g.pairs - pair);
    pack_left(g, pair, depth, m0, rows, scratch.left);
    for (int64_t panel = 0; panel < panels; ++panel) {
      T* right = scratch.d_z + panel * kDepth * kPanel<T>;
      const T* from = g.d_z + pair * g.d_z_stride + n0 + panel * kPanel<T>;
      for (int64_t k = 0; k < depth; ++k) {
        load_row(from + k * g.d_z_stride, right + k * kPanel<T>, kPanel<T>, kPanel<T>);
      }
    }
    for (int64_t panel = 0; panel < panels; ++panel) {
      const Packed<T, kTileVectors> right{scratch.d_z + panel * kDepth * kPanel<T>};
      for (int64_t m = 0; m < rows; m += kTileRows) {
        T* sum = scratch.sum + m * stride + panel * kPanel<T>;
        tile<kTileRows, kTileVectors>(depth, Left<T>{scratch.left + m * depth, 1, kTileRows}, right, sum, stride, sum,
                                      stride);
      }
    }
  }
  for (int64_t m = 0; m < rows; ++m) {
    store_row(scratch.sum + m * stride, g.out + (m0 + m) * g.out_stride + n0, columns);
  }
}

}  // namespace fused_rnn::FUSED_RNN_TARGET
