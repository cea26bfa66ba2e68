// The contract of a cell: data, and two pure functions of one unit at one step. Host and device code alike.
//
// A step is one or two *stages*, each a dense product over the units and then a pointwise function. A cell gives
//   kInfo                       what callers know of it (sequence.h)
//   kStages, kStage[s]          the gates whose recurrent product stage s needs: [first, first + count). The last stage
//                               of a projected cell is the projection, which counts as one more gate, G, of P units
//   kStateStage                 the stage that sets c and saved
//   kCarry                      values of a unit that go from the first stage to the second
//   kRecurrentBias              whether the recurrent product has a bias [G * H] of its own: the last bias
//   kPeepholes                  how many of the last biases are peepholes, [H] each: weights from c to a gate
//   kColumns                    values of a unit in d_z, the gradients of the preactivations, and of what else the
//                               biases' gradients are sums of. The gradient of the projection is one more, of P units
//   kProducts[s], kWritten[s]   the columns of d_z that stand for the products of stage s: those of its gates; and all
//                               those that its backward function writes
//   input_column(gate)          where in d_z the gradient of a gate's input product stands,
//   recurrent_column(gate)      and that of its recurrent product (they differ where the cell treats the two apart).
//                               The columns of all gates form one window each, in whatever order; gates of one
//                               kernel stand side by side in it, in the kernel's order.
//   peephole_column(k)          the column whose sum is the gradient of peephole k
//   forward<s>(Forward&)        from zx, zh, h_prev, c_prev (and carry): sets operand, the left side of the second
//                               stage's product, and carry in a first of two; c and saved in kStateStage; h in the last
//   backward<s>(Backward&)      from saved, h_prev, h, d_h, d_c (and, first of two stages, d_operand): sets its columns
//                               of d_z; stage 0, which comes last, also sets d_h_prev (all but what goes through the
//                               products), d_c_prev, and operand again if there are two stages. In a projected cell
//                               stage 1 alone has to do with h: it sets d_h_prev.
// T is float or double, or a vector of them for as many units (math.h): drivers convert half types at load and store,
// and own everything that is the same for every cell (time, lengths, state, storage). So no branch on data.
#pragma once

#include "csrc/sequence.h"

#if defined(__CUDACC__)
#define FUSED_RNN_FN __host__ __device__ __forceinline__
#define FUSED_RNN_RARE_FN FUSED_RNN_FN
#else
#define FUSED_RNN_FN inline __attribute__((always_inline))
// Not inlined, so that a loop stays about what is usual; static, since each instruction set needs one of its own.
#define FUSED_RNN_RARE_FN static __attribute__((noinline))
#endif

namespace fused_rnn {

constexpr int kMaxGates = 5;
constexpr int kMaxSaved = 5;
constexpr int kMaxCarry = 2;
constexpr int kMaxPeepholes = 3;
constexpr int kMaxColumns = 8;

// A run of gates or columns.
struct Range {
  int first, count;
};

// What a call gives beside its tensors.
template <typename T>
struct CellOptions {
  Activation activation;
  T forget_bias, cell_clip, proj_clip;
};

template <typename T>
CellOptions<T> cell_options(const SequenceParams& params) {
  return {params.activation, static_cast<T>(params.forget_bias), static_cast<T>(params.cell_clip),
          static_cast<T>(params.proj_clip)};
}

template <typename T>
struct Forward {
  CellOptions<T> options;
  T zx[kMaxGates];  // x . W + bias, by gate; the projection has none
  T zh[kMaxGates];  // h . R (or operand . R) + recurrent bias, by gate; set for the gates of this stage
  T peephole[kMaxPeepholes];
  T h_prev, c_prev;
  T carry[kMaxCarry];
  T operand;
  T h, c;
  T saved[kMaxSaved];
};

template <typename T>
struct Backward {
  CellOptions<T> options;
  T peephole[kMaxPeepholes];
  T saved[kMaxSaved];
  T h_prev, h;
  T d_h, d_c;   // of the loss, with respect to this step's h and c
  T d_operand;  // of the loss, with respect to operand
  T d_z[kMaxColumns];
  T operand;
  T d_h_prev, d_c_prev;
};

// Whether stage s of a cell is its projection, and so of P units where others are of H.
template <typename C>
FUSED_RNN_FN constexpr bool projects(int stage) {
  return C::kInfo.projected && stage == C::kStages - 1;
}

// Where the gates of a kernel begin.
template <typename C>
constexpr int first_gate(int kernel) {
  int gate = 0;
  for (int k = 0; k < kernel; ++k) gate += C::kInfo.kernel_gates[k];
  return gate;
}

// Whether a stage takes the recurrent product of a kernel.
template <typename C>
constexpr bool in_stage(int kernel, int stage) {
  const int gate = first_gate<C>(kernel);
  return gate >= C::kStage[stage].first && gate < C::kStage[stage].first + C::kStage[stage].count;
}

// The sizes of a stage, from a struct with I, H and P: its units, and the rows of its recurrent product, those of h or
// of operand.
template <typename C, typename Sizes>
FUSED_RNN_FN int64_t stage_units(const Sizes& sizes, int stage) {
  return projects<C>(stage) ? sizes.P : sizes.H;
}
template <typename Sizes>
FUSED_RNN_FN int64_t stage_depth(const Sizes& sizes, int stage) {
  return stage == 0 ? sizes.P : sizes.H;
}

// The sizes of a kernel: its columns, and the rows of x that come before the others.
template <typename C, typename Sizes>
FUSED_RNN_FN int64_t kernel_width(const Sizes& sizes, int kernel) {
  const bool projection = C::kInfo.projected && kernel == C::kInfo.kernels - 1;
  static_assert(kMaxKernels == 2);
  constexpr int kGates[] = {C::kInfo.kernel_gates[0], C::kInfo.kernel_gates[1]};  // device code cannot index kInfo
  return projection ? sizes.P : kGates[kernel] * sizes.H;
}
template <typename C, typename Sizes>
FUSED_RNN_FN int64_t kernel_input_rows(const Sizes& sizes, int kernel) {
  return C::kInfo.projected && kernel == C::kInfo.kernels - 1 ? 0 : sizes.I;
}

template <typename C, typename Sizes>
FUSED_RNN_FN int64_t kernel_rows(const Sizes& sizes, int kernel) {
  return kernel_input_rows<C>(sizes, kernel) + stage_depth(sizes, in_stage<C>(kernel, 0) ? 0 : 1);
}

// Values of a (step, row) pair in d_z.
template <typename C, typename Sizes>
FUSED_RNN_FN int64_t d_z_width(const Sizes& sizes) {
  return C::kColumns * sizes.H + (C::kInfo.projected ? sizes.P : 0);
}

}  // namespace fused_rnn
