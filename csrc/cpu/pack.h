// The caller's kernels, gate by gate, and their packed forms: panels as wide as a register tile, so that one tile ends
// with the complete preactivations of its units. And the left operands of gradients.
#pragma once

#include "csrc/cpu/storage.h"
#include "csrc/cpu/tile.h"
#include "csrc/sequence.h"

namespace fused_rnn::FUSED_RNN_TARGET {

// One gate's columns in the kernel that holds it: element (row, unit) stands at data[row * stride + unit].
template <typename S>
struct Gate {
  const S* data;
  int64_t stride;
};

// Where a gate stands: in which kernel, and as which of its gates.
struct GatePlace {
  int kernel, index;
};

template <typename C>
constexpr GatePlace gate_place(int gate) {
  int kernel = 0;
  while (gate >= C::kInfo.kernel_gates[kernel]) gate -= C::kInfo.kernel_gates[kernel++];
  return {kernel, gate};
}

// Gate `gate` from kernel row `row` on: row 0 begins the rows of x, row I those of h (row 0 of a projection operand's).
template <typename C, typename S>
Gate<S> gate_columns(const SequenceParams& params, int gate, int64_t row) {
  const GatePlace place = gate_place<C>(gate);
  const int64_t stride = kernel_width<C>(params, place.kernel);
  return {static_cast<const S*>(params.kernels[place.kernel]) + row * stride + place.index * params.H, stride};
}

// How the gates of one stage fill a register tile: V vectors, those of the first gate's units first.
template <typename C, int kStage>
struct StageTile {
  static constexpr int kFirst = C::kStage[kStage].first;
  static constexpr int kGates = C::kStage[kStage].count;
  static constexpr int kUnitVectors = kTileVectors / kGates;  // of each gate
  static constexpr int V = kGates * kUnitVectors;
  template <typename T>
  static constexpr int kUnits = kUnitVectors * kLanes<T>;  // of a panel
  template <typename T>
  static constexpr int kColumns = V * kLanes<T>;  // of a panel
};

// packed [rows, gates * units] = kernel rows [row, row + rows) of units [unit, unit + units) of the stage's gates;
// zeros past the last unit.
template <typename C, int kStage, typename S>
void pack_panel(const SequenceParams& params, int64_t row, int64_t rows, int64_t unit, Compute<S>* packed) {
  using Tile = StageTile<C, kStage>;
  constexpr int kUnits = Tile::template kUnits<Compute<S>>;
  const int64_t count = smaller(kUnits, stage_units<C>(params, kStage) - unit);
  for (int gate = 0; gate < Tile::kGates; ++gate) {
    const Gate<S> from = gate_columns<C, S>(params, Tile::kFirst + gate, row);
    for (int64_t k = 0; k < rows; ++k) {
      load_row(from.data + k * from.stride + unit, packed + (k * Tile::kGates + gate) * kUnits, count, kUnits);
    }
  }
}

// packed [units, width], both whole vectors, = the transpose of kernel rows [row, row + columns) of one gate: for
// products with d_z. width is that of a panel, or as many whole vectors as hold the columns. Zeros past the gate's last
// unit and past the columns.
template <typename C, typename S>
void pack_transposed(const SequenceParams& params, int gate, int64_t row, int64_t columns, int64_t units,
                     Compute<S>* packed) {
  using T = Compute<S>;
  constexpr int64_t kBlock = kLanes<T>;
  const int64_t packed_width = round_up(smaller(kPanel<T>, columns), kBlock);
  const Gate<S> from = gate_columns<C, S>(params, gate, row);
  const int64_t width = gate < C::kInfo.gates ? params.H : params.P;
  for (int64_t n = 0; n < packed_width; n += kBlock) {
    for (int64_t unit = 0; unit < units; unit += kBlock) {
      Vector<T> block[kBlock];
      for (int64_t i = 0; i < kBlock; ++i) {
        alignas(64) T row_part[kBlock];
        const int64_t count = n + i < columns ? larger(0, smaller(kBlock, width - unit)) : 0;
        load_row(count > 0 ? from.data + (n + i) * from.stride + unit : from.data, row_part, count, kBlock);
        block[i] = load(row_part);
      }
      transpose<1, T>(block);
      for (int64_t j = 0; j < kBlock; ++j) store(packed + (unit + j) * packed_width + n, block[j]);
    }
  }
}

// A row of the left operand of a gradient, kTileRows values to each tile, `stride` apart; zeros past M.
template <typename S>
void pack_columns(const S* row, int64_t M, Compute<S>* to, int64_t stride) {
  int64_t m = 0;
  for (; m + kTileRows <= M; m += kTileRows, to += stride) {
    if constexpr (std::is_same_v<S, Compute<S>>) {
      memcpy(to, row + m, kTileRows * sizeof(S));  // two moves, where compilers make a loop over tiles worse
    } else {
      load_row(row + m, to, kTileRows, kTileRows);
    }
  }
  if (m < M) load_row(row + m, to, M - m, kTileRows);
}

// The same for a row that takes no part.
template <typename T>
void clear_columns(int64_t M, T* to, int64_t stride) {
  for (int64_t m = 0; m < M; m += kTileRows, to += stride) memset(to, 0, kTileRows * sizeof(T));
}

// to [kPeepholes, stride] = the peepholes of the cell, and zeros past H.
template <typename C, typename S>
void load_peepholes(const SequenceParams& params, Compute<S>* to, int64_t stride) {
  for (int k = 0; k < C::kPeepholes; ++k) {
    const void* from = params.biases[C::kInfo.biases - C::kPeepholes + k];
    load_row(static_cast<const S*>(from), to + k * stride, params.H, stride);
  }
}

// sum [columns] (+)= the sum of `rows` rows of d_z. Blocks of rows are summed first, in part [columns]: one long sum
// would lose digits.
template <typename T>
void sum_rows(const T* d_z, int64_t stride, int64_t rows, int64_t columns, bool add, T* __restrict part,
              T* __restrict sum) {
  for (int64_t begin = 0; begin == 0 || begin < rows; begin += kDepth) {
    for (int64_t n = 0; n < columns; ++n) part[n] = 0;
    for (int64_t row = begin; row < smaller(begin + kDepth, rows); ++row) {
      const T* __restrict from = d_z + row * stride;
      for (int64_t n = 0; n < columns; ++n) part[n] += from[n];
    }
    for (int64_t n = 0; n < columns; ++n) sum[n] = add || begin > 0 ? sum[n] + part[n] : part[n];
  }
}

// Stores the sum of one column of d_z, for a panel of units from `unit` on, into the biases that it is the gradient of.
template <typename C, typename S>
void store_bias_gradient(const SequenceBackwardParams& params, int column, int64_t unit, const Compute<S>* sum) {
  const int64_t count = smaller(kPanel<Compute<S>>, params.H - unit);
  for (int gate = 0; gate < C::kInfo.gates; ++gate) {
    const GatePlace place = gate_place<C>(gate);
    if (C::input_column(gate) == column) {
      store_row(sum, static_cast<S*>(params.d_biases[place.kernel]) + place.index * params.H + unit, count);
    }
    if (C::kRecurrentBias && C::recurrent_column(gate) == column) {
      store_row(sum, static_cast<S*>(params.d_biases[C::kInfo.biases - 1]) + gate * params.H + unit, count);
    }
  }
  if constexpr (C::kPeepholes > 0) {
    for (int k = 0; k < C::kPeepholes; ++k) {
      if (C::peephole_column(k) != column) continue;
      store_row(sum, static_cast<S*>(params.d_biases[C::kInfo.biases - C::kPeepholes + k]) + unit, count);
    }
  }
}

}  // namespace fused_rnn::FUSED_RNN_TARGET
