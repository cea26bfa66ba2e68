// One dtype and direction of the persistent driver; a file of its own so that they compile side by side.
#include "csrc/cuda/persistent_forward.cuh"

template fused_rnn::Status fused_rnn::cuda::persistent_forward<__nv_bfloat16>(const PersistentForward<__nv_bfloat16>&,
                                                                              int, const PersistentPlan&,
                                                                              const SequenceParams&);
