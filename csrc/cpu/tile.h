// The micro-kernels: small dense products whose results stay in registers until they are complete.
#pragma once

#include <utility>

#include "csrc/cpu/vector.h"

namespace fused_rnn::FUSED_RNN_TARGET {

// Elements of a cache line.
template <typename E>
constexpr int64_t kLine = 64 / sizeof(E);

// The right operand of a tile, packed: V vectors a row, row after row. With each row a tile prefetches one line of what
// comes after it, since the processor does not foresee the jump: products whose weights lie beyond the near caches
// would wait for a third of their time.
template <typename E, int V>
struct Packed {
  static constexpr int kVectors = V;
  const E* data;   // [K, V * lanes]
  const E* ahead;  // what is prefetched, a line a row, unless M is 1; `data` where there is nothing to bring in
  FUSED_RNN_FN void prefetch(int64_t k) const { __builtin_prefetch(ahead + k * kLine<E>); }
  FUSED_RNN_FN Vector<E> row(int64_t k, int v) const { return load(data + (k * V + v) * kLanes<E>); }
};

// The same for a single tile, which meets each row of b once, so that the weights come at the speed of the caches
// beyond: it prefetches what stands a page ahead, whatever comes next, since the processor's own prefetching ends with
// each page.
template <typename E, int V>
struct Streamed {
  static constexpr int64_t kPage = 4096 / sizeof(E);
  const E* data;  // [K, V * lanes]
  FUSED_RNN_FN void prefetch(int64_t k) const { prefetch_row(data + k * V * kLanes<E> + kPage, V * kLanes<E>); }
  FUSED_RNN_FN Vector<E> row(int64_t k, int v) const { return load(data + (k * V + v) * kLanes<E>); }
};

// The left operand of a tile: element (m, k) stands at data[m * row + k * column].
template <typename E>
struct Left {
  const E* data;
  int64_t row, column;
};

// out[m, :] = init[m, :] + sum_k a(m, k) * b.row(k), for m in [0, M); out and init are rows of V * lanes values,
// init_stride 0 repeats one row. init may be out: it is added last, so that sums of many blocks keep their digits.
// The K elements of the operands are numbers, or pairs of neighbouring factors in bfloat16.
template <int M, int V, typename E, typename T, typename Right>
FUSED_RNN_FN void tile(int64_t K, Left<E> a, const Right& b, const T* init, int64_t init_stride, T* out,
                       int64_t out_stride) {
  // Few accumulators would wait for one another: small tiles take even and odd k apart.
  constexpr int kChains = M * V < 8 ? 2 : 1;
  Vector<T> sum[kChains][M][V] = {};
  int64_t k = 0;
  for (; k + kChains <= K; k += kChains) {
#pragma GCC unroll 2
    for (int chain = 0; chain < kChains; ++chain) {
      if constexpr (M > 1) b.prefetch(k + chain);
      Vector<E> right[V];
#pragma GCC unroll 16
      for (int v = 0; v < V; ++v) right[v] = b.row(k + chain, v);
#pragma GCC unroll 8
      for (int m = 0; m < M; ++m) {
        const E left = a.data[m * a.row + (k + chain) * a.column];
#pragma GCC unroll 16
        for (int v = 0; v < V; ++v) sum[chain][m][v] = multiply_add(sum[chain][m][v], left, right[v]);
      }
    }
  }
  for (; k < K; ++k) {
#pragma GCC unroll 8
    for (int m = 0; m < M; ++m) {
#pragma GCC unroll 16
      for (int v = 0; v < V; ++v) {
        sum[0][m][v] = multiply_add(sum[0][m][v], a.data[m * a.row + k * a.column], b.row(k, v));
      }
    }
  }
#pragma GCC unroll 8
  for (int m = 0; m < M; ++m) {
#pragma GCC unroll 16
    for (int v = 0; v < V; ++v) {
      const Vector<T> total = kChains > 1 ? sum[0][m][v] + sum[kChains - 1][m][v] : sum[0][m][v];
      store(out + m * out_stride + v * kLanes<T>, load(init + m * init_stride + v * kLanes<T>) + total);
    }
  }
}

// Calls f with the number of vectors that hold `columns` <= kPanel values, as a constant.
template <typename T, typename F>
FUSED_RNN_FN void with_vectors(int64_t columns, F&& f) {
  static_assert(kTileVectors == 4);
  switch (divide_up(columns, kLanes<T>)) {
    case 1: return f(std::integral_constant<int, 1>());
    case 2: return f(std::integral_constant<int, 2>());
    case 3: return f(std::integral_constant<int, 3>());
    default: return f(std::integral_constant<int, 4>());
  }
}

// Calls f with a number of rows up to kTileRows, as a constant.
template <typename F>
FUSED_RNN_FN void with_rows(int64_t rows, F&& f) {
  static_assert(kTileRows <= 6);
  switch (rows) {
    case 1: return f(std::integral_constant<int, 1>());
    case 2: return f(std::integral_constant<int, 2>());
    case 3: return f(std::integral_constant<int, 3>());
    case 4: return f(std::integral_constant<int, smaller(4, kTileRows)>());
    case 5: return f(std::integral_constant<int, smaller(5, kTileRows)>());
    case 6: return f(std::integral_constant<int, smaller(6, kTileRows)>());
  }
}

// tile() for any number of rows up to kTileRows.
template <int V, typename E, typename T, typename Right>
void tile_rows(int rows, int64_t K, Left<E> a, const Right& b, const T* init, int64_t init_stride, T* out,
               int64_t out_stride) {
  with_rows(rows, [&](auto count)
                      __attribute__((always_inline)) { tile<count, V>(K, a, b, init, init_stride, out, out_stride); });
}

// tile() for any number of rows, all with the same init, and any depth: for some rows of b at a time, which then stay
// in the near caches, while the tiles bring in those after them or, at b's end, what the caller needs next (`after`).
// kDepth rows fit the first-level cache; many tiles gain more from fewer partial sums. A single tile meets each row of
// b once; its blocks only keep sums short, and it does without the divisions, which a single row would notice.
constexpr int64_t kDepth = 128, kSingleDepth = 1024;

template <int V, int kOutStride, typename E, typename T>
void tile_block(int64_t rows, int64_t K, Left<E> a, const E* b, const E* after, const T* init, T* out) {
  const auto multiply = [&](int64_t m, int64_t count, int64_t k, int64_t depth, const auto& right) {
    tile_rows<V>(static_cast<int>(count), depth, Left<E>{a.data + m * a.row + k * a.column, a.row, a.column}, right,
                 k == 0 ? init : out + m * kOutStride, k == 0 ? 0 : kOutStride, out + m * kOutStride, kOutStride);
  };
  if (rows <= kTileRows) {
    for (int64_t k = 0; k == 0 || k < K; k += kSingleDepth) {
      multiply(0, rows, k, smaller(kSingleDepth, K - k), Streamed<E, V>{b + k * V * kLanes<E>});
    }
    return;
  }
  const int64_t tiles = divide_up(rows, kTileRows), blocks = larger(1, divide_up(K, tiles <= 4 ? kDepth : 2 * kDepth));
  const int64_t most = larger(1, divide_up(K, blocks));
  for (int64_t k = 0; k == 0 || k < K; k += most) {
    const int64_t depth = smaller(most, K - k);
    const E* at = b + k * V * kLanes<E>;
    const E *next = k + depth < K ? at + depth * V * kLanes<E> : after, *end = next + depth * V * kLanes<E>;
    for (int64_t i = 0; i < tiles; ++i, next += depth * kLine<E>) {
      const int64_t m = rows * i / tiles, count = rows * (i + 1) / tiles - m;  // of equal heights
      multiply(m, count, k, depth, Packed<E, V>{at, next < end ? next : at});
    }
  }
}

// Rows that go through tile_block() together before the cell is applied to them: enough that b is read rarely, few
// enough that their results stay in the first-level cache.
constexpr int64_t kBlockRows = 8 * kTileRows;

// The rows of a dot tile and the columns that are summed at a time.
constexpr int kDotRows = kTileRows / 3 * 2;
constexpr int kDotColumns = 4;

// out[m, n] (+)= sum over k of a[m, k] * b[n, k]: both operands are read along their rows, so that a matrix used once
// need not be transposed.
template <typename T>
struct DotProduct {
  const T* a;  // [M, a_stride]
  int64_t a_stride;
  const T* b;  // [N, b_stride]
  int64_t b_stride;
  int64_t K;
  T* out;  // [M, out_stride]
  int64_t out_stride;
  bool add;  // to what is in out
};

// One stage of summing lanes: of each pair of vectors, those `kStride` apart are added up, the first vector's where
// that bit of the lane's number is 0 and the second's where it is 1. A last single vector is paired with itself.
template <int kStride, typename V, size_t... kLane>
FUSED_RNN_FN V fold_pair(V a, V b, std::index_sequence<kLane...> lanes) {
  swap_lanes<kStride>(a, b, lanes);
  return a + b;
}

// Sums the lanes of kCount vectors, a power of 2: to[i] = the sum of vector i, in fewer steps than one by one.
template <int kStride, int kCount, typename T>
FUSED_RNN_FN void sum_lanes(const Vector<T>* sums, T* to) {
  if constexpr (kStride == kLanes<T>) {
    for (int i = 0; i < kCount; ++i) store(to + i * kLanes<T>, sums[i]);
  } else {
    constexpr int kPairs = kCount > 1 ? kCount / 2 : 1;
    Vector<T> folded[kPairs];
    for (int i = 0; i < kPairs; ++i) {
      folded[i] =
          fold_pair<kStride>(sums[2 * i], sums[kCount > 1 ? 2 * i + 1 : 0], std::make_index_sequence<kLanes<T>>());
    }
    sum_lanes<2 * kStride, kPairs>(folded, to);
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

// The M x N results from (m, n) on; M and N are powers of 2.
template <int M, int N, typename T>
FUSED_RNN_FN void dot_tile(const DotProduct<T>& p, int64_t m, int64_t n) {
  Vector<T> sum[M * N] = {};
  const auto add = [&](const auto& element) __attribute__((always_inline)) {
    Vector<T> right[N];
#pragma GCC unroll 4
    for (int j = 0; j < N; ++j) right[j] = element(p.b + (n + j) * p.b_stride);
#pragma GCC unroll 8
    for (int i = 0; i < M; ++i) {
      const Vector<T> left = element(p.a + (m + i) * p.a_stride);
#pragma GCC unroll 4
      for (int j = 0; j < N; ++j) sum[i * N + j] += left * right[j];
    }
  };
  int64_t k = 0;
  for (; k + kLanes<T> <= p.K; k += kLanes<T>) {
    add([&](const T* row) __attribute__((always_inline)) { return load(row + k); });
  }
  if (k < p.K && k == 0) {  // less than one vector
    add([&](const T* row) __attribute__((always_inline)) { return load_first(row, p.K); });
  } else if (k < p.K) {  // the last vector, without the lanes that have been summed: a NaN there must not meet a zero
    const Vector<T> fresh = load(kLanesTable<T>.value + (p.K - k));
    add([&](const T* row)
            __attribute__((always_inline)) { return fresh != 0 ? load(row + p.K - kLanes<T>) : Vector<T>{}; });
  }
  alignas(64) T total[M * N < kLanes<T> ? kLanes<T> : M * N];
  sum_lanes<1, M * N>(sum, total);
  for (int i = 0; i < M; ++i) {
    T* out = p.out + (m + i) * p.out_stride + n;
    for (int j = 0; j < N; ++j) out[j] = p.add ? out[j] + total[i * N + j] : total[i * N + j];
  }
}

// The results of all `rows` rows of a and `columns` rows of b.
template <typename T>
void dot_product(int64_t rows, int64_t columns, const DotProduct<T>& p) {
  for (int64_t n = 0; n < columns; n += kDotColumns) {
    if (n + kDotColumns > columns) {
      for (int64_t m = 0; m < rows; ++m) {
        for (int64_t last = n; last < columns; ++last) dot_tile<1, 1>(p, m, last);
      }
      continue;
    }
    int64_t m = 0;
    for (; m + kDotRows <= rows; m += kDotRows) dot_tile<kDotRows, kDotColumns>(p, m, n);
    for (; m < rows; ++m) dot_tile<1, kDotColumns>(p, m, n);
  }
}

}  // namespace fused_rnn::FUSED_RNN_TARGET
