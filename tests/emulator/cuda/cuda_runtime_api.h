// Stands in for CUDA's header of this name.
#pragma once

#include "tests/emulator/emulator.h"
