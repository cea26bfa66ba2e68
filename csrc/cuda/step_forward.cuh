// One stage of one loop step, forward: the product with the recurrent weights (and with the input weights, where that
// was not taken out of the time loop) and the cell, in one kernel. A block owns some rows of the batch and all gates of
// some units, so that it has complete preactivations in hand.
#pragma once

#include "csrc/cuda/gates.cuh"
#include "csrc/cuda/tile.cuh"

namespace fused_rnn::cuda {

template <typename S>
struct StepForward {
  using C = Compute<S>;

  Rows rows;
  int64_t I, H, P, step;
  CellOptions<C> options;
  const S* kernels[kMaxKernels];  // [I + P, kernel_gates[k] * H]; a projection [H, P]
  const S* biases[kMaxBiases];    // [bias_gates[k] * H]
  const S* x;                     // [B, I], rows x_stride apart; read where zx is null
  int64_t x_stride;
  const C* zx;                 // [B, G * H], the input product; null: this kernel takes it
  State<S> h_prev, c_prev;     // [B, P], [B, H]
  C* operand;                  // [B, H]: from the first of two stages to the second; may be null
  C* carry;                    // [B, kCarry, H]: likewise
  C *h, *c;                    // = [B, P], [B, H]; null after the last step
  S* final_state[kMaxStates];  // = [B, P], [B, H]; null before the last step
  S* y;                        // = [T, B, P] through y_strides
  Strides y_strides;
  const S* state_mask;  // [T, B, P] through y_strides, or null
  S* saved;             // = [T, B, saved, H] or null
};

template <typename CellType, int kStageIndex, typename Tile>
struct ForwardShared {
  static constexpr int kColumns = CellType::kProducts[kStageIndex].count;
  using Left = RowPanel<Tile, Tile::kRows>;
  using Right = WeightPanel<Tile, kColumns>;
  union {
    Panels<Left, Right> panels[2];
    Pack<typename Tile::C, 4> partial[Tile::kSlices][Tile::kRows][Tile::kColThreads];
  };
};

// Columns of weights from which a thread carries: one side's rows of it, x's or h's; null: this side adds nothing to
// it.
template <typename S>
struct WeightColumn {
  const S *input, *recurrent;
  int stride;
};

// The weights whose products are summed in `column` (counted from the stage's first) of d_z's order.
template <typename CellType, int kStageIndex, typename S>
__device__ __forceinline__ WeightColumn<S> weight_column(const StepForward<S>& p, int column, int64_t unit) {
  WeightColumn<S> found{nullptr, nullptr, 0};
  if (unit >= stage_units<CellType>(p, kStageIndex)) return found;
  for_each_index<CellType::kStage[kStageIndex].count>([&](auto index) {
    constexpr int kGate = CellType::kStage[kStageIndex].first + decltype(index)::value;
    constexpr int kKernel = kernel_of<CellType>(kGate), kPlace = place_of<CellType>(kGate);
    constexpr int kFirst = CellType::kProducts[kStageIndex].first;
    constexpr bool kProjects = projects<CellType>(kStageIndex);
    const bool takes_input = !kProjects && column == CellType::input_column(kGate) - kFirst;
    const bool takes_recurrent = column == CellType::recurrent_column(kGate) - kFirst;
    if (!takes_input && !takes_recurrent) return;
    const S* input = p.kernels[kKernel] + kPlace * p.H + unit;
    found.stride = static_cast<int>(kernel_width<CellType>(p, kKernel));
    if (takes_input) found.input = input;
    if (takes_recurrent) found.recurrent = input + kernel_input_rows<CellType>(p, kKernel) * found.stride;
  });
  return found;
}

// Brings the panels of [x, h] (or of the second stage's operand) and of the weights.
template <typename CellType, int kStageIndex, typename S, typename Tile>
struct ForwardFetch {
  using Shared = ForwardShared<CellType, kStageIndex, Tile>;
  using Staged = typename Panels<typename Shared::Left, typename Shared::Right>::Staged;
  const StepForward<S>& p;
  int64_t first_row, x_panels;
  WeightColumn<S> weights;

  __device__ ForwardFetch(const StepForward<S>& params, int64_t row, int64_t first_unit)
      : p(params),
        first_row(row),
        x_panels(params.zx == nullptr && !projects<CellType>(kStageIndex) ? divide_up(params.I, Tile::kDepth) : 0),
        weights(weight_column<CellType, kStageIndex>(params, Shared::Right::column(),
                                                     first_unit + Shared::Right::unit())) {}

  __device__ int64_t panels() const { return x_panels + divide_up(stage_depth(p, kStageIndex), Tile::kDepth); }

  __device__ __forceinline__ void operator()(int64_t panel, Staged& staged) const {
    const bool of_x = panel < x_panels;
    const int64_t first = (of_x ? panel : panel - x_panels) * Tile::kDepth;
    const int64_t depth = of_x ? p.I : stage_depth(p, kStageIndex), stride = of_x ? p.x_stride : depth;
    const void* left = of_x ? p.x : kStageIndex > 0 ? p.operand : p.h_prev.data;
    const bool rounded = of_x || (kStageIndex == 0 && p.h_prev.rounded);
    if (std::is_same_v<S, Compute<S>> || rounded) {
      Shared::Left::fetch(static_cast<const S*>(left), stride, first_row, p.rows.B, first, depth, staged.left);
    } else {
      Shared::Left::fetch(static_cast<const Compute<S>*>(left), stride, first_row, p.rows.B, first, depth, staged.left);
    }
    Shared::Right::fetch(of_x ? weights.input : weights.recurrent, weights.stride, first, depth, staged.right);
  }
};

// The preactivations without their products: zx takes the bias and the input product, zh the recurrent bias.
template <typename CellType, int kStageIndex, typename S>
__device__ __forceinline__ void begin_preactivations(const StepForward<S>& p, int64_t b, int64_t unit,
                                                     Forward<Compute<S>>& u) {
  constexpr int kBiases = CellType::kInfo.biases, kPeepholes = CellType::kPeepholes;
#pragma unroll
  for (int k = 0; k < kPeepholes; ++k) u.peephole[k] = to_compute(p.biases[kBiases - kPeepholes + k][unit]);
  const S* recurrent_bias = p.biases[kBiases - 1];
  for_each_index<CellType::kStage[kStageIndex].count>([&](auto index) {
    constexpr int kGate = CellType::kStage[kStageIndex].first + decltype(index)::value;
    constexpr int kGates = CellType::kInfo.gates;
    const S* bias = p.biases[kernel_of<CellType>(kGate)] + place_of<CellType>(kGate) * p.H;
    u.zx[kGate] = to_compute(bias[unit]);
    if (p.zx != nullptr) u.zx[kGate] += p.zx[(b * kGates + kGate) * p.H + unit];
    u.zh[kGate] = CellType::kRecurrentBias ? to_compute(recurrent_bias[kGate * p.H + unit]) : 0;
  });
}

// Reads what a unit needs beside the products of its stage.
template <typename CellType, int kStageIndex, typename S>
__device__ __forceinline__ void begin_unit(const StepForward<S>& p, int64_t b, int64_t unit, Forward<Compute<S>>& u) {
  constexpr bool kLast = kStageIndex + 1 == CellType::kStages, kHasC = CellType::kInfo.states > 1;
  // Where h is projected, the stage before that has no use for it.
  if constexpr (kLast || !CellType::kInfo.projected) u.h_prev = p.h_prev[b * p.P + unit];
  if constexpr (kHasC && kStageIndex == CellType::kStateStage) u.c_prev = p.c_prev[b * p.H + unit];
  if constexpr (kStageIndex > 0) {
#pragma unroll
    for (int i = 0; i < CellType::kCarry; ++i) u.carry[i] = p.carry[(b * CellType::kCarry + i) * p.H + unit];
  }
  if constexpr (!projects<CellType>(kStageIndex)) begin_preactivations<CellType, kStageIndex>(p, b, unit, u);
}
// sums [kColumns] are those of the unit's products, in d_z's order.
template <typename CellType, int kStageIndex, typename T>
__device__ __forceinline__ void add_products(const T* sums, Forward<T>& u) {
  for_each_index<CellType::kStage[kStageIndex].count>([&](auto index) {
    constexpr int kGate = CellType::kStage[kStageIndex].first + decltype(index)::value;
    constexpr int kFirst = CellType::kProducts[kStageIndex].first;
    constexpr int kIn = CellType::input_column(kGate) - kFirst, kRecurrent = CellType::recurrent_column(kGate) - kFirst;
    if (kIn != kRecurrent && !projects<CellType>(kStageIndex)) u.zx[kGate] += sums[kIn];
    u.zh[kGate] += sums[kRecurrent];
  });
}

// Stores what a stage has set of one unit: h and the output in the last; c and what the backward pass needs in the
// cell's state stage. Returns h as the next step takes it.
template <typename CellType, int kStageIndex, typename S>
__device__ __forceinline__ Compute<S> store_unit(const StepForward<S>& p, int64_t b, int64_t unit,
                                                 const Forward<Compute<S>>& u) {
  const bool live = p.rows.live(b, p.step);
  const int64_t t = live ? p.rows.time(b, p.step) : 0;
  Compute<S> h = u.h;
  if constexpr (kStageIndex + 1 == CellType::kStages) {
    const int64_t at = b * p.P + unit, of_y = t * p.y_strides.time + b * p.y_strides.batch + unit;
    if (live && p.state_mask != nullptr) h *= to_compute(p.state_mask[of_y]);
    if (p.h != nullptr) p.h[at] = h;
    if (p.final_state[0] != nullptr) p.final_state[0][at] = to_storage<S>(h);
    if (live) p.y[of_y] = to_storage<S>(u.h);
  }
  if constexpr (kStageIndex == CellType::kStateStage) {
    constexpr bool kHasC = CellType::kInfo.states > 1;
    const int64_t at = b * p.H + unit;
    if (kHasC && p.c != nullptr) p.c[at] = u.c;
    if (kHasC && p.final_state[1] != nullptr) p.final_state[1][at] = to_storage<S>(u.c);
    if (!live || p.saved == nullptr) return h;
    constexpr int kSaved = CellType::kInfo.saved;
    S* saved = p.saved + (t * p.rows.B + b) * kSaved * p.H + unit;
#pragma unroll
    for (int i = 0; i < kSaved; ++i) saved[i * p.H] = to_storage<S>(u.saved[i]);
  }
  return h;
}

// Ends what begin_unit began. Returns what the unit gives to the next product: h, or operand.
template <typename CellType, int kStageIndex, typename S>
__device__ __forceinline__ Compute<S> end_unit(const StepForward<S>& p, int64_t b, int64_t unit, const Compute<S>* sums,
                                               Forward<Compute<S>>& u) {
  constexpr bool kLast = kStageIndex + 1 == CellType::kStages;
  if (p.rows.live(b, p.step)) {
    u.options = p.options;
    add_products<CellType, kStageIndex>(sums, u);
    CellType::template forward<kStageIndex>(u);
  } else {
    u.h = u.h_prev;
    u.c = u.c_prev;
  }
  const Compute<S> h = store_unit<CellType, kStageIndex>(p, b, unit, u);
  if constexpr (kLast) return h;
  if (p.operand != nullptr) p.operand[b * p.H + unit] = u.operand;
#pragma unroll
  for (int i = 0; i < CellType::kCarry; ++i) p.carry[(b * CellType::kCarry + i) * p.H + unit] = u.carry[i];
  return u.operand;
}

template <typename CellType, int kStageIndex, typename S, typename Tile>
__global__ void __launch_bounds__(Tile::kThreads, 2) step_forward_kernel(const StepForward<S> p) {
  using Shared = ForwardShared<CellType, kStageIndex, Tile>;
  constexpr int kColumns = Shared::kColumns, kUnits = Shared::Right::kUnits,
                kPerThread = Shared::Right::kUnitsPerThread;
  Shared& shared = shared_memory<Shared>();
  const int64_t units = stage_units<CellType>(p, kStageIndex), unit_blocks = divide_up(units, kUnits);
  const int64_t first_row = blockIdx.x / unit_blocks * Tile::kRows, first_unit = blockIdx.x % unit_blocks * kUnits;

  const ForwardFetch<CellType, kStageIndex, S, Tile> fetch(p, first_row, first_unit);
  typename Tile::C sums[Tile::kRowsPerThread][4] = {};
  multiply_panels(shared.panels, fetch.panels(), fetch, sums);

#pragma unroll
  for (int r = 0; r < Tile::kRowsPerThread; ++r) {
    auto& partial = shared.partial[Tile::slice()][Tile::row_thread() + r * Tile::kRowThreads][Tile::col_thread()];
#pragma unroll
    for (int c = 0; c < 4; ++c) partial.v[c] = sums[r][c];
  }
  __syncthreads();
  for (int i = threadIdx.x; i < Tile::kRows * kUnits; i += Tile::kThreads) {
    const int row = i / kUnits, unit = i % kUnits;
    if (first_row + row >= p.rows.B || first_unit + unit >= units) continue;
    typename Tile::C total[kColumns] = {};
#pragma unroll 4
    for (int slice = 0; slice < Tile::kSlices; ++slice) {
      const auto& partial = shared.partial[slice][row][unit / kPerThread];
#pragma unroll
      for (int c = 0; c < kColumns; ++c) total[c] += partial.v[unit % kPerThread * kColumns + c];
    }
    Forward<typename Tile::C> u{};
    begin_unit<CellType, kStageIndex>(p, first_row + row, first_unit + unit, u);
    end_unit<CellType, kStageIndex>(p, first_row + row, first_unit + unit, total, u);
  }
}

}  // namespace fused_rnn::cuda
