// The backward pass outside of the steps: the gradients of x and of the weights, which are large products of a chunk of
// loop steps each, those of the biases, which are sums over rows, and that of the initial state.
#pragma once

#include "csrc/cuda/gates.cuh"
#include "csrc/cuda/rows.cuh"
#include "csrc/cuda/time_loop_host.h"
#include "csrc/cuda/workspace.h"

namespace fused_rnn::cuda {

// Whether the columns of each kernel's gates stand side by side in d_z, in the kernel's order.
template <typename CellType>
constexpr bool columns_are_windows() {
  for (int gate = 1; gate < CellType::kInfo.gates; ++gate) {
    if (kernel_of<CellType>(gate) != kernel_of<CellType>(gate - 1)) continue;
    if (CellType::input_column(gate) != CellType::input_column(gate - 1) + 1) return false;
    if (CellType::recurrent_column(gate) != CellType::recurrent_column(gate - 1) + 1) return false;
  }
  return true;
}

template <typename CellType, typename S>
class LargeProducts {
 public:
  LargeProducts(const SequenceBackwardParams& params, const BackwardBuffers& buffers, const Rows& batch_rows)
      : p(params), work(buffers), rows(batch_rows) {
    for (int k = 0; k < CellType::kInfo.kernels; ++k) {
      d_kernels[k] = static_cast<C*>(std::is_same_v<S, C> ? p.d_kernels[k] : work.d_kernels[k]);
    }
  }

  // What the loop steps first .. first + steps - 1 add to d_x, d_kernels and the sums of d_z. The first chunk to come
  // sets what the others add to.
  Status add_chunk(int64_t first, int64_t steps, bool first_chunk) {
    FUSED_RNN_RETURN_IF_ERROR(gather_operands(first, steps));
    for (int gate = 0, k = 0; k < CellType::kInfo.kernels; gate += CellType::kInfo.kernel_gates[k++]) {
      FUSED_RNN_RETURN_IF_ERROR(multiply_kernel(k, gate, steps * p.B, first_chunk));
    }
    ScatterRows<S> d_x{};
    d_x.rows = rows, d_x.first_step = first, d_x.steps = steps, d_x.width = p.I;
    d_x.source = static_cast<const C*>(work.d_x);
    d_x.target = static_cast<S*>(p.d_x), d_x.strides = p.x_strides;
    FUSED_RNN_RETURN_IF_ERROR(launch_rows(scatter_rows_kernel<S>, steps * p.B, p.stream, d_x));
    return sum_d_z(steps * p.B, first_chunk);
  }

  // Ends the gradients after the last chunk, the one that starts with loop step 0.
  Status finish() {
    for (int gate = 0, k = 0; k < CellType::kInfo.kernels; gate += CellType::kInfo.kernel_gates[k++]) {
      if (stage_of(gate) == 0) FUSED_RNN_RETURN_IF_ERROR(multiply_initial_state(k, gate));
      const int64_t count = kernel_rows<CellType>(p, k) * kernel_width<CellType>(p, k);
      if (!std::is_same_v<S, C>) {
        FUSED_RNN_RETURN_IF_ERROR(round_values<S>(d_kernels[k], p.d_kernels[k], count, p.stream));
      }
      if (kernel_input_rows<CellType>(p, k) > 0) {
        FUSED_RNN_RETURN_IF_ERROR(round_bias(k, CellType::input_column(gate)));
      }
    }
    if (CellType::kRecurrentBias) {
      FUSED_RNN_RETURN_IF_ERROR(round_bias(CellType::kInfo.biases - 1, CellType::recurrent_column(0)));
    }
    if constexpr (CellType::kPeepholes > 0) {
      for (int k = 0; k < CellType::kPeepholes; ++k) {
        const int bias = CellType::kInfo.biases - CellType::kPeepholes + k;
        FUSED_RNN_RETURN_IF_ERROR(round_bias(bias, CellType::peephole_column(k)));
      }
    }
    FUSED_RNN_RETURN_IF_ERROR(round_values<S>(work.d_h, p.d_initial_state[0], p.B * p.P, p.stream));
    if (CellType::kInfo.states == 1) return {};
    return round_values<S>(work.d_c, p.d_initial_state[1], p.B * p.H, p.stream);
  }

 private:
  using C = Compute<S>;
  static_assert(columns_are_windows<CellType>());
  const SequenceBackwardParams& p;
  const BackwardBuffers& work;
  const Rows rows;
  C* d_kernels[kMaxKernels] = {};  // as kernels

  static constexpr int stage_of(int gate) {
    return CellType::kStages > 1 && gate >= CellType::kStage[CellType::kStages - 1].first ? 1 : 0;
  }

  // x and h_prev [steps * B, I or P] in loop-step order.
  Status gather_operands(int64_t first, int64_t steps) {
    GatherRows<S> gather{};
    gather.rows = rows, gather.first_step = first, gather.steps = steps, gather.width = p.I;
    gather.source = static_cast<const S*>(p.x), gather.strides = p.x_strides;
    gather.out = static_cast<S*>(work.x);
    FUSED_RNN_RETURN_IF_ERROR(launch_rows(gather_rows_kernel<S>, steps * p.B, p.stream, gather));
    gather.width = p.P, gather.delay = 1;
    gather.source = static_cast<const S*>(p.y), gather.strides = p.y_strides;
    gather.factors = static_cast<const S*>(p.state_mask);
    gather.initial = static_cast<const S*>(p.initial_state[0]);
    gather.out = static_cast<S*>(work.h_prev);
    return launch_rows(gather_rows_kernel<S>, steps * p.B, p.stream, gather);
  }

  // The products of kernel k, whose gates start at `gate`.
  Status multiply_kernel(int k, int gate, int64_t chunk_rows, bool first_chunk) {
    const int64_t width = kernel_width<CellType>(p, k), inputs = kernel_input_rows<CellType>(p, k);
    const int64_t depth = stage_depth(p, stage_of(gate));
    const Matrix d_z_recurrent{d_z(CellType::recurrent_column(gate)), d_z_width<CellType>(p)};
    const Matrix h{stage_of(gate) == 0 ? work.h_prev : work.operand, depth};
    const double beta = first_chunk ? 0 : 1;
    // d_R = (first chunk) or += h_prev^T . d_z
    FUSED_RNN_RETURN_IF_ERROR(multiply_large(p, {depth, width, chunk_rows}, transposed(h), d_z_recurrent,
                                             {d_kernels[k] + inputs * width, width, beta}));
    if (inputs == 0) return {};
    const Matrix d_z_input{d_z(CellType::input_column(gate)), d_z_width<CellType>(p)};
    const Matrix weights{p.kernels[k], width}, x{work.x, p.I};
    // d_x = (kernel 0) or += (the next) d_z . W^T
    FUSED_RNN_RETURN_IF_ERROR(multiply_large(p, {chunk_rows, p.I, width}, d_z_input, transposed(weights),
                                             {work.d_x, p.I, k == 0 ? 0.0 : 1.0}));
    // d_W = (first chunk) or += x^T . d_z
    return multiply_large(p, {p.I, width, chunk_rows}, transposed(x), d_z_input, {d_kernels[k], width, beta});
  }

  // d_h += d_z . R^T at loop step 0, for a kernel of the first stage.
  Status multiply_initial_state(int k, int gate) {
    const int64_t width = kernel_width<CellType>(p, k);
    const Matrix weights{static_cast<const S*>(p.kernels[k]) + p.I * width, width};
    return multiply_large(p, {p.B, p.P, width}, {d_z(CellType::recurrent_column(gate)), d_z_width<CellType>(p)},
                          transposed(weights), {work.d_h, p.P, 1.0});
  }

  // d_z_sums [d_z_width] = (first chunk) or += the sum of the rows of d_z, in two steps of fixed order.
  Status sum_d_z(int64_t chunk_rows, bool first_chunk) {
    SumRows<S> blocks{};
    blocks.in = d_z(0), blocks.out = static_cast<C*>(work.partial_sums);
    blocks.rows = chunk_rows, blocks.columns = d_z_width<CellType>(p);
    blocks.rows_per_sum = std::max<int64_t>(64, divide_up(chunk_rows, kPartialSums));
    FUSED_RNN_RETURN_IF_ERROR(sum_rows(blocks, p.stream));
    SumRows<C> sums{};
    sums.in = blocks.out, sums.out = static_cast<C*>(work.d_z_sums);
    sums.rows = divide_up(chunk_rows, blocks.rows_per_sum), sums.columns = blocks.columns;
    sums.rows_per_sum = sums.rows, sums.add = !first_chunk;
    return sum_rows(sums, p.stream);
  }

  Status round_bias(int bias, int column) {
    return round_values<S>(static_cast<const C*>(work.d_z_sums) + column * p.H, p.d_biases[bias],
                           CellType::kInfo.bias_gates[bias] * p.H, p.stream);
  }

  const S* d_z(int column) const { return static_cast<const S*>(work.d_z_rounded) + column * p.H; }
};

}  // namespace fused_rnn::cuda
