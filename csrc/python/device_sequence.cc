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
  DeviceSequence(const std::string& cell, const EachArray& x, const Arrays& kernels, const Arrays& biases,
                 const Arrays& initial_state, const Lengths& lengths, const std::optional<EachArray>& d_y,
                 const Arrays& d_final_state, const Options& options)
      : x_(x),
        call_(cell, all_of(x), kernels, biases, initial_state, lengths, Arrays{}, options),
        stream_(make_stream()),
        info_(cell_info(call_.params().cell)),
        forward_(on_stream<SequenceForwardParams>()) {
    for (SequenceForwardParams& params : forward_) {
      params.y = make_output("y", call_.output_shape());
      for (int k = 0; k < info_.states; ++k) {
        params.final_state[k] = make_output(k == 0 ? "final_h" : "final_c", state_shape(params, k));
      }
    }
    if (!d_final_state.empty()) set_backward(kernels, biases, initial_state, all_of(d_y), d_final_state);
    workspace_ = forward_workspace_bytes(false);
    if (!backward_.empty()) {
      workspace_ = std::max(workspace_, forward_workspace_bytes(true));
      workspace_ = std::max(workspace_, sequence_backward_workspace_bytes(backward_.data(), call_.count()));
    }
    void* const workspace = poisoned(call_.memory().workspace(workspace_), workspace_);
    for (SequenceForwardParams& params : forward_) params.workspace = workspace;
    for (SequenceBackwardParams& params : backward_) params.workspace = workspace;
    DeviceMemory::check(cudaDeviceSynchronize());
  }

  void forward(bool keep) {
    if (keep && backward_.empty()) throw py::value_error("forward(keep=True) needs a sequence made with d_final_state");
    set_keep(keep);
    raise_if(sequence_forward(forward_.data(), call_.count()));
    kept_ = keep || kept_;
  }

  void backward() {
    if (!kept_) throw py::value_error("backward() needs forward(keep=True) before it");
    raise_if(sequence_backward(backward_.data(), call_.count()));
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
    py::dict outputs;
    for (const auto& [name, made] : outputs_) outputs[name] = as_given(x_, py::reinterpret_borrow<py::list>(made));
    return outputs;
  }

  void synchronise() { DeviceMemory::check(cudaStreamSynchronize(stream_.get())); }

  size_t workspace_bytes() const { return workspace_; }

 private:
  template <typename Params>
  std::vector<Params> on_stream() const {
    auto sequences = call_.sequences<Params>();
    for (Params& params : sequences) {
      params.stream = stream_.get();
      params.product = [stream = stream_.get(), allow_tf32 = params.allow_tf32](const Product& product) {
        return cuda::cublas_product(stream, allow_tf32, product);
      };
    }
    return sequences;
  }

  void set_backward(const Arrays& kernels, const Arrays& biases, const Arrays& initial_state, const Arrays& d_y,
                    const Arrays& d_final_state) {
    call_.check_count("d_final_state", d_final_state.size(), info_.states);
    if (!d_y.empty()) call_.check_count("d_y", d_y.size(), 1);
    backward_ = on_stream<SequenceBackwardParams>();
    const size_t saved_bytes = call_.make(call_.saved_shape()).nbytes();
    for (int n = 0; n < call_.count(); ++n) {
      SequenceBackwardParams& params = backward_[n];
      saved_.push_back(poisoned(call_.memory().workspace(saved_bytes), saved_bytes));
      params.saved = saved_[n];
      params.y = forward_[n].y;
      if (!d_y.empty()) params.d_y = call_.in("d_y", d_y[n], "as y", call_.output_shape());
      params.d_x = make_output("d_x", shape_of(all_of(x_)[n]));
      for (int k = 0; k < info_.kernels; ++k) {
        params.d_kernels[k] = make_output("d_" + std::string(info_.kernel_names[k]), shape_of(kernels[k]));
      }
      for (int k = 0; k < info_.biases; ++k) {
        params.d_biases[k] = make_output("d_" + std::string(info_.bias_names[k]), shape_of(biases[k]));
      }
      for (int k = 0; k < info_.states; ++k) {
        const py::array& d_final = d_final_state[n * info_.states + k];
        params.d_final_state[k] = call_.in("d_final_state", d_final, "as final_state", state_shape(params, k));
        params.d_initial_state[k] = make_output(k == 0 ? "d_initial_h" : "d_initial_c", shape_of(initial_state[k]));
      }
    }
  }

  void set_keep(bool keep) {
    for (int n = 0; n < call_.count(); ++n) forward_[n].saved = keep ? saved_[n] : nullptr;
  }

  size_t forward_workspace_bytes(bool keep) {
    set_keep(keep);
    return sequence_forward_workspace_bytes(forward_.data(), call_.count());
  }

  // For the next sequence: there is a list of them for each name.
  void* make_output(const std::string& name, const Shape& shape) {
    py::array array = call_.make(shape);
    if (!outputs_.contains(name)) outputs_[name.c_str()] = py::list();
    outputs_[name.c_str()].cast<py::list>().append(array);
    return poisoned(call_.memory().out(array), array.nbytes());
  }

  // Every byte 0xFF: NaN in all dtypes, so that what a kernel reads or leaves unwritten shows.
  static void* poisoned(void* memory, size_t bytes) {
    DeviceMemory::check(cudaMemset(memory, 0xFF, bytes));
    return memory;
  }

  const EachArray x_;
  Call call_;
  Stream stream_;
  const CellInfo& info_;
  std::vector<SequenceForwardParams> forward_;
  std::vector<SequenceBackwardParams> backward_;  // empty where there are no gradients
  std::vector<void*> saved_;
  size_t workspace_ = 0;
  bool kept_ = false;
  py::dict outputs_;
};

std::unique_ptr<DeviceSequence> make_device_sequence(const std::string& cell, const EachArray& x, const Arrays& kernels,
                                                     const Arrays& biases, const Arrays& initial_state,
                                                     const Lengths& lengths, const std::optional<EachArray>& d_y,
                                                     const Arrays& d_final_state, double forget_bias,
                                                     const EachFlag& reverse, bool time_major, bool allow_tf32,
                                                     const std::string& driver) {
  Options options{};
  options.activation = "tanh";
  options.forget_bias = forget_bias;
  options.reverse = all_of(reverse);
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
                             "A sequence, or several in one call, whose tensors stay on the GPU, for measurements. "
                             "Arrays as sequence_forward's and sequence_backward's; without d_final_state it has no "
                             "gradients.")
      .def(py::init(&make_device_sequence), py::arg("cell"), py::arg("x"), py::arg("kernels"), py::arg("biases"),
           py::arg("initial_state"), py::arg("lengths") = py::none(), py::kw_only(), py::arg("d_y") = py::none(),
           py::arg("d_final_state") = Arrays{}, py::arg("forget_bias") = 0.0, py::arg("reverse") = false,
           py::arg("time_major") = false, py::arg("allow_tf32") = false, py::arg("driver") = "auto")
      .def("forward", &DeviceSequence::forward, py::arg("keep") = false, "Starts a forward pass.")
      .def("backward", &DeviceSequence::backward, "Starts the backward pass of the last forward(keep=True).")
      .def("time", &DeviceSequence::time, py::arg("what"), py::arg("repeats"),
           "Milliseconds of each run, by CUDA events: inference, forward (which keeps), backward or training (both).")
      .def("outputs", &DeviceSequence::outputs,
           "Waits, and returns every output by name: y, final_*, d_*; each a list, if x was one. NaN where nothing has "
           "been written.")
      .def("synchronise", &DeviceSequence::synchronise, "Waits for what was started.")
      .def_property_readonly("workspace_bytes", &DeviceSequence::workspace_bytes);
}

}  // namespace fused_rnn
