// Checks of what users hand in, shared by the TensorFlow ops and the Python module: every message names the argument,
// what was expected and what came.
#pragma once

#include <vector>

#include "csrc/sequence.h"

namespace fused_rnn {

using Shape = std::vector<int64_t>;

struct SequenceShapes {
  bool step = false;        // inputs are [B, I]: one step, T = 1
  bool time_major = false;  // inputs are [T, B, I] and not [B, T, I]
  // Of all sequences of a call, one sequence after another: as many as there are inputs.
  std::vector<Shape> inputs, kernels, biases, initial_state;
};

// Checks that the lists are as long as the cell wants them, for as many sequences as there are inputs.
Status check_counts(const SequenceShapes& shapes, Cell cell);

// Checks all shapes against one another and sets T, B, I, H, P and x_strides, which all sequences share.
Status check_shapes(const SequenceShapes& shapes, SequenceParams* params);

// The shape of each y, and its strides.
Shape output_shape(const SequenceShapes& shapes, const SequenceParams& params);
Strides sequence_strides(const SequenceShapes& shapes, const SequenceParams& params, int64_t width);

// The shape of a state: h or c.
Shape state_shape(const SequenceParams& params, int state);

// Checks one more tensor: `expected` in words and in numbers.
Status check_shape(const std::string& name, const Shape& shape, const std::string& words, const Shape& expected);

// Checks that sequence_length is [B] with 0 <= length <= T.
Status check_lengths(const Shape& shape, const int64_t* lengths, const SequenceParams& params);

}  // namespace fused_rnn
