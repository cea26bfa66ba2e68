// The CPU drivers for one instruction set; compiled once for each, with FUSED_RNN_TARGET naming it.
#include "csrc/cpu/target.h"

#include "csrc/cells/cells.h"
#include "csrc/cpu/backward.h"
#include "csrc/cpu/forward.h"

namespace fused_rnn::FUSED_RNN_TARGET {
namespace {

// Calls f with a cell and a value of the storage type.
template <typename F>
auto with_cell_and_storage(const SequenceParams& params, F&& f) {
  return with_cell(params.cell, [&](auto cell) {
    switch (params.dtype) {
      case DType::kFloat64: return f(cell, double{});
      case DType::kFloat16: return f(cell, Float16{});
      case DType::kBFloat16: return f(cell, BFloat16{});
      case DType::kFloat32: break;
    }
    return f(cell, float{});
  });
}

template <template <typename, typename> class Driver, typename Params>
size_t workspace_bytes(const Params& params) {
  return with_cell_and_storage(params, [&](auto cell, auto storage) {
    Workspace workspace(nullptr);
    Driver<decltype(cell), decltype(storage)> driver(params, workspace);
    return workspace.used();
  });
}

template <template <typename, typename> class Driver, typename Params>
void run(const Params& params) {
  with_cell_and_storage(params, [&](auto cell, auto storage) {
    Workspace workspace(params.workspace);
    Driver<decltype(cell), decltype(storage)>(params, workspace).run();
  });
}

}  // namespace

extern const CpuTarget kTarget;
const CpuTarget kTarget = {workspace_bytes<ForwardDriver, SequenceForwardParams>,
                           workspace_bytes<BackwardDriver, SequenceBackwardParams>,
                           run<ForwardDriver, SequenceForwardParams>, run<BackwardDriver, SequenceBackwardParams>};

}  // namespace fused_rnn::FUSED_RNN_TARGET
