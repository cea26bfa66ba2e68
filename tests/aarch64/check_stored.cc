// check_stored FILE runs the cases of a file through the core and compares every value and gradient with the float64
// results that the file holds, on machines without Python. test_aarch64.py writes the file and describes it.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "csrc/sequence.h"

namespace fused_rnn {
namespace {

using Bytes = std::vector<char>;

// The float64 result, and how far from it a tensor may be: each element by relative * |expected| + absolute, and the
// whole by an error whose norm is `norm`.
struct Expected {
  std::vector<double> values;
  double relative, absolute, norm;
};

struct StoredCase {
  std::string name;
  SequenceParams params;  // sizes and options; no pointers yet
  bool time_major;
  std::map<std::string, Bytes> tensors;  // a list called name is name[0], name[1] and so on
  std::map<std::string, Expected> expected;
};

[[noreturn]] void fail(const std::string& why) {
  std::fprintf(stderr, "check_stored: %s\n", why.c_str());
  std::exit(2);
}

void require(const Status& status) {
  if (!status.ok()) fail(status.message);
}

std::string numbered(const char* name, int k) {
  return std::string(name) + "[" + std::to_string(k) + "]";
}

template <typename T>
T read(std::istream& file) {
  T value;
  if (!(file >> value)) fail("the file ends early or is no file of cases");
  return value;
}

// Streams do not read inf.
double read_number(std::istream& file) {
  return std::strtod(read<std::string>(file).c_str(), nullptr);
}

// The rest of the line is its line break; then come the bytes.
template <typename T>
std::vector<T> read_array(std::istream& file, size_t count) {
  std::vector<T> array(count);
  if (file.get() != '\n' || !file.read(reinterpret_cast<char*>(array.data()), count * sizeof(T))) {
    fail("an array is not as long as the file says");
  }
  return array;
}

DType dtype_named(const std::string& name) {
  if (name == "float32") return DType::kFloat32;
  if (name == "float64") return DType::kFloat64;
  if (name == "float16") return DType::kFloat16;
  if (name == "bfloat16") return DType::kBFloat16;
  fail("no dtype is called " + name);
}

bool read_case(std::istream& file, StoredCase* stored) {
  std::string word;
  if (!(file >> word)) return false;
  if (word != "case") fail("a case begins with " + word);
  SequenceParams& params = stored->params;
  stored->name = read<std::string>(file);
  require(find_cell(read<std::string>(file), &params.cell));
  params.dtype = dtype_named(read<std::string>(file));
  require(find_activation(read<std::string>(file), &params.activation));
  for (int64_t* size : {&params.T, &params.B, &params.I, &params.H, &params.P}) *size = read<int64_t>(file);
  params.reverse = read<bool>(file);
  stored->time_major = read<bool>(file);
  params.threads.count = read<int>(file);
  for (double* option : {&params.forget_bias, &params.cell_clip, &params.proj_clip}) *option = read_number(file);
  while ((word = read<std::string>(file)) != "end") {
    const std::string name = read<std::string>(file);
    const size_t count = read<size_t>(file);
    if (word == "tensor") {
      stored->tensors[name] = read_array<char>(file, count);
    } else {
      Expected& expected = stored->expected[name];
      for (double* bound : {&expected.relative, &expected.absolute, &expected.norm}) *bound = read_number(file);
      expected.values = read_array<double>(file, count);
    }
  }
  return true;
}

// One element in float64. The float16 is taken apart by its definition.
double value_at(DType dtype, const char* element) {
  if (dtype == DType::kFloat64) {
    double value;
    std::memcpy(&value, element, sizeof(value));
    return value;
  }
  uint16_t bits;
  std::memcpy(&bits, element, sizeof(bits));
  if (dtype == DType::kFloat16) {
    const int exponent = bits >> 10 & 31, mantissa = bits & 1023;
    if (exponent == 31) return NAN;  // or infinity: both are wrong here
    const double size = exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(mantissa + 1024, exponent - 25);
    return bits & 0x8000 ? -size : size;
  }
  float value;
  const uint32_t wide = static_cast<uint32_t>(bits) << 16;
  std::memcpy(&value, dtype == DType::kBFloat16 ? static_cast<const void*>(&wide) : element, sizeof(value));
  return value;
}

// A case while it runs: what it gives and what it needs beside the stored tensors. All memory begins as NaN, so that
// reading what nobody wrote, or not writing a result, shows. full_pool: whether helpers are run at once, on the thread
// that asks for them, as a pool does whose queues are full.
class Run {
 public:
  Run(const StoredCase& stored, bool full_pool) : stored_(stored), full_pool_(full_pool) {}

  void forward() {
    SequenceForwardParams params;
    static_cast<SequenceParams&>(params) = inputs();
    const CellInfo& info = cell_info(params.cell);
    params.y = result("y");
    params.y_strides = strides(params.P);
    for (int k = 0; k < info.states; ++k) params.final_state[k] = result(numbered("final_state", k));
    saved_.assign(params.T * params.B * info.saved * params.H * dtype_bytes(params.dtype) + kGuard, kNaN);
    params.saved = saved_.data();
    params.workspace = workspace(sequence_forward_workspace_bytes(&params, 1));
    require(sequence_forward(&params, 1));
    join();
  }

  void backward() {
    SequenceBackwardParams params;
    static_cast<SequenceParams&>(params) = inputs();
    const CellInfo& info = cell_info(params.cell);
    params.y = results_["y"].data();
    params.y_strides = strides(params.P);
    params.saved = saved_.data();
    params.d_y = tensor("d_y");
    for (int k = 0; k < info.states; ++k) params.d_final_state[k] = tensor(numbered("d_final_state", k));
    params.d_x = result("d_x");
    for (int k = 0; k < info.kernels; ++k) params.d_kernels[k] = result(numbered("d_kernels", k));
    for (int k = 0; k < info.biases; ++k) params.d_biases[k] = result(numbered("d_biases", k));
    for (int k = 0; k < info.states; ++k) params.d_initial_state[k] = result(numbered("d_initial_state", k));
    params.workspace = workspace(sequence_backward_workspace_bytes(&params, 1));
    require(sequence_backward(&params, 1));
    join();
  }

  // Prints what is wrong; returns whether nothing is.
  bool agrees() const {
    bool good = results_.size() == stored_.expected.size();
    if (!good) std::printf("%s: a result is missing\n", stored_.name.c_str());
    for (const auto& [name, bytes] : results_) good = agrees(name, bytes) && good;
    return good;
  }

 private:
  static constexpr char kNaN = '\xff';  // a float of any width whose bytes are all this is NaN
  static constexpr size_t kGuard = 64;  // bytes after each result that must stay what they are

  SequenceParams inputs() {
    SequenceParams params = stored_.params;
    const CellInfo& info = cell_info(params.cell);
    params.threads.schedule = [this](std::function<void()> work) {
      ++scheduled_;
      full_pool_ ? work() : static_cast<void>(started_.emplace_back(std::move(work)));
    };
    params.x = tensor("x");
    params.x_strides = strides(params.I);
    for (int k = 0; k < info.kernels; ++k) params.kernels[k] = tensor(numbered("kernels", k));
    for (int k = 0; k < info.biases; ++k) params.biases[k] = tensor(numbered("biases", k));
    for (int k = 0; k < info.states; ++k) params.initial_state[k] = tensor(numbered("initial_state", k));
    if (stored_.tensors.count("lengths")) params.lengths = static_cast<const int64_t*>(tensor("lengths"));
    if (stored_.tensors.count("state_mask")) params.state_mask = tensor("state_mask");
    return params;
  }

  Strides strides(int64_t width) const {
    const SequenceParams& params = stored_.params;
    return stored_.time_major ? Strides{params.B * width, width} : Strides{width, params.T * width};
  }

  const void* tensor(const std::string& name) const {
    const auto found = stored_.tensors.find(name);
    if (found == stored_.tensors.end()) fail(stored_.name + " has no " + name);
    return found->second.data();
  }

  void* result(const std::string& name) {
    const auto found = stored_.expected.find(name);
    if (found == stored_.expected.end()) fail(stored_.name + " expects no " + name);
    Bytes& bytes = results_[name];
    bytes.assign(found->second.values.size() * dtype_bytes(stored_.params.dtype) + kGuard, kNaN);
    return bytes.data();
  }

  void* workspace(size_t bytes) {
    constexpr size_t kAlignment = 64;
    workspace_.assign(bytes + kAlignment, kNaN);
    void* begin = workspace_.data();
    size_t space = workspace_.size();
    return std::align(kAlignment, bytes, begin, space);
  }

  // A case with several threads is there to be shared among them.
  void join() {
    if (stored_.params.threads.count > 1 && scheduled_ == 0) fail(stored_.name + " is too small to be shared");
    for (std::thread& thread : started_) thread.join();
    started_.clear();
    scheduled_ = 0;
  }

  bool agrees(const std::string& name, const Bytes& bytes) const {
    const Expected& expected = stored_.expected.at(name);
    const size_t width = dtype_bytes(stored_.params.dtype), count = expected.values.size();
    const auto value = [&](size_t n) { return value_at(stored_.params.dtype, &bytes[n * width]); };
    size_t worst = 0;
    double worst_excess = -INFINITY, squares = 0;
    for (size_t n = 0; n < count; ++n) {
      const double error = std::fabs(value(n) - expected.values[n]);
      const double bound = expected.relative * std::fabs(expected.values[n]) + expected.absolute;
      // Where only the norm is bounded, the worst element is the one with the largest error.
      const double excess = std::isnan(error) ? INFINITY : std::isinf(bound) ? error : error - bound;
      if (excess > worst_excess) worst = n, worst_excess = excess;
      squares += error * error;
    }
    const bool elements = std::isinf(expected.absolute) || !(worst_excess > 0);
    if (!elements || !(std::sqrt(squares) <= expected.norm)) {
      std::printf("%s: %s element %zu of %zu is %.17g, expected %.17g; norm of the error %.3g\n", stored_.name.c_str(),
                  name.c_str(), worst, count, value(worst), expected.values[worst], std::sqrt(squares));
      return false;
    }
    for (size_t n = count * width; n < bytes.size(); ++n) {
      if (bytes[n] == kNaN) continue;
      std::printf("%s: written past the end of %s\n", stored_.name.c_str(), name.c_str());
      return false;
    }
    return true;
  }

  const StoredCase& stored_;
  std::map<std::string, Bytes> results_;
  Bytes saved_, workspace_;
  const bool full_pool_;
  std::vector<std::thread> started_;
  int scheduled_ = 0;
};

int check(const char* path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) fail(std::string("cannot read ") + path);
  int cases = 0, wrong = 0;
  for (StoredCase stored; read_case(file, &stored); stored = {}) {
    ++cases;
    bool good = true;
    for (const bool full_pool : {false, true}) {
      if (full_pool && stored.params.threads.count == 1) continue;
      Run run(stored, full_pool);
      run.forward();
      run.backward();
      good = run.agrees() && good;
    }
    if (!good) ++wrong;
  }
  std::printf("%d cases, %d wrong; instruction set: %s\n", cases, wrong, build_info().cpu_target.c_str());
  return cases > 0 && wrong == 0 ? 0 : 1;
}

}  // namespace
}  // namespace fused_rnn

int main(int argc, char** argv) {
  if (argc != 2) fused_rnn::fail("give it the file of cases");
  return fused_rnn::check(argv[1]);
}
