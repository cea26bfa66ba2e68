// All steps of a chunk in one cooperative launch, backward. A block owns some units for some rows of the batch, and
// keeps the recurrent weights that lead back to them; of a step it needs the gradients of all preactivations.
#pragma once

#include "csrc/cuda/persistent_block.cuh"

namespace fused_rnn::cuda {

template <typename CellType, typename S>
__device__ __forceinline__ StepBackward<S> step_of(const PersistentBackward<S>& p, const BackwardShare<S>& share,
                                                   int64_t in_launch) {
  StepBackward<S> s = share.step;
  take_common(p.shares[0].step, s);
  s.step += in_launch;
  s.d_z_rounded += in_launch * s.rows.B * d_z_width<CellType>(s);
  if (s.operand != nullptr) s.operand += in_launch * s.rows.B * s.H;
  if (s.step + 1 == p.end) s.d_h_in = share.d_h_end, s.d_c_in = share.d_c_end;
  return s;
}

// The weights through which the gradients of the product stage's gates come back to a block's units: column unit, and
// along the depth gate after gate.
template <typename CellType, int kStageIndex, typename S>
__device__ void fill_weights(const Division& division, const StepBackward<S>& step, const Member& member,
                             const BlockWeights& weights) {
  using Stage = BackwardStage<CellType, kStageIndex>;
  const int64_t width = stage_units<CellType>(step, Stage::kProductStage), first = member.first_unit<kStageIndex>();
  const int units = member.units<kStageIndex>(stage_units<CellType>(step, kStageIndex));
  weights.fill<S>(division.tf32, [&](int column, int64_t k) {
    S value = to_storage<S>(0);
    if (column >= units) return value;
    for_each_index<Stage::kProduct.count>([&](auto index) {
      constexpr int kGate = Stage::kProduct.first + decltype(index)::value;
      constexpr int kKernel = kernel_of<CellType>(kGate), kPlace = place_of<CellType>(kGate);
      const int64_t of_gate = k - decltype(index)::value * width;
      if (of_gate < 0 || of_gate >= width) return;
      const int64_t row = kernel_input_rows<CellType>(step, kKernel) + first + column;
      value = step.kernels[kKernel][row * kernel_width<CellType>(step, kKernel) + kPlace * step.H + of_gate];
    });
    return value;
  });
}

// A stage of a step: from exchanged rows to exchanged rows.
template <typename CellType, int kStageIndex, typename S>
__device__ __forceinline__ void run_stage(const PersistentBackward<S>& p, int64_t in_launch, Member& member,
                                          const BlockWeights& weights) {
  using C = Compute<S>;
  using Stage = BackwardStage<CellType, kStageIndex>;
  const BackwardShare<S>& share = p.shares[block_row()];
  StepBackward<S> step = step_of<CellType>(p, share, in_launch);
  if (!Stage::kLast) step.d_h_in = {share.step.d_h, false};
  const Partial partial = block_partial<kStageIndex>(p.division);
  const int units = member.units<kStageIndex>(stage_units<CellType>(step, kStageIndex));
  const int64_t first_unit = member.first_unit<kStageIndex>(), in_stride = p.division.stage[kStageIndex].stride;
  // The stage whose product takes this one's gradients is the other, if there are two.
  const int64_t out_stride = p.division.stage[CellType::kStages - 1 - kStageIndex].stride;
  const int64_t out_width = stage_units<CellType>(step, kStageIndex);
  const S* in = share.exchanged_d_z[Stage::kProductStage][Stage::kProductStage == 0 ? (step.step + 1) % 2 : 0];
  S* out = share.exchanged_d_z[kStageIndex][kStageIndex == 0 ? step.step % 2 : 0];
  const bool product = !Stage::kLast || step.step + 1 < p.end;
  const auto begin = [&](int64_t row, int unit, UnitBackward<C>& u) {
    begin_unit<CellType, kStageIndex>(step, row, first_unit + unit, u);
  };
  const auto multiply = [&](int64_t first_row, int rows) {
    if (!product) return;
    multiply_rows<S>(weights, {in + first_row * in_stride, in_stride, rows}, partial, p.division.tf32);
  };
  run_tiles<UnitBackward<C>>(member, units, begin, multiply,
                             [&](int64_t first_row, int row, int rows, int unit, UnitBackward<C>& u) {
                               const C sum = product ? partial.total(unit, row, rows) : 0;
                               end_unit<CellType, kStageIndex>(step, first_row + row, first_unit + unit, sum, u);
                               for_each_index<CellType::kStage[kStageIndex].count>([&](auto index) {
                                 constexpr int kGate = CellType::kStage[kStageIndex].first + decltype(index)::value;
                                 const int64_t place = decltype(index)::value * out_width + first_unit + unit;
                                 const C d_z = u.d_z[CellType::recurrent_column(kGate)];
                                 out[(first_row + row) * out_stride + place] = to_factor<S>(d_z, p.division.tf32);
                               });
                             });
}

template <typename CellType, typename S>
__global__ void __launch_bounds__(kPersistentThreads, 1)
    persistent_backward_kernel(const __grid_constant__ PersistentBackward<S> p) {
  constexpr int kLast = CellType::kStages - 1;
  Member member(p.division);
  const BackwardShare<S>& share = p.shares[blockIdx.y];
  const BlockWeights first = block_weights<0>(p.division), second = block_weights<kLast>(p.division);
  fill_weights<CellType, 0>(p.division, share.step, member, first);
  if constexpr (kLast > 0) fill_weights<CellType, kLast>(p.division, share.step, member, second);
  for (int64_t i = p.steps - 1; i >= 0; --i) {
    if constexpr (kLast > 0) {
      run_stage<CellType, kLast>(p, i, member, second);
    }
    run_stage<CellType, 0>(p, i, member, first);
  }
}

template <typename S>
Status persistent_backward(const PersistentBackward<S>& call, int count, const PersistentPlan& plan,
                           const SequenceParams& params) {
  return with_cell(params.cell, [&](auto c) {
    return launch_cooperative(persistent_backward_kernel<decltype(c), S>, {int64_t{plan.groups} * plan.blocks, count},
                              kPersistentThreads, plan.shared_bytes, params.stream, call);
  });
}

}  // namespace fused_rnn::cuda
