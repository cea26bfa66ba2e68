// Matrix products on cuBLAS, opened by name: no header of it, and no library where nobody multiplies.
#include "csrc/cuda/cublas.h"

#include <dlfcn.h>

#include <map>
#include <mutex>
#include <string>

#include "csrc/cuda/launch.h"

namespace fused_rnn::cuda {
namespace {

// The functions in use, and of cuBLAS's enumerations the values in use. These are the same in its versions 12 and 13.
struct Cublas {
  int (*create)(void** handle);
  int (*set_stream)(void* handle, cudaStream_t stream);
  int (*set_math_mode)(void* handle, int mode);
  int (*gemm)(void* handle, int transpose_a, int transpose_b, int m, int n, int k, const void* alpha, const void* a,
              int a_type, int lda, const void* b, int b_type, int ldb, const void* beta, void* c, int c_type, int ldc,
              int compute_type, int algorithm);
};

constexpr int kSumsStayFloat = 16;  // CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION
constexpr int kCompute32F = 68, kCompute64F = 70, kCompute32FFastTf32 = 77, kDefaultAlgorithm = -1;

int data_type(DType dtype) {  // cudaDataType_t
  switch (dtype) {
    case DType::kFloat64: return 1;
    case DType::kFloat16: return 2;
    case DType::kBFloat16: return 14;
    case DType::kFloat32: break;
  }
  return 0;
}

template <typename Function>
bool find(void* library, const char* name, Function** function) {
  *function = reinterpret_cast<Function*>(dlsym(library, name));
  return *function != nullptr;
}

Status open(Cublas* cublas) {
  std::string tried;
  for (const char* name : {"libcublas.so.13", "libcublas.so.12"}) {
    void* library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) {
      tried += std::string(tried.empty() ? "" : "; ") + dlerror();
      continue;
    }
    if (find(library, "cublasCreate_v2", &cublas->create) && find(library, "cublasSetStream_v2", &cublas->set_stream) &&
        find(library, "cublasSetMathMode", &cublas->set_math_mode) && find(library, "cublasGemmEx", &cublas->gemm)) {
      return {};
    }
    tried += std::string(tried.empty() ? "" : "; ") + name + " lacks a function that fused_rnn needs";
  }
  return {"fused_rnn could not open cuBLAS (" + tried + ")."};
}

Status cublas_status(int status, const char* what) {
  if (status == 0) return {};
  return {std::string("fused_rnn could not ") + what + ": cuBLAS says error " + std::to_string(status) + "."};
}

// cuBLAS and its handle for the current device, made when first asked for and kept to the end of the process. The
// caller holds the lock.
Status current_handle(const Cublas** cublas_out, void** handle_out) {
  static Cublas cublas{};
  static std::map<int, void*> handles;  // by device
  if (cublas.gemm == nullptr) {
    Cublas opened{};
    FUSED_RNN_RETURN_IF_ERROR(open(&opened));
    cublas = opened;
  }
  int device = 0;
  FUSED_RNN_RETURN_IF_ERROR(cuda_status(cudaGetDevice(&device), "find the current GPU"));
  void*& handle = handles[device];
  if (handle == nullptr) {
    FUSED_RNN_RETURN_IF_ERROR(cublas_status(cublas.create(&handle), "start cuBLAS"));
    FUSED_RNN_RETURN_IF_ERROR(cublas_status(cublas.set_math_mode(handle, kSumsStayFloat), "set up cuBLAS"));
  }
  *cublas_out = &cublas, *handle_out = handle;
  return {};
}

}  // namespace

Status cublas_product(void* stream, bool allow_tf32, const Product& p) {
  for (int64_t size : {p.M, p.N, p.K, p.lda, p.ldb, p.ldc}) {
    if (size > INT32_MAX) return {"fused_rnn could not multiply: a matrix is too large for cuBLAS."};
  }
  static std::mutex mutex;
  const std::lock_guard<std::mutex> lock(mutex);
  const Cublas* cublas = nullptr;
  void* handle = nullptr;
  FUSED_RNN_RETURN_IF_ERROR(current_handle(&cublas, &handle));
  FUSED_RNN_RETURN_IF_ERROR(
      cublas_status(cublas->set_stream(handle, static_cast<cudaStream_t>(stream)), "give cuBLAS its stream"));
  const bool is_double = p.c_dtype == DType::kFloat64;
  const double one = 1;
  const float one_float = 1, beta_float = static_cast<float>(p.beta);
  const void* alpha = is_double ? static_cast<const void*>(&one) : &one_float;
  const void* beta = is_double ? static_cast<const void*>(&p.beta) : &beta_float;
  const bool tf32 = allow_tf32 && p.ab_dtype == DType::kFloat32;
  const int compute = is_double ? kCompute64F : tf32 ? kCompute32FFastTf32 : kCompute32F;
  // cuBLAS counts columns first: to it every matrix here is its transpose, and c^T = op(b)^T . op(a)^T.
  return cublas_status(cublas->gemm(handle, p.transpose_b, p.transpose_a, static_cast<int>(p.N), static_cast<int>(p.M),
                                    static_cast<int>(p.K), alpha, p.b, data_type(p.ab_dtype), static_cast<int>(p.ldb),
                                    p.a, data_type(p.ab_dtype), static_cast<int>(p.lda), beta, p.c,
                                    data_type(p.c_dtype), static_cast<int>(p.ldc), compute, kDefaultAlgorithm),
                       "multiply two matrices");
}

}  // namespace fused_rnn::cuda
