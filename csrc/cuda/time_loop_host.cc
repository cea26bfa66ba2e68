// What the two time loops share on the host.
#include "csrc/cuda/time_loop_host.h"

#include <algorithm>

namespace fused_rnn::cuda {

Loop::Loop(const SequenceParams& p, int64_t* device_lengths)
    : lengths(p.lengths == nullptr ? nullptr : device_lengths), steps(p.T), padded(false), B(p.B), processors(0) {
  if (p.lengths == nullptr || p.B == 0) return;
  steps = *std::max_element(p.lengths, p.lengths + p.B);
  padded = *std::min_element(p.lengths, p.lengths + p.B) < p.T;
}

Status Loop::begin(const SequenceParams& p) {
  int device = 0;
  FUSED_RNN_RETURN_IF_ERROR(cuda_status(cudaGetDevice(&device), "find the current GPU"));
  FUSED_RNN_RETURN_IF_ERROR(cuda_status(cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device),
                                        "ask the GPU for its size"));
  if (p.lengths == nullptr) return {};
  return copy_lengths(p.lengths, p.B, lengths, p.stream);
}

TileSize Loop::tile_size(int64_t large_rows, int64_t large_units, int64_t units) const {
  if (B <= 8) return TileSize::kFew;
  const int64_t blocks = divide_up(B, large_rows) * divide_up(units, large_units);
  return B > large_rows / 2 && blocks >= 2 * processors ? TileSize::kLarge : TileSize::kMany;
}

Status begin_driver(const SequenceParams& p, const PersistentWorkspace& work) {
  if (p.driver == CudaDriver::kPersistent && p.T > 1 && !work.chosen) {
    return {"fused_rnn's persistent driver cannot run this: " + work.plan.why_not + "."};
  }
  return work.chosen ? clear(work.exchange, work.exchange_bytes, p.stream) : Status{};
}

Status begin_launch(const SequenceParams& p, const PersistentWorkspace& work, Division* division) {
  const PersistentPlan& plan = work.plan;
  division->blocks = plan.blocks, division->rows = plan.rows, division->B = p.B;
  for (int s = 0; s < plan.stages; ++s) division->stage[s] = plan.stage[s];
  division->flags = static_cast<unsigned*>(work.flags);
  division->streamed = static_cast<char*>(work.streamed), division->streamed_bytes = plan.streamed_bytes;
  division->tf32 = p.allow_tf32;
  return clear(work.flags, plan.side_by_side * plan.flag_bytes, p.stream);
}

Status copy_states(const SequenceParams& p, const void* const* from, void* const* to, int states, size_t bytes) {
  for (int i = 0; i < states; ++i) {
    const int64_t width = i == 0 ? p.P : p.H;
    FUSED_RNN_RETURN_IF_ERROR(cuda_status(cudaMemcpyAsync(to[i], from[i], p.B * width * bytes, cudaMemcpyDeviceToDevice,
                                                          static_cast<cudaStream_t>(p.stream)),
                                          "copy a state"));
  }
  return {};
}

Status clear(void* data, int64_t bytes, void* stream) {
  return cuda_status(cudaMemsetAsync(data, 0, bytes, static_cast<cudaStream_t>(stream)), "clear a tensor");
}

Status multiply_large(const SequenceParams& p, const Extent& extent, const Matrix& a, const Matrix& b, const Sum& c) {
  if (extent.M == 0 || extent.N == 0 || extent.K == 0) return {};
  Product product;
  product.transpose_a = a.transposed, product.transpose_b = b.transposed;
  product.M = extent.M, product.N = extent.N, product.K = extent.K;
  product.ab_dtype = p.dtype, product.c_dtype = compute_dtype(p.dtype);
  product.a = a.data, product.lda = a.stride;
  product.b = b.data, product.ldb = b.stride;
  product.c = c.data, product.ldc = c.stride, product.beta = c.beta;
  return p.product(product);
}

}  // namespace fused_rnn::cuda
