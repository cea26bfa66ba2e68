// How the persistent driver divides a sequence among thread blocks, whether that pays, and what a step is predicted to
// take. Kernels know of it by Division alone.
#pragma once

#include "csrc/sequence.h"

namespace fused_rnn::cuda {

constexpr int kPersistentThreads = 256, kPersistentWarps = kPersistentThreads / 32;
constexpr int kPersistentRows = 32;  // of the batch that a block takes through a stage at a time
constexpr int kSideBySide = 2;       // sequences that one launch can run: the two directions of a layer
// Weights are kept in pieces of 8 columns by 64 bytes of depth: half of what mma.sync takes as its left operand.
constexpr int kPieceColumns = 8, kPieceDepthBytes = 64, kPieceBytes = kPieceColumns * kPieceDepthBytes;

// Of partial sums in shared memory, [warps, columns, stride]: rows are as far apart as keeps a warp's stores out of
// each other's banks.
constexpr int partial_stride(int64_t rows) {
  return rows <= 8 ? 8 : rows <= 24 ? 24 : 40;
}

// What a kernel needs to know of its share of a stage: the product of `depth` values that all blocks exchange with the
// columns of `units` units.
struct PersistentStage {
  int units;       // of a block
  int columns;     // of weights that a block has, whole pieces
  int chunks;      // pieces along the depth
  int resident;    // chunks that stay in shared memory; the others are read each step
  int64_t stride;  // of an exchanged row: whole chunks
};

struct PersistentPlan {
  std::string why_not;  // a clause that says why the driver cannot run this; empty: it can
  int side_by_side;     // sequences that one launch runs: 1 or kSideBySide; what follows is for each of them
  int groups;           // of rows of the batch, which never wait for each other
  int64_t rows;         // of a group
  int blocks;           // of a group
  int stages;
  PersistentStage stage[2];
  int64_t shared_bytes;              // of a block
  int64_t flag_bytes;                // unsigned [groups, blocks]
  int64_t exchange_bytes[2];         // [B, stride], of each stage; two of them where the cell has one stage
  int64_t streamed_bytes;            // of a block: the chunks that do not stay
  double step_us, stepwise_step_us;  // predicted for a step of all sequences, of this driver and of the stepwise one
  bool pays;                         // all of it is predicted to be faster than stepwise
};

// What both directions tell a kernel of the division of work.
struct Division {
  int blocks;    // of a group
  int64_t rows;  // of a group
  int64_t B;
  PersistentStage stage[2];
  unsigned* flags;  // [sequences, groups, blocks]: how often each block has passed on what it made; 0 at the start
  char* streamed;   // [sequences * groups * blocks, streamed_bytes]
  int64_t streamed_bytes;
  bool tf32;  // float32 products may be taken so
};

// What the plan depends on in a GPU.
struct Gpu {
  int processors, shared_bytes;  // the latter of a block that asks for all it can get
  bool cooperative;
};
Status describe_gpu(Gpu* gpu);

// Of `count` sequences like this one.
PersistentPlan plan_forward(const SequenceParams& params, int count, const Gpu& gpu);
PersistentPlan plan_backward(const SequenceParams& params, int count, const Gpu& gpu);

}  // namespace fused_rnn::cuda
