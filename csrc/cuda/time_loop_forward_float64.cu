// One dtype and direction of the time loop; a file of its own so that they compile side by side.
#include "csrc/cuda/time_loop_forward.cuh"

template fused_rnn::Status fused_rnn::cuda::time_loop_forward<double>(const SequenceForwardParams*, int);
