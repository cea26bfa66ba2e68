// The emulator on cooperative launches: blocks that exchange values through global memory, step by step, and every way
// to get that wrong. Says nothing and ends with 0 if all is as it should be.
#include <string>
#include <vector>

#include "csrc/cuda/launch.h"
#include "csrc/cuda/ptx.cuh"
#include "tests/emulator/expect.h"

namespace {

using fused_rnn::cuda::load_acquire;
using fused_rnn::cuda::store_release;

constexpr int kThreads = 64, kBlocks = 4, kSteps = 6, kWidth = kBlocks * kThreads;

enum class Mistake {
  kNone,
  kPlainStore,
  kNoAcquire,
  kPlainLoad,
  kOneFlagForgotten,
  kNoBarrierBefore,
  kWarpBarrierBefore,
  kNoBarrierAfter,
  kWriteAfterRelease,
  kOneBuffer,
};

struct Exchange {
  float* values;    // [2, kWidth]: of even and of odd steps
  unsigned* flags;  // [kBlocks], 0: how many steps each block has written
  Mistake mistake = Mistake::kNone;
};

void release(const Exchange& e, unsigned steps) {
  if (e.mistake == Mistake::kPlainStore) {
    static_cast<volatile unsigned*>(e.flags)[blockIdx.x] = steps;
  } else {
    store_release(e.flags + blockIdx.x, steps);
  }
}

void await(const Exchange& e, unsigned block, unsigned steps) {
  if (e.mistake == Mistake::kNoAcquire || (e.mistake == Mistake::kOneFlagForgotten && block == 2)) return;
  if (e.mistake == Mistake::kPlainLoad) {
    while (static_cast<const volatile unsigned*>(e.flags)[block] < steps) {
    }
  } else {
    while (load_acquire(e.flags + block) < steps) {
    }
  }
}

// Each step, every value becomes the mean of one of each block's, and more by 1.
void exchange_kernel(Exchange e) {
  const unsigned here = blockIdx.x * kThreads + threadIdx.x, next = (threadIdx.x + 1) % kThreads;
  e.values[here] = static_cast<float>(here);
  for (unsigned step = 0; step < kSteps; ++step) {
    if (e.mistake == Mistake::kWarpBarrierBefore) {
      __syncwarp();
    } else if (e.mistake != Mistake::kNoBarrierBefore) {
      __syncthreads();
    }
    if (threadIdx.x == 0) release(e, step + 1);
    if (e.mistake == Mistake::kWriteAfterRelease && threadIdx.x == 0) e.values[step % 2 * kWidth + here] += 1;
    if (threadIdx.x < kBlocks) await(e, threadIdx.x, step + 1);
    if (e.mistake != Mistake::kNoBarrierAfter) __syncthreads();
    const bool one = e.mistake == Mistake::kOneBuffer;
    const float* from = e.values + (one ? 0 : step % 2 * kWidth);
    float sum = 0;
    for (int block = 0; block < kBlocks; ++block) sum += from[block * kThreads + next];
    e.values[(one ? 0 : (step + 1) % 2 * kWidth) + here] = sum / kBlocks + 1;
  }
}

cudaError_t exchange(const DeviceFloats& values, Mistake mistake) {
  const DeviceArray<unsigned> flags(kBlocks);
  flags.clear();
  const Exchange e{values.data(), flags.data(), mistake};
  return emulator::launch_cooperative([=] { exchange_kernel(e); }, kBlocks, kThreads, 0);
}

std::vector<float> exchanged() {
  std::vector<float> values(kWidth), before(kWidth);
  for (int i = 0; i < kWidth; ++i) values[i] = static_cast<float>(i);
  for (int step = 0; step < kSteps; ++step) {
    before = values;
    for (int i = 0; i < kWidth; ++i) {
      float sum = 0;
      for (int block = 0; block < kBlocks; ++block) sum += before[block * kThreads + (i + 1) % kThreads];
      values[i] = sum / kBlocks + 1;
    }
  }
  return values;
}

void test_exchange() {
  const std::vector<float> right = exchanged();
  for (uint64_t seed = 0; seed < kSeeds; ++seed) {
    const DeviceFloats values(2 * kWidth);
    emulator::set_seed(seed);
    expect(exchange(values, Mistake::kNone) == cudaSuccess, "an exchange between blocks is right under every seed");
    const float* last = values.data() + kSteps % 2 * kWidth;
    bool same = true;
    for (int i = 0; i < kWidth; ++i) same = same && last[i] == right[i];
    expect(same, "blocks that exchange values come to the right ones");
  }
}

void test_mistakes() {
  const struct {
    Mistake mistake;
    const char* what;
  } kMistakes[] = {
      {Mistake::kPlainStore, "a plain store of the flag is reported"},
      {Mistake::kNoAcquire, "a block that does not wait is reported"},
      {Mistake::kPlainLoad, "a plain load of the flag is reported"},
      {Mistake::kOneFlagForgotten, "a block that does not wait for one other is reported"},
      {Mistake::kNoBarrierBefore, "a release before the block has written is reported"},
      {Mistake::kWarpBarrierBefore, "a release for other warps without a barrier is reported"},
      {Mistake::kNoBarrierAfter, "a thread that has not met the one that waited is reported"},
      {Mistake::kWriteAfterRelease, "a write after the release is reported"},
      {Mistake::kOneBuffer, "a write over what others may still read is reported"},
  };
  for (const auto& [mistake, what] : kMistakes) {
    for (uint64_t seed = 0; seed < kSeeds; ++seed) {
      const DeviceFloats values(2 * kWidth);
      values.clear();  // else what is read too early would be reported for being undefined
      emulator::set_seed(seed);
      expect(exchange(values, mistake) != cudaSuccess && says("and nothing orders the two"), what);
    }
  }
}

// The last block writes what all others read, when their flags say that they have.
void test_other_blocks_readers() {
  const auto overwrite = [](Mistake mistake) {
    const DeviceFloats value(1), out(kWidth);
    const DeviceArray<unsigned> flags(kBlocks);
    value.clear();
    flags.clear();
    const Exchange e{value.data(), flags.data(), mistake};
    float* to = out.data();
    const auto kernel = [=] {
      if (blockIdx.x < kBlocks - 1) {
        to[blockIdx.x * kThreads + threadIdx.x] = *e.values;
        if (mistake != Mistake::kNoBarrierBefore) __syncthreads();
        if (threadIdx.x == 0) release(e, 1);
      } else if (threadIdx.x == 0) {
        for (unsigned block = 0; block < kBlocks - 1; ++block) await(e, block, 1);
        *e.values = 1;
      }
    };
    return emulator::launch_cooperative(kernel, kBlocks, kThreads, 0);
  };
  for (uint64_t seed = 0; seed < kSeeds; ++seed) {
    emulator::set_seed(seed);
    expect(overwrite(Mistake::kNone) == cudaSuccess, "a block writes what all others have read");
    for (const Mistake mistake : {Mistake::kOneFlagForgotten, Mistake::kNoBarrierBefore, Mistake::kNoAcquire}) {
      expect(overwrite(mistake) != cudaSuccess && says("and nothing orders the two"),
             "a block that writes what another may still read is reported");
    }
  }
}

// What thread 0 of each block knows goes round from block to block, and with it what those before it knew.
void test_ring() {
  const auto ring = [](bool whole, const DeviceFloats& value) {
    const DeviceArray<unsigned> flags(kBlocks);
    flags.clear();
    float* at = value.data();
    unsigned* flag = flags.data();
    const auto pass_on = [=] {
      const unsigned from = (blockIdx.x + kBlocks - 1) % kBlocks;
      for (unsigned turn = 1; turn <= kSteps; ++turn) {
        while ((blockIdx.x > 0 || turn > 1) && load_acquire(flag + from) < turn - (blockIdx.x == 0)) {
        }
        if (whole || blockIdx.x != 1) *at += 1;
        store_release(flag + blockIdx.x, turn);
      }
      if (!whole && blockIdx.x == 1) *at += 1;
    };
    return emulator::launch_cooperative(pass_on, kBlocks, 1, 0);
  };
  for (uint64_t seed = 0; seed < kSeeds; ++seed) {
    const DeviceFloats value(1);
    value.clear();
    emulator::set_seed(seed);
    expect(ring(true, value) == cudaSuccess && *value.data() == kBlocks * kSteps, "what is known is passed on");
    expect(ring(false, value) != cudaSuccess && says("and nothing orders the two"),
           "a write after the last release is ordered before none of another block's");
  }
}

void test_waiting_for_ever() {
  const DeviceArray<unsigned> flags(kBlocks);
  flags.clear();
  unsigned* flag = flags.data();
  const auto wait_for_each_other = [=] {
    if (threadIdx.x == 0) {
      while (load_acquire(flag + (blockIdx.x + 1) % kBlocks) == 0) {
      }
      store_release(flag + blockIdx.x, 1);
    }
    __syncthreads();
  };
  expect(emulator::launch_cooperative(wait_for_each_other, kBlocks, 32, 0) == cudaErrorLaunchFailure &&
             says("all threads wait"),
         "blocks that wait for each other are reported");
  const auto look_together = [=] {
    volatile unsigned* seen = static_cast<unsigned*>(emulator::shared_memory());
    do {
      __syncthreads();
      if (threadIdx.x == 0) *seen = load_acquire(flag);
      __syncthreads();
    } while (*seen == 0);
  };
  expect(
      emulator::launch_cooperative(look_together, 2, 32, sizeof(unsigned)) != cudaSuccess && says("all threads wait"),
      "blocks that look again and again at a flag that stays are reported");
  expect(emulator::launch([=] { load_acquire(flag); }, 1, 1, 0) != cudaSuccess && says("used a flag in a launch"),
         "flags are of cooperative launches");
}

// Each block has its own shared memory, while others use theirs.
void test_shared_memory() {
  const DeviceFloats out(kWidth);
  float* to = out.data();
  const auto reverse = [=](unsigned size) {
    volatile float* shared = static_cast<float*>(emulator::shared_memory());
    shared[threadIdx.x] = static_cast<float>(blockIdx.x * kThreads + threadIdx.x);
    __syncthreads();
    to[blockIdx.x * kThreads + threadIdx.x] = shared[size - 1 - threadIdx.x];
  };
  const auto run = [=](unsigned size, int64_t bytes) {
    return emulator::launch_cooperative([=] { reverse(size); }, kBlocks, kThreads, bytes);
  };
  const int64_t bytes = kThreads * sizeof(float);
  bool right = run(kThreads, bytes) == cudaSuccess;
  for (int i = 0; i < kWidth; ++i) {
    right = right && to[i] == static_cast<float>(i / kThreads * kThreads + kThreads - 1 - i % kThreads);
  }
  expect(right, "every block has shared memory of its own");
  expect(run(kThreads + 1, bytes) == cudaErrorIllegalAddress && says("which is in no allocation"),
         "a read past the end of shared memory is reported");
  expect(run(kThreads, bytes - 4) == cudaErrorIllegalAddress && says("wrote to address"),
         "a write past the end of shared memory is reported");
  expect(run(kThreads, 227 << 10) == cudaSuccess, "a block may have all the shared memory of a processor");
}

struct Nothing {};
void empty_kernel(Nothing) {}

void test_launch() {
  int processors = 0;
  cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, 0);
  const auto nothing = [] {};
  expect(emulator::launch_cooperative(nothing, processors, 1024, 0) == cudaSuccess, "a block for each processor");
  expect(emulator::launch_cooperative(nothing, processors + 1, 32, 0) == cudaErrorCooperativeLaunchTooLarge,
         "more blocks than can be there at once are an error");
  using fused_rnn::cuda::launch_cooperative;
  expect(launch_cooperative(empty_kernel, {0}, 32, 0, nullptr, Nothing{}).ok(), "no blocks are no error");
  expect(launch_cooperative(empty_kernel, {kBlocks}, 32, 100 << 10, nullptr, Nothing{}).ok(), "a right launch is none");
  expect(launch_cooperative(empty_kernel, {1000}, 32, 0, nullptr, Nothing{}).message.find("too many blocks") !=
             std::string::npos,
         "the user is told of too many blocks");
}

}  // namespace

int main() {
  test_exchange();
  test_mistakes();
  test_other_blocks_readers();
  test_ring();
  test_waiting_for_ever();
  test_shared_memory();
  test_launch();
  return failures > 0;
}
