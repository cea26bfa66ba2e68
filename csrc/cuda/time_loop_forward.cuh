// The time loop, forward: input products a chunk of loop steps at a time, then one kernel for each step and stage, or
// one for the chunk.
#pragma once

#include "csrc/cuda/persistent.cuh"
#include "csrc/cuda/rows.cuh"
#include "csrc/cuda/time_loop_host.h"
#include "csrc/cuda/workspace.h"

namespace fused_rnn::cuda {

// One sequence of a call.
template <typename CellType, typename S>
class SequenceForward {
 public:
  SequenceForward(const SequenceForwardParams& params, const ForwardBuffers& buffers, const Loop& loop_of_call)
      : p(params), work(buffers), loop(loop_of_call), rows(loop_of_call.rows(params)) {}

  // What precedes the steps; and all, if there are none.
  Status begin() const {
    if (loop.padded) {
      const ClearPadding<S> clear{rows, p.P, static_cast<S*>(p.y), p.y_strides};
      FUSED_RNN_RETURN_IF_ERROR(launch_rows(clear_padding_kernel<S>, p.T * p.B, p.stream, clear));
    }
    if (loop.steps > 0) return {};
    return copy_states(p, p.initial_state, p.final_state, CellType::kInfo.states, sizeof(S));
  }

  // zx [steps * B, G * H] = x . W, without padding.
  Status input_product(int64_t first, int64_t steps) const {
    GatherRows<S> gather{};
    gather.rows = rows, gather.first_step = first, gather.steps = steps, gather.width = p.I;
    gather.source = static_cast<const S*>(p.x), gather.strides = p.x_strides;
    gather.out = static_cast<S*>(work.x);
    FUSED_RNN_RETURN_IF_ERROR(launch_rows(gather_rows_kernel<S>, steps * p.B, p.stream, gather));
    C* zx = static_cast<C*>(work.zx);
    for (int k = 0; k < CellType::kInfo.kernels - CellType::kInfo.projected; ++k) {
      const int64_t width = kernel_width<CellType>(p, k);
      FUSED_RNN_RETURN_IF_ERROR(multiply_large(p, {steps * p.B, width, p.I}, {work.x, p.I}, {p.kernels[k], width},
                                               {zx, CellType::kInfo.gates * p.H, 0.0}));
      zx += width;
    }
    return {};
  }

  // The steps of a chunk, a kernel for each step and stage.
  Status run_steps(int64_t first, int64_t steps) const {
    for (int64_t step = first; step < first + steps; ++step) {
      const StepForward<S> params = step_params(step, step - first);
      FUSED_RNN_RETURN_IF_ERROR(run_stage<0>(params));
      if constexpr (CellType::kStages > 1) FUSED_RNN_RETURN_IF_ERROR(run_stage<1>(params));
    }
    return {};
  }

  // What the persistent driver needs of the sequence for a chunk. exchanged: the rows of PersistentWorkspace.
  ForwardShare<S> share(int64_t first, void* const (&exchanged)[2][2]) const {
    ForwardShare<S> share{};
    share.step = common_params(0);
    share.step.step = first;
    for (int i = 0; i < 2; ++i) {
      share.h[i] = static_cast<C*>(work.h[i]);
      share.exchanged_h[i] = static_cast<S*>(exchanged[0][i]);
    }
    share.c = static_cast<C*>(work.c);
    share.exchanged_operand = static_cast<S*>(exchanged[1][0]);
    copy_pointers(p.final_state, share.final_state);
    return share;
  }

 private:
  using C = Compute<S>;
  const SequenceForwardParams& p;
  const ForwardBuffers& work;
  const Loop& loop;
  const Rows rows;

  // What every step takes; zx is that of the in_chunk'th step of a chunk.
  StepForward<S> common_params(int64_t in_chunk) const {
    StepForward<S> s{};
    s.rows = rows, s.I = p.I, s.H = p.H, s.P = p.P;
    s.options = cell_options<C>(p);
    copy_pointers(p.kernels, s.kernels);
    copy_pointers(p.biases, s.biases);
    if (work.zx != nullptr) {
      s.zx = static_cast<const C*>(work.zx) + in_chunk * p.B * CellType::kInfo.gates * p.H;
    } else {
      s.x = static_cast<const S*>(p.x), s.x_stride = p.x_strides.batch;
    }
    s.h_prev = State<S>{p.initial_state[0], true};
    s.c_prev = State<S>{p.initial_state[1], true};
    s.carry = static_cast<C*>(work.carry);
    s.y = static_cast<S*>(p.y), s.y_strides = p.y_strides;
    s.state_mask = static_cast<const S*>(p.state_mask);
    s.saved = static_cast<S*>(p.saved);
    return s;
  }

  // Step `step`, which is the in_chunk'th of its chunk.
  StepForward<S> step_params(int64_t step, int64_t in_chunk) const {
    StepForward<S> s = common_params(in_chunk);
    s.step = step;
    if (step > 0) s.h_prev = State<S>{work.h[step % 2], false}, s.c_prev = State<S>{work.c, false};
    s.operand = static_cast<C*>(work.operand);
    if (step + 1 < loop.steps) {
      s.h = static_cast<C*>(work.h[(step + 1) % 2]), s.c = static_cast<C*>(work.c);
    } else {
      copy_pointers(p.final_state, s.final_state);
    }
    return s;
  }

  template <int kStageIndex>
  Status run_stage(const StepForward<S>& step) const {
    constexpr int kLargeUnits = 32 / CellType::kProducts[kStageIndex].count;
    switch (loop.tile_size(Tiles<C>::Large::kRows, kLargeUnits, stage_units<CellType>(p, kStageIndex))) {
      case TileSize::kFew: return run_tile<kStageIndex, typename Tiles<C>::Few>(step);
      case TileSize::kMany: return run_tile<kStageIndex, typename Tiles<C>::Many>(step);
      case TileSize::kLarge: break;
    }
    return run_tile<kStageIndex, typename Tiles<C>::Large>(step);
  }

  template <int kStageIndex, typename Tile>
  Status run_tile(const StepForward<S>& step) const {
    using Shared = ForwardShared<CellType, kStageIndex, Tile>;
    const int64_t blocks =
        divide_up(p.B, Tile::kRows) * divide_up(stage_units<CellType>(p, kStageIndex), Shared::Right::kUnits);
    return launch(step_forward_kernel<CellType, kStageIndex, S, Tile>, blocks, Tile::kThreads, sizeof(Shared), p.stream,
                  step);
  }
};

// A call: its sequences in turn, or chunk by chunk side by side where one launch runs the steps of both.
template <typename CellType, typename S>
class TimeLoopForward {
 public:
  TimeLoopForward(const SequenceForwardParams* sequences, int count)
      : sequences_(sequences),
        count_(count),
        work_(divide_forward(sequences, count)),
        loop_(*sequences, work_.lengths) {}

  Status run() {
    if (loop_.B == 0) return {};
    FUSED_RNN_RETURN_IF_ERROR(loop_.begin(*sequences_));
    FUSED_RNN_RETURN_IF_ERROR(begin_driver(*sequences_, work_.persistent));
    for (int n = 0; n < count_; n += work_.persistent.side_by_side()) {
      FUSED_RNN_RETURN_IF_ERROR(run_side_by_side(n, std::min(work_.persistent.side_by_side(), count_ - n)));
    }
    return {};
  }

 private:
  using Sequence = SequenceForward<CellType, S>;
  const SequenceForwardParams* const sequences_;
  const int count_;
  const ForwardWorkspace work_;
  Loop loop_;

  // Of those that run side by side from sequence `first` on.
  Sequence sequence(int first, int n) const { return Sequence(sequences_[first + n], work_.sequence[n], loop_); }

  Status run_side_by_side(int first, int count) {
    for (int n = 0; n < count; ++n) FUSED_RNN_RETURN_IF_ERROR(sequence(first, n).begin());
    const int64_t chunk = work_.chunk > 0 ? work_.chunk : loop_.steps;
    for (int64_t step = 0; step < loop_.steps; step += chunk) {
      const int64_t steps = std::min(chunk, loop_.steps - step);
      for (int n = 0; n < count && work_.chunk > 0; ++n) {
        FUSED_RNN_RETURN_IF_ERROR(sequence(first, n).input_product(step, steps));
      }
      if (work_.persistent.chosen) {
        FUSED_RNN_RETURN_IF_ERROR(launch_chunk(first, count, step, steps));
      } else {
        FUSED_RNN_RETURN_IF_ERROR(sequence(first, 0).run_steps(step, steps));
      }
    }
    return {};
  }

  // The steps of a chunk, by the persistent driver.
  Status launch_chunk(int first, int count, int64_t step, int64_t steps) {
    if constexpr (!std::is_same_v<S, double>) {
      PersistentForward<S> call{};
      FUSED_RNN_RETURN_IF_ERROR(begin_launch(*sequences_, work_.persistent, &call.division));
      call.steps = steps, call.end = loop_.steps;
      for (int n = 0; n < count; ++n) call.shares[n] = sequence(first, n).share(step, work_.persistent.rows[n]);
      return persistent_forward<S>(call, count, work_.persistent.plan, *sequences_);
    }
    return {};
  }
};

template <typename S>
Status time_loop_forward(const SequenceForwardParams* sequences, int count) {
  return with_cell(sequences->cell,
                   [&](auto cell) { return TimeLoopForward<decltype(cell), S>(sequences, count).run(); });
}

}  // namespace fused_rnn::cuda
