// What the ops' definitions and kernels share.
#pragma once

#include <string>

#include "csrc/check.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/types.h"

namespace fused_rnn::tf {

inline DType dtype_of(tensorflow::DataType dtype) {
  switch (dtype) {
    case tensorflow::DT_DOUBLE: return DType::kFloat64;
    case tensorflow::DT_HALF: return DType::kFloat16;
    case tensorflow::DT_BFLOAT16: return DType::kBFloat16;
    default: return DType::kFloat32;
  }
}

}  // namespace fused_rnn::tf
