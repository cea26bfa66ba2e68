// See blas.h. Compiled only with CUDA.
#include "csrc/tf/blas.h"

#include "tensorflow/core/platform/tensor_float_32_utils.h"
#include "xla/stream_executor/blas.h"
#include "xla/stream_executor/stream.h"
#include "xla/stream_executor/stream_executor.h"
#include "xla/tsl/util/determinism.h"

namespace fused_rnn::tf {
namespace {

namespace se = ::stream_executor;

se::Stream* stream_of(tensorflow::OpKernelContext* context) {
  return context->op_device_context()->stream();
}

se::blas::DataType blas_dtype(DType dtype) {
  switch (dtype) {
    case DType::kFloat64: return se::blas::DataType::kDouble;
    case DType::kFloat16: return se::blas::DataType::kHalf;
    case DType::kBFloat16: return se::blas::DataType::kBF16;
    case DType::kFloat32: break;
  }
  return se::blas::DataType::kFloat;
}

se::DeviceAddressBase address(const void* data) {
  // The size only serves bounds checks that BLAS does not make.
  return se::DeviceAddressBase(const_cast<void*>(data), 0);
}

}  // namespace

void* cuda_stream(tensorflow::OpKernelContext* context) {
  return stream_of(context)->platform_specific_handle().stream;
}

bool allow_tf32() {
  return tensorflow::tensor_float_32_execution_enabled();
}

Status blas_product(tensorflow::OpKernelContext* context, const Product& p) {
  se::Stream* stream = stream_of(context);
  se::blas::BlasSupport* blas = stream->parent()->AsBlas();
  if (blas == nullptr) return {"TensorFlow has no BLAS for this device"};
  const bool is_double = p.c_dtype == DType::kFloat64;
  const double beta_double = p.beta;
  const double alpha_double = 1;
  const float beta_float = static_cast<float>(p.beta);
  const float alpha_float = 1;
  const auto op = [](bool transpose) {
    return transpose ? se::blas::Transpose::kTranspose : se::blas::Transpose::kNoTranspose;
  };
  se::DeviceAddressBase c = address(p.c);
  // BLAS is column-major, where a row-major matrix is its own transpose: c^T = op(b)^T . op(a)^T.
  const absl::Status status = blas->DoBlasGemmWithAlgorithm(
      stream, op(p.transpose_b), op(p.transpose_a), p.N, p.M, p.K,
      is_double ? static_cast<const void*>(&alpha_double) : &alpha_float, address(p.b), blas_dtype(p.ab_dtype),
      static_cast<int>(p.ldb), address(p.a), blas_dtype(p.ab_dtype), static_cast<int>(p.lda),
      is_double ? static_cast<const void*>(&beta_double) : &beta_float, &c, blas_dtype(p.c_dtype),
      static_cast<int>(p.ldc), is_double ? se::blas::ComputationType::kF64 : se::blas::ComputationType::kF32,
      se::blas::kDefaultAlgorithm, se::EngineOptions(tsl::OpDeterminismRequired(), allow_tf32(), false), nullptr,
      se::blas::CallContext::kNone);
  return {status.ok() ? std::string() : std::string(status.message())};
}

}  // namespace fused_rnn::tf
