// The one table from a call to a driver: device here, cell in cells/cells.h, instruction set in cpu/target.h.
#include <cstdlib>

#include "csrc/cells/cells.h"
#include "csrc/cpu/target.h"
#include "csrc/sequence.h"

#if defined(FUSED_RNN_CUDA)
#include "csrc/cuda/time_loop.h"
#endif

namespace fused_rnn {
namespace {

#if defined(FUSED_RNN_CUDA)
namespace gpu = cuda;
#else
// A build without CUDA: nothing to allocate, and one sentence for whoever calls all the same.
namespace gpu {
const char kMissing[] = "this build of fused_rnn has no CUDA kernels: reinstall it where nvcc is on the PATH";
size_t sequence_forward_workspace_bytes(const SequenceForwardParams*, int) {
  return 0;
}
size_t sequence_backward_workspace_bytes(const SequenceBackwardParams*, int) {
  return 0;
}
Status sequence_forward(const SequenceForwardParams*, int) {
  return {kMissing};
}
Status sequence_backward(const SequenceBackwardParams*, int) {
  return {kMissing};
}
std::string cuda_version() {
  return {};
}
std::string cuda_targets() {
  return {};
}
}  // namespace gpu
#endif

Status no_cpu_drivers() {
  const char* wanted = std::getenv("FUSED_RNN_CPU_TARGET");
  return {"FUSED_RNN_CPU_TARGET must name an instruction set that this machine and this build of fused_rnn have, got " +
          std::string(wanted == nullptr ? "nothing" : wanted) + "; compiled are: " + cpu_target_names()};
}

}  // namespace

const CellInfo& cell_info(Cell cell) {
  return *with_cell(cell, [](auto cell) { return &decltype(cell)::kInfo; });
}

Status find_cell(const std::string& name, Cell* cell) {
  std::string names;
  for (Cell each :
       {Cell::kRnn, Cell::kLstm, Cell::kLstmPeephole, Cell::kLstmProjected, Cell::kGru, Cell::kGruResetAfter}) {
    if (name == cell_info(each).name) {
      *cell = each;
      return {};
    }
    names += std::string(cell_info(each).name) + ", ";
  }
  return {"cell must be one of " + names + "got " + name};
}

Status find_activation(const std::string& name, Activation* activation) {
  constexpr const char* kNames[] = {"tanh", "relu", "sigmoid", "softsign", "elu", "identity"};
  std::string names;
  for (int i = 0; i < 6; ++i) {
    if (name == kNames[i]) {
      *activation = static_cast<Activation>(i);
      return {};
    }
    names += std::string(kNames[i]) + ", ";
  }
  return {"activation must be one of " + names + "got " + name};
}

Status find_driver(const std::string& name, CudaDriver* driver) {
  constexpr const char* kNames[] = {"auto", "stepwise", "persistent"};
  for (int i = 0; i < 3; ++i) {
    if (name != kNames[i]) continue;
    *driver = static_cast<CudaDriver>(i);
    return {};
  }
  return {"driver must be one of auto, stepwise, persistent, got " + name};
}

size_t dtype_bytes(DType dtype) {
  switch (dtype) {
    case DType::kFloat64: return 8;
    case DType::kFloat32: return 4;
    case DType::kFloat16:
    case DType::kBFloat16: break;
  }
  return 2;
}

size_t sequence_forward_workspace_bytes(const SequenceForwardParams* sequences, int count) {
  if (sequences->device == Device::kCuda) return gpu::sequence_forward_workspace_bytes(sequences, count);
  const CpuTarget* cpu = cpu_target().drivers_for(sequences->dtype);
  return cpu == nullptr ? 0 : cpu->forward.workspace_bytes(sequences, count);
}

size_t sequence_backward_workspace_bytes(const SequenceBackwardParams* sequences, int count) {
  if (sequences->device == Device::kCuda) return gpu::sequence_backward_workspace_bytes(sequences, count);
  const CpuTarget* cpu = cpu_target().drivers_for(sequences->dtype);
  return cpu == nullptr ? 0 : cpu->backward.workspace_bytes(sequences, count);
}

Status sequence_forward(const SequenceForwardParams* sequences, int count) {
  if (sequences->device == Device::kCuda) return gpu::sequence_forward(sequences, count);
  const CpuTarget* cpu = cpu_target().drivers_for(sequences->dtype);
  if (cpu == nullptr) return no_cpu_drivers();
  cpu->forward.run_all(sequences, count);
  return {};
}

Status sequence_backward(const SequenceBackwardParams* sequences, int count) {
  if (sequences->device == Device::kCuda) return gpu::sequence_backward(sequences, count);
  const CpuTarget* cpu = cpu_target().drivers_for(sequences->dtype);
  if (cpu == nullptr) return no_cpu_drivers();
  cpu->backward.run_all(sequences, count);
  return {};
}

BuildInfo build_info() {
  return {cpu_target_names(), cpu_target().name, gpu::cuda_version(), gpu::cuda_targets()};
}

}  // namespace fused_rnn
