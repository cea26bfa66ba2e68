// The activations that a cell may be given in place of tanh, and their derivatives.
#pragma once

#include "csrc/cells/math.h"

namespace fused_rnn {

// All but tanh, which the cells' loops are about; the choice is the same for all units.
template <typename T>
FUSED_RNN_RARE_FN T activate_otherwise(Activation activation, T x) {
  using Element = typename Numeric<T>::Element;
  switch (activation) {
    case Activation::kRelu: return x < 0 ? T{} : x;
    case Activation::kSigmoid: return sigmoid(x);
    case Activation::kSoftsign: return x / (Element(1) + (x < 0 ? -x : x));
    case Activation::kElu: {
      constexpr Element kMax = MathConstants<Element>::kExpMax;
      T scale;
      const T p = expm1_reduced(Numeric<T>::clamp(-x, T{}, T{} + kMax), scale);
      return x < 0 ? ((1 - scale) + p) / scale : x;
    }
    case Activation::kTanh:
    case Activation::kIdentity: break;
  }
  return x;
}

template <typename T>
FUSED_RNN_FN T activate(Activation activation, T x) {
  return activation == Activation::kTanh ? tanh(x) : activate_otherwise(activation, x);
}

// The derivative where the activation is y, as TensorFlow takes it at the corners: 0 for relu, 1 for elu.
template <typename T>
FUSED_RNN_RARE_FN T derivative_otherwise(Activation activation, T y) {
  using Element = typename Numeric<T>::Element;
  const T one = T{} + Element(1);
  switch (activation) {
    case Activation::kRelu: return y > 0 ? one : T{};
    case Activation::kSigmoid: return y * (1 - y);
    case Activation::kSoftsign: {
      const T rest = 1 - (y < 0 ? -y : y);
      return rest * rest;
    }
    case Activation::kElu: return y < 0 ? y + Element(1) : one;
    case Activation::kTanh:
    case Activation::kIdentity: break;
  }
  return one;
}

template <typename T>
FUSED_RNN_FN T derivative(Activation activation, T y) {
  return activation == Activation::kTanh ? 1 - y * y : derivative_otherwise(activation, y);
}

}  // namespace fused_rnn
