// The emulator on kernels that are right, and on kernels that are wrong in the ways it is there to find; and what a
// user is told of a launch that fails. Says nothing and ends with 0 if all is as it should be.

#include "tests/emulator/emulator.h"

#include <cmath>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "csrc/cuda/launch.h"

namespace {

constexpr int kThreads = 96, kBlocks = 5, kSeeds = 20;

int failures = 0;

void expect(bool true_of_it, const char* what) {
  if (true_of_it) return;
  std::printf("not so: %s\n", what);
  ++failures;
}

// out [kBlocks, kThreads]: the value of the thread on the other end of the block, through shared memory.
void reverse_kernel(float* out, bool with_barrier) {
  float* shared = static_cast<float*>(emulator::shared_memory());
  shared[threadIdx.x] = static_cast<float>(blockIdx.x * blockDim.x + threadIdx.x);
  if (with_barrier) __syncthreads();
  out[blockIdx.x * blockDim.x + threadIdx.x] = shared[blockDim.x - 1 - threadIdx.x];
}

bool reverses(uint64_t seed, bool with_barrier) {
  void* memory = nullptr;
  cudaMalloc(&memory, kBlocks * kThreads * sizeof(float));
  float* out = static_cast<float*>(memory);
  emulator::set_seed(seed);
  const cudaError_t error =
      emulator::launch([=] { reverse_kernel(out, with_barrier); }, kBlocks, kThreads, kThreads * sizeof(float));
  bool right = error == cudaSuccess;
  for (int i = 0; i < kBlocks * kThreads; ++i) {
    const int block = i / kThreads, thread = i % kThreads;
    right = right && out[i] == static_cast<float>(block * kThreads + kThreads - 1 - thread);
  }
  cudaFree(memory);
  return right;
}

void test_barriers() {
  int right = 0, right_without = 0;
  for (uint64_t seed = 0; seed < kSeeds; ++seed) {
    right += reverses(seed, true);
    right_without += reverses(seed, false);
  }
  expect(right == kSeeds, "a kernel with its barrier is right under every seed");
  expect(right_without == 0, "a kernel without its barrier is wrong under every seed");
}

// A sum in two rounds, the second of which must not begin before every thread has read the first's result: the barrier
// that is easiest to forget.
void two_rounds_kernel(float* out, bool with_barrier) {
  float* shared = static_cast<float*>(emulator::shared_memory());
  float sum = 0;
  for (int round = 0; round < 2; ++round) {
    shared[threadIdx.x] = static_cast<float>(round + 1);
    __syncthreads();
    for (unsigned i = 0; i < blockDim.x; ++i) sum += shared[i];
    if (with_barrier) __syncthreads();
  }
  out[threadIdx.x] = sum;
}

void test_second_barrier() {
  for (bool with_barrier : {true, false}) {
    int right = 0;
    for (uint64_t seed = 0; seed < kSeeds; ++seed) {
      std::vector<float> out(kThreads);
      float* to = out.data();
      emulator::set_seed(seed);
      emulator::launch([=] { two_rounds_kernel(to, with_barrier); }, 1, kThreads, kThreads * sizeof(float));
      bool all = true;
      for (float value : out) all = all && value == 3 * kThreads;
      right += all;
    }
    expect(right == (with_barrier ? kSeeds : 0), with_barrier ? "two rounds are right with both barriers"
                                                              : "two rounds are wrong without the second barrier");
  }
}

// Blocks that read what other blocks of the launch write: wrong, and right if they happen to run in order.
void test_block_order() {
  std::vector<int> seen;
  for (uint64_t seed = 0; seed < kSeeds; ++seed) {
    std::vector<int> order;
    emulator::set_seed(seed);
    emulator::launch([&] { order.push_back(static_cast<int>(blockIdx.x)); }, kBlocks, 1, 0);
    expect(order.size() == kBlocks, "every block runs once");
    seen.push_back(order.front());
  }
  bool differs = false;
  for (int first : seen) differs = differs || first != seen.front();
  expect(differs, "blocks run in an order of the seed's");
}

bool says(const char* words) {
  return std::strstr(cudaGetErrorString(cudaErrorLaunchFailure), words) != nullptr;
}

void test_divergence() {
  const auto leave_early = [] {
    if (threadIdx.x == 7) return;
    __syncthreads();
  };
  expect(emulator::launch(leave_early, 1, kThreads, 0) == cudaErrorLaunchFailure && says("95 threads wait"),
         "a thread that leaves while others wait fails the launch");
  expect(reverses(0, true), "the next launch is not harmed by it");
}

cudaError_t touch(void* memory, int64_t index, bool write) {
  return emulator::launch(
      [=] {
        volatile float* at = static_cast<float*>(memory) + index;
        if (write) {
          *at = 1;
        } else {
          static_cast<void>(*at);
        }
      },
      1, 1, 0);
}

void test_bounds() {
  void* memory = nullptr;
  cudaMalloc(&memory, 16 * sizeof(float));
  for (bool write : {false, true}) {
    expect(touch(memory, 15, write) == cudaSuccess, "the last element may be touched");
    expect(touch(memory, 16, write) == cudaErrorIllegalAddress && says("thread 0 of block 0"),
           "an access past the end of device memory fails the launch");
  }
  expect(touch(memory, -1, true) == cudaErrorIllegalAddress && says("wrote outside"),
         "a write before device memory fails the launch");
  cudaFree(memory);
  const auto past_shared = [] { static_cast<volatile float*>(emulator::shared_memory())[threadIdx.x] = 0; };
  expect(emulator::launch(past_shared, 1, 32, 32 * sizeof(float)) == cudaSuccess, "all of shared memory may be used");
  expect(emulator::launch(past_shared, 1, 33, 32 * sizeof(float)) == cudaErrorIllegalAddress,
         "an access past the end of shared memory fails the launch");
  expect(reverses(0, true), "the next launch is not harmed by it");
}

void test_undefined_memory() {
  void* memory = nullptr;
  cudaMalloc(&memory, sizeof(float));
  expect(std::isnan(*static_cast<float*>(memory)), "new device memory is NaN");
  cudaFree(memory);
  float value = 0;
  float* to = &value;
  emulator::launch([=] { *to = static_cast<float*>(emulator::shared_memory())[0]; }, 1, 1, sizeof(float));
  expect(std::isnan(value), "new shared memory is NaN");
}

bool holds(const fused_rnn::Status& status, const char* words) {
  return status.message.find(words) != std::string::npos;
}

// What the user reads of a launch that fails.
void test_launch_errors() {
  using fused_rnn::cuda::cuda_status;
  void (*kernel)(int) = [](int) { __syncthreads(); };
  expect(fused_rnn::cuda::launch(kernel, 0, kThreads, 0, nullptr, 1).ok(), "no blocks are no error");
  expect(fused_rnn::cuda::launch(kernel, 1, kThreads, 0, nullptr, 1).ok(), "a right launch is no error");
  expect(holds(fused_rnn::cuda::launch(kernel, 1, 2000, 0, nullptr, 1), "could not launch a CUDA kernel: "),
         "too many threads are an error");
  expect(holds(fused_rnn::cuda::launch(kernel, int64_t{1} << 31, 1, 0, nullptr, 1), "more thread blocks"),
         "too many blocks are an error");
  expect(holds(cuda_status(cudaErrorNoKernelImageForDevice, "launch"), "GPU 0 (sm_80)") &&
             holds(cuda_status(cudaErrorNoKernelImageForDevice, "launch"), "for emulator."),
         "a GPU without a kernel is named, and what there are kernels for");
}

// Every half-width number and back, and what lies between two of them.
template <typename Half>
void test_half(float (*widen)(Half), Half (*narrow)(float), uint16_t infinity, const char* what) {
  bool same = true, rounded = true;
  for (uint32_t bits = 0; bits < infinity; ++bits) {
    const Half low{static_cast<uint16_t>(bits)}, high{static_cast<uint16_t>(bits + 1)};
    same = same && narrow(widen(low)).bits == low.bits && narrow(-widen(low)).bits == (low.bits | 0x8000);
    if (high.bits == infinity) continue;
    const float middle = widen(low) / 2 + widen(high) / 2;
    const uint16_t even = bits % 2 == 0 ? low.bits : high.bits;
    rounded = rounded && narrow(middle).bits == even && narrow(std::nextafter(middle, 0.0f)).bits == low.bits &&
              narrow(std::nextafter(middle, INFINITY)).bits == high.bits;
  }
  expect(same && rounded, what);
  expect(narrow(INFINITY).bits == infinity && narrow(3e38f * 2).bits == infinity, what);
  expect(std::isnan(widen(narrow(NAN))) && std::isinf(widen(Half{infinity})), what);
}

}  // namespace

int main() {
  test_barriers();
  test_second_barrier();
  test_block_order();
  test_divergence();
  test_bounds();
  test_undefined_memory();
  test_launch_errors();
  test_half<__half>(__half2float, __float2half_rn, 0x7c00, "float16 rounds to nearest even");
  test_half<__nv_bfloat16>(__bfloat162float, __float2bfloat16_rn, 0x7f80, "bfloat16 rounds to nearest even");
  return failures > 0;
}
