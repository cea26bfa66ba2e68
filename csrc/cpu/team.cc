// See team.h. What outlives a call (a helper that the pool runs late) touches only shared state on the heap.
#include "csrc/cpu/team.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

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

constexpr int kMaxMembers = 64;
constexpr int kMaxYields = 32;  // helpers come within the first few shares, or the pool is busy
constexpr int kMaxRuns = 5;     // of a member in a phase
// How long a helper stands by after a call: about what it takes to wake one, so that less is lost than may be won. Much
// longer, and it is in the way of whatever else the caller runs between two calls.
constexpr std::chrono::microseconds kStandby{50};
// How long it may go on so, call after call, before the pool has it back, whose other work must not wait for ever.
constexpr std::chrono::milliseconds kService{10};

// How many runs a member with so many tasks has: each takes half of what is left, so that the last ones are short, and
// no one waits long for a member that is late.
int runs_of(int64_t tasks) {
  int runs = tasks > 1 ? 2 : 1;
  while (runs < kMaxRuns && tasks >> (runs + 1) > 0) ++runs;
  return runs;
}

// How many of a member's tasks stand before one of its runs.
int64_t tasks_before(int run, int runs, int64_t tasks) {
  return run < runs ? tasks - (tasks >> run) : tasks;
}

}  // namespace

// One share() is a phase. Its number stands in all that is said of it, so that a member who comes late, or from an
// earlier phase, finds nothing to take. Members write to cache lines of their own, and of these two members exchange no
// more in a phase than its announcement, a look at what is left to take, and its end: with caches far apart, each
// exchange costs as much as thousands of multiplications.
struct Team::Shared {
  // By two lines, which some processors fetch together.
  struct alignas(128) Member {
    std::atomic<uint64_t> begun{0};               // phase << 32 | how many of this member's own runs someone has begun
    alignas(128) std::atomic<uint64_t> ended{0};  // phase << 32 | how many runs this member has ended, of any member's

    // While it waits for others: asks for the line that it will write first, which others may have looked at.
    void wait(Patience& patience) const {
#if defined(__x86_64__)
      __asm__ __volatile__("prefetchw %0" : : "m"(begun));  // which compilers leave to newer processors than the oldest
#else
      __builtin_prefetch(&begun, 1);
#endif
      patience.wait();
    }
  };
  static constexpr uint64_t kClosed = ~uint64_t{0};

  alignas(128) std::atomic<uint64_t> announced{0};  // phase << 32 | runs << 1 | backwards; kClosed at the end
  int64_t tasks = 0;                                // these two are read only by those who have begun a run
  const Work* work = nullptr;
  alignas(128) std::atomic<int> joined{1};  // 0 is the leader
  int yields = 0;                           // of the leader
  const int leader_processor = current_processor();
  const std::thread::id leader = std::this_thread::get_id();
  std::vector<Member> members;

  explicit Shared(int count) : members(static_cast<size_t>(count)) {}

  // Begins one of a member's own runs, `size` in all, and returns which; or -1, where all are begun or the phase is
  // over.
  int begin(Member& member, uint64_t phase, int size) {
    uint64_t begun = member.begun.load(std::memory_order_relaxed);
    for (;;) {
      if (begun >> 32 > phase) return -1;
      const int run = begun >> 32 == phase ? static_cast<int>(begun & 0xffffffff) : 0;
      if (run >= size) return -1;
      const uint64_t next = phase << 32 | static_cast<uint64_t>(run + 1);
      if (member.begun.compare_exchange_weak(begun, next, std::memory_order_acq_rel)) return run;
    }
  }

  // Member `part` takes its own runs, and then what others have not begun. Returns how many.
  int take_part(int part, uint64_t announcement) {
    const uint64_t phase = announcement >> 32;
    const int runs = static_cast<int>(announcement & 0xffffffff) >> 1, count = static_cast<int>(members.size());
    const bool backwards = (announcement & 1) != 0;
    int ended = 0;
    for (int i = 0; i < count; ++i) {
      const int owner = (part + i) % count, size = runs * (owner + 1) / count - runs * owner / count;
      const int before = ended;
      for (int run; (run = begin(members[owner], phase, size)) >= 0; ++ended) {
        const int64_t first = tasks * owner / count, last = tasks * (owner + 1) / count;
        const int64_t from = tasks_before(run, size, last - first), to = tasks_before(run + 1, size, last - first);
        backwards ? (*work)(part, last - to, last - from) : (*work)(part, first + from, first + to);
      }
      if (ended != before) members[part].ended.store(phase << 32 | ended, std::memory_order_release);
    }
    return ended;
  }

  // How many runs of a phase helpers have ended.
  int ended_by_helpers(uint64_t phase) const {
    int sum = 0;
    for (size_t part = 1; part < members.size(); ++part) {
      const uint64_t ended = members[part].ended.load(std::memory_order_acquire);
      if (ended >> 32 == phase) sum += static_cast<int>(ended & 0xffffffff);
    }
    return sum;
  }

  // Takes part until the team is gone; false, where it is gone already, or the thread is the leader's own.
  bool help() {
    if (announced.load() == kClosed) return false;
    if (std::this_thread::get_id() == leader) return false;  // by a pool that is full; to wait for oneself has no end
    leave_processor(leader_processor);
    const int part = joined.fetch_add(1);
    for (uint64_t seen = 0, now;; seen = now) {
      for (Patience patience; (now = announced.load(std::memory_order_acquire)) == seen;) members[part].wait(patience);
      if (now == kClosed) return true;
      take_part(part, now);
    }
  }
};

// A place where a helper whose team is gone stands by for the next call that has the same pool.
struct alignas(128) Team::Standby {
  enum State { kFree, kTaken, kWaiting, kCalled };
  std::atomic<State> state{kFree};
  const void* pool = nullptr;  // these two are for the one who has taken the place
  std::shared_ptr<Shared> call;

  static std::array<Standby, kMaxMembers>& places() {
    static auto* const all = new std::array<Standby, kMaxMembers>;  // for good: threads may outlive main()
    return *all;
  }

  bool move(State from, State to) { return state.compare_exchange_strong(from, to, std::memory_order_acq_rel); }

  // What a thread does that the pool has lent.
  static void serve(std::shared_ptr<Shared> team, const void* pool) {
    const auto end = std::chrono::steady_clock::now() + kService;
    while (team != nullptr && team->help()) {
      team = pool != nullptr && std::chrono::steady_clock::now() < end ? wait(pool) : nullptr;
    }
  }

  // Stands by on the calling thread and returns the team that it is called to; null if no call comes.
  static std::shared_ptr<Shared> wait(const void* pool) {
    for (Standby& place : places()) {
      if (!place.move(kFree, kTaken)) continue;
      place.pool = pool;
      place.state.store(kWaiting, std::memory_order_release);
      const auto end = std::chrono::steady_clock::now() + kStandby;
      for (Patience patience; place.state.load(std::memory_order_acquire) != kCalled; patience.wait()) {
        if (std::chrono::steady_clock::now() > end && place.move(kWaiting, kFree)) return nullptr;
      }
      std::shared_ptr<Shared> call = std::move(place.call);
      place.state.store(kFree, std::memory_order_release);
      return call;
    }
    return nullptr;
  }

  // Calls a helper that stands by to a team; false if there is none.
  static bool call_one(const void* pool, const std::shared_ptr<Shared>& team) {
    for (Standby& place : places()) {
      if (place.state.load(std::memory_order_relaxed) != kWaiting || !place.move(kWaiting, kTaken)) continue;
      const bool found = place.pool == pool;
      if (found) place.call = team;
      place.state.store(found ? kCalled : kWaiting, std::memory_order_release);
      if (found) return true;
    }
    return false;
  }
};

Team::Team() = default;

Team::Team(const Threads& threads) {
  if (threads.count <= 1) return;
  const int members = std::min(threads.count, kMaxMembers);
  shared_ = std::make_shared<Shared>(members);
  bool standby = threads.pool != nullptr;
  for (int helper = 1; helper < members; ++helper) {
    if (standby && (standby = Standby::call_one(threads.pool, shared_))) continue;
    threads.schedule([team = shared_, pool = threads.pool]() mutable { Standby::serve(std::move(team), pool); });
  }
}

Team::~Team() {
  if (shared_) shared_->announced.store(Shared::kClosed, std::memory_order_release);
}

int Team::members() const {
  return shared_ ? static_cast<int>(shared_->members.size()) : 1;
}

void Team::share(int64_t tasks, bool backwards, Work work) {
  if (!shared_ || tasks <= 1) {
    if (tasks > 0) work(0, 0, tasks);
    return;
  }
  Shared& shared = *shared_;
  // To a helper that has been woken on this very processor and waits for it; leave_processor() then clears it again.
  if (shared.yields < kMaxYields && shared.joined.load() < members()) {
    ++shared.yields;
    std::this_thread::yield();
  }
  const int runs = tasks < members() ? static_cast<int>(tasks) : members() * runs_of(tasks / members());
  const uint64_t phase = (shared.announced.load(std::memory_order_relaxed) >> 32) + 1;
  const uint64_t announcement = phase << 32 | static_cast<uint64_t>(runs) << 1 | (backwards ? 1 : 0);
  shared.tasks = tasks;
  shared.work = &work;
  shared.announced.store(announcement, std::memory_order_release);
  const int ended = shared.take_part(0, announcement);
  for (Patience patience; ended + shared.ended_by_helpers(phase) != runs;) shared.members[0].wait(patience);
}

}  // namespace fused_rnn
