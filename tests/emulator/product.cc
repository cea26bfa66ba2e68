// Matrix products for the emulated module, in the place of cuBLAS: plain loops over host memory.
#include <algorithm>
#include <vector>

#include "csrc/cuda/cublas.h"
#include "csrc/cuda/storage.cuh"

namespace fused_rnn::cuda {
namespace {

// op(matrix) [rows, columns] in the compute type; stored transposed if so flagged.
template <typename S>
std::vector<Compute<S>> load(const void* matrix, int64_t stride, bool transposed, int64_t rows, int64_t columns) {
  const S* from = static_cast<const S*>(matrix);
  std::vector<Compute<S>> values(rows * columns);
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = 0; j < columns; ++j) {
      values[i * columns + j] = to_compute(transposed ? from[j * stride + i] : from[i * stride + j]);
    }
  }
  return values;
}

template <typename S, typename Result>
void multiply(const Product& p) {
  using C = Compute<S>;
  const std::vector<C> a = load<S>(p.a, p.lda, p.transpose_a, p.M, p.K);
  const std::vector<C> b = load<S>(p.b, p.ldb, p.transpose_b, p.K, p.N);
  constexpr int64_t kTerms = 64;  // that are summed first, or long sums would lose more digits than a BLAS's
  std::vector<C> row(p.N), part(p.N);
  for (int64_t i = 0; i < p.M; ++i) {
    Result* c = static_cast<Result*>(p.c) + i * p.ldc;
    for (int64_t j = 0; j < p.N; ++j) row[j] = p.beta == 0 ? C(0) : static_cast<C>(p.beta) * to_compute(c[j]);
    for (int64_t first = 0; first < p.K; first += kTerms) {
      std::fill(part.begin(), part.end(), C(0));
      for (int64_t k = first; k < std::min(first + kTerms, p.K); ++k) {
        for (int64_t j = 0; j < p.N; ++j) part[j] += a[i * p.K + k] * b[k * p.N + j];
      }
      for (int64_t j = 0; j < p.N; ++j) row[j] += part[j];
    }
    for (int64_t j = 0; j < p.N; ++j) c[j] = to_storage<Result>(row[j]);
  }
}

}  // namespace

Status cublas_product(void*, bool, const Product& product) {
  if (product.c_dtype != (product.ab_dtype == DType::kFloat64 ? DType::kFloat64 : DType::kFloat32)) {
    return {"the emulated module multiplies into float, or double for float64, only."};
  }
  switch (product.ab_dtype) {
    case DType::kFloat64: multiply<double, double>(product); break;
    case DType::kFloat32: multiply<float, float>(product); break;
    case DType::kFloat16: multiply<__half, float>(product); break;
    case DType::kBFloat16: multiply<__nv_bfloat16, float>(product); break;
  }
  return {};
}

}  // namespace fused_rnn::cuda
