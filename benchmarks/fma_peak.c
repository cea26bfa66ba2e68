// Prints the rate, in GFLOP/s, at which the given number of threads do float32 fused multiply-adds that never
// leave the registers: the most that any kernel on this machine can reach. Usage: fma_peak THREADS. Plain C
// and pthreads.
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#if defined(__AVX512F__)
#define VECTOR_BYTES 64
#elif defined(__AVX__)
#define VECTOR_BYTES 32
#else
#define VECTOR_BYTES 16
#endif

typedef float Vector __attribute__((vector_size(VECTOR_BYTES)));

// Enough independent sums to cover the latency of two FMA units, few enough to fit 16 registers with the two
// factors.
enum { kSums = 12, kLanes = VECTOR_BYTES / sizeof(float), kMaxThreads = 1024, kAttempts = 8 };
static const long kIterations = 40000000;

static void* multiply_add(void* result) {
  Vector sums[kSums], factor, addend;
  for (int lane = 0; lane < kLanes; ++lane) {
    factor[lane] = 0.5f;
    addend[lane] = 0.25f;
    for (int sum = 0; sum < kSums; ++sum) sums[sum][lane] = (float)sum;
  }
  // Hidden from the optimiser, which would otherwise work the loop out beforehand.
  __asm__ volatile("" : "+m"(factor), "+m"(addend));
  const Vector a = factor, b = addend;
  for (long iteration = 0; iteration < kIterations; ++iteration) {
    for (int sum = 0; sum < kSums; ++sum) sums[sum] = sums[sum] * a + b;
  }
  float total = 0.0f;
  for (int sum = 0; sum < kSums; ++sum) total += sums[sum][0];
  *(float*)result = total;
  return NULL;
}

int main(int argc, char** argv) {
  const int threads = argc == 2 ? atoi(argv[1]) : 0;
  if (threads < 1 || threads > kMaxThreads) {
    fprintf(stderr, "usage: fma_peak THREADS (1 to %d)\n", kMaxThreads);
    return 2;
  }
  static pthread_t handles[kMaxThreads];
  static float results[kMaxThreads];
  double best = 0.0;
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    struct timespec start, end;
    clock_gettime(CLOCK_MONOTONIC, &start);
    for (int thread = 0; thread < threads; ++thread) {
      if (pthread_create(&handles[thread], NULL, multiply_add, &results[thread]) != 0) return 1;
    }
    for (int thread = 0; thread < threads; ++thread) pthread_join(handles[thread], NULL);
    clock_gettime(CLOCK_MONOTONIC, &end);
    const double nanoseconds = 1e9 * (double)(end.tv_sec - start.tv_sec) + (double)(end.tv_nsec - start.tv_nsec);
    const double rate = 2.0 * kLanes * kSums * (double)kIterations * threads / nanoseconds;
    if (rate > best) best = rate;
  }
  printf("%.1f\n", best);
  return 0;
}
