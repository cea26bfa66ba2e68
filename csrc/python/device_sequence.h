// DeviceSequence: a sequence that stays on the GPU between calls, so that a measurement holds no copies. CUDA builds.
#pragma once

#include <pybind11/pybind11.h>

namespace fused_rnn {

// Adds the class to the module.
void add_device_sequence(pybind11::module_& module);

}  // namespace fused_rnn
