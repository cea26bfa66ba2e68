// See device_sequence.h. A Call whose tensors, workspace and stream are kept, and what it takes to time it by events.
#include "csrc/python/device_sequence.h"

#include <cuda_runtime_api.h>
#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <memory>
#include <string>
#include <type_traits>
#include <vector>

#include "csrc/check.h"
#include "csrc/cuda/cublas.h"
#include "csrc/python/call.h"
#include "csrc/python/device_memory.h"
#include "csrc/sequence.h"

namespace fused_rnn {
namespace {

struct DestroyStream {
  void operator()(cudaStream_t stream) const { cudaStreamDestroy(stream); }
};
struct DestroyEvent {
  void operator()(cudaEvent_t event) const { cudaEventDestroy(event); }
};
using Stream = std::unique_ptr<std::remove_pointer_t<cudaStream_t>, DestroyStream>;
using Event = std::unique_ptr<std::remove_pointer_t<cudaEvent_t>, DestroyEvent>;

// One that waits for the default stream, on which DeviceMemory copies, and which waits for it.
Stream make_stream() {
  cudaStream_t stream = nullptr;
  DeviceMemory::check(cudaStreamCreate(&stream));
  return Stream(stream);
}

std::vector<Event> make_events(int count) {
  std::vector<Event> events;
  for (int n = 0; n < count; ++n) {
    cudaEvent_t event = nullptr;
    DeviceMemory::check(cudaEventCreate(&event));
    events.emplace_back(event);
  }
  return events;
}

class DeviceSequence {
 public:
  DeviceSequence(const std::string& cell, const py::array& x, const Arrays& kernels, const Arrays& biases,
                 const Arrays& initial_state, const Lengths& lengths, const std::optional<py::array>& d_y,
                 const Arrays& d_final_state, const Options& options)
      : call_(cell, x, kernels, biases, initial_state, lengths, std::nullopt, options), stream_(make_stream()) {
    set_common(forward_);
    info_ = &cell_info(forward_.cell);
    const Shape out = output_shape(call_.shapes(), forward_);
    forward_.y = make_output("y", out);
    forward_.y_strides = sequence_strides(call_.shapes(), forward_, forward_.P);
    for (int k = 0; k < info_->states; ++k) {
      forward_.final_state[k] = make_output(k == 0 ? "final_h" : "final_c", state_shape(forward_, k));
    }
    if (!d_final_state.empty()) set_backward(x, kernels, biases, initial_state, d_y, d_final_state);
    workspace_ = forward_workspace_bytes(false);
    if (gradients_) {
      workspace_ = std::max(workspace_, forward_workspace_bytes(true));
      workspace_ = std::max(workspace_, sequence_backward_workspace_bytes(backward_));
    }
    forward_.workspace = backward_.workspace = poisoned(call_.workspace(workspace_), workspace_);
    DeviceMemory::check(cudaDeviceSynchronize());
  }

  void forward(bool keep) {
    if (keep && !gradients_) throw py::value_error("forward(keep=True) needs a sequence made with d_final_state");
    forward_.saved = keep ? saved_ : nullptr;
    raise_if(sequence_forward(forward_));
    kept_ = keep || kept_;
  }

  void backward() {
    if (!kept_) throw py::value_error("backward() needs forward(keep=True) before it");
    raise_if(sequence_backward(backward_));
  }

  // Milliseconds of each of `repeats` runs in a row, none of which waits on the host for the one before it.
  std::vector<float> time(const std::string& what, int repeats) {
    if (what != "inference" && what != "forward" && what != "backward" && what != "training") {
      throw py::value_error("what must be inference, forward, backward or training, got " + what);
    }
    if (repeats < 1) throw py::value_error("repeats must be at least 1, got " + std::to_string(repeats));
    const std::vector<Event> starts = make_events(repeats), ends = make_events(repeats);
    for (int n = 0; n < repeats; ++n) {
      DeviceMemory::check(cudaEventRecord(starts[n].get(), stream_.get()));
      if (what != "backward") forward(what != "inference");
      if (what == "backward" || what == "training") backward();
      DeviceMemory::check(cudaEventRecord(ends[n].get(), stream_.get()));
    }
    synchronise();
    std::vector<float> milliseconds(repeats);
    for (int n = 0; n < repeats; ++n) {
      DeviceMemory::check(cudaEventElapsedTime(&milliseconds[n], starts[n].get(), ends[n].get()));
    }
    return milliseconds;
  }

  // What the runs so far have written, by name; the rest is NaN. The next call writes into the same arrays.
  py::dict outputs() {
    synchronise();
    call_.memory().finish();
    return outputs_;
  }

  void synchronise() { DeviceMemory::check(cudaStreamSynchronize(stream_.get())); }

  size_t workspace_bytes() const { return workspace_; }

 private:
  void set_common(SequenceParams& params) {
    params = call_.params();
    params.stream = stream_.get();
    params.product = [stream = stream_.get(), allow_tf32 = params.allow_tf32](const Product& product) {
      return cuda::cublas_product(stream, allow_tf32, product);
    };
  }

  void set_backward(const py::array& x, const Arrays& kernels, const Arrays& biases, const Arrays& initial_state,
                    const std::optional<py::array>& d_y, const Arrays& d_final_state) {
    if (d_final_state.size() != static_cast<size_t>(info_->states)) {
      throw py::value_error("d_final_state must hold " + std::to_string(info_->states) + " arrays");
    }
    gradients_ = true;
    set_common(backward_);
    const Shape saved = call_.saved_shape();
    const size_t saved_bytes = call_.make(saved).nbytes();
    backward_.saved = saved_ = poisoned(call_.workspace(saved_bytes), saved_bytes);
    backward_.y = forward_.y;
    backward_.y_strides = forward_.y_strides;
    if (d_y) backward_.d_y = call_.in("d_y", *d_y, "as y", output_shape(call_.shapes(), forward_));
    for (int k = 0; k < info_->states; ++k) {
      backward_.d_final_state[k] =
          call_.in("d_final_state", d_final_state[k], "as final_state", state_shape(forward_, k));
    }
    backward_.d_x = make_output("d_x", shape_of(x));
    for (int k = 0; k < info_->kernels; ++k) {
      backward_.d_kernels[k] = make_output("d_" + std::string(info_->kernel_names[k]), shape_of(kernels[k]));
    }
    for (int k = 0; k < info_->biases; ++k) {
      backward_.d_biases[k] = make_output("d_" + std::string(info_->bias_names[k]), shape_of(biases[k]));
    }
    for (int k = 0; k < info_->states; ++k) {
      backward_.d_initial_state[k] = make_output(k == 0 ? "d_initial_h" : "d_initial_c", shape_of(initial_state[k]));
    }
  }

  size_t forward_workspace_bytes(bool keep) {
    forward_.saved = keep ? saved_ : nullptr;
    return sequence_forward_workspace_bytes(forward_);
  }

  void* make_output(const std::string& name, const Shape& shape) {
    py::array array = call_.make(shape);
    outputs_[name.c_str()] = array;
    return poisoned(call_.memory().out(array), array.nbytes());
  }

  // Every byte 0xFF: NaN in all dtypes, so that what a kernel reads or leaves unwritten shows.
  static void* poisoned(void* memory, size_t bytes) {
    DeviceMemory::check(cudaMemset(memory, 0xFF, bytes));
    return memory;
  }

  Call call_;
  Stream stream_;
  const CellInfo* info_ = nullptr;
  SequenceForwardParams forward_;
  SequenceBackwardParams backward_;
  void* saved_ = nullptr;
  size_t workspace_ = 0;
  bool gradients_ = false, kept_ = false;
  py::dict outputs_;
};

std::unique_ptr<DeviceSequence> make_device_sequence(const std::string& cell, const py::array& x, const Arrays& kernels,
                                                     const Arrays& biases, const Arrays& initial_state,
                                                     const Lengths& lengths, const std::optional<py::array>& d_y,
                                                     const Arrays& d_final_state, double forget_bias, bool reverse,
                                                     bool time_major, bool allow_tf32, const std::string& driver) {
  Options options{};
  options.activation = "tanh";
  options.forget_bias = forget_bias;
  options.reverse = reverse;
  options.time_major = time_major;
  options.device = "cuda";
  options.threads = 1;
  options.driver = driver;
  options.allow_tf32 = allow_tf32;
  return std::make_unique<DeviceSequence>(cell, x, kernels, biases, initial_state, lengths, d_y, d_final_state,
                                          options);
}

}  // namespace

void add_device_sequence(py::module_& module) {
  py::class_<DeviceSequence>(module, "DeviceSequence",
                             "A sequence whose tensors stay on the GPU, for measurements. Arrays as sequence_forward's "
                             "and sequence_backward's; without d_final_state it has no gradients.")
      .def(py::init(&make_device_sequence), py::arg("cell"), py::arg("x"), py::arg("kernels"), py::arg("biases"),
           py::arg("initial_state"), py::arg("lengths") = py::none(), py::kw_only(), py::arg("d_y") = py::none(),
           py::arg("d_final_state") = Arrays{}, py::arg("forget_bias") = 0.0, py::arg("reverse") = false,
           py::arg("time_major") = false, py::arg("allow_tf32") = false, py::arg("driver") = "auto")
      .def("forward", &DeviceSequence::forward, py::arg("keep") = false, "Starts a forward pass.")
      .def("backward", &DeviceSequence::backward, "Starts the backward pass of the last forward(keep=True).")
      .def("time", &DeviceSequence::time, py::arg("what"), py::arg("repeats"),
           "Milliseconds of each run, by CUDA events: inference, forward (which keeps), backward or training (both).")
      .def("outputs", &DeviceSequence::outputs,
           "Waits, and returns every output by name: y, final_*, d_*. NaN where nothing has been written.")
      .def("synchronise", &DeviceSequence::synchronise, "Waits for what was started.")
      .def_property_readonly("workspace_bytes", &DeviceSequence::workspace_bytes);
}

}  // namespace fused_rnn
