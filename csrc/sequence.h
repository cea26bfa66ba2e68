// The whole surface of the core: what a caller (TensorFlow op or Python module) fills in and calls.
// The core never allocates, synchronises, prints or exits: the caller gives memory, threads or a stream,
// and gets a Status back.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <string>

namespace fused_rnn {

// Sizes, here and everywhere:
//   T  time steps      B  rows of the batch      I  input width      H  units      G  gates of the cell
//   P  width of h: H, or that of the projection where the cell has one
// A sequence of T = 1 is the step that a cell runs when somebody else owns the time loop.

enum class Cell { kRnn, kLstm, kLstmPeephole, kLstmProjected, kGru, kGruResetAfter };
// What a cell applies to its candidate (and the LSTM to c), where no formula demands a sigmoid.
enum class Activation { kTanh, kRelu, kSigmoid, kSoftsign, kElu, kIdentity };
enum class DType { kFloat32, kFloat64, kFloat16, kBFloat16 };
enum class Device { kCpu, kCuda };
// What runs the time loop on a GPU: a kernel for each step, or one for as many steps as the workspace has room for.
// kAuto: whichever is predicted to be faster.
enum class CudaDriver { kAuto, kStepwise, kPersistent };

constexpr int kMaxKernels = 2;
constexpr int kMaxBiases = 4;
constexpr int kMaxStates = 2;

// What a caller has to know of a cell to allocate for it and to check what it was given.
struct CellInfo {
  const char* name;
  int gates;                      // G
  int states;                     // 1: h; 2: h and c, in this order everywhere in the core
  int kernels;                    // kernel k is [I + P, kernel_gates[k] * H], the rows of x first
  int kernel_gates[kMaxKernels];  // they add up to G; gates stand in this order, kernel after kernel
  bool projected;                 // the last kernel is another: the projection [H, P], which makes h
  int biases;                     // one for each kernel with gates, then the cell's others
  int bias_gates[kMaxBiases];     // bias k is [bias_gates[k] * H]
  int saved;                      // values of each unit and step that the forward pass keeps for the backward one
  const char* kernel_names[kMaxKernels];  // as the Python functions call them
  const char* bias_names[kMaxBiases];
};

const CellInfo& cell_info(Cell cell);
size_t dtype_bytes(DType dtype);

// An empty message is success; any other is one sentence for the user.
struct Status {
  std::string message;
  bool ok() const { return message.empty(); }
};

// The cell of this name (CellInfo's), and the activation: tanh, relu, sigmoid, softsign, elu or identity.
Status find_cell(const std::string& name, Cell* cell);
Status find_activation(const std::string& name, Activation* activation);
// The driver of this name: auto, stepwise or persistent.
Status find_driver(const std::string& name, CudaDriver* driver);

// The CPU threads that the core may use beside the caller's own. schedule(work) must run work once, on some other
// thread and at some time of its choosing, even after the core has returned, and not wait for it; or at once, on the
// calling thread, where no other has room. It is called on any of the threads that work on the call; for a single step,
// on the caller's own alone.
struct Threads {
  int count = 1;  // how many may work at a time, the caller's own included
  std::function<void(std::function<void()>)> schedule;
  const void* pool = nullptr;  // whose threads those are: they may wait a moment for the next call there. Null: no
};

// One large matrix product on the caller's BLAS (CUDA only: on the CPU the core has its own).
//   c [M, N] = op(a) [M, K] . op(b) [K, N] + beta * c, all row-major with leading dimensions lda, ldb, ldc;
//   op is the transpose where so flagged: then a is stored as [K, M], b as [N, K].
struct Product {
  bool transpose_a = false, transpose_b = false;
  int64_t M = 0, N = 0, K = 0;
  DType ab_dtype = DType::kFloat32, c_dtype = DType::kFloat32;  // sums are taken in float (double for float64)
  const void* a = nullptr;
  int64_t lda = 0;
  const void* b = nullptr;
  int64_t ldb = 0;
  void* c = nullptr;
  int64_t ldc = 0;
  double beta = 0;
};

// How the input tensors x and d_x, or the outputs y and d_y, lie in memory: element (t, b, j) stands at
// t * time + b * batch + j. Time-major: {B * width, width}; batch-major: {width, T * width}.
struct Strides {
  int64_t time = 0, batch = 0;
};

struct SequenceParams {
  Device device = Device::kCpu;
  Cell cell = Cell::kLstm;
  DType dtype = DType::kFloat32;  // of every tensor below; sums and state are float where it is a half type
  int64_t T = 0, B = 0, I = 0, H = 0, P = 0;
  bool reverse = false;  // from each row's own end to its start
  Activation activation = Activation::kTanh;
  double forget_bias = 0;  // LSTM: added to the forget gate's preactivation
  // LSTM: c is clipped to +- this before it is used; and a projected h. Numbers that dtype can hold.
  double cell_clip = std::numeric_limits<double>::infinity(), proj_clip = std::numeric_limits<double>::infinity();
  const int64_t* lengths = nullptr;  // [B], in host memory, 0 <= length <= T; null: every row has T steps

  const void* x = nullptr;  // [T, B, I] through x_strides
  Strides x_strides;
  const void* kernels[kMaxKernels] = {};       // [I + P, kernel_gates[k] * H]; a projection [H, P]
  const void* biases[kMaxBiases] = {};         // [bias_gates[k] * H]
  const void* initial_state[kMaxStates] = {};  // h [B, P], c [B, H]
  const void* state_mask = nullptr;            // [T, B, P] laid out as y, or null: h is multiplied by it after each
                                               // step, before the next one takes it or it is final; y is not

  void* workspace = nullptr;                      // *_workspace_bytes() bytes of the device, aligned to 64 bytes
  Threads threads;                                // CPU
  void* stream = nullptr;                         // CUDA: the cudaStream_t that everything runs on
  std::function<Status(const Product&)> product;  // CUDA
  bool allow_tf32 = false;                        // CUDA: float32 products may use TF32 tensor cores
  CudaDriver driver = CudaDriver::kAuto;          // CUDA; for tests and measurements
};

struct SequenceForwardParams : SequenceParams {
  void* y = nullptr;  // = [T, B, P] through y_strides; 0 past a row's length
  Strides y_strides;
  void* final_state[kMaxStates] = {};  // = h [B, P], c [B, H] after each row's last step
  void* saved = nullptr;               // = [T, B, saved, H]; null: nothing is kept. Undefined past a row's length
};

struct SequenceBackwardParams : SequenceParams {
  const void* y = nullptr;  // what the forward pass wrote
  Strides y_strides;        // of y and d_y
  const void* saved = nullptr;
  const void* d_y = nullptr;                   // [T, B, P] through y_strides; ignored past a row's length; null: 0
  const void* d_final_state[kMaxStates] = {};  // as final_state

  void* d_x = nullptr;                     // = [T, B, I] through x_strides; 0 past a row's length
  void* d_kernels[kMaxKernels] = {};       // = as kernels
  void* d_biases[kMaxBiases] = {};         // = as biases
  void* d_initial_state[kMaxStates] = {};  // = as initial_state
};

// A call runs `count` sequences that do not need each other's results, and that are alike in all but `reverse` and
// their tensors: they share workspace, lengths and where they run. On a GPU two of them run side by side where it has
// room.
size_t sequence_forward_workspace_bytes(const SequenceForwardParams* sequences, int count);
size_t sequence_backward_workspace_bytes(const SequenceBackwardParams* sequences, int count);
Status sequence_forward(const SequenceForwardParams* sequences, int count);
Status sequence_backward(const SequenceBackwardParams* sequences, int count);

// What this build holds.
struct BuildInfo {
  std::string cpu_targets;   // instruction sets compiled, separated by spaces
  std::string cpu_target;    // the one in use
  std::string cuda_version;  // empty without CUDA
  std::string cuda_targets;  // empty without CUDA
};
BuildInfo build_info();

}  // namespace fused_rnn
