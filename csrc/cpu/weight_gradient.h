// Weight gradients: left^T . d_z over the (step, row) pairs of one chunk after another. A panel of columns of d_z is
// packed into the first-level cache once and meets all rows of the left operands.
#pragma once

#include "csrc/cpu/pack.h"

namespace fused_rnn::FUSED_RNN_TARGET {

// M values of each pair of a chunk, packed: for each kDepth pairs [M / kTileRows, kDepth / kTerms, kTileRows, kTerms].
template <typename F>
struct GradientLeft {
  F* data;
  int64_t M;

  // From tile to tile; with one cache line more than needed, as the tiles of one pair would else compete for a few of
  // the first-level cache's sets.
  static constexpr int64_t kStride = kDepth * kTileRows + 64 / static_cast<int64_t>(sizeof(F));

  int64_t tiles() const { return divide_up(M, kTileRows); }
  int64_t size(int64_t pairs) const { return divide_up(pairs, kDepth) * tiles() * kStride; }
  F* tile(int64_t pair, int64_t tile) const {
    const int64_t first = pair / kTerms<F> * kTerms<F>;
    return data + (pair / kDepth * tiles() + tile) * kStride + first % kDepth * kTileRows + (pair - first);
  }

  // Packs the row of a pair, or those of kTerms neighbouring ones; returns how many. `next` is null or the row of the
  // pair after this one, which is then packed here or in the next call.
  template <typename S>
  int64_t pack(const S* row, const S* next, int64_t pair) const {
    if constexpr (kTerms<F> == 1) {
      pack_columns(row, M, tile(pair, 0), kStride);
      return 1;
    } else if (pair % kTerms<F> == 0 && next != nullptr) {
      pack_column_pairs(row, next, M, tile(pair, 0), kStride);
      return kTerms<F>;
    } else {  // the other term may be another thread's
      for (int64_t m = 0; m < M; ++m) tile(pair, m / kTileRows)[m % kTileRows * kTerms<F>] = row[m];
      return 1;
    }
  }

  // Sets what stands beside the last of `pairs` rows to zero, so that the sum may end with it.
  void end(int64_t pairs) const {
    for (; pairs % kTerms<F> != 0; ++pairs) {
      for (int64_t m = 0; m < M; ++m) tile(pairs, m / kTileRows)[m % kTileRows * kTerms<F>] = F{};
    }
  }
};

// The gradient of one kernel's rows of x and of h, or of some of both, for some gates side by side:
//   out[m, gate * N + n] = sum over pairs of left[pair][m] * d_z[pair, gate * N_ + n]  for n in [0, N),
// where the rows m of the first left operand come before those of the second. N_ is N in whole terms.
template <typename S>
struct WeightGradient {
  using T = Compute<S>;
  using F = Factor<S>;
  GradientLeft<F> left[2];
  const F* d_z;  // [pairs, d_z_stride], from the first gate's column on
  int64_t d_z_stride, N;
  int gates;
  T* sum;  // [panels, M, kPanel]: over the chunks so far; null where one chunk is all
  S* out;  // [M, out_stride]
  int64_t out_stride;

  int64_t M() const { return left[0].M + left[1].M; }
  int64_t tiles() const { return left[0].tiles() + left[1].tiles(); }
  int64_t N_() const { return whole_terms<F>(N); }
  int64_t panels() const { return divide_up(gates * N_(), kPanel<T>); }
  T* panel_sums(int64_t panel) const { return sum + panel * M() * kPanel<T>; }
  int64_t sum_size() const { return panels() * M() * kPanel<T>; }
};

// Which chunk is at work: the first clears the sums, and the last, if one is called that, stores them.
struct GradientChunk {
  int64_t pairs;
  bool first, last;
};

// Calls f(left, tile, m, rows) for each tile of kTileRows rows in [begin, end): of that left operand, the rows of the
// result from m on.
template <typename S, typename F>
void each_gradient_tile(const WeightGradient<S>& g, int64_t begin, int64_t end, F&& f) {
  for (int64_t i = begin; i < end; ++i) {
    const bool second = i >= g.left[0].tiles();
    const GradientLeft<Factor<S>>& left = g.left[second];
    const int64_t tile = i - (second ? g.left[0].tiles() : 0), m = tile * kTileRows;
    f(left, tile, (second ? g.left[0].M : 0) + m, smaller(kTileRows, left.M - m));
  }
}

// Stores rows [m, m + rows) of a panel, whose complete sums are [M, kPanel].
template <typename S>
void store_weight_gradient(const WeightGradient<S>& g, int64_t panel, int64_t m, int64_t rows, const Compute<S>* sum) {
  using T = Compute<S>;
  const int64_t begin = panel * kPanel<T>, end = smaller(begin + kPanel<T>, g.gates * g.N_());
  for (int64_t row = m; row < m + rows; ++row) {
    const T* from = sum + row * kPanel<T> - begin;
    S* to = g.out + row * g.out_stride;
    for (int64_t gate = begin / g.N_(); gate * g.N_() < end; ++gate) {
      const int64_t column = larger(begin, gate * g.N_());
      store_row(from + column, to + column - gate * (g.N_() - g.N), smaller(end, gate * g.N_() + g.N) - column,
                kPanel<T>);
    }
  }
}

// A panel of columns and the tiles [begin, end) of rows. scratch is [kDepth, kPanel], which pairs fill half of, and [M,
// kPanel] more where sum is null.
template <typename S>
void weight_gradient_panel(const WeightGradient<S>& g, const GradientChunk& chunk, int64_t panel, int64_t begin,
                           int64_t end, Compute<S>* scratch) {
  using T = Compute<S>;
  using F = Factor<S>;
  static constexpr T kZeros[kPanel<T>] = {};
  if (begin == end) return;
  const int64_t columns = smaller(kPanel<T>, g.gates * g.N_() - panel * kPanel<T>);
  const int64_t width = round_up(columns, kLanes<T>);
  T* sums = g.sum != nullptr ? g.panel_sums(panel) : scratch + kDepth * kPanel<T>;
  for (int64_t pair = 0; pair == 0 || pair < chunk.pairs; pair += kDepth) {
    const int64_t depth = smaller(kDepth, chunk.pairs - pair);
    const F* from = g.d_z + pair * g.d_z_stride + panel * kPanel<T>;
    Terms<F>* right = reinterpret_cast<Terms<F>*>(scratch);
    for (int64_t k = 0; k < depth; k += kTerms<F>) {
      const F* first = from + k * g.d_z_stride;
      load_terms<F>(first, k + 1 < depth ? first + g.d_z_stride : nullptr, right + k / kTerms<F> * width, columns,
                    columns == kPanel<T> ? kPanel<T> : width);
    }
    const bool clear = chunk.first && pair == 0;
    with_vectors<T>(columns, [&](auto vectors) {
      each_gradient_tile(g, begin, end, [&](const GradientLeft<F>& left, int64_t tile, int64_t m, int64_t rows) {
        T* sum = sums + m * kPanel<T>;
        prefetch_row(sum + kTileRows * kPanel<T>, kTileRows * kPanel<T>);
        const Left<Terms<F>> a{terms(left.tile(pair, tile)), 1, kTileRows};
        tile_rows<vectors>(static_cast<int>(rows), terms_of<F>(depth), a,
                           Packed<Terms<F>, vectors>{right, terms(left.tile(pair, tile + 1))}, clear ? kZeros : sum,
                           clear ? 0 : kPanel<T>, sum, kPanel<T>);
      });
    });
  }
  if (!chunk.last) return;
  each_gradient_tile(g, begin, end, [&](const GradientLeft<F>&, int64_t, int64_t m, int64_t rows) {
    store_weight_gradient(g, panel, m, rows, sums);
  });
}

}  // namespace fused_rnn::FUSED_RNN_TARGET
