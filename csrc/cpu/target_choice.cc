// See target.h.
#include <cstdlib>
#include <cstring>

#include "csrc/cpu/target.h"

namespace fused_rnn {

namespace baseline {
extern const CpuTarget kTarget;
}
#if defined(FUSED_RNN_X86_TARGETS)
namespace avx2 {
extern const CpuTarget kTarget;
}
namespace avx512 {
extern const CpuTarget kTarget;
}
namespace avx512bf16 {
extern const CpuTarget kTarget;
}
#endif

namespace {

NamedCpuTarget choose() {
  const char* wanted = std::getenv("FUSED_RNN_CPU_TARGET");
  const bool any = wanted == nullptr || *wanted == '\0';
  const auto takes = [&](const char* name) { return any || std::strcmp(wanted, name) == 0; };
#if defined(FUSED_RNN_X86_TARGETS)
  __builtin_cpu_init();
  const bool has_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool has_avx512 = has_avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
                          __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq");
  const bool has_bfloat16 = has_avx512 && __builtin_cpu_supports("avx512bf16");
  if (has_bfloat16 && takes("avx512bf16")) return {"avx512bf16", &avx512::kTarget, &avx512bf16::kTarget};
  if (has_avx512 && takes("avx512")) return {"avx512", &avx512::kTarget, &avx512::kTarget};
  if (has_avx2 && takes("avx2")) return {"avx2", &avx2::kTarget, &avx2::kTarget};
#endif
  if (takes("baseline")) return {"baseline", &baseline::kTarget, &baseline::kTarget};
  return {"none", nullptr, nullptr};
}

}  // namespace

const NamedCpuTarget& cpu_target() {
  static const NamedCpuTarget target = choose();
  return target;
}

const char* cpu_target_names() {
#if defined(FUSED_RNN_X86_TARGETS)
  return "baseline avx2 avx512 avx512bf16";
#else
  return "baseline";
#endif
}

}  // namespace fused_rnn
