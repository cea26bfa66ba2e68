// What the kernels of the persistent driver share: which rows and units a block has, how it waits for the others, and
// where its shared memory goes.
#pragma once

#include "csrc/cuda/persistent.cuh"
#include "csrc/cuda/persistent_product.cuh"

namespace fused_rnn::cuda {

// A block's place. Blocks of a group exchange rows: each passes on what it has made of its units, and waits until all
// have. Two groups never wait for each other.
class Member {
 public:
  __device__ explicit Member(const Division& division)
      : division_(division),
        block_(static_cast<int>(blockIdx.x) % division.blocks),
        flags_(division.flags + blockIdx.x / division.blocks * division.blocks),
        first_row_(blockIdx.x / division.blocks * division.rows) {}

  __device__ int64_t first_row() const { return first_row_; }
  __device__ int rows() const {
    const int64_t rest = division_.B - first_row_;
    return static_cast<int>(rest < division_.rows ? rest : division_.rows);
  }
  template <int kStageIndex>
  __device__ int64_t first_unit() const {
    return static_cast<int64_t>(block_) * division_.stage[kStageIndex].units;
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
    if (threadIdx.x == 0) store_release(flags_ + block_, passed_);
  }
  // Returns once all blocks of the group have passed on as often as this one. All threads call it.
  __device__ void wait() const {
    for (int i = threadIdx.x; i < division_.blocks; i += kPersistentThreads) {
      while (load_acquire(flags_ + i) < passed_) {
      }
    }
    __syncthreads();
  }

 private:
  const Division& division_;
  const int block_;
  unsigned* const flags_;
  const int64_t first_row_;
  unsigned passed_ = 0;
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
  char* streamed = division.streamed + blockIdx.x * division.streamed_bytes;
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
