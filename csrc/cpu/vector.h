// What differs between instruction sets: the vector width and the register tile. Everything in csrc/cpu that depends on
// it is compiled once per target, in the namespace FUSED_RNN_TARGET, so that the linker can never merge an inline
// function of one target with that of another.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "csrc/cells/math.h"

#if defined(__AVX512F__)
#define FUSED_RNN_VECTOR_BYTES 64
#define FUSED_RNN_TILE_ROWS 6  // 6 x 4 accumulators and 4 operands of 32 registers
#elif defined(__AVX2__)
#define FUSED_RNN_VECTOR_BYTES 32
#define FUSED_RNN_TILE_ROWS 3  // 3 x 4 accumulators of 16 registers
#elif defined(__aarch64__)
#define FUSED_RNN_VECTOR_BYTES 16
#define FUSED_RNN_TILE_ROWS 6
#else
#define FUSED_RNN_VECTOR_BYTES 16
#define FUSED_RNN_TILE_ROWS 3
#endif

namespace fused_rnn::FUSED_RNN_TARGET {

constexpr int kTileRows = FUSED_RNN_TILE_ROWS;
constexpr int kTileVectors = 4;

// Two neighbouring factors in bfloat16, the first in the low half, for processors that multiply and add such pairs.
struct __attribute__((may_alias)) BFloat16Pair {
  uint32_t bits;
};

template <typename T>
constexpr int kLanes = FUSED_RNN_VECTOR_BYTES / sizeof(T);

// The columns of a full register tile, and so of a panel of a packed matrix.
template <typename T>
constexpr int kPanel = kTileVectors * kLanes<T>;

template <typename T>
struct VectorOf {
  typedef T Register __attribute__((vector_size(FUSED_RNN_VECTOR_BYTES)));
  typedef T Memory __attribute__((vector_size(FUSED_RNN_VECTOR_BYTES), aligned(sizeof(T)), may_alias));
};
template <>
struct VectorOf<BFloat16Pair> : VectorOf<uint32_t> {};
template <typename T>
using Vector = typename VectorOf<T>::Register;

template <typename T>
FUSED_RNN_FN Vector<T> load(const T* from) {
  return *reinterpret_cast<const typename VectorOf<T>::Memory*>(from);
}

template <typename T>
FUSED_RNN_FN void store(T* to, Vector<T> value) {
  *reinterpret_cast<typename VectorOf<T>::Memory*>(to) = value;
}

// sum + left * right.
template <typename T>
FUSED_RNN_FN Vector<T> multiply_add(Vector<T> sum, T left, Vector<T> right) {
  return sum + left * right;
}
#if defined(FUSED_RNN_BFLOAT16_PRODUCTS)
FUSED_RNN_FN Vector<float> multiply_add(Vector<float> sum, BFloat16Pair left, Vector<BFloat16Pair> right) {
  const auto pairs = _mm512_set1_epi32(static_cast<int>(left.bits));
  return _mm512_dpbf16_ps(sum, __builtin_bit_cast(__m512bh, pairs), __builtin_bit_cast(__m512bh, right));
}
#endif

// Asks for row[0, count) to be brought into the first-level cache, to be read or written: a line for each 64 bytes.
template <typename T>
FUSED_RNN_FN void prefetch_row(T* row, int64_t count) {
  for (int64_t n = 0; n < count; n += 64 / static_cast<int64_t>(sizeof(T))) {
    __builtin_prefetch(row + n, !std::is_const_v<T>);
  }
}

// So many rows before its turn a row is prefetched.
constexpr int64_t kAhead = 4;

// One stage of a transposition: of a pair of rows kStride apart, those lanes change places that stand on the wrong
// side.
template <int kStride, typename V, size_t... kLane>
FUSED_RNN_FN void swap_lanes(V& a, V& b, std::index_sequence<kLane...>) {
  constexpr int kCount = sizeof...(kLane);
  const V first = __builtin_shufflevector(a, b, (kLane & kStride ? kCount + kLane - kStride : kLane)...);
  b = __builtin_shufflevector(a, b, (kLane & kStride ? kCount + kLane : kLane + kStride)...);
  a = first;
}

// Transposes a square of kLanes vectors.
template <int kStride, typename T>
FUSED_RNN_FN void transpose(Vector<T>* rows) {
  if constexpr (kStride < kLanes<T>) {
#pragma GCC unroll 16
    for (int i = 0; i < kLanes<T>; ++i) {
      if ((i & kStride) == 0) {
        swap_lanes<kStride>(rows[i], rows[i + kStride], std::make_index_sequence<kLanes<T>>());
      }
    }
    transpose<2 * kStride, T>(rows);
  }
}

// low for x < low, high for x > high, else x, which may be NaN: the one instruction each that x86 has for it, and that
// compilers do not find.
template <typename T>
FUSED_RNN_FN Vector<T> clamp(Vector<T> x, Vector<T> low, Vector<T> high) {
#if defined(__AVX512F__)
  // With all lanes in the mask: the forms without one make GCC 12 warn of its own header.
  if constexpr (sizeof(T) == 4) return _mm512_maskz_min_ps(0xffff, high, _mm512_maskz_max_ps(0xffff, low, x));
  if constexpr (sizeof(T) == 8) return _mm512_maskz_min_pd(0xff, high, _mm512_maskz_max_pd(0xff, low, x));
#elif defined(__AVX2__)
  if constexpr (sizeof(T) == 4) return _mm256_min_ps(high, _mm256_max_ps(low, x));
  if constexpr (sizeof(T) == 8) return _mm256_min_pd(high, _mm256_max_pd(low, x));
#elif defined(__x86_64__)
  if constexpr (sizeof(T) == 4) return _mm_min_ps(high, _mm_max_ps(low, x));
  if constexpr (sizeof(T) == 8) return _mm_min_pd(high, _mm_max_pd(low, x));
#else
  x = x < low ? low : x;
  return x > high ? high : x;
#endif
}

FUSED_RNN_FN constexpr int64_t smaller(int64_t a, int64_t b) {
  return a < b ? a : b;
}
FUSED_RNN_FN constexpr int64_t larger(int64_t a, int64_t b) {
  return a > b ? a : b;
}
FUSED_RNN_FN constexpr int64_t divide_up(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}
FUSED_RNN_FN int64_t round_up(int64_t a, int64_t b) {
  return divide_up(a, b) * b;
}

template <typename T>
struct VectorNumeric {
  using Element = T;
  typedef std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t> Bits
      __attribute__((vector_size(FUSED_RNN_VECTOR_BYTES)));
  static FUSED_RNN_FN Vector<T> clamp(Vector<T> x, Vector<T> low, Vector<T> high) {
    return FUSED_RNN_TARGET::clamp<T>(x, low, high);
  }
};

}  // namespace fused_rnn::FUSED_RNN_TARGET

namespace fused_rnn {
template <>
struct Numeric<FUSED_RNN_TARGET::Vector<float>> : FUSED_RNN_TARGET::VectorNumeric<float> {};
template <>
struct Numeric<FUSED_RNN_TARGET::Vector<double>> : FUSED_RNN_TARGET::VectorNumeric<double> {};
}  // namespace fused_rnn
