// The CUDA time loops, by either driver; and what the CUDA part was built with.
#pragma once

#include "csrc/sequence.h"

namespace fused_rnn::cuda {

size_t sequence_forward_workspace_bytes(const SequenceForwardParams* sequences, int count);
size_t sequence_backward_workspace_bytes(const SequenceBackwardParams* sequences, int count);
Status sequence_forward(const SequenceForwardParams* sequences, int count);
Status sequence_backward(const SequenceBackwardParams* sequences, int count);

std::string cuda_version();  // "13.0"
std::string cuda_targets();  // "sm_80 sm_90 compute_90"

}  // namespace fused_rnn::cuda
