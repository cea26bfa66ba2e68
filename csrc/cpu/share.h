// Which way the work of one call is shared among threads.
#pragma once

#include "csrc/cpu/team.h"
#include "csrc/cpu/vector.h"

namespace fused_rnn::FUSED_RNN_TARGET {

constexpr int64_t kMaxBlocks = 64;

struct Sharing {
  enum Way {
    kAlone,  // too little work to share
    kRows,   // each thread takes rows of the batch through time: they hardly meet, but each reads all of R every step
    kUnits,  // each thread takes units of every step: each reads its share of R, and they meet once a stage
  };
  Way way;
  int64_t blocks;  // of rows
};

// Multiply-adds that a call must have to be shared: some 10 us.
constexpr int64_t kWorthSharing = 1 << 21;
// The same for a single step, some 40 us.
constexpr int64_t kStepWorthSharing = 1 << 22;
// Units that a cell must be applied to for the team to meet once more: about a microsecond.
constexpr int64_t kUnitsWorthSharing = 1024;

inline int64_t multiply_adds(const SequenceParams& params) {
  const CellInfo& info = cell_info(params.cell);
  return params.T * params.B * params.H * (info.gates * (params.I + params.P) + (info.projected ? params.P : 0));
}

// recurrent_bytes: the packed recurrent weights; block_bytes: what each block of rows gathers for itself, to be added
// up at the end.
inline Sharing plan_sharing(const SequenceParams& params, int64_t recurrent_bytes, int64_t block_bytes = 0) {
  constexpr int64_t kWorthMeeting = 1 << 16;  // multiply-adds of a step: about a meeting's cost
  constexpr int64_t kCacheBytes = 15 << 16;   // of the recurrent weights: they stay in a second-level cache of 1 MiB
  constexpr int64_t kBlockBytes = 1 << 21;    // so that adding up, and the memory of many blocks, stay small
  const int64_t threads = params.threads.count;
  if (threads <= 1 || multiply_adds(params) < kWorthSharing) return {Sharing::kAlone, 1};
  const bool whole_tiles = params.B >= threads * kTileRows, blocks_small = block_bytes <= kBlockBytes;
  if (whole_tiles && blocks_small && recurrent_bytes <= kCacheBytes) {
    return {Sharing::kRows, smaller(threads, kMaxBlocks)};
  }
  const int64_t step_work = params.B * params.H * cell_info(params.cell).gates * params.P;
  if (step_work >= kWorthMeeting || !blocks_small) return {Sharing::kUnits, 1};
  if (params.B > 1) return {Sharing::kRows, smaller(smaller(threads, params.B), kMaxBlocks)};
  return {Sharing::kAlone, 1};
}

// Whether each of so many panels makes two tasks, halves of its rows, since one would be left over: so that no thread
// waits while another has it for itself.
inline bool panels_halved(const Team& team, int64_t panels, int64_t rows) {
  return panels % team.members() != 0 && rows > kTileRows;
}

// Calls f(panel, begin, end) for the panels of the tasks [first, last) and those of their rows that are in them.
template <typename F>
FUSED_RNN_FN void each_panel(int64_t first, int64_t last, bool halved, int64_t rows, bool backwards, F&& f) {
  const int64_t first_panel = first >> halved, end_panel = (last + halved) >> halved, parts = 1 << halved;
  for (int64_t i = first_panel; i < end_panel; ++i) {
    const int64_t panel = backwards ? first_panel + end_panel - 1 - i : i;
    const int64_t from = larger(first - (panel << halved), 0), to = smaller(last - (panel << halved), parts);
    f(panel, (rows * from) >> halved, (rows * to) >> halved);
  }
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

// Calls f with the team for a single step.
template <typename F>
void with_step_team(const SequenceParams& params, F&& f) {
  const bool alone = multiply_adds(params) < kStepWorthSharing;
  with_team({alone ? Sharing::kAlone : Sharing::kUnits, 1}, params.threads, f);
}

// Calls f(block, team) for each block of rows: with the whole team for the only one, or each by one thread alone.
template <typename F>
void run_blocks(const Sharing& sharing, Team& team, F&& f) {
  if (sharing.way != Sharing::kRows) return f(0, team);
  team.share(sharing.blocks, [&](int, int64_t begin, int64_t end) {
    Team alone;
    for (int64_t i = begin; i < end; ++i) f(i, alone);
  });
}

}  // namespace fused_rnn::FUSED_RNN_TARGET
