// What the backward time loop leaves behind of each (step, row) pair, and the gradients that are sums over all of them:
// those of the weights and biases.
#pragma once

#include "csrc/cpu/pack.h"
#include "csrc/cpu/rows.h"
#include "csrc/cpu/team.h"
#include "csrc/cpu/weight_gradient.h"
#include "csrc/cpu/workspace.h"

namespace fused_rnn::FUSED_RNN_TARGET {

template <typename C, typename S>
struct Pairs {
  using T = Compute<S>;

  Pairs(const SequenceBackwardParams& of, Workspace& workspace)
      : params(of),
        H_(round_up(of.H, kLanes<T>)),
        P_(round_up(of.P, kLanes<T>)),
        count(count_pairs(of)),
        d_z_stride(C::kColumns * H_ + (C::kInfo.projected ? P_ : 0)) {
    all_d_z = workspace.take<T>(count * d_z_stride + kPanel<T>);  // so that whole panels may be read
    operand = workspace.take<T>(C::kStages > 1 ? count * H_ : 0);
    x_rows = workspace.take<const S*>(count);
    h_rows = workspace.take<const S*>(count);
    masked_h = workspace.take<T>(params.state_mask != nullptr ? count * P_ : 0);
    thread_scratch =
        workspace.take<T>(WeightGradientScratch<T>::size(gradient_width()) * larger(1, params.threads.count));
  }

  T* d_z(int64_t pair, int column) const { return all_d_z + pair * d_z_stride + column * H_; }

  // For each kernel, some gates at a time: the rows of x and those of h (or of the operand of its stage), together
  // where they meet the same columns of d_z.
  void weight_gradients(Team& team) const {
    constexpr int kMaxJobs = 2 * C::kInfo.gates + 1;
    WeightGradient<S> jobs[kMaxJobs];
    int64_t last_unit[kMaxJobs], units = 0;  // a task counts as many units as it has gates
    int jobs_made = 0;
    const auto add = [&](const WeightGradient<S>& job) {
      jobs[jobs_made] = job;
      last_unit[jobs_made++] = units += weight_gradient_tasks(job) * job.gates;
    };
    for (int gate = 0; gate < C::kInfo.gates;) {
      const GatePlace place = gate_place<C>(gate);
      const int gates = gates_together<T>(C::kInfo.kernel_gates[place.kernel] - place.index, H_);
      WeightGradient<S> job = weight_gradient(gate, gates, 0, C::input_column(gate));
      job.left[0].rows = x_rows, job.left[0].M = params.I;
      if (C::input_column(gate) == C::recurrent_column(gate)) {
        job.left[1] = recurrent_left(gate);
        add(job);
      } else {
        add(job);
        job = weight_gradient(gate, gates, params.I, C::recurrent_column(gate));
        job.left[0] = recurrent_left(gate);
        add(job);
      }
      gate += gates;
    }
    if constexpr (C::kInfo.projected) {
      WeightGradient<S> job = weight_gradient(C::kInfo.gates, 1, 0, C::recurrent_column(C::kInfo.gates));
      job.left[0] = recurrent_left(C::kInfo.gates);
      add(job);
    }
    team.share(units, [&](int part, int64_t begin, int64_t end) {
      const WeightGradientScratch<T> scratch(thread_scratch + part * WeightGradientScratch<T>::size(gradient_width()),
                                             gradient_width());
      int i = 0;
      for (int64_t unit = begin; unit < end; ++unit) {
        while (unit >= last_unit[i]) ++i;
        const int64_t in_job = unit - (i > 0 ? last_unit[i - 1] : 0);
        if (in_job % jobs[i].gates == 0) weight_gradient_task(jobs[i], in_job / jobs[i].gates, scratch);
      }
    });
  }

  // Each bias's: the sum of its columns of d_z over all pairs.
  void bias_gradients(Team& team) const {
    const int64_t panels = divide_up(H_, kPanel<T>);
    team.share(C::kColumns * panels, [&](int, int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) bias_gradient(static_cast<int>(i / panels), i % panels * kPanel<T>);
    });
  }

  static constexpr int kLast = C::kStages - 1;

  // The most columns of a job.
  int64_t gradient_width() const { return larger(gates_together<T>(C::kInfo.gates, H_) * H_, P_); }

  // All but the left operands; from kernel row `row` on.
  WeightGradient<S> weight_gradient(int gate, int gates, int64_t row, int column) const {
    const GatePlace place = gate_place<C>(gate);
    WeightGradient<S> g;
    g.d_z = d_z(0, column);
    g.d_z_stride = d_z_stride;
    g.pairs = count;
    g.N = gate < C::kInfo.gates ? params.H : params.P;
    g.gates = gates;
    g.threads = params.threads.count;
    g.out_stride = kernel_width<C>(params, place.kernel);
    g.out = static_cast<S*>(params.d_kernels[place.kernel]) + row * g.out_stride + place.index * params.H;
    return g;
  }

  // What meets a gate's rows of h: h before the step, or the operand of its stage.
  GradientLeft<S> recurrent_left(int gate) const {
    GradientLeft<S> left;
    const int stage = kLast > 0 && gate >= C::kStage[kLast].first ? kLast : 0;
    left.M = stage_depth(params, stage);
    if (stage > 0) {
      left.array = operand, left.stride = H_;
    } else if (params.state_mask != nullptr) {
      left.array = masked_h, left.stride = P_;
    } else {
      left.rows = h_rows;
    }
    return left;
  }

  // Sums one panel of one column of d_z over all pairs, and stores it into the biases that it is the gradient of.
  // Blocks of pairs are summed first: one long sum would lose digits.
  void bias_gradient(int column, int64_t unit) const {
    T sum[kPanel<T>] = {};
    for (int64_t begin = 0; begin < count; begin += kDepth) {
      T part[kPanel<T>] = {};
      for (int64_t pair = begin; pair < smaller(begin + kDepth, count); ++pair) {
        const T* from = d_z(pair, column) + unit;
        for (int n = 0; n < kPanel<T>; ++n) part[n] += from[n];
      }
      for (int n = 0; n < kPanel<T>; ++n) sum[n] += part[n];
    }
    store_bias_gradient<C, S>(params, column, unit, sum);
  }

  const SequenceBackwardParams& params;
  const int64_t H_, P_;  // with padding to whole vectors
  const int64_t count, d_z_stride;
  T* operand;         // [count, H_]: left side of the second stage's product
  const S** x_rows;   // [count]: where x stands
  const S** h_rows;   // [count]: where h before the step stands, without its mask
  T* masked_h;        // [count, P_]: the same with it, if there is one
  T* all_d_z;         // [count, d_z_stride]: kColumns of H_ each, and a projection's of P_
  T* thread_scratch;  // one WeightGradientScratch for each thread
};

}  // namespace fused_rnn::FUSED_RNN_TARGET
