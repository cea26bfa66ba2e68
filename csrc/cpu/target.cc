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

template <template <typename, typename> class SequenceDriver, template <typename, typename> class StepDriver,
          typename Params>
size_t workspace_bytes(const Params& params) {
  size_t bytes = 0;
  with_driver<SequenceDriver, StepDriver>(params, nullptr,
                                          [&](auto&, const Workspace& workspace) { bytes = workspace.used(); });
  return bytes;
}

template <template <typename, typename> class SequenceDriver, template <typename, typename> class StepDriver,
          typename Params>
void run(const Params& params) {
  with_driver<SequenceDriver, StepDriver>(params, params.workspace,
                                          [](auto& driver, const Workspace&) { driver.run(); });
}

}  // namespace

extern const CpuTarget kTarget;
const CpuTarget kTarget = {
    {workspace_bytes<ForwardDriver, StepForwardDriver, SequenceForwardParams>,
     run<ForwardDriver, StepForwardDriver, SequenceForwardParams>},
    {workspace_bytes<BackwardDriver, StepBackwardDriver, SequenceBackwardParams>,
     run<BackwardDriver, StepBackwardDriver, SequenceBackwardParams>},
};

}  // namespace fused_rnn::FUSED_RNN_TARGET
