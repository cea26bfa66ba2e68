// The CPU drivers as the dispatcher sees them: one table of functions for each instruction set.
#pragma once

#include "csrc/cpu/side_by_side.h"

namespace fused_rnn {

struct CpuTarget {
  CpuDrivers<SequenceForwardParams> forward;
  CpuDrivers<SequenceBackwardParams> backward;
};

struct NamedCpuTarget {
  const char* name;
  const CpuTarget* drivers;
  const CpuTarget* bfloat16_drivers;  // for tensors of that type

  const CpuTarget* drivers_for(DType dtype) const { return dtype == DType::kBFloat16 ? bfloat16_drivers : drivers; }
};

// The best target that this machine runs, or the one that FUSED_RNN_CPU_TARGET names (read once); its drivers are null
// if that is none of those compiled and supported.
const NamedCpuTarget& cpu_target();

// The names of all compiled targets, separated by spaces.
const char* cpu_target_names();

}  // namespace fused_rnn
