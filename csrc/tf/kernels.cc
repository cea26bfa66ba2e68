// The ops' kernels: each checks, allocates, fills Params and calls the core.
#include <atomic>
#include <charconv>
#include <chrono>
#include <type_traits>

#include "csrc/check.h"
#include "csrc/sequence.h"
#include "csrc/tf/threads.h"
#include "tensorflow/core/framework/op_kernel.h"

#if defined(FUSED_RNN_CUDA)
#include "csrc/tf/blas.h"
#endif

namespace fused_rnn::tf {
namespace {

using ::tensorflow::OpInputList;
using ::tensorflow::OpKernel;
using ::tensorflow::OpKernelConstruction;
using ::tensorflow::OpKernelContext;
using ::tensorflow::OpOutputList;
using ::tensorflow::Tensor;
using ::tensorflow::TensorShape;

DType dtype_of(tensorflow::DataType dtype) {
  switch (dtype) {
    case tensorflow::DT_DOUBLE: return DType::kFloat64;
    case tensorflow::DT_HALF: return DType::kFloat16;
    case tensorflow::DT_BFLOAT16: return DType::kBFloat16;
    default: return DType::kFloat32;
  }
}

absl::Status invalid(const Status& status) {
  return status.ok() ? absl::OkStatus() : absl::InvalidArgumentError(status.message);
}

Shape shape_of(const Tensor& tensor) {
  Shape shape;
  for (int i = 0; i < tensor.dims(); ++i) shape.push_back(tensor.dim_size(i));
  return shape;
}

std::vector<Shape> shapes_of(const OpInputList& list) {
  std::vector<Shape> shapes;
  for (const Tensor& tensor : list) shapes.push_back(shape_of(tensor));
  return shapes;
}

const void* data(const Tensor& tensor) {
  return tensor.data();
}
void* data(Tensor* tensor) {
  return tensor->data();
}

// What the ops of one kind have done in this process: for a report of where a program's time goes.
struct Counters {
  std::atomic<int64_t> calls{0}, steps{0}, nanoseconds{0};
};
// Sequence forward and backward, step forward and backward.
Counters counters[4];

// Counts a call, and its time on this thread, until it ends.
class Counted {
 public:
  Counted(Counters& counters, int64_t steps) : counters_(counters), steps_(steps) {}
  ~Counted() {
    const std::chrono::nanoseconds time = Clock::now() - start_;
    counters_.calls.fetch_add(1, std::memory_order_relaxed);
    counters_.steps.fetch_add(steps_, std::memory_order_relaxed);
    counters_.nanoseconds.fetch_add(time.count(), std::memory_order_relaxed);
  }

 private:
  using Clock = std::chrono::steady_clock;
  Counters& counters_;
  const int64_t steps_;
  const Clock::time_point start_ = Clock::now();
};

// What all four ops share: attributes, inputs, device.
template <bool kStep>
class CellOp : public OpKernel {
 public:
  explicit CellOp(OpKernelConstruction* c) : OpKernel(c) {
    std::string cell, activation;
    OP_REQUIRES_OK(c, c->GetAttr("cell", &cell));
    OP_REQUIRES_OK(c, invalid(find_cell(cell, &given_.cell)));
    OP_REQUIRES_OK(c, c->GetAttr("activation", &activation));
    OP_REQUIRES_OK(c, invalid(find_activation(activation, &given_.activation)));
    OP_REQUIRES_OK(c, read_number(c, "forget_bias", &given_.forget_bias));
    OP_REQUIRES_OK(c, read_number(c, "cell_clip", &given_.cell_clip));
    OP_REQUIRES_OK(c, read_number(c, "proj_clip", &given_.proj_clip));
    tensorflow::DataType dtype;
    OP_REQUIRES_OK(c, c->GetAttr("T", &dtype));
    given_.dtype = dtype_of(dtype);
    on_gpu_ = c->device_type() == tensorflow::DeviceType(tensorflow::DEVICE_GPU);
    if (!kStep) {
      OP_REQUIRES_OK(c, c->GetAttr("time_major", &time_major_));
      int sequences;
      reverse_.clear();  // GetAttr appends
      OP_REQUIRES_OK(c, c->GetAttr("reverse", &reverse_));
      OP_REQUIRES_OK(c, c->GetAttr("num_sequences", &sequences));
      OP_REQUIRES_OK(c, check_one_each("reverse", static_cast<int>(reverse_.size()), sequences));
    }
  }

 protected:
  // Checks the inputs that forward and backward ops share, and puts them into the params of each sequence.
  template <typename Params>
  absl::Status read(OpKernelContext* c, SequenceShapes* shapes, std::vector<Params>* sequences) const {
    OpInputList inputs, kernels, biases, initial_state;
    TF_RETURN_IF_ERROR(c->input_list("inputs", &inputs));
    TF_RETURN_IF_ERROR(c->input_list("kernels", &kernels));
    TF_RETURN_IF_ERROR(c->input_list("biases", &biases));
    TF_RETURN_IF_ERROR(c->input_list("initial_state", &initial_state));
    SequenceParams common = given_;
    shapes->step = kStep;
    shapes->time_major = time_major_;
    shapes->inputs = shapes_of(inputs);
    shapes->kernels = shapes_of(kernels);
    shapes->biases = shapes_of(biases);
    shapes->initial_state = shapes_of(initial_state);
    TF_RETURN_IF_ERROR(invalid(check_shapes(*shapes, &common)));
    TF_RETURN_IF_ERROR(read_lengths(c, &common));
    use_device(c, &common);
    const CellInfo& info = cell_info(common.cell);
    sequences->resize(inputs.size());
    for (int n = 0; n < inputs.size(); ++n) {
      Params& params = (*sequences)[n];
      static_cast<SequenceParams&>(params) = common;
      params.reverse = reverse_[n];
      params.x = data(inputs[n]);
      for (int k = 0; k < info.kernels; ++k) params.kernels[k] = data(kernels[n * info.kernels + k]);
      for (int k = 0; k < info.biases; ++k) params.biases[k] = data(biases[n * info.biases + k]);
      for (int k = 0; k < info.states; ++k) params.initial_state[k] = data(initial_state[n * info.states + k]);
      params.y_strides = sequence_strides(*shapes, params, params.P);
    }
    return read_masks(c, *shapes, sequences);
  }

  template <typename Params>
  absl::Status run(OpKernelContext* c, size_t (*measure)(const Params*, int), Status (*run)(const Params*, int),
                   std::vector<Params>* sequences) const {
    const int count = static_cast<int>(sequences->size());
    Tensor workspace;
    const int64_t bytes = static_cast<int64_t>(measure(sequences->data(), count));
    TF_RETURN_IF_ERROR(c->allocate_temp(tensorflow::DT_UINT8, TensorShape({bytes}), &workspace));
    for (Params& params : *sequences) params.workspace = data(&workspace);
    constexpr bool kBackward = std::is_same_v<Params, SequenceBackwardParams>;
    const Counted counted(counters[2 * kStep + kBackward], count * sequences->front().T);
    const Status status = run(sequences->data(), count);
    return status.ok() ? absl::OkStatus() : absl::InternalError(status.message);
  }

  static absl::Status check_one_each(const char* name, int count, int sequences) {
    if (count == sequences) return absl::OkStatus();
    return absl::InvalidArgumentError(std::string(name) + " must hold one for each of " + std::to_string(sequences) +
                                      " sequences, got " + std::to_string(count));
  }

  static absl::Status check_states(const char* name, const OpInputList& states, const SequenceParams& params) {
    const int of_each = cell_info(params.cell).states;
    int index = 0;
    for (const Tensor& state : states) {
      const Shape expected = state_shape(params, index++ % of_each);
      TF_RETURN_IF_ERROR(invalid(check_shape(name, shape_of(state), "as initial_state", expected)));
    }
    return absl::OkStatus();
  }

  static int64_t saved_bytes(const SequenceParams& params) {
    return params.T * params.B * cell_info(params.cell).saved * params.H *
           static_cast<int64_t>(dtype_bytes(params.dtype));
  }

 private:
  // Sets where the work is done.
  void use_device(OpKernelContext* c, SequenceParams* params) const {
#if defined(FUSED_RNN_CUDA)
    if (on_gpu_) {
      params->device = Device::kCuda;
      params->stream = cuda_stream(c);
      params->allow_tf32 = allow_tf32();
      params->product = [c](const Product& product) { return blas_product(c, product); };
      return;
    }
#endif
    params->threads = lent_threads(c, kStep);
  }

  static absl::Status read_number(OpKernelConstruction* c, const char* name, double* number) {
    std::string text;
    TF_RETURN_IF_ERROR(c->GetAttr(name, &text));
    const char* end = text.data() + text.size();
    const auto [stop, error] = std::from_chars(text.data(), end, *number);  // which minds no locale
    if (error == std::errc() && stop == end) return absl::OkStatus();
    return absl::InvalidArgumentError(std::string(name) + " must be a number, got " + text);
  }

  // What a sequence may have beside a step's inputs.
  static absl::Status read_lengths(OpKernelContext* c, SequenceParams* params) {
    if constexpr (!kStep) {
      OpInputList lengths;
      TF_RETURN_IF_ERROR(c->input_list("sequence_length", &lengths));
      if (lengths.size() == 0) return absl::OkStatus();
      if (lengths.size() > 1) return absl::InvalidArgumentError("sequence_length must hold at most one tensor");
      params->lengths = lengths[0].flat<int64_t>().data();
      return invalid(check_lengths(shape_of(lengths[0]), params->lengths, *params));
    }
    return absl::OkStatus();
  }

  template <typename Params>
  static absl::Status read_masks(OpKernelContext* c, const SequenceShapes& shapes, std::vector<Params>* sequences) {
    if constexpr (!kStep) {
      OpInputList masks;
      TF_RETURN_IF_ERROR(c->input_list("state_mask", &masks));
      if (masks.size() == 0) return absl::OkStatus();
      TF_RETURN_IF_ERROR(check_one_each("state_mask", masks.size(), static_cast<int>(sequences->size())));
      const Shape expected = output_shape(shapes, sequences->front());
      for (int n = 0; n < masks.size(); ++n) {
        TF_RETURN_IF_ERROR(invalid(check_shape("state_mask", shape_of(masks[n]), "as outputs", expected)));
        (*sequences)[n].state_mask = data(masks[n]);
      }
    }
    return absl::OkStatus();
  }

  SequenceParams given_;              // what the attributes say
  std::vector<bool> reverse_{false};  // of each sequence
  bool on_gpu_, time_major_ = false;
};

template <bool kStep>
class ForwardOp : public CellOp<kStep> {
 public:
  explicit ForwardOp(OpKernelConstruction* c) : CellOp<kStep>(c) { OP_REQUIRES_OK(c, c->GetAttr("keep", &keep_)); }

  void Compute(OpKernelContext* c) override {
    SequenceShapes shapes;
    std::vector<SequenceForwardParams> sequences;
    OP_REQUIRES_OK(c, this->read(c, &shapes, &sequences));
    OP_REQUIRES_OK(c, allocate(c, shapes, &sequences));
    OP_REQUIRES_OK(c, this->run(c, sequence_forward_workspace_bytes, sequence_forward, &sequences));
  }

 private:
  bool keep_;

  absl::Status allocate(OpKernelContext* c, const SequenceShapes& shapes,
                        std::vector<SequenceForwardParams>* sequences) const {
    const int count = static_cast<int>(sequences->size()), states = cell_info(sequences->front().cell).states;
    OpOutputList outputs, final_state, saved;
    if (!kStep) TF_RETURN_IF_ERROR(c->output_list("outputs", &outputs));
    TF_RETURN_IF_ERROR(c->output_list("final_state", &final_state));
    TF_RETURN_IF_ERROR(c->output_list("saved", &saved));
    bool keep = false;
    for (int n = 1; n <= count; ++n) keep = keep || (keep_ && c->output_required(c->num_outputs() - n));
    for (int n = 0; n < count; ++n) {
      SequenceForwardParams& params = (*sequences)[n];
      Tensor* tensor;
      for (int k = 0; k < states; ++k) {
        TF_RETURN_IF_ERROR(final_state.allocate(n * states + k, TensorShape(state_shape(params, k)), &tensor));
        params.final_state[k] = data(tensor);
      }
      params.y = params.final_state[0];  // of a step
      if (!kStep) {
        TF_RETURN_IF_ERROR(outputs.allocate(n, TensorShape(output_shape(shapes, params)), &tensor));
        params.y = data(tensor);
      }
      TF_RETURN_IF_ERROR(saved.allocate(n, TensorShape({keep ? this->saved_bytes(params) : 0}), &tensor));
      params.saved = keep ? data(tensor) : nullptr;
    }
    return absl::OkStatus();
  }
};

template <bool kStep>
class BackwardOp : public CellOp<kStep> {
 public:
  using CellOp<kStep>::CellOp;

  void Compute(OpKernelContext* c) override {
    SequenceShapes shapes;
    std::vector<SequenceBackwardParams> sequences;
    OP_REQUIRES_OK(c, this->read(c, &shapes, &sequences));
    OP_REQUIRES_OK(c, read_forward_results(c, shapes, &sequences));
    const auto one_d_x = [](SequenceBackwardParams& params) { return &params.d_x; };
    const auto d_kernels = [](SequenceBackwardParams& params) { return params.d_kernels; };
    const auto d_biases = [](SequenceBackwardParams& params) { return params.d_biases; };
    const auto d_state = [](SequenceBackwardParams& params) { return params.d_initial_state; };
    OP_REQUIRES_OK(c, allocate(c, "d_inputs", shapes.inputs, one_d_x, &sequences));
    OP_REQUIRES_OK(c, allocate(c, "d_kernels", shapes.kernels, d_kernels, &sequences));
    OP_REQUIRES_OK(c, allocate(c, "d_biases", shapes.biases, d_biases, &sequences));
    OP_REQUIRES_OK(c, allocate(c, "d_initial_state", shapes.initial_state, d_state, &sequences));
    OP_REQUIRES_OK(c, this->run(c, sequence_backward_workspace_bytes, sequence_backward, &sequences));
  }

 private:
  // What the forward op wrote, and the gradients of it.
  absl::Status read_forward_results(OpKernelContext* c, const SequenceShapes& shapes,
                                    std::vector<SequenceBackwardParams>* sequences) const {
    const SequenceParams& common = sequences->front();
    const int states = cell_info(common.cell).states;
    OpInputList saved, d_final_state;
    TF_RETURN_IF_ERROR(c->input_list("saved", &saved));
    TF_RETURN_IF_ERROR(c->input_list("d_final_state", &d_final_state));
    TF_RETURN_IF_ERROR(this->check_states("d_final_state", d_final_state, common));
    for (int n = 0; n < saved.size(); ++n) {
      SequenceBackwardParams& params = (*sequences)[n];
      TF_RETURN_IF_ERROR(invalid(check_shape("saved", shape_of(saved[n]), "what the forward op kept for a gradient",
                                             {this->saved_bytes(common)})));
      params.saved = data(saved[n]);
      for (int k = 0; k < states; ++k) params.d_final_state[k] = data(d_final_state[n * states + k]);
    }
    if constexpr (kStep) {
      OpInputList final_state;
      TF_RETURN_IF_ERROR(c->input_list("final_state", &final_state));
      TF_RETURN_IF_ERROR(this->check_states("final_state", final_state, common));
      sequences->front().y = data(final_state[0]);
      return absl::OkStatus();
    }
    return read_outputs(c, output_shape(shapes, common), sequences);
  }

  static absl::Status read_outputs(OpKernelContext* c, const Shape& expected,
                                   std::vector<SequenceBackwardParams>* sequences) {
    OpInputList outputs, d_outputs;
    TF_RETURN_IF_ERROR(c->input_list("outputs", &outputs));
    TF_RETURN_IF_ERROR(c->input_list("d_outputs", &d_outputs));
    for (int n = 0; n < outputs.size(); ++n) {
      TF_RETURN_IF_ERROR(invalid(check_shape("outputs", shape_of(outputs[n]), "the forward op's outputs", expected)));
      // TensorFlow's gradients of an empty tensor may have lost sizes beyond 32 bits: then there is nothing to read.
      if (outputs[n].NumElements() + d_outputs[n].NumElements() == 0) continue;
      TF_RETURN_IF_ERROR(invalid(check_shape("d_outputs", shape_of(d_outputs[n]), "as outputs", expected)));
      (*sequences)[n].y = data(outputs[n]);
      (*sequences)[n].d_y = data(d_outputs[n]);
    }
    return absl::OkStatus();
  }

  // place: where a sequence's share of the pointers stands in its params.
  template <typename Place>
  static absl::Status allocate(OpKernelContext* c, const char* name, const std::vector<Shape>& shapes,
                               const Place& place, std::vector<SequenceBackwardParams>* sequences) {
    const size_t of_each = shapes.size() / sequences->size();
    OpOutputList list;
    TF_RETURN_IF_ERROR(c->output_list(name, &list));
    for (size_t k = 0; k < shapes.size(); ++k) {
      Tensor* tensor;
      TF_RETURN_IF_ERROR(list.allocate(static_cast<int>(k), TensorShape(shapes[k]), &tensor));
      place((*sequences)[k / of_each])[k % of_each] = data(tensor);
    }
    return absl::OkStatus();
  }
};

#define REGISTER(device)                                                                                            \
  REGISTER_KERNEL_BUILDER(Name("FusedRnnSequence").Device(device).HostMemory("sequence_length"), ForwardOp<false>); \
  REGISTER_KERNEL_BUILDER(Name("FusedRnnSequenceGrad").Device(device).HostMemory("sequence_length"),                \
                          BackwardOp<false>);                                                                       \
  REGISTER_KERNEL_BUILDER(Name("FusedRnnStep").Device(device), ForwardOp<true>);                                    \
  REGISTER_KERNEL_BUILDER(Name("FusedRnnStepGrad").Device(device), BackwardOp<true>);

REGISTER(tensorflow::DEVICE_CPU)
#if defined(FUSED_RNN_CUDA)
REGISTER(tensorflow::DEVICE_GPU)
#endif

}  // namespace
}  // namespace fused_rnn::tf

// to [12] = calls, steps and nanoseconds of the sequence op, its gradient, the step op and its gradient, so far.
extern "C" __attribute__((visibility("default"))) void fused_rnn_read_counters(int64_t* to) {
  for (const fused_rnn::tf::Counters& each : fused_rnn::tf::counters) {
    *to++ = each.calls;
    *to++ = each.steps;
    *to++ = each.nanoseconds;
  }
}
