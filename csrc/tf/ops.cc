// The ops' definitions and shape functions.
#include "csrc/check.h"
#include "tensorflow/core/framework/common_shape_fns.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/shape_inference.h"

namespace fused_rnn::tf {
namespace {

using ::tensorflow::shape_inference::DimensionHandle;
using ::tensorflow::shape_inference::InferenceContext;
using ::tensorflow::shape_inference::ShapeHandle;

bool all_defined(InferenceContext* c, const std::vector<ShapeHandle>& shapes) {
  for (const ShapeHandle& shape : shapes) {
    if (!c->FullyDefined(shape)) return false;
  }
  return true;
}

std::vector<Shape> values(InferenceContext* c, const std::vector<ShapeHandle>& shapes) {
  std::vector<Shape> out;
  for (const ShapeHandle& shape : shapes) {
    Shape& dims = out.emplace_back();
    for (int i = 0; i < c->Rank(shape); ++i) dims.push_back(c->Value(c->Dim(shape, i)));
  }
  return out;
}

absl::Status invalid(const Status& status) {
  return status.ok() ? absl::OkStatus() : absl::InvalidArgumentError(status.message);
}

// The inputs of an op: lists that hold those of one sequence after another.
struct Given {
  std::vector<ShapeHandle> inputs, kernels, biases, initial_state;
  Cell cell;
  bool time_major = false;

  absl::Status read(InferenceContext* c, bool step) {
    TF_RETURN_IF_ERROR(c->input("inputs", &inputs));
    TF_RETURN_IF_ERROR(c->input("kernels", &kernels));
    TF_RETURN_IF_ERROR(c->input("biases", &biases));
    TF_RETURN_IF_ERROR(c->input("initial_state", &initial_state));
    std::string name;
    TF_RETURN_IF_ERROR(c->GetAttr("cell", &name));
    if (!step) TF_RETURN_IF_ERROR(c->GetAttr("time_major", &time_major));
    return invalid(find_cell(name, &cell));
  }
};

// What the kernel would say later: of the numbers of tensors and, where all are known, of their shapes.
absl::Status check_known_shapes(InferenceContext* c, const Given& given, bool step) {
  SequenceShapes shapes;
  shapes.inputs.resize(given.inputs.size());
  shapes.kernels.resize(given.kernels.size());
  shapes.biases.resize(given.biases.size());
  shapes.initial_state.resize(given.initial_state.size());
  TF_RETURN_IF_ERROR(invalid(check_counts(shapes, given.cell)));
  for (const auto& group : {given.inputs, given.kernels, given.biases, given.initial_state}) {
    if (!all_defined(c, group)) return absl::OkStatus();
  }
  shapes.step = step;
  shapes.time_major = given.time_major;
  shapes.inputs = values(c, given.inputs);
  shapes.kernels = values(c, given.kernels);
  shapes.biases = values(c, given.biases);
  shapes.initial_state = values(c, given.initial_state);
  SequenceParams params;
  params.cell = given.cell;
  return invalid(check_shapes(shapes, &params));
}

// What all sequences of a call have in common, as far as one or another of them tells.
struct Sizes {
  DimensionHandle time, batch, widths[kMaxStates];  // P of h, H of c

  explicit Sizes(InferenceContext* c)
      : time(c->UnknownDim()), batch(c->UnknownDim()), widths{c->UnknownDim(), c->UnknownDim()} {}

  // By the kernels and states of sequence n.
  absl::Status take_weights(InferenceContext* c, const Given& given, int n) {
    const CellInfo& info = cell_info(given.cell);
    ShapeHandle first, last;
    TF_RETURN_IF_ERROR(c->WithRank(given.kernels[n * info.kernels], 2, &first));
    TF_RETURN_IF_ERROR(c->WithRank(given.kernels[(n + 1) * info.kernels - 1], 2, &last));
    DimensionHandle units;
    TF_RETURN_IF_ERROR(c->Divide(c->Dim(first, 1), info.kernel_gates[0], true, &units));
    TF_RETURN_IF_ERROR(c->Merge(widths[1], units, &widths[1]));
    TF_RETURN_IF_ERROR(c->Merge(widths[0], info.projected ? c->Dim(last, 1) : units, &widths[0]));
    for (int k = 0; k < info.states; ++k) {
      ShapeHandle state;
      TF_RETURN_IF_ERROR(c->WithRank(given.initial_state[n * info.states + k], 2, &state));
      TF_RETURN_IF_ERROR(c->Merge(batch, c->Dim(state, 0), &batch));
      const DimensionHandle width = c->Dim(state, 1);
      DimensionHandle merged;
      if (!c->Merge(widths[k], width, &merged).ok()) {
        return absl::InvalidArgumentError("initial_state " + std::string(k == 0 ? "h" : "c") + " must have " +
                                          std::to_string(c->Value(widths[k])) + " columns, got " +
                                          std::to_string(c->Value(width)));
      }
      widths[k] = merged;
    }
    return absl::OkStatus();
  }

  absl::Status take_inputs(InferenceContext* c, const ShapeHandle& inputs, bool time_major, bool step) {
    ShapeHandle x;
    TF_RETURN_IF_ERROR(c->WithRank(inputs, step ? 2 : 3, &x));
    TF_RETURN_IF_ERROR(c->Merge(batch, c->Dim(x, time_major ? 1 : 0), &batch));
    return step ? absl::OkStatus() : c->Merge(time, c->Dim(x, time_major ? 0 : 1), &time);
  }
};

// Takes the batch from the lengths, too, which may be left out.
absl::Status take_lengths(InferenceContext* c, Sizes& sizes) {
  std::vector<ShapeHandle> lengths;
  TF_RETURN_IF_ERROR(c->input("sequence_length", &lengths));
  for (const ShapeHandle& each : lengths) {
    ShapeHandle vector;
    DimensionHandle batch;
    if (!c->WithRank(each, 1, &vector).ok() || !c->Merge(sizes.batch, c->Dim(vector, 0), &batch).ok()) {
      return absl::InvalidArgumentError("sequence_length must be [B] = [" + c->DebugString(sizes.batch) + "], got " +
                                        c->DebugString(each));
    }
    sizes.batch = batch;
  }
  return absl::OkStatus();
}

absl::Status forward_shapes(InferenceContext* c, bool step) {
  Given given;
  TF_RETURN_IF_ERROR(given.read(c, step));
  TF_RETURN_IF_ERROR(check_known_shapes(c, given, step));
  const int sequences = static_cast<int>(given.inputs.size());
  Sizes sizes(c);
  for (int n = 0; n < sequences; ++n) {
    TF_RETURN_IF_ERROR(sizes.take_weights(c, given, n));
    TF_RETURN_IF_ERROR(sizes.take_inputs(c, given.inputs[n], given.time_major, step));
  }
  if (!step) {
    TF_RETURN_IF_ERROR(take_lengths(c, sizes));
    const ShapeHandle y = given.time_major ? c->MakeShape({sizes.time, sizes.batch, sizes.widths[0]})
                                           : c->MakeShape({sizes.batch, sizes.time, sizes.widths[0]});
    TF_RETURN_IF_ERROR(c->set_output("outputs", std::vector<ShapeHandle>(sequences, y)));
  }
  std::vector<ShapeHandle> final_state;
  const int states = cell_info(given.cell).states;
  for (int k = 0; k < sequences * states; ++k) {
    final_state.push_back(c->MakeShape({sizes.batch, sizes.widths[k % states]}));
  }
  TF_RETURN_IF_ERROR(c->set_output("final_state", final_state));
  return c->set_output("saved", std::vector<ShapeHandle>(sequences, c->Vector(InferenceContext::kUnknownDim)));
}

// Every gradient has the shape of what it is the gradient of.
absl::Status backward_shapes(InferenceContext* c) {
  for (const char* name : {"inputs", "kernels", "biases", "initial_state"}) {
    std::vector<ShapeHandle> shapes;
    TF_RETURN_IF_ERROR(c->input(name, &shapes));
    TF_RETURN_IF_ERROR(c->set_output(std::string("d_") + name, shapes));
  }
  return absl::OkStatus();
}

}  // namespace
}  // namespace fused_rnn::tf

#define FUSED_RNN_CELL_ATTRS                 \
  Attr("T: {half, bfloat16, float, double}") \
      .Attr("cell: string")                  \
      .Attr("activation: string")            \
      .Attr("forget_bias: string")           \
      .Attr("cell_clip: string")             \
      .Attr("proj_clip: string")             \
      .Attr("num_kernels: int >= 1")         \
      .Attr("num_biases: int >= 1")          \
      .Attr("num_states: int >= 1")

#define FUSED_RNN_WEIGHTS_AND_STATE \
  Input("kernels: num_kernels * T").Input("biases: num_biases * T").Input("initial_state: num_states * T")

#define FUSED_RNN_SEQUENCE_INPUTS                                                \
  FUSED_RNN_CELL_ATTRS.Attr("num_sequences: int >= 1")                           \
      .Attr("num_lengths: int >= 0")                                             \
      .Attr("num_masks: int >= 0")                                               \
      .Attr("time_major: bool")                                                  \
      .Attr("reverse: list(bool)")                                               \
      .Input("inputs: num_sequences * T")                                        \
      .FUSED_RNN_WEIGHTS_AND_STATE.Input("sequence_length: num_lengths * int64") \
      .Input("state_mask: num_masks * T")

#define FUSED_RNN_WEIGHT_GRADIENTS \
  Output("d_kernels: num_kernels * T").Output("d_biases: num_biases * T").Output("d_initial_state: num_states * T")

REGISTER_OP("FusedRnnSequence")
    .FUSED_RNN_SEQUENCE_INPUTS.Attr("keep: bool")
    .Output("outputs: num_sequences * T")
    .Output("final_state: num_states * T")
    .Output("saved: num_sequences * uint8")
    .SetShapeFn([](tensorflow::shape_inference::InferenceContext* c) {
      return fused_rnn::tf::forward_shapes(c, false);
    })
    .Doc(R"doc(
A recurrent cell over whole sequences: inputs [B, T, I], or [T, B, I] if time_major. Several sequences in one op are alike
in all but their tensors and reverse, and independent of each other: they may run side by side.

inputs: the sequences. The other lists hold what is said of them here once for each sequence, one after another.
kernels: [I + P, gates * H] each, rows of the inputs first; for lstm_projected the projection [H, P] last. P is H
  where there is none.
biases: [gates * H] each; for gru_reset_after a recurrent one last; for lstm_peephole and lstm_projected the peepholes of
  i, f and o, [H] each.
initial_state: h [B, P], and c [B, H] for the lstm.
sequence_length: nothing, or one [B] for all sequences: 0 <= length <= T.
state_mask: nothing, or a tensor like outputs: h is multiplied by it after each step, before the next step takes it or
  it is final; outputs are not. Without a gradient.
outputs: [B, T, P], or [T, B, P] if time_major; 0 past a row's length.
final_state: as initial_state, after each row's last step.
saved: what the gradient needs; empty where keep is false or no gradient is asked for.
cell: rnn, lstm, lstm_peephole, lstm_projected (which has peepholes, too), gru or gru_reset_after.
activation: tanh, relu, sigmoid, softsign, elu or identity.
forget_bias: a number that is added to the forget gate of the lstm, as text with all its digits: float attributes are
  float32.
cell_clip, proj_clip: likewise, the limits of c, and of h where it is projected; inf for none.
reverse: of each sequence, whether every row runs from its own end to its start.
)doc");

REGISTER_OP("FusedRnnSequenceGrad")
    .FUSED_RNN_SEQUENCE_INPUTS.Input("outputs: num_sequences * T")
    .Input("saved: num_sequences * uint8")
    .Input("d_outputs: num_sequences * T")
    .Input("d_final_state: num_states * T")
    .Output("d_inputs: num_sequences * T")
    .FUSED_RNN_WEIGHT_GRADIENTS.SetShapeFn(fused_rnn::tf::backward_shapes)
    .Doc("The gradients of FusedRnnSequence.");

REGISTER_OP("FusedRnnStep")
    .FUSED_RNN_CELL_ATTRS.Attr("keep: bool")
    .Input("inputs: T")
    .FUSED_RNN_WEIGHTS_AND_STATE.Output("final_state: num_states * T")
    .Output("saved: uint8")
    .SetShapeFn([](tensorflow::shape_inference::InferenceContext* c) { return fused_rnn::tf::forward_shapes(c, true); })
    .Doc("One step of a recurrent cell: FusedRnnSequence for inputs [B, I], whose outputs are h of the final state.");

REGISTER_OP("FusedRnnStepGrad")
    .FUSED_RNN_CELL_ATTRS.Input("inputs: T")
    .FUSED_RNN_WEIGHTS_AND_STATE.Input("final_state: num_states * T")
    .Input("saved: uint8")
    .Input("d_final_state: num_states * T")
    .Output("d_inputs: T")
    .FUSED_RNN_WEIGHT_GRADIENTS.SetShapeFn(fused_rnn::tf::backward_shapes)
    .Doc("The gradients of FusedRnnStep.");
