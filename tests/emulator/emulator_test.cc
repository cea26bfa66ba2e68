// The emulator on kernels that are right, and on kernels that are wrong in the ways it is there to find; and what a
// user is told of a launch that fails. Says nothing and ends with 0 if all is as it should be.

#include "tests/emulator/emulator.h"

#include <cmath>
#include <string>
#include <vector>

#include "csrc/cuda/launch.h"
#include "tests/emulator/expect.h"

namespace {

constexpr int kThreads = 96, kBlocks = 5;

// out [kBlocks, kThreads]: the value of the thread on the other end of the block, through shared memory.
void reverse_kernel(float* out, bool with_barrier) {
  float* shared = static_cast<float*>(emulator::shared_memory());
  shared[threadIdx.x] = static_cast<float>(blockIdx.x * blockDim.x + threadIdx.x);
  if (with_barrier) __syncthreads();
  out[blockIdx.x * blockDim.x + threadIdx.x] = shared[blockDim.x - 1 - threadIdx.x];
}

cudaError_t run_reverse(float* out, bool with_barrier) {
  return emulator::launch([=] { reverse_kernel(out, with_barrier); }, kBlocks, kThreads, kThreads * sizeof(float));
}

bool reverses(uint64_t seed) {
  const DeviceFloats out(kBlocks * kThreads);
  emulator::set_seed(seed);
  bool right = run_reverse(out.data(), true) == cudaSuccess;
  for (int i = 0; i < kBlocks * kThreads; ++i) {
    const int block = i / kThreads, thread = i % kThreads;
    right = right && out.data()[i] == static_cast<float>(block * kThreads + kThreads - 1 - thread);
  }
  return right;
}

void test_barriers() {
  const DeviceFloats out(kBlocks * kThreads);
  for (uint64_t seed = 0; seed < kSeeds; ++seed) {
    expect(reverses(seed), "a kernel with its barrier is right under every seed");
    expect(run_reverse(out.data(), false) != cudaSuccess &&
               (says("and nothing orders the two") || says("that nobody has written")),
           "a missing barrier is reported under every seed");
  }
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
  const DeviceFloats out(kThreads);
  float* to = out.data();
  for (uint64_t seed = 0; seed < kSeeds; ++seed) {
    for (bool with_barrier : {true, false}) {
      emulator::set_seed(seed);
      const cudaError_t error =
          emulator::launch([=] { two_rounds_kernel(to, with_barrier); }, 1, kThreads, kThreads * sizeof(float));
      if (with_barrier) {
        expect(error == cudaSuccess && to[0] == 3 * kThreads, "two rounds are right with both barriers");
      } else {
        expect(error != cudaSuccess && says("and nothing orders the two"),
               "a missing second barrier is reported under every seed");
      }
    }
  }
}

// Two blocks of a launch that use the same memory, which nothing orders, in whichever order they run.
void test_blocks_that_meet() {
  const DeviceFloats memory(kBlocks);
  float* at = memory.data();
  for (uint64_t seed = 0; seed < kSeeds; ++seed) {
    emulator::set_seed(seed);
    expect(emulator::launch([=] { at[blockIdx.x] = 1; }, kBlocks, 1, 0) == cudaSuccess, "blocks write side by side");
    expect(emulator::launch([=] { at[0] = 1; }, kBlocks, 1, 0) != cudaSuccess && says("wrote what thread 0 of block"),
           "blocks that write the same memory are reported");
    const auto read_neighbour = [=] { at[blockIdx.x] += at[(blockIdx.x + 1) % gridDim.x]; };
    expect(emulator::launch(read_neighbour, kBlocks, 1, 0) != cudaSuccess && says("and nothing orders the two"),
           "a block that reads what another writes is reported");
    const DeviceFloats sink(2 * kBlocks);
    float* out = sink.data();
    const auto read_then_write = [=] {
      out[blockIdx.x * 2 + threadIdx.x] = at[0];
      __syncthreads();
      out[blockIdx.x * 2 + threadIdx.x] += at[0];
      __syncthreads();
      if (blockIdx.x == 3 && threadIdx.x == 0) at[0] = 2;
    };
    expect(emulator::launch(read_then_write, kBlocks, 2, 0) != cudaSuccess && says("and nothing orders the two"),
           "a block that writes what others and it itself have read is reported");
  }
}

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

void test_divergence() {
  const auto leave_early = [] {
    if (threadIdx.x == 7) return;
    __syncthreads();
  };
  expect(emulator::launch(leave_early, 1, kThreads, 0) == cudaErrorLaunchFailure && says("95 threads wait"),
         "a thread that leaves while others wait fails the launch");
  expect(reverses(0), "the next launch is not harmed by it");
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
  cudaMalloc(&memory, 13 * sizeof(float));
  cudaMemsetAsync(memory, 0, 13 * sizeof(float), nullptr);
  for (bool write : {false, true}) {
    expect(touch(memory, 12, write) == cudaSuccess, "the last element may be touched");
    for (int64_t outside : {-1, 13, 16, 1000}) {
      expect(touch(memory, outside, write) == cudaErrorIllegalAddress &&
                 says(write ? "thread 0 of block 0 wrote to address" : "thread 0 of block 0 read address") &&
                 says("which is in no allocation"),
             "an access outside of device memory is reported");
    }
  }
  cudaFree(memory);
  expect(touch(memory, 0, true) == cudaErrorIllegalAddress, "an access to memory that was freed is reported");
  for (int time = 0; time < 2; ++time) {
    expect(touch(nullptr, 3, true) == cudaErrorIllegalAddress && says("touched address 12, which is not in memory"),
           "a fault is reported, and the next one too");
  }
  const auto past_shared = [] { static_cast<volatile float*>(emulator::shared_memory())[threadIdx.x] = 0; };
  expect(emulator::launch(past_shared, 1, 32, 32 * sizeof(float)) == cudaSuccess, "all of shared memory may be used");
  expect(emulator::launch(past_shared, 1, 33, 32 * sizeof(float)) == cudaErrorIllegalAddress,
         "an access past the end of shared memory fails the launch");
  expect(reverses(0), "the next launch is not harmed by it");
}

void test_undefined_memory() {
  const DeviceFloats memory(1);
  expect(std::isnan(*memory.data()), "new device memory is NaN");
  expect(touch(memory.data(), 0, false) != cudaSuccess && says("nobody has written"),
         "a read of new device memory is reported");
  expect(touch(memory.data(), 0, true) == cudaSuccess && touch(memory.data(), 0, false) == cudaSuccess,
         "what has been written may be read");
  float* to = memory.data();
  const auto read_shared = [=] {
    if (blockIdx.x == 0) static_cast<float*>(emulator::shared_memory())[0] = 1;
    to[0] = static_cast<float*>(emulator::shared_memory())[0];
  };
  expect(emulator::launch(read_shared, 1, 1, sizeof(float)) == cudaSuccess, "shared memory may be used");
  expect(emulator::launch(read_shared, 2, 1, sizeof(float)) != cudaSuccess && says("block 1 read memory that nobody"),
         "a read of what another block left in shared memory is reported");
}

void test_many_barriers() {
  const auto meet = [](int times) {
    return emulator::launch(
        [=] {
          for (int i = 0; i < times; ++i) __syncthreads();
        },
        1, 2, 0);
  };
  expect(meet(16000) == cudaSuccess, "a kernel may have many barriers");
  expect(meet(17000) != cudaSuccess && says("of block 0 met more barriers than"), "but not more than can be counted");
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
  test_blocks_that_meet();
  test_block_order();
  test_divergence();
  test_bounds();
  test_undefined_memory();
  test_many_barriers();
  test_launch_errors();
  test_half<__half>(__half2float, __float2half_rn, 0x7c00, "float16 rounds to nearest even");
  test_half<__nv_bfloat16>(__bfloat162float, __float2bfloat16_rn, 0x7f80, "bfloat16 rounds to nearest even");
  return failures > 0;
}
