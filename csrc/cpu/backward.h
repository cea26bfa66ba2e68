// The backward pass on the CPU: one class for every cell and storage type.
//
// Back through time, stage by stage, a tile of d_z . R^T completes the gradient of h for some units, and the cell's
// backward function is applied to them at once; that leaves the gradients of all preactivations in d_z. After a chunk
// of steps, while its d_z is in the caches, come the large products: d_x = d_z . W^T and the weight gradients.
#pragma once

#include "csrc/cpu/pack.h"
#include "csrc/cpu/pairs.h"
#include "csrc/cpu/pointwise.h"
#include "csrc/cpu/rows.h"
#include "csrc/cpu/share.h"

namespace fused_rnn::FUSED_RNN_TARGET {

template <typename C, typename S>
class BackwardDriver {
 public:
  using T = Compute<S>;
  using F = Factor<S>;

  BackwardDriver(const SequenceBackwardParams& params, Workspace& workspace)
      : p_(params),
        H_(round_up(params.H, kLanes<T>)),
        P_(round_up(params.P, kLanes<T>)),
        H_terms_(terms_of<F>(params.H)),
        P_terms_(terms_of<F>(params.P)),
        plan_(plan_sharing(params, recurrent_size() * static_cast<int64_t>(sizeof(Terms<F>)), gradient_bytes())),
        options_(cell_options<T>(params)) {
    packed_w_ = workspace.take<Terms<F>>(C::kInfo.gates * H_terms_ * round_up(p_.I, kLanes<T>));
    packed_r_ = workspace.take<Terms<F>>(recurrent_size());
    peepholes_ = workspace.take<T>(C::kPeepholes * H_);
    scratch_ = workspace.take<int64_t>(p_.T + 2);
    const int64_t count = divide_up(p_.B, plan_.blocks);
    const int members = plan_.blocks > 1 ? 1 : static_cast<int>(larger(1, p_.threads.count));
    for (int64_t i = 0; i < plan_.blocks; ++i) {
      blocks_[i].rows = take_rows(workspace, count, p_.T);
      blocks_[i].pairs = Pairs<C, S>(params, plan_.blocks, count, members, workspace);
      blocks_[i].d_h = workspace.take<T>(count * P_);
      blocks_[i].d_c = workspace.take<T>(kHasC ? count * H_ : 0);
    }
  }

  void run() {
    for (int64_t i = 0; i < plan_.blocks; ++i) fill_rows(p_, i, plan_.blocks, scratch_, blocks_[i].rows);
    with_team(plan_, p_.threads, [&](Team& team) {
      prepare(team);
      run_blocks(plan_, team, [&](int64_t i, Team& at_work) { run_block(blocks_[i], at_work); });
      if (plan_.blocks > 1) Pairs<C, S>::finish(blocks_, plan_.blocks, team);
    });
  }

 private:
  static constexpr bool kHasC = C::kInfo.states > 1;
  static constexpr int kLast = C::kStages - 1;
  static constexpr int kSaved = C::kInfo.saved;
  static constexpr T kZeros[kPanel<T>] = {};

  struct Block {
    Rows rows;
    Pairs<C, S> pairs;
    int64_t begin, end;  // the chunk's steps
    T* d_h;              // [rows, P_]: gradient of h, but for what comes through the chunk's recurrent products
    T* d_c;              // [rows, H_]

    int64_t chunk_pairs() const { return rows.offset[end] - rows.offset[begin]; }
    int64_t pair(int64_t step, int64_t row) const { return rows.offset[step] - rows.offset[begin] + row; }
  };

  // The first column that the recurrent products of a stage read, and the first that the input product reads.
  static constexpr int recurrent_window(int stage) { return C::recurrent_column(C::kStage[stage].first); }
  static constexpr int input_window() {
    int first = C::input_column(0);
    for (int gate = 1; gate < C::kInfo.gates; ++gate) {
      if (C::input_column(gate) < first) first = C::input_column(gate);
    }
    return first;
  }

  // R^T and, behind it, the projection's transpose.
  int64_t recurrent_size() const { return C::kInfo.gates * H_terms_ * P_ + (C::kInfo.projected ? P_terms_ * H_ : 0); }

  // The sums of the weight gradients.
  int64_t gradient_bytes() const {
    int64_t size = 0;
    for (int k = 0; k < C::kInfo.kernels; ++k) {
      size += kernel_rows<C>(p_, k) * round_up(kernel_width<C>(p_, k), kPanel<T>);
    }
    return size * static_cast<int64_t>(sizeof(T));
  }

  // The columns of a panel, of `columns` in all: kPanel, or in the last as many as whole vectors hold.
  static int64_t panel_width(int64_t panel, int64_t columns) {
    return round_up(smaller(kPanel<T>, columns - panel * kPanel<T>), kLanes<T>);
  }
  // The panel of R^T or W^T that a window of columns of d_z meets: [gates of the window * H_terms_, panel_width];
  // that of the projection's transpose is [P_terms_, panel_width].
  Terms<F>* packed_recurrent(int64_t panel, int gate) const {
    if (gate == C::kInfo.gates) {
      return packed_r_ + C::kInfo.gates * H_terms_ * P_ + panel * P_terms_ * kPanel<T>;
    }
    return packed_r_ + (panel * C::kInfo.gates * kPanel<T> + gate * panel_width(panel, p_.P)) * H_terms_;
  }
  Terms<F>* packed_input(int64_t panel, int position) const {
    return packed_w_ + (panel * C::kInfo.gates * kPanel<T> + position * panel_width(panel, p_.I)) * H_terms_;
  }

  // Columns of d_z from `column` on, of a pair and those after it, as the left side of a product.
  static Left<Terms<F>> left_d_z(const Block& block, int64_t pair, int column) {
    return {terms(block.pairs.d_z(pair, column)), terms_of<F>(block.pairs.d_z_stride), 1};
  }

  void prepare(Team& team) {
    load_peepholes<C, S>(p_, peepholes_, H_);
    if constexpr (C::kInfo.projected) {
      team.share(divide_up(H_, kPanel<T>), [&](int, int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
          const int64_t row = i * kPanel<T>;
          pack_transposed<C, S>(p_, C::kInfo.gates, row, p_.H - row, packed_recurrent(i, C::kInfo.gates));
        }
      });
    }
    const int64_t h_panels = divide_up(P_, kPanel<T>), x_panels = divide_up(p_.I, kPanel<T>);
    team.share(h_panels + x_panels, [&](int, int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        for (int gate = 0; gate < C::kInfo.gates; ++gate) {
          if (i < h_panels) {
            pack_transposed<C, S>(p_, gate, p_.I + i * kPanel<T>, p_.P - i * kPanel<T>, packed_recurrent(i, gate));
          } else {
            const int64_t column = (i - h_panels) * kPanel<T>;
            pack_transposed<C, S>(p_, gate, column, p_.I - column,
                                  packed_input(i - h_panels, C::input_column(gate) - input_window()));
          }
        }
      }
    });
  }

  // A chunk of steps after the other, from the last one back.
  void run_block(Block& block, Team& team) {
    start_block(block);
    int64_t end = block.rows.steps;
    do {
      const bool first = end == block.rows.steps;
      int64_t begin = end;
      while (begin > 0 && block.rows.offset[end] - block.rows.offset[begin - 1] <= block.pairs.capacity) --begin;
      block.begin = begin;
      block.end = end;
      run_chunk(block, team);
      block.pairs.add({block.chunk_pairs(), first, begin == 0 && plan_.blocks == 1}, team);
      end = begin;
    } while (end > 0);
    finish_block(block);
  }

  void start_block(const Block& block) const {
    for (int64_t row = 0; row < block.rows.count; ++row) {
      const int64_t b = block.rows.batch[row];
      load_row(static_cast<const S*>(p_.d_final_state[0]) + b * p_.P, block.d_h + row * P_, p_.P, P_);
      if (kHasC) load_row(static_cast<const S*>(p_.d_final_state[1]) + b * p_.H, block.d_c + row * H_, p_.H, H_);
    }
    clear_padding<S>(block.rows, p_.T, p_.I, p_.x_strides, p_.d_x);
  }

  void run_chunk(Block& block, Team& team) {
    if (block.chunk_pairs() == 0) return;
    team.share(block.end - block.begin, [&](int, int64_t begin, int64_t end) {
      for (int64_t step = block.begin + begin; step < block.begin + end; ++step) find_inputs(block, step);
    });
    team.share(block.chunk_pairs(), [&](int, int64_t begin, int64_t end) { block.pairs.pack_inputs(begin, end); });
    for (int64_t step = block.end - 1; step >= block.begin; --step) {
      run_stage<kLast>(block, step, team);
      if constexpr (kLast > 0) run_stage<0>(block, step, team);
    }
    flow_out(block, team);
    input_gradient(block, team);
  }

  void finish_block(const Block& block) const {
    for (int64_t row = 0; row < block.rows.count; ++row) {
      const int64_t b = block.rows.batch[row];
      store_row(block.d_h + row * P_, static_cast<S*>(p_.d_initial_state[0]) + b * p_.P, p_.P);
      if (kHasC) store_row(block.d_c + row * H_, static_cast<S*>(p_.d_initial_state[1]) + b * p_.H, p_.H);
    }
  }

  // What the forward pass has kept of a row's step: [kSaved, H].
  const S* saved_row(int64_t t, int64_t b) const {
    return static_cast<const S*>(p_.saved) + (t * p_.B + b) * kSaved * p_.H;
  }

  int64_t y_offset(int64_t t, int64_t b) const { return t * p_.y_strides.time + b * p_.y_strides.batch; }

  void find_inputs(const Block& block, int64_t step) const {
    const Rows& rows = block.rows;
    for (int64_t row = 0; row < rows.active[step]; ++row) {
      const int64_t b = rows.batch[row];
      const S* x = static_cast<const S*>(p_.x) + rows.time(step, row) * p_.x_strides.time + b * p_.x_strides.batch;
      const S *h = static_cast<const S*>(p_.initial_state[0]) + b * p_.P, *mask = nullptr;
      if (step > 0) {
        const int64_t before = y_offset(rows.time(step - 1, row), b);
        h = static_cast<const S*>(p_.y) + before;
        if (p_.state_mask != nullptr) mask = static_cast<const S*>(p_.state_mask) + before;
      }
      block.pairs.set_inputs(block.pair(step, row), x, h, mask);
    }
  }

  // out[m, :] = d_z(step, row + m)[stage's window] . R^T for m in [0, products), 0 for m in [products, count).
  template <int s>
  void recurrent_product(const Block& block, int64_t step, int64_t row, int64_t products, int64_t count, int64_t panel,
                         T* out) const {
    constexpr int kFirst = C::kStage[s].first, kGates = C::kStage[s].count;
    const int64_t depth = projects<C>(s) ? P_terms_ : kGates * H_terms_;
    if (products > 0) {
      const int64_t columns = projects<C>(s) ? p_.H : p_.P;
      with_vectors<T>(panel_width(panel, columns), [&](auto vectors) {
        tile_block<vectors, kPanel<T>>(products, depth, left_d_z(block, block.pair(step, row), recurrent_window(s)),
                                       packed_recurrent(panel, kFirst), packed_recurrent(panel + 1, kFirst), kZeros,
                                       out);
      });
    }
    memset(out + products * kPanel<T>, 0, (count - products) * kPanel<T> * sizeof(T));
  }

  template <int s>
  void run_stage(Block& block, int64_t step, Team& team) {
    const Rows& rows = block.rows;
    const int64_t active = rows.active[step];
    // The last stage first takes in what flows back from the next step, in which fewer rows may be at work, unless it
    // is in d_h since the chunk after this one; a first of two stages takes what flows back from the second.
    const int64_t from_next = step + 1 < block.end ? rows.active[step + 1] : 0;
    const int64_t with_product = s == kLast ? from_next : active;
    const int64_t panels = divide_up(stage_units<C>(p_, s), kPanel<T>);
    const bool halved = panels_halved(team, panels, active);
    team.share(panels << halved, [&](int, int64_t first, int64_t last) {
      alignas(64) T through[kBlockRows * kPanel<T>];
      each_panel(first, last, halved, active, false, [&](int64_t panel, int64_t row, int64_t end_row) {
        for (; row < end_row; row += kBlockRows) {
          const int64_t count = smaller(kBlockRows, end_row - row);
          const int64_t products = larger(0, smaller(count, with_product - row));
          for (int64_t m = 0; m < smaller(kAhead, count); ++m) prefetch<s>(block, step, row + m, panel);
          if constexpr (s == kLast) {
            recurrent_product<0>(block, step + 1, row, products, count, panel, through);
          } else {
            recurrent_product<kLast>(block, step, row, products, count, panel, through);
          }
          for (int64_t m = 0; m < count; ++m) {
            if (m + kAhead < count) prefetch<s>(block, step, row + m + kAhead, panel);
            apply_cell<s>(block, step, row + m, panel, through + m * kPanel<T>);
          }
        }
      });
    });
  }

  // Prefetches the most of what apply_cell() reads of the caller's arrays, which lie beyond the near caches.
  template <int s>
  FUSED_RNN_FN void prefetch(const Block& block, int64_t step, int64_t row, int64_t panel) const {
    const int64_t unit = panel * kPanel<T>, count = smaller(kPanel<T>, stage_units<C>(p_, s) - unit);
    const int64_t b = block.rows.batch[row], t = block.rows.time(step, row);
    if constexpr (!projects<C>(s)) {
      for (int k = 0; k < kSaved; ++k) prefetch_row(saved_row(t, b) + k * p_.H + unit, count);
    }
    if (s == kLast && p_.d_y != nullptr) prefetch_row(static_cast<const S*>(p_.d_y) + y_offset(t, b) + unit, count);
  }

  // The pointwise part of a stage for one row and the units of one panel; `through` is what came through the product.
  template <int s>
  void apply_cell(Block& block, int64_t step, int64_t row, int64_t panel, const T* through) const {
    constexpr int kUnits = kPanel<T>;
    const int64_t unit = panel * kUnits, count = smaller(kUnits, stage_units<C>(p_, s) - unit);
    const int64_t pair = block.pair(step, row), b = block.rows.batch[row], t = block.rows.time(step, row);
    T saved[kSaved + 1][kUnits], h_prev[kUnits], h[kUnits], d_y[kUnits], mask[kUnits];
    if constexpr (!projects<C>(s)) {
      for (int k = 0; k < kSaved; ++k) load_row(saved_row(t, b) + k * p_.H + unit, saved[k], count, kUnits);
    }
    if constexpr (!C::kInfo.projected) {
      if (p_.state_mask == nullptr) {
        load_row(block.pairs.h_rows[pair] + unit, h_prev, count, kUnits);
      } else {
        load_row(block.pairs.masked_h + pair * P_ + unit, h_prev, count, kUnits);
      }
    }
    if constexpr (!C::kInfo.projected || projects<C>(s)) {
      load_row(static_cast<const S*>(p_.y) + y_offset(t, b) + unit, h, count, kUnits);
    }
    if (s == kLast) {
      const bool given = p_.d_y != nullptr;
      load_row(static_cast<const S*>(given ? p_.d_y : p_.y) + y_offset(t, b) + unit, d_y, given ? count : 0, kUnits);
    }
    BackwardUnits<T, F> at;
    at.state_mask = nullptr;
    if (s == kLast && p_.state_mask != nullptr) {
      load_row(static_cast<const S*>(p_.state_mask) + y_offset(t, b) + unit, mask, count, kUnits);
      at.state_mask = mask;
    }
    for (int k = 0; k < C::kPeepholes; ++k) at.peephole[k] = peepholes_ + k * H_ + unit;
    for (int k = 0; k < kSaved; ++k) at.saved[k] = saved[k];
    at.h_prev = h_prev;
    at.h = h;
    at.d_y = d_y;
    at.d_product = through;
    at.d_h = block.d_h + row * P_ + unit;
    at.d_c = block.d_c + row * H_ + unit;
    const bool whole = count % kLanes<T> == 0;  // else the last vector would run into the next column
    F last[kMaxColumns][kUnits];
    for (int k = 0; k < C::kColumns + C::kInfo.projected; ++k) {
      at.d_z[k] = whole ? block.pairs.d_z(pair, k) + unit : last[k];
    }
    at.operand = block.pairs.operand + pair * H_ + unit;
    backward_units<C, s>(at, options_, round_up(count, kLanes<T>));
    if (whole) return;
    for (int k = C::kWritten[s].first; k < C::kWritten[s].first + C::kWritten[s].count; ++k) {
      memcpy(block.pairs.d_z(pair, k) + unit, last[k], whole_terms<F>(count) * sizeof(F));
    }
  }

  // Adds what comes through the products of the chunk's first step to d_h, for the step before it or for the initial h.
  void flow_out(Block& block, Team& team) const {
    team.share(divide_up(P_, kPanel<T>), [&](int, int64_t begin, int64_t end) {
      alignas(64) T through[kBlockRows * kPanel<T>];
      for (int64_t panel = begin; panel < end; ++panel) {
        const int64_t unit = panel * kPanel<T>, units = smaller(kPanel<T>, P_ - unit);
        for (int64_t row = 0; row < block.rows.active[block.begin]; row += kBlockRows) {
          const int64_t count = smaller(kBlockRows, block.rows.active[block.begin] - row);
          recurrent_product<0>(block, block.begin, row, count, count, panel, through);
          for (int64_t m = 0; m < count; ++m) {
            T* d_h = block.d_h + (row + m) * P_ + unit;
            for (int64_t n = 0; n < units; ++n) d_h[n] += through[m * kPanel<T> + n];
          }
        }
      }
    });
  }

  // d_x = d_z . W^T for the chunk.
  void input_gradient(const Block& block, Team& team) const {
    constexpr int64_t kTaskRows = 2 * kBlockRows;
    const int64_t panels = divide_up(p_.I, kPanel<T>);
    team.share(panels * divide_up(block.chunk_pairs(), kTaskRows), [&](int, int64_t begin, int64_t end) {
      alignas(64) T out[kBlockRows * kPanel<T>];
      for (int64_t i = begin; i < end; ++i) {
        const int64_t panel = i % panels, first = i / panels * kTaskRows, column = panel * kPanel<T>;
        for (int64_t row = first; row < smaller(first + kTaskRows, block.chunk_pairs()); row += kBlockRows) {
          const int64_t rows = smaller(kBlockRows, block.chunk_pairs() - row);
          with_vectors<T>(panel_width(panel, p_.I), [&](auto vectors) {
            tile_block<vectors, kPanel<T>>(rows, C::kInfo.gates * H_terms_, left_d_z(block, row, input_window()),
                                           packed_input(panel, 0), packed_input(panel + 1, 0), kZeros, out);
          });
          for (int64_t m = 0; m < rows; ++m) {
            S* to = static_cast<S*>(p_.d_x) + (block.pairs.x_rows[row + m] - static_cast<const S*>(p_.x)) + column;
            store_row(out + m * kPanel<T>, to, smaller(kPanel<T>, p_.I - column), kPanel<T>);
          }
        }
      }
    });
  }

  const SequenceBackwardParams& p_;
  const int64_t H_, P_;              // with padding to whole vectors; in the padding every gradient is 0 or meets zeros
  const int64_t H_terms_, P_terms_;  // as the depth of a product
  const Sharing plan_;
  const CellOptions<T> options_;
  Terms<F>* packed_w_;  // [x panels, gates in the order of their columns * H_terms_, panel_width]
  Terms<F>* packed_r_;  // [h panels, gates * H_terms_, panel_width], then a projection's [operand panels, P_terms_,
                        // panel_width]
  T* peepholes_;        // [kPeepholes, H_]
  int64_t* scratch_;    // [T + 2]
  Block blocks_[kMaxBlocks];
};

}  // namespace fused_rnn::FUSED_RNN_TARGET
