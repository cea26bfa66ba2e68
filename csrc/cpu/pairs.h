// What the backward time loop of a block of rows leaves behind of each (step, row) pair of a chunk of steps, and the
// gradients that are sums over all pairs: those of the weights and biases. Chunks are short, so that what a step leaves
// behind is still in the caches when the sums take it in.
#pragma once

#include "csrc/cpu/pack.h"
#include "csrc/cpu/team.h"
#include "csrc/cpu/weight_gradient.h"
#include "csrc/cpu/workspace.h"

namespace fused_rnn::FUSED_RNN_TARGET {

template <typename C, typename S>
struct Pairs {
  using T = Compute<S>;
  using F = Factor<S>;

  Pairs() = default;
  // Of one of `blocks` blocks, of at most `rows` rows; `members` work on it together.
  Pairs(const SequenceBackwardParams& of, int64_t blocks, int64_t rows, int members, Workspace& workspace)
      : params(&of),
        H_(round_up(of.H, kLanes<T>)),
        P_(round_up(of.P, kLanes<T>)),
        column_width(whole_terms<F>(of.H)),
        capacity(smaller(larger(larger(kChunkPairs / blocks, kDepth), rows), of.T * rows)),
        d_z_stride(C::kColumns * column_width + (C::kInfo.projected ? whole_terms<F>(of.P) : 0)) {
    all_d_z = workspace.take<F>(capacity * d_z_stride);
    operand = workspace.take<F>(C::kStages > 1 ? capacity * H_ : 0);
    x_rows = workspace.take<const S*>(capacity);
    h_rows = workspace.take<const S*>(capacity);
    masked_h = workspace.take<F>(params->state_mask != nullptr ? capacity * P_ : 0);
    for (int i = 0; i < kLefts; ++i) {
      left[i].M = i == 0 ? params->I : stage_depth(*params, i - 1);
      left[i].data = workspace.take<F>(left[i].size(capacity));
    }
    find_jobs();
    const bool one_chunk = blocks == 1 && capacity == of.T * rows;
    int64_t scratch_rows = 0;
    for (int i = 0; i < jobs; ++i) {
      job[i].sum = one_chunk ? nullptr : workspace.take<T>(job[i].sum_size());
      if (one_chunk) scratch_rows = larger(scratch_rows, job[i].M());
    }
    scratch_size = (kDepth + scratch_rows) * kPanel<T>;
    bias_sum = workspace.take<T>(C::kColumns * column_width);
    bias_part = workspace.take<T>(C::kColumns * column_width);
    thread_scratch = workspace.take<T>(scratch_size * members);
  }

  F* d_z(int64_t pair, int column) const { return all_d_z + pair * d_z_stride + column * column_width; }

  // Notes where a pair's x and h before the step stand, and applies the mask that multiplied h in between, if any.
  void set_inputs(int64_t pair, const S* x, const S* h, const S* mask) const {
    x_rows[pair] = x;
    h_rows[pair] = h;
    if (params->state_mask == nullptr) return;
    F* masked = masked_h + pair * P_;
    load_row(h, masked, params->P, P_);
    if (mask == nullptr) return;
    for (int64_t n = 0; n < params->P; ++n) convert(widen(h[n]) * widen(mask[n]), masked[n]);
  }

  // Packs x and h of the pairs [begin, end) as left operands. Their rows stand far apart: unless asked for ahead, each
  // would be waited for.
  void pack_inputs(int64_t begin, int64_t end) const {
    for (int64_t pair = begin, packed; pair < end; pair += packed) {
      for (int64_t ahead = pair + kAhead; ahead < smaller(pair + kAhead + kTerms<F>, end); ++ahead) {
        prefetch_row(x_rows[ahead], params->I);
        if (params->state_mask == nullptr) prefetch_row(h_rows[ahead], params->P);
      }
      const bool more = pair + 1 < end;
      left[0].pack(x_rows[pair], more ? x_rows[pair + 1] : nullptr, pair);
      if (params->state_mask == nullptr) {
        packed = left[1].pack(h_rows[pair], more ? h_rows[pair + 1] : nullptr, pair);
      } else {
        const F* masked = masked_h + pair * P_;
        packed = left[1].pack(masked, more ? masked + P_ : nullptr, pair);
      }
    }
  }

  // Takes a chunk into the sums, and stores them after the last: of several blocks, finish() does.
  void add(const GradientChunk& chunk, Team& team) const {
    if constexpr (C::kStages > 1) {
      team.share(chunk.pairs, [&](int, int64_t begin, int64_t end) {
        for (int64_t pair = begin; pair < end;) {
          const F* row = operand + pair * H_;
          pair += left[2].pack(row, pair + 1 < end ? row + H_ : nullptr, pair);
        }
      });
    }
    for (const GradientLeft<F>& each : left) each.end(chunk.pairs);
    // Each part packs its panel's d_z again: only where there are few panels for so many threads.
    const int64_t parts = team.members() > 1 ? divide_up(2 * team.members(), last_panel[jobs - 1]) : 1;
    team.share(last_panel[jobs - 1] * parts, [&](int member, int64_t begin, int64_t end) {
      for (int64_t task = begin; task < end; ++task) {
        const JobPanel at = job_panel(task / parts);
        const int64_t tiles = job[at.job].tiles(), part = task % parts;
        weight_gradient_panel(job[at.job], chunk, at.panel, tiles * part / parts, tiles * (part + 1) / parts,
                              thread_scratch + member * scratch_size);
      }
    });
    team.share(divide_up(C::kColumns * column_width, kPanel<T>), [&](int, int64_t begin, int64_t end) {
      const int64_t first = begin * kPanel<T>, columns = smaller(end * kPanel<T>, C::kColumns * column_width) - first;
      sum_rows(all_d_z + first, d_z_stride, chunk.pairs, columns, !chunk.first, bias_part + first, bias_sum + first);
    });
    if (chunk.last) store_biases();
  }

  // Adds the sums of other blocks to those of the first, whole panels at a time, and stores the columns that there are.
  template <typename Block>
  static void finish(const Block* blocks, int64_t count, Team& team) {
    const Pairs& all = blocks[0].pairs;
    team.share(all.last_panel[all.jobs - 1], [&](int, int64_t begin, int64_t end) {
      for (int64_t task = begin; task < end; ++task) {
        const JobPanel at = all.job_panel(task);
        const WeightGradient<S>& g = all.job[at.job];
        T* sums = g.panel_sums(at.panel);
        for (int64_t block = 1; block < count; ++block) {
          add_to(sums, blocks[block].pairs.job[at.job].panel_sums(at.panel), g.M() * kPanel<T>);
        }
        each_gradient_tile(g, 0, g.tiles(), [&](const GradientLeft<F>&, int64_t, int64_t m, int64_t rows) {
          store_weight_gradient(g, at.panel, m, rows, sums);
        });
      }
    });
    for (int64_t block = 1; block < count; ++block) {
      add_to(all.bias_sum, blocks[block].pairs.bias_sum, C::kColumns * all.column_width);
    }
    all.store_biases();
  }

  static void add_to(T* __restrict to, const T* __restrict from, int64_t count) {
    for (int64_t n = 0; n < count; ++n) to[n] += from[n];
  }

  static constexpr int64_t kChunkPairs = 4 * kDepth;  // of all blocks
  static constexpr int kLast = C::kStages - 1;
  static constexpr int kLefts = 2 + kLast;  // x, h, and the operand of a second stage
  static constexpr int kMaxJobs = 2 * C::kInfo.gates + 1;

  // For each kernel: the rows of x and those of h (or of the operand of its stage), together where they meet the same
  // columns of d_z.
  void find_jobs() {
    jobs = 0;
    for (int gate = 0; gate < C::kInfo.gates;) {
      const int recurrent = kLast > 0 && gate >= C::kStage[kLast].first ? 2 : 1;
      const int gates = gates_together(gate);
      if (shares_column(gate)) {
        add_job(gate, gates, 0, C::input_column(gate), left[0], left[recurrent]);
      } else {
        add_job(gate, gates, 0, C::input_column(gate), left[0], {});
        add_job(gate, gates, params->I, C::recurrent_column(gate), left[recurrent], {});
      }
      gate += gates;
    }
    if constexpr (C::kInfo.projected) {
      add_job(C::kInfo.gates, 1, 0, C::recurrent_column(C::kInfo.gates), left[kLefts - 1], {});
    }
  }

  // Whether a gate's products with x and with h meet the same column of d_z.
  static constexpr bool shares_column(int gate) { return C::input_column(gate) == C::recurrent_column(gate); }

  // The gates of one kernel from this one on that a job can take.
  static constexpr int gates_together(int gate) {
    int gates = 1;
    if (!shares_column(gate)) return gates;
    const int kernel = gate_place<C>(gate).kernel;
    while (gate + gates < C::kInfo.gates && gate_place<C>(gate + gates).kernel == kernel &&
           shares_column(gate + gates)) {
      ++gates;
    }
    return gates;
  }

  // From kernel row `row` on.
  void add_job(int gate, int gates, int64_t row, int column, const GradientLeft<F>& first,
               const GradientLeft<F>& second) {
    const GatePlace place = gate_place<C>(gate);
    WeightGradient<S>& g = job[jobs];
    g.left[0] = first, g.left[1] = second;
    g.d_z = d_z(0, column);
    g.d_z_stride = d_z_stride;
    g.N = gate < C::kInfo.gates ? params->H : params->P;
    g.gates = gates;
    g.out_stride = kernel_width<C>(*params, place.kernel);
    g.out = static_cast<S*>(params->d_kernels[place.kernel]) + row * g.out_stride + place.index * params->H;
    last_panel[jobs] = (jobs > 0 ? last_panel[jobs - 1] : 0) + g.panels();
    ++jobs;
  }

  // Where a panel of all jobs' stands.
  struct JobPanel {
    int job;
    int64_t panel;
  };
  JobPanel job_panel(int64_t panel) const {
    int i = 0;
    while (panel >= last_panel[i]) ++i;
    return {i, panel - (i > 0 ? last_panel[i - 1] : 0)};
  }

  void store_biases() const {
    for (int column = 0; column < C::kColumns; ++column) {
      for (int64_t unit = 0; unit < params->H; unit += kPanel<T>) {
        store_bias_gradient<C, S>(*params, column, unit, bias_sum + column * column_width + unit);
      }
    }
  }

  const SequenceBackwardParams* params;
  int64_t H_, P_;        // with padding to whole vectors
  int64_t column_width;  // of a column of d_z: H in whole terms
  int64_t capacity, d_z_stride;
  F* all_d_z;        // [capacity, d_z_stride]: kColumns of column_width, and a projection's of P in whole terms
  F* operand;        // [capacity, H_]: left side of the second stage's product
  const S** x_rows;  // [capacity]: where x stands
  const S** h_rows;  // [capacity]: where h before the step stands, without its mask
  F* masked_h;       // [capacity, P_]: the same with it, if there is one
  GradientLeft<F> left[kLefts];  // the left operands of the weight gradients
  WeightGradient<S> job[kMaxJobs];
  int64_t last_panel[kMaxJobs];  // the panels of all jobs up to and with this one
  int jobs;
  T* bias_sum;        // [kColumns * column_width]
  T* bias_part;       // [kColumns * column_width]
  T* thread_scratch;  // [members, scratch_size]
  int64_t scratch_size;
};

}  // namespace fused_rnn::FUSED_RNN_TARGET
