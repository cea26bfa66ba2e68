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

// Where all shapes are known, what the kernel would say of them later.
absl::Status check_known_shapes(InferenceContext* c, bool step) {
  std::vector<ShapeHandle> inputs, kernels, biases, states;
  TF_RETURN_IF_ERROR(c->input("inputs", &inputs));
  TF_RETURN_IF_ERROR(c->input("kernels", &kernels));
  TF_RETURN_IF_ERROR(c->input("biases", &biases));
  TF_RETURN_IF_ERROR(c->input("initial_state", &states));
  for (const auto& group : {inputs, kernels, biases, states}) {
    if (!all_defined(c, group)) return absl::OkStatus();
  }
  std::string cell;
  TF_RETURN_IF_ERROR(c->GetAttr("cell", &cell));
  SequenceShapes shapes;
  shapes.step = step;
  if (!step) TF_RETURN_IF_ERROR(c->GetAttr("time_major", &shapes.time_major));
  shapes.inputs = values(c, inputs)[0];
  shapes.kernels = values(c, kernels);
  shapes.biases = values(c, biases);
  shapes.initial_state = values(c, states);
  SequenceParams params;
  Status status = find_cell(cell, &params.cell);
  if (status.ok()) status = check_shapes(shapes, &params);
  return status.ok() ? absl::OkStatus() : absl::InvalidArgumentError(status.message);
}

// The widths of the states as far as the kernels tell: P of h, H of c.
absl::Status state_widths(InferenceContext* c, DimensionHandle (*widths)[kMaxStates]) {
  std::string name;
  Cell cell;
  TF_RETURN_IF_ERROR(c->GetAttr("cell", &name));
  if (const Status status = find_cell(name, &cell); !status.ok()) return absl::InvalidArgumentError(status.message);
  const CellInfo& info = cell_info(cell);
  std::vector<ShapeHandle> kernels;
  TF_RETURN_IF_ERROR(c->input("kernels", &kernels));
  ShapeHandle first, last;
  TF_RETURN_IF_ERROR(c->WithRank(kernels.front(), 2, &first));
  TF_RETURN_IF_ERROR(c->WithRank(kernels.back(), 2, &last));
  TF_RETURN_IF_ERROR(c->Divide(c->Dim(first, 1), info.kernel_gates[0], true, &(*widths)[1]));
  (*widths)[0] = info.projected ? c->Dim(last, 1) : (*widths)[1];
  return absl::OkStatus();
}

absl::Status forward_shapes(InferenceContext* c, bool step) {
  TF_RETURN_IF_ERROR(check_known_shapes(c, step));
  std::vector<ShapeHandle> inputs, states;
  TF_RETURN_IF_ERROR(c->input("inputs", &inputs));
  TF_RETURN_IF_ERROR(c->input("initial_state", &states));
  ShapeHandle x;
  TF_RETURN_IF_ERROR(c->WithRank(inputs[0], step ? 2 : 3, &x));
  DimensionHandle widths[kMaxStates];
  TF_RETURN_IF_ERROR(state_widths(c, &widths));
  DimensionHandle batch = c->UnknownDim();
  for (size_t k = 0; k < states.size() && k < kMaxStates; ++k) {
    ShapeHandle state;
    TF_RETURN_IF_ERROR(c->WithRank(states[k], 2, &state));
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
  if (step) {
    TF_RETURN_IF_ERROR(c->Merge(batch, c->Dim(x, 0), &batch));
  } else {
    bool time_major = false;
    TF_RETURN_IF_ERROR(c->GetAttr("time_major", &time_major));
    TF_RETURN_IF_ERROR(c->Merge(batch, c->Dim(x, time_major ? 1 : 0), &batch));
    const DimensionHandle time = c->Dim(x, time_major ? 0 : 1);
    const ShapeHandle y = time_major ? c->MakeShape({time, batch, widths[0]}) : c->MakeShape({batch, time, widths[0]});
    TF_RETURN_IF_ERROR(c->set_output("outputs", {y}));
  }
  std::vector<ShapeHandle> final_state;
  for (size_t k = 0; k < states.size(); ++k) final_state.push_back(c->MakeShape({batch, widths[k < 1 ? 0 : 1]}));
  TF_RETURN_IF_ERROR(c->set_output("final_state", final_state));
  return c->set_output("saved", {c->Vector(InferenceContext::kUnknownDim)});
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
      .Attr("num_states: int >= 1")          \
      .Input("inputs: T")                    \
      .Input("kernels: num_kernels * T")     \
      .Input("biases: num_biases * T")       \
      .Input("initial_state: num_states * T")

#define FUSED_RNN_GRADIENT_OUTPUTS          \
  Output("d_inputs: T")                     \
      .Output("d_kernels: num_kernels * T") \
      .Output("d_biases: num_biases * T")   \
      .Output("d_initial_state: num_states * T")

REGISTER_OP("FusedRnnSequence")
    .FUSED_RNN_CELL_ATTRS.Attr("num_lengths: int >= 0")
    .Attr("num_masks: int >= 0")
    .Attr("time_major: bool")
    .Attr("reverse: bool")
    .Attr("keep: bool")
    .Input("sequence_length: num_lengths * int64")
    .Input("state_mask: num_masks * T")
    .Output("outputs: T")
    .Output("final_state: num_states * T")
    .Output("saved: uint8")
    .SetShapeFn([](tensorflow::shape_inference::InferenceContext* c) {
      return fused_rnn::tf::forward_shapes(c, false);
    })
    .Doc(R"doc(
A recurrent cell over a whole sequence: inputs [B, T, I], or [T, B, I] if time_major.

inputs: the sequence.
kernels: [I + P, gates * H] each, rows of the inputs first; for lstm_projected the projection [H, P] last. P is H
  where there is none.
biases: [gates * H] each; for gru_reset_after a recurrent one last; for lstm_peephole and lstm_projected the peepholes of
  i, f and o, [H] each.
initial_state: h [B, P], and c [B, H] for the lstm.
sequence_length: nothing, or one [B]: 0 <= length <= T.
state_mask: nothing, or one tensor like outputs: h is multiplied by it after each step, before the next step takes it or
  it is final; outputs are not. Without a gradient.
outputs: [B, T, P], or [T, B, P] if time_major; 0 past a row's length.
final_state: as initial_state, after each row's last step.
saved: what the gradient needs; empty where keep is false or no gradient is asked for.
cell: rnn, lstm, lstm_peephole, lstm_projected (which has peepholes, too), gru or gru_reset_after.
activation: tanh, relu, sigmoid, softsign, elu or identity.
forget_bias: a number that is added to the forget gate of the lstm, as text with all its digits: float attributes are
  float32.
cell_clip, proj_clip: likewise, the limits of c, and of h where it is projected; inf for none.
reverse: runs every row from its own end to its start.
)doc");

REGISTER_OP("FusedRnnSequenceGrad")
    .FUSED_RNN_CELL_ATTRS.Attr("num_lengths: int >= 0")
    .Attr("num_masks: int >= 0")
    .Attr("time_major: bool")
    .Attr("reverse: bool")
    .Input("sequence_length: num_lengths * int64")
    .Input("state_mask: num_masks * T")
    .Input("outputs: T")
    .Input("saved: uint8")
    .Input("d_outputs: T")
    .Input("d_final_state: num_states * T")
    .FUSED_RNN_GRADIENT_OUTPUTS.SetShapeFn(fused_rnn::tf::backward_shapes)
    .Doc("The gradients of FusedRnnSequence.");

REGISTER_OP("FusedRnnStep")
    .FUSED_RNN_CELL_ATTRS.Attr("keep: bool")
    .Output("final_state: num_states * T")
    .Output("saved: uint8")
    .SetShapeFn([](tensorflow::shape_inference::InferenceContext* c) { return fused_rnn::tf::forward_shapes(c, true); })
    .Doc("One step of a recurrent cell: FusedRnnSequence for inputs [B, I], whose outputs are h of the final state.");

REGISTER_OP("FusedRnnStepGrad")
    .FUSED_RNN_CELL_ATTRS.Input("final_state: num_states * T")
    .Input("saved: uint8")
    .Input("d_final_state: num_states * T")
    .FUSED_RNN_GRADIENT_OUTPUTS.SetShapeFn(fused_rnn::tf::backward_shapes)
    .Doc("The gradients of FusedRnnStep.");
