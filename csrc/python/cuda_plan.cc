// cuda_plan: the persistent CUDA driver's plan as a dict.
#include "csrc/python/cuda_plan.h"

#include <pybind11/stl.h>

#include "csrc/cuda/persistent_plan.h"
#include "csrc/python/call.h"

namespace fused_rnn {
namespace {

py::dict cuda_plan(const std::string& cell, const std::string& dtype, int64_t T, int64_t B, int64_t H,
                   std::optional<int64_t> P, int sequences, bool backward, bool allow_tf32, int processors,
                   int shared_bytes) {
  if (T < 0 || B < 0 || H < 1 || P.value_or(1) < 1) {
    throw py::value_error("T and B must be at least 0, H and P at least 1");
  }
  if (sequences < 1) throw py::value_error("sequences must be at least 1, got " + std::to_string(sequences));
  SequenceParams params;
  params.cell = cell_named(cell);
  params.dtype = dtype_named(dtype);
  params.T = T, params.B = B, params.I = H, params.H = H, params.P = P.value_or(H);
  params.allow_tf32 = allow_tf32;
  cuda::Gpu gpu{processors, shared_bytes, true};
  if (processors == 0) raise_if(cuda::describe_gpu(&gpu));
  const cuda::PersistentPlan plan =
      backward ? cuda::plan_backward(params, sequences, gpu) : cuda::plan_forward(params, sequences, gpu);
  py::dict out;
  out["why_not"] = plan.why_not;
  if (!plan.why_not.empty()) return out;
  out["side_by_side"] = plan.side_by_side;
  out["groups"] = plan.groups, out["rows"] = plan.rows, out["blocks"] = plan.blocks;
  out["shared_bytes"] = plan.shared_bytes, out["streamed_bytes"] = plan.streamed_bytes;
  out["step_us"] = plan.step_us, out["stepwise_step_us"] = plan.stepwise_step_us, out["pays"] = plan.pays;
  py::list stages;
  for (int s = 0; s < plan.stages; ++s) {
    const cuda::PersistentStage& stage = plan.stage[s];
    py::dict of_stage;
    of_stage["units"] = stage.units, of_stage["columns"] = stage.columns, of_stage["chunks"] = stage.chunks;
    of_stage["resident"] = stage.resident, of_stage["exchange_bytes"] = plan.exchange_bytes[s];
    stages.append(of_stage);
  }
  out["stages"] = stages;
  return out;
}

}  // namespace

void add_cuda_plan(py::module_& module) {
  module.def("cuda_plan", &cuda_plan, py::arg("cell"), py::arg("dtype"), py::arg("T"), py::arg("B"), py::arg("H"),
             py::arg("P") = py::none(), py::kw_only(), py::arg("sequences") = 1, py::arg("backward") = false,
             py::arg("allow_tf32") = false, py::arg("processors") = 0, py::arg("shared_bytes") = 0,
             "How the persistent driver would run a call of so many sequences on a GPU of so many processors and bytes "
             "of shared memory to a block, or on the current one: a dict. `why_not` is empty, or says why it cannot; "
             "groups and blocks are those of one sequence, and a step is one of them all.");
}

}  // namespace fused_rnn
