// How tensors are stored against how they are computed: float16 and bfloat16 are converted at load and store.
#pragma once

#include "csrc/cpu/vector.h"

namespace fused_rnn::FUSED_RNN_TARGET {

struct Float16 {
  uint16_t bits;
};
struct BFloat16 {
  uint16_t bits;
};

template <typename S>
struct ComputeOf {
  using Type = S;
};
template <>
struct ComputeOf<Float16> {
  using Type = float;
};
template <>
struct ComputeOf<BFloat16> {
  using Type = float;
};
template <typename S>
using Compute = typename ComputeOf<S>::Type;

FUSED_RNN_FN float widen(float x) {
  return x;
}
FUSED_RNN_FN double widen(double x) {
  return x;
}

FUSED_RNN_FN float widen(BFloat16 x) {
  return __builtin_bit_cast(float, static_cast<uint32_t>(x.bits) << 16);
}

// The exponent and mantissa move into place; multiplying by 2^112 mends the exponent's bias, subnormals included, but
// leaves infinity and NaN finite, so those get the largest exponent put back.
FUSED_RNN_FN float widen(Float16 x) {
  const uint32_t magnitude = static_cast<uint32_t>(x.bits & 0x7fffu) << 13;
  const uint32_t sign = static_cast<uint32_t>(x.bits & 0x8000u) << 16;
  const float scaled = __builtin_bit_cast(float, magnitude) * 0x1p112f;
  const uint32_t special = magnitude >= 0x0f800000u ? 0x7f800000u : 0u;
  return __builtin_bit_cast(float, __builtin_bit_cast(uint32_t, scaled) | special | sign);
}

FUSED_RNN_FN void narrow(float x, float& to) {
  to = x;
}
FUSED_RNN_FN void narrow(double x, double& to) {
  to = x;
}

// Round to nearest, ties to even; NaN stays NaN.
FUSED_RNN_FN void narrow(float x, BFloat16& to) {
  const uint32_t bits = __builtin_bit_cast(uint32_t, x);
  const uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  to.bits = static_cast<uint16_t>((bits & 0x7fffffffu) > 0x7f800000u ? (bits >> 16) | 0x40u : rounded);
}

// Normal results are rounded in integers; subnormal ones by adding 0.5, whose last bit is the smallest Float16.
FUSED_RNN_FN void narrow(float x, Float16& to) {
  const uint32_t bits = __builtin_bit_cast(uint32_t, x);
  const uint32_t sign = (bits >> 16) & 0x8000u;
  const uint32_t magnitude = bits & 0x7fffffffu;
  const uint32_t normal = (magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
  const uint32_t subnormal = __builtin_bit_cast(uint32_t, __builtin_bit_cast(float, magnitude) + 0.5f) - 0x3f000000u;
  const uint32_t overflow = magnitude > 0x7f800000u ? 0x7e00u : 0x7c00u;
  const uint32_t finite = magnitude < 0x38800000u ? subnormal : normal;
  to.bits = static_cast<uint16_t>(sign | (magnitude >= 0x477ff000u ? overflow : finite));
}

// to[0, count) = from[0, count), then zeros up to width.
template <typename S>
FUSED_RNN_FN void load_row(const S* from, Compute<S>* __restrict to, int64_t count, int64_t width) {
  if (count == width) {  // where width is a constant, so is this loop's length
    for (int64_t n = 0; n < width; ++n) to[n] = widen(from[n]);
    return;
  }
  for (int64_t n = 0; n < count; ++n) to[n] = widen(from[n]);
  for (int64_t n = count; n < width; ++n) to[n] = 0;
}

// to[0, count) = from[0, count); `usual`, a constant, is the count to be fast for.
template <typename S>
FUSED_RNN_FN void store_row(const Compute<S>* from, S* __restrict to, int64_t count, int64_t usual = 0) {
  if (count == usual) {
    for (int64_t n = 0; n < usual; ++n) narrow(from[n], to[n]);
    return;
  }
  for (int64_t n = 0; n < count; ++n) narrow(from[n], to[n]);
}

}  // namespace fused_rnn::FUSED_RNN_TARGET
