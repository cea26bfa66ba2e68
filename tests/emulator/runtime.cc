// What the emulated device says of itself and of errors.
#include "tests/emulator/emulator.h"
#include "tests/emulator/scheduler.h"

const char* cudaGetErrorString(cudaError_t) {
  return emulator::last_message().c_str();
}

cudaError_t cudaGetLastError() {
  return cudaSuccess;
}

cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  switch (attribute) {
    case cudaDevAttrMultiProcessorCount: *value = emulator::kProcessors; break;
    case cudaDevAttrComputeCapabilityMajor: *value = 8; break;
    case cudaDevAttrComputeCapabilityMinor: *value = 0; break;
    case cudaDevAttrCooperativeLaunch: *value = 1; break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin: *value = emulator::kMaxShared; break;
  }
  return cudaSuccess;
}
