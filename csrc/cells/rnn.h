// The plain recurrent cell (Elman 1990):  h = act(x . W + h_prev . R + b)
#pragma once

#include "csrc/cells/activation.h"
#include "csrc/cells/cell.h"

namespace fused_rnn {

struct Rnn {
  static constexpr CellInfo kInfo{"rnn", 1, 1, 1, {1}, false, 1, {1}, 0, {"kernel"}, {"bias"}};
  static constexpr int kStages = 1;
  static constexpr Range kStage[] = {{0, 1}};
  static constexpr int kStateStage = 0;
  static constexpr int kCarry = 0;
  static constexpr bool kRecurrentBias = false;
  static constexpr int kPeepholes = 0;
  static constexpr int kColumns = 1;
  static constexpr Range kProducts[] = {{0, 1}};
  static constexpr Range kWritten[] = {{0, 1}};
  static constexpr int input_column(int gate) { return gate; }
  static constexpr int recurrent_column(int gate) { return gate; }

  template <int kStageIndex, typename T>
  FUSED_RNN_FN static void forward(Forward<T>& u) {
    u.h = activate(u.options.activation, u.zx[0] + u.zh[0]);
  }

  template <int kStageIndex, typename T>
  FUSED_RNN_FN static void backward(Backward<T>& u) {
    u.d_z[0] = u.d_h * derivative(u.options.activation, u.h);
    u.d_h_prev = T{};
  }
};

}  // namespace fused_rnn
