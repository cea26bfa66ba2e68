// See team.h. What outlives a call (a helper that the pool runs late) touches only shared state on the heap.
#include "csrc/cpu/team.h"

#include <atomic>
#include <thread>

namespace fused_rnn {
namespace {

// Spins briefly, since what is waited for usually comes within a microsecond, and then lets others run.
class Patience {
 public:
  void wait() {
    if (++spins_ < 2000) {
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

struct Claims {
  std::atomic<int64_t> next{0};
  std::atomic<int> members{1};  // 0 is the leader
  std::atomic<int> working{0};  // helpers that may hold a task
  int64_t tasks = 0;
  const Work* work = nullptr;

  void take_tasks(int part) {
    for (int64_t task; (task = next.fetch_add(1)) < tasks;) (*work)(part, task, task + 1);
  }
};

}  // namespace

Team::~Team() = default;
Alone::~Alone() = default;
Claiming::~Claiming() = default;
Claiming::Claiming(const Threads& threads) : threads_(threads) {}

void Alone::share(int64_t tasks, Work work) {
  if (tasks > 0) work(0, 0, tasks);
}

void Claiming::share(int64_t tasks, Work work) {
  if (tasks <= 1 || threads_.count <= 1) return Alone().share(tasks, work);
  auto claims = std::make_shared<Claims>();
  claims->tasks = tasks;
  claims->work = &work;
  for (int helper = 1; helper < threads_.count && helper < tasks; ++helper) {
    threads_.schedule([claims] {
      // Counted as working before it asks for a task: the leader, having drawn the last, sees it and waits.
      claims->working.fetch_add(1);
      claims->take_tasks(claims->members.fetch_add(1));
      claims->working.fetch_sub(1);
    });
  }
  claims->take_tasks(0);
  for (Patience patience; claims->working.load() != 0;) patience.wait();
}

struct Lockstep::Meeting {
  std::atomic<int> joined{1};     // members, the leader included
  std::atomic<uint64_t> call{0};  // number of the call of share() << 16 | members that take part in it
  std::atomic<int> done{0};       // helpers that have finished their part of this call
  int64_t tasks = 0;
  const Work* work = nullptr;

  static constexpr uint64_t kClosed = ~uint64_t{0};

  void take_part(int part, int parts) {
    const int64_t begin = tasks * part / parts, end = tasks * (part + 1) / parts;
    if (begin < end) (*work)(part, begin, end);
  }

  void help() {
    if (call.load(std::memory_order_acquire) == kClosed) return;
    const int part = joined.fetch_add(1);
    for (uint64_t seen = 0;;) {
      uint64_t now;
      for (Patience patience; (now = call.load(std::memory_order_acquire)) == seen;) patience.wait();
      if (now == kClosed) return;
      seen = now;
      const int parts = static_cast<int>(now & 0xffff);
      if (part >= parts) continue;  // joined after this call had begun
      take_part(part, parts);
      done.fetch_add(1, std::memory_order_release);
    }
  }
};

Lockstep::Lockstep(const Threads& threads) : meeting_(std::make_shared<Meeting>()) {
  for (int helper = 1; helper < threads.count; ++helper) {
    threads.schedule([meeting = meeting_] { meeting->help(); });
  }
}

Lockstep::~Lockstep() {
  meeting_->call.store(Meeting::kClosed, std::memory_order_release);
}

void Lockstep::share(int64_t tasks, Work work) {
  Meeting& meeting = *meeting_;
  const int parts = meeting.joined.load(std::memory_order_acquire);
  if (parts == 1) return Alone().share(tasks, work);
  meeting.tasks = tasks;
  meeting.work = &work;
  meeting.done.store(0, std::memory_order_relaxed);
  const uint64_t number = meeting.call.load(std::memory_order_relaxed) >> 16;
  meeting.call.store((number + 1) << 16 | static_cast<uint64_t>(parts), std::memory_order_release);
  meeting.take_part(0, parts);
  for (Patience patience; meeting.done.load(std::memory_order_acquire) != parts - 1;) patience.wait();
}

}  // namespace fused_rnn
