// See team.h. What outlives a call (a helper that the pool runs late) touches only shared state on the heap.
#include "csrc/cpu/team.h"

#include <algorithm>
#include <atomic>
#include <thread>

#if defined(__linux__)
#include <sched.h>
#endif

namespace fused_rnn {
namespace {

// Spins briefly, since what is waited for usually comes within a microsecond, and then lets others run.
class Patience {
 public:
  void wait() {
    if (++spins_ < 1000) {
#if defined(__x86_64__)
      __builtin_ia32_pause();
#elif defined(__aarch64__)
      __asm__ __volatile__("yield");
#endif
    } else {
      std::this_thread::yield();
    }
  }

 private:
  int spins_ = 0;
};

// The processor that the caller runs on, or -1 where the system does not say.
int current_processor() {
#if defined(__linux__)
  return sched_getcpu();
#else
  return -1;
#endif
}

// Moves the calling thread to another processor if it runs on this one. A helper that is woken on the leader's
// processor would share it for milliseconds, even with others idle: where processors share no cache, as in many virtual
// machines, Linux wakes a thread where it slept, and looks around only later.
void leave_processor(int processor) {
#if defined(__linux__)
  if (processor < 0 || current_processor() != processor) return;
  cpu_set_t allowed;
  if (sched_getaffinity(0, sizeof(allowed), &allowed) != 0) return;
  cpu_set_t others = allowed;
  CPU_CLR(processor, &others);
  if (CPU_COUNT(&others) == 0 || sched_setaffinity(0, sizeof(others), &others) != 0) return;
  sched_setaffinity(0, sizeof(allowed), &allowed);
#else
  static_cast<void>(processor);
#endif
}

constexpr int kMaxRuns = 64;       // one bit each
constexpr int kMaxYields = 32;     // helpers come within the first few shares, or the pool is busy
constexpr int kRunsOfAMember = 4;  // so that there is something left to take from a member that is late

}  // namespace

struct Team::Shared {
  // Even while there is work to take, odd in between, kClosed at the end.
  static constexpr uint64_t kClosed = ~uint64_t{0};
  std::atomic<uint64_t> phase{1};
  std::atomic<int> joined{1};      // 0 is the leader
  std::atomic<int> working{0};     // helpers that may hold work of this phase
  std::atomic<uint64_t> taken{0};  // the runs that someone has begun
  int members = 1;
  int yields = 0;  // of the leader
  int leader_processor = -1;
  int64_t tasks = 0;
  int runs = 0;
  bool backwards = false;
  const Work* work = nullptr;

  bool take(int run) {
    const uint64_t bit = uint64_t{1} << run;
    if (taken.load(std::memory_order_relaxed) & bit) return false;
    return (taken.fetch_or(bit) & bit) == 0;
  }

  // Member `part` takes its own runs, and then what others have not begun.
  void take_part(int part) {
    const int first = runs * part / members, last = std::max(first, runs * (part + 1) / members - 1);
    for (int i = 0; i < runs; ++i) {
      const int run = backwards ? (last - i + runs) % runs : (first + i) % runs;
      if (take(run)) (*work)(part, tasks* run / runs, tasks * (run + 1) / runs);
    }
  }

  void help() {
    if (phase.load() == kClosed) return;
    leave_processor(leader_processor);
    const int part = joined.fetch_add(1);
    for (uint64_t seen = 1;;) {
      uint64_t now;
      for (Patience patience; (now = phase.load()) == seen || (now & 1 && now != kClosed);) patience.wait();
      if (now == kClosed) return;
      // First counted as working, then the phase asked for again: the leader ends the phase and then waits for those
      // that work, so either it waits for this member or this member sees the end.
      working.fetch_add(1);
      if (phase.load() == now) take_part(part);
      working.fetch_sub(1);
      seen = now;
    }
  }
};

Team::Team() = default;

Team::Team(const Threads& threads) {
  if (threads.count <= 1) return;
  shared_ = std::make_shared<Shared>();
  shared_->members = std::min(threads.count, kMaxRuns);
  shared_->leader_processor = current_processor();
  for (int helper = 1; helper < shared_->members; ++helper) {
    threads.schedule([shared = shared_] { shared->help(); });
  }
}

Team::~Team() {
  if (shared_) shared_->phase.store(Shared::kClosed);
}

int Team::members() const {
  return shared_ ? shared_->members : 1;
}

void Team::share(int64_t tasks, bool backwards, Work work) {
  if (!shared_ || tasks <= 1) {
    if (tasks > 0) work(0, 0, tasks);
    return;
  }
  Shared& shared = *shared_;
  // To a helper that has been woken on this very processor and waits for it; leave_processor() then clears it again.
  if (shared.joined.load() < shared.members && shared.yields++ < kMaxYields) std::this_thread::yield();
  shared.tasks = tasks;
  shared.runs = static_cast<int>(std::min<int64_t>({tasks, shared.members * kRunsOfAMember, kMaxRuns}));
  shared.backwards = backwards;
  shared.work = &work;
  shared.taken.store(0);
  const uint64_t phase = shared.phase.load();
  shared.phase.store(phase + 1);
  shared.take_part(0);
  shared.phase.store(phase + 2);
  for (Patience patience; shared.working.load() != 0;) patience.wait();
}

}  // namespace fused_rnn
