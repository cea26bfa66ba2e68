// How the persistent CUDA driver would divide a sequence, for tests and tables. CUDA builds.
#pragma once

#include <pybind11/pybind11.h>

namespace fused_rnn {

// Adds the function to the module.
void add_cuda_plan(pybind11::module_& module);

}  // namespace fused_rnn
