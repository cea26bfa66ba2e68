// Several sequences in one call on the CPU. Compiled once, for every processor: instruction sets share no function.
#pragma once

#include <algorithm>

#include "csrc/cpu/team.h"
#include "csrc/sequence.h"

namespace fused_rnn {

// Whether the sequences run at the same time, each on its share of the threads, which then meet less or never: where
// there is something to gain, and the recurrent weights of one stay in a second-level cache. Larger ones want those of
// all threads.
inline bool run_side_by_side(const SequenceParams& params, int count) {
  constexpr int64_t kWorthSharing = 1 << 21;  // multiply-adds of a call: some 10 us
  constexpr int64_t kCacheBytes = 1 << 19;
  const int64_t gates = cell_info(params.cell).gates, factor_bytes = params.dtype == DType::kFloat64 ? 8 : 4;
  return count > 1 && params.threads.count > 1 &&
         count * params.T * params.B * params.H * gates * (params.I + params.P) >= kWorthSharing &&
         params.H * gates * params.P * factor_bytes <= kCacheBytes;
}

// The drivers of one direction, forward or backward, for one sequence.
template <typename Params>
struct CpuDrivers {
  size_t (*measure)(const Params&);  // the workspace, in bytes
  void (*run)(const Params&);

  size_t workspace_bytes(const Params* sequences, int count) const {
    if (run_side_by_side(*sequences, count)) return count * share_bytes(sequences, count);
    size_t bytes = 0;
    for (int n = 0; n < count; ++n) bytes = std::max(bytes, measure(sequences[n]));
    return bytes;
  }

  void run_all(const Params* sequences, int count) const {
    if (!run_side_by_side(*sequences, count)) {
      for (int n = 0; n < count; ++n) run(sequences[n]);
      return;
    }
    const size_t bytes = share_bytes(sequences, count);
    Threads leaders = sequences->threads;
    leaders.count = std::min(leaders.count, count);
    Team team(leaders);
    team.share(count, [&](int, int64_t begin, int64_t end) {
      for (int64_t n = begin; n < end; ++n) {
        Params params = with_share_of_threads(sequences, static_cast<int>(n), count);
        params.workspace = static_cast<char*>(params.workspace) + n * bytes;
        run(params);
      }
    });
  }

 private:
  static Params with_share_of_threads(const Params* sequences, int n, int count) {
    Params params = sequences[n];
    const int threads = params.threads.count;
    params.threads.count = std::max(1, threads * (n + 1) / count - threads * n / count);
    return params;
  }

  // Of the workspace, for each of the sequences side by side.
  size_t share_bytes(const Params* sequences, int count) const {
    size_t bytes = 0;
    for (int n = 0; n < count; ++n) bytes = std::max(bytes, measure(with_share_of_threads(sequences, n, count)));
    return bytes;
  }
};

}  // namespace fused_rnn
