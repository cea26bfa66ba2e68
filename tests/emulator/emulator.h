// A small emulation of CUDA on the host, so that the source of the kernels, compiled by the host compiler, runs without
// a GPU: threads as fibers that take turns where they wait for each other, blocks one after another or, of a
// cooperative launch, all at once, and those functions of the CUDA runtime that are in use. Blocks and, between two
// barriers, threads run in an order shuffled by a seed. What fails the launch, with a sentence that says who did what:
// an access beside an allocation of device or shared memory; a read of memory that nobody has written; two threads that
// use the same memory, one of them to write, with nothing that orders the two (a barrier, or between blocks that are
// there at once a release that the other has acquired); a thread that leaves while others wait; threads that wait for
// ever.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>

#include "tests/emulator/half.h"

#define CUDART_VERSION 13000

#define __host__
#define __device__
#define __global__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __grid_constant__

struct uint3 {
  unsigned x, y, z;
};

struct dim3 {
  unsigned x = 1, y = 1, z = 1;
};

extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;

struct alignas(16) float4 {
  float x, y, z, w;
};

struct alignas(16) uint4 {
  unsigned x, y, z, w;
};

void __syncthreads();
void __syncwarp();
float __shfl_xor_sync(unsigned mask, float value, int lane_mask);
uint32_t __shfl_xor_sync(unsigned mask, uint32_t value, int lane_mask);

template <typename T>
T __ldcg(const T* from) {
  return *from;
}

enum cudaError_t {
  cudaSuccess = 0,
  cudaErrorMemoryAllocation = 2,
  cudaErrorInvalidConfiguration = 9,
  cudaErrorInvalidDeviceFunction = 98,
  cudaErrorNoKernelImageForDevice = 209,
  cudaErrorUnsupportedPtxVersion = 222,
  cudaErrorIllegalAddress = 700,
  cudaErrorLaunchFailure = 719,
  cudaErrorCooperativeLaunchTooLarge = 720,
};

enum cudaMemcpyKind { cudaMemcpyHostToDevice = 1, cudaMemcpyDeviceToHost = 2, cudaMemcpyDeviceToDevice = 3 };

enum cudaDeviceAttr {
  cudaDevAttrMultiProcessorCount = 16,
  cudaDevAttrComputeCapabilityMajor = 75,
  cudaDevAttrComputeCapabilityMinor = 76,
  cudaDevAttrCooperativeLaunch = 95,
  cudaDevAttrMaxSharedMemoryPerBlockOptin = 97,
};

using cudaStream_t = struct CUstream_st*;

const char* cudaGetErrorString(cudaError_t error);
cudaError_t cudaGetLastError();
cudaError_t cudaGetDevice(int* device);
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device);
cudaError_t cudaMalloc(void** memory, size_t bytes);
cudaError_t cudaFree(void* memory);
cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind);
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream);
cudaError_t cudaMemsetAsync(void* memory, int value, size_t bytes, cudaStream_t stream);

namespace emulator {

// Runs thread() once for each thread of each block, to the end. What went wrong stands in cudaGetErrorString.
cudaError_t launch(const std::function<void()>& thread, int64_t blocks, int threads, int64_t shared_bytes);
// The same, with all blocks there at once: so many as the device has processors at most. blocks_y: the grid has so many
// rows of them.
cudaError_t launch_cooperative(const std::function<void()>& thread, int64_t blocks, int threads, int64_t shared_bytes,
                               int blocks_y = 1);

void* shared_memory();  // of the block that runs, aligned to 16 bytes

void set_seed(uint64_t seed);  // of the order; at the start it is FUSED_RNN_EMULATOR_SEED, or 0

}  // namespace emulator
