// The contract of a cell: data, and two pure functions of one unit at one step. Host and device code alike.
//
// A step is one or two *stages*, each a dense product over the units and then a pointwise function. A cell gives
//   kInfo                       what callers know of it (sequence.h)
//   kStages, kStage[s]          the gates whose recurrent product stage s needs: [first, first + count)
//   kCarry                      values of a unit that go from the first stage to the second
//   kRecurrentBias              whether the recurrent product has a bias of its own
//   kColumns                    values of a unit in d_z, the gradients of the preactivations
//   kWritten[s]                 the columns of d_z that the backward function of stage s writes: those of its gates
//   input_column(gate)          where in d_z the gradient of a gate's input product stands,
//   recurrent_column(gate)      and that of its recurrent product (they differ where the cell treats the two apart).
//                               The columns of all gates form one window each, in whatever order; gates of one
//                               kernel stand side by side in it, in the kernel's order.
//   forward<s>(Forward&)        from zx, zh, h_prev, c_prev (and carry): the last stage sets h, c and saved; a first of
//                               two sets carry and operand, the left side of the second stage's product
//   backward<s>(Backward&)      from saved, h_prev, h, d_h, d_c (and, first of two stages, d_operand): sets its columns
//                               of d_z; stage 0, which comes last, also sets d_h_prev (all but what goes through the
//                               products), d_c_prev, and operand again if there are two stages.
// T is float or double, or a vector of them for as many units (math.h): drivers convert half types at load and store,
// and own everything that is the same for every cell (time, lengths, state, storage). So no branch on data.
#pragma once

#include "csrc/sequence.h"

#if defined(__CUDACC__)
#define FUSED_RNN_FN __host__ __device__ __forceinline__
#else
#define FUSED_RNN_FN inline __attribute__((always_inline))
#endif

namespace fused_rnn {

constexpr int kMaxSaved = 5;
constexpr int kMaxCarry = 2;
constexpr int kMaxColumns = 4;

// A run of gates or columns.
struct Range {
  int first, count;
};

template <typename T>
struct Forward {
  T zx[kMaxGates];  // x . W + bias, by gate
  T zh[kMaxGates];  // h . R (or operand . R) + recurrent bias, by gate; set for the gates of this stage
  T h_prev, c_prev;
  T forget_bias;
  T carry[kMaxCarry];
  T operand;
  T h, c;
  T saved[kMaxSaved];
};

template <typename T>
struct Backward {
  T saved[kMaxSaved];
  T h_prev, h;
  T d_h, d_c;   // of the loss, with respect to this step's h and c
  T d_operand;  // of the loss, with respect to operand
  T d_z[kMaxColumns];
  T operand;
  T d_h_prev, d_c_prev;
};

}  // namespace fused_rnn
