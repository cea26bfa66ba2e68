// The three products of a single step. Each meets every weight once, so nothing is packed ahead of time: the caller's
// kernels are read, and their gradients written, along their rows, which is how memory gives the most.
#pragma once

#include "csrc/cpu/storage.h"
#include "csrc/cpu/tile.h"

namespace fused_rnn::FUSED_RNN_TARGET {

// A matrix: element (k, n) stands at data[k * stride + n].
template <typename S>
struct Matrix {
  S* data;
  int64_t stride;
};

// --- out = init + a . b ---

template <typename S>
struct StepProduct {
  using T = Compute<S>;
  int64_t M, K, N;
  Matrix<const T> a;  // [M, K]
  Matrix<const S> b;  // [K, N]
  const T* init;      // [M, init_stride]; stride 0 repeats one row. It may be out
  int64_t init_stride;
  T* out;  // [M, out_stride], rows of whole panels
  int64_t out_stride;
  bool backwards = false;  // with few rows of a: what of b is read together comes in turn from its end on
};

// Rows of b that several tiles of rows meet together: their pages are few enough for the processor's first table of
// pages, and what a panel holds of them stays in the first-level cache. Many tiles gain more from fewer partial sums.
constexpr int64_t kStepDepth = 64, kMostStepDepth = 2 * kStepDepth;

// Columns of b where the caller has them.
template <typename T>
struct InPlace {
  Matrix<const T> b;
  FUSED_RNN_FN void prefetch(int64_t) const {}
  FUSED_RNN_FN Vector<T> row(int64_t k, int v) const { return load(b.data + k * b.stride + v * kLanes<T>); }
};

// Those of one panel, while those of the panel after the next are on their way.
template <typename T>
struct PanelInPlace : InPlace<T> {
  FUSED_RNN_FN void prefetch(int64_t k) const {
    prefetch_row(this->b.data + k * this->b.stride + 2 * kPanel<T>, kPanel<T>);
  }
};

// The same, leaving a packed copy behind for the tiles that come after.
template <typename T>
struct Copying {
  PanelInPlace<T> from;
  T* to;  // [K, kPanel]
  FUSED_RNN_FN void prefetch(int64_t k) const { from.prefetch(k); }
  FUSED_RNN_FN Vector<T> row(int64_t k, int v) const {
    const Vector<T> value = from.row(k, v);
    store(to + k * kPanel<T> + v * kLanes<T>, value);
    return value;
  }
};

// Some rows of one panel.
template <typename S>
void step_product_panel(const StepProduct<S>& p, int64_t panel, int64_t k, int64_t depth) {
  using T = Compute<S>;
  alignas(64) T copy[kMostStepDepth * kPanel<T>];
  const int64_t column = panel * kPanel<T>, columns = smaller(kPanel<T>, p.N - column);
  const Matrix<const S> b{p.b.data + k * p.b.stride + column, p.b.stride};
  const T* init = (k == 0 ? p.init : p.out) + column;
  const int64_t init_stride = k == 0 ? p.init_stride : p.out_stride;
  const int64_t tiles = larger(1, divide_up(p.M, kTileRows));
  const auto multiply = [&](auto vectors, int64_t tile, const auto& right) {
    const int64_t m = p.M * tile / tiles, rows = p.M * (tile + 1) / tiles - m;  // of equal heights
    tile_rows<vectors>(static_cast<int>(rows), depth, Left<T>{p.a.data + m * p.a.stride + k, p.a.stride, 1}, right,
                       init + m * init_stride, init_stride, p.out + m * p.out_stride + column, p.out_stride);
  };
  int64_t tile = 0;
  if constexpr (std::is_same_v<S, T>) {
    constexpr std::integral_constant<int, kTileVectors> kAll;
    if (columns == kPanel<T>) {
      if (tiles == 1) return multiply(kAll, 0, PanelInPlace<T>{{b}});
      multiply(kAll, tile++, Copying<T>{{{b}}, copy});
    }
  }
  with_vectors<T>(columns, [&](auto vectors) {
    constexpr int64_t kWidth = vectors * kLanes<T>;
    if (tile == 0) {
      for (int64_t row = 0; row < depth; ++row) {
        load_row(b.data + row * b.stride, copy + row * kWidth, columns, kWidth);
      }
    }
    for (; tile < tiles; ++tile) multiply(vectors, tile, Packed<T, vectors>{copy, copy});
  });
}

// Some columns, whole vectors, of one row of a times kCount rows of b: added to out. These rows are streams, as long as
// may be and as many as the processor foresees.
template <int kCount, typename T>
void add_streams(const T* a, Matrix<const T> b, int64_t columns, T* out) {
  Vector<T> left[kCount];
  for (int k = 0; k < kCount; ++k) left[k] = Vector<T>{} + a[k];
  for (int64_t n = 0; n < columns; n += kLanes<T>) {
    Vector<T> sum{};
#pragma GCC unroll 8
    for (int k = 0; k < kCount; ++k) sum += left[k] * load(b.data + k * b.stride + n);
    store(out + n, load(out + n) + sum);
  }
}

// The columns [begin, end), whole vectors, of the product of one row of a.
template <typename T>
void multiply_one_row(const StepProduct<T>& p, int64_t begin, int64_t end) {
  constexpr int kStreams = 8;
  if (p.init != p.out) memcpy(p.out + begin, p.init + begin, (end - begin) * sizeof(T));
  const auto add = [&](auto count, int64_t k) {
    add_streams<count>(p.a.data + k, {p.b.data + k * p.b.stride + begin, p.b.stride}, end - begin, p.out + begin);
  };
  const int64_t runs = p.K / kStreams;
  for (int64_t i = 0; i < runs; ++i) {
    add(std::integral_constant<int, kStreams>(), (p.backwards ? runs - 1 - i : i) * kStreams);
  }
  for (int64_t k = runs * kStreams; k < p.K; ++k) add(std::integral_constant<int, 1>(), k);
}

// The most rows that are multiplied in tiles as wide as registers allow.
constexpr int64_t kFewRows = smaller(4, kTileRows);

// The same of M rows, 2 to kFewRows: where streams would have to come back for the results after each few rows of b,
// such a tile keeps them in registers while kDepthAtOnce rows go by. Longer sums lose digits, and were no faster.
template <int M, typename T>
void multiply_few_rows(const StepProduct<T>& p, int64_t begin, int64_t end) {
  constexpr int64_t kDepthAtOnce = 256;
  constexpr int V = kTileRows * kTileVectors / M;
  const int64_t blocks = larger(1, divide_up(p.K, kDepthAtOnce)), tiles = divide_up(end - begin, V * kLanes<T>);
  for (int64_t i = 0; i < blocks; ++i) {
    const int64_t k = (p.backwards ? blocks - 1 - i : i) * kDepthAtOnce;
    const auto multiply = [&](auto vectors, int64_t column) __attribute__((always_inline)) {
      tile<M, vectors>(smaller(kDepthAtOnce, p.K - k), Left<T>{p.a.data + k, p.a.stride, 1},
                       InPlace<T>{{p.b.data + k * p.b.stride + column, p.b.stride}}, (i == 0 ? p.init : p.out) + column,
                       i == 0 ? p.init_stride : p.out_stride, p.out + column, p.out_stride);
    };
    for (int64_t j = 0; j < tiles; ++j) {
      int64_t column = begin + (p.backwards ? tiles - 1 - j : j) * V * kLanes<T>;
      if (column + V * kLanes<T> <= end) {
        multiply(std::integral_constant<int, V>(), column);
        continue;
      }
      for (; column < end; column += kPanel<T>) {
        with_vectors<T>(smaller(kPanel<T>, end - column), [&](auto vectors) { multiply(vectors, column); });
      }
    }
  }
}

// The panels [begin, end) of the product.
template <typename S>
void step_product(const StepProduct<S>& p, int64_t begin, int64_t end) {
  using T = Compute<S>;
  // Results that wait for more rows of b stay in a second-level cache.
  constexpr int64_t kResultBytes = 256 * 1024;
  const int64_t row_bytes = kPanel<T> * static_cast<int64_t>(sizeof(T));
  if constexpr (std::is_same_v<S, T>) {
    if (p.M > 0 && p.M <= kFewRows) {
      const int64_t whole = p.N / kPanel<T>, first = begin * kPanel<T>, last = smaller(end, whole) * kPanel<T>;
      with_rows(p.M, [&](auto rows) {
        if constexpr (rows == 1) {
          multiply_one_row(p, first, last);
        } else if constexpr (rows <= kFewRows) {
          multiply_few_rows<rows>(p, first, last);
        }
      });
      begin = larger(begin, whole);
    }
  }
  const int64_t group = larger(4, kResultBytes / (larger(1, p.M) * row_bytes));
  const int64_t depth = p.M > 4 * kTileRows ? kMostStepDepth : kStepDepth;
  for (int64_t first = begin; first < end; first += group) {
    for (int64_t k = 0; k == 0 || k < p.K; k += depth) {
      for (int64_t panel = first; panel < smaller(end, first + group); ++panel) {
        step_product_panel(p, panel, k, smaller(depth, p.K - k));
      }
    }
  }
}

// --- out = a . b^T ---

// A run of the sum: a kernel's columns, and those of a that meet them.
template <typename S>
struct StepRun {
  const Compute<S>* a;  // [M, a_stride]
  int64_t a_stride;
  Matrix<const S> b;  // [rows, N]
  int64_t N;
};

template <typename S>
struct StepTransposedProduct {
  int64_t M;
  int runs = 0;
  StepRun<S> run[kMaxKernels];
  Compute<S>* out;  // [M, out_stride]
  int64_t out_stride;
};

// The rows of b [begin, end), which are columns of out.
template <typename S>
void step_transposed_product(const StepTransposedProduct<S>& p, int64_t begin, int64_t end) {
  using T = Compute<S>;
  // As much of the sums at a time as keeps some rows of b in the first-level cache, and a in the second.
  constexpr int64_t kDepthAtOnce = 1024;
  alignas(64) T converted[std::is_same_v<S, T> ? 1 : kDotColumns * kDepthAtOnce];
  bool first = true;
  for (int i = 0; i < p.runs; ++i) {
    const StepRun<S>& run = p.run[i];
    for (int64_t k = 0; k < run.N; k += kDepthAtOnce, first = false) {
      const int64_t depth = smaller(kDepthAtOnce, run.N - k);
      for (int64_t n = begin; n < end; n += kDotColumns) {
        const int64_t columns = smaller(kDotColumns, end - n);
        const S* b = run.b.data + n * run.b.stride + k;
        DotProduct<T> dot{run.a + k, run.a_stride, nullptr, run.b.stride, depth, p.out + n, p.out_stride, !first};
        if constexpr (std::is_same_v<S, T>) {
          dot.b = b;
        } else {
          for (int64_t row = 0; row < columns; ++row) {
            load_row(b + row * run.b.stride, converted + row * kDepthAtOnce, depth, depth);
          }
          dot.b = converted, dot.b_stride = kDepthAtOnce;
        }
        dot_product(p.M, columns, dot);
      }
    }
  }
}

// --- out = a^T . b ---

template <typename S>
struct StepGradient {
  using T = Compute<S>;
  int64_t M, K, N;
  const T* a;  // [M / kTileRows, K, kTileRows]: rows as pack_columns() makes them
  const T* b;  // [K, b_stride]
  int64_t b_stride;
  Matrix<S> out;  // [M, N]

  int64_t tiles() const { return divide_up(M, kTileRows); }
};

// The columns of b that step_gradient() has at work together, so that they stay in the first-level cache.
template <typename T>
int64_t step_gradient_panels(int64_t K) {
  constexpr int64_t kBytes = 24 * 1024;
  return larger(1, smaller(8, kBytes / (larger(1, K) * kPanel<T> * static_cast<int64_t>(sizeof(T)))));
}

// Tiles of kTileRows rows of out, [begin, end). scratch is [step_gradient_panels(K), K, kPanel].
template <typename S>
void step_gradient(const StepGradient<S>& p, int64_t begin, int64_t end, Compute<S>* scratch) {
  using T = Compute<S>;
  static constexpr T kZeros[kPanel<T>] = {};
  const int64_t group = step_gradient_panels<T>(p.K) * kPanel<T>;
  alignas(64) T sums[kTileRows * kPanel<T>];
  for (int64_t first = 0; first < p.N; first += group) {
    const int64_t last = smaller(p.N, first + group);
    for (int64_t column = first; column < last; column += kPanel<T>) {
      for (int64_t k = 0; k < p.K; ++k) {
        load_row(p.b + k * p.b_stride + column, scratch + ((column - first) * p.K + k * kPanel<T>),
                 smaller(kPanel<T>, last - column), kPanel<T>);
      }
    }
    for (int64_t tile = begin; tile < end; ++tile) {
      const int64_t m = tile * kTileRows;
      const int rows = static_cast<int>(smaller(kTileRows, p.M - m));
      for (int64_t column = first; column < last; column += kPanel<T>) {
        const int64_t columns = smaller(kPanel<T>, last - column);
        S* out = p.out.data + m * p.out.stride + column;
        // The lines of the rows below are asked for while these are at work.
        if (tile + 1 < end) {
          for (int row = 0; row < smaller(kTileRows, p.M - m - kTileRows); ++row) {
            const S* next = out + (kTileRows + row) * p.out.stride;
            for (int64_t n = 0; n < columns; n += 64 / sizeof(S)) __builtin_prefetch(next + n, 1);
          }
        }
        T* to = sums;
        int64_t stride = kPanel<T>;
        if constexpr (std::is_same_v<S, T>) {
          if (columns == kPanel<T> && p.K <= kDepth) to = out, stride = p.out.stride;
        }
        // Sums of kDepth terms are added up: one long sum would lose digits.
        for (int64_t k = 0; k == 0 || k < p.K; k += kDepth) {
          const T* left = p.a + m * p.K + k * kTileRows;
          tile_rows<kTileVectors>(rows, smaller(kDepth, p.K - k), Left<T>{left, 1, kTileRows},
                                  Packed<T, kTileVectors>{scratch + (column - first) * p.K + k * kPanel<T>, left},
                                  k == 0 ? kZeros : to, k == 0 ? 0 : stride, to, stride);
        }
        if (to == sums) {
          for (int row = 0; row < rows; ++row) {
            store_row(sums + row * kPanel<T>, out + row * p.out.stride, columns, kPanel<T>);
          }
        }
      }
    }
  }
}

}  // namespace fused_rnn::FUSED_RNN_TARGET
