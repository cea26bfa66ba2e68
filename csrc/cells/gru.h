// Gated recurrent units, gates r, u, c:  h = u * h_prev + (1 - u) * c,  in the two forms in use.
#pragma once

#include "csrc/cells/activation.h"
#include "csrc/cells/cell.h"

namespace fused_rnn {

// Reset before the product (Cho et al. 2014; TensorFlow 1's GRUCell):  c = act(x . W_c + (r * h_prev) . R_c + b_c)
struct Gru {
  static constexpr CellInfo kInfo{"gru",
                                  3,
                                  1,
                                  2,
                                  {2, 1},
                                  false,
                                  2,
                                  {2, 1},
                                  3,
                                  {"gate_kernel", "candidate_kernel"},
                                  {"gate_bias", "candidate_bias"}};
  static constexpr int kStages = 2;
  static constexpr Range kStage[] = {{0, 2}, {2, 1}};
  static constexpr int kStateStage = 1;
  static constexpr int kCarry = 2;
  static constexpr bool kRecurrentBias = false;
  static constexpr int kPeepholes = 0;
  static constexpr int kColumns = 3;
  static constexpr Range kProducts[] = {{0, 2}, {2, 1}};
  static constexpr Range kWritten[] = {{0, 2}, {2, 1}};
  static constexpr int input_column(int gate) { return gate; }
  static constexpr int recurrent_column(int gate) { return gate; }

  template <int kStageIndex, typename T>
  FUSED_RNN_FN static void forward(Forward<T>& u) {
    if constexpr (kStageIndex == 0) {
      u.carry[0] = sigmoid(u.zx[0] + u.zh[0]);
      u.carry[1] = sigmoid(u.zx[1] + u.zh[1]);
      u.operand = u.carry[0] * u.h_prev;
    } else {
      const T update = u.carry[1];
      const T c = activate(u.options.activation, u.zx[2] + u.zh[2]);
      u.h = update * u.h_prev + (1 - update) * c;
      u.saved[0] = u.carry[0];
      u.saved[1] = update;
      u.saved[2] = c;
    }
  }

  template <int kStageIndex, typename T>
  FUSED_RNN_FN static void backward(Backward<T>& u) {
    const T r = u.saved[0], update = u.saved[1], c = u.saved[2];
    if constexpr (kStageIndex == 1) {
      u.d_z[2] = u.d_h * (1 - update) * derivative(u.options.activation, c);
    } else {
      u.d_z[0] = u.d_operand * u.h_prev * r * (1 - r);
      u.d_z[1] = u.d_h * (u.h_prev - c) * update * (1 - update);
      u.operand = r * u.h_prev;
      u.d_h_prev = u.d_h * update + u.d_operand * r;
    }
  }
};

// Reset after the product (Keras's reset_after=True, cuDNN):  c = act(x . W_c + b_c + r * (h_prev . R_c + rb_c))
struct GruResetAfter {
  static constexpr CellInfo kInfo{"gru_reset_after",
                                  3,
                                  1,
                                  2,
                                  {2, 1},
                                  false,
                                  3,
                                  {2, 1, 3},
                                  4,
                                  {"gate_kernel", "candidate_kernel"},
                                  {"gate_bias", "candidate_bias", "recurrent_bias"}};
  static constexpr int kStages = 1;
  static constexpr Range kStage[] = {{0, 3}};
  static constexpr int kStateStage = 0;
  static constexpr int kCarry = 0;
  static constexpr bool kRecurrentBias = true;
  static constexpr int kPeepholes = 0;
  // Columns: c's input product, r, u, c's recurrent product. So either side's three are neighbours.
  static constexpr int kColumns = 4;
  static constexpr Range kProducts[] = {{0, 4}};
  static constexpr Range kWritten[] = {{0, 4}};
  static constexpr int input_column(int gate) { return gate == 2 ? 0 : gate + 1; }
  static constexpr int recurrent_column(int gate) { return gate + 1; }

  template <int kStageIndex, typename T>
  FUSED_RNN_FN static void forward(Forward<T>& u) {
    const T r = sigmoid(u.zx[0] + u.zh[0]);
    const T update = sigmoid(u.zx[1] + u.zh[1]);
    const T c = activate(u.options.activation, u.zx[2] + r * u.zh[2]);
    u.h = update * u.h_prev + (1 - update) * c;
    u.saved[0] = r;
    u.saved[1] = update;
    u.saved[2] = c;
    u.saved[3] = u.zh[2];
  }

  template <int kStageIndex, typename T>
  FUSED_RNN_FN static void backward(Backward<T>& u) {
    const T r = u.saved[0], update = u.saved[1], c = u.saved[2], zh_c = u.saved[3];
    const T d_c = u.d_h * (1 - update) * derivative(u.options.activation, c);
    u.d_z[0] = d_c;
    u.d_z[1] = d_c * zh_c * r * (1 - r);
    u.d_z[2] = u.d_h * (u.h_prev - c) * update * (1 - update);
    u.d_z[3] = d_c * r;
    u.d_h_prev = u.d_h * update;
  }
};

}  // namespace fused_rnn
