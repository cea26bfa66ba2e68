// The threads that TensorFlow lends to a call on the CPU.
#pragma once

#include <limits>

#include "csrc/sequence.h"
#include "tensorflow/core/framework/device.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/lib/core/threadpool.h"

namespace fused_rnn::tf {

// A step's helpers are first of all threads that run the graph, as many as were asked for: beside the steps of a loop
// one of them is awake anyway, looking for work, and would compete with a thread of another pool. A sequence's are of
// the pool for work within an op, since it would keep the others from the rest of the graph for too long.
inline Threads lent_threads(tensorflow::OpKernelContext* c, bool step) {
  const auto* workers = c->device()->tensorflow_cpu_worker_threads();
  auto* const pool = workers->workers;
  if (!step) {
    return {workers->num_threads, [pool](std::function<void()> work) { pool->Schedule(std::move(work)); }, pool};
  }
  const auto* config = c->session_config();
  const int threads = config == nullptr ? 1 : config->inter_op_parallelism_threads();  // 0: as many as processors
  int idle = c->runner() == nullptr ? 0 : threads == 0 ? std::numeric_limits<int>::max() : threads - 1;
  return {workers->num_threads, [runner = c->runner(), idle, pool](std::function<void()> work) mutable {
            if (idle-- <= 0) return pool->Schedule(std::move(work));
            // So that a runner without threads of its own is noticed: it runs the work here and now.
            static thread_local bool lending = false;
            lending = true;
            (*runner)([work = std::move(work), pool] { lending ? pool->Schedule(work) : work(); });
            lending = false;
          }};
}

}  // namespace fused_rnn::tf
