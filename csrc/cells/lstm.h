// Long short-term memory (Hochreiter & Schmidhuber 1997; Gers et al. 2000), gates i, j, f, o as in TensorFlow 1:
//   c = clip(sigmoid(f + forget_bias) * c_prev + sigmoid(i) * act(j)),  h = sigmoid(o) * act(c)
// With peepholes (Gers & Schmidhuber 2000) w_i * c_prev, w_f * c_prev and w_o * c add to i, f and o. With a projection
// (Sak et al. 2014)  h = clip((sigmoid(o) * act(c)) . projection).
#pragma once

#include "csrc/cells/activation.h"
#include "csrc/cells/cell.h"

namespace fused_rnn {

// x, and 0 where `of` was clipped: the gradient of tf.clip_by_value.
template <typename T>
FUSED_RNN_FN T clip_gradient(T x, T of, T limit) {
  x = of > limit ? T{} : x;
  return of < -limit ? T{} : x;
}

// What the three forms below share. kPeep: with peepholes, biases 1 to 3: those of i, f and o.
template <bool kPeep>
struct LstmGates {
  static constexpr int kStateStage = 0;
  static constexpr int kCarry = 0;
  static constexpr bool kRecurrentBias = false;
  static constexpr int kPeepholes = kPeep ? 3 : 0;
  static constexpr int kColumns = 4 + kPeepholes;
  static constexpr int peephole_column(int k) { return 4 + k; }

  // Sets c and saved; returns what is h unless that is projected.
  template <typename T>
  FUSED_RNN_FN static T forward_gates(Forward<T>& u) {
    const CellOptions<T>& options = u.options;
    T zi = u.zx[0] + u.zh[0], zf = u.zx[2] + u.zh[2] + options.forget_bias, zo = u.zx[3] + u.zh[3];
    if constexpr (kPeep) {
      zi += u.peephole[0] * u.c_prev;
      zf += u.peephole[1] * u.c_prev;
    }
    const T i = sigmoid(zi), j = activate(options.activation, u.zx[1] + u.zh[1]), f = sigmoid(zf);
    u.c = Numeric<T>::clamp(f * u.c_prev + i * j, -options.cell_clip, options.cell_clip);
    if constexpr (kPeep) zo += u.peephole[2] * u.c;
    const T o = sigmoid(zo);
    u.saved[0] = i;
    u.saved[1] = j;
    u.saved[2] = f;
    u.saved[3] = o;
    u.saved[4] = u.c_prev;
    return o * activate(options.activation, u.c);
  }

  // d_m: of the loss, with respect to what forward_gates() returned; that is returned again.
  template <typename T>
  FUSED_RNN_FN static T backward_gates(Backward<T>& u, T d_m) {
    const CellOptions<T>& options = u.options;
    const T i = u.saved[0], j = u.saved[1], f = u.saved[2], o = u.saved[3], c_prev = u.saved[4];
    const T before_clip = f * c_prev + i * j;
    const T c = Numeric<T>::clamp(before_clip, -options.cell_clip, options.cell_clip);
    const T act_c = activate(options.activation, c);
    u.d_z[3] = d_m * act_c * o * (1 - o);
    T d_c = u.d_c + d_m * o * derivative(options.activation, act_c);
    if constexpr (kPeep) d_c += u.d_z[3] * u.peephole[2];
    d_c = clip_gradient(d_c, before_clip, options.cell_clip);
    u.d_z[0] = d_c * j * i * (1 - i);
    u.d_z[1] = d_c * i * derivative(options.activation, j);
    u.d_z[2] = d_c * c_prev * f * (1 - f);
    u.d_c_prev = d_c * f;
    if constexpr (kPeep) {
      u.d_c_prev += u.d_z[0] * u.peephole[0] + u.d_z[2] * u.peephole[1];
      u.d_z[4] = u.d_z[0] * c_prev;
      u.d_z[5] = u.d_z[2] * c_prev;
      u.d_z[6] = u.d_z[3] * c;
    }
    return o * act_c;
  }
};

template <bool kPeep>
struct UnprojectedLstm : LstmGates<kPeep> {
  static constexpr int kStages = 1;
  static constexpr Range kStage[] = {{0, 4}};
  static constexpr Range kProducts[] = {{0, 4}};
  static constexpr Range kWritten[] = {{0, LstmGates<kPeep>::kColumns}};
  static constexpr int input_column(int gate) { return gate; }
  static constexpr int recurrent_column(int gate) { return gate; }

  template <int kStageIndex, typename T>
  FUSED_RNN_FN static void forward(Forward<T>& u) {
    u.h = LstmGates<kPeep>::forward_gates(u);
  }

  template <int kStageIndex, typename T>
  FUSED_RNN_FN static void backward(Backward<T>& u) {
    LstmGates<kPeep>::backward_gates(u, u.d_h);
    u.d_h_prev = T{};
  }
};

struct Lstm : UnprojectedLstm<false> {
  static constexpr CellInfo kInfo{"lstm", 4, 2, 1, {4}, false, 1, {4}, 5, {"kernel"}, {"bias"}};
};

struct LstmPeephole : UnprojectedLstm<true> {
  static constexpr CellInfo kInfo{"lstm_peephole",
                                  4,
                                  2,
                                  1,
                                  {4},
                                  false,
                                  4,
                                  {4, 1, 1, 1},
                                  5,
                                  {"kernel"},
                                  {"bias", "w_i_diag", "w_f_diag", "w_o_diag"}};
};

// With peepholes, too.
struct LstmProjected : LstmGates<true> {
  static constexpr CellInfo kInfo{"lstm_projected",
                                  4,
                                  2,
                                  2,
                                  {4, 1},
                                  true,
                                  4,
                                  {4, 1, 1, 1},
                                  5,
                                  {"kernel", "projection_kernel"},
                                  {"bias", "w_i_diag", "w_f_diag", "w_o_diag"}};
  static constexpr int kStages = 2;
  static constexpr Range kStage[] = {{0, 4}, {4, 1}};
  static constexpr Range kProducts[] = {{0, 4}, {kColumns, 1}};
  static constexpr Range kWritten[] = {{0, kColumns}, {kColumns, 1}};
  static constexpr int input_column(int gate) { return gate; }
  static constexpr int recurrent_column(int gate) { return gate < 4 ? gate : kColumns; }

  template <int kStageIndex, typename T>
  FUSED_RNN_FN static void forward(Forward<T>& u) {
    if constexpr (kStageIndex == 0) {
      u.operand = forward_gates(u);
    } else {
      u.h = Numeric<T>::clamp(u.zh[4], -u.options.proj_clip, u.options.proj_clip);
    }
  }

  template <int kStageIndex, typename T>
  FUSED_RNN_FN static void backward(Backward<T>& u) {
    if constexpr (kStageIndex == 0) {
      u.operand = backward_gates(u, u.d_operand);
    } else {
      // At the limit itself h does not tell whether it was clipped; hardly ever was it not.
      const T d_h = u.h < u.options.proj_clip ? u.d_h : T{};
      u.d_z[kColumns] = u.h > -u.options.proj_clip ? d_h : T{};
      u.d_h_prev = T{};
    }
  }
};

}  // namespace fused_rnn
