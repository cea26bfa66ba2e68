// See check.h.
#include "csrc/check.h"

namespace fused_rnn {
namespace {

std::string text(const Shape& shape) {
  std::string out = "[";
  for (size_t i = 0; i < shape.size(); ++i) out += (i > 0 ? ", " : "") + std::to_string(shape[i]);
  return out + "]";
}

// "4 * H" or "H".
std::string columns_text(int gates) {
  return gates == 1 ? "H" : std::to_string(gates) + " * H";
}

// The letter for the width of h.
const char* width_text(const CellInfo& info) {
  return info.projected ? "P" : "H";
}

Status check_count(const char* name, size_t count, int of_each, const SequenceShapes& shapes, Cell cell) {
  const size_t sequences = shapes.inputs.size(), expected = of_each * sequences;
  if (count == expected) return {};
  return {std::string(name) + " must hold " + std::to_string(expected) + " tensors for the cell " +
          cell_info(cell).name + (sequences > 1 ? " and " + std::to_string(sequences) + " sequences" : "") + ", got " +
          std::to_string(count)};
}

Status check_inputs(const SequenceShapes& shapes, SequenceParams* params) {
  const char* layout = shapes.step ? "[B, I]" : shapes.time_major ? "[T, B, I]" : "[B, T, I]";
  const size_t rank = shapes.step ? 2 : 3;
  const Shape& inputs = shapes.inputs[0];
  if (inputs.size() != rank) return {std::string("inputs must be ") + layout + ", got " + text(inputs)};
  params->T = shapes.step ? 1 : inputs[shapes.time_major ? 0 : 1];
  params->B = inputs[!shapes.step && shapes.time_major ? 1 : 0];
  params->I = inputs[rank - 1];
  if (params->B == 0) params->T = 0;  // no rows have no steps, whatever the number says
  return {};
}

// Checks the projection [H, P], if the cell has one, and sets P.
Status check_projection(const CellInfo& info, const SequenceShapes& shapes, SequenceParams* params) {
  if (!info.projected) return {};
  const char* name = info.kernel_names[info.kernels - 1];
  const Shape& shape = shapes.kernels[info.kernels - 1];
  if (shape.size() != 2 || shape[0] != params->H) {
    return {std::string(name) + " must be [H, P] with H = " + std::to_string(params->H) + ", got " + text(shape)};
  }
  params->P = shape[1];
  if (params->P < 1) return {std::string(name) + " must have at least one column, got " + text(shape)};
  return {};
}

constexpr const char* kStateNames[] = {"initial_state h", "initial_state c"};

// Checks that the sequences behind the first have its shapes.
Status check_alike(const CellInfo& info, const SequenceShapes& shapes) {
  const auto check = [&](const std::vector<Shape>& of_all, const char* const* names) -> Status {
    const size_t of_each = of_all.size() / shapes.inputs.size();
    for (size_t i = of_each; i < of_all.size(); ++i) {
      const std::string name = names[i % of_each] + (" of sequence " + std::to_string(i / of_each));
      if (Status s = check_shape(name, of_all[i], "as of the first", of_all[i % of_each]); !s.ok()) return s;
    }
    return {};
  };
  const char* inputs[] = {"inputs"};
  if (Status s = check(shapes.inputs, inputs); !s.ok()) return s;
  if (Status s = check(shapes.kernels, info.kernel_names); !s.ok()) return s;
  if (Status s = check(shapes.biases, info.bias_names); !s.ok()) return s;
  return check(shapes.initial_state, kStateNames);
}

}  // namespace

Status check_counts(const SequenceShapes& shapes, Cell cell) {
  const CellInfo& info = cell_info(cell);
  if (shapes.inputs.empty()) return {"inputs must hold at least one tensor"};
  if (Status s = check_count("kernels", shapes.kernels.size(), info.kernels, shapes, cell); !s.ok()) return s;
  if (Status s = check_count("biases", shapes.biases.size(), info.biases, shapes, cell); !s.ok()) return s;
  return check_count("initial_state", shapes.initial_state.size(), info.states, shapes, cell);
}

Status check_shape(const std::string& name, const Shape& shape, const std::string& words, const Shape& expected) {
  if (shape == expected) return {};
  return {name + " must be " + words + " = " + text(expected) + ", got " + text(shape)};
}

Status check_shapes(const SequenceShapes& shapes, SequenceParams* params) {
  const CellInfo& info = cell_info(params->cell);
  if (Status s = check_counts(shapes, params->cell); !s.ok()) return s;
  if (Status s = check_inputs(shapes, params); !s.ok()) return s;
  const Shape& kernel = shapes.kernels[0];
  if (kernel.size() != 2 || kernel[1] % info.kernel_gates[0] != 0) {
    return {std::string(info.kernel_names[0]) + " must be [I + " + width_text(info) + ", " +
            columns_text(info.kernel_gates[0]) + "], got " + text(kernel)};
  }
  params->H = kernel[1] / info.kernel_gates[0];
  if (params->I < 1) return {"inputs must have a last dimension of at least 1, got " + text(shapes.inputs[0])};
  if (params->H < 1) return {std::string(info.kernel_names[0]) + " must have at least one unit, got " + text(kernel)};
  const int64_t H = params->H;
  params->P = H;
  if (Status s = check_projection(info, shapes, params); !s.ok()) return s;
  for (int k = 0; k < info.kernels - info.projected; ++k) {
    const int gates = info.kernel_gates[k];
    Status s = check_shape(info.kernel_names[k], shapes.kernels[k],
                           std::string("[I + ") + width_text(info) + ", " + columns_text(gates) + "]",
                           {params->I + params->P, gates * H});
    if (!s.ok()) return s;
  }
  for (int k = 0; k < info.biases; ++k) {
    const int gates = info.bias_gates[k];
    Status s = check_shape(info.bias_names[k], shapes.biases[k], "[" + columns_text(gates) + "]", {gates * H});
    if (!s.ok()) return s;
  }
  for (int k = 0; k < info.states; ++k) {
    const std::string words = k == 0 ? std::string("[B, ") + width_text(info) + "]" : "[B, H]";
    if (Status s = check_shape(kStateNames[k], shapes.initial_state[k], words, state_shape(*params, k)); !s.ok())
      return s;
  }
  params->x_strides = sequence_strides(shapes, *params, params->I);
  return check_alike(info, shapes);
}

Shape output_shape(const SequenceShapes& shapes, const SequenceParams& params) {
  Shape shape = shapes.inputs[0];
  shape.back() = params.P;
  return shape;
}

Shape state_shape(const SequenceParams& params, int state) {
  return {params.B, state == 0 ? params.P : params.H};
}

Strides sequence_strides(const SequenceShapes& shapes, const SequenceParams& params, int64_t width) {
  if (shapes.time_major) return {params.B * width, width};
  return {width, params.T * width};
}

Status check_lengths(const Shape& shape, const int64_t* lengths, const SequenceParams& params) {
  if (Status s = check_shape("sequence_length", shape, "[B]", {params.B}); !s.ok()) return s;
  for (int64_t b = 0; b < params.B; ++b) {
    if (lengths[b] < 0 || lengths[b] > params.T) {
      return {"sequence_length must be between 0 and T = " + std::to_string(params.T) + " in every row, got " +
              std::to_string(lengths[b]) + " in row " + std::to_string(b)};
    }
  }
  return {};
}

}  // namespace fused_rnn
