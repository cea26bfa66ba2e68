// The matrix product inside one thread block: panels of both operands in shared memory, double-buffered, and sums in
// registers. The block sums kRows rows of the batch x kColThreads groups of columns; its threads also share the depth
// among kSlices slices, whose partial sums are added up in a fixed order at the end.
#pragma once

#include "csrc/cuda/storage.cuh"

namespace fused_rnn::cuda {

template <typename C_, int kRowsPerThread_, int kRowThreads_, int kSlices_, int kDepth_>
struct Tile {
  using C = C_;
  static constexpr int kRowsPerThread = kRowsPerThread_, kRowThreads = kRowThreads_, kColThreads = 8;
  static constexpr int kSlices = kSlices_, kDepth = kDepth_;  // of a panel
  static constexpr int kRows = kRowsPerThread * kRowThreads;
  static constexpr int kThreads = kRowThreads * kColThreads * kSlices;
  static constexpr int kVector = 16 / sizeof(C);
  static constexpr int kPasses = kDepth / kVector / kSlices;

  static __device__ int col_thread() { return threadIdx.x % kColThreads; }
  static __device__ int row_thread() { return threadIdx.x / kColThreads % kRowThreads; }
  static __device__ int slice() { return threadIdx.x / (kColThreads * kRowThreads); }
};

__host__ __device__ constexpr int smaller(int64_t value, int than) {
  return value < than ? static_cast<int>(value) : than;
}

// For a batch of a few rows, where reading the weights is all that counts; for a larger one; and for one that is so
// large that the blocks of the largest tile fill the GPU.
template <typename C>
struct Tiles;

template <>
struct Tiles<float> {
  using Few = Tile<float, 4, 2, 16, 128>;
  using Many = Tile<float, 4, 8, 4, 32>;
  using Large = Tile<float, 8, 8, 2, 16>;
};

template <>
struct Tiles<double> {
  using Few = Tile<double, 4, 2, 8, 64>;
  using Many = Tile<double, 4, 8, 4, 16>;
  using Large = Tile<double, 8, 8, 2, 16>;
};

template <typename C, int kCount>
struct alignas(16) Pack {
  C v[kCount];
};

// kRows rows of kDepth values that are neighbours in memory. One pack of padding keeps threads that read a column of
// it out of each other's banks.
template <typename Tile, int kRows>
struct RowPanel {
  using C = typename Tile::C;
  static constexpr int kRowsAtOnce = Tile::kThreads / Tile::kDepth;
  static constexpr int kStaged = kRows / kRowsAtOnce;  // values that each thread carries from global to shared memory
  static_assert(kStaged * kRowsAtOnce == kRows);

  Pack<C, Tile::kVector> values[kRows][Tile::kDepth / Tile::kVector + 1];

  // Rows first_row.. and columns first.. of data [rows, depth], whose rows lie stride apart; zeros outside of it.
  template <typename S>
  static __device__ __forceinline__ void fetch(const S* data, int64_t stride, int64_t first_row, int64_t rows,
                                               int64_t first, int64_t depth, C (&staged)[kStaged]) {
    const int row = threadIdx.x / Tile::kDepth, column = threadIdx.x % Tile::kDepth;
    const int end = first + column < depth ? smaller(rows - first_row, kRows) : 0;
    const S* from = data + (first_row + row) * stride + first + column;
#pragma unroll
    for (int i = 0; i < kStaged; ++i) {
      staged[i] = row + i * kRowsAtOnce < end ? to_compute(from[i * kRowsAtOnce * stride]) : C(0);
    }
  }

  __device__ void store(const C (&staged)[kStaged]) {
    const int column = threadIdx.x % Tile::kDepth;
#pragma unroll
    for (int i = 0; i < kStaged; ++i) {
      const int row = threadIdx.x / Tile::kDepth + i * kRowsAtOnce;
      values[row][column / Tile::kVector].v[column % Tile::kVector] = staged[i];
    }
  }
};

// kDepth rows of weights, whose columns are neighbours in memory: for each column thread a pack of four columns, namely
// the kColumns of each of 4 / kColumns neighbouring units.
template <typename Tile, int kColumns>
struct WeightPanel {
  using C = typename Tile::C;
  static constexpr int kUnitsPerThread = 4 / kColumns;
  static constexpr int kUnits = kUnitsPerThread * Tile::kColThreads;
  static constexpr int kLanes = 4 * Tile::kColThreads;
  static constexpr int kDepthAtOnce = Tile::kThreads / kLanes;
  static constexpr int kStaged = Tile::kDepth / kDepthAtOnce;
  static_assert(kStaged * kDepthAtOnce == Tile::kDepth);

  Pack<C, 4> values[Tile::kDepth][Tile::kColThreads];

  // What this thread carries: one column of one unit. With three columns the fourth of a pack stays zero.
  static __device__ int unit() { return threadIdx.x % kLanes % kUnits; }
  static __device__ int column() { return threadIdx.x % kLanes / kUnits; }

  // Values first.. of a column [depth] whose elements lie stride apart; zeros outside of it. (Indices within a panel
  // fit an int as long as a kernel fits a GPU.)
  template <typename S>
  static __device__ __forceinline__ void fetch(const S* data, int stride, int64_t first, int64_t depth,
                                               C (&staged)[kStaged]) {
    const int k = threadIdx.x / kLanes, end = data == nullptr ? 0 : smaller(depth - first, Tile::kDepth);
    const S* from = data + first * stride;
#pragma unroll
    for (int i = 0; i < kStaged; ++i) {
      const int at = k + i * kDepthAtOnce;
      staged[i] = at < end ? to_compute(from[at * stride]) : C(0);
    }
  }

  __device__ void store(const C (&staged)[kStaged]) {
    const int place = unit() % kUnitsPerThread * kColumns + column();
#pragma unroll
    for (int i = 0; i < kStaged; ++i) {
      values[threadIdx.x / kLanes + i * kDepthAtOnce][unit() / kUnitsPerThread].v[place] = staged[i];
    }
  }
};

// sums[r][c] += a[r] . w[c], rows times columns of weights.
template <typename Tile, int kColumns>
__device__ __forceinline__ void multiply(const RowPanel<Tile, Tile::kRows>& a, const WeightPanel<Tile, kColumns>& w,
                                         typename Tile::C (&sums)[Tile::kRowsPerThread][4]) {
#pragma unroll
  for (int pass = 0; pass < Tile::kPasses; ++pass) {
    const int at = pass * Tile::kSlices + Tile::slice();
    Pack<typename Tile::C, 4> right[Tile::kVector];
#pragma unroll
    for (int k = 0; k < Tile::kVector; ++k) right[k] = w.values[at * Tile::kVector + k][Tile::col_thread()];
#pragma unroll
    for (int r = 0; r < Tile::kRowsPerThread; ++r) {
      const Pack<typename Tile::C, Tile::kVector> left = a.values[Tile::row_thread() + r * Tile::kRowThreads][at];
#pragma unroll
      for (int k = 0; k < Tile::kVector; ++k) {
#pragma unroll
        for (int c = 0; c < 4; ++c) sums[r][c] += left.v[k] * right[k].v[c];
      }
    }
  }
}

// sums[r][u] += a[r] . w[u], rows times rows of weights.
template <typename Tile, int kUnitsPerThread>
__device__ __forceinline__ void multiply(const RowPanel<Tile, Tile::kRows>& a,
                                         const RowPanel<Tile, kUnitsPerThread * Tile::kColThreads>& w,
                                         typename Tile::C (&sums)[Tile::kRowsPerThread][kUnitsPerThread]) {
#pragma unroll
  for (int pass = 0; pass < Tile::kPasses; ++pass) {
    const int at = pass * Tile::kSlices + Tile::slice();
    Pack<typename Tile::C, Tile::kVector> right[kUnitsPerThread];
#pragma unroll
    for (int u = 0; u < kUnitsPerThread; ++u) right[u] = w.values[Tile::col_thread() + u * Tile::kColThreads][at];
#pragma unroll
    for (int r = 0; r < Tile::kRowsPerThread; ++r) {
      const Pack<typename Tile::C, Tile::kVector> left = a.values[Tile::row_thread() + r * Tile::kRowThreads][at];
#pragma unroll
      for (int u = 0; u < kUnitsPerThread; ++u) {
#pragma unroll
        for (int k = 0; k < Tile::kVector; ++k) sums[r][u] += left.v[k] * right[u].v[k];
      }
    }
  }
}

// Two panels that are multiplied, and the values of the next two while they are on their way.
template <typename Left, typename Right>
struct Panels {
  struct Staged {
    typename Left::C left[Left::kStaged];
    typename Right::C right[Right::kStaged];
  };

  Left left;
  Right right;

  __device__ void store(const Staged& staged) {
    left.store(staged.left);
    right.store(staged.right);
  }
};

// sums += the products of panels 0 .. count - 1, each of which fetch(panel, staged) brings. All threads of the block
// have left the buffers behind when it returns.
template <typename Panels, typename Fetch, typename Sums>
__device__ __forceinline__ void multiply_panels(Panels (&buffers)[2], int64_t count, const Fetch& fetch, Sums& sums) {
  typename Panels::Staged staged;
  if (count > 0) {
    fetch(0, staged);
    buffers[0].store(staged);
  }
  __syncthreads();
#pragma unroll 1
  for (int64_t panel = 0; panel < count; ++panel) {
    const Panels& current = buffers[panel % 2];
    const bool more = panel + 1 < count;
    if (more) fetch(panel + 1, staged);
    multiply(current.left, current.right, sums);
    if (more) buffers[(panel + 1) % 2].store(staged);
    __syncthreads();
  }
}

}  // namespace fused_rnn::cuda
