// One dtype and direction of the stepwise driver; a file of its own so that they compile side by side.
#include "csrc/cuda/stepwise_backward.cuh"

template fused_rnn::Status fused_rnn::cuda::stepwise_backward<__half>(const SequenceBackwardParams&);
