// The time loop, forward: input products a chunk of loop steps at a time, then one kernel for each step and stage, or
// one for the chunk.
#pragma once

#include "csrc/cuda/persistent.cuh"
#include "csrc/cuda/rows.cuh"
#include "csrc/cuda/time_loop_host.h"
#include "csrc/cuda/workspace.h"

namespace fused_rnn::cuda {

template <typename CellType, typename S>
class TimeLoopForward {
 public:
  explicit TimeLoopForward(const SequenceForwardParams& params)
      : p(params), work(divide_forward(params)), loop(params, work.lengths) {}

  Status run() {
    if (p.B == 0) return {};
    FUSED_RNN_RETURN_IF_ERROR(loop.begin(p, work.lengths));
    FUSED_RNN_RETURN_IF_ERROR(begin_driver(p, work.persistent));
    if (loop.padded) {
      const ClearPadding<S> clear{loop.rows, p.P, static_cast<S*>(p.y), p.y_strides};
      FUSED_RNN_RETURN_IF_ERROR(launch_rows(clear_padding_kernel<S>, p.T * p.B, p.stream, clear));
    }
    if (loop.steps == 0) return copy_states(p, p.initial_state, p.final_state, CellType::kInfo.states, sizeof(S));
    const int64_t chunk = work.chunk > 0 ? work.chunk : loop.steps;
    for (int64_t first = 0; first < loop.steps; first += chunk) {
      const int64_t steps = std::min(chunk, loop.steps - first);
      if (work.chunk > 0) FUSED_RNN_RETURN_IF_ERROR(input_product(first, steps));
      if (work.persistent.chosen) {
        FUSED_RNN_RETURN_IF_ERROR(run_chunk(first, steps));
        continue;
      }
      for (int64_t step = first; step < first + steps; ++step) {
        FUSED_RNN_RETURN_IF_ERROR(run_step(step_params(step, step - first)));
      }
    }
    return {};
  }

 private:
  using C = Compute<S>;
  const SequenceForwardParams& p;
  const ForwardWorkspace work;
  Loop loop;

  // zx [steps * B, G * H] = x . W, without padding.
  Status input_product(int64_t first, int64_t steps) {
    GatherRows<S> gather{};
    gather.rows = loop.rows, gather.first_step = first, gather.steps = steps, gather.width = p.I;
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

  // What every step takes; zx is that of the in_chunk'th step of a chunk.
  StepForward<S> common_params(int64_t in_chunk) const {
    StepForward<S> s{};
    s.rows = loop.rows, s.I = p.I, s.H = p.H, s.P = p.P;
    s.options = cell_options<C>(p);
    copy_pointers(p.kernels, s.kernels);
    copy_pointers(p.biases, s.biases);
    if (work.chunk > 0) {
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

  // The steps of a chunk, by the persistent driver.
  Status run_chunk(int64_t first, int64_t steps) {
    if constexpr (!std::is_same_v<S, double>) {
      PersistentForward<S> call{};
      FUSED_RNN_RETURN_IF_ERROR(begin_launch(p, work.persistent, &call.division));
      call.step = common_params(0);
      call.step.step = first, call.steps = steps, call.end = loop.steps;
      for (int i = 0; i < 2; ++i) {
        call.h[i] = static_cast<C*>(work.h[i]);
        call.exchanged_h[i] = static_cast<S*>(work.persistent.rows[0][i]);
      }
      call.c = static_cast<C*>(work.c);
      call.exchanged_operand = static_cast<S*>(work.persistent.rows[1][0]);
      copy_pointers(p.final_state, call.final_state);
      return persistent_forward<S>(call, work.persistent.plan, p.cell, p.stream);
    }
    return {};
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

  Status run_step(const StepForward<S>& step) {
    FUSED_RNN_RETURN_IF_ERROR(run_stage<0>(step));
    if constexpr (CellType::kStages > 1) FUSED_RNN_RETURN_IF_ERROR(run_stage<1>(step));
    return {};
  }

  template <int kStageIndex>
  Status run_stage(const StepForward<S>& step) {
    constexpr int kLargeUnits = 32 / CellType::kProducts[kStageIndex].count;
    switch (loop.tile_size(Tiles<C>::Large::kRows, kLargeUnits, stage_units<CellType>(p, kStageIndex))) {
      case TileSize::kFew: return run_tile<kStageIndex, typename Tiles<C>::Few>(step);
      case TileSize::kMany: return run_tile<kStageIndex, typename Tiles<C>::Many>(step);
      case TileSize::kLarge: break;
    }
    return run_tile<kStageIndex, typename Tiles<C>::Large>(step);
  }

  template <int kStageIndex, typename Tile>
  Status run_tile(const StepForward<S>& step) {
    using Shared = ForwardShared<CellType, kStageIndex, Tile>;
    const int64_t blocks =
        divide_up(p.B, Tile::kRows) * divide_up(stage_units<CellType>(p, kStageIndex), Shared::Right::kUnits);
    return launch(step_forward_kernel<CellType, kStageIndex, S, Tile>, blocks, Tile::kThreads, sizeof(Shared), p.stream,
                  step);
  }
};

template <typename S>
Status time_loop_forward(const SequenceForwardParams& params) {
  return with_cell(params.cell, [&](auto cell) { return TimeLoopForward<decltype(cell), S>(params).run(); });
}

}  // namespace fused_rnn::cuda
