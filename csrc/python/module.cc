// fused_rnn_core: the core on NumPy arrays, without TensorFlow. For tests and measurements.
#include <pybind11/functional.h>
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <optional>
#include <thread>

#include "csrc/check.h"
#include "csrc/python/device_memory.h"
#include "csrc/sequence.h"

namespace py = pybind11;

namespace fused_rnn {
namespace {

void raise_if(const Status& status) {
  if (!status.ok()) throw py::value_error(status.message);
}

Cell cell_named(const std::string& name) {
  Cell cell;
  raise_if(find_cell(name, &cell));
  return cell;
}

DType dtype_of(const py::array& array) {
  const std::string name = py::str(array.dtype().attr("name"));
  if (name == "float32") return DType::kFloat32;
  if (name == "float64") return DType::kFloat64;
  if (name == "float16") return DType::kFloat16;
  if (name == "bfloat16") return DType::kBFloat16;
  throw py::value_error("inputs must be float32, float64, float16 or bfloat16, got " + name);
}

Shape shape_of(const py::array& array) {
  return Shape(array.shape(), array.shape() + array.ndim());
}

std::vector<Shape> shapes_of(const std::vector<py::array>& arrays) {
  std::vector<Shape> shapes;
  for (const py::array& array : arrays) shapes.push_back(shape_of(array));
  return shapes;
}

// Threads made for one call: simple, and late or early as the machine likes, which is what tests want.
class ThreadsOfCall {
 public:
  explicit ThreadsOfCall(int count) {
    threads_.count = count;
    threads_.schedule = [this](std::function<void()> work) { started_.emplace_back(std::move(work)); };
  }
  ~ThreadsOfCall() {
    for (std::thread& thread : started_) thread.join();
  }
  const Threads& threads() const { return threads_; }

 private:
  Threads threads_;
  std::vector<std::thread> started_;
};

// The arguments that both directions take by keyword.
struct Options {
  std::string activation;
  double forget_bias;
  std::optional<double> cell_clip, proj_clip;
  bool reverse, time_major;
  std::string device;
  int threads;
};

// What both directions take, checked, and on its way to a SequenceParams.
class Call {
 public:
  Call(const std::string& cell, const py::array& x, const std::vector<py::array>& kernels,
       const std::vector<py::array>& biases, const std::vector<py::array>& initial_state,
       const std::optional<std::vector<int64_t>>& lengths, const std::optional<py::array>& state_mask,
       const Options& options)
      : x_(x), memory_(options.device), threads_(options.threads), lengths_(lengths) {
    if (options.threads < 1) {
      throw py::value_error("threads must be at least 1, got " + std::to_string(options.threads));
    }
    params_.cell = cell_named(cell);
    params_.device = memory_.device();
    params_.dtype = dtype_of(x);
    raise_if(find_activation(options.activation, &params_.activation));
    params_.forget_bias = options.forget_bias;
    if (options.cell_clip) params_.cell_clip = *options.cell_clip;
    if (options.proj_clip) params_.proj_clip = *options.proj_clip;
    params_.reverse = options.reverse;
    shapes_.time_major = options.time_major;
    shapes_.inputs = shape_of(x);
    shapes_.kernels = shapes_of(kernels);
    shapes_.biases = shapes_of(biases);
    shapes_.initial_state = shapes_of(initial_state);
    raise_if(check_shapes(shapes_, &params_));
    if (lengths_) {
      raise_if(check_lengths({static_cast<int64_t>(lengths_->size())}, lengths_->data(), params_));
      params_.lengths = lengths_->data();
    }
    params_.x = in("inputs", x);
    const CellInfo& info = cell_info(params_.cell);
    for (int k = 0; k < info.kernels; ++k) params_.kernels[k] = in(info.kernel_names[k], kernels[k]);
    for (int k = 0; k < info.biases; ++k) params_.biases[k] = in(info.bias_names[k], biases[k]);
    for (int k = 0; k < info.states; ++k) params_.initial_state[k] = in("initial_state", initial_state[k]);
    if (state_mask) params_.state_mask = in("state_mask", *state_mask, "as y", output_shape(shapes_, params_));
    params_.threads = threads_.threads();
    params_.stream = memory_.stream();
    params_.product = memory_.product();
  }

  const SequenceParams& params() const { return params_; }
  const SequenceShapes& shapes() const { return shapes_; }
  DeviceMemory& memory() { return memory_; }

  // The device's copy of an argument, made contiguous; it must have the dtype of the inputs.
  const void* in(const std::string& name, const py::array& array) {
    if (!array.dtype().is(x_.dtype()) && !array.dtype().equal(x_.dtype())) {
      throw py::value_error(name + " must be " + std::string(py::str(x_.dtype())) + " as inputs are, got " +
                            std::string(py::str(array.dtype())));
    }
    return memory_.in(array);
  }
  const void* in(const std::string& name, const py::array& array, const std::string& words, const Shape& expected) {
    raise_if(check_shape(name, shape_of(array), words, expected));
    return in(name, array);
  }

  // [T, B, saved, H], with the T of the inputs even where there are no rows.
  Shape saved_shape() const {
    return {shapes_.inputs[shapes_.time_major ? 0 : 1], params_.B, cell_info(params_.cell).saved, params_.H};
  }

  py::array make(const Shape& shape) const { return py::array(x_.dtype(), shape); }

  void* workspace(size_t bytes) { return memory_.workspace(bytes); }

 private:
  const py::array x_;
  DeviceMemory memory_;
  ThreadsOfCall threads_;
  const std::optional<std::vector<int64_t>> lengths_;
  SequenceShapes shapes_;
  SequenceParams params_;
};

using Arrays = std::vector<py::array>;
using Lengths = std::optional<std::vector<int64_t>>;
using Clip = std::optional<double>;

py::tuple forward(const std::string& cell, const py::array& x, const Arrays& kernels, const Arrays& biases,
                  const Arrays& initial_state, const Lengths& lengths, bool keep,
                  const std::optional<py::array>& state_mask, const std::string& activation, double forget_bias,
                  const Clip& cell_clip, const Clip& proj_clip, bool reverse, bool time_major,
                  const std::string& device, int threads) {
  const Options options{activation, forget_bias, cell_clip, proj_clip, reverse, time_major, device, threads};
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
                   const std::string& device, int threads) {
  const Options options{activation, forget_bias, cell_clip, proj_clip, reverse, time_major, device, threads};
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
        py::arg("time_major") = false, py::arg("device") = "cpu", py::arg("threads") = 1,
        "Runs a sequence: (y, final_state, saved). All arrays have the dtype of x.");
  m.def("sequence_backward", &backward, py::arg("cell"), py::arg("x"), py::arg("kernels"), py::arg("biases"),
        py::arg("initial_state"), py::arg("lengths"), py::arg("y"), py::arg("saved"), py::arg("d_y"),
        py::arg("d_final_state"), py::kw_only(), py::arg("state_mask") = py::none(), py::arg("activation") = "tanh",
        py::arg("forget_bias") = 0.0, py::arg("cell_clip") = py::none(), py::arg("proj_clip") = py::none(),
        py::arg("reverse") = false, py::arg("time_major") = false, py::arg("device") = "cpu", py::arg("threads") = 1,
        "Gradients of a sequence: (d_x, d_kernels, d_biases, d_initial_state). d_y may be None, for 0.");
  m.def("cell_info", &describe_cell, py::arg("cell"), "Sizes of a cell's tensors, in units of H.");
  m.def("build_info", &describe_build, "What this build holds.");
}
