// The scheduler: the threads of the blocks that are there at once, as fibers that take turns.
#include "tests/emulator/emulator.h"

#include <signal.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <numeric>
#include <string>
#include <vector>

#include "tests/emulator/access.h"
#include "tests/emulator/fiber.h"
#include "tests/emulator/memory.h"
#include "tests/emulator/order.h"
#include "tests/emulator/scheduler.h"

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace emulator {
namespace {

enum class State { kReady, kAtBarrier, kAtMeeting, kDone };

constexpr size_t kStackBytes = 64 << 10;
// So many rounds of all blocks without a release of a flag, or a thread that ends, are a deadlock.
constexpr int kPatience = 20000;

struct Unmap {
  void operator()(void* stack) const { munmap(stack, kStackBytes); }
};

// It lives on, and runs the same thread of the next block.
struct Thread {
  Context context;
  std::unique_ptr<void, Unmap> stack;
  State state = State::kDone;
  // While it waits for its warp:
  const char* meeting = nullptr;
  void (*exchange)(void* const (&brought)[kWarp]) = nullptr;
  void* brought = nullptr;
};

struct Block {
  uint32_t index = 0;
  Thread* threads = nullptr;  // [blockDim.x]
  Standing* standings = nullptr;
  void* shared = nullptr;
  bool live = false;
};

struct Machine {
  std::mutex mutex;
  Context scheduler, abandoned;
  std::vector<Thread> threads;
  std::vector<Standing> standings;
  std::vector<Block> blocks;  // that are there at once
  std::vector<int> order;     // of a block's threads
  Block* block = nullptr;     // that runs
  bool stopped = false;
  int idle_rounds = 0;
  uint64_t accesses = 0;
  int64_t cooperative_launches = 0;
  const std::function<void()>* thread = nullptr;
  uint64_t random = 0;
  std::string message = "no error";
};

Machine& machine() {
  static Machine the_machine;
  return the_machine;
}

uint64_t next_random() {  // xorshift64*
  uint64_t& x = machine().random;
  x ^= x >> 12, x ^= x << 25, x ^= x >> 27;
  return x * 0x2545f4914f6cdd1du;
}

template <typename T>
void shuffle(std::vector<T>& values) {
  for (size_t i = values.size(); i > 1; --i) std::swap(values[i - 1], values[(next_random() >> 33) % i]);
}

Thread& current() {
  return machine().block->threads[threadIdx.x];
}

// Leaves the running thread in this state until the scheduler comes back to it.
void leave(State state) {
  current().state = state;
  switch_context(current().context, machine().scheduler);
}

void run_thread() {
  for (;;) {
    (*machine().thread)();
    note_progress();
    leave(State::kDone);
  }
}

std::string where() {
  return "thread " + std::to_string(threadIdx.x) + " of block " + std::to_string(machine().block->index);
}

void on_fault(int, siginfo_t* info, void*) {
  stop_launch("touched address " + std::to_string(reinterpret_cast<uintptr_t>(info->si_addr)) +
              ", which is not in memory it may touch");
}

// Turns faults into an error of the launch while it lives.
class FaultGuard {
 public:
  FaultGuard() {
    stack_t stack{};
    stack.ss_sp = stack_;
    stack.ss_size = sizeof(stack_);
    sigaltstack(&stack, &previous_stack_);
    struct sigaction action{};
    action.sa_sigaction = on_fault;
    // The handler does not return, so that nothing would allow the signal again.
    action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
    sigaction(SIGSEGV, &action, &previous_segv_);
    sigaction(SIGBUS, &action, &previous_bus_);
  }
  ~FaultGuard() {
    sigaction(SIGSEGV, &previous_segv_, nullptr);
    sigaction(SIGBUS, &previous_bus_, nullptr);
    sigaltstack(&previous_stack_, nullptr);
  }

 private:
  alignas(16) char stack_[64 << 10];
  stack_t previous_stack_;
  struct sigaction previous_segv_, previous_bus_;
};

// Runs every thread of the block that is ready to where it waits, yields or ends. False: one of them was stopped.
bool run_pass(Block& block) {
  Machine& m = machine();
  m.block = &block;
  blockIdx = {block.index % gridDim.x, block.index / gridDim.x, 0};
  shuffle(m.order);
  for (int i : m.order) {
    if (block.threads[i].state != State::kReady) continue;
    threadIdx = {static_cast<unsigned>(i), 0, 0};
    running = block.standings + i;
    switch_context(m.scheduler, block.threads[i].context);
    running = nullptr;
    if (m.stopped) return false;
  }
  return true;
}

int count(const Block& block, State state) {
  const auto is = [=](const Thread& thread) { return thread.state == state; };
  return static_cast<int>(std::count_if(block.threads, block.threads + blockDim.x, is));
}

// Of a block none of whose threads can go on.
void explain(const Block& block) {
  std::string& message = machine().message;
  const std::string of_block = " of block " + std::to_string(block.index);
  const int threads = static_cast<int>(blockDim.x);
  for (int i = 0; i < threads; ++i) {
    if (block.threads[i].state != State::kAtMeeting) continue;
    int missing = i / kWarp * kWarp;
    while (block.threads[missing].state == State::kAtMeeting &&
           block.threads[missing].exchange == block.threads[i].exchange) {
      ++missing;
    }
    message = "thread " + std::to_string(missing) + of_block + " does not come to " + block.threads[i].meeting +
              ", where thread " + std::to_string(i) + " of its warp waits";
    return;
  }
  message = of_block.substr(1) + ", " + std::to_string(count(block, State::kAtBarrier)) +
            " threads wait at __syncthreads and the others have left";
}

// After a pass: lets the threads go on that have all come to a barrier.
cudaError_t settle(Block& block) {
  const int threads = static_cast<int>(blockDim.x), at_barrier = count(block, State::kAtBarrier);
  if (at_barrier == threads) {
    join(block.standings, threads);
    for (int i = 0; i < threads; ++i) block.threads[i].state = State::kReady;
    return cudaSuccess;
  }
  block.live = count(block, State::kDone) < threads;
  if (!block.live || count(block, State::kReady) > 0) return cudaSuccess;
  explain(block);
  return cudaErrorLaunchFailure;
}

// Each block that is there runs to its next barrier, in any order, and perhaps some barriers further.
cudaError_t run_round(std::vector<Block*>& order) {
  shuffle(order);
  for (Block* block : order) {
    const int passes = order.size() == 1 ? 1 : 1 + static_cast<int>(next_random() >> 62);
    for (int pass = 0; pass < passes && block->live; ++pass) {
      if (!run_pass(*block)) return cudaErrorIllegalAddress;
      if (const cudaError_t error = settle(*block); error != cudaSuccess) return error;
    }
  }
  return cudaSuccess;
}

cudaError_t run_group(const Group& group, int64_t shared_bytes) {
  Machine& m = machine();
  begin_group(group, m.standings.data());
  std::vector<Block*> order;
  for (size_t i = 0; i < m.blocks.size(); ++i) {
    Block& block = m.blocks[i];
    block.index = group.first_block + static_cast<uint32_t>(i), block.live = true;
    for (unsigned j = 0; j < blockDim.x; ++j) block.threads[j].state = State::kReady;
    std::memset(block.shared, 0xff, shared_bytes);
    mark_undefined(block.shared, shared_bytes);
    order.push_back(&block);
  }
  m.idle_rounds = 0;
  while (std::any_of(order.begin(), order.end(), [](const Block* block) { return block->live; })) {
    if (const cudaError_t error = run_round(order); error != cudaSuccess) return error;
    if (group.cooperative && ++m.idle_rounds > kPatience) {
      m.message = "all threads wait, and none of them for anything that another would still do (a deadlock)";
      return cudaErrorLaunchFailure;
    }
  }
  return cudaSuccess;
}

// Makes `count` blocks, to be there at once. False: out of memory.
bool make_blocks(int count, int threads, int64_t shared_bytes) {
  Machine& m = machine();
  m.threads.resize(std::max(m.threads.size(), static_cast<size_t>(count) * threads));
  m.standings.resize(m.threads.size());
  for (int i = 0; i < count * threads; ++i) {
    Thread& thread = m.threads[i];
    if (thread.stack == nullptr) {
      thread.stack.reset(mmap(nullptr, kStackBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    }
    prepare(thread.context, thread.stack.get(), kStackBytes, run_thread);
  }
  m.blocks.assign(count, {});
  for (int i = 0; i < count; ++i) {
    Block& block = m.blocks[i];
    block.threads = m.threads.data() + i * threads, block.standings = m.standings.data() + i * threads;
    block.shared = allocate_guarded(shared_bytes);
    if (block.shared == nullptr) return false;
  }
  m.order.resize(threads);
  std::iota(m.order.begin(), m.order.end(), 0);
  return true;
}

cudaError_t run_groups(bool cooperative, uint32_t blocks, uint32_t threads, int64_t shared_bytes) {
  if (cooperative) return run_group({true, 0, blocks, threads}, shared_bytes);
  std::vector<uint32_t> order(blocks);
  std::iota(order.begin(), order.end(), 0);
  shuffle(order);
  for (uint32_t block : order) {
    if (const cudaError_t error = run_group({false, block, 1, threads}, shared_bytes); error != cudaSuccess) {
      return error;
    }
  }
  return cudaSuccess;
}

cudaError_t launch_blocks(bool cooperative, const std::function<void()>& thread, int64_t blocks_x, int blocks_y,
                          int threads, int64_t shared_bytes) {
  Machine& m = machine();
  const int64_t blocks = blocks_x * blocks_y;
  const std::lock_guard<std::mutex> lock(m.mutex);
  m.message = "invalid configuration";
  if (blocks < 1 || blocks > kMaxBlocks || threads < 1 || threads > kMaxThreads || shared_bytes > kMaxShared) {
    return cudaErrorInvalidConfiguration;
  }
  if (cooperative && blocks > kMaxCooperativeBlocks) {
    m.message = "too many blocks in cooperative launch";
    return cudaErrorCooperativeLaunchTooLarge;
  }
  if (m.random == 0) {
    const char* seed = std::getenv("FUSED_RNN_EMULATOR_SEED");
    set_seed(seed == nullptr ? 0 : std::strtoull(seed, nullptr, 10));
  }
  m.cooperative_launches += cooperative;
  m.thread = &thread;
  m.stopped = false;
  m.accesses = next_random() >> 32;
  gridDim = {static_cast<unsigned>(blocks_x), static_cast<unsigned>(blocks_y), 1};
  blockDim = {static_cast<unsigned>(threads), 1, 1};
  begin_launch();
  cudaError_t error = cudaErrorMemoryAllocation;
  if (make_blocks(cooperative ? static_cast<int>(blocks) : 1, threads, shared_bytes)) {
    const FaultGuard guard;
    error = run_groups(cooperative, static_cast<uint32_t>(blocks), static_cast<uint32_t>(threads), shared_bytes);
  }
  // Last first, for the next launch to find the same addresses.
  for (auto block = m.blocks.rbegin(); block != m.blocks.rend(); ++block) free_guarded(block->shared);
  return error;
}

}  // namespace

// Back to the scheduler, as if the launch had ended.
void stop_launch(const std::string& did) {
  Machine& m = machine();
  m.message = where() + " " + did;
  m.stopped = true;
  switch_context(m.abandoned, m.scheduler);
  std::abort();
}

cudaError_t launch(const std::function<void()>& thread, int64_t blocks, int threads, int64_t shared_bytes) {
  return launch_blocks(false, thread, blocks, 1, threads, shared_bytes);
}

cudaError_t launch_cooperative(const std::function<void()>& thread, int64_t blocks, int threads, int64_t shared_bytes,
                               int blocks_y) {
  return launch_blocks(true, thread, blocks, blocks_y, threads, shared_bytes);
}

void* shared_memory() {
  return machine().block->shared;
}

void set_seed(uint64_t seed) {
  machine().random = seed * 0x9e3779b97f4a7c15u + 0x5851f42d4c957f2du;
}

void yield() {
  leave(State::kReady);
}

void give_way() {
  if (++machine().accesses % 4096 == 0) yield();
}

void note_progress() {
  machine().idle_rounds = 0;
}

void meet_warp(const char* name, void (*exchange)(void* const (&brought)[kWarp]), void* brought) {
  if (blockDim.x % kWarp != 0) stop_launch(std::string("called ") + name + " in a warp that is not full");
  Thread& self = current();
  self.meeting = name, self.exchange = exchange, self.brought = brought;
  Thread* lanes = &self - threadIdx.x % kWarp;
  void* of_all[kWarp];
  for (int lane = 0; lane < kWarp; ++lane) {
    const bool here = lanes + lane == &self || lanes[lane].state == State::kAtMeeting;
    if (!here || lanes[lane].exchange != exchange) {
      leave(State::kAtMeeting);
      return;
    }
    of_all[lane] = lanes[lane].brought;
  }
  exchange(of_all);
  for (int lane = 0; lane < kWarp; ++lane) lanes[lane].state = State::kReady;
}

const std::string& last_message() {
  return machine().message;
}

}  // namespace emulator

// So far in this process, for whoever has loaded this library.
extern "C" __attribute__((visibility("default"))) int64_t emulator_cooperative_launches() {
  return emulator::machine().cooperative_launches;
}

void __syncthreads() {
  emulator::check_epoch();
  emulator::leave(emulator::State::kAtBarrier);
}
