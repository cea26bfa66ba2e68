// TensorFlow's own BLAS for the core's large products on the GPU.
#pragma once

#include "csrc/sequence.h"
#include "tensorflow/core/framework/op_kernel.h"

namespace fused_rnn::tf {

// Runs a product on the stream of this call.
Status blas_product(tensorflow::OpKernelContext* context, const Product& product);

// The cudaStream_t of this call.
void* cuda_stream(tensorflow::OpKernelContext* context);

// Whether TensorFlow's switch lets float32 products run on TF32 tensor cores.
bool allow_tf32();

}  // namespace fused_rnn::tf
