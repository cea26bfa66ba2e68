// Which rows of the batch are at work at each step of the time loop.
//
// A row takes part in loop steps [0, length). The rows of a block stand in order of falling length, so that those at
// work at a step are always the first few, and what is stored for (step, row) pairs has no gaps.
#pragma once

#include <cstring>

#include "csrc/cpu/workspace.h"
#include "csrc/sequence.h"

namespace fused_rnn::FUSED_RNN_TARGET {

struct Rows {
  int64_t count = 0;  // rows of this block
  int64_t steps = 0;  // the longest row's length
  bool reverse = false;
  int64_t* batch = nullptr;   // [count]: which row of the batch
  int64_t* length = nullptr;  // [count], falling
  int64_t* active = nullptr;  // [T + 1]: rows at work at a step
  int64_t* offset = nullptr;  // [T + 2]: (step, row) pairs before a step

  // The time index of loop step `step` of row `row`.
  int64_t time(int64_t step, int64_t row) const { return reverse ? length[row] - 1 - step : step; }
};

// Takes the arrays of a block of at most `count` rows.
inline Rows take_rows(Workspace& workspace, int64_t count, int64_t T) {
  Rows rows;
  rows.batch = workspace.take<int64_t>(count);
  rows.length = workspace.take<int64_t>(count);
  rows.active = workspace.take<int64_t>(T + 1);
  rows.offset = workspace.take<int64_t>(T + 2);
  return rows;
}

// Fills the arrays with every blocks-th row of the batch by falling length, beginning with the block-th: so blocks get
// equal shares of long and short rows. scratch is [T + 2]. A counting sort: stable, and linear in B and T.
inline void fill_rows(const SequenceParams& params, int64_t block, int64_t blocks, int64_t* scratch, Rows& rows) {
  const int64_t T = params.T, B = params.B;
  rows.reverse = params.reverse;
  rows.count = 0;
  const auto put = [&](int64_t place, int64_t b, int64_t length) {
    if (place % blocks != block) return;
    rows.batch[place / blocks] = b;
    rows.length[place / blocks] = length;
    ++rows.count;
  };
  if (params.lengths == nullptr) {
    for (int64_t b = 0; b < B; ++b) put(b, b, T);
  } else {
    for (int64_t t = 0; t <= T + 1; ++t) scratch[t] = 0;
    for (int64_t b = 0; b < B; ++b) ++scratch[T - params.lengths[b] + 1];
    for (int64_t t = 1; t <= T; ++t) scratch[t] += scratch[t - 1];
    for (int64_t b = 0; b < B; ++b) put(scratch[T - params.lengths[b]]++, b, params.lengths[b]);
  }
  rows.steps = rows.count > 0 ? rows.length[0] : 0;
  int64_t active = rows.count;
  rows.offset[0] = 0;
  for (int64_t step = 0; step <= rows.steps; ++step) {
    while (active > 0 && rows.length[active - 1] <= step) --active;
    rows.active[step] = active;
    rows.offset[step + 1] = rows.offset[step] + active;
  }
}

// Sets a tensor [T, B, width] to zero past the rows' ends. Time is the outer loop, for the sake of time-major tensors.
template <typename S>
void clear_padding(const Rows& rows, int64_t T, int64_t width, const Strides& strides, void* tensor) {
  int64_t row = rows.count;  // rows from here on have ended
  for (int64_t t = 0; t < T; ++t) {
    while (row > 0 && rows.length[row - 1] <= t) --row;
    for (int64_t ended = row; ended < rows.count; ++ended) {
      memset(static_cast<S*>(tensor) + t * strides.time + rows.batch[ended] * strides.batch, 0, width * sizeof(S));
    }
  }
}

}  // namespace fused_rnn::FUSED_RNN_TARGET
