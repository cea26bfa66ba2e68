// What happened before what in a launch: for each thread, up to where it knows of what every other has done. Barriers,
// collectives that say so, and flags are how one thread learns of another; from that follows which accesses to the
// same memory are races, whatever the order in which this run happened to make them.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace emulator {

// Who and when, in one number: launch, block, epoch, thread; and whether by an instruction for flags.
using Stamp = uint64_t;
constexpr Stamp kNever = 0, kHost = 1, kForbidden = ~Stamp{0}, kFlag = Stamp{1} << 63;

// [threads that are there at once]: the last epoch of each that happened before.
using Clock = std::vector<uint32_t>;

// Where a thread stands in that order. An epoch of it ends where others may learn of it.
struct Standing {
  Stamp stamp = kNever;  // of what it does now
  uint32_t block = 0, thread = 0, epoch = 0;
  std::shared_ptr<const Clock> known;
};
extern Standing* running;  // null: the host

// The blocks that are there at once: one, or in a cooperative launch all.
struct Group {
  bool cooperative = false;
  uint32_t first_block = 0, blocks = 0, threads = 0;
};
extern Group group;

void begin_launch();
// All threads of the group begin: standings [blocks * threads]. What threads of another group have done they never
// learn.
void begin_group(const Group& group, Standing* standings);

// Fails the launch where the running thread has no epoch left to begin at a barrier or a release.
void check_epoch();
// What each of `count` threads has done so far happens before what any of them does from now on.
void join(Standing* standings, int count);

// Whether nothing orders an access of this stamp before one that the running thread makes now.
bool unordered(Stamp earlier, Stamp now);
bool same_warp(Stamp one, Stamp other);
uint32_t block_in_group(Stamp stamp);  // or a number that is none
std::string who(Stamp stamp);

}  // namespace emulator
