// The time loop, backward: one kernel for each step and stage, from the last step to the first, or one for a chunk of
// steps; and after each chunk its share of the gradients that are large products.
#pragma once

#include "csrc/cuda/large_products.cuh"
#include "csrc/cuda/persistent.cuh"

namespace fused_rnn::cuda {

// One sequence of a call.
template <typename CellType, typename S>
class SequenceBackward {
 public:
  SequenceBackward(const SequenceBackwardParams& params, const BackwardBuffers& buffers, const Loop& loop_of_call)
      : p(params), work(buffers), loop(loop_of_call), rows(loop_of_call.rows(params)) {}

  // What precedes the steps.
  Status begin() const {
    if (!loop.padded) return {};
    const ClearPadding<S> clear{rows, p.I, static_cast<S*>(p.d_x), p.x_strides};
    return launch_rows(clear_padding_kernel<S>, p.T * p.B, p.stream, clear);
  }

  // The gradients of no step at all.
  Status run_nothing() const {
    FUSED_RNN_RETURN_IF_ERROR(begin());
    for (int k = 0; k < CellType::kInfo.kernels; ++k) {
      const int64_t count = kernel_rows<CellType>(p, k) * kernel_width<CellType>(p, k);
      FUSED_RNN_RETURN_IF_ERROR(clear(p.d_kernels[k], count * sizeof(S), p.stream));
    }
    for (int k = 0; k < CellType::kInfo.biases; ++k) {
      FUSED_RNN_RETURN_IF_ERROR(clear(p.d_biases[k], CellType::kInfo.bias_gates[k] * p.H * sizeof(S), p.stream));
    }
    return copy_states(p, p.d_final_state, p.d_initial_state, CellType::kInfo.states, sizeof(S));
  }

  // The steps of a chunk, a kernel for each step and stage.
  Status run_steps(int64_t first, int64_t steps) const {
    for (int64_t i = steps - 1; i >= 0; --i) FUSED_RNN_RETURN_IF_ERROR(run_step(first + i, i));
    return {};
  }

  // What the persistent driver needs of the sequence for a chunk. exchanged: the rows of PersistentWorkspace.
  BackwardShare<S> share(int64_t first, void* const (&exchanged)[2][2]) const {
    BackwardShare<S> share{};
    share.step = common_params(0);
    share.step.step = first;
    share.d_h_end = State<S>{p.d_final_state[0], true}, share.d_c_end = State<S>{p.d_final_state[1], true};
    for (int i = 0; i < 4; ++i) share.exchanged_d_z[i / 2][i % 2] = static_cast<S*>(exchanged[i / 2][i % 2]);
    return share;
  }

  // The gradients that are large products.
  LargeProducts<CellType, S> large_products() const { return LargeProducts<CellType, S>(p, work, rows); }

 private:
  using C = Compute<S>;
  const SequenceBackwardParams& p;
  const BackwardBuffers& work;
  const Loop& loop;
  const Rows rows;

  // What every step takes; where it puts d_z and operand is that of the in_chunk'th step of a chunk.
  StepBackward<S> common_params(int64_t in_chunk) const {
    StepBackward<S> s{};
    s.rows = rows, s.I = p.I, s.H = p.H, s.P = p.P;
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

  // Step `step`, which is the in_chunk'th of its chunk.
  Status run_step(int64_t step, int64_t in_chunk) const {
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
  Status run_stage(const StepBackward<S>& step) const {
    switch (loop.tile_size(Tiles<C>::Large::kRows, 32, stage_units<CellType>(p, kStageIndex))) {
      case TileSize::kFew: return run_tile<kStageIndex, typename Tiles<C>::Few, 1>(step);
      case TileSize::kMany: return run_tile<kStageIndex, typename Tiles<C>::Many, 2>(step);
      case TileSize::kLarge: break;
    }
    return run_tile<kStageIndex, typename Tiles<C>::Large, 4>(step);
  }

  template <int kStageIndex, typename Tile, int kUnitsPerThread>
  Status run_tile(const StepBackward<S>& step) const {
    using Shared = BackwardShared<Tile, kUnitsPerThread>;
    const int64_t units = stage_units<CellType>(p, kStageIndex);
    const int64_t blocks = divide_up(p.B, Tile::kRows) * divide_up(units, kUnitsPerThread * Tile::kColThreads);
    return launch(step_backward_kernel<CellType, kStageIndex, S, Tile, kUnitsPerThread>, blocks, Tile::kThreads,
                  sizeof(Shared), p.stream, step);
  }
};

// A call: its sequences in turn, or chunk by chunk side by side where one launch runs the steps of both.
template <typename CellType, typename S>
class TimeLoopBackward {
 public:
  TimeLoopBackward(const SequenceBackwardParams* sequences, int count)
      : sequences_(sequences),
        count_(count),
        work_(divide_backward(sequences, count)),
        loop_(*sequences, work_.lengths) {}

  Status run() {
    if (loop_.B > 0) FUSED_RNN_RETURN_IF_ERROR(loop_.begin(*sequences_));
    if (loop_.B == 0 || loop_.steps == 0) {
      for (int n = 0; n < count_; ++n) FUSED_RNN_RETURN_IF_ERROR(sequence(n, 0).run_nothing());
      return {};
    }
    FUSED_RNN_RETURN_IF_ERROR(begin_driver(*sequences_, work_.persistent));
    for (int n = 0; n < count_; n += work_.persistent.side_by_side()) {
      FUSED_RNN_RETURN_IF_ERROR(run_side_by_side(n, std::min(work_.persistent.side_by_side(), count_ - n)));
    }
    return {};
  }

 private:
  using Sequence = SequenceBackward<CellType, S>;
  const SequenceBackwardParams* const sequences_;
  const int count_;
  const BackwardWorkspace work_;
  Loop loop_;

  // Of those that run side by side from sequence `first` on.
  Sequence sequence(int first, int n) const { return Sequence(sequences_[first + n], work_.sequence[n], loop_); }

  Status run_side_by_side(int first, int count) {
    for (int n = 0; n < count; ++n) FUSED_RNN_RETURN_IF_ERROR(sequence(first, n).begin());
    for (int64_t end = loop_.steps, step; end > 0; end = step) {
      step = std::max<int64_t>(end - work_.chunk, 0);
      if (work_.persistent.chosen) {
        FUSED_RNN_RETURN_IF_ERROR(launch_chunk(first, count, step, end - step));
      } else {
        FUSED_RNN_RETURN_IF_ERROR(sequence(first, 0).run_steps(step, end - step));
      }
      for (int n = 0; n < count; ++n) {
        auto products = sequence(first, n).large_products();
        FUSED_RNN_RETURN_IF_ERROR(products.add_chunk(step, end - step, end == loop_.steps));
      }
    }
    for (int n = 0; n < count; ++n) FUSED_RNN_RETURN_IF_ERROR(sequence(first, n).large_products().finish());
    return {};
  }

  // The steps of a chunk, by the persistent driver.
  Status launch_chunk(int first, int count, int64_t step, int64_t steps) {
    if constexpr (!std::is_same_v<S, double>) {
      PersistentBackward<S> call{};
      FUSED_RNN_RETURN_IF_ERROR(begin_launch(*sequences_, work_.persistent, &call.division));
      call.steps = steps, call.end = loop_.steps;
      for (int n = 0; n < count; ++n) call.shares[n] = sequence(first, n).share(step, work_.persistent.rows[n]);
      return persistent_backward<S>(call, count, work_.persistent.plan, *sequences_);
    }
    return {};
  }
};

template <typename S>
Status time_loop_backward(const SequenceBackwardParams* sequences, int count) {
  return with_cell(sequences->cell,
                   [&](auto cell) { return TimeLoopBackward<decltype(cell), S>(sequences, count).run(); });
}

}  // namespace fused_rnn::cuda
