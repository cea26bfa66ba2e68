// The division of a sequence among thread blocks: the fastest by prediction of all that are tried.
#include "csrc/cuda/persistent_plan.h"

#include <algorithm>
#include <utility>

#include "csrc/cells/cells.h"
#include "csrc/cuda/launch.h"
#include "csrc/cuda/workspace.h"

namespace fused_rnn::cuda {
namespace {

// Estimates for a Hopper GPU, of one processor where nothing else is said; other GPUs differ by less than the choices
// that depend on it do.
constexpr double kMeetingUs = 1.4;            // flags, and the first bytes of what was waited for
constexpr double kExchangeBytesPerUs = 42e3;  // from the second-level cache
constexpr double kSharedBytesPerUs = 200e3;
constexpr double kHalfFlopPerUs = 3.5e6, kTf32FlopPerUs = 1.7e6, kExactFlopPerUs = 0.35e6;
constexpr double kUnitsUs = 0.35;        // the cell, for one unit of each thread
constexpr double kFillBytesPerUs = 8e3;  // of the weights that a block gathers when a launch begins
constexpr double kLaunchUs = 15;         // a cooperative launch, beside the weights that each block reads
constexpr double kStepLaunchUs = 3;      // a kernel of the stepwise driver in a row of them
constexpr double kStepBytesPerUs = 3e6, kStepFlopPerUs = 25e6;  // its product, on the whole GPU

struct StageShape {
  int64_t units, columns, depth;  // columns: of a unit
};

struct Shape {
  int stages = 1;
  StageShape stage[2] = {};

  int64_t widest() const { return std::max(stage[0].units, stage[1].units); }
};

int64_t round_up(int64_t value, int64_t to) {
  return divide_up(value, to) * to;
}

struct Factors {
  int64_t bytes;
  double flop_per_us;
};

Factors factors_of(const SequenceParams& p) {
  if (p.dtype != DType::kFloat32) return {2, kHalfFlopPerUs};
  return {4, p.allow_tf32 ? kTf32FlopPerUs : kExactFlopPerUs};
}

int64_t partial_bytes(int64_t rows, int64_t columns) {
  return kPersistentWarps * columns * partial_stride(rows) * static_cast<int64_t>(sizeof(float));
}

// Of a chunk of a block's weights.
int64_t piece_row_bytes(const PersistentStage& stage) {
  return static_cast<int64_t>(stage.columns / kPieceColumns) * kPieceBytes;
}

// What a step takes when divided like this.
double predict_step(const PersistentPlan& plan, const Factors& factors) {
  const double row_tiles = static_cast<double>(divide_up(plan.rows, kPersistentRows));
  double us = 0;
  for (int s = 0; s < plan.stages; ++s) {
    const PersistentStage& stage = plan.stage[s];
    const double piece_row = static_cast<double>(piece_row_bytes(stage));
    const double groups_of_columns = static_cast<double>(divide_up(stage.columns, 64));
    const double exchanged = static_cast<double>(plan.rows * stage.stride * factors.bytes) * groups_of_columns;
    const double streamed = (stage.chunks - stage.resident) * piece_row * row_tiles;
    const double flop = 2.0 * static_cast<double>(round_up(plan.rows, 8) * stage.columns * stage.stride);
    us += kMeetingUs + (exchanged + streamed) / kExchangeBytesPerUs;
    us += stage.resident * piece_row * row_tiles / kSharedBytesPerUs + flop / factors.flop_per_us;
    us += kUnitsUs * static_cast<double>(divide_up(plan.rows * stage.units, kPersistentThreads));
  }
  return us;
}

double predict_stepwise_step(const SequenceParams& p, const Shape& shape, const Factors& factors) {
  double us = 0;
  for (int s = 0; s < shape.stages; ++s) {
    const StageShape& stage = shape.stage[s];
    const double weights = static_cast<double>(stage.units * stage.columns * stage.depth);
    us += std::max(kStepLaunchUs, weights * factors.bytes / kStepBytesPerUs + 2 * weights * p.B / kStepFlopPerUs);
  }
  return us;
}

// Fills in what follows from the rows of a group and the units of a block. False: it does not fit.
bool divide(const SequenceParams& p, const Shape& shape, const Gpu& gpu, const Factors& factors, int64_t rows,
            int64_t units, PersistentPlan* plan) {
  plan->rows = rows, plan->groups = static_cast<int>(divide_up(p.B, rows));
  plan->blocks = static_cast<int>(divide_up(shape.widest(), units));
  if (static_cast<int64_t>(plan->groups) * plan->blocks > gpu.processors) return false;
  plan->stages = shape.stages;
  int64_t columns = 0;
  for (int s = 0; s < shape.stages; ++s) {
    PersistentStage& stage = plan->stage[s];
    const int64_t chunk = kPieceDepthBytes / factors.bytes;
    stage.units = static_cast<int>(divide_up(shape.stage[s].units, plan->blocks));
    stage.columns = static_cast<int>(round_up(stage.units * shape.stage[s].columns, kPieceColumns));
    stage.chunks = static_cast<int>(divide_up(shape.stage[s].depth, chunk));
    stage.stride = stage.chunks * chunk;
    columns = std::max<int64_t>(columns, stage.columns);
  }
  plan->shared_bytes = partial_bytes(std::min<int64_t>(rows, kPersistentRows), columns);
  if (plan->shared_bytes > gpu.shared_bytes) return false;
  plan->streamed_bytes = 0;
  for (int s = 0; s < shape.stages; ++s) {
    PersistentStage& stage = plan->stage[s];
    const int64_t piece_row = piece_row_bytes(stage);
    const int64_t room = (gpu.shared_bytes - plan->shared_bytes) / piece_row;
    stage.resident = static_cast<int>(std::min<int64_t>(stage.chunks, room));
    plan->shared_bytes += stage.resident * piece_row;
    plan->streamed_bytes += (stage.chunks - stage.resident) * piece_row;
    plan->exchange_bytes[s] = p.B * stage.stride * factors.bytes;
  }
  plan->flag_bytes = static_cast<int64_t>(plan->groups) * plan->blocks * static_cast<int64_t>(sizeof(unsigned));
  plan->step_us = predict_step(*plan, factors);
  return true;
}

// The fastest division of one sequence, where `side_by_side` of them share the GPU.
PersistentPlan divide_fastest(const SequenceParams& p, const Shape& shape, Gpu gpu, int side_by_side) {
  const Factors factors = factors_of(p);
  PersistentPlan best{};
  best.why_not = "this GPU is too small for it";
  best.side_by_side = side_by_side;
  gpu.processors /= side_by_side;
  int64_t last_rows = 0;
  for (int64_t groups = 1; groups <= std::min<int64_t>(gpu.processors, divide_up(p.B, 8)); ++groups) {
    const int64_t rows = groups == 1 ? p.B : round_up(divide_up(p.B, groups), 8);
    if (std::exchange(last_rows, rows) == rows) continue;
    const int64_t fewest = divide_up(shape.widest(), gpu.processors / groups);
    for (int64_t units = fewest; units < fewest + kPieceColumns; ++units) {
      PersistentPlan plan{};
      plan.side_by_side = side_by_side;
      if (!divide(p, shape, gpu, factors, rows, units, &plan)) continue;
      if (best.why_not.empty() && plan.step_us >= best.step_us) continue;
      best = plan;
    }
  }
  return best;
}

// What `count` sequences of T steps take, launches included; chunk: the steps of a launch.
double predict_all(const PersistentPlan& plan, int count, int64_t T, int64_t chunk) {
  int64_t weights = plan.streamed_bytes;
  for (int s = 0; s < plan.stages; ++s) weights += plan.stage[s].resident * piece_row_bytes(plan.stage[s]);
  const double begin_us = kLaunchUs + static_cast<double>(weights) / kFillBytesPerUs;
  const auto rounds = static_cast<double>(divide_up(count, plan.side_by_side));
  return rounds * (static_cast<double>(divide_up(T, chunk)) * begin_us + T * plan.step_us);
}

// Sequences side by side have half of the processors each; one after another, each has all of them.
PersistentPlan plan_for(const SequenceParams& p, int count, const Shape& shape, const Gpu& gpu, int64_t chunk) {
  PersistentPlan best{};
  if (p.dtype == DType::kFloat64) best.why_not = "it has no float64 kernels";
  if (!gpu.cooperative) best.why_not = "this GPU cannot launch cooperative kernels";
  if (p.T == 0 || p.B == 0) best.why_not = "there is no step to run";
  if (!best.why_not.empty()) return best;
  best = divide_fastest(p, shape, gpu, 1);
  if (!best.why_not.empty()) return best;
  double us = predict_all(best, count, p.T, chunk);
  if (count > 1) {
    const PersistentPlan beside = divide_fastest(p, shape, gpu, kSideBySide);
    const double beside_us = predict_all(beside, count, p.T, chunk);
    if (beside.why_not.empty() && beside_us < us) best = beside, us = beside_us;
  }
  best.step_us *= static_cast<double>(divide_up(count, best.side_by_side));
  best.stepwise_step_us = count * predict_stepwise_step(p, shape, factors_of(p));
  best.pays = us < p.T * best.stepwise_step_us;
  return best;
}

}  // namespace

Status describe_gpu(Gpu* gpu) {
  int device = 0, cooperative = 0;
  FUSED_RNN_RETURN_IF_ERROR(cuda_status(cudaGetDevice(&device), "find the current GPU"));
  const auto ask = [&](int* value, cudaDeviceAttr attribute) {
    return cuda_status(cudaDeviceGetAttribute(value, attribute, device), "ask the GPU for its size");
  };
  FUSED_RNN_RETURN_IF_ERROR(ask(&gpu->processors, cudaDevAttrMultiProcessorCount));
  FUSED_RNN_RETURN_IF_ERROR(ask(&gpu->shared_bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin));
  FUSED_RNN_RETURN_IF_ERROR(ask(&cooperative, cudaDevAttrCooperativeLaunch));
  gpu->cooperative = cooperative != 0;
  return {};
}

PersistentPlan plan_forward(const SequenceParams& p, int count, const Gpu& gpu) {
  return with_cell(p.cell, [&](auto cell) {
    using CellType = decltype(cell);
    Shape shape;
    shape.stages = CellType::kStages;
    for (int s = 0; s < shape.stages; ++s) {
      shape.stage[s] = {stage_units<CellType>(p, s), CellType::kStage[s].count, stage_depth(p, s)};
    }
    return plan_for(p, count, shape, gpu, forward_chunk(p, kGpuChunkBytes));
  });
}

// A stage's product comes from the gates of the other stage, if there are two.
PersistentPlan plan_backward(const SequenceParams& p, int count, const Gpu& gpu) {
  return with_cell(p.cell, [&](auto cell) {
    using CellType = decltype(cell);
    Shape shape;
    shape.stages = CellType::kStages;
    for (int s = 0; s < shape.stages; ++s) {
      const int from = CellType::kStages - 1 - s;
      shape.stage[s] = {stage_units<CellType>(p, s), 1, CellType::kStage[from].count * stage_units<CellType>(p, from)};
    }
    return plan_for(p, count, shape, gpu, backward_chunk(p, kGpuChunkBytes));
  });
}

}  // namespace fused_rnn::cuda
