// What a call of the core from Python consists of: NumPy arrays checked and put where the device sees them.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "csrc/check.h"
#include "csrc/python/device_memory.h"
#include "csrc/sequence.h"

namespace fused_rnn {

namespace py = pybind11;

using Arrays = std::vector<py::array>;
using Lengths = std::optional<std::vector<int64_t>>;
using Clip = std::optional<double>;

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

inline std::vector<Shape> shapes_of(const std::vector<py::array>& arrays) {
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
  std::string driver;
  bool allow_tf32;
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
    raise_if(find_driver(options.driver, &params_.driver));
    params_.allow_tf32 = options.allow_tf32;
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
    params_.product = memory_.product(options.allow_tf32);
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

}  // namespace fused_rnn
