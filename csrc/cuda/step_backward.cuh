// One stage of one loop step, backward: the product that brings the gradient of h (or of the second stage's operand)
// back through the recurrent weights, and the cell, in one kernel. Stages run from the last to the first.
#pragma once

#include "csrc/cuda/gates.cuh"
#include "csrc/cuda/tile.cuh"

namespace fused_rnn::cuda {

template <typename S>
struct StepBackward {
  using C = Compute<S>;

  Rows rows;
  int64_t I, H, P, step;
  CellOptions<C> options;
  const S* kernels[kMaxKernels];  // [I + P, kernel_gates[k] * H]; a projection [H, P]
  const S* biases[kMaxBiases];    // the peepholes are among them
  const S* initial_h;             // [B, P]
  const S *y, *d_y;               // [T, B, P] through y_strides; d_y may be null
  Strides y_strides;
  const S* state_mask;      // [T, B, P] through y_strides, or null
  const S* saved;           // [T, B, saved, H]
  const C* d_z_next;        // [B, d_z_width] of the loop step after this one; null where there is none
  C* d_z;                   // = [B, d_z_width] of this one, 0 for rows that are over; may be null
  S* d_z_rounded;           // = [B, d_z_width], the same for the products after the loop
  S* operand;               // = [B, H]: left side of the second stage's product, 0 for rows that are over
  State<S> d_h_in, d_c_in;  // [B, P], [B, H]: what came from the step after this one other than through the product
  C *d_h, *d_c;             // = [B, P], [B, H]: the same for the step before this one; between two stages all of d_h
};

template <typename CellType, int kStageIndex>
struct BackwardStage {
  static constexpr bool kLast = kStageIndex + 1 == CellType::kStages;
  // In a projected cell one stage has to do with the gates and the other with h.
  static constexpr bool kGates = !projects<CellType>(kStageIndex);
  static constexpr bool kOutput = !CellType::kInfo.projected || projects<CellType>(kStageIndex);
  // The gates whose products with the recurrent weights this stage adds up: those of the next step's first stage or of
  // this step's second.
  static constexpr int kProductStage = kLast ? 0 : kStageIndex + 1;
  static constexpr Range kProduct = CellType::kStage[kProductStage];
};

template <typename Tile, int kUnitsPerThread>
struct BackwardShared {
  using Left = RowPanel<Tile, Tile::kRows>;
  using Right = RowPanel<Tile, kUnitsPerThread * Tile::kColThreads>;
  union {
    Panels<Left, Right> panels[2];
    typename Tile::C partial[Tile::kSlices][Tile::kRows][kUnitsPerThread * Tile::kColThreads];
  };
};

// Brings the panels of d_z and of the recurrent weights, gate after gate.
template <typename CellType, int kStageIndex, typename S, typename Tile, int kUnitsPerThread>
struct BackwardFetch {
  using Shared = BackwardShared<Tile, kUnitsPerThread>;
  using Stage = BackwardStage<CellType, kStageIndex>;
  const StepBackward<S>& p;
  const Compute<S>* d_z;
  int64_t first_row, first_unit, depth, gate_panels;

  __device__ BackwardFetch(const StepBackward<S>& params, int64_t row, int64_t unit)
      : p(params),
        d_z(Stage::kLast ? params.d_z_next : params.d_z),
        first_row(row),
        first_unit(unit),
        depth(stage_units<CellType>(params, Stage::kProductStage)),
        gate_panels(divide_up(depth, Tile::kDepth)) {}

  __device__ int64_t panels() const { return d_z == nullptr ? 0 : gate_panels * Stage::kProduct.count; }

  __device__ __forceinline__ void operator()(
      int64_t panel, typename Panels<typename Shared::Left, typename Shared::Right>::Staged& staged) const {
    const int64_t gate = panel / gate_panels, first = panel % gate_panels * Tile::kDepth;
    const Compute<S>* left = nullptr;
    const S* right = nullptr;
    int64_t stride = 0;
    for_each_index<Stage::kProduct.count>([&](auto index) {
      constexpr int kGate = Stage::kProduct.first + decltype(index)::value;
      constexpr int kKernel = kernel_of<CellType>(kGate);
      if (gate == decltype(index)::value) {
        stride = kernel_width<CellType>(p, kKernel);
        left = d_z + CellType::recurrent_column(kGate) * p.H;
        right = p.kernels[kKernel] + kernel_input_rows<CellType>(p, kKernel) * stride + place_of<CellType>(kGate) * p.H;
      }
    });
    const int64_t units = stage_units<CellType>(p, kStageIndex);
    Shared::Left::fetch(left, d_z_width<CellType>(p), first_row, p.rows.B, first, depth, staged.left);
    Shared::Right::fetch(right, stride, first_unit, units, first, depth, staged.right);
  }
};

// What the backward function of a live row's unit reads of the forward pass.
template <typename CellType, int kStageIndex, typename S>
__device__ __forceinline__ void load_unit(const StepBackward<S>& p, int64_t b, int64_t unit, Backward<Compute<S>>& u) {
  const int64_t t = p.rows.time(b, p.step), from = b * p.y_strides.batch + unit;
  u.options = p.options;
  if constexpr (!projects<CellType>(kStageIndex)) {
    constexpr int kSaved = CellType::kInfo.saved, kPeepholes = CellType::kPeepholes;
    const S* saved = p.saved + (t * p.rows.B + b) * kSaved * p.H + unit;
#pragma unroll
    for (int i = 0; i < kSaved; ++i) u.saved[i] = to_compute(saved[i * p.H]);
    const S* const* peepholes = p.biases + CellType::kInfo.biases - kPeepholes;
#pragma unroll
    for (int k = 0; k < kPeepholes; ++k) u.peephole[k] = to_compute(peepholes[k][unit]);
  }
  if constexpr (BackwardStage<CellType, kStageIndex>::kOutput) u.h = to_compute(p.y[t * p.y_strides.time + from]);
  if constexpr (!CellType::kInfo.projected) {
    if (p.step == 0) {
      u.h_prev = to_compute(p.initial_h[b * p.H + unit]);
    } else {
      const int64_t before = p.rows.time(b, p.step - 1) * p.y_strides.time + from;
      u.h_prev = to_compute(p.y[before]);
      if (p.state_mask != nullptr) u.h_prev *= to_compute(p.state_mask[before]);
    }
  }
}

// A unit, and what the gradient of h takes beside it: the mask and the gradient of this step's output.
template <typename T>
struct UnitBackward : Backward<T> {
  T mask, d_y;
};

// Reads what a unit needs beside the product of its stage. Where its row is over, that is what came from later steps.
template <typename CellType, int kStageIndex, typename S>
__device__ __forceinline__ void begin_unit(const StepBackward<S>& p, int64_t b, int64_t unit,
                                           UnitBackward<Compute<S>>& u) {
  using Stage = BackwardStage<CellType, kStageIndex>;
  constexpr bool kHasC = CellType::kInfo.states > 1;
  if constexpr (Stage::kOutput) u.d_h = p.d_h_in[b * p.P + unit];
  if constexpr (kHasC && Stage::kGates) u.d_c = p.d_c_in[b * p.H + unit];
  if (!p.rows.live(b, p.step)) return;
  load_unit<CellType, kStageIndex>(p, b, unit, u);
  const int64_t of_y = p.rows.time(b, p.step) * p.y_strides.time + b * p.y_strides.batch + unit;
  if (Stage::kLast) u.mask = p.state_mask == nullptr ? 1 : to_compute(p.state_mask[of_y]);
  if (Stage::kLast && p.d_y != nullptr) u.d_y = to_compute(p.d_y[of_y]);
}

// Ends what begin_unit began, and stores it. sum is the unit's product of kProduct, 0 where the row has no step after
// this one.
template <typename CellType, int kStageIndex, typename S>
__device__ __forceinline__ void end_unit(const StepBackward<S>& p, int64_t b, int64_t unit, Compute<S> sum,
                                         UnitBackward<Compute<S>>& u) {
  using Stage = BackwardStage<CellType, kStageIndex>;
  constexpr bool kFirst = kStageIndex == 0, kHasC = CellType::kInfo.states > 1;
  if (p.rows.live(b, p.step)) {
    if constexpr (Stage::kLast) {
      u.d_h = (u.d_h + sum) * u.mask + u.d_y;
    } else {
      u.d_operand = sum;
    }
    CellType::template backward<kStageIndex>(u);
  } else {
    u.d_h_prev = u.d_h;
    u.d_c_prev = u.d_c;
  }
  if constexpr (Stage::kOutput) p.d_h[b * p.P + unit] = kFirst || CellType::kInfo.projected ? u.d_h_prev : u.d_h;
  if constexpr (kFirst && kHasC) p.d_c[b * p.H + unit] = u.d_c_prev;
  if constexpr (kFirst && CellType::kStages > 1) p.operand[b * p.H + unit] = to_storage<S>(u.operand);
  constexpr Range kWritten = CellType::kWritten[kStageIndex];
#pragma unroll
  for (int i = 0; i < kWritten.count; ++i) {
    constexpr int kFirstColumn = kWritten.first;
    const int64_t place = b * d_z_width<CellType>(p) + (kFirstColumn + i) * p.H + unit;
    if (p.d_z != nullptr) p.d_z[place] = u.d_z[kFirstColumn + i];
    p.d_z_rounded[place] = to_storage<S>(u.d_z[kFirstColumn + i]);
  }
}

template <typename CellType, int kStageIndex, typename S, typename Tile, int kUnitsPerThread>
__global__ void __launch_bounds__(Tile::kThreads, 2) step_backward_kernel(const StepBackward<S> p) {
  using Shared = BackwardShared<Tile, kUnitsPerThread>;
  constexpr int kUnits = kUnitsPerThread * Tile::kColThreads;
  Shared& shared = shared_memory<Shared>();
  const int64_t units = stage_units<CellType>(p, kStageIndex), unit_blocks = divide_up(units, kUnits);
  const int64_t first_row = blockIdx.x / unit_blocks * Tile::kRows, first_unit = blockIdx.x % unit_blocks * kUnits;

  const BackwardFetch<CellType, kStageIndex, S, Tile, kUnitsPerThread> fetch(p, first_row, first_unit);
  typename Tile::C sums[Tile::kRowsPerThread][kUnitsPerThread] = {};
  multiply_panels(shared.panels, fetch.panels(), fetch, sums);

#pragma unroll
  for (int r = 0; r < Tile::kRowsPerThread; ++r) {
#pragma unroll
    for (int u = 0; u < kUnitsPerThread; ++u) {
      const int row = Tile::row_thread() + r * Tile::kRowThreads, unit = Tile::col_thread() + u * Tile::kColThreads;
      shared.partial[Tile::slice()][row][unit] = sums[r][u];
    }
  }
  __syncthreads();
  for (int i = threadIdx.x; i < Tile::kRows * kUnits; i += Tile::kThreads) {
    const int row = i / kUnits, unit = i % kUnits;
    if (first_row + row >= p.rows.B || first_unit + unit >= units) continue;
    typename Tile::C total = 0;
#pragma unroll 4
    for (int slice = 0; slice < Tile::kSlices; ++slice) total += shared.partial[slice][row][unit];
    UnitBackward<typename Tile::C> unit_values{};
    begin_unit<CellType, kStageIndex>(p, first_row + row, first_unit + unit, unit_values);
    end_unit<CellType, kStageIndex>(p, first_row + row, first_unit + unit, total, unit_values);
  }
}

}  // namespace fused_rnn::cuda
