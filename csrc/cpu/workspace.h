// Hands out pieces of the caller's workspace, in order. Started at null, it only measures.
#pragma once

#include <cstddef>
#include <cstdint>

#include "csrc/cells/cell.h"

namespace fused_rnn::FUSED_RNN_TARGET {

class Workspace {
 public:
  explicit Workspace(void* base) : base_(reinterpret_cast<uintptr_t>(base)) {}

  template <typename T>
  T* take(int64_t count) {
    const uintptr_t at = base_ + used_;
    used_ += (static_cast<size_t>(count) * sizeof(T) + 63) / 64 * 64;
    return reinterpret_cast<T*>(at);
  }
  size_t used() const { return used_; }

 private:
  uintptr_t base_;
  size_t used_ = 0;
};

}  // namespace fused_rnn::FUSED_RNN_TARGET
