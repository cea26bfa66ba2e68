// Sharing the work of a call among the caller's threads, without threads of its own and without ever waiting for a
// thread that has not come: the pool may be busy, or smaller than it said.
#pragma once

#include <cstdint>
#include <memory>
#include <type_traits>
#include <utility>

#include "csrc/cells/cell.h"
#include "csrc/sequence.h"

namespace fused_rnn {

// A reference to a callable that does the tasks [begin, end) as member `part` of a team, 0 <= part < threads.count.
// (Not std::function, whose code each instruction set would compile for itself and the linker would merge.)
class Work {
 public:
  template <typename F>
  FUSED_RNN_FN Work(F&& work)  // NOLINT: meant to convert
      : context_(&work), call_([](void* context, int part, int64_t begin, int64_t end) {
          (*static_cast<std::remove_reference_t<F>*>(context))(part, begin, end);
        }) {}
  FUSED_RNN_FN void operator()(int part, int64_t begin, int64_t end) const { call_(context_, part, begin, end); }

 private:
  void* context_;
  void (*call_)(void*, int, int64_t, int64_t);
};

// The threads that work on one call of the core. The calling thread leads and can do all the work alone; the others
// join when the pool gets round to running them, and stay until the team is gone.
//
// A helper of a pool that is named (Threads::pool) stays awake for a moment after a call, ready for the next one there:
// waking a thread takes some 50 us.
//
// On Linux a helper that is woken on the leader's processor moves itself to another one that it is allowed to use; its
// affinity is the same afterwards.
//
// The tasks of share() are cut into runs, each member's own first, so that what a member reads stays in its cache from
// one share() to the next; whoever is done takes what no one has begun. A share() costs under a microsecond.
class Team {
 public:
  Team();  // of the leader alone
  explicit Team(const Threads& threads);
  ~Team();
  Team(const Team&) = delete;
  Team& operator=(const Team&) = delete;

  int members() const;  // that were asked for, the leader included

  // Runs work over the tasks [0, tasks), each once, and returns when all of them are done. Backwards, a member takes
  // its runs from the last to the first; the order within a run is the work's own.
  FUSED_RNN_FN void share(int64_t tasks, Work work) { share(tasks, false, std::move(work)); }
  void share(int64_t tasks, bool backwards, Work work);

 private:
  struct Shared;
  struct Standby;
  std::shared_ptr<Shared> shared_;  // null for a leader alone
};

}  // namespace fused_rnn
