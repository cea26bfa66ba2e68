// The inputs of the four ops by name, and their checks against one another.
#pragma once

#include <string>

#include "csrc/check.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/types.h"

namespace fused_rnn::tf {

// The cell that an attribute names; the op's definition allows no other names.
inline Cell cell_named(const std::string& name) {
  for (Cell cell : {Cell::kRnn, Cell::kGru, Cell::kGruResetAfter}) {
    if (name == cell_info(cell).name) return cell;
  }
  return Cell::kLstm;
}

inline DType dtype_of(tensorflow::DataType dtype) {
  switch (dtype) {
    case tensorflow::DT_DOUBLE: return DType::kFloat64;
    case tensorflow::DT_HALF: return DType::kFloat16;
    case tensorflow::DT_BFLOAT16: return DType::kBFloat16;
    default: return DType::kFloat32;
  }
}

}  // namespace fused_rnn::tf
