// The threads that TensorFlow lends to a call on the CPU.
#pragma once

#include <limits>

#include "csrc/sequence.h"
#include "tensorflow/core/framework/device.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/lib/core/threadpool.h"

namespace fused_rnn::tf {

// How many threads that run the graph a call may have beside its own: as many as were asked for.
inline int idle_graph_threads(tensorflow::OpKernelContext* c) {
  const auto* config = c->session_config();
  if (config == nullptr || c->runner() == nullptr) return 0;
  const int threads = config->inter_op_parallelism_threads();  // 0: as many as there are processors
  return threads == 0 ? std::numeric_limits<int>::max() : threads - 1;
}

// A step's helpers are first of all threads that run the graph: beside the steps of a loop one of them is awake anyway,
// looking for work, and would compete with a thread of another pool. A sequence's are of the pool for work within an
// op, since it would keep the others from the rest of the graph for too long.
inline Threads lent_threads(tensorflow::OpKernelContext* c, bool step) {
  const auto* workers = c->device()->tensorflow_cpu_worker_threads();
  if (!step) {
    auto* const pool = workers->workers;
    return {workers->num_threads, [pool](std::function<void()> work) { pool->Schedule(std::move(work)); }, pool};
  }
  // It keeps so little that no memory is asked for: most steps call nobody.
  return {workers->num_threads, [c, called = 0](std::function<void()> work) mutable {
            auto* const pool = c->device()->tensorflow_cpu_worker_threads()->workers;
            if (called++ >= idle_graph_threads(c)) return pool->Schedule(std::move(work));
            // So that a runner without threads of its own is noticed: it runs the work here and now.
            static thread_local bool lending = false;
            lending = true;
            (*c->runner())([work = std::move(work), pool] { lending ? pool->Schedule(work) : work(); });
            lending = false;
          }};
}

}  // namespace fused_rnn::tf
