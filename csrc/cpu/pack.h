// The caller's kernels, gate by gate, and their packed forms: panels as wide as a register tile, so that one tile ends
// with the complete preactivations of its units. And the left operands of gradients.
#pragma once

#include "csrc/cpu/step_product.h"
#include "csrc/cpu/storage.h"
#include "csrc/cpu/tile.h"
#include "csrc/sequence.h"

namespace fused_rnn::FUSED_RNN_TARGET {

// Whether a sequence is too short to gain from packing its kernels: that takes a read and a write of them, the dearer
// the farther away they are, and makes steps faster, above all those of two stages, which in place meet more often. A
// step of few rows takes little longer for each of them, so that steps count there, and (step, row) pairs elsewhere.
inline bool gains_nothing_by_packing(int64_t steps, int64_t rows, int64_t recurrent_bytes, int stages) {
  int64_t pairs = 32;
  if (recurrent_bytes > 2 << 20) pairs = rows <= kFewRows ? larger(48, 25 * rows) : 48;
  if (recurrent_bytes > 6 << 20) pairs = 128;
  return steps * rows <= (stages > 1 ? pairs * 3 / 4 : pairs);
}

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

  // The units of a panel: kUnits, or in the last one what is left of `units`.
  template <typename T>
  static int64_t units_of(int64_t panel, int64_t units) {
    return smaller(kUnits<T>, units - panel * kUnits<T>);
  }
  // The columns of a panel of so many units, in whole vectors: its gates stand side by side.
  template <typename T>
  static int64_t width(int64_t units) {
    return round_up(kGates * units, kLanes<T>);
  }
};

// Panels [begin, end) of packed [panels, rows / kTerms, kColumns] = kernel rows [row, row + rows) of the stage's gates,
// as many units to a panel; zeros past the last gate and the last row. Where units are left over, the rows of the last
// panel are only as wide as it needs. Some panels are packed together: each meets a line or two of a kernel row, and
// rows may be pages apart.
template <typename C, int kStage, typename S>
void pack_panels(const SequenceParams& params, int64_t row, int64_t rows, int64_t begin, int64_t end,
                 Terms<Factor<S>>* packed) {
  using T = Compute<S>;
  using F = Factor<S>;
  using Tile = StageTile<C, kStage>;
  constexpr int64_t kTogether = 8, kAtOnce = kTerms<F>, kUnits = Tile::template kUnits<T>;
  const int64_t units = stage_units<C>(params, kStage), whole = units / kUnits;
  const int64_t size = terms_of<F>(rows) * Tile::template kColumns<T>;
  for (int64_t first = begin; first < end; first += kTogether) {
    const int64_t last = smaller(first + kTogether, end);
    for (int64_t k = 0; k < rows; k += kAtOnce) {
      for (int gate = 0; gate < Tile::kGates; ++gate) {
        const Gate<S> from = gate_columns<C, S>(params, Tile::kFirst + gate, row + k);
        const auto pack = [&](int64_t panel, int64_t count, int64_t width, Terms<F>* to) {
          const S* at = from.data + panel * kUnits;
          for (int64_t ahead = kAhead; ahead < kAhead + kAtOnce && k + ahead < rows; ++ahead) {
            prefetch_row(at + ahead * from.stride, kUnits);
          }
          load_terms<F>(at, k + 1 < rows ? at + from.stride : nullptr, to, count, width);
        };
        Terms<F>* to = packed + first * size + (k / kAtOnce * Tile::kGates + gate) * kUnits;
        for (int64_t panel = first; panel < smaller(last, whole); ++panel, to += size) pack(panel, kUnits, kUnits, to);
        if (last > whole) {
          const int64_t count = Tile::template units_of<T>(whole, units), width = Tile::template width<T>(count);
          pack(whole, count, gate + 1 < Tile::kGates ? count : width - gate * count,
               packed + whole * size + k / kAtOnce * width + gate * count);
        }
      }
    }
  }
}

// out = init, one row for all, + left . a packed panel of so many units of a stage. Rows of out are kColumns apart.
template <typename C, int kStage, typename E, typename T>
FUSED_RNN_FN void panel_product(int64_t units, int64_t rows, int64_t K, Left<E> left, const E* right, const E* after,
                                const T* init, T* out) {
  using Tile = StageTile<C, kStage>;
  constexpr int kColumns = Tile::template kColumns<T>;
  const int64_t width = Tile::template width<T>(units);
  if (width == kColumns) return tile_block<Tile::V, kColumns>(rows, K, left, right, after, init, out);
  with_vectors<T>(width, [&](auto vectors) {
    tile_block<smaller(vectors, Tile::V), kColumns>(rows, K, left, right, after, init, out);
  });
}

// packed [units / kTerms, width] = the transpose of kernel rows [row, row + columns) of one gate: for products with
// d_z. width is that of a panel, or as many whole vectors as hold the columns. Zeros past the gate's last unit and past
// the columns.
template <typename C, typename S>
void pack_transposed(const SequenceParams& params, int gate, int64_t row, int64_t columns, Terms<Factor<S>>* packed) {
  using F = Factor<S>;
  constexpr int64_t kBlock = kLanes<Terms<F>>, kWidth = kBlock * kTerms<F>;
  const int64_t packed_width = round_up(smaller(kPanel<Compute<S>>, columns), kBlock);
  const Gate<S> from = gate_columns<C, S>(params, gate, row);
  const int64_t units = gate < C::kInfo.gates ? params.H : params.P;
  for (int64_t n = 0; n < packed_width; n += kBlock) {
    for (int64_t unit = 0; unit < units; unit += kWidth) {
      Vector<Terms<F>> block[kBlock];
      for (int64_t i = 0; i < kBlock; ++i) {
        alignas(64) F row_part[kWidth];
        const int64_t count = n + i < columns ? smaller(kWidth, units - unit) : 0;
        if (count > 0) __builtin_prefetch(from.data + (n + i) * from.stride + unit + kAhead * kWidth);
        load_row(count > 0 ? from.data + (n + i) * from.stride + unit : from.data, row_part, count, kWidth);
        block[i] = load(terms(row_part));
      }
      transpose<1, Terms<F>>(block);
      Terms<F>* to = packed + unit / kTerms<F> * packed_width + n;
      for (int64_t j = 0; j < smaller(kBlock, terms_of<F>(units - unit)); ++j) store(to + j * packed_width, block[j]);
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

// Two rows of the left operand of a gradient in bfloat16, each value of the first next to that of the second.
inline void pack_column_pairs(const BFloat16* first, const BFloat16* second, int64_t M, BFloat16* to, int64_t stride) {
  constexpr int64_t kWidth = 8 * kTileRows;
  for (int64_t begin = 0; begin < M; begin += kWidth) {
    BFloat16Pair part[kWidth];
    load_terms<BFloat16>(first + begin, second + begin, part, smaller(kWidth, M - begin), kWidth);
    for (int64_t m = 0; m < smaller(kWidth, M - begin); m += kTileRows, to += stride) {
      memcpy(to, part + m, kTileRows * sizeof(BFloat16Pair));
    }
  }
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
template <typename F, typename T>
void sum_rows(const F* d_z, int64_t stride, int64_t rows, int64_t columns, bool add, T* __restrict part,
              T* __restrict sum) {
  for (int64_t begin = 0; begin == 0 || begin < rows; begin += kDepth) {
    for (int64_t n = 0; n < columns; ++n) part[n] = 0;
    for (int64_t row = begin; row < smaller(begin + kDepth, rows); ++row) {
      const F* __restrict from = d_z + row * stride;
      for (int64_t n = 0; n < columns; ++n) part[n] += widen(from[n]);
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
