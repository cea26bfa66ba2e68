// The scheduler: blocks one after another, the threads of each as fibers.
#include "tests/emulator/emulator.h"

#include <signal.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <numeric>
#include <string>
#include <vector>

#include "tests/emulator/access.h"
#include "tests/emulator/memory.h"

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace emulator {
namespace {

enum class State { kReady, kWaiting, kDone };

// A thread of the block that runs. It lives on, and runs the same thread of the next block.
constexpr size_t kStackBytes = 64 << 10;

struct Unmap {
  void operator()(void* stack) const { munmap(stack, kStackBytes); }
};

struct Fiber {
  ucontext_t context;
  std::unique_ptr<void, Unmap> stack;
  State state = State::kDone;
};

constexpr int kMaxThreads = 1024, kMaxShared = 227 << 10;

struct Machine {
  std::mutex mutex;
  ucontext_t scheduler;
  std::vector<Fiber> fibers;
  int current = -1;
  const std::function<void()>* thread = nullptr;
  void* shared = nullptr;
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

void run_fiber() {
  for (;;) {
    (*machine().thread)();
    Fiber& fiber = machine().fibers[machine().current];
    fiber.state = State::kDone;
    swapcontext(&fiber.context, &machine().scheduler);
  }
}

void start(Fiber& fiber) {
  if (fiber.stack == nullptr) {
    fiber.stack.reset(mmap(nullptr, kStackBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  }
  getcontext(&fiber.context);
  fiber.context.uc_stack.ss_sp = fiber.stack.get();
  fiber.context.uc_stack.ss_size = kStackBytes;
  fiber.context.uc_link = nullptr;
  makecontext(&fiber.context, run_fiber, 0);
}

std::string where() {
  return "thread " + std::to_string(threadIdx.x) + " of block " + std::to_string(blockIdx.x);
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
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
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

// Runs every fiber to its next barrier or its end. False: one of them was stopped.
bool run_to_barrier(std::vector<int>& order) {
  Machine& m = machine();
  shuffle(order);
  for (int i : order) {
    if (m.fibers[i].state != State::kReady) continue;
    m.current = i;
    threadIdx = {static_cast<unsigned>(i), 0, 0};
    position.thread = static_cast<uint64_t>(i);
    position.in_kernel = true;
    swapcontext(&m.scheduler, &m.fibers[i].context);
    position.in_kernel = false;
    if (m.current < 0) return false;
  }
  ++position.interval;
  return true;
}

cudaError_t run_block(std::vector<int>& order) {
  Machine& m = machine();
  for (Fiber& fiber : m.fibers) fiber.state = State::kReady;
  for (;;) {
    if (!run_to_barrier(order)) return cudaErrorIllegalAddress;
    const auto waits = [](const Fiber& fiber) { return fiber.state == State::kWaiting; };
    const auto waiting = std::count_if(m.fibers.begin(), m.fibers.end(), waits);
    if (waiting == 0) return cudaSuccess;
    if (waiting < static_cast<int64_t>(m.fibers.size())) {
      m.message = "of block " + std::to_string(blockIdx.x) + ", " + std::to_string(waiting) +
                  " threads wait at __syncthreads and the others have left";
      return cudaErrorLaunchFailure;
    }
    for (Fiber& fiber : m.fibers) fiber.state = State::kReady;
  }
}

cudaError_t run_blocks(int64_t blocks, int64_t shared_bytes) {
  std::vector<int64_t> block_order(blocks);
  std::iota(block_order.begin(), block_order.end(), 0);
  shuffle(block_order);
  std::vector<int> order(machine().fibers.size());
  std::iota(order.begin(), order.end(), 0);
  for (int64_t block : block_order) {
    blockIdx = {static_cast<unsigned>(block), 0, 0};
    position.block = static_cast<uint64_t>(block);
    position.interval = 0;
    std::memset(machine().shared, 0xff, shared_bytes);
    mark_undefined(machine().shared, shared_bytes);
    if (const cudaError_t error = run_block(order); error != cudaSuccess) return error;
  }
  return cudaSuccess;
}

}  // namespace

// Back to the scheduler, as if the launch had ended.
void stop_launch(const std::string& did) {
  Machine& m = machine();
  m.message = where() + " " + did;
  m.current = -1;
  setcontext(&m.scheduler);
  std::abort();
}

cudaError_t launch(const std::function<void()>& thread, int64_t blocks, int threads, int64_t shared_bytes) {
  Machine& m = machine();
  const std::lock_guard<std::mutex> lock(m.mutex);
  m.message = "invalid configuration";
  if (blocks < 1 || blocks > kMaxBlocks || threads < 1 || threads > kMaxThreads || shared_bytes > kMaxShared) {
    return cudaErrorInvalidConfiguration;
  }
  if (m.random == 0) {
    const char* seed = std::getenv("FUSED_RNN_EMULATOR_SEED");
    set_seed(seed == nullptr ? 0 : std::strtoull(seed, nullptr, 10));
  }
  m.fibers.resize(threads);
  for (Fiber& fiber : m.fibers) start(fiber);
  m.thread = &thread;
  m.shared = allocate_guarded(shared_bytes);
  if (m.shared == nullptr) return cudaErrorMemoryAllocation;
  gridDim = {static_cast<unsigned>(blocks), 1, 1};
  blockDim = {static_cast<unsigned>(threads), 1, 1};
  ++position.launch;
  cudaError_t error;
  {
    const FaultGuard guard;
    error = run_blocks(blocks, shared_bytes);
  }
  free_guarded(m.shared);
  return error;
}

void* shared_memory() {
  return machine().shared;
}

void set_seed(uint64_t seed) {
  machine().random = seed * 0x9e3779b97f4a7c15u + 0x5851f42d4c957f2du;
}

}  // namespace emulator

void __syncthreads() {
  emulator::Machine& m = emulator::machine();
  emulator::Fiber& fiber = m.fibers[m.current];
  fiber.state = emulator::State::kWaiting;
  swapcontext(&fiber.context, &m.scheduler);
}

const char* cudaGetErrorString(cudaError_t) {
  return emulator::machine().message.c_str();
}

cudaError_t cudaGetLastError() {
  return cudaSuccess;
}

cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  // So few processors that small tests have enough blocks for all of them.
  *value = attribute == cudaDevAttrMultiProcessorCount ? 2 : attribute == cudaDevAttrComputeCapabilityMajor ? 8 : 0;
  return cudaSuccess;
}
