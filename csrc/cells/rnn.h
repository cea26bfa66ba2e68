// The plain recurrent cell (Elman 1990):  h = tanh(x . W + h_prev . R + b)
#pragma once

#include "csrc/cells/cell.h"
#include "csrc/cells/math.h"

namespace fused_rnn {

struct Rnn {
  static constexpr CellInfo kInfo{"rnn", 1, 1, 1, {1}, 1, {1}, 0, {"kernel"}, {"bias"}};
  static constexpr int kStages = 1;
  static constexpr Range kStage[] = {{0, 1}};
  static constexpr int kCarry = 0;
  static constexpr bool kRecurrentBias = false;
  static constexpr int kColumns = 1;
  static constexpr Range kWritten[] = {{0, 1}};
  static constexpr int input_column(int gate) { return gate; }
  static constexpr int recurrent_column(int gate) { return gate; }

  template <int kStageIndex, typename T>
  FUSED_RNN_FN static void forward(Forward<T>& u) {
    u.h = tanh(u.zx[0] + u.zh[0]);
  }

  template <int kStageIndex, typename T>
  FUSED_RNN_FN static void backward(Backward<T>& u) {
    u.d_z[0] = u.d_h * (1 - u.h * u.h);
    u.d_h_prev = T{};
  }
};

}  // namespace fused_rnn
