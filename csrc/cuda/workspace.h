// How the time loops divide the caller's workspace, and how many loop steps make a chunk. Host code.
#pragma once

#include "csrc/cuda/persistent_plan.h"

namespace fused_rnn::cuda {

// S below is the storage type of params.dtype, C its compute type (float, or double for float64).
// What the persistent driver needs beside the rest; null where the stepwise one runs.
struct PersistentWorkspace {
  PersistentPlan plan;
  bool chosen;
  void* flags;     // unsigned [side_by_side, groups, blocks]
  void* exchange;  // the following rows, all of them
  // S [B, stride] of each sequence side by side, for each stage: forward h (of even and of odd steps) and operand,
  // backward d_z of the gates of stage 0 (of even and of odd steps) and of stage 1.
  void* rows[kSideBySide][2][2];
  int64_t exchange_bytes;
  void* streamed;  // [side_by_side * groups * blocks, streamed_bytes]

  // The sequences of a call that run at the same time; the next ones use the same workspace after them.
  int side_by_side() const { return chosen ? plan.side_by_side : 1; }
};

// Of one sequence.
struct ForwardBuffers {
  void* h[2];     // C [B, P]: step s reads h[s % 2] and writes the other
  void* c;        // C [B, H]
  void* operand;  // C [B, H]
  void* carry;    // C [B, kCarry, H]
  void* x;        // S [chunk * B, I], in loop-step order
  void* zx;       // C [chunk * B, G * H], likewise
};

struct ForwardWorkspace {
  PersistentWorkspace persistent;
  int64_t chunk;     // loop steps whose input product is taken at a time; 0: none, T = 1 takes it in the step
  int64_t* lengths;  // [B]
  ForwardBuffers sequence[kSideBySide];
  size_t bytes;  // of all of it
};

// Of one sequence.
struct BackwardBuffers {
  void* d_z[2];                  // C [B, d_z_width]: step s writes d_z[s % 2] and reads the other
  void *d_h, *d_c;               // C [B, P], [B, H]
  void* d_z_rounded;             // S [chunk * B, d_z_width]
  void* x;                       // S [chunk * B, I]
  void* h_prev;                  // S [chunk * B, P]
  void* operand;                 // S [chunk * B, H]
  void* d_x;                     // C [chunk * B, I]
  void* d_kernels[kMaxKernels];  // C, as kernels, where the sums are not those of S
  void* d_z_sums;                // C [d_z_width], of the rows of d_z
  void* partial_sums;            // C [kPartialSums, d_z_width]
};

struct BackwardWorkspace {
  PersistentWorkspace persistent;
  int64_t chunk;     // loop steps whose weight gradients are taken at a time
  int64_t* lengths;  // [B]
  BackwardBuffers sequence[kSideBySide];
  size_t bytes;  // of all of it
};

constexpr int kPartialSums = 64;

// The loop steps of a chunk, those whose input products or weight gradients are taken together, in so many bytes.
int64_t forward_chunk(const SequenceParams& params, int64_t bytes);
int64_t backward_chunk(const SequenceParams& params, int64_t bytes);

ForwardWorkspace divide_forward(const SequenceForwardParams* sequences, int count);
BackwardWorkspace divide_backward(const SequenceBackwardParams* sequences, int count);

}  // namespace fused_rnn::cuda
