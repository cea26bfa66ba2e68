// The pointwise part of a cell for some vectors of units of one row, as every CPU driver applies it.
#pragma once

#include "csrc/cells/cell.h"
#include "csrc/cpu/vector.h"

namespace fused_rnn::FUSED_RNN_TARGET {

// Where the values of kUnits units of one row stand. What a cell or a stage has no use for may stay unset. F: the type
// of products' factors.
template <typename T, typename F = T>
struct ForwardUnits {
  const T* zx[kMaxGates];  // of the stage's gates
  const T* zh[kMaxGates];
  const T* peephole[kMaxPeepholes];
  const T* h_prev;
  T* h;        // = the last stage
  T* c;        // c_prev; = c by the cell's state stage
  F* operand;  // = the first of two stages
  T* carry[kMaxCarry];
  T* saved[kMaxSaved];  // = the cell's state stage
};

template <typename T>
FUSED_RNN_FN CellOptions<Vector<T>> spread(const CellOptions<T>& options) {
  using V = Vector<T>;
  return {options.activation, V{} + options.forget_bias, V{} + options.cell_clip, V{} + options.proj_clip};
}

template <typename C, int s, int kUnits, typename T, typename F>
FUSED_RNN_FN void forward_units(const ForwardUnits<T, F>& at, const CellOptions<T>& options) {
  constexpr bool kLast = s == C::kStages - 1, kSetsState = s == C::kStateStage;
  constexpr bool kHasC = C::kInfo.states > 1;
  using V = Vector<T>;
  for (int n = 0; n < kUnits; n += kLanes<T>) {
    Forward<V> u;
    u.options = spread(options);
    for (int gate = C::kStage[s].first; gate < C::kStage[s].first + C::kStage[s].count; ++gate) {
      if constexpr (!projects<C>(s)) u.zx[gate] = load(at.zx[gate] + n);
      u.zh[gate] = load(at.zh[gate] + n);
    }
    if constexpr (!C::kInfo.projected) u.h_prev = load(at.h_prev + n);
    if constexpr (kSetsState) {
      for (int k = 0; k < C::kPeepholes; ++k) u.peephole[k] = load(at.peephole[k] + n);
      if constexpr (kHasC) u.c_prev = load(at.c + n);
    }
    if constexpr (s > 0) {
      for (int k = 0; k < C::kCarry; ++k) u.carry[k] = load(at.carry[k] + n);
    }
    C::template forward<s>(u);
    if constexpr (kSetsState) {
      if constexpr (kHasC) store(at.c + n, u.c);
      for (int k = 0; k < C::kInfo.saved; ++k) store(at.saved[k] + n, u.saved[k]);
    }
    if constexpr (kLast) {
      store(at.h + n, u.h);
    } else {
      store(at.operand + n, u.operand);
      for (int k = 0; k < C::kCarry; ++k) store(at.carry[k] + n, u.carry[k]);
    }
  }
}

// The same, backward; so many units as whole vectors hold.
template <typename T, typename F = T>
struct BackwardUnits {
  const T* peephole[kMaxPeepholes];
  const T* saved[kMaxSaved];
  const T* h_prev;
  const T* h;
  const T* d_y;         // added to d_h by the last stage
  const T* d_product;   // what comes through the product of d_z: for the last stage added to d_h, else d_operand
  const T* state_mask;  // or null: factors between h and the next step's h_prev, for the last stage
  T* d_h;               // = by each stage in turn that has to do with h
  T* d_c;               // = by the first stage
  F* d_z[kMaxColumns];  // = the columns that the stage writes
  F* operand;           // = the first of two stages
};

template <typename C, int s, typename T, typename F>
FUSED_RNN_FN void backward_units(const BackwardUnits<T, F>& at, const CellOptions<T>& options, int64_t units) {
  constexpr int kLast = C::kStages - 1;
  constexpr bool kHasC = C::kInfo.states > 1;
  // In a projected cell one stage has to do with the gates and the other with h.
  constexpr bool kGates = !projects<C>(s), kOutput = !C::kInfo.projected || projects<C>(s);
  using V = Vector<T>;
  for (int64_t n = 0; n < units; n += kLanes<T>) {
    Backward<V> u;
    u.options = spread(options);
    if constexpr (kGates) {
      for (int k = 0; k < C::kPeepholes; ++k) u.peephole[k] = load(at.peephole[k] + n);
      for (int k = 0; k < C::kInfo.saved; ++k) u.saved[k] = load(at.saved[k] + n);
      if constexpr (kHasC) u.d_c = load(at.d_c + n);
    }
    if constexpr (kOutput) {
      if constexpr (!C::kInfo.projected) u.h_prev = load(at.h_prev + n);
      u.h = load(at.h + n);
      u.d_h = load(at.d_h + n);
    }
    if constexpr (s == kLast) {
      u.d_h += load(at.d_product + n);
      if (at.state_mask != nullptr) u.d_h *= load(at.state_mask + n);
      u.d_h += load(at.d_y + n);
    }
    if constexpr (s != kLast) u.d_operand = load(at.d_product + n);
    C::template backward<s>(u);
    for (int k = C::kWritten[s].first; k < C::kWritten[s].first + C::kWritten[s].count; ++k) {
      store(at.d_z[k] + n, u.d_z[k]);
    }
    if constexpr (kOutput) store(at.d_h + n, s == 0 || C::kInfo.projected ? u.d_h_prev : u.d_h);
    if constexpr (s == 0 && kHasC) store(at.d_c + n, u.d_c_prev);
    if constexpr (s == 0 && kLast > 0) store(at.operand + n, u.operand);
  }
}

}  // namespace fused_rnn::FUSED_RNN_TARGET
