// What the time loops hand the persistent driver: the steps of a chunk, to be run by one cooperative launch, of one
// sequence or of several side by side.
#pragma once

#include "csrc/cuda/persistent_plan.h"
#include "csrc/cuda/step_backward.cuh"
#include "csrc/cuda/step_forward.cuh"

namespace fused_rnn::cuda {

// One sequence's share of a call.
template <typename S>
struct ForwardShare {
  using C = Compute<S>;

  StepForward<S> step;         // of the first step; what differs in the others is set on the way
  C *h[2], *c;                 // [B, P], [B, H]: step s reads h[s % 2] and writes the other
  S* final_state[kMaxStates];  // = [B, P], [B, H]
  S* exchanged_h[2];           // [B, stride], as factors: step s reads exchanged_h[s % 2]
  S* exchanged_operand;        // [B, stride]
};

template <typename S>
struct PersistentForward {
  Division division;
  int64_t steps;  // of this launch
  int64_t end;    // of the whole loop: the step before it is the last
  ForwardShare<S> shares[kSideBySide];
};

// One sequence's share of a call.
template <typename S>
struct BackwardShare {
  StepBackward<S> step;       // of the launch's first step in time; what differs in the others is set on the way
  State<S> d_h_end, d_c_end;  // [B, P], [B, H]: what comes to the last step
  // The gradients of the preactivations of each stage's gates, as factors: [B, stride], gate after gate. Step s writes
  // exchanged_d_z[0][s % 2].
  S* exchanged_d_z[2][2];
};

template <typename S>
struct PersistentBackward {
  Division division;
  int64_t steps;  // of this launch
  int64_t end;    // of the whole loop: no product comes to the step before it
  BackwardShare<S> shares[kSideBySide];
};

// persistent_forward_*.cu and persistent_backward_*.cu hold one each. The flags are 0, and what the exchanged rows hold
// beside what the launch before has left there is 0, too. params: of any of the sequences, of which there are `count`.
template <typename S>
Status persistent_forward(const PersistentForward<S>& call, int count, const PersistentPlan& plan,
                          const SequenceParams& params);
template <typename S>
Status persistent_backward(const PersistentBackward<S>& call, int count, const PersistentPlan& plan,
                           const SequenceParams& params);

}  // namespace fused_rnn::cuda
