// fused_rnn_core: the core on NumPy arrays, without TensorFlow. For tests and measurements.
#include <pybind11/functional.h>
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <optional>

#include "csrc/check.h"
#include "csrc/python/call.h"
#include "csrc/sequence.h"

#if defined(FUSED_RNN_CUDA)
#include "csrc/python/cuda_plan.h"
#endif
#if defined(FUSED_RNN_CUDA) && !defined(FUSED_RNN_EMULATOR)
#include "csrc/python/device_sequence.h"
#endif

namespace fused_rnn {
namespace {

py::tuple forward(const std::string& cell, const py::array& x, const Arrays& kernels, const Arrays& biases,
                  const Arrays& initial_state, const Lengths& lengths, bool keep,
                  const std::optional<py::array>& state_mask, const std::string& activation, double forget_bias,
                  const Clip& cell_clip, const Clip& proj_clip, bool reverse, bool time_major,
                  const std::string& device, int threads, const std::string& driver, bool allow_tf32) {
  const Options options{activation, forget_bias, cell_clip, proj_clip, reverse,
                        time_major, device,      threads,   driver,    allow_tf32};
  Call call(cell, x, kernels, biases, initial_state, lengths, state_mask, options);
  SequenceForwardParams params;
  static_cast<SequenceParams&>(params) = call.params();
  const CellInfo& info = cell_info(params.cell);
  py::array y = call.make(output_shape(call.shapes(), params));
  py::object saved = py::none();
  params.y = call.memory().out(y);
  params.y_strides = sequence_strides(call.shapes(), params, params.P);
  py::list final_state;
  for (int k = 0; k < info.states; ++k) {
    py::array state = call.make(state_shape(params, k));
    params.final_state[k] = call.memory().out(state);
    final_state.append(state);
  }
  if (keep) {
    py::array kept = call.make(call.saved_shape());
    params.saved = call.memory().out(kept);
    saved = kept;
  }
  params.workspace = call.workspace(sequence_forward_workspace_bytes(params));
  raise_if(sequence_forward(params));
  call.memory().finish();
  return py::make_tuple(y, final_state, saved);
}

py::tuple backward(const std::string& cell, const py::array& x, const Arrays& kernels, const Arrays& biases,
                   const Arrays& initial_state, const Lengths& lengths, const py::array& y, const py::array& saved,
                   const std::optional<py::array>& d_y, const Arrays& d_final_state,
                   const std::optional<py::array>& state_mask, const std::string& activation, double forget_bias,
                   const Clip& cell_clip, const Clip& proj_clip, bool reverse, bool time_major,
                   const std::string& device, int threads, const std::string& driver, bool allow_tf32) {
  const Options options{activation, forget_bias, cell_clip, proj_clip, reverse,
                        time_major, device,      threads,   driver,    allow_tf32};
  Call call(cell, x, kernels, biases, initial_state, lengths, state_mask, options);
  SequenceBackwardParams params;
  static_cast<SequenceParams&>(params) = call.params();
  const CellInfo& info = cell_info(params.cell);
  const Shape out = output_shape(call.shapes(), params);
  const char* words = options.time_major ? "[T, B, P]" : "[B, T, P]";
  params.y = call.in("y", y, words, out);
  if (d_y) params.d_y = call.in("d_y", *d_y, words, out);
  params.y_strides = sequence_strides(call.shapes(), params, params.P);
  params.saved = call.in("saved", saved, "[T, B, saved, H]", call.saved_shape());
  if (d_final_state.size() != static_cast<size_t>(info.states)) {
    throw py::value_error("d_final_state must hold " + std::to_string(info.states) + " arrays");
  }
  for (int k = 0; k < info.states; ++k) {
    params.d_final_state[k] = call.in("d_final_state", d_final_state[k], "as final_state", state_shape(params, k));
  }
  py::array d_x = call.make(shape_of(x));
  params.d_x = call.memory().out(d_x);
  const auto make_all = [&](const Arrays& like, void** to) {
    py::list made;
    for (size_t k = 0; k < like.size(); ++k) {
      py::array array = call.make(shape_of(like[k]));
      to[k] = call.memory().out(array);
      made.append(array);
    }
    return made;
  };
  py::list d_kernels = make_all(kernels, params.d_kernels), d_biases = make_all(biases, params.d_biases);
  py::list d_initial_state = make_all(initial_state, params.d_initial_state);
  params.workspace = call.workspace(sequence_backward_workspace_bytes(params));
  raise_if(sequence_backward(params));
  call.memory().finish();
  return py::make_tuple(d_x, d_kernels, d_biases, d_initial_state);
}

py::dict describe_cell(const std::string& name) {
  const CellInfo& info = cell_info(cell_named(name));
  py::dict out;
  out["gates"] = info.gates;
  out["states"] = info.states;
  out["kernel_gates"] = std::vector<int>(info.kernel_gates, info.kernel_gates + info.kernels);
  out["bias_gates"] = std::vector<int>(info.bias_gates, info.bias_gates + info.biases);
  out["projected"] = info.projected;
  out["saved"] = info.saved;
  return out;
}

py::dict describe_build() {
  const BuildInfo info = build_info();
  py::dict out;
  out["cpu_targets"] = info.cpu_targets;
  out["cpu_target"] = info.cpu_target;
  out["cuda_version"] = info.cuda_version;
  out["cuda_targets"] = info.cuda_targets;
  return out;
}

}  // namespace
}  // namespace fused_rnn

PYBIND11_MODULE(FUSED_RNN_MODULE, m) {
  using namespace fused_rnn;
  m.doc() = "The kernels of fused_rnn on NumPy arrays, without TensorFlow.";
  m.def("sequence_forward", &forward, py::arg("cell"), py::arg("x"), py::arg("kernels"), py::arg("biases"),
        py::arg("initial_state"), py::arg("lengths") = py::none(), py::kw_only(), py::arg("keep") = true,
        py::arg("state_mask") = py::none(), py::arg("activation") = "tanh", py::arg("forget_bias") = 0.0,
        py::arg("cell_clip") = py::none(), py::arg("proj_clip") = py::none(), py::arg("reverse") = false,
        py::arg("time_major") = false, py::arg("device") = "cpu", py::arg("threads") = 1, py::arg("driver") = "auto",
        py::arg("allow_tf32") = false, "Runs a sequence: (y, final_state, saved). All arrays have the dtype of x.");
  m.def("sequence_backward", &backward, py::arg("cell"), py::arg("x"), py::arg("kernels"), py::arg("biases"),
        py::arg("initial_state"), py::arg("lengths"), py::arg("y"), py::arg("saved"), py::arg("d_y"),
        py::arg("d_final_state"), py::kw_only(), py::arg("state_mask") = py::none(), py::arg("activation") = "tanh",
        py::arg("forget_bias") = 0.0, py::arg("cell_clip") = py::none(), py::arg("proj_clip") = py::none(),
        py::arg("reverse") = false, py::arg("time_major") = false, py::arg("device") = "cpu", py::arg("threads") = 1,
        py::arg("driver") = "auto", py::arg("allow_tf32") = false,
        "Gradients of a sequence: (d_x, d_kernels, d_biases, d_initial_state). d_y may be None, for 0.");
  m.def("cell_info", &describe_cell, py::arg("cell"), "Sizes of a cell's tensors, in units of H.");
  m.def("build_info", &describe_build, "What this build holds.");
#if defined(FUSED_RNN_CUDA)
  add_cuda_plan(m);
#endif
#if defined(FUSED_RNN_CUDA) && !defined(FUSED_RNN_EMULATOR)
  add_device_sequence(m);
#endif
}
