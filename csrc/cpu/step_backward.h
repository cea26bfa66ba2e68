// One step backward on the CPU: the cell row by row, and then the products of d_z with the kernels and with [x, h].
#pragma once

#include "csrc/cpu/pack.h"
#include "csrc/cpu/pointwise.h"
#include "csrc/cpu/share.h"
#include "csrc/cpu/step_product.h"
#include "csrc/cpu/workspace.h"

namespace fused_rnn::FUSED_RNN_TARGET {

template <typename C, typename S>
class StepBackwardDriver {
 public:
  using T = Compute<S>;

  StepBackwardDriver(const SequenceBackwardParams& params, Workspace& workspace)
      : p_(params), options_(cell_options<T>(params)) {
    d_z_ = workspace.take<T>(p_.B * d_z_stride());
    d_h_ = workspace.take<T>(p_.B * P_());
    d_c_ = workspace.take<T>(kHasC ? p_.B * H_() : 0);
    d_x_ = workspace.take<T>(kConverts ? p_.B * p_.I : 0);
    d_product_ = workspace.take<T>(p_.B * product_stride());
    peepholes_ = workspace.take<T>(C::kPeepholes * H_());
    operand_ = workspace.take<T>(C::kStages > 1 ? p_.B * H_() : 0);
    for (int i = 0; i < kLefts; ++i) left_[i] = workspace.take<T>(p_.B * round_up(left_width(i), kTileRows));
    scratch_size_ = p_.B * step_gradient_panels<T>(p_.B) * kPanel<T>;
    scratch_ = workspace.take<T>(scratch_size_ * larger(1, p_.threads.count));
  }

  void run() {
    with_step_team(p_, [&](Team& team) {
      load_peepholes<C, S>(p_, peepholes_, H_());
      memset(d_product_, 0, p_.B * product_stride() * sizeof(T));  // nothing comes from a later step
      run_cell<kLast>(team);
      if constexpr (kLast > 0) {
        through_kernels<1>(team);
        run_cell<0>(team);
      }
      through_kernels<0>(team);
      team.share(p_.B, [&](int, int64_t begin, int64_t end) {
        for (int64_t b = begin; b < end; ++b) finish_row(b);
      });
      weight_gradients(team);
      for (int column = 0; column < C::kColumns; ++column) bias_gradient(column, team);
    });
  }

 private:
  static constexpr bool kConverts = !std::is_same_v<S, T>;
  static constexpr bool kHasC = C::kInfo.states > 1;
  static constexpr int kLast = C::kStages - 1;
  static constexpr int kUnits = kLanes<T>;
  static constexpr int kSaved = C::kInfo.saved;
  static constexpr int kLefts = 2 + kLast;  // what meets the kernels' rows: x, h, operand

  int64_t H_() const { return round_up(p_.H, kUnits); }
  int64_t P_() const { return round_up(p_.P, kUnits); }
  int64_t product_stride() const { return larger(H_(), P_()); }
  int64_t d_z_stride() const {  // so that whole vectors may be read
    return d_z_width<C>(p_) + kPanel<T>;
  }
  int64_t left_stride() const { return p_.B * kTileRows; }
  int64_t left_width(int left) const { return left == 0 ? p_.I : left == 1 ? p_.P : p_.H; }
  bool at_work(int64_t b) const { return p_.lengths == nullptr || p_.lengths[b] > 0; }
  const S* state(const void* const* states, int index, int64_t b) const {
    return static_cast<const S*>(states[index]) + b * (index == 0 ? p_.P : p_.H);
  }

  template <int s>
  void run_cell(Team& team) {
    team.share(p_.B, [&](int, int64_t begin, int64_t end) {
      for (int64_t b = begin; b < end; ++b) {
        if (at_work(b)) {
          for (int64_t unit = 0; unit < stage_units<C>(p_, s); unit += kUnits) apply_cell<s>(b, unit);
        } else {
          skip_row(b);
        }
      }
    });
  }

  template <int s>
  void apply_cell(int64_t b, int64_t unit) const {
    const int64_t count = smaller(kUnits, stage_units<C>(p_, s) - unit);
    T saved[kSaved + 1][kUnits], h_prev[kUnits], h[kUnits], d_y[kUnits], d_z[kMaxColumns][kUnits];
    if constexpr (!projects<C>(s)) {
      const S* from = static_cast<const S*>(p_.saved) + b * kSaved * p_.H + unit;
      for (int k = 0; k < kSaved; ++k) load_row(from + k * p_.H, saved[k], count, kUnits);
    }
    if constexpr (!C::kInfo.projected) load_row(state(p_.initial_state, 0, b) + unit, h_prev, count, kUnits);
    if constexpr (!C::kInfo.projected || projects<C>(s)) {
      load_row(static_cast<const S*>(p_.y) + b * p_.y_strides.batch + unit, h, count, kUnits);
    }
    BackwardUnits<T> at;
    at.d_h = d_h_ + b * P_() + unit;
    at.d_c = d_c_ + b * H_() + unit;
    if constexpr (s == kLast) {
      const S* given = p_.d_y == nullptr ? static_cast<const S*>(p_.y) : static_cast<const S*>(p_.d_y);
      load_row(given + b * p_.y_strides.batch + unit, d_y, p_.d_y == nullptr ? 0 : count, kUnits);
      load_row(state(p_.d_final_state, 0, b) + unit, at.d_h, count, kUnits);
    }
    if constexpr (kHasC && s == C::kStateStage) {
      load_row(state(p_.d_final_state, 1, b) + unit, at.d_c, count, kUnits);
    }
    for (int k = 0; k < C::kPeepholes; ++k) at.peephole[k] = peepholes_ + k * H_() + unit;
    for (int k = 0; k < kSaved; ++k) at.saved[k] = saved[k];
    at.h_prev = h_prev;
    at.h = h;
    at.d_y = d_y;
    at.state_mask = nullptr;
    at.d_product = d_product_ + b * product_stride() + unit;
    for (int k = 0; k < C::kColumns + C::kInfo.projected; ++k) at.d_z[k] = d_z[k];
    at.operand = operand_ + b * H_() + unit;
    backward_units<C, s>(at, options_, kUnits);
    for (int k = C::kWritten[s].first; k < C::kWritten[s].first + C::kWritten[s].count; ++k) {
      store_row(d_z[k], d_z_ + b * d_z_stride() + k * p_.H + unit, count, kUnits);
    }
  }

  // A row that has ended passes the gradient of its state on, and nothing else.
  void skip_row(int64_t b) const {
    load_row(state(p_.d_final_state, 0, b), d_h_ + b * P_(), p_.P, P_());
    if constexpr (kHasC) load_row(state(p_.d_final_state, 1, b), d_c_ + b * H_(), p_.H, H_());
    memset(d_z_ + b * d_z_stride(), 0, d_z_stride() * sizeof(T));
    if constexpr (kLast > 0) memset(operand_ + b * H_(), 0, H_() * sizeof(T));
  }

  // d_product = d_z . R^T for the kernels of a stage; after the first stage, which comes last, also d_x = d_z . W^T.
  template <int s>
  void through_kernels(Team& team) {
    StepTransposedProduct<S> recurrent, input;
    for (int k = 0; k < C::kInfo.kernels; ++k) {
      const int64_t width = kernel_width<C>(p_, k), inputs = kernel_input_rows<C>(p_, k);
      const S* kernel = static_cast<const S*>(p_.kernels[k]);
      const auto run = [&](int column, const S* rows) {
        return StepRun<S>{d_z_ + column * p_.H, d_z_stride(), {rows, width}, width};
      };
      if (in_stage<C>(k, s)) {
        recurrent.run[recurrent.runs++] = run(C::recurrent_column(first_gate<C>(k)), kernel + inputs * width);
      }
      if (inputs > 0) input.run[input.runs++] = run(C::input_column(first_gate<C>(k)), kernel);
    }
    recurrent.M = input.M = p_.B;
    recurrent.out = d_product_;
    recurrent.out_stride = product_stride();
    input.out = kConverts ? d_x_ : static_cast<T*>(p_.d_x);
    input.out_stride = kConverts ? p_.I : p_.x_strides.batch;
    // Tasks are rows of the kernels, in order, as many as one tile takes.
    const int64_t input_tasks = s == 0 ? divide_up(p_.I, kDotColumns) : 0;
    const int64_t depth = stage_depth(p_, s), tasks = input_tasks + divide_up(depth, kDotColumns);
    team.share(tasks, [&](int, int64_t begin, int64_t end) {
      const auto rows = [](int64_t task, int64_t limit) { return smaller(limit, task * kDotColumns); };
      if (begin < input_tasks) step_transposed_product(input, rows(begin, p_.I), rows(smaller(end, input_tasks), p_.I));
      if (end > input_tasks) {
        step_transposed_product(recurrent, rows(larger(begin - input_tasks, 0), depth), rows(end - input_tasks, depth));
      }
    });
  }

  // The gradients of a row's state and input, and its part of the left operands of the weights' gradients.
  void finish_row(int64_t b) const {
    T* d_h = d_h_ + b * P_();
    S* d_x = static_cast<S*>(p_.d_x) + b * p_.x_strides.batch;
    if (at_work(b)) {
      const T* through = d_product_ + b * product_stride();
      for (int64_t n = 0; n < p_.P; ++n) d_h[n] += through[n];
      if constexpr (kConverts) store_row(d_x_ + b * p_.I, d_x, p_.I);
      pack_columns(static_cast<const S*>(p_.x) + b * p_.x_strides.batch, p_.I, left_[0] + b * kTileRows, left_stride());
      pack_columns(state(p_.initial_state, 0, b), p_.P, left_[1] + b * kTileRows, left_stride());
      if constexpr (kLast > 0) pack_columns(operand_ + b * H_(), p_.H, left_[2] + b * kTileRows, left_stride());
    } else {
      memset(d_x, 0, p_.I * sizeof(S));
      for (int i = 0; i < kLefts; ++i) clear_columns(left_width(i), left_[i] + b * kTileRows, left_stride());
    }
    store_row(d_h, static_cast<S*>(p_.d_initial_state[0]) + b * p_.P, p_.P);
    if constexpr (kHasC) store_row(d_c_ + b * H_(), static_cast<S*>(p_.d_initial_state[1]) + b * p_.H, p_.H);
  }

  // For each kernel: the rows of x, and the rows of h or of the operand of its stage.
  void weight_gradients(Team& team) {
    for (int k = 0; k < C::kInfo.kernels; ++k) {
      const int64_t width = kernel_width<C>(p_, k), inputs = kernel_input_rows<C>(p_, k);
      S* d_kernel = static_cast<S*>(p_.d_kernels[k]);
      const int left = kLast > 0 && in_stage<C>(k, kLast) ? 2 : 1, gate = first_gate<C>(k);
      const StepGradient<S> jobs[] = {
          {inputs, p_.B, width, left_[0], d_z_ + C::input_column(gate) * p_.H, d_z_stride(), {d_kernel, width}},
          {left_width(left),
           p_.B,
           width,
           left_[left],
           d_z_ + C::recurrent_column(gate) * p_.H,
           d_z_stride(),
           {d_kernel + inputs * width, width}}};
      for (const StepGradient<S>& job : jobs) {
        team.share(job.tiles(), [&](int part, int64_t begin, int64_t end) {
          step_gradient(job, begin, end, scratch_ + part * scratch_size_);
        });
      }
    }
  }

  // Sums one column of d_z over the batch and stores it into the biases that it is the gradient of.
  void bias_gradient(int column, Team& team) const {
    team.share(divide_up(p_.H, kPanel<T>), [&](int, int64_t begin, int64_t end) {
      for (int64_t unit = begin * kPanel<T>; unit < smaller(p_.H, end * kPanel<T>); unit += kPanel<T>) {
        T part[kPanel<T>], sum[kPanel<T>];
        sum_rows(d_z_ + column * p_.H + unit, d_z_stride(), p_.B, kPanel<T>, false, part, sum);
        store_bias_gradient<C, S>(p_, column, unit, sum);
      }
    });
  }

  const SequenceBackwardParams& p_;
  const CellOptions<T> options_;
  T* peepholes_;     // [kPeepholes, H_]
  T* d_z_;           // [B, d_z_stride]: kColumns of H each, and a projection's of P
  T* d_h_;           // [B, P_]
  T* d_c_;           // [B, H_]
  T* d_x_;           // [B, I], where S is not T
  T* d_product_;     // [B, product_stride]: what comes through the recurrent products
  T* operand_;       // [B, H_]
  T* left_[kLefts];  // [width / kTileRows, B, kTileRows] each
  T* scratch_;       // [threads, scratch_size_]
  int64_t scratch_size_;
};

}  // namespace fused_rnn::FUSED_RNN_TARGET
