// The forward pass on the CPU: one class for every cell and storage type.
//
// For a chunk of steps the input product x . W + bias goes into zx; then, step by step and stage by stage, a tile of
// h . R ends with the complete preactivations of its units, and the cell is applied to them at once. A call that meets
// its kernels with few rows reads them where they are (step_product.h); others pack them first.
#pragma once

#include "csrc/cpu/pack.h"
#include "csrc/cpu/pointwise.h"
#include "csrc/cpu/rows.h"
#include "csrc/cpu/share.h"
#include "csrc/cpu/step_product.h"

namespace fused_rnn::FUSED_RNN_TARGET {

template <typename C, typename S>
class ForwardDriver {
 public:
  using T = Compute<S>;
  using F = Factor<S>;

  ForwardDriver(const SequenceForwardParams& params, Workspace& workspace)
      : p_(params),
        H_(round_up(params.H, kPanel<T>)),
        P_(round_up(params.P, kPanel<T>)),
        I_(whole_terms<F>(params.I)),
        plan_(plan_sharing(params, recurrent_bytes())),
        options_(cell_options<T>(params)) {
    each_stage([&](auto stage) {
      constexpr int s = stage;
      panels_[s] = divide_up(stage_units<C>(p_, s), StageTile<C, s>::template kUnits<T>);
      zx_begin_[s] = zx_width_;
      if (!projects<C>(s)) zx_width_ += panels_[s] * StageTile<C, s>::template kColumns<T>;
    });
    z_width_ = round_up(C::kInfo.gates * p_.H + (C::kInfo.projected ? p_.P : 0), kPanel<T>) + kPanel<T>;
    if (in_place_) zx_width_ = z_width_;
    each_stage([&](auto stage) {
      constexpr int s = stage;
      const int64_t width = panels_[s] * StageTile<C, s>::template kColumns<T>;
      packed_w_[s] = workspace.take<Terms<F>>(in_place_ || projects<C>(s) ? 0 : terms_of<F>(p_.I) * width);
      packed_r_[s] = workspace.take<Terms<F>>(in_place_ ? 0 : terms_of<F>(stage_depth(p_, s)) * width);
    });
    bias_ = workspace.take<T>(zx_width_);
    recurrent_bias_ = workspace.take<T>(C::kRecurrentBias || in_place_ ? zx_width_ : 0);
    peepholes_ = workspace.take<T>(C::kPeepholes * H_);
    scratch_ = workspace.take<int64_t>(p_.T + 2);
    chunk_rows_ =  // all of a call in place
        larger(in_place_ ? p_.T * p_.B : 4 * kTileRows, kChunkBytes / (zx_width_ * static_cast<int64_t>(sizeof(T))));
    for (int64_t i = 0; i < plan_.blocks; ++i) take_block(workspace, blocks_[i]);
  }

  void run() {
    for (int64_t i = 0; i < plan_.blocks; ++i) fill_rows(p_, i, plan_.blocks, scratch_, blocks_[i].rows);
    with_team(plan_, p_.threads, [&](Team& team) {
      prepare(team);
      run_blocks(plan_, team, [&](int64_t i, Team& at_work) { run_block(blocks_[i], at_work); });
    });
  }

 private:
  static constexpr int64_t kChunkBytes = 512 * 1024;  // of zx: with the rest of a step it stays in a second-level cache
  static constexpr bool kMayStayInPlace = std::is_same_v<S, T>;  // other types are converted meanwhile
  static constexpr bool kHasC = C::kInfo.states > 1;
  static constexpr int kSaved = C::kInfo.saved;

  // Where the gates of some rows stand: panel by panel as tiles leave them, or in the kernels' order.
  struct Gates {
    const T *zx, *zh;   // of the first row and the stage's first gate
    int64_t row, gate;  // from one row, and one gate, to the next
  };

  // Rows that run through time together. All arrays are indexed by the row's place in `rows`.
  struct Block {
    Rows rows;
    T* h[2];       // [rows, P_] each: the state before even and odd steps
    F* left_h[2];  // the same as the left side of a product
    T* c;          // [rows, H_]
    F* operand;    // [rows, H_]: left side of the second stage's product
    T* carry;      // [rows, kCarry, H_]
    F* x;          // [chunk pairs, I_]
    int64_t chunk_pairs;
    T* zx;  // [stages, panels, chunk pairs, columns]; or, of kernels in place, [chunk pairs, z_width_]
    T* zh;  // [rows, z_width_], of kernels in place
  };

  template <typename Call>
  static void each_stage(Call&& f) {
    f(std::integral_constant<int, 0>());
    if constexpr (C::kStages > 1) f(std::integral_constant<int, 1>());
  }

  // Rows of whole elements as the left side of a product.
  static Left<Terms<F>> left_rows(const F* rows, int64_t width) { return {terms(rows), terms_of<F>(width), 1}; }

  int64_t recurrent_bytes() const {
    return (C::kInfo.gates * p_.P * p_.H + (C::kInfo.projected ? p_.H * p_.P : 0)) * static_cast<int64_t>(sizeof(F));
  }

  void take_block(Workspace& workspace, Block& block) const {
    const int64_t count = divide_up(p_.B, plan_.blocks);
    block.rows = take_rows(workspace, count, p_.T);
    for (int i = 0; i < 2; ++i) {
      block.h[i] = workspace.take<T>(count * P_);
      if constexpr (std::is_same_v<F, T>) {
        block.left_h[i] = block.h[i];
      } else {
        block.left_h[i] = workspace.take<F>(count * P_);
      }
    }
    block.c = workspace.take<T>(kHasC ? count * H_ : 0);
    block.operand = workspace.take<F>(C::kStages > 1 ? count * H_ : 0);
    block.carry = workspace.take<T>(count * C::kCarry * H_);
    block.chunk_pairs = smaller(larger(chunk_rows_, count), count * p_.T);
    block.x = workspace.take<F>(block.chunk_pairs * I_);
    block.zx = workspace.take<T>(block.chunk_pairs * zx_width_);
    block.zh = workspace.take<T>(in_place_ ? count * z_width_ : 0);
  }

  // Packs kernels and biases.
  void prepare(Team& team) {
    load_peepholes<C, S>(p_, peepholes_, H_);
    if (in_place_) return load_biases();
    each_stage([&](auto stage) {
      constexpr int s = stage;
      team.share(panels_[s], [&](int, int64_t begin, int64_t end) {
        const int64_t inputs = projects<C>(s) ? 0 : p_.I;
        if constexpr (!projects<C>(s)) {
          for (int64_t panel = begin; panel < end; ++panel) pack_biases<s>(panel);
          pack_panels<C, s, S>(p_, 0, inputs, begin, end, packed_w_[s]);
        }
        pack_panels<C, s, S>(p_, inputs, stage_depth(p_, s), begin, end, packed_r_[s]);
      });
    });
  }

  // A gate's zeros past the last unit are overwritten by the next gate.
  template <int s>
  void pack_biases(int64_t panel) {
    using Tile = StageTile<C, s>;
    constexpr int64_t kUnits = Tile::template kUnits<T>;
    const int64_t unit = panel * kUnits, units = Tile::template units_of<T>(panel, p_.H);
    for (int gate = 0; gate < Tile::kGates; ++gate) {
      const GatePlace place = gate_place<C>(Tile::kFirst + gate);
      const int64_t at = zx_begin_[s] + panel * Tile::template kColumns<T> + gate * units;
      load_row(static_cast<const S*>(p_.biases[place.kernel]) + place.index * p_.H + unit, bias_ + at, units, kUnits);
      if constexpr (C::kRecurrentBias) {
        const S* recurrent = static_cast<const S*>(p_.biases[C::kInfo.biases - 1]) + (Tile::kFirst + gate) * p_.H;
        load_row(recurrent + unit, recurrent_bias_ + at, units, kUnits);
      }
    }
  }

  // The biases in the kernels' order, and zeros: a projection has none.
  void load_biases() {
    for (int k = 0; k < C::kInfo.kernels; ++k) {
      const int64_t at = first_gate<C>(k) * p_.H, gates = at < C::kInfo.gates * p_.H ? C::kInfo.kernel_gates[k] : 0;
      load_row(static_cast<const S*>(p_.biases[k]), bias_ + at, gates * p_.H, z_width_ - at);
    }
    const S* recurrent = static_cast<const S*>(p_.biases[C::kInfo.biases - 1]);  // or zeros in its place
    load_row(recurrent, recurrent_bias_, C::kRecurrentBias ? C::kInfo.gates * p_.H : 0, z_width_);
  }

  void run_block(Block& block, Team& team) {
    const Rows& rows = block.rows;
    for (int64_t row = 0; row < rows.count; ++row) {
      const int64_t b = rows.batch[row];
      load_row(static_cast<const S*>(p_.initial_state[0]) + b * p_.P, block.h[0] + row * P_, p_.P, P_);
      if constexpr (!std::is_same_v<F, T>) store_row(block.h[0] + row * P_, block.left_h[0] + row * P_, P_);
      if (kHasC) load_row(static_cast<const S*>(p_.initial_state[1]) + b * p_.H, block.c + row * H_, p_.H, H_);
    }
    for (int64_t begin = 0, end; begin < rows.steps; begin = end) {
      for (end = begin + 1; end < rows.steps && rows.offset[end + 1] - rows.offset[begin] <= chunk_rows_;) ++end;
      input_products(block, begin, end, team);
      for (int64_t step = begin; step < end; ++step) {
        each_stage([&](auto stage) { run_stage<stage>(block, step, begin, team); });
      }
    }
    for (int64_t row = 0; row < rows.count; ++row) finish_row(block, row);
    clear_padding<S>(rows, p_.T, p_.P, p_.y_strides, p_.y);
  }

  // Writes a row's final state.
  void finish_row(const Block& block, int64_t row) const {
    const int64_t b = block.rows.batch[row], length = block.rows.length[row];
    store_row(block.h[length & 1] + row * P_, static_cast<S*>(p_.final_state[0]) + b * p_.P, p_.P);
    if (kHasC) store_row(block.c + row * H_, static_cast<S*>(p_.final_state[1]) + b * p_.H, p_.H);
  }

  // zx = x . W + bias for the steps [begin, end).
  void input_products(Block& block, int64_t begin, int64_t end, Team& team) {
    const Rows& rows = block.rows;
    team.share(end - begin, [&](int, int64_t first, int64_t last) {
      for (int64_t step = begin + first; step < begin + last; ++step) {
        F* to = block.x + (rows.offset[step] - rows.offset[begin]) * I_;
        for (int64_t row = 0; row < rows.active[step]; ++row, to += I_) {
          const int64_t at = rows.time(step, row) * p_.x_strides.time + rows.batch[row] * p_.x_strides.batch;
          load_row(static_cast<const S*>(p_.x) + at, to, p_.I, I_);
        }
      }
    });
    const int64_t pairs = rows.offset[end] - rows.offset[begin], depth = terms_of<F>(p_.I);
    if (in_place_) return input_products_in_place(block, pairs, team);
    each_stage([&](auto stage) {
      constexpr int s = stage;
      using Tile = StageTile<C, s>;
      constexpr int64_t kColumns = Tile::template kColumns<T>;
      if constexpr (projects<C>(s)) return;
      const bool halved = panels_halved(team, panels_[s], pairs);
      team.share(panels_[s] << halved, [&](int, int64_t first, int64_t last) {
        each_panel(first, last, halved, pairs, false, [&](int64_t panel, int64_t row, int64_t end_row) {
          const Terms<F>* right = packed_w_[s] + panel * depth * kColumns;
          const int64_t at = zx_begin_[s] + panel * kColumns;
          for (; row < end_row; row += kBlockRows) {
            panel_product<C, s>(Tile::template units_of<T>(panel, p_.H), smaller(kBlockRows, end_row - row), depth,
                                left_rows(block.x + row * I_, I_), right, right + depth * kColumns, bias_ + at,
                                block.zx + at * block.chunk_pairs + row * kColumns);
          }
        });
      });
    });
  }

  // A kernel's product: left . its rows from `row` on, added to init, one row for all. A last panel's end falls where
  // the next kernel's gates stand, whose product comes later.
  StepProduct<S> product(int kernel, int64_t row, int64_t M, int64_t K, Matrix<const T> left, const T* init,
                         T* out) const {
    const int64_t width = kernel_width<C>(p_, kernel), at = first_gate<C>(kernel) * p_.H;
    const S* rows = static_cast<const S*>(p_.kernels[kernel]) + row * width;
    return {M, K, width, left, {rows, width}, init + at, 0, out + at, z_width_};
  }

  void input_products_in_place(Block& block, int64_t pairs, Team& team) {
    if constexpr (kMayStayInPlace) {
      for (int k = 0; k < C::kInfo.kernels; ++k) {
        const int64_t inputs = kernel_input_rows<C>(p_, k);
        if (inputs == 0) continue;  // a projection
        const StepProduct<S> p = product(k, 0, pairs, inputs, {block.x, I_}, bias_, block.zx);
        team.share(divide_up(p.N, kPanel<T>), [&](int, int64_t first, int64_t last) { step_product(p, first, last); });
      }
    }
  }

  template <int s>
  void run_stage_in_place(Block& block, int64_t step, int64_t chunk_begin, Team& team) {
    if constexpr (kMayStayInPlace) {
      const int64_t active = block.rows.active[step], members = team.members();
      const Matrix<const T> left = s == 0 ? Matrix<const T>{block.h[step & 1], P_} : Matrix<const T>{block.operand, H_};
      for (int k = 0; k < C::kInfo.kernels; ++k) {
        if (!in_stage<C>(k, s)) continue;
        const int64_t inputs = kernel_input_rows<C>(p_, k), depth = stage_depth(p_, s);
        StepProduct<S> p = product(k, inputs, active, depth, left, recurrent_bias_, block.zh);
        // To and fro: each step begins with what the one before has left in the caches. And in as few parts as may be:
        // memory gives a single row the most in long runs, and few rows go through wide tiles.
        p.backwards = (step & 1) != 0;
        const int64_t panels = divide_up(p.N, kPanel<T>);
        team.share(members, [&](int, int64_t first, int64_t last) {
          step_product(p, panels * first / members, panels * last / members);
        });
      }
      const T* zx = block.zx + (block.rows.offset[step] - block.rows.offset[chunk_begin]) * z_width_;
      auto cell = [&](int, int64_t first, int64_t last) {
        for (int64_t panel = first; panel < last; ++panel) {
          const int64_t at = StageTile<C, s>::kFirst * p_.H + panel * StageTile<C, s>::template kUnits<T>;
          apply_cell<s>(block, step, 0, active, panel, {zx + at, block.zh + at, z_width_, p_.H});
        }
      };
      const bool shared = active * stage_units<C>(p_, s) > kUnitsWorthSharing;
      shared ? team.share(panels_[s], cell) : cell(0, 0, panels_[s]);
    }
  }

  template <int s>
  void run_stage(Block& block, int64_t step, int64_t chunk_begin, Team& team) {
    if (in_place_) return run_stage_in_place<s>(block, step, chunk_begin, team);
    const int64_t active = block.rows.active[step], depth = terms_of<F>(stage_depth(p_, s));
    const Left<Terms<F>> left = s == 0 ? left_rows(block.left_h[step & 1], P_) : left_rows(block.operand, H_);
    static constexpr T kZeros[kPanel<T>] = {};
    const bool backwards = (step & 1) != 0;  // to and fro: a step begins with what the last one left in the caches
    const bool halved = panels_halved(team, panels_[s], active);
    team.share(panels_[s] << halved, backwards, [&](int, int64_t first, int64_t last) {
      using Tile = StageTile<C, s>;
      constexpr int64_t kColumns = Tile::template kColumns<T>;
      alignas(64) T zh[kBlockRows * kColumns];
      if (active <= kTileRows && team.members() > 1) {  // so little h is not foreseen, and others have just written it
        for (int64_t row = 0; row < active; ++row) prefetch_row(left.data + row * left.row, depth);
      }
      each_panel(first, last, halved, active, backwards, [&](int64_t panel, int64_t row, int64_t end_row) {
        const Terms<F>* right = packed_r_[s] + panel * depth * kColumns;
        const int64_t at = zx_begin_[s] + panel * kColumns,
                      units = Tile::template units_of<T>(panel, stage_units<C>(p_, s));
        const T* zx =
            block.zx + at * block.chunk_pairs + (block.rows.offset[step] - block.rows.offset[chunk_begin]) * kColumns;
        for (; row < end_row; row += kBlockRows) {
          const int64_t count = smaller(kBlockRows, end_row - row);
          panel_product<C, s>(units, count, depth, Left<Terms<F>>{left.data + row * left.row, left.row, 1}, right,
                              backwards ? right - depth * kColumns : right + depth * kColumns,
                              C::kRecurrentBias ? recurrent_bias_ + at : kZeros, zh);
          apply_cell<s>(block, step, row, count, panel, {zx + row * kColumns, zh, kColumns, units});
        }
      });
    });
  }

  // What is kept of a row's step: [kSaved, H].
  S* saved_row(int64_t t, int64_t b) const { return static_cast<S*>(p_.saved) + (t * p_.B + b) * kSaved * p_.H; }

  // Prefetches the most of where apply_cell() writes into the caller's arrays, which lie beyond the near caches.
  template <int s>
  FUSED_RNN_FN void prefetch(const Block& block, int64_t step, int64_t row, int64_t panel) const {
    constexpr int kUnits = StageTile<C, s>::template kUnits<T>;
    const int64_t unit = panel * kUnits, count = StageTile<C, s>::template units_of<T>(panel, stage_units<C>(p_, s));
    const int64_t b = block.rows.batch[row], t = block.rows.time(step, row);
    if constexpr (s == C::kStateStage) {
      if (p_.saved == nullptr) return;
      for (int k = 0; k < kSaved; ++k) prefetch_row(saved_row(t, b) + k * p_.H + unit, count);
    }
  }

  // The pointwise part of a stage for the units of one panel, for `rows` rows from `row` on.
  template <int s>
  FUSED_RNN_FN void apply_cell(Block& block, int64_t step, int64_t row, int64_t rows, int64_t panel,
                               const Gates& z) const {
    if (options_.activation == Activation::kTanh) {
      apply_cell<s, true>(block, step, row, rows, panel, z);
    } else {
      apply_cell<s, false>(block, step, row, rows, panel, z);
    }
  }
  template <int s, bool kTanh>
  void apply_cell(Block& block, int64_t step, int64_t row, int64_t rows, int64_t panel, Gates z) const {
    CellOptions<T> options = options_;
    if constexpr (kTanh) options.activation = Activation::kTanh;  // so that no call stands in the usual loop
    using Tile = StageTile<C, s>;
    constexpr int kUnits = Tile::template kUnits<T>;
    const int64_t unit = panel * kUnits, count = Tile::template units_of<T>(panel, stage_units<C>(p_, s));
    for (int64_t m = 0; m < smaller(kAhead, rows); ++m) prefetch<s>(block, step, row + m, panel);
    for (int64_t end = row + rows; row < end; ++row, z.zx += z.row, z.zh += z.row) {
      if (row + kAhead < end) prefetch<s>(block, step, row + kAhead, panel);
      const int64_t b = block.rows.batch[row], t = block.rows.time(step, row);
      T saved[kSaved + 1][kUnits];
      ForwardUnits<T, F> at;
      for (int gate = 0; gate < Tile::kGates; ++gate) {
        at.zx[Tile::kFirst + gate] = z.zx + gate * z.gate;  // past the end for a projection, which has none
        at.zh[Tile::kFirst + gate] = z.zh + gate * z.gate;
      }
      for (int k = 0; k < C::kPeepholes; ++k) at.peephole[k] = peepholes_ + k * H_ + unit;
      at.h_prev = block.h[step & 1] + row * P_ + unit;
      at.h = block.h[(step + 1) & 1] + row * P_ + unit;
      at.c = block.c + row * H_ + unit;
      at.operand = block.operand + row * H_ + unit;
      for (int k = 0; k < C::kCarry; ++k) at.carry[k] = block.carry + (row * C::kCarry + k) * H_ + unit;
      for (int k = 0; k < kSaved; ++k) at.saved[k] = saved[k];
      forward_units<C, s, kUnits>(at, options);
      if constexpr (s == C::kStages - 1) {
        store_output(at.h, t * p_.y_strides.time + b * p_.y_strides.batch + unit, count);
        if constexpr (!std::is_same_v<F, T>) {
          F* left = block.left_h[(step + 1) & 1] + row * P_ + unit;
          store_row(at.h, left, kUnits, kUnits);
          end_terms(left, count, kUnits);
        }
      } else {
        end_terms(at.operand, count, kUnits);
      }
      if constexpr (s == C::kStateStage) {
        if (p_.saved == nullptr) continue;
        for (int k = 0; k < kSaved; ++k) store_row(saved[k], saved_row(t, b) + k * p_.H + unit, count, kUnits);
      }
    }
  }

  // Stores h into y; then, for the next step, h takes the mask in, if there is one.
  FUSED_RNN_FN void store_output(T* h, int64_t offset, int64_t count) const {
    constexpr int kUnits = StageTile<C, C::kStages - 1>::template kUnits<T>;
    store_row(h, static_cast<S*>(p_.y) + offset, count, kUnits);
    if (p_.state_mask == nullptr) return;
    T mask[kUnits];
    load_row(static_cast<const S*>(p_.state_mask) + offset, mask, count, kUnits);
    for (int n = 0; n < kUnits; ++n) h[n] *= mask[n];
  }

  const SequenceForwardParams& p_;
  const int64_t H_, P_;  // with padding to whole panels, which may hold anything
  const int64_t I_;      // with padding to whole elements: zeros
  const bool in_place_ = kMayStayInPlace && gains_nothing_by_packing(p_.T, p_.B, recurrent_bytes(), C::kStages);
  const Sharing plan_;
  const CellOptions<T> options_;
  int64_t z_width_;
  int64_t panels_[C::kStages], zx_begin_[C::kStages], zx_width_ = 0;  // zx holds each stage's panels in turn
  Terms<F>* packed_w_[C::kStages];                                    // [panels, I / kTerms, columns]
  Terms<F>* packed_r_[C::kStages];                                    // [panels, stage_depth / kTerms, columns]
  T* bias_;                                                           // [zx_width_]
  T* recurrent_bias_;                                                 // [zx_width_]
  T* peepholes_;                                                      // [kPeepholes, H_]
  int64_t* scratch_;                                                  // [T + 2]
  int64_t chunk_rows_;  // (step, row) pairs of a chunk; a chunk has one step at least
  Block blocks_[kMaxBlocks];
};

}  // namespace fused_rnn::FUSED_RNN_TARGET
