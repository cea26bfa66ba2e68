// One step forward on the CPU: [x, h] . kernel stage by stage, then the cell row by row.
#pragma once

#include "csrc/cpu/pack.h"
#include "csrc/cpu/pointwise.h"
#include "csrc/cpu/share.h"
#include "csrc/cpu/step_product.h"
#include "csrc/cpu/workspace.h"

namespace fused_rnn::FUSED_RNN_TARGET {

template <typename C, typename S>
class StepForwardDriver {
 public:
  using T = Compute<S>;

  StepForwardDriver(const SequenceForwardParams& params, Workspace& workspace)
      : p_(params), options_(cell_options<T>(params)) {
    for (int k = 0; k < C::kInfo.kernels; ++k) {
      z_begin_[k] = z_width_;
      z_width_ += round_up(kernel_width<C>(p_, k), kPanel<T>);
    }
    z_width_ += kUnits;  // the last units of a row are read a vector at a time
    z_ = workspace.take<T>(p_.B * z_width_);
    zh_ = workspace.take<T>((C::kRecurrentBias ? p_.B : 1) * z_width_);
    bias_ = workspace.take<T>(z_width_);
    recurrent_bias_ = workspace.take<T>(C::kRecurrentBias ? z_width_ : 0);
    x_ = workspace.take<T>(kConverts ? p_.B * p_.I : 0);
    h_ = workspace.take<T>(kConverts ? p_.B * p_.P : 0);
    peepholes_ = workspace.take<T>(C::kPeepholes * H_());
    operand_ = workspace.take<T>(C::kStages > 1 ? p_.B * H_() : 0);
    carry_ = workspace.take<T>(p_.B * C::kCarry * H_());
  }

  void run() {
    with_step_team(p_, [&](Team& team) {
      prepare(team);
      run_stage<0>(team);
      if constexpr (C::kStages > 1) run_stage<1>(team);
    });
  }

 private:
  static constexpr bool kConverts = !std::is_same_v<S, T>;
  static constexpr bool kHasC = C::kInfo.states > 1;
  static constexpr int kUnits = kLanes<T>;
  static constexpr int kSaved = C::kInfo.saved;

  int64_t H_() const { return round_up(p_.H, kUnits); }

  void prepare(Team& team) {
    load_peepholes<C, S>(p_, peepholes_, H_());
    for (int k = 0; k < C::kInfo.kernels; ++k) {
      const int64_t width = kernel_width<C>(p_, k);
      const bool has_bias = kernel_input_rows<C>(p_, k) > 0;  // a projection has none
      load_row(static_cast<const S*>(p_.biases[k]), bias_ + z_begin_[k], has_bias ? width : 0,
               round_up(width, kPanel<T>));
      if constexpr (C::kRecurrentBias) {
        const S* recurrent = static_cast<const S*>(p_.biases[C::kInfo.biases - 1]) + first_gate<C>(k) * p_.H;
        load_row(recurrent, recurrent_bias_ + z_begin_[k], width, round_up(width, kPanel<T>));
      }
    }
    if constexpr (!C::kRecurrentBias) memset(zh_, 0, z_width_ * sizeof(T));
    if constexpr (kConverts) {
      team.share(p_.B, [&](int, int64_t begin, int64_t end) {
        for (int64_t b = begin; b < end; ++b) {
          load_row(static_cast<const S*>(p_.x) + b * p_.x_strides.batch, x_ + b * p_.I, p_.I, p_.I);
          load_row(static_cast<const S*>(p_.initial_state[0]) + b * p_.P, h_ + b * p_.P, p_.P, p_.P);
        }
      });
    }
  }

  Matrix<const T> x() const {
    if constexpr (kConverts) return {x_, p_.I};
    return {reinterpret_cast<const T*>(p_.x), p_.x_strides.batch};
  }
  Matrix<const T> h() const {
    if constexpr (kConverts) return {h_, p_.P};
    return {reinterpret_cast<const T*>(p_.initial_state[0]), p_.P};
  }

  // The products of one stage's kernels, panel by panel, and then the cell.
  template <int s>
  void run_stage(Team& team) {
    for (int k = 0; k < C::kInfo.kernels; ++k) {
      if (!in_stage<C>(k, s)) continue;
      const int64_t width = kernel_width<C>(p_, k), inputs = kernel_input_rows<C>(p_, k);
      team.share(divide_up(width, kPanel<T>), [&](int, int64_t begin, int64_t end) {
        const S* kernel = static_cast<const S*>(p_.kernels[k]);
        T* z = z_ + z_begin_[k];
        if constexpr (!projects<C>(s)) {
          step_product<S>({p_.B, p_.I, width, x(), {kernel, width}, bias_ + z_begin_[k], 0, z, z_width_}, begin, end);
        }
        const Matrix<const T> left = s == 0 ? h() : Matrix<const T>{operand_, H_()};
        const Matrix<const S> rows{kernel + inputs * width, width};
        StepProduct<S> recurrent{p_.B, stage_depth(p_, s), width, left, rows, z, z_width_, z, z_width_};
        if constexpr (projects<C>(s)) {
          recurrent.init = bias_ + z_begin_[k];
          recurrent.init_stride = 0;
        }
        if constexpr (C::kRecurrentBias) {
          recurrent.init = recurrent_bias_ + z_begin_[k];
          recurrent.init_stride = 0;
          recurrent.out = zh_ + z_begin_[k];
        }
        step_product(recurrent, begin, end);
      });
    }
    team.share(p_.B, [&](int, int64_t begin, int64_t end) {
      for (int64_t b = begin; b < end; ++b) {
        if (p_.lengths == nullptr || p_.lengths[b] > 0) {
          for (int64_t unit = 0; unit < stage_units<C>(p_, s); unit += kUnits) apply_cell<s>(b, unit);
        } else if (s == C::kStages - 1) {
          skip_row(b);
        }
      }
    });
  }

  int64_t width(int state) const { return state == 0 ? p_.P : p_.H; }
  const S* state(int index, int64_t b) const {
    return static_cast<const S*>(p_.initial_state[index]) + b * width(index);
  }
  S* y(int64_t b) const { return static_cast<S*>(p_.y) + b * p_.y_strides.batch; }

  template <int s>
  void apply_cell(int64_t b, int64_t unit) const {
    const int64_t count = smaller(kUnits, stage_units<C>(p_, s) - unit);
    T h_prev[kUnits], h[kUnits], c[kUnits], saved[kSaved + 1][kUnits];
    if constexpr (!C::kInfo.projected) load_row(state(0, b) + unit, h_prev, count, kUnits);
    if constexpr (kHasC && s == C::kStateStage) load_row(state(1, b) + unit, c, count, kUnits);
    ForwardUnits<T> at;
    for (int gate = 0; gate < C::kInfo.gates + C::kInfo.projected; ++gate) {
      const GatePlace place = gate_place<C>(gate);
      const int64_t column = z_begin_[place.kernel] + place.index * p_.H + unit;
      at.zx[gate] = z_ + b * z_width_ + column;
      at.zh[gate] = zh_ + (C::kRecurrentBias ? b * z_width_ + column : 0);
    }
    if constexpr (projects<C>(s)) at.zh[C::kInfo.gates] = at.zx[C::kInfo.gates];
    for (int k = 0; k < C::kPeepholes; ++k) at.peephole[k] = peepholes_ + k * H_() + unit;
    at.h_prev = h_prev;
    at.h = h;
    at.c = c;
    at.operand = operand_ + b * H_() + unit;
    for (int k = 0; k < C::kCarry; ++k) at.carry[k] = carry_ + (b * C::kCarry + k) * H_() + unit;
    for (int k = 0; k < kSaved; ++k) at.saved[k] = saved[k];
    forward_units<C, s, kUnits>(at, options_);
    if constexpr (s == C::kStages - 1) {
      store_row(h, y(b) + unit, count, kUnits);
      store_row(h, static_cast<S*>(p_.final_state[0]) + b * p_.P + unit, count, kUnits);
    }
    if constexpr (s != C::kStateStage) return;
    if constexpr (kHasC) store_row(c, static_cast<S*>(p_.final_state[1]) + b * p_.H + unit, count, kUnits);
    if (p_.saved == nullptr) return;
    S* to = static_cast<S*>(p_.saved) + b * kSaved * p_.H + unit;
    for (int k = 0; k < kSaved; ++k) store_row(saved[k], to + k * p_.H, count, kUnits);
  }

  // A row that has ended: no output, and the state stays.
  void skip_row(int64_t b) const {
    memset(y(b), 0, p_.P * sizeof(S));
    for (int k = 0; k < C::kInfo.states; ++k) {
      memcpy(static_cast<S*>(p_.final_state[k]) + b * width(k), state(k, b), width(k) * sizeof(S));
    }
  }

  const SequenceForwardParams& p_;
  const CellOptions<T> options_;
  int64_t z_begin_[C::kInfo.kernels], z_width_ = 0;  // each kernel's preactivations begin at a whole panel
  T* z_;                                             // [B, z_width_]: x . W + bias; with h . R unless that has a bias
  T* zh_;              // [B, z_width_]: h . R + recurrent bias; one row of zeros without such a bias
  T* bias_;            // [z_width_]
  T* recurrent_bias_;  // [z_width_]
  T* x_;               // [B, I], converted
  T* h_;               // [B, P], converted
  T* peepholes_;       // [kPeepholes, H_]
  T* operand_;         // [B, H_]
  T* carry_;           // [B, kCarry, H_]
};

}  // namespace fused_rnn::FUSED_RNN_TARGET
