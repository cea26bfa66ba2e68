// Weight gradients: products over all (step, row) pairs of the call, left^T . d_z, blocked so that each operand is
// packed once into the caches and the sums are complete before they are stored.
#pragma once

#include "csrc/cpu/pack.h"

namespace fused_rnn::FUSED_RNN_TARGET {

// A left operand: M values of each pair.
template <typename S>
struct GradientLeft {
  const S* const* rows = nullptr;     // [pairs], or
  const Compute<S>* array = nullptr;  // [pairs, stride], where rows is null
  int64_t stride = 0, M = 0;

  int64_t tiles() const { return divide_up(M, kTileRows); }
};

// The gradient of one kernel's rows of x and of h, or of some of both, for some gates side by side:
//   out[m, gate * N + n] = sum over pairs of left[pair][m] * d_z[pair, gate * N_ + n]  for n in [0, N),
// where the rows m of the first left operand come before those of the second.
template <typename S>
struct WeightGradient {
  GradientLeft<S> left[2];
  const Compute<S>* d_z;  // [pairs, d_z_stride], from the first gate's column on; N_ is N in whole vectors
  int64_t d_z_stride;
  int64_t pairs, N;
  int gates;
  int64_t threads;  // that share the tasks
  S* out;           // [left[0].M + left[1].M, out_stride]
  int64_t out_stride;

  int64_t tiles() const { return left[0].tiles() + left[1].tiles(); }
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
  constexpr int64_t kFewTiles = 8;
  return larger(divide_up(g.tiles(), kGradientRows / kTileRows),
                smaller(2 * g.threads, divide_up(g.tiles(), kFewTiles)));
}

// What one thread needs to compute a task.
template <typename T>
struct WeightGradientScratch {
  T* left;  // [kGradientRows / kTileRows, kDepth, kTileRows]
  T* d_z;   // [kDepth, width]
  T* sum;   // [kGradientRows, width]

  // width: of the gates of one job.
  static constexpr int64_t size(int64_t width) { return kGradientRows * kDepth + (kDepth + kGradientRows) * width; }
  WeightGradientScratch(T* memory, int64_t width)
      : left(memory), d_z(left + kGradientRows * kDepth), sum(d_z + kDepth * width) {}
};

// Calls f(tile, left, m, rows) for each tile of kTileRows rows in [begin, end): those from m on of that left operand.
template <typename S, typename F>
void each_gradient_tile(const WeightGradient<S>& g, int64_t begin, int64_t end, F&& f) {
  for (int64_t tile = begin; tile < end; ++tile) {
    const int i = tile < g.left[0].tiles() ? 0 : 1;
    const int64_t m = (tile - (i == 0 ? 0 : g.left[0].tiles())) * kTileRows;
    f(tile - begin, i, m, smaller(kTileRows, g.left[i].M - m));
  }
}

// to [end - begin, depth, kTileRows] = the tiles [begin, end) of the left operands of pairs [pair, pair + depth).
template <typename S>
void pack_left(const WeightGradient<S>& g, int64_t pair, int64_t depth, int64_t begin, int64_t end, Compute<S>* to) {
  for (int64_t k = 0; k < depth; ++k) {
    each_gradient_tile(g, begin, end, [&](int64_t tile, int i, int64_t m, int64_t rows) {
      const GradientLeft<S>& left = g.left[i];
      Compute<S>* at = to + tile * kTileRows * depth + k * kTileRows;
      if (left.rows != nullptr) {
        load_row(left.rows[pair + k] + m, at, rows, kTileRows);
      } else {
        load_row(left.array + (pair + k) * left.stride + m, at, rows, kTileRows);
      }
    });
  }
}

// to [panels, depth, their width] = d_z of pairs [pair, pair + depth), `width` columns: along its rows, which is how
// memory gives the most.
template <typename S>
void pack_d_z(const WeightGradient<S>& g, int64_t pair, int64_t depth, int64_t width, Compute<S>* to) {
  using T = Compute<S>;
  for (int64_t k = 0; k < depth; ++k) {
    const T* from = g.d_z + (pair + k) * g.d_z_stride;
    for (int64_t column = 0; column < width; column += kPanel<T>) {
      const int64_t columns = smaller(kPanel<T>, width - column);
      load_row(from + column, to + column * depth + k * columns, columns, columns == kPanel<T> ? kPanel<T> : columns);
    }
  }
}

template <typename S>
void weight_gradient_task(const WeightGradient<S>& g, int64_t task, const WeightGradientScratch<Compute<S>>& scratch) {
  using T = Compute<S>;
  const int64_t share = divide_up(g.tiles(), weight_gradient_tasks(g));
  const int64_t begin = smaller(g.tiles(), task * share), end = smaller(g.tiles(), begin + share);
  const int64_t N_ = round_up(g.N, kLanes<T>), scratch_stride = g.gates * N_;
  static constexpr T kZeros[kPanel<T>] = {};
  for (int64_t pair = 0; pair == 0 || pair < g.pairs; pair += kDepth) {
    const int64_t depth = smaller(kDepth, g.pairs - pair);
    pack_left(g, pair, depth, begin, end, scratch.left);
    pack_d_z(g, pair, depth, scratch_stride, scratch.d_z);
    for (int64_t column = 0; column < scratch_stride; column += kPanel<T>) {
      with_vectors<T>(smaller(kPanel<T>, scratch_stride - column), [&](auto vectors) {
        each_gradient_tile(g, begin, end, [&](int64_t tile, int, int64_t, int64_t rows) {
          T* at = scratch.sum + column + tile * kTileRows * scratch_stride;
          tile_rows<vectors>(static_cast<int>(rows), depth,
                             Left<T>{scratch.left + tile * kTileRows * depth, 1, kTileRows},
                             Packed<T, vectors>{scratch.d_z + column * depth}, pair == 0 ? kZeros : at,
                             pair == 0 ? 0 : scratch_stride, at, scratch_stride);
        });
      });
    }
  }
  each_gradient_tile(g, begin, end, [&](int64_t tile, int i, int64_t m, int64_t rows) {
    for (int64_t row = 0; row < rows; ++row) {
      const T* sum = scratch.sum + (tile * kTileRows + row) * scratch_stride;
      S* out = g.out + ((i == 0 ? 0 : g.left[0].M) + m + row) * g.out_stride;
      for (int gate = 0; gate < g.gates; ++gate) store_row(sum + gate * N_, out + gate * g.N, g.N);
    }
  });
}

}  // namespace fused_rnn::FUSED_RNN_TARGET
