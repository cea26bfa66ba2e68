// The time loop, backward: one kernel for each step and stage, from the last step to the first, or one for a chunk of
// steps; and after each chunk its share of the gradients that are large products.
#pragma once

#include "csrc/cuda/large_products.cuh"
#include "csrc/cuda/persistent.cuh"

namespace fused_rnn::cuda {

template <typename CellType, typename S>
class TimeLoopBackward {
 public:
  explicit TimeLoopBackward(const SequenceBackwardParams& params)
      : p(params), work(divide_backward(params)), loop(params, work.lengths) {}

  Status run() {
    if (p.B == 0 || loop.steps == 0) return run_nothing();
    FUSED_RNN_RETURN_IF_ERROR(loop.begin(p, work.lengths));
    FUSED_RNN_RETURN_IF_ERROR(begin_driver(p, work.persistent));
    if (loop.padded) FUSED_RNN_RETURN_IF_ERROR(clear_padding());
    LargeProducts<CellType, S> products(p, work, loop.rows);
    for (int64_t end = loop.steps, first; end > 0; end = first) {
      first = std::max<int64_t>(end - work.chunk, 0);
      if (work.persistent.chosen) FUSED_RNN_RETURN_IF_ERROR(run_chunk(first, end - first));
      for (int64_t step = end - 1; step >= first && !work.persistent.chosen; --step) {
        FUSED_RNN_RETURN_IF_ERROR(run_step(step, step - first));
      }
      FUSED_RNN_RETURN_IF_ERROR(products.add_chunk(first, end - first, end == loop.steps));
    }
    return products.finish();
  }

 private:
  using C = Compute<S>;
  const SequenceBackwardParams& p;
  const BackwardWorkspace work;
  Loop loop;

  // The gradients of no step at all.
  Status run_nothing() {
    if (p.B > 0 && p.T > 0) {
      FUSED_RNN_RETURN_IF_ERROR(loop.begin(p, work.lengths));
      FUSED_RNN_RETURN_IF_ERROR(clear_padding());
    }
    for (int k = 0; k < CellType::kInfo.kernels; ++k) {
      const int64_t count = kernel_rows<CellType>(p, k) * kernel_width<CellType>(p, k);
      FUSED_RNN_RETURN_IF_ERROR(clear(p.d_kernels[k], count * sizeof(S), p.stream));
    }
    for (int k = 0; k < CellType::kInfo.biases; ++k) {
      FUSED_RNN_RETURN_IF_ERROR(clear(p.d_biases[k], CellType::kInfo.bias_gates[k] * p.H * sizeof(S), p.stream));
    }
    return copy_states(p, p.d_final_state, p.d_initial_state, CellType::kInfo.states, sizeof(S));
  }

  Status clear_padding() {
    const ClearPadding<S> clear{loop.rows, p.I, static_cast<S*>(p.d_x), p.x_strides};
    return launch_rows(clear_padding_kernel<S>, p.T * p.B, p.stream, clear);
  }

  // What every step takes; where it puts d_z and operand is that of the in_chunk'th step of a chunk.
  StepBackward<S> common_params(int64_t in_chunk) const {
    StepBackward<S> s{};
    s.rows = loop.rows, s.I = p.I, s.H = p.H, s.P = p.P;
    s.options = cell_options<C>(p);
    copy_pointers(p.kernels, s.kernels);
    copy_pointers(p.biases, s.biases);
    s.initial_h = static_cast<const S*>(p.initial_state[0]);
    s.y = static_cast<const S*>(p.y), s.d_y = static_cast<const S*>(p.d_y), s.y_strides = p.y_strides;
    s.state_mask = static_cast<const S*>(p.state_mask);
    s.saved = static_cast<const S*>(p.saved);
    s.d_z_rounded = static_cast<S*>(work.d_z_rounded) + in_chunk * p.B * d_z_width<CellType>(p);
    if (CellType::kStages > 1) s.operand = static_cast<S*>(work.operand) + in_chunk * p.B * p.H;
    s.d_h_in = State<S>{work.d_h, false}, s.d_c_in = State<S>{work.d_c, false};
    s.d_h = static_cast<C*>(work.d_h), s.d_c = static_cast<C*>(work.d_c);
    return s;
  }

  // The steps of a chunk, by the persistent driver.
  Status run_chunk(int64_t first, int64_t steps) {
    if constexpr (!std::is_same_v<S, double>) {
      PersistentBackward<S> call{};
      FUSED_RNN_RETURN_IF_ERROR(begin_launch(p, work.persistent, &call.division));
      call.step = common_params(0);
      call.step.step = first, call.steps = steps, call.end = loop.steps;
      call.d_h_end = State<S>{p.d_final_state[0], true}, call.d_c_end = State<S>{p.d_final_state[1], true};
      for (int i = 0; i < 4; ++i) {
        call.exchanged_d_z[i / 2][i % 2] = static_cast<S*>(work.persistent.rows[i / 2][i % 2]);
      }
      return persistent_backward<S>(call, work.persistent.plan, p.cell, p.stream);
    }
    return {};
  }

  // Step `step`, which is the in_chunk'th of its chunk.
  Status run_step(int64_t step, int64_t in_chunk) {
    const bool last = step + 1 == loop.steps;
    StepBackward<S> s = common_params(in_chunk);
    s.step = step;
    s.d_z = static_cast<C*>(work.d_z[step % 2]);
    if (!last) s.d_z_next = static_cast<const C*>(work.d_z[(step + 1) % 2]);
    if (last) s.d_h_in = State<S>{p.d_final_state[0], true}, s.d_c_in = State<S>{p.d_final_state[1], true};
    if constexpr (CellType::kStages > 1) {
      FUSED_RNN_RETURN_IF_ERROR(run_stage<1>(s));
      s.d_h_in = State<S>{work.d_h, false};
    }
    return run_stage<0>(s);
  }

  template <int kStageIndex>
  Status run_stage(const StepBackward<S>& step) {
    switch (loop.tile_size(Tiles<C>::Large::kRows, 32, stage_units<CellType>(p, kStageIndex))) {
      case TileSize::kFew: return run_tile<kStageIndex, typename Tiles<C>::Few, 1>(step);
      case TileSize::kMany: return run_tile<kStageIndex, typename Tiles<C>::Many, 2>(step);
      case TileSize::kLarge: break;
    }
    return run_tile<kStageIndex, typename Tiles<C>::Large, 4>(step);
  }

  template <int kStageIndex, typename Tile, int kUnitsPerThread>
  Status run_tile(const StepBackward<S>& step) {
    using Shared = BackwardShared<Tile, kUnitsPerThread>;
    const int64_t units = stage_units<CellType>(p, kStageIndex);
    const int64_t blocks = divide_up(p.B, Tile::kRows) * divide_up(units, kUnitsPerThread * Tile::kColThreads);
    return launch(step_backward_kernel<CellType, kStageIndex, S, Tile, kUnitsPerThread>, blocks, Tile::kThreads,
                  sizeof(Shared), p.stream, step);
  }
};

template <typename S>
Status time_loop_backward(const SequenceBackwardParams& params) {
  return with_cell(params.cell, [&](auto cell) { return TimeLoopBackward<decltype(cell), S>(params).run(); });
}

}  // namespace fused_rnn::cuda
