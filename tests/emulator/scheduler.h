// What the scheduler offers to those functions of the emulator at which threads wait for each other.
#pragma once

#include <cstdint>
#include <string>

namespace emulator {

constexpr int kWarp = 32;
// Of the device. So few that small tests have enough blocks for all of them; of a cooperative launch each has one
// block.
constexpr int kProcessors = 4;
constexpr int kMaxThreads = 1024, kMaxShared = 227 << 10;

// Lets others run. A cooperative launch whose threads only wait and yield for long, without a release or an end, fails.
void yield();
// Now and then as above: or a thread that waits for a plain load to change would wait for ever.
void give_way();
void note_progress();

// The running thread waits until all lanes of its warp are here with the same exchange, which the last of them runs on
// what each has brought; then all go on.
void meet_warp(const char* name, void (*exchange)(void* const (&brought)[kWarp]), void* brought);

const std::string& last_message();

}  // namespace emulator
