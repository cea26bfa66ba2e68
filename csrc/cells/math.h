// exp, sigmoid and tanh without branches, tables or library calls, so that a loop over units becomes vector code and
// the CPU and the GPU agree. Within 3 units in the last place of the true value; NaN stays NaN.
#pragma once

#include "csrc/cells/cell.h"

namespace fused_rnn {

template <typename T>
struct MathConstants;

template <>
struct MathConstants<float> {
  static constexpr float kLog2e = 1.44269504f;
  // ln 2 in two parts: the first has few enough bits that n * kLn2High is exact for every n in use.
  static constexpr float kLn2High = 0.693359375f, kLn2Low = -2.12194440e-4f;
  static constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it leaves the nearest integer in the low bits
  static constexpr int kMantissaBits = 23, kExponentBias = 127;
  static constexpr float kExpMax = 88.0f;   // exp(+-kExpMax) is still a normal number
  static constexpr float kTanhMax = 10.0f;  // tanh rounds to 1 from here on
};

template <>
struct MathConstants<double> {
  static constexpr double kLog2e = 1.4426950408889634;
  static constexpr double kLn2High = 0.693147180369123816490, kLn2Low = 1.90821492927058770002e-10;
  static constexpr double kRound = 6755399441055744.0;  // 1.5 * 2^52
  static constexpr int kMantissaBits = 52, kExponentBias = 1023;
  static constexpr double kExpMax = 709.0;
  static constexpr double kTanhMax = 20.0;
};

// x = n * ln 2 + r with |r| <= ln 2 / 2;  returns exp(r) - 1 by its Taylor series and sets scale to 2^n.
FUSED_RNN_FN float expm1_reduced(float x, float& scale) {
  using C = MathConstants<float>;
  const float shifted = x * C::kLog2e + C::kRound;
  const float n = shifted - C::kRound;
  const float r = (x - n * C::kLn2High) - n * C::kLn2Low;
  float p = 1.0f / 5040;
  p = p * r + 1.0f / 720;
  p = p * r + 1.0f / 120;
  p = p * r + 1.0f / 24;
  p = p * r + 1.0f / 6;
  p = p * r + 0.5f;
  // The low bits of `shifted` hold n, which thus needs no conversion; unsigned, so that NaN may shift out.
  scale = __builtin_bit_cast(float, (__builtin_bit_cast(uint32_t, shifted) + C::kExponentBias) << C::kMantissaBits);
  return p * (r * r) + r;
}

FUSED_RNN_FN double expm1_reduced(double x, double& scale) {
  using C = MathConstants<double>;
  const double shifted = x * C::kLog2e + C::kRound;
  const double n = shifted - C::kRound;
  const double r = (x - n * C::kLn2High) - n * C::kLn2Low;
  double p = 1.0 / 6227020800;
  p = p * r + 1.0 / 479001600;
  p = p * r + 1.0 / 39916800;
  p = p * r + 1.0 / 3628800;
  p = p * r + 1.0 / 362880;
  p = p * r + 1.0 / 40320;
  p = p * r + 1.0 / 5040;
  p = p * r + 1.0 / 720;
  p = p * r + 1.0 / 120;
  p = p * r + 1.0 / 24;
  p = p * r + 1.0 / 6;
  p = p * r + 0.5;
  scale = __builtin_bit_cast(double, (__builtin_bit_cast(uint64_t, shifted) + C::kExponentBias) << C::kMantissaBits);
  return p * (r * r) + r;
}

template <typename T>
FUSED_RNN_FN T clamp(T x, T low, T high) {  // NaN passes through
  return x < low ? low : x > high ? high : x;
}

// 1 / (1 + exp(-x)); beyond +-kExpMax it stays at its value there, below the smallest normal number away from 0 or 1.
template <typename T>
FUSED_RNN_FN T sigmoid(T x) {
  T scale;
  const T p = expm1_reduced(clamp(-x, -MathConstants<T>::kExpMax, MathConstants<T>::kExpMax), scale);
  return 1 / (1 + (scale + scale * p));
}

// With e = exp(2|x|) - 1: tanh |x| = e / (e + 2), which keeps its relative accuracy near 0.
template <typename T>
FUSED_RNN_FN T tanh(T x) {
  T scale;
  const T magnitude = x < 0 ? -x : x;
  const T p = expm1_reduced(2 * clamp(magnitude, T(0), MathConstants<T>::kTanhMax), scale);
  const T e = scale * p + (scale - 1);
  const T y = e / (e + 2);
  return x < 0 ? -y : y;
}

}  // namespace fused_rnn
