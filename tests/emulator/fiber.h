// Threads of control that take turns, each on a stack of its own.
#pragma once

#if !defined(__x86_64__)
#include <ucontext.h>
#endif

#include <cstddef>

namespace emulator {

// Where one of them stands while another runs. On x86-64 the switch is a few instructions, for ucontext makes two
// system calls each time.
struct Context {
#if defined(__x86_64__)
  void* stack_pointer = nullptr;
#else
  ucontext_t registers;
#endif
};

// The next switch to `context` calls run, which does not return.
void prepare(Context& context, void* stack, size_t stack_bytes, void (*run)());
// Leaves off here, to be continued by a switch to `from`, and goes on where `to` left off.
void switch_context(Context& from, Context& to);

}  // namespace emulator
