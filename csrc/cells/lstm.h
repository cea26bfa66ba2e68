// Long short-term memory without peepholes (Hochreiter & Schmidhuber 1997; Gers et al. 2000), gates i, j, f, o as in
// TensorFlow 1:  c = sigmoid(f + forget_bias) * c_prev + sigmoid(i) * tanh(j),  h = sigmoid(o) * tanh(c)
#pragma once

#include "csrc/cells/cell.h"
#include "csrc/cells/math.h"

namespace fused_rnn {

struct Lstm {
  static constexpr CellInfo kInfo{"lstm", 4, 2, 1, {4}, 1, {4}, 5, {"kernel"}, {"bias"}};
  static constexpr int kStages = 1;
  static constexpr Range kStage[] = {{0, 4}};
  static constexpr int kCarry = 0;
  static constexpr bool kRecurrentBias = false;
  static constexpr int kColumns = 4;
  static constexpr Range kWritten[] = {{0, 4}};
  static constexpr int input_column(int gate) { return gate; }
  static constexpr int recurrent_column(int gate) { return gate; }

  template <int kStageIndex, typename T>
  FUSED_RNN_FN static void forward(Forward<T>& u) {
    const T i = sigmoid(u.zx[0] + u.zh[0]);
    const T j = tanh(u.zx[1] + u.zh[1]);
    const T f = sigmoid(u.zx[2] + u.zh[2] + u.forget_bias);
    const T o = sigmoid(u.zx[3] + u.zh[3]);
    u.c = f * u.c_prev + i * j;
    u.h = o * tanh(u.c);
    u.saved[0] = i;
    u.saved[1] = j;
    u.saved[2] = f;
    u.saved[3] = o;
    u.saved[4] = u.c_prev;
  }

  template <int kStageIndex, typename T>
  FUSED_RNN_FN static void backward(Backward<T>& u) {
    const T i = u.saved[0], j = u.saved[1], f = u.saved[2], o = u.saved[3], c_prev = u.saved[4];
    const T tanh_c = tanh(f * c_prev + i * j);
    const T d_c = u.d_c + u.d_h * o * (1 - tanh_c * tanh_c);
    u.d_z[0] = d_c * j * i * (1 - i);
    u.d_z[1] = d_c * i * (1 - j * j);
    u.d_z[2] = d_c * c_prev * f * (1 - f);
    u.d_z[3] = u.d_h * tanh_c * o * (1 - o);
    u.d_c_prev = d_c * f;
    u.d_h_prev = T{};
  }
};

}  // namespace fused_rnn
