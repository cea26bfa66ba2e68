// Brings the lengths of the rows to the device as arguments of a kernel: they are taken when the call returns, whatever
// memory they stand in. (A copy from pinned memory, which TensorFlow may hand over, would read it later.)
#include <algorithm>

#include "csrc/cuda/time_loop_host.h"

namespace fused_rnn::cuda {
namespace {

constexpr int kLengthsAtOnce = 448;  // of the 4 KiB that a kernel's arguments may take

struct StoreLengths {
  int64_t* out;  // = [count]
  int count;
  int64_t lengths[kLengthsAtOnce];
};

__global__ void __launch_bounds__(kLengthsAtOnce) store_lengths_kernel(const __grid_constant__ StoreLengths p) {
  const int i = threadIdx.x;
  if (i < p.count) p.out[i] = p.lengths[i];
}

}  // namespace

Status copy_lengths(const int64_t* lengths, int64_t B, int64_t* device_lengths, void* stream) {
  for (int64_t first = 0; first < B; first += kLengthsAtOnce) {
    StoreLengths store;
    store.out = device_lengths + first;
    store.count = static_cast<int>(std::min<int64_t>(kLengthsAtOnce, B - first));
    std::copy_n(lengths + first, store.count, store.lengths);
    FUSED_RNN_RETURN_IF_ERROR(launch(store_lengths_kernel, 1, kLengthsAtOnce, 0, stream, store));
  }
  return {};
}

}  // namespace fused_rnn::cuda
