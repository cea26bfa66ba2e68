// The CUDA runtime and the one road by which kernels are launched. This file and ptx.cuh alone know whether the kernels
// run on a GPU or, built by the host compiler with FUSED_RNN_EMULATOR, on the emulator of tests/emulator.
// May be included by host code too.
#pragma once

#if defined(FUSED_RNN_EMULATOR)
#include "tests/emulator/emulator.h"
#else
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#endif

#include <cstdint>

#include "csrc/sequence.h"

#define FUSED_RNN_RETURN_IF_ERROR(expression)                        \
  do {                                                               \
    if (::fused_rnn::Status status_ = (expression); !status_.ok()) { \
      return status_;                                                \
    }                                                                \
  } while (false)

namespace fused_rnn::cuda {

// Workspace for the loop steps whose input products are taken together, and for those whose weight gradients are.
// On the emulator so little that small tests have several chunks.
constexpr int64_t kGpuChunkBytes = 128 << 20;
#if defined(FUSED_RNN_EMULATOR)
constexpr int64_t kForwardChunkBytes = 4 << 10, kBackwardChunkBytes = 8 << 10;
#else
constexpr int64_t kForwardChunkBytes = kGpuChunkBytes, kBackwardChunkBytes = kGpuChunkBytes;
#endif

// One sentence for the user where error is one; `what` ends "fused_rnn could not ".
Status cuda_status(cudaError_t error, const char* what);

__host__ __device__ constexpr int64_t divide_up(int64_t value, int64_t by) {
  return (value + by - 1) / by;
}

// The shared memory of the block: as many bytes as launch was told.
template <typename T>
__device__ inline T& shared_memory() {
#if defined(FUSED_RNN_EMULATOR)
  return *static_cast<T*>(emulator::shared_memory());
#else
  extern __shared__ __align__(16) unsigned char fused_rnn_shared[];
  return *reinterpret_cast<T*>(fused_rnn_shared);
#endif
}

struct Grid {
  int64_t x;  // blocks in a row
  int y = 1;  // rows
};

// What launch and launch_cooperative share.
template <bool kCooperative, typename Params>
Status launch_blocks(void (*kernel)(Params), const Grid& blocks, int threads, int64_t shared_bytes, void* stream,
                     const Params& params) {
  static_assert(sizeof(Params) <= 4096, "CUDA takes no larger parameters on all GPUs");
  if (blocks.x == 0) return {};
  if (blocks.x > INT32_MAX) {
    return {"fused_rnn could not run: the tensors need more thread blocks than CUDA can launch."};
  }
#if defined(FUSED_RNN_EMULATOR)
  static_cast<void>(stream);
  const auto thread = [=] { kernel(params); };
  const cudaError_t error = kCooperative
                                ? emulator::launch_cooperative(thread, blocks.x, threads, shared_bytes, blocks.y)
                                : emulator::launch(thread, blocks.x, threads, shared_bytes);
#else
  const void* function = reinterpret_cast<const void*>(kernel);
  const dim3 grid(static_cast<unsigned>(blocks.x), static_cast<unsigned>(blocks.y));
  const dim3 block(static_cast<unsigned>(threads));
  void* arguments[] = {const_cast<Params*>(&params)};
  const size_t bytes = static_cast<size_t>(shared_bytes);
  const cudaStream_t on = static_cast<cudaStream_t>(stream);
  const cudaError_t error = kCooperative ? cudaLaunchCooperativeKernel(function, grid, block, arguments, bytes, on)
                                         : cudaLaunchKernel(function, grid, block, arguments, bytes, on);
#endif
  return cuda_status(error, "launch a CUDA kernel");
}

// Runs kernel(params) on blocks x threads, each block with shared_bytes (at most 48 KiB) of shared memory.
// Without blocks there is nothing to do.
template <typename Params>
Status launch(void (*kernel)(Params), int64_t blocks, int threads, int64_t shared_bytes, void* stream,
              const Params& params) {
  return launch_blocks<false>(kernel, {blocks}, threads, shared_bytes, stream, params);
}

// The same with all blocks there at once, so that they may wait for each other; an error where the GPU cannot hold them
// all. Shared memory up to what the GPU has (cudaDevAttrMaxSharedMemoryPerBlockOptin), which each call allows the
// kernel in full: the attribute is the whole process's, and another thread may be about to launch the same kernel with
// more.
template <typename Params>
Status launch_cooperative(void (*kernel)(Params), const Grid& blocks, int threads, int64_t shared_bytes, void* stream,
                          const Params& params) {
#if !defined(FUSED_RNN_EMULATOR)
  int device = 0, most = 0;
  FUSED_RNN_RETURN_IF_ERROR(cuda_status(cudaGetDevice(&device), "find the current GPU"));
  FUSED_RNN_RETURN_IF_ERROR(cuda_status(cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, device),
                                        "ask the GPU for its size"));
  FUSED_RNN_RETURN_IF_ERROR(cuda_status(
      cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel), cudaFuncAttributeMaxDynamicSharedMemorySize, most),
      "give a CUDA kernel its shared memory"));
#endif
  return launch_blocks<true>(kernel, blocks, threads, shared_bytes, stream, params);
}

}  // namespace fused_rnn::cuda
