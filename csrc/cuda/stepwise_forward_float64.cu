// One dtype and direction of the stepwise driver; a file of its own so that they compile side by side.
#include "csrc/cuda/stepwise_forward.cuh"

template fused_rnn::Status fused_rnn::cuda::stepwise_forward<double>(const SequenceForwardParams&);
