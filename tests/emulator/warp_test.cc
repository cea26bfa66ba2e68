// The emulator's warps: matrix products, exchange of values, and what __syncwarp orders. Says nothing and ends with 0
// if all is as it should be.
#include <cmath>
#include <vector>

#include "csrc/cuda/ptx.cuh"
#include "csrc/cuda/storage.cuh"
#include "tests/emulator/expect.h"

namespace {

using fused_rnn::cuda::round_to_tf32;
using fused_rnn::cuda::Tf32;

// Bits of a value as a factor, and how many a register holds.
template <typename F>
struct Format {
  static constexpr int kPerRegister = 2;
  static uint32_t bits(float value) { return fused_rnn::cuda::to_storage<F>(value).bits; }
};

// What the multiplier does not look at is set.
template <>
struct Format<Tf32> {
  static constexpr int kPerRegister = 1;
  static uint32_t bits(float value) { return emulator::bits_of(round_to_tf32(value)) | 0x1fff; }
};

struct Matrices {
  const float *a, *b;  // [warps, 16, K], [warps, K, 8]
  float* sums;         // [warps, 16, 8]
};

// sums += a . b, a product for each warp, each value fetched from where PTX's tables of fragments say.
template <typename F>
void product_kernel(Matrices m) {
  constexpr int kPer = Format<F>::kPerRegister, K = 8 * kPer;
  const int warp = threadIdx.x / 32, group = threadIdx.x % 32 / 4, member = threadIdx.x % 4;
  const float *a = m.a + warp * 16 * K, *b = m.b + warp * K * 8;
  float* sums = m.sums + warp * 16 * 8;
  uint32_t a_bits[4] = {}, b_bits[2] = {};
  for (int i = 0; i < kPer; ++i) {
    const int k = member * kPer + i, shift = 16 * i;
    a_bits[0] |= Format<F>::bits(a[group * K + k]) << shift;
    a_bits[1] |= Format<F>::bits(a[(group + 8) * K + k]) << shift;
    a_bits[2] |= Format<F>::bits(a[group * K + k + K / 2]) << shift;
    a_bits[3] |= Format<F>::bits(a[(group + 8) * K + k + K / 2]) << shift;
    b_bits[0] |= Format<F>::bits(b[k * 8 + group]) << shift;
    b_bits[1] |= Format<F>::bits(b[(k + K / 2) * 8 + group]) << shift;
  }
  float* low = sums + group * 8 + 2 * member;
  float* high = low + 8 * 8;
  float own[4] = {low[0], low[1], high[0], high[1]};
  fused_rnn::cuda::multiply_accumulate<F>(own, a_bits, b_bits);
  low[0] = own[0], low[1] = own[1], high[0] = own[2], high[1] = own[3];
}

// Eighths, of which no sum here is rounded in any of the types.
void fill(float* values, int count, uint32_t& random) {
  for (int i = 0; i < count; ++i) {
    random = random * 1664525 + 1013904223;
    values[i] = (static_cast<float>(random >> 24) - 128) / 8;
  }
  // The host's own code is not checked; what it has written is defined all the same.
  cudaMemcpy(values, values, count * sizeof(float), cudaMemcpyHostToDevice);
}

template <typename F>
void test_product(const char* what) {
  constexpr int kWarps = 3, K = 8 * Format<F>::kPerRegister;
  const DeviceFloats a(kWarps * 16 * K), b(kWarps * K * 8), sums(kWarps * 16 * 8);
  uint32_t random = 1;
  for (const DeviceFloats* each : {&a, &b, &sums}) each->clear();
  fill(a.data(), kWarps * 16 * K, random);
  fill(b.data(), kWarps * K * 8, random);
  fill(sums.data(), kWarps * 16 * 8, random);
  std::vector<float> right(sums.data(), sums.data() + kWarps * 16 * 8);
  for (int i = 0; i < kWarps * 16 * 8; ++i) {
    const int row = i / 8, warp = row / 16, column = i % 8;
    for (int k = 0; k < K; ++k) right[i] += a.data()[row * K + k] * b.data()[(warp * K + k) * 8 + column];
  }
  const Matrices m{a.data(), b.data(), sums.data()};
  bool same = emulator::launch([=] { product_kernel<F>(m); }, 1, 32 * kWarps, 0) == cudaSuccess;
  for (int i = 0; i < kWarps * 16 * 8; ++i) same = same && sums.data()[i] == right[i];
  expect(same, what);
}

void test_rounding() {
  const float unit = std::ldexp(1.0f, -10);  // of the last digit that is kept, between 1 and 2
  expect(round_to_tf32(1 + unit / 2) == 1 + unit && round_to_tf32(-1 - unit / 2) == -1 - unit &&
             round_to_tf32(1 + 3 * unit / 2) == 1 + 2 * unit,
         "tf32 rounds ties away from zero");
  expect(round_to_tf32(std::nextafter(1 + unit / 2, 0.0f)) == 1 && round_to_tf32(3 + 2 * unit) == 3 + 2 * unit,
         "tf32 rounds to the nearest");
  expect(std::isinf(round_to_tf32(INFINITY)) && std::isnan(round_to_tf32(NAN)), "tf32 keeps what is not finite");
}

void test_shuffle() {
  const DeviceFloats out(64);
  float* to = out.data();
  const auto sum_lanes = [=] {
    float sum = static_cast<float>(threadIdx.x);
    uint32_t bits = 1u << threadIdx.x % 32;
    for (int mask = 16; mask > 0; mask /= 2) {
      sum += __shfl_xor_sync(0xffffffffu, sum, mask);
      bits |= __shfl_xor_sync(0xffffffffu, bits, mask);
    }
    to[threadIdx.x] = bits == 0xffffffffu ? sum : -1;
  };
  for (uint64_t seed = 0; seed < kSeeds; ++seed) {
    emulator::set_seed(seed);
    bool right = emulator::launch(sum_lanes, 1, 64, 0) == cudaSuccess;
    for (int i = 0; i < 64; ++i) right = right && to[i] == (i < 32 ? 496 : 496 + 32 * 32);
    expect(right, "lanes sum what they hold");
  }
}

void test_missing_lanes() {
  const auto leave_early = [] {
    if (threadIdx.x != 37) __shfl_xor_sync(0xffffffffu, 1.0f, 1);
  };
  expect(emulator::launch(leave_early, 1, 64, 0) == cudaErrorLaunchFailure &&
             says("thread 37 of block 0 does not come to __shfl_xor_sync"),
         "a lane that leaves while its warp waits is named");
  const auto stray = [] {
    threadIdx.x == 9 ? __syncthreads() : __syncwarp();
    threadIdx.x == 9 ? __syncwarp() : __syncthreads();
  };
  expect(emulator::launch(stray, 1, 32, 0) != cudaSuccess && says("thread 9 of block 0 does not come to __syncwarp"),
         "a lane at a barrier of the block while its warp waits is named");
  expect(emulator::launch_cooperative(stray, 2, 32, 0) != cudaSuccess && says("does not come to __syncwarp"),
         "in a cooperative launch too");
  const auto mixed = [] {
    if (threadIdx.x < 16) {
      __syncwarp();
    } else {
      __shfl_xor_sync(0xffffffffu, 1.0f, 1);
    }
  };
  expect(emulator::launch(mixed, 1, 32, 0) != cudaSuccess && says("thread 16 of block 0 does not come to __syncwarp"),
         "lanes at another collective are named");
  expect(emulator::launch([] { __syncwarp(); }, 1, 33, 0) != cudaSuccess && says("a warp that is not full"),
         "a warp that is not full is reported");
}

enum class Between { kSyncwarp, kShuffle, kNothing };

// Every lane reads what another thread, `away` from it, has written to shared memory.
cudaError_t swap_between(Between between, unsigned away) {
  const auto swap = [=] {
    float* shared = static_cast<float*>(emulator::shared_memory());
    shared[threadIdx.x] = static_cast<float>(threadIdx.x);
    if (between == Between::kSyncwarp) __syncwarp();
    if (between == Between::kShuffle) __shfl_xor_sync(0xffffffffu, 1.0f, 1);
    const float other = shared[threadIdx.x ^ away];
    __syncthreads();
    shared[threadIdx.x] = other;
  };
  return emulator::launch(swap, 1, 64, 64 * sizeof(float));
}

bool reports_race(cudaError_t error) {
  return error != cudaSuccess && (says("and nothing orders the two") || says("that nobody has written"));
}

void test_order() {
  for (uint64_t seed = 0; seed < kSeeds; ++seed) {
    emulator::set_seed(seed);
    expect(swap_between(Between::kSyncwarp, 5) == cudaSuccess, "__syncwarp orders the lanes of a warp");
    expect(reports_race(swap_between(Between::kSyncwarp, 32)), "__syncwarp does not order two warps");
    expect(reports_race(swap_between(Between::kShuffle, 5)), "a shuffle orders no memory");
    expect(reports_race(swap_between(Between::kNothing, 5)), "lanes that do not meet are reported");
  }
}

// One warp has met, and one of it writes what a lane of the other warp may still read, among all of them.
void test_readers_of_two_warps() {
  const DeviceFloats value(1), out(64);
  float *at = value.data(), *to = out.data();
  value.clear();
  const auto read_and_write = [=](unsigned readers) {
    if (threadIdx.x < readers) to[threadIdx.x] = *at;
    __syncwarp();
    if (threadIdx.x == 1) *at = 1;
  };
  for (uint64_t seed = 0; seed < kSeeds; ++seed) {
    emulator::set_seed(seed);
    expect(emulator::launch([=] { read_and_write(32); }, 1, 64, 0) == cudaSuccess, "a warp writes what it has read");
    expect(reports_race(emulator::launch([=] { read_and_write(33); }, 1, 64, 0)), "but not what another warp reads");
    expect(reports_race(emulator::launch_cooperative([=] { read_and_write(33); }, 1, 64, 0)), "in either launch");
  }
}

// A load of 16 bytes is checked for all of them.
void test_wide_load() {
  const DeviceArray<uint4> values(2);
  cudaMemsetAsync(values.data(), 0, 28, nullptr);
  const uint4* from = values.data();
  const auto load = [=](int index) {
    return emulator::launch(
        [=] {
          const uint4 value = __ldcg(from + index);
          const float4 same = __ldcg(reinterpret_cast<const float4*>(from) + index);
          if (value.x + value.y + value.z + value.w != 0 || same.w != 0) __syncthreads();
        },
        1, 1, 0);
  };
  expect(load(0) == cudaSuccess, "16 bytes are loaded at once");
  expect(load(1) != cudaSuccess && says("that nobody has written"), "all 16 bytes must be defined");
  expect(load(2) != cudaSuccess && says("which is in no allocation"), "all 16 bytes must be in an allocation");
}

}  // namespace

int main() {
  test_product<__half>("float16 products are right");
  test_product<__nv_bfloat16>("bfloat16 products are right");
  test_product<Tf32>("tf32 products are right");
  test_rounding();
  test_shuffle();
  test_missing_lanes();
  test_order();
  test_readers_of_two_warps();
  test_wide_load();
  return failures > 0;
}
