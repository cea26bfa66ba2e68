// The entry points of the time loops: from a dtype to the code for it.
#include "csrc/cuda/time_loop.h"

#include "csrc/cuda/launch.h"

#if !defined(FUSED_RNN_CUDA_TARGETS)
#error "the build says which GPUs it compiles for: FUSED_RNN_CUDA_TARGETS"
#endif

namespace fused_rnn::cuda {

// time_loop_forward_*.cu and time_loop_backward_*.cu hold one each.
template <typename S>
Status time_loop_forward(const SequenceForwardParams* sequences, int count);
template <typename S>
Status time_loop_backward(const SequenceBackwardParams* sequences, int count);

Status sequence_forward(const SequenceForwardParams* sequences, int count) {
  switch (sequences->dtype) {
    case DType::kFloat64: return time_loop_forward<double>(sequences, count);
    case DType::kFloat16: return time_loop_forward<__half>(sequences, count);
    case DType::kBFloat16: return time_loop_forward<__nv_bfloat16>(sequences, count);
    case DType::kFloat32: break;
  }
  return time_loop_forward<float>(sequences, count);
}

Status sequence_backward(const SequenceBackwardParams* sequences, int count) {
  switch (sequences->dtype) {
    case DType::kFloat64: return time_loop_backward<double>(sequences, count);
    case DType::kFloat16: return time_loop_backward<__half>(sequences, count);
    case DType::kBFloat16: return time_loop_backward<__nv_bfloat16>(sequences, count);
    case DType::kFloat32: break;
  }
  return time_loop_backward<float>(sequences, count);
}

std::string cuda_version() {
  return std::to_string(CUDART_VERSION / 1000) + "." + std::to_string(CUDART_VERSION % 1000 / 10);
}

std::string cuda_targets() {
  return FUSED_RNN_CUDA_TARGETS;
}

}  // namespace fused_rnn::cuda
