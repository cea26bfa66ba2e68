// Every instruction that the kernels write in PTX: flags between blocks, and the matrix products of warps.
#pragma once

#include "csrc/cuda/launch.h"

#if defined(FUSED_RNN_EMULATOR)
#include "tests/emulator/ptx.h"
#endif

namespace fused_rnn::cuda {

// What the flag's last store_release had before it has happened before what follows here.
__device__ inline unsigned load_acquire(const unsigned* flag) {
#if defined(FUSED_RNN_EMULATOR)
  return emulator::load_acquire(flag);
#else
  unsigned value;
  asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(value) : "l"(flag) : "memory");
  return value;
#endif
}

// A thread releases what it has itself done and knows of; after __syncthreads that is what its block has done.
__device__ inline void store_release(unsigned* flag, unsigned value) {
#if defined(FUSED_RNN_EMULATOR)
  emulator::store_release(flag, value);
#else
  asm volatile("st.release.gpu.global.u32 [%0], %1;" ::"l"(flag), "r"(value) : "memory");
#endif
}

// blockIdx.y, which the compiler takes to be another at each call: what is found by it is read where it is called, and
// not kept in registers until then.
__device__ __forceinline__ unsigned block_row() {
#if defined(FUSED_RNN_EMULATOR)
  return blockIdx.y;
#else
  unsigned row;
  asm volatile("mov.u32 %0, %%ctaid.y;" : "=r"(row));
  return row;
#endif
}

// To the nearest number of 10 bits of mantissa, ties away from zero.
__device__ inline float round_to_tf32(float value) {
#if defined(FUSED_RNN_EMULATOR)
  return emulator::round_to_tf32(value);
#else
  uint32_t bits;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(value));
  return __uint_as_float(bits);
#endif
}

// A float whose last 13 bits of mantissa do not count.
struct Tf32 {
  float value;
};

#if !defined(FUSED_RNN_EMULATOR)
#define FUSED_RNN_MMA(shape_and_types)                                      \
  asm volatile("mma.sync.aligned." shape_and_types                          \
               " {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "            \
               "{%0, %1, %2, %3};"                                          \
               : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3]) \
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]))
#endif

// sums [16, 8] += a [16, K] . b [K, 8] of all 32 lanes of a warp, which must call it together. F: __half and
// __nv_bfloat16 (K = 16, two values to a register, the first in the low half) or Tf32 (K = 8, one value).
// With g = lane / 4, t = lane % 4, and k = 2t, 2t + 1, or for Tf32 k = t, a lane holds
//   a: (row g, k), (row g + 8, k), (row g, k + K/2), (row g + 8, k + K/2)
//   b: (k, column g), (k + K/2, column g)
//   sums: (row g, columns 2t and 2t + 1), (row g + 8, columns 2t and 2t + 1)
template <typename F>
__device__ inline void multiply_accumulate(float (&sums)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
#if defined(FUSED_RNN_EMULATOR)
  using Factor = std::conditional_t<std::is_same_v<F, Tf32>, emulator::Tf32Factor, F>;
  emulator::multiply_accumulate(emulator::Fragments<Factor>{sums, a, b});
#else
  if constexpr (std::is_same_v<F, __half>) {
    FUSED_RNN_MMA("m16n8k16.row.col.f32.f16.f16.f32");
  } else if constexpr (std::is_same_v<F, __nv_bfloat16>) {
    FUSED_RNN_MMA("m16n8k16.row.col.f32.bf16.bf16.f32");
  } else {
    static_assert(std::is_same_v<F, Tf32>);
    FUSED_RNN_MMA("m16n8k8.row.col.f32.tf32.tf32.f32");
  }
#endif
}

#undef FUSED_RNN_MMA

}  // namespace fused_rnn::cuda
