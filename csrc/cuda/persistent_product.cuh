// The weights that a block of the persistent driver keeps from step to step, and their product with rows that all
// blocks exchange.
#pragma once

#include "csrc/cuda/persistent_plan.h"
#include "csrc/cuda/ptx.cuh"
#include "csrc/cuda/tile.cuh"

namespace fused_rnn::cuda {

// 16 bytes of neighbouring terms of a product.
template <typename S>
using Terms = Pack<S, 16 / sizeof(S)>;

template <typename To, typename From>
__device__ __forceinline__ To bits_as(const From& from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  memcpy(&to, &from, sizeof(to));
  return to;
}

// As a factor of a product: float as it is, or rounded to what TF32 tensor cores read of it.
template <typename S>
__device__ __forceinline__ S to_factor(Compute<S> value, bool tf32) {
  if constexpr (std::is_same_v<S, float>) return tf32 ? round_to_tf32(value) : value;
  return to_storage<S>(value);
}

// Weights [columns, depth] in pieces: 16 bytes for each lane, namely of column lane / 4 and from byte lane % 4 * 16 of
// the piece's depth on. With the exchanged rows read in the same order, the first 8 bytes are the lane's share of one
// mma.sync and the others that of the next: which term of a sum stands where does not matter, as long as both sides
// agree.
struct BlockWeights {
  int halves, chunks, resident;
  uint4* kept;      // [resident, halves, 32] in shared memory
  uint4* streamed;  // [chunks - resident, halves, 32] in the workspace

  __device__ __forceinline__ uint4& at(int chunk, int half) const {
    const int lane = threadIdx.x % 32;
    if (chunk < resident) return kept[(chunk * halves + half) * 32 + lane];
    return streamed[(static_cast<int64_t>(chunk - resident) * halves + half) * 32 + lane];
  }

  // Takes weight(column, k), which is 0 outside of the weights, as the value of each.
  template <typename S, typename Weight>
  __device__ void fill(bool tf32, const Weight& weight) const {
    constexpr int kTerms = sizeof(uint4) / sizeof(S);
    const int lane = threadIdx.x % 32;
    for (int i = threadIdx.x / 32; i < chunks * halves; i += kPersistentWarps) {
      const int chunk = i / halves, half = i % halves;
      const int64_t k = (chunk * 4 + lane % 4) * kTerms;
      Terms<S> terms;
#pragma unroll
      for (int j = 0; j < kTerms; ++j) {
        const S value = weight(half * kPieceColumns + lane / 4, k + j);
        terms.v[j] = std::is_same_v<S, float> ? to_factor<S>(to_compute(value), tf32) : value;
      }
      at(chunk, half) = bits_as<uint4>(terms);
    }
  }
};

// Rows that a block multiplies with its weights.
template <typename S>
struct ExchangedRows {
  const S* data;  // [rows, stride]
  int64_t stride;
  int rows;  // at most kPersistentRows

  // The lane's terms of one row of a chunk; zeros past the last row. Other blocks have written them, so that they must
  // come from the second-level cache.
  __device__ __forceinline__ uint4 load(int row, int chunk) const {
    if (row >= rows) return uint4{};
    const S* from = data + row * stride + (chunk * 4 + threadIdx.x % 4) * (sizeof(uint4) / sizeof(S));
    return __ldcg(reinterpret_cast<const uint4*>(from));
  }
};

// Where the sums of each warp over its share of the depth go: in shared memory, [warps, columns, stride].
struct Partial {
  float* data;
  int columns;

  __device__ __forceinline__ void store(int column, int row, int rows, float first, float second) const {
    float* to = data + (threadIdx.x / 32 * columns + column) * partial_stride(rows) + row;
    to[0] = first, to[1] = second;
  }
  // The sum over all warps.
  __device__ __forceinline__ float total(int column, int row, int rows) const {
    float sum = 0;
#pragma unroll
    for (int warp = 0; warp < kPersistentWarps; ++warp)
      sum += data[(warp * columns + column) * partial_stride(rows) + row];
    return sum;
  }
};

// partial = weights . rows, on tensor cores; F is what they take the factors for. Each warp has every eighth chunk.
template <typename F, typename S>
__device__ __forceinline__ void multiply_on_tensor_cores(const BlockWeights& w, const ExchangedRows<S>& x,
                                                         const Partial& partial) {
  constexpr int kAhead = 4, kTiles = 4, kRowTiles = kPersistentRows / 8;  // loads that are on their way together
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  for (int first = 0; first < w.halves; first += 2 * kTiles) {
    float sums[kTiles][kRowTiles][4] = {};
    for (int chunk = warp; chunk < w.chunks; chunk += kAhead * kPersistentWarps) {
      uint4 right[kAhead][kRowTiles];
#pragma unroll
      for (int i = 0; i < kAhead; ++i) {
#pragma unroll
        for (int n = 0; n < kRowTiles; ++n) {
          const int at = chunk + i * kPersistentWarps;
          right[i][n] = at < w.chunks ? x.load(n * 8 + lane / 4, at) : uint4{};
        }
      }
#pragma unroll
      for (int i = 0; i < kAhead; ++i) {
        const int at = chunk + i * kPersistentWarps;
        if (at >= w.chunks) break;
#pragma unroll
        for (int m = 0; m < kTiles; ++m) {
          const int half = first + 2 * m;
          if (half >= w.halves) break;
          const uint4 top = w.at(at, half), bottom = half + 1 < w.halves ? w.at(at, half + 1) : uint4{};
#pragma unroll
          for (int n = 0; n < kRowTiles; ++n) {
            if (n * 8 >= x.rows) break;
            multiply_accumulate<F>(sums[m][n], {top.x, bottom.x, top.y, bottom.y}, {right[i][n].x, right[i][n].y});
            multiply_accumulate<F>(sums[m][n], {top.z, bottom.z, top.w, bottom.w}, {right[i][n].z, right[i][n].w});
          }
        }
      }
    }
#pragma unroll
    for (int m = 0; m < kTiles; ++m) {
#pragma unroll
      for (int n = 0; n < kRowTiles; ++n) {
        const int half = first + 2 * m, column = half * kPieceColumns + lane / 4, row = n * 8 + lane % 4 * 2;
        if (half >= w.halves || n * 8 >= x.rows) break;
        partial.store(column, row, x.rows, sums[m][n][0], sums[m][n][1]);
        if (half + 1 < w.halves) partial.store(column + 8, row, x.rows, sums[m][n][2], sums[m][n][3]);
      }
    }
  }
}

// The same in float32 without tensor cores, eight rows at a time. A lane sums the terms that it has of its columns, for
// all eight rows; then the four lanes of a column share out the rows among them.
__device__ __forceinline__ void multiply_exactly(const BlockWeights& w, const ExchangedRows<float>& x,
                                                 const Partial& partial) {
  constexpr int kAhead = 2, kHalves = 8, kRows = 8;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  for (int first_row = 0; first_row < x.rows; first_row += kRows) {
    for (int first = 0; first < w.halves; first += kHalves) {
      float sums[kHalves][kRows] = {};
      for (int chunk = warp; chunk < w.chunks; chunk += kAhead * kPersistentWarps) {
        Terms<float> right[kAhead][kRows];
#pragma unroll
        for (int i = 0; i < kAhead; ++i) {
          const int at = chunk + i * kPersistentWarps;
#pragma unroll
          for (int n = 0; n < kRows; ++n) {
            right[i][n] = bits_as<Terms<float>>(at < w.chunks ? x.load(first_row + n, at) : uint4{});
          }
        }
#pragma unroll
        for (int i = 0; i < kAhead; ++i) {
          const int at = chunk + i * kPersistentWarps;
          if (at >= w.chunks) break;
#pragma unroll
          for (int half = 0; half < kHalves; ++half) {
            if (first + half >= w.halves) break;
            const auto left = bits_as<Terms<float>>(w.at(at, first + half));
#pragma unroll
            for (int n = 0; n < kRows; ++n) {
              if (first_row + n >= x.rows) break;
#pragma unroll
              for (int k = 0; k < 4; ++k) sums[half][n] += left.v[k] * right[i][n].v[k];
            }
          }
        }
      }
      const bool upper_four = lane & 2, upper_two = lane & 1;
#pragma unroll
      for (int half = 0; half < kHalves; ++half) {
        if (first + half >= w.halves) break;
        float four[4], two[2];
#pragma unroll
        for (int n = 0; n < 4; ++n) {
          const float mine = upper_four ? sums[half][n + 4] : sums[half][n];
          const float other = upper_four ? sums[half][n] : sums[half][n + 4];
          four[n] = mine + __shfl_xor_sync(~0u, other, 2);
        }
#pragma unroll
        for (int n = 0; n < 2; ++n) {
          const float mine = upper_two ? four[n + 2] : four[n], other = upper_two ? four[n] : four[n + 2];
          two[n] = mine + __shfl_xor_sync(~0u, other, 1);
        }
        partial.store((first + half) * kPieceColumns + lane / 4, first_row + lane % 4 * 2, x.rows, two[0], two[1]);
      }
    }
  }
}

template <typename S>
__device__ __forceinline__ void multiply_rows(const BlockWeights& w, const ExchangedRows<S>& x, const Partial& partial,
                                              bool tf32) {
  if constexpr (!std::is_same_v<S, float>) {
    multiply_on_tensor_cores<S>(w, x, partial);
  } else if (tf32) {
    multiply_on_tensor_cores<Tf32>(w, x, partial);
  } else {
    multiply_exactly(w, x, partial);
  }
}

}  // namespace fused_rnn::cuda
