// One dtype and direction of the persistent driver; a file of its own so that they compile side by side.
#include "csrc/cuda/persistent_backward.cuh"

template fused_rnn::Status fused_rnn::cuda::persistent_backward<float>(const PersistentBackward<float>&, int,
                                                                       const PersistentPlan&, const SequenceParams&);
