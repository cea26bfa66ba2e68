// All steps of a chunk in one cooperative launch, forward. A block owns all gates of some units for some rows of the
// batch, and keeps their recurrent weights; of a step it needs h (or the second stage's operand) from all the others.
#pragma once

#include "csrc/cuda/persistent_block.cuh"

namespace fused_rnn::cuda {

// Step `in_launch` of the launch.
template <typename CellType, typename S>
__device__ __forceinline__ StepForward<S> step_of(const PersistentForward<S>& p, const ForwardShare<S>& share,
                                                  int64_t in_launch) {
  StepForward<S> s = share.step;
  take_common(p.shares[0].step, s);
  s.step += in_launch;
  if (s.zx != nullptr) s.zx += in_launch * s.rows.B * CellType::kInfo.gates * s.H;
  if (s.step > 0) s.h_prev = {share.h[s.step % 2], false}, s.c_prev = {share.c, false};
  if (s.step + 1 < p.end) {
    s.h = share.h[(s.step + 1) % 2], s.c = share.c;
  } else {
    s.h = nullptr, s.c = nullptr;
    s.final_state[0] = share.final_state[0], s.final_state[1] = share.final_state[1];
  }
  return s;
}

// The recurrent weights of a block's units: column gate * units + unit.
template <typename CellType, int kStageIndex, typename S>
__device__ void fill_weights(const Division& division, const StepForward<S>& step, const Member& member,
                             const BlockWeights& weights) {
  const int units = division.stage[kStageIndex].units;
  const int64_t depth = stage_depth(step, kStageIndex), first = member.first_unit<kStageIndex>();
  weights.fill<S>(division.tf32, [&](int column, int64_t k) {
    const int gate = column / units;
    const int64_t unit = first + column % units;
    S value = to_storage<S>(0);
    if (k >= depth || unit >= stage_units<CellType>(step, kStageIndex)) return value;
    for_each_index<CellType::kStage[kStageIndex].count>([&](auto index) {
      constexpr int kGate = CellType::kStage[kStageIndex].first + decltype(index)::value;
      constexpr int kKernel = kernel_of<CellType>(kGate), kPlace = place_of<CellType>(kGate);
      if (gate != decltype(index)::value) return;
      const int64_t row = kernel_input_rows<CellType>(step, kKernel) + k;
      value = step.kernels[kKernel][row * kernel_width<CellType>(step, kKernel) + kPlace * step.H + unit];
    });
    return value;
  });
}

// A stage of a step: from exchanged rows to exchanged rows.
template <typename CellType, int kStageIndex, typename S>
__device__ __forceinline__ void run_stage(const PersistentForward<S>& p, int64_t in_launch, Member& member,
                                          const BlockWeights& weights) {
  using C = Compute<S>;
  constexpr int kGates = CellType::kStage[kStageIndex].count, kColumns = CellType::kProducts[kStageIndex].count;
  constexpr bool kLast = kStageIndex + 1 == CellType::kStages;
  const ForwardShare<S>& share = p.shares[block_row()];
  const StepForward<S> step = step_of<CellType>(p, share, in_launch);
  const Partial partial = block_partial<kStageIndex>(p.division);
  const int units = member.units<kStageIndex>(stage_units<CellType>(step, kStageIndex));
  const int unit_stride = p.division.stage[kStageIndex].units;
  const int64_t first_unit = member.first_unit<kStageIndex>(), in_stride = p.division.stage[kStageIndex].stride;
  const int64_t out_stride = p.division.stage[kLast ? 0 : 1].stride;
  const S* in = kStageIndex == 0 ? share.exchanged_h[step.step % 2] : share.exchanged_operand;
  S* out = kLast ? share.exchanged_h[(step.step + 1) % 2] : share.exchanged_operand;
  const auto begin = [&](int64_t row, int unit, Forward<C>& u) {
    begin_unit<CellType, kStageIndex>(step, row, first_unit + unit, u);
  };
  const auto multiply = [&](int64_t first_row, int rows) {
    multiply_rows<S>(weights, {in + first_row * in_stride, in_stride, rows}, partial, p.division.tf32);
  };
  run_tiles<Forward<C>>(
      member, units, begin, multiply, [&](int64_t first_row, int row, int rows, int unit, Forward<C>& u) {
        C sums[kColumns] = {};
        for_each_index<kGates>([&](auto index) {
          constexpr int kGate = CellType::kStage[kStageIndex].first + decltype(index)::value;
          constexpr int kPlace = CellType::recurrent_column(kGate) - CellType::kProducts[kStageIndex].first;
          sums[kPlace] = partial.total(decltype(index)::value * unit_stride + unit, row, rows);
        });
        const C next = end_unit<CellType, kStageIndex>(step, first_row + row, first_unit + unit, sums, u);
        out[(first_row + row) * out_stride + first_unit + unit] = to_factor<S>(next, p.division.tf32);
      });
}

template <typename CellType, typename S>
__global__ void __launch_bounds__(kPersistentThreads, 1)
    persistent_forward_kernel(const __grid_constant__ PersistentForward<S> p) {
  constexpr int kLast = CellType::kStages - 1;
  Member member(p.division);
  const ForwardShare<S>& share = p.shares[blockIdx.y];
  const BlockWeights first = block_weights<0>(p.division), second = block_weights<kLast>(p.division);
  fill_weights<CellType, 0>(p.division, share.step, member, first);
  if constexpr (kLast > 0) fill_weights<CellType, kLast>(p.division, share.step, member, second);

  const StepForward<S> begin = step_of<CellType>(p, share, 0);
  const int units = member.units<kLast>(share.step.P);
  for (int64_t i = threadIdx.x; i < static_cast<int64_t>(member.rows()) * units; i += kPersistentThreads) {
    const int64_t row = member.first_row() + i / units, unit = member.first_unit<kLast>() + i % units;
    S* out = share.exchanged_h[begin.step % 2] + row * p.division.stage[0].stride;
    out[unit] = to_factor<S>(begin.h_prev[row * share.step.P + unit], p.division.tf32);
  }
  member.pass_on();
  for (int64_t i = 0; i < p.steps; ++i) {
    run_stage<CellType, 0>(p, i, member, first);
    if constexpr (kLast > 0) run_stage<CellType, kLast>(p, i, member, second);
  }
}

template <typename S>
Status persistent_forward(const PersistentForward<S>& call, int count, const PersistentPlan& plan,
                          const SequenceParams& params) {
  return with_cell(params.cell, [&](auto c) {
    return launch_cooperative(persistent_forward_kernel<decltype(c), S>, {int64_t{plan.groups} * plan.blocks, count},
                              kPersistentThreads, plan.shared_bytes, params.stream, call);
  });
}

}  // namespace fused_rnn::cuda
