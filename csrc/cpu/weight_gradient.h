// Weight gradients: products over all (step, row) pairs of the call, left^T . d_z, blocked so that each operand is
// packed once into the caches and the sums are complete before they are stored.
#pragma once

#include "csrc/cpu/pack.h"

namespace fused_rnn::FUSED_RNN_TARGET {

// The gradient of the rows of one kernel that meet one left operand, for some gates side by side:
//   out[m, gate * N + n] = sum over pairs of left[pair][m] * d_z[pair, gate * N_ + n]  for m in [0, M), n in [0, N)
template <typename S>
struct WeightGradient {
  const S* const* left = nullptr;          // [pairs] rows of M values, or
  const Compute<S>* left_array = nullptr;  // [pairs, left_stride], where left is null
  int64_t left_stride = 0;
  const Compute<S>* d_z;  // [pairs, d_z_stride], from the first gate's column on; N_ is N in whole vectors
  int64_t d_z_stride;
  int64_t pairs, M, N;
  int gates;
  int64_t threads;  // that share the tasks
  S* out;           // [M, out_stride]
  int64_t out_stride;
};

// The most rows of the result that one task computes: few enough that they stay in a second-level cache while all pairs
// go by.
constexpr int64_t kGradientRows = 32 * kTileRows;

// The gates of one job, for the same reason; more than one saves packing the left operand for each.
template <typename T>
int gates_together(int gates, int64_t N_) {
  constexpr int64_t kSumBytes = 512 * 1024;
  return static_cast<int>(
      smaller(gates, larger(1, kSumBytes / (kGradientRows * N_ * static_cast<int64_t>(sizeof(T))))));
}

template <typename S>
int64_t weight_gradient_tasks(const WeightGradient<S>& g) {
  // Some for each thread, unless they would be so small that the packing of d_z shows.
  constexpr int64_t kFewRows = 8 * kTileRows;
  return larger(divide_up(g.M, kGradientRows), smaller(2 * g.threads, divide_up(g.M, kFewRows)));
}

// What one thread needs to compute a task.
template <typename T>
struct WeightGradientScratch {
  T* left;  // [kGradientRows / kTileRows, kDepth, kTileRows]
  T* d_z;   // [kDepth, kPanel]
  T* sum;   // [kGradientRows, width]

  // width: of the gates of one job.
  static constexpr int64_t size(int64_t width) { return (kGradientRows + kPanel<T>)*kDepth + kGradientRows * width; }
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
  const int64_t N_ = round_up(g.N, kLanes<T>), scratch_stride = g.gates * N_;
  static constexpr T kZeros[kPanel<T>] = {};
  for (int64_t pair = 0; pair == 0 || pair < g.pairs; pair += kDepth) {
    const int64_t depth = smaller(kDepth, g.pairs - pair);
    pack_left(g, pair, depth, m0, rows, scratch.left);
    for (int64_t column = 0; column < scratch_stride; column += kPanel<T>) {
      with_vectors<T>(smaller(kPanel<T>, scratch_stride - column), [&](auto vectors) {
        constexpr int64_t kWidth = vectors * kLanes<T>;
        const T* from = g.d_z + pair * g.d_z_stride + column;
        for (int64_t k = 0; k < depth; ++k) {
          load_row(from + k * g.d_z_stride, scratch.d_z + k * kWidth, kWidth, kWidth);
        }
        for (int64_t m = 0; m < rows; m += kTileRows) {
          T* at = scratch.sum + column + m * scratch_stride;
          tile_rows<vectors>(static_cast<int>(smaller(kTileRows, rows - m)), depth,
                             Left<T>{scratch.left + m * depth, 1, kTileRows}, Packed<T, vectors>{scratch.d_z},
                             pair == 0 ? kZeros : at, pair == 0 ? 0 : scratch_stride, at, scratch_stride);
        }
      });
    }
  }
  for (int64_t m = 0; m < rows; ++m) {
    for (int gate = 0; gate < g.gates; ++gate) {
      store_row(scratch.sum + m * scratch_stride + gate * N_, g.out + (m0 + m) * g.out_stride + gate * g.N, g.N);
    }
  }
}

}  // namespace fused_rnn::FUSED_RNN_TARGET
