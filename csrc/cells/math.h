// exp, sigmoid and tanh without branches, tables or library calls, for a number or a vector of numbers alike, so that
// all CPUs and GPUs agree. Within 2 units in the last place of the true value; NaN stays NaN.
#pragma once

#include <type_traits>

#include "csrc/cells/cell.h"

namespace fused_rnn {

// What the functions below need to know of T: float and double here, vectors of them where there are vectors.
template <typename T>
struct Numeric {
  using Element = T;
  using Bits = std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>;
  static FUSED_RNN_FN T clamp(T x, T low, T high) { return x < low ? low : x > high ? high : x; }  // NaN passes through
};

template <typename Element>
struct MathConstants;

template <>
struct MathConstants<float> {
  static constexpr float kLog2e = 1.44269504f;
  // ln 2 in two parts: the first has few enough bits that n * kLn2High is exact for every n in use.
  static constexpr float kLn2High = 0.693359375f, kLn2Low = -2.12194440e-4f;
  static constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it leaves the nearest integer in the low bits
  static constexpr int kMantissaBits = 23, kExponentBias = 127;
  static constexpr float kExact = 8388608.0f;  // 2^23: up to it, 1 + 2^n keeps the 1
  static constexpr float kExpMax = 88.0f;      // exp(+-kExpMax) is still a normal number
  static constexpr float kTanhMax = 10.0f;     // tanh rounds to 1 from here on
};

template <>
struct MathConstants<double> {
  static constexpr double kLog2e = 1.4426950408889634;
  static constexpr double kLn2High = 0.693147180369123816490, kLn2Low = 1.90821492927058770002e-10;
  static constexpr double kRound = 6755399441055744.0;  // 1.5 * 2^52
  static constexpr int kMantissaBits = 52, kExponentBias = 1023;
  static constexpr double kExact = 4503599627370496.0;  // 2^52
  static constexpr double kExpMax = 709.0;
  static constexpr double kTanhMax = 20.0;
};

// (exp(r) - 1 - r) / r^2 by its Taylor series, for |r| <= ln 2 / 2.
template <typename T>
FUSED_RNN_FN T exp_series(T r) {
  using Element = typename Numeric<T>::Element;
  T p;
  if constexpr (sizeof(Element) == 4) {
    p = r * (1.0f / 5040) + 1.0f / 720;
  } else {
    p = r * (1.0 / 6227020800) + 1.0 / 479001600;
    p = p * r + 1.0 / 39916800;
    p = p * r + 1.0 / 3628800;
    p = p * r + 1.0 / 362880;
    p = p * r + 1.0 / 40320;
    p = p * r + 1.0 / 5040;
    p = p * r + 1.0 / 720;
  }
  p = p * r + Element(1.0 / 120);
  p = p * r + Element(1.0 / 24);
  p = p * r + Element(1.0 / 6);
  return p * r + Element(0.5);
}

// x = n * ln 2 + r with |r| <= ln 2 / 2;  returns exp(r) - 1 and sets scale to 2^n.
template <typename T>
FUSED_RNN_FN T expm1_reduced(T x, T& scale) {
  using C = MathConstants<typename Numeric<T>::Element>;
  using Bits = typename Numeric<T>::Bits;
  const T shifted = x * C::kLog2e + C::kRound;
  const T n = shifted - C::kRound;
  const T r = (x - n * C::kLn2High) - n * C::kLn2Low;
  // The low bits of `shifted` hold n, which thus needs no conversion; unsigned, so that NaN may shift out.
  scale = __builtin_bit_cast(T, (__builtin_bit_cast(Bits, shifted) + C::kExponentBias) << C::kMantissaBits);
  return exp_series(r) * (r * r) + r;
}

// 1 / (1 + exp(-x)); beyond +-kExpMax it stays at its value there, below the smallest normal number away from 0 or 1.
template <typename T>
FUSED_RNN_FN T sigmoid(T x) {
  using Element = typename Numeric<T>::Element;
  constexpr Element kMax = MathConstants<Element>::kExpMax;
  T scale;
  const T p = expm1_reduced(Numeric<T>::clamp(-x, T{} - kMax, T{} + kMax), scale);
  // 1 + scale + scale * p, the small ones first where 1 + scale would lose the 1.
  constexpr Element kExact = MathConstants<Element>::kExact;
  const T one = T{} + Element(1);
  const T first = scale < kExact ? one + scale : one, last = scale < kExact ? T{} : scale;
  return one / (last + (scale * p + first));
}

// With e = exp(2|x|) - 1: tanh |x| = e / (e + 2), which keeps its relative accuracy near 0; where it is small, e + 2 is
// rounded by too much of it, and e / 2 - e / 2 * tanh |x| is closer.
template <typename T>
FUSED_RNN_FN T tanh(T x) {
  using Element = typename Numeric<T>::Element;
  constexpr Element kMax = MathConstants<Element>::kTanhMax;
  T scale;
  const T magnitude = x < 0 ? -x : x;
  const T p = expm1_reduced(Element(2) * Numeric<T>::clamp(magnitude, T{}, T{} + kMax), scale);
  const T e = scale * p + (scale - Element(1));
  const T quotient = e / (e + Element(2)), half = e * Element(0.5);
  const T y = e < Element(0.8) ? half - half * quotient : quotient;
  return x < 0 ? -y : y;
}

}  // namespace fused_rnn
