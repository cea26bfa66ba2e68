// Which way the work of one call is shared among threads.
#pragma once

#include "csrc/cpu/team.h"
#include "csrc/cpu/vector.h"

namespace fused_rnn::FUSED_RNN_TARGET {

constexpr int64_t kMaxBlocks = 64;

struct Sharing {
  enum Way {
    kAlone,  // too little work to share
    kRows,   // each thread takes rows of the batch through all of time: no meetings, but each reads all of R every step
    kUnits,  // each thread takes units of every step: each reads its share of R, and they meet once a stage
  };
  Way way;
  int64_t blocks;  // of rows
};

// recurrent_row_bytes: the packed recurrent weights of one row of R.
inline Sharing plan_sharing(const SequenceParams& params, int64_t recurrent_row_bytes) {
  // Multiply-adds of a call: some 10 us; of a single step some 100 us, because there may be a step of another layer
  // that wants the other threads.
  const int64_t kWorthSharing = params.T > 1 ? 1 << 21 : 1 << 24;
  constexpr int64_t kWorthMeeting = 1 << 16;  // multiply-adds of a step: about a meeting's cost
  constexpr int64_t kCacheBytes = 1 << 19;    // of the recurrent weights: they stay in a second-level cache
  const int64_t threads = params.threads.count;
  const int64_t gates = cell_info(params.cell).gates;
  const int64_t step_work = params.B * params.H * gates * (params.T > 1 ? params.H : params.I + params.H);
  const int64_t call_work = params.B * params.H * gates * (params.I + params.H) * params.T;
  if (threads <= 1 || call_work < kWorthSharing) return {Sharing::kAlone, 1};
  const bool whole_tiles = params.B >= threads * kTileRows;
  if (params.T > 1 && whole_tiles && params.H * recurrent_row_bytes <= kCacheBytes) {
    return {Sharing::kRows, smaller(threads, kMaxBlocks)};
  }
  if (step_work >= kWorthMeeting) return {Sharing::kUnits, 1};
  if (params.B > 1) return {Sharing::kRows, smaller(smaller(threads, params.B), kMaxBlocks)};
  return {Sharing::kAlone, 1};
}

// Calls f with the team for a call that is shared this way.
template <typename F>
void with_team(const Sharing& sharing, const Threads& threads, F&& f) {
  if (sharing.way == Sharing::kAlone) {
    Team leader;
    f(leader);
  } else {
    Team team(threads);
    f(team);
  }
}

}  // namespace fused_rnn::FUSED_RNN_TARGET
