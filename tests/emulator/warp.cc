// What the lanes of a warp do together: matrix products, and the exchange of values.
#include <type_traits>

#include "tests/emulator/access.h"
#include "tests/emulator/order.h"
#include "tests/emulator/ptx.h"
#include "tests/emulator/scheduler.h"

namespace emulator {
namespace {

// Where the values of a fragment stand, for lane = 4 * group + member.
struct Lane {
  int group, member;
  explicit Lane(int lane) : group(lane / 4), member(lane % 4) {}
};

// Of 16-bit factors a register holds two, the first in its low half.
template <typename Half>
struct Factors {
  static constexpr int kDepth = 16, kPerRegister = 2;
  static float value(uint32_t bits, int which) {
    const Half half{static_cast<uint16_t>(bits >> 16 * which)};
    if constexpr (std::is_same_v<Half, __half>) return __half2float(half);
    if constexpr (std::is_same_v<Half, __nv_bfloat16>) return __bfloat162float(half);
  }
};

// The multiplier does not look at the last 13 bits of the mantissa.
template <>
struct Factors<Tf32Factor> {
  static constexpr int kDepth = 8, kPerRegister = 1;
  static float value(uint32_t bits, int) { return float_of(bits & ~uint32_t{0x1fff}); }
};

// The depth at which value `which` of a fragment's register in the `upper` or lower half of the depth stands.
template <typename F>
int depth(const Lane& lane, int upper, int which) {
  return upper * F::kDepth / 2 + lane.member * F::kPerRegister + which;
}

template <typename Factor>
void multiply_fragments(void* const (&brought)[kWarp]) {
  using F = Factors<Factor>;
  float a[16][F::kDepth], b[F::kDepth][8];
  for (int i = 0; i < kWarp; ++i) {
    const auto& from = *static_cast<const Fragments<Factor>*>(brought[i]);
    const Lane lane(i);
    for (int upper = 0; upper < 2; ++upper) {
      for (int which = 0; which < F::kPerRegister; ++which) {
        const int k = depth<F>(lane, upper, which);
        a[lane.group][k] = F::value(from.a[2 * upper], which);
        a[lane.group + 8][k] = F::value(from.a[2 * upper + 1], which);
        b[k][lane.group] = F::value(from.b[upper], which);
      }
    }
  }
  for (int i = 0; i < kWarp; ++i) {
    const auto& to = *static_cast<const Fragments<Factor>*>(brought[i]);
    const Lane lane(i);
    for (int j = 0; j < 4; ++j) {
      const int row = lane.group + j / 2 * 8, column = lane.member * 2 + j % 2;
      for (int k = 0; k < F::kDepth; ++k) to.sums[j] += a[row][k] * b[k][column];
    }
  }
}

template <typename T>
struct Shuffled {
  T value;
  int lane_mask;
};

template <typename T>
void exchange_xor(void* const (&brought)[kWarp]) {
  T values[kWarp];
  for (int lane = 0; lane < kWarp; ++lane) values[lane] = static_cast<Shuffled<T>*>(brought[lane])->value;
  for (int lane = 0; lane < kWarp; ++lane) {
    auto& shuffled = *static_cast<Shuffled<T>*>(brought[lane]);
    shuffled.value = values[lane ^ shuffled.lane_mask];
  }
}

template <typename T>
T shuffle_xor(unsigned mask, T value, int lane_mask) {
  if (mask != 0xffffffffu) stop_launch("called __shfl_xor_sync for some lanes only, which is not emulated");
  if (lane_mask < 0 || lane_mask >= kWarp) stop_launch("called __shfl_xor_sync with a lane mask beyond the warp");
  Shuffled<T> shuffled{value, lane_mask};
  meet_warp("__shfl_xor_sync", exchange_xor<T>, &shuffled);
  return shuffled.value;
}

// The one collective that orders what the lanes do to memory.
void join_lanes(void* const (&standings)[kWarp]) {
  join(static_cast<Standing*>(standings[0]), kWarp);
}

}  // namespace

template <typename Factor>
void multiply_accumulate(Fragments<Factor> fragments) {
  meet_warp("mma.sync", multiply_fragments<Factor>, &fragments);
}
template void multiply_accumulate(Fragments<__half>);
template void multiply_accumulate(Fragments<__nv_bfloat16>);
template void multiply_accumulate(Fragments<Tf32Factor>);

// To nearest, ties away from zero. What is infinite or NaN stays so.
float round_to_tf32(float value) {
  const uint32_t bits = bits_of(value);
  if ((bits & 0x7f800000u) == 0x7f800000u) return value;
  return float_of((bits + 0x1000u) & ~uint32_t{0x1fff});
}

}  // namespace emulator

void __syncwarp() {
  emulator::check_epoch();
  emulator::meet_warp("__syncwarp", emulator::join_lanes, emulator::running);
}

float __shfl_xor_sync(unsigned mask, float value, int lane_mask) {
  return emulator::shuffle_xor(mask, value, lane_mask);
}

uint32_t __shfl_xor_sync(unsigned mask, uint32_t value, int lane_mask) {
  return emulator::shuffle_xor(mask, value, lane_mask);
}
