// The CPU drivers for one instruction set; compiled once for each, with FUSED_RNN_TARGET naming it. That with
// FUSED_RNN_BFLOAT16_PRODUCTS is for bfloat16 alone.
#include "csrc/cpu/target.h"

#include "csrc/cells/cells.h"
#include "csrc/cpu/backward.h"
#include "csrc/cpu/forward.h"
#include "csrc/cpu/step_backward.h"
#include "csrc/cpu/step_forward.h"

namespace fused_rnn::FUSED_RNN_TARGET {
namespace {

// Calls f with a cell and a value of the storage type.
template <typename F>
auto with_cell_and_storage(const SequenceParams& params, F&& f) {
  return with_cell(params.cell, [&](auto cell) {
#if defined(FUSED_RNN_BFLOAT16_PRODUCTS)
    return f(cell, BFloat16{});
#else
    switch (params.dtype) {
      case DType::kFloat64: return f(cell, double{});
      case DType::kFloat16: return f(cell, Float16{});
      case DType::kBFloat16: return f(cell, BFloat16{});
      case DType::kFloat32: break;
    }
    return f(cell, float{});
#endif
  });
}

// Calls f with the driver for the call, which takes its workspace from `memory` (or measures it, where that is null):
// a step has drivers of its own, if nothing stands between it and a next one.
template <template <typename, typename> class SequenceDriver, template <typename, typename> class StepDriver,
          typename Params, typename F>
void with_driver(const Params& params, void* memory, F&& f) {
  with_cell_and_storage(params, [&](auto cell, auto storage) {
    Workspace workspace(memory);
    if (params.T == 1 && params.state_mask == nullptr) {
      StepDriver<decltype(cell), decltype(storage)> driver(params, workspace);
      f(driver, workspace);
    } else {
      SequenceDriver<decltype(cell), decltype(storage)> driver(params, workspace);
      f(driver, workspace);
    }
  });
}

// The drivers of one direction.
template <template <typename, typename> class SequenceDriver, template <typename, typename> class StepDriver,
          typename Params>
struct Drivers {
  static size_t workspace_bytes(const Params* sequences, int count) {
    const size_t most = most_bytes(sequences, count);
    return run_side_by_side(*sequences, count) ? count * most : most;
  }

  static void run(const Params* sequences, int count) {
    if (!run_side_by_side(*sequences, count)) {
      for (int n = 0; n < count; ++n) run_one(sequences[n]);
      return;
    }
    const size_t bytes = most_bytes(sequences, count);
    Threads leaders = sequences->threads;
    leaders.count = static_cast<int>(smaller(leaders.count, count));
    Team team(leaders);
    team.share(count, [&](int, int64_t begin, int64_t end) {
      for (int64_t n = begin; n < end; ++n) {
        Params params = with_threads(sequences, static_cast<int>(n), count);
        params.workspace = static_cast<char*>(params.workspace) + n * bytes;
        run_one(params);
      }
    });
  }

 private:
  // A sequence with the threads that it runs on.
  static Params with_threads(const Params* sequences, int n, int count) {
    Params params = sequences[n];
    const int threads = params.threads.count;
    if (run_side_by_side(params, count)) {
      params.threads.count = static_cast<int>(larger(1, threads * (n + 1) / count - threads * n / count));
    }
    return params;
  }

  // Of the workspace of one sequence.
  static size_t most_bytes(const Params* sequences, int count) {
    size_t most = 0;
    for (int n = 0; n < count; ++n) {
      with_driver<SequenceDriver, StepDriver>(
          with_threads(sequences, n, count), nullptr,
          [&](auto&, const Workspace& workspace) { most = larger(most, workspace.used()); });
    }
    return most;
  }

  static void run_one(const Params& params) {
    with_driver<SequenceDriver, StepDriver>(params, params.workspace,
                                            [](auto& driver, const Workspace&) { driver.run(); });
  }
};

using ForwardDrivers = Drivers<ForwardDriver, StepForwardDriver, SequenceForwardParams>;
using BackwardDrivers = Drivers<BackwardDriver, StepBackwardDriver, SequenceBackwardParams>;

}  // namespace

extern const CpuTarget kTarget;
const CpuTarget kTarget = {
    ForwardDrivers::workspace_bytes,
    BackwardDrivers::workspace_bytes,
    ForwardDrivers::run,
    BackwardDrivers::run,
};

}  // namespace fused_rnn::FUSED_RNN_TARGET
