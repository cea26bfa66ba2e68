// Vector clocks: what each thread of a launch knows of the others, and how it learns it.
#include "tests/emulator/order.h"

#include <algorithm>
#include <unordered_map>

#include "tests/emulator/access.h"
#include "tests/emulator/ptx.h"
#include "tests/emulator/scheduler.h"

namespace emulator {

Standing* running = nullptr;
Group group;

namespace {

// Block and epoch share their bits: ordinary launches have many blocks, cooperative ones run for long.
constexpr int kThreadBits = 10, kBlockEpochBits = 32, kEpochBits = 14, kCooperativeEpochBits = 28;
static_assert(kMaxThreads == 1 << kThreadBits && kMaxBlocks == int64_t{1} << (kBlockEpochBits - kEpochBits));
static_assert(kMaxCooperativeBlocks == kProcessors && kProcessors <= 1 << (kBlockEpochBits - kCooperativeEpochBits));

uint64_t launches = 0;

int epoch_bits() {
  return group.cooperative ? kCooperativeEpochBits : kEpochBits;
}

uint32_t thread_of(Stamp stamp) {
  return stamp & ((1u << kThreadBits) - 1);
}

uint32_t epoch_of(Stamp stamp) {
  return stamp >> kThreadBits & ((1u << epoch_bits()) - 1);
}

uint32_t block_of(Stamp stamp) {
  return static_cast<uint32_t>(stamp >> kThreadBits) >> epoch_bits();
}

uint64_t launch_of(Stamp stamp) {
  return (stamp & ~kFlag) >> (kThreadBits + kBlockEpochBits);
}

uint32_t index_of(const Standing& standing) {
  return (standing.block - group.first_block) * group.threads + standing.thread;
}

void next_epoch(Standing& standing) {
  ++standing.epoch;
  const Stamp block_epoch = Stamp{standing.block} << epoch_bits() | standing.epoch;
  standing.stamp = (launches << kBlockEpochBits | block_epoch) << kThreadBits | standing.thread;
}

void learn(Clock& clock, const Clock& other) {
  for (size_t i = 0; i < clock.size(); ++i) clock[i] = std::max(clock[i], other[i]);
}

// What each flag's last release published: what its thread knew, and the epoch of its own that it ended. (A plain store
// to the flag since then publishes nothing; but who reads that store without a race knows of the release before it.)
struct Released {
  std::shared_ptr<const Clock> known;
  uint32_t index = 0, epoch = 0;
};
std::unordered_map<const void*, Released> released;

void only_cooperative() {
  if (!group.cooperative) stop_launch("used a flag in a launch whose blocks need not all be there at once");
}

}  // namespace

void begin_launch() {
  launches = (launches + 1) & ((uint64_t{1} << (63 - kThreadBits - kBlockEpochBits)) - 1);
  released.clear();
}

void begin_group(const Group& now, Standing* standings) {
  group = now;
  const auto nothing = std::make_shared<const Clock>(group.blocks * group.threads);
  for (uint32_t i = 0; i < group.blocks * group.threads; ++i) {
    standings[i].block = group.first_block + i / group.threads, standings[i].thread = i % group.threads;
    standings[i].epoch = 0, standings[i].known = nothing;
    next_epoch(standings[i]);
  }
}

void check_epoch() {
  if ((running->epoch + 1) >> epoch_bits() != 0) stop_launch("met more barriers than the emulator can count");
}

void join(Standing* standings, int count) {
  const auto joined = std::make_shared<Clock>(*standings[0].known);
  for (int i = 1; i < count; ++i) {
    if (standings[i].known != standings[i - 1].known) learn(*joined, *standings[i].known);
  }
  for (int i = 0; i < count; ++i) {
    (*joined)[index_of(standings[i])] = standings[i].epoch;
    standings[i].known = joined;
    next_epoch(standings[i]);
  }
}

bool unordered(Stamp earlier, Stamp now) {
  if (running == nullptr || earlier <= kHost || (earlier & now & kFlag) != 0) return false;
  if (launch_of(earlier) != launch_of(now)) return false;
  const uint32_t block = block_in_group(earlier), thread = thread_of(earlier);
  if (block >= group.blocks) return true;
  const uint32_t index = block * group.threads + thread;
  return index != index_of(*running) && (*running->known)[index] < epoch_of(earlier);
}

bool same_warp(Stamp one, Stamp other) {
  return thread_of(one) / kWarp == thread_of(other) / kWarp;
}

uint32_t block_in_group(Stamp stamp) {
  return block_of(stamp) - group.first_block;
}

std::string who(Stamp stamp) {
  return "thread " + std::to_string(thread_of(stamp)) + " of block " + std::to_string(block_of(stamp));
}

unsigned load_acquire(const unsigned* flag) {
  only_cooperative();
  yield();
  access(flag, sizeof(*flag), false, true);
  const Released& last = released[flag];
  if ((*running->known)[last.index] < last.epoch) {
    const auto joined = std::make_shared<Clock>(*running->known);
    learn(*joined, *last.known);
    (*joined)[last.index] = last.epoch;
    running->known = joined;
  }
  return *flag;
}

void store_release(unsigned* flag, unsigned value) {
  only_cooperative();
  check_epoch();
  access(flag, sizeof(*flag), true, true);
  released[flag] = {running->known, index_of(*running), running->epoch};
  next_epoch(*running);
  *flag = value;
  note_progress();
}

}  // namespace emulator
