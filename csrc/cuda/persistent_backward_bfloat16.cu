// One dtype and direction of the persistent driver; a file of its own so that they compile side by side.
#include "csrc/cuda/persistent_backward.cuh"

template fused_rnn::Status fused_rnn::cuda::persistent_backward<__nv_bfloat16>(const PersistentBackward<__nv_bfloat16>&,
                                                                               int, const PersistentPlan&,
                                                                               const SequenceParams&);
