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

py::tuple forward(const std::string& cell, const EachArray& x, const Arrays& kernels, const Arrays& biases,
                  const Arrays& initial_state, const Lengths& lengths, bool keep,
                  const std::optional<EachArray>& state_mask, const std::string& activation, double forget_bias,
                  const Clip& cell_clip, const Clip& proj_clip, const EachFlag& reverse, bool time_major,
                  const std::string& device, int threads, const std::string& driver, bool allow_tf32) {
  const Options options{activation, forget_bias, cell_clip, proj_clip, all_of(reverse),
                        time_major, device,      threads,   driver,    allow_tf32};
  Call call(cell, all_of(x), kernels, biases, initial_state, lengths, all_of(state_mask), options);
  auto sequences = call.sequences<SequenceForwardParams>();
  py::list ys, final_state, all_saved;
  const auto make = [&](const Shape& shape, py::list& to) {
    py::array array = call.make(shape);
    to.append(array);
    return call.memory().out(array);
  };
  for (SequenceForwardParams& params : sequences) {
    params.y = make(call.output_shape(), ys);
    for (int k = 0; k < cell_info(params.cell).states; ++k) {
      params.final_state[k] = make(state_shape(params, k), final_state);
    }
    if (keep) params.saved = make(call.saved_shape(), all_saved);
  }
  call.set_workspace(sequences, sequence_forward_workspace_bytes(sequences.data(), call.count()));
  raise_if(sequence_forward(sequences.data(), call.count()));
  call.memory().finish();
  return py::make_tuple(as_given(x, ys), final_state, keep ? as_given(x, all_saved) : py::none());
}

py::tuple backward(const std::string& cell, const EachArray& x, const Arrays& kernels, const Arrays& biases,
                   const Arrays& initial_state, const Lengths& lengths, const EachArray& y, const EachArray& saved,
                   const std::optional<EachArray>& d_y, const Arrays& d_final_state,
                   const std::optional<EachArray>& state_mask, const std::string& activation, double forget_bias,
                   const Clip& cell_clip, const Clip& proj_clip, const EachFlag& reverse, bool time_major,
                   const std::string& device, int threads, const std::string& driver, bool allow_tf32) {
  const Options options{activation, forget_bias, cell_clip, proj_clip, all_of(reverse),
                        time_major, device,      threads,   driver,    allow_tf32};
  Call call(cell, all_of(x), kernels, biases, initial_state, lengths, all_of(state_mask), options);
  auto sequences = call.sequences<SequenceBackwardParams>();
  const char* words = options.time_major ? "[T, B, P]" : "[B, T, P]";
  const Arrays ys = all_of(y), all_saved = all_of(saved), d_ys = all_of(d_y);
  const CellInfo& info = cell_info(call.params().cell);
  call.check_count("y", ys.size(), 1);
  call.check_count("saved", all_saved.size(), 1);
  if (d_y) call.check_count("d_y", d_ys.size(), 1);
  call.check_count("d_final_state", d_final_state.size(), info.states);
  py::list d_xs, d_kernels, d_biases, d_initial_state;
  const auto make = [&](const py::array& like, py::list& to) {
    py::array array = call.make(shape_of(like));
    to.append(array);
    return call.memory().out(array);
  };
  for (int n = 0; n < call.count(); ++n) {
    SequenceBackwardParams& params = sequences[n];
    params.y = call.in("y", ys[n], words, call.output_shape());
    if (d_y) params.d_y = call.in("d_y", d_ys[n], words, call.output_shape());
    params.saved = call.in("saved", all_saved[n], "[T, B, saved, H]", call.saved_shape());
    params.d_x = make(all_of(x)[n], d_xs);
    for (int k = 0; k < info.kernels; ++k) params.d_kernels[k] = make(kernels[n * info.kernels + k], d_kernels);
    for (int k = 0; k < info.biases; ++k) params.d_biases[k] = make(biases[n * info.biases + k], d_biases);
    for (int k = 0; k < info.states; ++k) {
      const int at = n * info.states + k;
      params.d_final_state[k] = call.in("d_final_state", d_final_state[at], "as final_state", state_shape(params, k));
      params.d_initial_state[k] = make(initial_state[at], d_initial_state);
    }
  }
  call.set_workspace(sequences, sequence_backward_workspace_bytes(sequences.data(), call.count()));
  raise_if(sequence_backward(sequences.data(), call.count()));
  call.memory().finish();
  return py::make_tuple(as_given(x, d_xs), d_kernels, d_biases, d_initial_state);
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
        py::arg("allow_tf32") = false,
        "Runs a sequence: (y, final_state, saved). All arrays have the dtype of x. Or several that are alike, in one "
        "call: x, state_mask and reverse are then lists of one for each, as y and saved are, and the lists of "
        "kernels, biases and states hold those of one sequence after another.");
  m.def("sequence_backward", &backward, py::arg("cell"), py::arg("x"), py::arg("kernels"), py::arg("biases"),
        py::arg("initial_state"), py::arg("lengths"), py::arg("y"), py::arg("saved"), py::arg("d_y"),
        py::arg("d_final_state"), py::kw_only(), py::arg("state_mask") = py::none(), py::arg("activation") = "tanh",
        py::arg("forget_bias") = 0.0, py::arg("cell_clip") = py::none(), py::arg("proj_clip") = py::none(),
        py::arg("reverse") = false, py::arg("time_major") = false, py::arg("device") = "cpu", py::arg("threads") = 1,
        py::arg("driver") = "auto", py::arg("allow_tf32") = false,
        "Gradients of a sequence, or of several as in sequence_forward: (d_x, d_kernels, d_biases, d_initial_state). "
        "d_y may be None, for 0.");
  m.def("cell_info", &describe_cell, py::arg("cell"), "Sizes of a cell's tensors, in units of H.");
  m.def("build_info", &describe_build, "What this build holds.");
#if defined(FUSED_RNN_CUDA)
  add_cuda_plan(m);
#endif
#if defined(FUSED_RNN_CUDA) && !defined(FUSED_RNN_EMULATOR)
  add_device_sequence(m);
#endif
}
