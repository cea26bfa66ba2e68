// The two half-width types of CUDA, as bits, and their conversions, which round to nearest even.
#pragma once

#include <cstdint>
#include <cstring>

struct __half {
  uint16_t bits;
};

struct __nv_bfloat16 {
  uint16_t bits;
};

namespace emulator {

inline uint32_t bits_of(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  return bits;
}

inline float float_of(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

// value / 2^shift, to nearest even.
inline uint32_t shift_rounded(uint32_t value, int shift) {
  if (shift > 31) return 0;
  const uint32_t half = 1u << (shift - 1), odd = value >> shift & 1;
  return (value + half - 1 + odd) >> shift;
}

}  // namespace emulator

inline float __bfloat162float(__nv_bfloat16 value) {
  return emulator::float_of(uint32_t{value.bits} << 16);
}

inline __nv_bfloat16 __float2bfloat16_rn(float value) {
  if (value != value) return {0x7fff};
  return {static_cast<uint16_t>(emulator::shift_rounded(emulator::bits_of(value), 16))};
}

inline float __half2float(__half value) {
  const uint32_t sign = (value.bits & 0x8000u) << 16, exponent = value.bits >> 10 & 31, mantissa = value.bits & 0x3ff;
  if (exponent == 0) {  // zero and subnormals: mantissa * 2^-24
    const float magnitude = static_cast<float>(mantissa) * (1.0f / (1 << 24));
    return sign ? -magnitude : magnitude;
  }
  const uint32_t wide_exponent = exponent == 31 ? 255 : exponent - 15 + 127;
  return emulator::float_of(sign | wide_exponent << 23 | mantissa << 13);
}

inline __half __float2half_rn(float value) {
  const uint32_t bits = emulator::bits_of(value), sign = bits >> 16 & 0x8000u, magnitude = bits & 0x7fffffffu;
  if (value != value) return {0x7fff};
  if (magnitude >= 0x477ff000u) return {static_cast<uint16_t>(sign | 0x7c00u)};  // 65520 and more: infinity
  const int exponent = static_cast<int>(magnitude >> 23) - 127;
  if (exponent >= -14) {
    const uint32_t rebiased = magnitude - ((127 - 15) << 23);
    return {static_cast<uint16_t>(sign | emulator::shift_rounded(rebiased, 13))};
  }
  const uint32_t mantissa = exponent < -25 ? 0 : (magnitude & 0x7fffffu) | 0x800000u;  // in units of 2^(exponent - 23)
  return {static_cast<uint16_t>(sign | emulator::shift_rounded(mantissa, -1 - exponent))};
}
