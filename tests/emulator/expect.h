// What the emulator's tests share: how they say that something is not as it should be, and device memory.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstring>

#include "tests/emulator/emulator.h"

constexpr int kSeeds = 20;

inline int failures = 0;

inline void expect(bool true_of_it, const char* what) {
  if (true_of_it) return;
  std::printf("not so: %s (%s)\n", what, cudaGetErrorString(cudaErrorLaunchFailure));
  ++failures;
}

// Whether these words stand in what went wrong last.
inline bool says(const char* words) {
  return std::strstr(cudaGetErrorString(cudaErrorLaunchFailure), words) != nullptr;
}

// Device memory of `count` values.
template <typename T>
class DeviceArray {
 public:
  explicit DeviceArray(int64_t count) : bytes_(count * sizeof(T)) { cudaMalloc(&memory_, bytes_); }
  DeviceArray(const DeviceArray&) = delete;
  ~DeviceArray() { cudaFree(memory_); }
  T* data() const { return static_cast<T*>(memory_); }
  void clear() const { cudaMemsetAsync(memory_, 0, bytes_, nullptr); }

 private:
  size_t bytes_;
  void* memory_ = nullptr;
};

using DeviceFloats = DeviceArray<float>;
