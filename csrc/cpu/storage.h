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

// How the factors of a sequence's products are held: as they are computed with; but bfloat16 as it is stored, where the
// processor multiplies that and sums in float.
#if defined(FUSED_RNN_BFLOAT16_PRODUCTS)
template <typename S>
using Factor = std::conditional_t<std::is_same_v<S, BFloat16>, BFloat16, Compute<S>>;
#else
template <typename S>
using Factor = Compute<S>;
#endif
// What one multiplication takes: one factor, or two that belong to neighbouring terms of the sum.
template <typename F>
using Terms = std::conditional_t<std::is_same_v<F, BFloat16>, BFloat16Pair, F>;
template <typename F>
constexpr int kTerms = sizeof(Terms<F>) / sizeof(F);

// The elements that so many factors make.
template <typename F>
FUSED_RNN_FN constexpr int64_t terms_of(int64_t factors) {
  return divide_up(factors, kTerms<F>);
}

// So many factors and what completes the last element.
template <typename F>
FUSED_RNN_FN constexpr int64_t whole_terms(int64_t factors) {
  return terms_of<F>(factors) * kTerms<F>;
}

// Factors that stand next to one another in a row, as terms of a sum over the row.
template <typename F>
FUSED_RNN_FN const Terms<F>* terms(const F* row) {
  return reinterpret_cast<const Terms<F>*>(row);
}

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

// The same for a whole vector, of which compilers make numbers again.
FUSED_RNN_FN void store(BFloat16* to, Vector<float> x) {
  using Bits = Numeric<Vector<float>>::Bits;
  typedef uint16_t Narrow __attribute__((vector_size(FUSED_RNN_VECTOR_BYTES / 2)));
  const Bits bits = __builtin_bit_cast(Bits, x);
  const Bits rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  const Bits result = (bits & 0x7fffffffu) > 0x7f800000u ? (bits >> 16) | 0x40u : rounded;
  const Narrow narrow = __builtin_convertvector(result, Narrow);
  memcpy(to, &narrow, sizeof(narrow));
}

template <typename From, typename To>
FUSED_RNN_FN void convert(From from, To& to) {
  if constexpr (std::is_same_v<From, To>) {
    to = from;
  } else if constexpr (std::is_same_v<To, Compute<From>>) {
    to = widen(from);
  } else {
    narrow(from, to);
  }
}

// to[0, count) = from[0, count), then zeros up to width.
template <typename From, typename To>
FUSED_RNN_FN void load_row(const From* from, To* __restrict to, int64_t count, int64_t width) {
  if (count == width) {  // where width is a constant, so is this loop's length
    for (int64_t n = 0; n < width; ++n) convert(from[n], to[n]);
    return;
  }
  for (int64_t n = 0; n < count; ++n) convert(from[n], to[n]);
  for (int64_t n = count; n < width; ++n) to[n] = To{};
}

// to[0, count) = from[0, count); `usual`, a constant, is the count to be fast for.
template <typename From, typename To>
FUSED_RNN_FN void store_row(const From* from, To* __restrict to, int64_t count, int64_t usual = 0) {
  if constexpr (std::is_same_v<From, float> && std::is_same_v<To, BFloat16>) {
    if (count == usual && usual % kLanes<From> == 0) {
      for (int64_t n = 0; n < usual; n += kLanes<From>) store(to + n, load(from + n));
      return;
    }
  }
  if (count == usual) {
    for (int64_t n = 0; n < usual; ++n) convert(from[n], to[n]);
    return;
  }
  for (int64_t n = 0; n < count; ++n) convert(from[n], to[n]);
}

// The terms of a sum over rows: to[n] = element n of the first row, and in a pair that of the second, which may be
// missing; zeros past count.
template <typename F, typename S>
FUSED_RNN_FN void load_terms(const S* first, const S* second, Terms<F>* __restrict to, int64_t count, int64_t width) {
  if constexpr (kTerms<F> == 1) {
    load_row(first, to, count, width);
  } else if (count == width && second != nullptr) {
    for (int64_t n = 0; n < width; ++n) to[n].bits = first[n].bits | static_cast<uint32_t>(second[n].bits) << 16;
  } else {
    for (int64_t n = 0; n < count; ++n) {
      to[n].bits = first[n].bits | (second != nullptr ? static_cast<uint32_t>(second[n].bits) << 16 : 0);
    }
    for (int64_t n = count; n < width; ++n) to[n].bits = 0;
  }
}

// The last element of a row of `units` places, `count` of them real, may have a second term past the row's end, where
// padding may have become infinite or NaN.
template <typename F>
FUSED_RNN_FN void end_terms(F* row, int64_t count, int64_t units) {
  if (kTerms<F> > 1 && count < units) row[count] = F{};
}

}  // namespace fused_rnn::FUSED_RNN_TARGET
