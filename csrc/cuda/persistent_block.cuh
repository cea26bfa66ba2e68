// What the kernels of the persistent driver share: which rows and units a block has, how it waits for the others, and
// where its shared memory goes.
#pragma once

#include "csrc/cuda/persistent.cuh"
#include "csrc/cuda/persistent_product.cuh"

namespace fused_rnn::cuda {

// The blocks of a sequence are a row of the grid, one group after another. (With the row's number, which the compiler
// knows to be the same for the whole block, what a sequence has of its own is as cheap to read as other parameters.)
__device__ __forceinline__ unsigned block_of_launch() {
  return blockIdx.y * gridDim.x + blockIdx.x;
}

// What the steps of all sequences of a launch have in common, taken from the first: that one's parameters are operands,
// those of a sequence that the compiler does not know want registers.
template <typename Step>
__device__ __forceinline__ void take_common(const Step& first, Step& step) {
  step.rows.T = first.rows.T, step.rows.B = first.rows.B, step.rows.lengths = first.rows.lengths;
  step.I = first.I, step.H = first.H, step.P = first.P, step.step = first.step;
  step.options = first.options, step.y_strides = first.y_strides;
}

// A block's place. Blocks of a group exchange rows: each passes on what it has made of its units, and waits until all
// have. Two groups never wait for each other.
class Member {
 public:
  __device__ explicit Member(const Division& division)
      : division_(division), group_(static_cast<int>(blockIdx.x) / division.blocks) {}

  __device__ int64_t first_row() const { return group_ * division_.rows; }
  __device__ int rows() const {
    const int64_t rest = division_.B - first_row();
    return static_cast<int>(rest < division_.rows ? rest : division_.rows);
  }
  template <int kStageIndex>
  __device__ int64_t first_unit() const {
    return static_cast<int64_t>(block()) * division_.stage[kStageIndex].units;
  }
  // Of `units` units of the stage, how many are this block's; it may have none.
  template <int kStageIndex>
  __device__ int units(int64_t units) const {
    const int64_t rest = units - first_unit<kStageIndex>();
    const int most = division_.stage[kStageIndex].units;
    return rest < 0 ? 0 : rest < most ? static_cast<int>(rest) : most;
  }

  // Lets the other blocks see what this one's threads have written. All threads call it.
  __device__ void pass_on() {
    __syncthreads();
    ++passed_;
    if (threadIdx.x == 0) store_release(division_.flags + block_of_launch(), passed_);
  }
  // Returns once all blocks of the group have passed on as often as this one. All threads call it.
  __device__ void wait() const {
    const unsigned* flags = division_.flags + (block_of_launch() - block());
    for (int i = threadIdx.x; i < division_.blocks; i += kPersistentThreads) {
      while (load_acquire(flags + i) < passed_) {
      }
    }
    __syncthreads();
  }

 private:
  const Division& division_;
  const int group_;
  unsigned passed_ = 0;

  // In its group.
  __device__ int block() const { return static_cast<int>(blockIdx.x) - group_ * division_.blocks; }
};

// The course of a stage: the block's rows in tiles, each multiplied by multiply(first row, rows); and the block's
// `units` units of every row, each begun by begin(row, unit, u) and ended by end(first row, row, rows, unit, u), where
// row counts from the first of its tile. What does not depend on the others is asked for before they are waited for: a
// thread begins the first of its units of a tile ahead of the product.
template <typename Unit, typename Begin, typename Multiply, typename End>
__device__ __forceinline__ void run_tiles(Member& member, int units, const Begin& begin, const Multiply& multiply,
                                          const End& end) {
  for (int tile = 0; tile < member.rows(); tile += kPersistentRows) {
    const int64_t first_row = member.first_row() + tile;
    const int rows = smaller(member.rows() - tile, kPersistentRows);
    Unit u{};
    int i = threadIdx.x;
    if (i < rows * units) begin(first_row + i / units, i % units, u);
    if (tile == 0) member.wait();
    multiply(first_row, rows);
    __syncthreads();
    for (; i < rows * units; i += kPersistentThreads) {
      if (i >= kPersistentThreads) {
        u = {};
        begin(first_row + i / units, i % units, u);
      }
      end(first_row, i / units, rows, i % units, u);
    }
    __syncthreads();
  }
  member.pass_on();
}

// The shared memory of a block: partial sums, then the weights of each stage that stay.
template <int kStageIndex>
__device__ BlockWeights block_weights(const Division& division) {
  const PersistentStage& stage = division.stage[kStageIndex];
  const int stride = partial_stride(smaller(division.rows, kPersistentRows));
  const PersistentStage &one = division.stage[0], &other = division.stage[1];
  const int widest = one.columns > other.columns ? one.columns : other.columns;
  char* kept = &shared_memory<char>() + kPersistentWarps * widest * stride * sizeof(float);
  char* streamed = division.streamed + block_of_launch() * division.streamed_bytes;
  if (kStageIndex > 0) {
    const int64_t piece_row = one.columns / kPieceColumns * static_cast<int64_t>(kPieceBytes);
    kept += one.resident * piece_row;
    streamed += (one.chunks - one.resident) * piece_row;
  }
  return {stage.columns / kPieceColumns, stage.chunks, stage.resident, reinterpret_cast<uint4*>(kept),
          reinterpret_cast<uint4*>(streamed)};
}

template <int kStageIndex>
__device__ Partial block_partial(const Division& division) {
  return {&shared_memory<float>(), division.stage[kStageIndex].columns};
}

}  // namespace fused_rnn::cuda
