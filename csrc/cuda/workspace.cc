// How the time loops divide the caller's workspace.
#include "csrc/cuda/workspace.h"

#include <algorithm>

#include "csrc/cells/cells.h"
#include "csrc/cuda/launch.h"
#include "csrc/cuda/time_loop.h"

namespace fused_rnn::cuda {
namespace {

// Hands out pieces of the workspace one after another; without a workspace it only counts.
class Pieces {
 public:
  explicit Pieces(void* base) : base_(static_cast<char*>(base)) {}

  void* take(int64_t bytes) {
    constexpr size_t kAlignment = 64;
    const size_t at = bytes_;
    bytes_ += (static_cast<size_t>(bytes) + kAlignment - 1) / kAlignment * kAlignment;
    return base_ == nullptr ? nullptr : base_ + at;
  }
  size_t bytes() const { return bytes_; }

 private:
  char* base_;
  size_t bytes_ = 0;
};

struct CellSizes {
  CellInfo info;
  int stages, carry;
  int64_t d_z_width, kernel_sizes[kMaxKernels];
};

CellSizes cell_sizes(const SequenceParams& p) {
  return with_cell(p.cell, [&](auto c) {
    using CellType = decltype(c);
    CellSizes sizes{CellType::kInfo, CellType::kStages, CellType::kCarry, d_z_width<CellType>(p), {}};
    for (int k = 0; k < CellType::kInfo.kernels; ++k) {
      sizes.kernel_sizes[k] = kernel_rows<CellType>(p, k) * kernel_width<CellType>(p, k);
    }
    return sizes;
  });
}

int64_t storage_bytes(DType dtype) {
  return dtype == DType::kFloat64 ? 8 : dtype == DType::kFloat32 ? 4 : 2;
}
int64_t compute_bytes(DType dtype) {
  return dtype == DType::kFloat64 ? 8 : 4;
}

int64_t chunk_steps(int64_t bytes_per_step, int64_t chunk_bytes, int64_t T) {
  return std::max<int64_t>(1, std::min(T, chunk_bytes / std::max<int64_t>(1, bytes_per_step)));
}

// Chooses between the drivers: the persistent one runs where it can and is predicted to be faster, unless the caller
// demands one of the two; not for a single step, which needs no exchange. Then divides what it needs. The rows i are
// forward the input of stage i, backward what comes from it.
PersistentWorkspace take_persistent(const SequenceParams& p, int count, bool forward, Pieces& pieces) {
  PersistentWorkspace w{};
  if (p.driver == CudaDriver::kStepwise || p.T <= 1) return w;
  Gpu gpu{};
  if (Status status = describe_gpu(&gpu); !status.ok()) {
    w.plan.why_not = "there is no GPU";
    return w;
  }
  w.plan = forward ? plan_forward(p, count, gpu) : plan_backward(p, count, gpu);
  w.chosen = w.plan.why_not.empty() && (p.driver == CudaDriver::kPersistent || w.plan.pays);
  if (!w.chosen) return w;
  w.flags = pieces.take(w.plan.side_by_side * w.plan.flag_bytes);
  const size_t begin = pieces.bytes();
  for (int n = 0; n < w.plan.side_by_side; ++n) {
    for (int i = 0; i < w.plan.stages; ++i) {
      const int64_t bytes = w.plan.exchange_bytes[forward ? i : w.plan.stages - 1 - i];
      w.rows[n][i][0] = pieces.take(bytes);
      if (i == 0) w.rows[n][i][1] = pieces.take(bytes);
    }
  }
  w.exchange = w.rows[0][0][0];
  w.exchange_bytes = static_cast<int64_t>(pieces.bytes() - begin);
  w.streamed = pieces.take(w.plan.streamed_bytes * w.plan.side_by_side * w.plan.groups * w.plan.blocks);
  return w;
}

}  // namespace

int64_t forward_chunk(const SequenceParams& p, int64_t bytes) {
  const int64_t zx = cell_sizes(p).info.gates * p.H * compute_bytes(p.dtype);
  return chunk_steps(p.B * (p.I * storage_bytes(p.dtype) + zx), bytes, p.T);
}

int64_t backward_chunk(const SequenceParams& p, int64_t bytes) {
  const CellSizes cell = cell_sizes(p);
  const int64_t S = storage_bytes(p.dtype), C = compute_bytes(p.dtype);
  const int64_t operands = p.P + (cell.stages > 1 ? p.H : 0);  // h_prev, operand
  return chunk_steps(p.B * ((cell.d_z_width + operands) * S + p.I * (S + C)), bytes, p.T);
}

ForwardWorkspace divide_forward(const SequenceForwardParams* sequences, int count) {
  const SequenceForwardParams& p = *sequences;
  const CellSizes cell = cell_sizes(p);
  const int64_t S = storage_bytes(p.dtype), C = compute_bytes(p.dtype), state = p.B * p.H * C;
  Pieces pieces(p.workspace);
  ForwardWorkspace w{};
  w.persistent = take_persistent(p, count, true, pieces);
  w.lengths = static_cast<int64_t*>(pieces.take(p.B * static_cast<int64_t>(sizeof(int64_t))));
  if (p.T > 1 && p.I > 0) w.chunk = forward_chunk(p, kForwardChunkBytes);
  for (int n = 0; n < w.persistent.side_by_side(); ++n) {
    ForwardBuffers& buffers = w.sequence[n];
    if (cell.stages > 1) {
      buffers.operand = pieces.take(state);
      buffers.carry = pieces.take(state * cell.carry);
    }
    if (p.T > 1) {
      buffers.h[0] = pieces.take(p.B * p.P * C);
      buffers.h[1] = pieces.take(p.B * p.P * C);
      if (cell.info.states > 1) buffers.c = pieces.take(state);
    }
    if (w.chunk == 0) continue;
    buffers.x = pieces.take(w.chunk * p.B * p.I * S);
    buffers.zx = pieces.take(w.chunk * state * cell.info.gates);
  }
  w.bytes = pieces.bytes();
  return w;
}

BackwardWorkspace divide_backward(const SequenceBackwardParams* sequences, int count) {
  const SequenceBackwardParams& p = *sequences;
  const CellSizes cell = cell_sizes(p);
  const int64_t S = storage_bytes(p.dtype), C = compute_bytes(p.dtype), state = p.B * p.H, d_z = p.B * cell.d_z_width;
  Pieces pieces(p.workspace);
  BackwardWorkspace w{};
  w.persistent = take_persistent(p, count, false, pieces);
  w.lengths = static_cast<int64_t*>(pieces.take(p.B * static_cast<int64_t>(sizeof(int64_t))));
  w.chunk = backward_chunk(p, kBackwardChunkBytes);
  for (int n = 0; n < w.persistent.side_by_side(); ++n) {
    BackwardBuffers& buffers = w.sequence[n];
    for (void*& each : buffers.d_z) each = pieces.take(d_z * C);
    buffers.d_h = pieces.take(p.B * p.P * C);
    if (cell.info.states > 1) buffers.d_c = pieces.take(state * C);
    buffers.d_z_rounded = pieces.take(w.chunk * d_z * S);
    buffers.x = pieces.take(w.chunk * p.B * p.I * S);
    buffers.h_prev = pieces.take(w.chunk * p.B * p.P * S);
    if (cell.stages > 1) buffers.operand = pieces.take(w.chunk * state * S);
    buffers.d_x = pieces.take(w.chunk * p.B * p.I * C);
    for (int k = 0; k < cell.info.kernels && S != C; ++k) {
      buffers.d_kernels[k] = pieces.take(cell.kernel_sizes[k] * C);
    }
    buffers.d_z_sums = pieces.take(cell.d_z_width * C);
    buffers.partial_sums = pieces.take(kPartialSums * cell.d_z_width * C);
  }
  w.bytes = pieces.bytes();
  return w;
}

size_t sequence_forward_workspace_bytes(const SequenceForwardParams* sequences, int count) {
  SequenceForwardParams counted = *sequences;
  counted.workspace = nullptr;
  return divide_forward(&counted, count).bytes;
}

size_t sequence_backward_workspace_bytes(const SequenceBackwardParams* sequences, int count) {
  SequenceBackwardParams counted = *sequences;
  counted.workspace = nullptr;
  return divide_backward(&counted, count).bytes;
}

}  // namespace fused_rnn::cuda
