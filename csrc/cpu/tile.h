// The micro-kernels: small dense products whose results stay in registers until they are complete.
#pragma once

#include <utility>

#include "csrc/cpu/vector.h"

namespace fused_rnn::FUSED_RNN_TARGET {

// The right operand of a tile, packed: V vectors a row, row after row.
template <typename T, int V>
struct Packed {
  static constexpr int kVectors = V;
  static constexpr bool kIsPacked = true;
  const T* data;  // [K, V * lanes]
  FUSED_RNN_FN Packed from(int64_t k) const { return {data + k * V * kLanes<T>}; }
  FUSED_RNN_FN Vector<T> row(int64_t k, int v) const { return load(data + (k * V + v) * kLanes<T>); }
  FUSED_RNN_FN void prefetch(int64_t) const {}  // reading on from row to row is foreseen
};

// The same, where the caller's matrices hold it: vector v of row k stands at column[v] + k * stride[v].
template <typename T, int V>
struct InPlace {
  static constexpr int kVectors = V;
  static constexpr bool kIsPacked = false;
  const T* column[V];
  int64_t stride[V];
  FUSED_RNN_FN InPlace from(int64_t k) const {
    InPlace later = *this;
    for (int v = 0; v < V; ++v) later.column[v] += k * stride[v];
    return later;
  }
  FUSED_RNN_FN Vector<T> row(int64_t k, int v) const {
    // No hardware prefetcher follows strides of a page or more.
    __builtin_prefetch(column[v] + (k + 16) * stride[v]);
    return load(column[v] + k * stride[v]);
  }
  FUSED_RNN_FN void prefetch(int64_t k) const {
    for (int v = 0; v < V; ++v) __builtin_prefetch(column[v] + k * stride[v], 0, 2);
  }
};

// The left operand of a tile: element (m, k) stands at data[m * row + k * column].
template <typename T>
struct Left {
  const T* data;
  int64_t row, column;
};

// out[m, :] = init[m, :] + sum_k a(m, k) * b.row(k), for m in [0, M); out and init are rows of V * lanes values,
// init_stride 0 repeats one row. init may be out: it is added last, so that sums of many blocks keep their digits.
template <int M, int V, typename T, typename Right>
FUSED_RNN_FN void tile(int64_t K, Left<T> a, const Right& b, const T* init, int64_t init_stride, T* out,
                       int64_t out_stride) {
  // Few accumulators would wait for one another: small tiles take even and odd k apart.
  constexpr int kChains = M * V < 8 ? 2 : 1;
  Vector<T> sum[kChains][M][V] = {};
  int64_t k = 0;
  for (; k + kChains <= K; k += kChains) {
#pragma GCC unroll 2
    for (int chain = 0; chain < kChains; ++chain) {
      Vector<T> right[V];
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) right[v] = b.row(k + chain, v);
#pragma GCC unroll 8
      for (int m = 0; m < M; ++m) {
        const T left = a.data[m * a.row + (k + chain) * a.column];
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) sum[chain][m][v] += left * right[v];
      }
    }
  }
  for (; k < K; ++k) {
#pragma GCC unroll 8
    for (int m = 0; m < M; ++m) {
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) sum[0][m][v] += a.data[m * a.row + k * a.column] * b.row(k, v);
    }
  }
#pragma GCC unroll 8
  for (int m = 0; m < M; ++m) {
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) {
      const Vector<T> total = kChains > 1 ? sum[0][m][v] + sum[kChains - 1][m][v] : sum[0][m][v];
      store(out + m * out_stride + v * kLanes<T>, load(init + m * init_stride + v * kLanes<T>) + total);
    }
  }
}

// tile() for any number of rows up to kTileRows.
template <int V, typename T, typename Right>
void tile_rows(int rows, int64_t K, Left<T> a, const Right& b, const T* init, int64_t init_stride, T* out,
               int64_t out_stride) {
  static_assert(kTileRows <= 6);
  switch (rows) {
    case 1: return tile<1, V>(K, a, b, init, init_stride, out, out_stride);
    case 2: return tile<2, V>(K, a, b, init, init_stride, out, out_stride);
    case 3: return tile<3, V>(K, a, b, init, init_stride, out, out_stride);
    case 4:
      if constexpr (kTileRows >= 4) tile<4, V>(K, a, b, init, init_stride, out, out_stride);
      return;
    case 5:
      if constexpr (kTileRows >= 5) tile<5, V>(K, a, b, init, init_stride, out, out_stride);
      return;
    case 6:
      if constexpr (kTileRows >= 6) tile<6, V>(K, a, b, init, init_stride, out, out_stride);
      return;
  }
}

// tile() for any number of rows and any depth: for kDepth rows of b at a time, which then stay in the first-level
// cache.
constexpr int64_t kDepth = 128;

// A right operand in place is copied for as long as it is used again: its rows lie far apart, often in the same few
// sets of a cache.
template <typename T, typename Right>
void tile_block(int64_t rows, int64_t K, Left<T> a, const Right& b, const T* init, int64_t init_stride, T* out,
                int64_t out_stride) {
  constexpr int V = Right::kVectors;
  const auto multiply = [&](int64_t k, int64_t depth, int64_t m, const auto& right) {
    const T* from = k == 0 ? init + m * init_stride : out + m * out_stride;
    tile_rows<V>(static_cast<int>(smaller(kTileRows, rows - m)), depth,
                 Left<T>{a.data + m * a.row + k * a.column, a.row, a.column}, right, from,
                 k == 0 ? init_stride : out_stride, out + m * out_stride, out_stride);
  };
  for (int64_t k = 0; k == 0 || k < K; k += kDepth) {
    const int64_t depth = smaller(kDepth, K - k);
    if (Right::kIsPacked || rows <= kTileRows) {
      for (int64_t m = 0; m < rows; m += kTileRows) multiply(k, depth, m, b.from(k));
      continue;
    }
    alignas(64) T copy[kDepth * V * kLanes<T>];
    for (int64_t i = 0; i < depth; ++i) {
      for (int v = 0; v < V; ++v) store(copy + (i * V + v) * kLanes<T>, b.row(k + i, v));
    }
    // While one block is at work, the next is on its way.
    const int64_t next = smaller(kDepth, K - k - depth);
    for (int64_t m = 0; m < rows; m += kTileRows) {
      const int64_t last = k + depth + smaller(rows, m + kTileRows) * next / rows;
      for (int64_t row = k + depth + m * next / rows; row < last; ++row) b.prefetch(row);
      multiply(k, depth, m, Packed<T, V>{copy});
    }
  }
}

// Rows that go through tile_block() together before the cell is applied to them: enough that b is read rarely, few
// enough that their results stay in the first-level cache.
constexpr int64_t kBlockRows = 8 * kTileRows;

// The rows of a dot tile and the columns that are summed at a time.
constexpr int kDotRows = kTileRows / 3 * 2;
constexpr int kDotColumns = 4;

// A run of the depth of a dot product: element (m, k) of a stands at a[m * a_stride + k], element (n, k) of b at
// b[n * b_stride + k], for k in [0, K).
template <typename T>
struct DotRun {
  const T* a;
  int64_t a_stride;
  const T* b;
  int64_t b_stride;
  int64_t K;
};

// The sum of a vector's lanes, by halves.
template <typename V, size_t... kLane>
FUSED_RNN_FN auto add_halves(V vector, std::index_sequence<kLane...>) {
  return __builtin_shufflevector(vector, vector, kLane...) +
         __builtin_shufflevector(vector, vector, (kLane + sizeof...(kLane))...);
}

template <int kCount, typename V>
FUSED_RNN_FN auto sum_lanes(V vector) {
  if constexpr (kCount == 2) {
    return vector[0] + vector[1];
  } else {
    return sum_lanes<kCount / 2>(add_halves(vector, std::make_index_sequence<kCount / 2>()));
  }
}

// A vector of from[0, count) and then zeros.
template <typename T>
FUSED_RNN_FN Vector<T> load_first(const T* from, int64_t count) {
  T lanes[kLanes<T>] = {};
  for (int64_t lane = 0; lane < count; ++lane) lanes[lane] = from[lane];
  return load(lanes);
}

// Zeros and then ones: read from `count` on, a vector whose last `count` lanes are 1.
template <typename T>
constexpr auto make_lanes_table() {
  struct {
    T value[2 * kLanes<T>];
  } table{};
  for (int i = kLanes<T>; i < 2 * kLanes<T>; ++i) table.value[i] = 1;
  return table;
}
template <typename T>
constexpr auto kLanesTable = make_lanes_table<T>();

// out[m, n] = sum over all runs and k of a(m, k) * b(n, k), for m in [0, M), n in [0, N). Both operands are read along
// their rows, so that a matrix used once need not be transposed. out is [M, out_stride].
template <int M, int N, typename T>
FUSED_RNN_FN void dot_tile(const DotRun<T>* runs, int count, int64_t m0, int64_t n0, T* out, int64_t out_stride) {
  Vector<T> sum[M][N] = {};
  const auto add = [&](const Vector<T>(&left)[M], const Vector<T>(&right)[N]) __attribute__((always_inline)) {
#pragma GCC unroll 8
    for (int m = 0; m < M; ++m) {
#pragma GCC unroll 4
      for (int n = 0; n < N; ++n) sum[m][n] += left[m] * right[n];
    }
  };
  for (int i = 0; i < count; ++i) {
    const DotRun<T>& run = runs[i];
    const T* a = run.a + m0 * run.a_stride;
    const T* b = run.b + n0 * run.b_stride;
    Vector<T> left[M], right[N];
    int64_t k = 0;
    for (; k + kLanes<T> <= run.K; k += kLanes<T>) {
#pragma GCC unroll 4
      for (int n = 0; n < N; ++n) right[n] = load(b + n * run.b_stride + k);
#pragma GCC unroll 8
      for (int m = 0; m < M; ++m) left[m] = load(a + m * run.a_stride + k);
      add(left, right);
    }
    if (k == run.K) continue;
    if (k == 0) {  // less than one vector
      for (int n = 0; n < N; ++n) right[n] = load_first(b + n * run.b_stride, run.K);
      for (int m = 0; m < M; ++m) left[m] = load_first(a + m * run.a_stride, run.K);
    } else {  // the last vector of the run, without the lanes that have been summed
      const int64_t last = run.K - kLanes<T>;
      const Vector<T> fresh = load(kLanesTable<T>.value + (run.K - k));
      for (int n = 0; n < N; ++n) right[n] = load(b + n * run.b_stride + last);
      for (int m = 0; m < M; ++m) left[m] = fresh != 0 ? load(a + m * run.a_stride + last) : Vector<T>{};
      // A weight that is not finite must not meet the zeros of lanes that are left out.
      for (int n = 0; n < N; ++n) right[n] = fresh != 0 ? right[n] : Vector<T>{};
    }
    add(left, right);
  }
  for (int m = 0; m < M; ++m) {
    for (int n = 0; n < N; ++n) out[m * out_stride + n] = sum_lanes<kLanes<T>>(sum[m][n]);
  }
}

// dot_tile() for any number of rows m and columns n.
template <typename T>
void dot_product(int64_t rows, int64_t columns, const DotRun<T>* runs, int count, T* out, int64_t out_stride) {
  for (int64_t n = 0; n < columns; n += kDotColumns) {
    const bool wide = n + kDotColumns <= columns;
    int64_t m = 0;
    for (; wide && m + kDotRows <= rows; m += kDotRows) {
      dot_tile<kDotRows, kDotColumns>(runs, count, m, n, out + m * out_stride + n, out_stride);
    }
    for (; m < rows; ++m) {
      if (wide) {
        dot_tile<1, kDotColumns>(runs, count, m, n, out + m * out_stride + n, out_stride);
        continue;
      }
      for (int64_t last = n; last < columns; ++last) {
        dot_tile<1, 1>(runs, count, m, last, out + m * out_stride + last, out_stride);
      }
    }
  }
}

}  // namespace fused_rnn::FUSED_RNN_TARGET
