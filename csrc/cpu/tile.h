// The micro-kernels: small dense products whose results stay in registers until they are complete.
#pragma once

#include "csrc/cpu/vector.h"

namespace fused_rnn::FUSED_RNN_TARGET {

// The right operand of a tile, packed: V vectors a row, row after row.
template <typename T, int V>
struct Packed {
  static constexpr int kVectors = V;
  const T* data;  // [K, V * lanes]
  FUSED_RNN_FN Packed from(int64_t k) const { return {data + k * V * kLanes<T>}; }
  FUSED_RNN_FN Vector<T> row(int64_t k, int v) const { return load(data + (k * V + v) * kLanes<T>); }
};

// The same, where the caller's matrices hold it: vector v of row k stands at column[v] + k * stride[v].
template <typename T, int V>
struct InPlace {
  static constexpr int kVectors = V;
  const T* column[V];
  int64_t stride[V];
  FUSED_RNN_FN InPlace from(int64_t k) const {
    InPlace later = *this;
    for (int v = 0; v < V; ++v) later.column[v] += k * stride[v];
    return later;
  }
  FUSED_RNN_FN Vector<T> row(int64_t k, int v) const { return load(column[v] + k * stride[v]); }
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

template <typename T, typename Right>
void tile_block(int64_t rows, int64_t K, Left<T> a, const Right& b, const T* init, int64_t init_stride, T* out,
                int64_t out_stride) {
  int64_t k = 0;
  do {
    const int64_t depth = smaller(kDepth, K - k);
    for (int64_t m = 0; m < rows; m += kTileRows) {
      const T* from = k == 0 ? init + m * init_stride : out + m * out_stride;
      tile_rows<Right::kVectors>(static_cast<int>(smaller(kTileRows, rows - m)), depth,
                                 Left<T>{a.data + m * a.row + k * a.column, a.row, a.column}, b.from(k), from,
                                 k == 0 ? init_stride : out_stride, out + m * out_stride, out_stride);
    }
    k += kDepth;
  } while (k < K);
}

// Rows that go through tile_block() together before the cell is applied to them: enough that b is read rarely, few
// enough that their results stay in the first-level cache.
constexpr int64_t kBlockRows = 8 * kTileRows;

// The rows of a dot tile and the columns that are summed at a time.
constexpr int kDotRows = kTileRows / 3 * 2;
constexpr int kDotColumns = 4;

// out[m, n] += sum_k a[m, k] * b[n, k] for m in [0, M), n in [0, N): both operands are read along their rows, so that a
// matrix used once need not be transposed. out is [M, out_stride].
template <int M, int N, typename T>
FUSED_RNN_FN void dot_tile(int64_t K, const T* a, int64_t a_stride, const T* b, int64_t b_stride, T* out,
                           int64_t out_stride) {
  Vector<T> sum[M][N] = {};
  int64_t k = 0;
  for (; k + kLanes<T> <= K; k += kLanes<T>) {
    Vector<T> right[N];
#pragma GCC unroll 4
    for (int n = 0; n < N; ++n) right[n] = load(b + n * b_stride + k);
#pragma GCC unroll 8
    for (int m = 0; m < M; ++m) {
      const Vector<T> left = load(a + m * a_stride + k);
#pragma GCC unroll 4
      for (int n = 0; n < N; ++n) sum[m][n] += left * right[n];
    }
  }
  for (int m = 0; m < M; ++m) {
    for (int n = 0; n < N; ++n) {
      T total = 0;
      for (int lane = 0; lane < kLanes<T>; ++lane) total += sum[m][n][lane];
      for (int64_t rest = k; rest < K; ++rest) total += a[m * a_stride + rest] * b[n * b_stride + rest];
      out[m * out_stride + n] += total;
    }
  }
}

// out[m, n] += sum_k a[m, k] * b[n, k] for any number of rows m and columns n.
template <typename T>
void dot_product(int64_t rows, int64_t columns, int64_t K, const T* a, int64_t a_stride, const T* b, int64_t b_stride,
                 T* out, int64_t out_stride) {
  for (int64_t n = 0; n < columns; n += kDotColumns) {
    const bool wide = n + kDotColumns <= columns;
    int64_t m = 0;
    for (; wide && m + kDotRows <= rows; m += kDotRows) {
      dot_tile<kDotRows, kDotColumns>(K, a + m * a_stride, a_stride, b + n * b_stride, b_stride,
                                      out + m * out_stride + n, out_stride);
    }
    for (; m < rows; ++m) {
      if (wide) {
        dot_tile<1, kDotColumns>(K, a + m * a_stride, a_stride, b + n * b_stride, b_stride, out + m * out_stride + n,
                                 out_stride);
        continue;
      }
      for (int64_t last = n; last < columns; ++last) {
        dot_tile<1, 1>(K, a + m * a_stride, a_stride, b + last * b_stride, b_stride, out + m * out_stride + last,
                       out_stride);
      }
    }
  }
}

}  // namespace fused_rnn::FUSED_RNN_TARGET
