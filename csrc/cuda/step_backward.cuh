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
  int64_t I, H, step;
  const S* kernels[kMaxKernels];  // [I + H, kernel_gates[k] * H]
  const S* initial_h;             // [B, H]
  const S *y, *d_y;               // [T, B, H] through y_strides; d_y may be null
  Strides y_strides;
  const S* saved;           // [T, B, saved, H]
  const C* d_z_next;        // [B, kColumns, H] of the loop step after this one; null where there is none
  C* d_z;                   // = [B, kColumns, H] of this one, 0 for rows that are over
  S* d_z_rounded;           // = [B, kColumns, H], the same for the products after the loop
  S* operand;               // = [B, H]: left side of the second stage's product, 0 for rows that are over
  State<S> d_h_in, d_c_in;  // [B, H]: what came from the step after this one other than through the product
  C *d_h, *d_c;             // = [B, H]: the same for the step before this one; between two stages all of d_h
};

template <typename CellType, int kStageIndex>
struct BackwardStage {
  static constexpr bool kLast = kStageIndex + 1 == CellType::kStages;
  // The gates whose products with the recurrent weights this stage adds up: those of the next step's first stage or of
  // this step's second.
  static constexpr Range kProduct = CellType::kStage[kLast ? 0 : kStageIndex + 1];
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
  int64_t first_row, first_unit, gate_panels;

  __device__ BackwardFetch(const StepBackward<S>& params, int64_t row, int64_t unit)
      : p(params),
        d_z(Stage::kLast ? params.d_z_next : params.d_z),
        first_row(row),
        first_unit(unit),
        gate_panels(divide_up(params.H, Tile::kDepth)) {}

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
      constexpr int kGates = CellType::kInfo.kernel_gates[kKernel];
      if (gate == decltype(index)::value) {
        stride = kGates * p.H;
        left = d_z + CellType::recurrent_column(kGate) * p.H;
        right = p.kernels[kKernel] + p.I * stride + place_of<CellType>(kGate) * p.H;
      }
    });
    Shared::Left::fetch(left, CellType::kColumns * p.H, first_row, p.rows.B, first, p.H, staged.left);
    Shared::Right::fetch(right, stride, first_unit, p.H, first, p.H, staged.right);
  }
};

// What the backward function of a live row's unit reads of the forward pass.
template <typename CellType, typename S>
__device__ __forceinline__ void load_unit(const StepBackward<S>& p, int64_t b, int64_t unit, Backward<Compute<S>>& u) {
  const int64_t t = p.rows.time(b, p.step), from = b * p.y_strides.batch + unit;
  constexpr int kSaved = CellType::kInfo.saved;
  const S* saved = p.saved + (t * p.rows.B + b) * kSaved * p.H + unit;
#pragma unroll
  for (int i = 0; i < kSaved; ++i) u.saved[i] = to_compute(saved[i * p.H]);
  u.h = to_compute(p.y[t * p.y_strides.time + from]);
  u.h_prev =
      to_compute(p.step == 0 ? p.initial_h[b * p.H + unit] : p.y[p.rows.time(b, p.step - 1) * p.y_strides.time + from]);
}

// sum is the unit's product of kProduct, 0 where the row has no step after this one.
template <typename CellType, int kStageIndex, typename S>
__device__ __forceinline__ void backward_unit(const StepBackward<S>& p, int64_t b, int64_t unit, Compute<S> sum) {
  using Stage = BackwardStage<CellType, kStageIndex>;
  constexpr bool kFirst = kStageIndex == 0, kHasC = CellType::kInfo.states > 1;
  const int64_t at = b * p.H + unit;
  Backward<Compute<S>> u{};
  u.d_h = p.d_h_in[at];
  if constexpr (kHasC) u.d_c = p.d_c_in[at];
  if (p.rows.live(b, p.step)) {
    load_unit<CellType>(p, b, unit, u);
    if constexpr (Stage::kLast) {
      const int64_t t = p.rows.time(b, p.step);
      u.d_h += sum;
      if (p.d_y != nullptr) u.d_h += to_compute(p.d_y[t * p.y_strides.time + b * p.y_strides.batch + unit]);
    } else {
      u.d_operand = sum;
    }
    CellType::template backward<kStageIndex>(u);
  } else {
    u.d_h_prev = u.d_h;
    u.d_c_prev = u.d_c;
  }
  p.d_h[at] = kFirst ? u.d_h_prev : u.d_h;
  if constexpr (kFirst && kHasC) p.d_c[at] = u.d_c_prev;
  if constexpr (kFirst && CellType::kStages > 1) p.operand[at] = to_storage<S>(u.operand);
#pragma unroll
  for (int i = 0; i < CellType::kWritten[kStageIndex].count; ++i) {
    constexpr int kFirstColumn = CellType::kWritten[kStageIndex].first;
    const int64_t place = (b * CellType::kColumns + kFirstColumn + i) * p.H + unit;
    p.d_z[place] = u.d_z[kFirstColumn + i];
    p.d_z_rounded[place] = to_storage<S>(u.d_z[kFirstColumn + i]);
  }
}

template <typename CellType, int kStageIndex, typename S, typename Tile, int kUnitsPerThread>
__global__ void __launch_bounds__(Tile::kThreads, 2) step_backward_kernel(const StepBackward<S> p) {
  using Shared = BackwardShared<Tile, kUnitsPerThread>;
  constexpr int kUnits = kUnitsPerThread * Tile::kColThreads;
  Shared& shared = shared_memory<Shared>();
  const int64_t unit_blocks = divide_up(p.H, kUnits);
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
    if (first_row + row >= p.rows.B || first_unit + unit >= p.H) continue;
    typename Tile::C total = 0;
#pragma unroll 4
    for (int slice = 0; slice < Tile::kSlices; ++slice) total += shared.partial[slice][row][unit];
    backward_unit<CellType, kStageIndex>(p, first_row + row, first_unit + unit, total);
  }
}

}  // namespace fused_rnn::cuda
