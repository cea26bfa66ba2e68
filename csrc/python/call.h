// What a call of the core from Python consists of: NumPy arrays checked and put where the device sees them.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <variant>
#include <vector>

#include "csrc/check.h"
#include "csrc/python/device_memory.h"
#include "csrc/sequence.h"

namespace fused_rnn {

namespace py = pybind11;

using Arrays = std::vector<py::array>;
using Flags = std::vector<bool>;
// What there is one of for each sequence: the thing itself, or a list of as many as there are sequences.
using EachArray = std::variant<py::array, Arrays>;
using EachFlag = std::variant<bool, Flags>;
using Lengths = std::optional<std::vector<int64_t>>;
using Clip = std::optional<double>;

inline Arrays all_of(const EachArray& given) {
  if (const py::array* one = std::get_if<py::array>(&given)) return Arrays{*one};
  return std::get<Arrays>(given);
}
inline Arrays all_of(const std::optional<EachArray>& given) {
  return given ? all_of(*given) : Arrays{};
}
inline Flags all_of(const EachFlag& given) {
  if (const bool* one = std::get_if<bool>(&given)) return Flags(1, *one);
  return std::get<Flags>(given);
}

// `made`, one for each sequence, in the form that x came in.
inline py::object as_given(const EachArray& x, const py::list& made) {
  return std::holds_alternative<py::array>(x) ? py::object(made[0]) : py::object(made);
}

inline void raise_if(const Status& status) {
  if (!status.ok()) throw py::value_error(status.message);
}

inline Cell cell_named(const std::string& name) {
  Cell cell;
  raise_if(find_cell(name, &cell));
  return cell;
}

inline DType dtype_named(const std::string& name) {
  if (name == "float32") return DType::kFloat32;
  if (name == "float64") return DType::kFloat64;
  if (name == "float16") return DType::kFloat16;
  if (name == "bfloat16") return DType::kBFloat16;
  throw py::value_error("inputs must be float32, float64, float16 or bfloat16, got " + name);
}

inline DType dtype_of(const py::array& array) {
  return dtype_named(py::str(array.dtype().attr("name")));
}

inline Shape shape_of(const py::array& array) {
  return Shape(array.shape(), array.shape() + array.ndim());
}

inline std::vector<Shape> shapes_of(const Arrays& arrays) {
  std::vector<Shape> shapes;
  for (const py::array& array : arrays) shapes.push_back(shape_of(array));
  return shapes;
}

// Threads made for one call: simple, and late or early as the machine likes, which is what tests want.
class ThreadsOfCall {
 public:
  explicit ThreadsOfCall(int count) {
    threads_.count = count;
    threads_.schedule = [this](std::function<void()> work) {
      const std::lock_guard<std::mutex> lock(mutex_);
      started_.emplace_back(std::move(work));
    };
  }
  ~ThreadsOfCall() {
    for (std::thread& thread : started_) thread.join();
  }
  const Threads& threads() const { return threads_; }

 private:
  Threads threads_;
  std::mutex mutex_;
  std::vector<std::thread> started_;
};

// The arguments that both directions take by keyword.
struct Options {
  std::string activation;
  double forget_bias;
  std::optional<double> cell_clip, proj_clip;
  Flags reverse;  // of each sequence
  bool time_major;
  std::string device;
  int threads;
  std::string driver;
  bool allow_tf32;
};

// What both directions take, checked, and on its way to the SequenceParams of each sequence. Lists of arrays hold those
// of all sequences, one sequence after another.
class Call {
 public:
  Call(const std::string& cell, const Arrays& x, const Arrays& kernels, const Arrays& biases,
       const Arrays& initial_state, const Lengths& lengths, const Arrays& state_mask, const Options& options)
      : memory_(options.device), threads_(options.threads), lengths_(lengths) {
    if (x.empty()) throw py::value_error("x must hold at least one array");
    dtype_ = x[0].dtype();
    if (options.threads < 1) {
      throw py::value_error("threads must be at least 1, got " + std::to_string(options.threads));
    }
    params_.cell = cell_named(cell);
    params_.device = memory_.device();
    params_.dtype = dtype_of(x[0]);
    raise_if(find_activation(options.activation, &params_.activation));
    raise_if(find_driver(options.driver, &params_.driver));
    params_.allow_tf32 = options.allow_tf32;
    params_.forget_bias = options.forget_bias;
    if (options.cell_clip) params_.cell_clip = *options.cell_clip;
    if (options.proj_clip) params_.proj_clip = *options.proj_clip;
    shapes_.time_major = options.time_major;
    shapes_.inputs = shapes_of(x);
    shapes_.kernels = shapes_of(kernels);
    shapes_.biases = shapes_of(biases);
    shapes_.initial_state = shapes_of(initial_state);
    raise_if(check_shapes(shapes_, &params_));
    if (lengths_) {
      raise_if(check_lengths({static_cast<int64_t>(lengths_->size())}, lengths_->data(), params_));
      params_.lengths = lengths_->data();
    }
    params_.threads = threads_.threads();
    params_.stream = memory_.stream();
    params_.product = memory_.product(options.allow_tf32);
    check_count("reverse", options.reverse.size(), 1);
    if (!state_mask.empty()) check_count("state_mask", state_mask.size(), 1);
    for (int n = 0; n < count(); ++n) {
      SequenceParams& params = sequences_.emplace_back(params_);
      const CellInfo& info = cell_info(params.cell);
      params.reverse = options.reverse[n];
      params.x = in("inputs", x[n]);
      for (int k = 0; k < info.kernels; ++k)
        params.kernels[k] = in(info.kernel_names[k], kernels[n * info.kernels + k]);
      for (int k = 0; k < info.biases; ++k) params.biases[k] = in(info.bias_names[k], biases[n * info.biases + k]);
      for (int k = 0; k < info.states; ++k) {
        params.initial_state[k] = in("initial_state", initial_state[n * info.states + k]);
      }
      if (!state_mask.empty()) params.state_mask = in("state_mask", state_mask[n], "as y", output_shape());
    }
  }

  int count() const { return static_cast<int>(shapes_.inputs.size()); }
  // What all sequences share.
  const SequenceParams& params() const { return params_; }
  // Of all sequences: what forward and backward have in common, for the caller to complete.
  template <typename Params>
  std::vector<Params> sequences() const {
    std::vector<Params> all(count());
    for (int n = 0; n < count(); ++n) {
      static_cast<SequenceParams&>(all[n]) = sequences_[n];
      all[n].y_strides = sequence_strides(shapes_, params_, params_.P);
    }
    return all;
  }
  Shape output_shape() const { return fused_rnn::output_shape(shapes_, params_); }
  DeviceMemory& memory() { return memory_; }

  // The device's copy of an argument, made contiguous; it must have the dtype of the inputs.
  const void* in(const std::string& name, const py::array& array) {
    if (!array.dtype().is(dtype_) && !array.dtype().equal(dtype_)) {
      throw py::value_error(name + " must be " + std::string(py::str(dtype_)) + " as inputs are, got " +
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
    return {shapes_.inputs[0][shapes_.time_major ? 0 : 1], params_.B, cell_info(params_.cell).saved, params_.H};
  }

  py::array make(const Shape& shape) const { return py::array(dtype_, shape); }

  void check_count(const std::string& name, size_t count, int of_each) const {
    const size_t expected = of_each * shapes_.inputs.size();
    if (count == expected) return;
    throw py::value_error(name + " must hold " + std::to_string(expected) + ", got " + std::to_string(count));
  }

  // One for the call, of so many bytes, for each of its sequences.
  template <typename Params>
  void set_workspace(std::vector<Params>& sequences, size_t bytes) {
    void* const workspace = memory_.workspace(bytes);
    for (Params& params : sequences) params.workspace = workspace;
  }

 private:
  py::dtype dtype_;
  DeviceMemory memory_;
  ThreadsOfCall threads_;
  const std::optional<std::vector<int64_t>> lengths_;
  SequenceShapes shapes_;
  SequenceParams params_;
  std::vector<SequenceParams> sequences_;
};

}  // namespace fused_rnn
