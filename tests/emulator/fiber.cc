// How one thread of control leaves off and another goes on.
#include "tests/emulator/fiber.h"

#include <cstdint>

#if defined(__x86_64__)

// What a function must leave as it was is kept on the stack that is left: the six registers, and where to return to.
asm(R"(
  .text
  .type emulator_switch_stacks, @function
emulator_switch_stacks:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
  .size emulator_switch_stacks, . - emulator_switch_stacks
)");

extern "C" void emulator_switch_stacks(void** from, void* to);

namespace emulator {

void prepare(Context& context, void* stack, size_t stack_bytes, void (*run)()) {
  // A call leaves the stack eight bytes off a multiple of 16.
  uintptr_t* top = reinterpret_cast<uintptr_t*>(static_cast<char*>(stack) + stack_bytes);
  *--top = 0;
  *--top = reinterpret_cast<uintptr_t>(run);
  for (int i = 0; i < 6; ++i) *--top = 0;
  context.stack_pointer = top;
}

void switch_context(Context& from, Context& to) {
  emulator_switch_stacks(&from.stack_pointer, to.stack_pointer);
}

}  // namespace emulator

#else

namespace emulator {

void prepare(Context& context, void* stack, size_t stack_bytes, void (*run)()) {
  getcontext(&context.registers);
  context.registers.uc_stack.ss_sp = stack;
  context.registers.uc_stack.ss_size = stack_bytes;
  context.registers.uc_link = nullptr;
  makecontext(&context.registers, run, 0);
}

void switch_context(Context& from, Context& to) {
  swapcontext(&from.registers, &to.registers);
}

}  // namespace emulator

#endif
