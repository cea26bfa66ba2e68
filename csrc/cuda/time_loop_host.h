// What the two time loops share on the host: how many steps there are, which tile suits, and large products.
#pragma once

#include "csrc/cuda/storage.cuh"
#include "csrc/cuda/workspace.h"

namespace fused_rnn::cuda {

enum class TileSize { kFew, kMany, kLarge };

// What all sequences of a call have in common.
struct Loop {
  int64_t* lengths;  // [B], on the device; null: every row has T steps
  int64_t steps;     // of the longest row
  bool padded;       // some row is shorter than T
  int64_t B;
  int processors;  // of the GPU

  Loop(const SequenceParams& params, int64_t* device_lengths);
  // Looks at the GPU, and copies the lengths to it.
  Status begin(const SequenceParams& params);
  // As kernels see them.
  Rows rows(const SequenceParams& params) const { return {params.T, params.B, lengths, params.reverse}; }
  // The tile for a product of so many units, given how many rows and units a block takes with the large one.
  TileSize tile_size(int64_t large_rows, int64_t large_units, int64_t units) const;
};

// Says so where the caller demands the persistent driver of a call that it cannot run; clears what it exchanges.
Status begin_driver(const SequenceParams& params, const PersistentWorkspace& work);
// Clears the flags, and fills in what a launch of the persistent driver is to know of the division of work.
Status begin_launch(const SequenceParams& params, const PersistentWorkspace& work, Division* division);

// device_lengths [B] = lengths, which are the caller's again when this returns.
Status copy_lengths(const int64_t* lengths, int64_t B, int64_t* device_lengths, void* stream);
// to [B, P] or [B, H] = from, for each state; bytes: of a value.
Status copy_states(const SequenceParams& params, const void* const* from, void* const* to, int states, size_t bytes);
Status clear(void* data, int64_t bytes, void* stream);

inline DType compute_dtype(DType dtype) {
  return dtype == DType::kFloat64 ? DType::kFloat64 : DType::kFloat32;
}

struct Extent {
  int64_t M, N, K;
};

struct Matrix {
  const void* data;  // in the storage type
  int64_t stride;
  bool transposed = false;
};

struct Sum {
  void* data;  // in the compute type
  int64_t stride;
  double beta;
};

inline Matrix transposed(const Matrix& matrix) {
  return {matrix.data, matrix.stride, !matrix.transposed};
}

// c [M, N] = a [M, K] . b [K, N] + beta * c, on the caller's BLAS.
Status multiply_large(const SequenceParams& params, const Extent& extent, const Matrix& a, const Matrix& b,
                      const Sum& c);

template <typename From, typename To, int kCount>
void copy_pointers(From* const (&from)[kCount], To* (&to)[kCount]) {
  for (int i = 0; i < kCount; ++i) to[i] = static_cast<To*>(from[i]);
}

}  // namespace fused_rnn::cuda
