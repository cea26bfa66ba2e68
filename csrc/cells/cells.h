// The list of cells: the one table from a Cell value to the code of that cell.
#pragma once

#include "csrc/cells/gru.h"
#include "csrc/cells/lstm.h"
#include "csrc/cells/rnn.h"

namespace fused_rnn {

// Calls f with a default-constructed cell of the kind asked for, and returns what it returns.
template <typename F>
auto with_cell(Cell cell, F&& f) {
  switch (cell) {
    case Cell::kRnn: return f(Rnn{});
    case Cell::kLstmPeephole: return f(LstmPeephole{});
    case Cell::kLstmProjected: return f(LstmProjected{});
    case Cell::kGru: return f(Gru{});
    case Cell::kGruResetAfter: return f(GruResetAfter{});
    case Cell::kLstm: break;
  }
  return f(Lstm{});
}

}  // namespace fused_rnn
