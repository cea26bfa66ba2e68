// exp, sigmoid and tanh without branches, tables or library calls, for a number or a vector of numbers alike, so that
// all CPUs and GPUs agree. In float within 2 units in the last place of the true value, in double 2.5; NaN stays NaN.
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
  // 1.5 * 2^23, which leaves the nearest integer in the low bits of what it is added to, and the exponent's bias.
  static constexpr float kRound = 12582912.0f + 127;
  static constexpr int kMantissaBits = 23;
  static constexpr float kExpMax = 88.0f;   // 2^n is finite there; at -kExpMax its exponent's bits are those of 0
  static constexpr float kTanhMax = 10.0f;  // tanh rounds to 1 from here on
  // Lowest power first; see exp_series.
  static constexpr float kSeries[] = {0.4999999337f, 0.1666651952f, 0.04166840109f, 0.008368851085f, 0.001381432038f};
};

template <>
struct MathConstants<double> {
  static constexpr double kLog2e = 1.4426950408889634;
  static constexpr double kLn2High = 0.693147180369123816490, kLn2Low = 1.90821492927058770002e-10;
  static constexpr double kRound = 6755399441055744.0 + 1023;  // 1.5 * 2^52
  static constexpr int kMantissaBits = 52;
  static constexpr double kExpMax = 709.0;
  static constexpr double kTanhMax = 20.0;
  static constexpr double kSeries[] = {0.50000000000000111022,    0.16666666666666427044,    0.041666666666525326024,
                                       0.0083333333334845768187,  0.001388888894485502826,   0.00019841269528158043478,
                                       2.4801491845064644291e-05, 2.7557566562655539816e-06, 2.7630695773030157991e-07,
                                       2.500657502758164968e-08};
};

// (exp(r) - 1 - r) / r^2 for |r| <= ln 2 / 2: the polynomial of its degree whose exp(r) has the least relative error
// (4e-9 in float, 5e-18 in double).
template <int k = 0, typename T>
FUSED_RNN_FN T exp_series(T r) {
  using Element = typename Numeric<T>::Element;
  constexpr Element kCoefficient = MathConstants<Element>::kSeries[k];
  if constexpr ((k + 1) * sizeof(Element) == sizeof(MathConstants<Element>::kSeries)) {
    return T{} + kCoefficient;
  } else {
    return exp_series<k + 1>(r) * r + kCoefficient;
  }
}

// x = n * ln 2 - r with |r| <= ln 2 / 2;  returns p = exp(r) - 1 and sets scale to 2^n, so that exp(-x) = (1 + p) /
// scale where that is not 0.
template <typename T>
FUSED_RNN_FN T expm1_reduced(T x, T& scale) {
  using C = MathConstants<typename Numeric<T>::Element>;
  using Bits = typename Numeric<T>::Bits;
  const T shifted = x * C::kLog2e + C::kRound;
  const T n = shifted - C::kRound;
  const T r = (n * C::kLn2High - x) + n * C::kLn2Low;
  // The low bits of `shifted` hold the exponent, which thus needs no conversion; unsigned, so that NaN may shift out.
  scale = __builtin_bit_cast(T, __builtin_bit_cast(Bits, shifted) << C::kMantissaBits);
  return exp_series(r) * (r * r) + r;
}

// 1 / (1 + exp(-x)) = scale / (scale + p + 1), in this order of the sum, where a small scale loses nothing to the 1;
// beyond +-kExpMax it stays at its value there, below the smallest normal number away from 0 or 1.
template <typename T>
FUSED_RNN_FN T sigmoid(T x) {
  using Element = typename Numeric<T>::Element;
  constexpr Element kMax = MathConstants<Element>::kExpMax;
  T scale;
  const T p = expm1_reduced(Numeric<T>::clamp(x, T{} - kMax, T{} + kMax), scale);
  return scale / ((scale + p) + Element(1));
}

// With exp(-2|x|) as above: tanh |x| = (scale - 1 - p) / (scale + 1 + p). Near 0 scale is 1, which leaves p alone in
// the numerator with all its digits.
template <typename T>
FUSED_RNN_FN T tanh(T x) {
  using Element = typename Numeric<T>::Element;
  using Bits = typename Numeric<T>::Bits;
  constexpr Element kMax = MathConstants<Element>::kTanhMax;
  const Bits sign = __builtin_bit_cast(Bits, -T{}), bits = __builtin_bit_cast(Bits, x);
  const T magnitude = __builtin_bit_cast(T, bits & ~sign);
  T scale;
  const T p = expm1_reduced(Numeric<T>::clamp(magnitude + magnitude, T{}, T{} + 2 * kMax), scale);
  const T y = ((scale - Element(1)) - p) / ((scale + Element(1)) + p);
  return __builtin_bit_cast(T, __builtin_bit_cast(Bits, y) | (bits & sign));
}

}  // namespace fused_rnn
