// Sharing the work of a call among the caller's threads, without threads of its own and without ever waiting for a
// thread that has not come: the pool may be busy, or smaller than it said. The calling thread leads and can do all the
// work alone; the others join when the pool gets round to running them.
#pragma once

#include <cstdint>
#include <memory>
#include <type_traits>

#include "csrc/cells/cell.h"
#include "csrc/sequence.h"

namespace fused_rnn {

// A reference to a callable that does the tasks [begin, end) as member `part` of those at work, 0 <= part <
// threads.count. (Not std::function, whose code each instruction set would compile for itself and the linker would
// merge.)
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

class Team {
 public:
  virtual ~Team();
  // Runs work over the tasks [0, tasks), each once, and returns when all of them are done.
  virtual void share(int64_t tasks, Work work) = 0;
};

// The leader on its own.
class Alone final : public Team {
 public:
  ~Alone() override;
  void share(int64_t tasks, Work work) override;
};

// Members take one task after another, whoever is free: for few calls of share() with large tasks.
class Claiming final : public Team {
 public:
  explicit Claiming(const Threads& threads);
  ~Claiming() override;
  void share(int64_t tasks, Work work) override;

 private:
  const Threads& threads_;
};

// Members stay for the life of the team and each gets the same run of tasks every time, so that what it reads stays in
// its own cache: for many calls of share() in quick succession. A meeting costs under a microsecond.
class Lockstep final : public Team {
 public:
  explicit Lockstep(const Threads& threads);
  ~Lockstep() override;
  void share(int64_t tasks, Work work) override;

 private:
  struct Meeting;
  std::shared_ptr<Meeting> meeting_;
};

}  // namespace fused_rnn
