// Matrix products on cuBLAS, which is opened when first needed: for callers that have no BLAS of their own.
#pragma once

#include "csrc/sequence.h"

namespace fused_rnn::cuda {

// On the current device and the given stream; allow_tf32 is SequenceParams'.
Status cublas_product(void* stream, bool allow_tf32, const Product& product);

}  // namespace fused_rnn::cuda
