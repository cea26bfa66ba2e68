// Measures what a GPU can do at most, and prints it as JSON: the numbers that device_floor.py computes with.
// Build: nvcc -O3 -std=c++17 -arch=sm_90 device_limits.cu -o device_limits. Clusters are measured from sm_90 on.
#include <cuda_runtime.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <vector>

namespace {

constexpr int kSamples = 7, kWarmUps = 2;

void check(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  std::fprintf(stderr, "%s: %s\n", what, cudaGetErrorString(error));
  std::exit(1);
}

// Milliseconds of each of several runs, by events.
std::vector<float> time_runs(const std::function<void()>& run) {
  cudaEvent_t start, end;
  check(cudaEventCreate(&start), "event");
  check(cudaEventCreate(&end), "event");
  std::vector<float> times;
  for (int n = 0; n < kWarmUps + kSamples; ++n) {
    check(cudaEventRecord(start), "record");
    run();
    check(cudaGetLastError(), "launch");
    check(cudaEventRecord(end), "record");
    check(cudaEventSynchronize(end), "kernel");
    float milliseconds = 0;
    check(cudaEventElapsedTime(&milliseconds, start, end), "elapsed");
    if (n >= kWarmUps) times.push_back(milliseconds);
  }
  return times;
}

void print_list(const char* name, const std::vector<double>& values) {
  std::printf(",\n  \"%s\": [", name);
  for (size_t n = 0; n < values.size(); ++n) std::printf("%s%.6g", n > 0 ? ", " : "", values[n]);
  std::printf("]");
  std::fflush(stdout);
}

void print_rates(const char* name, double amount, const std::vector<float>& times) {  // amount per second, in 1e12
  std::vector<double> rates;
  for (float time : times) rates.push_back(amount / time * 1e-9);
  print_list(name, rates);
}

void print_costs(const char* name, double count, const std::vector<float>& times) {  // microseconds of each
  std::vector<double> costs;
  for (float time : times) costs.push_back(time * 1e3 / count);
  print_list(name, costs);
}

// Random bits, made on the device: zeros would run faster than data does.
__global__ void fill_kernel(uint32_t* to, int64_t count) {
  for (int64_t n = blockIdx.x * int64_t{blockDim.x} + threadIdx.x; n < count; n += int64_t{gridDim.x} * blockDim.x) {
    uint32_t bits = static_cast<uint32_t>(n) * 2654435761u + 12345u;
    bits ^= bits >> 15, bits *= 2246822519u, bits ^= bits >> 13;
    to[n] = bits;
  }
}

uint4* random_memory(int64_t bytes) {
  void* memory = nullptr;
  check(cudaMalloc(&memory, bytes), "allocate");
  fill_kernel<<<1024, 256>>>(static_cast<uint32_t*>(memory), bytes / 4);
  check(cudaDeviceSynchronize(), "fill");
  return static_cast<uint4*>(memory);
}

__device__ void mix(uint4& into, const uint4& value) {
  into.x ^= value.x, into.y ^= value.y, into.z ^= value.z, into.w ^= value.w;
}

// Keeps the compiler from leaving out what was computed; never true for the caller's numbers.
__device__ void keep(const uint4& value, uint4* out) {
  if ((value.x ^ value.y ^ value.z ^ value.w) == 0x9e3779b9u) *out = value;
}

// --- Device memory: four 16-byte loads in flight for each thread.
__global__ void copy_kernel(const uint4* __restrict__ from, uint4* __restrict__ to, int64_t count) {
  const int64_t stride = int64_t{gridDim.x} * blockDim.x;
  for (int64_t n = blockIdx.x * int64_t{blockDim.x} + threadIdx.x; n < count; n += 4 * stride) {
    uint4 values[4];
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      if (n + k * stride < count) values[k] = from[n + k * stride];
    }
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      if (n + k * stride < count) to[n + k * stride] = values[k];
    }
  }
}

void measure_copy(int sms) {
  const int64_t bytes = int64_t{1} << 30;
  uint4 *from = random_memory(bytes), *to = random_memory(bytes);
  const auto own = time_runs([&] { copy_kernel<<<sms * 16, 256>>>(from, to, bytes / 16); });
  const auto library = time_runs([&] { cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice); });
  print_rates("memory_copy_kernel_tb_s", 2.0 * bytes, own);
  print_rates("memory_copy_library_tb_s", 2.0 * bytes, library);
  cudaFree(from), cudaFree(to);
}

// --- L2: every SM reads the same megabyte, as every SM reads all of h. Past L1.
constexpr int kL2Bytes = 1 << 20, kL2Count = kL2Bytes / 16;

__device__ uint4 load_past_l1(const uint4* from) {
  uint4 value;
  asm volatile("ld.global.cg.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(value.x), "=r"(value.y), "=r"(value.z), "=r"(value.w)
               : "l"(from));
  return value;
}

__global__ void l2_kernel(const uint4* from, int rounds, uint4* out) {
  uint4 sums[8] = {};
  const int start = threadIdx.x + blockIdx.x * 992;  // the blocks do not march in step
  for (int round = 0; round < rounds; ++round) {
    for (int n = 0; n < kL2Count; n += 8 * blockDim.x) {
#pragma unroll
      for (int k = 0; k < 8; ++k) mix(sums[k], load_past_l1(from + (start + n + k * blockDim.x) % kL2Count));
    }
  }
  for (int k = 1; k < 8; ++k) mix(sums[0], sums[k]);
  keep(sums[0], out);
}

void measure_l2(int sms) {
  const int rounds = 100;
  uint4 *from = random_memory(kL2Bytes), *out = random_memory(16);
  const auto times = time_runs([&] { l2_kernel<<<sms * 2, 1024>>>(from, rounds, out); });
  print_rates("l2_read_tb_s", 2.0 * sms * kL2Bytes * rounds, times);
  cudaFree(from), cudaFree(out);
}

// --- Shared memory: 16 bytes a thread, no bank conflicts.
__global__ void shared_kernel(int rounds, uint4* out) {
  __shared__ uint4 values[2048];
  for (int n = threadIdx.x; n < 2048; n += blockDim.x) values[n] = make_uint4(n, n * 7, n * 13, blockIdx.x);
  __syncthreads();
  uint4 sums[2] = {};
  for (int round = 0; round < rounds; ++round) {
#pragma unroll
    for (int k = 0; k < 8; ++k) mix(sums[k % 2], values[(threadIdx.x + k * 256 + round) % 2048]);
  }
  mix(sums[0], sums[1]);
  keep(sums[0], out);
}

// --- A meeting of all blocks. Two ways: one counter that all add to, and a flag of each block that all read.
__device__ void add_release(unsigned* at) {
  asm volatile("red.release.gpu.global.add.u32 [%0], 1;" ::"l"(at) : "memory");
}
__device__ void store_release(unsigned* at, unsigned value) {
  asm volatile("st.release.gpu.global.u32 [%0], %1;" ::"l"(at), "r"(value) : "memory");
}
__device__ unsigned load_acquire(const unsigned* at) {
  unsigned value;
  asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(value) : "l"(at) : "memory");
  return value;
}

__global__ void counter_kernel(unsigned* counter, int meetings) {
  for (int n = 1; n <= meetings; ++n) {
    __syncthreads();
    if (threadIdx.x == 0) {
      add_release(counter);
      while (load_acquire(counter) < static_cast<unsigned>(n) * gridDim.x) {
      }
    }
    __syncthreads();
  }
}

__global__ void flags_kernel(unsigned* flags, int meetings) {
  for (int n = 1; n <= meetings; ++n) {
    __syncthreads();
    if (threadIdx.x == 0) store_release(flags + blockIdx.x, n);
    for (int block = threadIdx.x; block < gridDim.x; block += blockDim.x) {
      while (load_acquire(flags + block) < static_cast<unsigned>(n)) {
      }
    }
    __syncthreads();
  }
}

void measure_meeting(const char* name, void (*kernel)(unsigned*, int), int sms) {
  unsigned* memory = nullptr;
  int meetings = 2000;
  check(cudaMalloc(reinterpret_cast<void**>(&memory), 4096), "allocate");
  void* arguments[] = {&memory, &meetings};
  const auto times = time_runs([&] {
    cudaMemsetAsync(memory, 0, 4096);
    check(
        cudaLaunchCooperativeKernel(reinterpret_cast<const void*>(kernel), dim3(sms), dim3(256), arguments, 0, nullptr),
        "cooperative launch");
  });
  print_costs(name, meetings, times);
  cudaFree(memory);
}

// --- Clusters: meetings, and reads of another block's shared memory.
constexpr int kClusterBytes = 64 << 10;

__device__ void cluster_meeting() {
#if __CUDA_ARCH__ >= 900
  asm volatile("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;" ::: "memory");
#endif
}

__global__ void cluster_meeting_kernel(int meetings, uint4*) {
  for (int n = 0; n < meetings; ++n) cluster_meeting();
}

__global__ void cluster_read_kernel(int rounds, uint4* out) {
#if __CUDA_ARCH__ >= 900
  extern __shared__ uint4 own[];
  constexpr int kCount = kClusterBytes / 16;
  for (int n = threadIdx.x; n < kCount; n += blockDim.x) own[n] = make_uint4(n, n * 7, n * 13, blockIdx.x);
  cluster_meeting();
  uint32_t rank, blocks, local = static_cast<uint32_t>(__cvta_generic_to_shared(own)), remote;
  asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  asm("mov.u32 %0, %%cluster_nctarank;" : "=r"(blocks));
  uint4 sums[8] = {};
  for (int round = 0; round < rounds; ++round) {
    const uint32_t other = (rank + 1 + round % (blocks - 1)) % blocks;
    asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(remote) : "r"(local), "r"(other));
    for (int n = threadIdx.x; n < kCount; n += 8 * blockDim.x) {
#pragma unroll
      for (int k = 0; k < 8; ++k) {
        uint4 value = make_uint4(0, 0, 0, 0);
        const int at = n + k * blockDim.x;
        if (at < kCount) {
          asm volatile("ld.shared::cluster.v4.u32 {%0, %1, %2, %3}, [%4];"
                       : "=r"(value.x), "=r"(value.y), "=r"(value.z), "=r"(value.w)
                       : "r"(remote + at * 16));
        }
        mix(sums[k], value);
      }
    }
  }
  for (int k = 1; k < 8; ++k) mix(sums[0], sums[k]);
  keep(sums[0], out);
  cluster_meeting();  // nobody leaves while its shared memory is read
#endif
}

// Runs kernel(count, out) on as many clusters as the device holds at a time; returns its blocks, 0 if it holds none.
int run_clusters(void (*kernel)(int, uint4*), int size, int threads, int shared_bytes, int count, uint4* out) {
  const void* function = reinterpret_cast<const void*>(kernel);
  check(cudaFuncSetAttribute(function, cudaFuncAttributeMaxDynamicSharedMemorySize, shared_bytes), "shared memory");
  check(cudaFuncSetAttribute(function, cudaFuncAttributeNonPortableClusterSizeAllowed, 1), "cluster size");
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeClusterDimension;
  attribute.val.clusterDim.x = size, attribute.val.clusterDim.y = attribute.val.clusterDim.z = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(size), config.blockDim = dim3(threads);
  config.dynamicSmemBytes = shared_bytes, config.attrs = &attribute, config.numAttrs = 1;
  int clusters = 0;
  if (cudaOccupancyMaxActiveClusters(&clusters, function, &config) != cudaSuccess || clusters == 0) {
    cudaGetLastError();
    return 0;
  }
  config.gridDim = dim3(clusters * size);
  check(cudaLaunchKernelEx(&config, kernel, count, out), "cluster launch");
  return clusters * size;
}

// `shared` is so much that an SM holds one block.
void measure_clusters(int sms, int shared) {
  uint4* out = random_memory(4096);
  for (int size : {8, 16}) {
    const std::string of_size = std::to_string(size);
    const int meetings = 20000, rounds = 2000;
    if (run_clusters(cluster_meeting_kernel, size, 256, shared, 1, out) == 0) continue;
    print_costs(("cluster_wait_" + of_size + "_us").c_str(), meetings,
                time_runs([&] { run_clusters(cluster_meeting_kernel, size, 256, shared, meetings, out); }));
    const int blocks = run_clusters(cluster_read_kernel, size, 512, shared, 1, out);
    const auto times = time_runs([&] { run_clusters(cluster_read_kernel, size, 512, shared, rounds, out); });
    // As if every SM took part: clusters do not divide the SMs evenly.
    print_rates(("cluster_read_" + of_size + "_tb_s").c_str(), double{kClusterBytes} * rounds * sms, times);
    print_list(("cluster_blocks_" + of_size).c_str(), {double(blocks)});
  }
  cudaFree(out);
}

// --- Arithmetic in registers: independent sums, operands from memory.
template <bool kTf32>
__global__ void mma_kernel(int rounds, const uint32_t* from, float* out) {
  uint32_t a[4], b[2];
  for (int k = 0; k < 4; ++k) a[k] = (from[threadIdx.x * 4 + k] & 0x807f807fu) | 0x3f003f00u;  // about +-1, both halves
  for (int k = 0; k < 2; ++k) b[k] = (from[threadIdx.x * 2 + k + 512] & 0x807f807fu) | 0x3f003f00u;
  float sums[8][4] = {};
  for (int round = 0; round < rounds; ++round) {
#pragma unroll
    for (int k = 0; k < 8; ++k) {
      float* c = sums[k];
      if constexpr (kTf32) {
        asm volatile(
            "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
            "{%0,%1,%2,%3};"
            : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
            : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
      } else {
        asm volatile(
            "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
            "{%0,%1,%2,%3};"
            : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
            : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
      }
    }
  }
  float sum = 0;
  for (const auto& c : sums) sum += c[0] + c[1] + c[2] + c[3];
  if (sum == 12345.678f) *out = sum;
}

__global__ void fma_kernel(int rounds, const float* from, float* out) {
  const float factor = 0.999f + 1e-9f * threadIdx.x, term = from[1] != from[1] ? 1.0f : 1e-3f * threadIdx.x;
  float sums[32];
  for (int k = 0; k < 32; ++k) sums[k] = k * term;
  for (int round = 0; round < rounds; ++round) {
#pragma unroll
    for (int k = 0; k < 32; ++k) sums[k] = fmaf(sums[k], factor, term);
  }
  float sum = 0;
  for (float value : sums) sum += value;
  if (sum == 12345.678f) *out = sum;
}

void measure_arithmetic(int sms) {
  const int rounds = 20000, blocks = sms * 4, threads = 256;
  uint4* memory = random_memory(1 << 16);
  const auto* bits = reinterpret_cast<const uint32_t*>(memory);
  const auto* numbers = reinterpret_cast<const float*>(memory);
  auto* out = reinterpret_cast<float*>(memory);
  const double warps = blocks * (threads / 32.0), tile = 2.0 * 16 * 8;
  print_rates("mma_sync_bf16_tflop_s", warps * rounds * 8 * tile * 16,
              time_runs([&] { mma_kernel<false><<<blocks, threads>>>(rounds, bits, out); }));
  print_rates("mma_sync_tf32_tflop_s", warps * rounds * 8 * tile * 8,
              time_runs([&] { mma_kernel<true><<<blocks, threads>>>(rounds, bits, out); }));
  print_rates("fma_float32_tflop_s", 2.0 * blocks * threads * rounds * 32,
              time_runs([&] { fma_kernel<<<blocks, threads>>>(rounds, numbers, out); }));
  print_rates("shared_read_tb_s", 16.0 * 8 * blocks * threads * rounds,
              time_runs([&] { shared_kernel<<<blocks, threads>>>(rounds, memory); }));
  cudaFree(memory);
}

__global__ void empty_kernel() {}

void measure_launch() {
  const int count = 2000;
  print_costs("launch_us", count, time_runs([&] {
                for (int n = 0; n < count; ++n) empty_kernel<<<1, 32>>>();
              }));
}

}  // namespace

int main() {
  cudaDeviceProp device;
  int driver = 0, runtime = 0;
  check(cudaGetDeviceProperties(&device, 0), "device");
  check(cudaDriverGetVersion(&driver), "driver");
  check(cudaRuntimeGetVersion(&runtime), "runtime");
  std::printf("{\n  \"name\": \"%s\", \"compute_capability\": \"%d.%d\", \"sms\": %d, \"l2_bytes\": %d,\n", device.name,
              device.major, device.minor, device.multiProcessorCount, device.l2CacheSize);
  std::printf("  \"shared_bytes\": %zu, \"register_bytes\": %d, \"memory_bytes\": %zu,\n",
              device.sharedMemPerBlockOptin, device.regsPerMultiprocessor * 4, device.totalGlobalMem);
  std::printf("  \"cuda_driver\": %d, \"cuda_runtime\": %d", driver, runtime);
  const int sms = device.multiProcessorCount;
  measure_arithmetic(sms);  // first: it brings the clocks up
  measure_copy(sms);
  measure_l2(sms);
  measure_meeting("grid_wait_counter_us", counter_kernel, sms);
  measure_meeting("grid_wait_flags_us", flags_kernel, sms);
  if (device.major >= 9) measure_clusters(sms, static_cast<int>(device.sharedMemPerBlockOptin) - 1024);
  measure_launch();
  std::printf("\n}\n");
  return 0;
}
