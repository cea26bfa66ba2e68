// NumPy arrays as the core sees them: in place on the CPU, copied to the device and back on CUDA.
#pragma once

#include <pybind11/numpy.h>

#include <algorithm>
#include <cstdlib>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "csrc/sequence.h"

#if defined(FUSED_RNN_CUDA)
#include <cuda_runtime_api.h>

#include "csrc/cuda/cublas.h"
#endif

namespace fused_rnn {

class DeviceMemory {
 public:
  explicit DeviceMemory(const std::string& device) {
    if (device == "cpu") {
      device_ = Device::kCpu;
    } else if (device == "cuda") {
      device_ = Device::kCuda;
#if !defined(FUSED_RNN_CUDA)
      throw pybind11::value_error("device cuda: this build of fused_rnn_core has no CUDA kernels");
#endif
    } else {
      throw pybind11::value_error("device must be cpu or cuda, got " + device);
    }
  }

  Device device() const { return device_; }
  void* stream() const { return nullptr; }  // CUDA's default stream

  // The core's view of an argument, which lives as long as this object.
  const void* in(const pybind11::array& array) {
    pybind11::array contiguous = pybind11::array::ensure(array, pybind11::array::c_style);
    held_.push_back(contiguous);
    if (device_ == Device::kCpu) return contiguous.data();
    void* copy = allocate(contiguous.nbytes());
    copy_to_device(copy, contiguous.data(), contiguous.nbytes());
    return copy;
  }

  // Where the core writes what finish() puts into `array`.
  void* out(pybind11::array& array) {
    if (device_ == Device::kCpu) return array.mutable_data();
    void* at = allocate(array.nbytes());
    results_.emplace_back(array, at);
    return at;
  }

  void* workspace(size_t bytes) { return allocate(bytes); }

  void finish() {
    for (auto& [array, from] : results_) copy_from_device(array.mutable_data(), from, array.nbytes());
  }

#if defined(FUSED_RNN_CUDA)
  static void check(cudaError_t error) {
    if (error != cudaSuccess) throw std::runtime_error(std::string("CUDA: ") + cudaGetErrorString(error));
  }
  std::function<Status(const Product&)> product(bool allow_tf32) const {
    return [=](const Product& product) { return cuda::cublas_product(nullptr, allow_tf32, product); };
  }
#else
  std::function<Status(const Product&)> product(bool) const { return {}; }
#endif

 private:
  struct Free {
    Device device;
    void operator()(void* memory) const {
#if defined(FUSED_RNN_CUDA)
      if (device == Device::kCuda) return static_cast<void>(cudaFree(memory));
#endif
      std::free(memory);
    }
  };

  void* allocate(size_t bytes) {
    void* memory = nullptr;
    if (device_ == Device::kCpu) memory = std::aligned_alloc(64, (bytes + 64) / 64 * 64);
#if defined(FUSED_RNN_CUDA)
    if (device_ == Device::kCuda) check(cudaMalloc(&memory, std::max<size_t>(bytes, 1)));
#endif
    if (memory == nullptr) throw std::bad_alloc();
    allocated_.emplace_back(memory, Free{device_});
    return memory;
  }

#if defined(FUSED_RNN_CUDA)
  static void copy_to_device(void* to, const void* from, size_t bytes) {
    check(cudaMemcpy(to, from, bytes, cudaMemcpyHostToDevice));
  }
  static void copy_from_device(void* to, const void* from, size_t bytes) {
    check(cudaMemcpy(to, from, bytes, cudaMemcpyDeviceToHost));
  }
#else
  static void copy_to_device(void*, const void*, size_t) {}
  static void copy_from_device(void*, const void*, size_t) {}
#endif

  Device device_;
  std::vector<pybind11::array> held_;
  std::vector<std::unique_ptr<void, Free>> allocated_;
  std::vector<std::pair<pybind11::array, void*>> results_;
};

}  // namespace fused_rnn
