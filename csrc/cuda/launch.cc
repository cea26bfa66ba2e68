// What a failed CUDA call is told to the user as.
#include "csrc/cuda/launch.h"

#include "csrc/cuda/time_loop.h"

namespace fused_rnn::cuda {
namespace {

std::string device_name() {
  int device = 0, major = 0, minor = 0;
  if (cudaGetDevice(&device) != cudaSuccess ||
      cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device) != cudaSuccess ||
      cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device) != cudaSuccess) {
    return "this GPU";
  }
  return "GPU " + std::to_string(device) + " (sm_" + std::to_string(major) + std::to_string(minor) + ")";
}

}  // namespace

Status cuda_status(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return {};
  cudaGetLastError();  // or the caller's next check would find this one's error
  if (error == cudaErrorNoKernelImageForDevice || error == cudaErrorInvalidDeviceFunction ||
      error == cudaErrorUnsupportedPtxVersion) {
    return {"fused_rnn has no kernel that " + device_name() + " and its driver can run: it was built with CUDA " +
            cuda_version() + " for " + cuda_targets() + "."};
  }
  return {std::string("fused_rnn could not ") + what + ": " + cudaGetErrorString(error) + "."};
}

}  // namespace fused_rnn::cuda
