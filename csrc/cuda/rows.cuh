// Kernels that move rows between tensors in time order and workspace in loop-step order, and sums over rows;
// and the host functions that launch them.
#pragma once

#include <algorithm>

#include "csrc/cuda/storage.cuh"

namespace fused_rnn::cuda {

constexpr int kRowThreads = 256, kLanes = 32, kRowsPerBlock = kRowThreads / kLanes;  // a warp's width to each row

// out [steps * B, width] = rows of source [T, B, width] at loop steps first_step - delay .., where step -1 is `initial`
// [B, width]; zeros for rows that are over at first_step .. Rows of source are multiplied by those of factors, if
// given.
template <typename S>
struct GatherRows {
  Rows rows;
  int64_t first_step, steps, width;
  int delay;  // 0, or 1 for the step before
  const S *source, *factors;
  Strides strides;
  const S* initial;
  S* out;
};

template <typename S>
__global__ void __launch_bounds__(kRowThreads) gather_rows_kernel(const GatherRows<S> p) {
  const int64_t row = blockIdx.x * static_cast<int64_t>(kRowsPerBlock) + threadIdx.x / kLanes;
  if (row >= p.steps * p.rows.B) return;
  const int64_t b = row % p.rows.B, step = p.first_step + row / p.rows.B;
  const bool live = p.rows.live(b, step);
  const S *from = nullptr, *factors = nullptr;
  if (live && step < p.delay) {
    from = p.initial + b * p.width;
  } else if (live) {
    const int64_t at = p.rows.time(b, step - p.delay) * p.strides.time + b * p.strides.batch;
    from = p.source + at;
    if (p.factors != nullptr) factors = p.factors + at;
  }
  for (int64_t i = threadIdx.x % kLanes; i < p.width; i += kLanes) {
    S value = live ? from[i] : to_storage<S>(0);
    if (factors != nullptr) value = to_storage<S>(to_compute(value) * to_compute(factors[i]));
    p.out[row * p.width + i] = value;
  }
}

// Rows of target [T, B, width] at loop steps first_step .. = source [steps * B, width], where they are not over.
template <typename S>
struct ScatterRows {
  Rows rows;
  int64_t first_step, steps, width;
  const Compute<S>* source;
  S* target;
  Strides strides;
};

template <typename S>
__global__ void __launch_bounds__(kRowThreads) scatter_rows_kernel(const ScatterRows<S> p) {
  const int64_t row = blockIdx.x * static_cast<int64_t>(kRowsPerBlock) + threadIdx.x / kLanes;
  if (row >= p.steps * p.rows.B) return;
  const int64_t b = row % p.rows.B, step = p.first_step + row / p.rows.B;
  if (!p.rows.live(b, step)) return;
  S* to = p.target + p.rows.time(b, step) * p.strides.time + b * p.strides.batch;
  for (int64_t i = threadIdx.x % kLanes; i < p.width; i += kLanes) to[i] = to_storage<S>(p.source[row * p.width + i]);
}

// Rows of target [T, B, width] past their lengths = 0.
template <typename S>
struct ClearPadding {
  Rows rows;
  int64_t width;
  S* target;
  Strides strides;
};

template <typename S>
__global__ void __launch_bounds__(kRowThreads) clear_padding_kernel(const ClearPadding<S> p) {
  const int64_t row = blockIdx.x * static_cast<int64_t>(kRowsPerBlock) + threadIdx.x / kLanes;
  if (row >= p.rows.T * p.rows.B) return;
  const int64_t b = row % p.rows.B, t = row / p.rows.B;
  if (t < p.rows.length(b)) return;
  S* to = p.target + t * p.strides.time + b * p.strides.batch;
  for (int64_t i = threadIdx.x % kLanes; i < p.width; i += kLanes) to[i] = to_storage<S>(0);
}

// out [count] = in [count], rounded.
template <typename S>
struct RoundValues {
  const Compute<S>* in;
  S* out;
  int64_t count;
};

template <typename S>
__global__ void __launch_bounds__(kRowThreads) round_values_kernel(const RoundValues<S> p) {
  const int64_t stride = static_cast<int64_t>(gridDim.x) * kRowThreads;
  for (int64_t i = blockIdx.x * static_cast<int64_t>(kRowThreads) + threadIdx.x; i < p.count; i += stride) {
    p.out[i] = to_storage<S>(p.in[i]);
  }
}

// out [blocks of rows, columns] = or += the sums of each block of rows_per_sum rows of in [rows, columns]; In is the
// storage type, or the type of the sums.
template <typename In>
struct SumRows {
  const In* in;
  Compute<In>* out;
  int64_t rows, columns, rows_per_sum;
  bool add;
};

template <typename In>
__global__ void __launch_bounds__(kRowThreads) sum_rows_kernel(const SumRows<In> p) {
  using C = Compute<In>;
  using Shared = C[kRowsPerBlock][kLanes];
  Shared& shared = shared_memory<Shared>();
  const int lane = threadIdx.x % kLanes, part = threadIdx.x / kLanes;
  const int64_t column_blocks = divide_up(p.columns, kLanes);
  const int64_t column = blockIdx.x % column_blocks * kLanes + lane, block = blockIdx.x / column_blocks;
  const int64_t first = block * p.rows_per_sum;
  const int64_t end = first + p.rows_per_sum < p.rows ? first + p.rows_per_sum : p.rows;
  C sum = 0;
  if (column < p.columns) {
#pragma unroll 4
    for (int64_t row = first + part; row < end; row += kRowsPerBlock) sum += to_compute(p.in[row * p.columns + column]);
  }
  shared[part][lane] = sum;
  __syncthreads();
  if (part > 0 || column >= p.columns) return;
  for (int i = 1; i < kRowsPerBlock; ++i) sum += shared[i][lane];
  C& out = p.out[block * p.columns + column];
  out = p.add ? out + sum : sum;
}

template <typename Params>
Status launch_rows(void (*kernel)(Params), int64_t rows, void* stream, const Params& params) {
  return launch(kernel, divide_up(rows, kRowsPerBlock), kRowThreads, 0, stream, params);
}

template <typename S>
Status round_values(const void* in, void* out, int64_t count, void* stream) {
  constexpr int64_t kMaxBlocks = 4096;  // each thread takes several values from there on
  const RoundValues<S> params{static_cast<const Compute<S>*>(in), static_cast<S*>(out), count};
  return launch(round_values_kernel<S>, std::min(divide_up(count, kRowThreads), kMaxBlocks), kRowThreads, 0, stream,
                params);
}

template <typename In>
Status sum_rows(const SumRows<In>& params, void* stream) {
  const int64_t blocks = divide_up(params.rows, params.rows_per_sum) * divide_up(params.columns, kLanes);
  return launch(sum_rows_kernel<In>, blocks, kRowThreads, sizeof(Compute<In>[kRowsPerBlock][kLanes]), stream, params);
}

}  // namespace fused_rnn::cuda
