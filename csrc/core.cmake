# The kernels, without Python or TensorFlow: the library fused_rnn_kernels. Included by projects in any folder.

set(csrc ${CMAKE_CURRENT_LIST_DIR})
add_library(fused_rnn_kernels STATIC ${csrc}/check.cc ${csrc}/dispatch.cc ${csrc}/cpu/target_choice.cc
            ${csrc}/cpu/team.cc)
target_link_libraries(fused_rnn_kernels PUBLIC Threads::Threads)

# The CPU drivers, once for each instruction set. No errno and no floating-point traps, or loops with comparisons would
# not become vector code; nothing else of -ffast-math. And no calls of memcpy for rows of a few vectors.
function(fused_rnn_cpu_target name)
  add_library(fused_rnn_cpu_${name} OBJECT ${csrc}/cpu/target.cc)
  target_compile_definitions(fused_rnn_cpu_${name} PRIVATE FUSED_RNN_TARGET=${name})
  target_compile_options(fused_rnn_cpu_${name} PRIVATE -fno-math-errno -fno-trapping-math
                         -fno-tree-loop-distribute-patterns ${ARGN})
  target_sources(fused_rnn_kernels PRIVATE $<TARGET_OBJECTS:fused_rnn_cpu_${name}>)
endfunction()
fused_rnn_cpu_target(baseline)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  fused_rnn_cpu_target(avx2 -mavx2 -mfma)
  set(avx512 -mavx2 -mfma -mavx512f -mavx512vl -mavx512bw -mavx512dq -mprefer-vector-width=512)
  fused_rnn_cpu_target(avx512 ${avx512})
  fused_rnn_cpu_target(avx512bf16 ${avx512} -mavx512bf16 -DFUSED_RNN_BFLOAT16_PRODUCTS)
  target_compile_definitions(fused_rnn_kernels PRIVATE FUSED_RNN_X86_TARGETS)
endif()

if(FUSED_RNN_SANITIZE)
  foreach(target fused_rnn_kernels fused_rnn_cpu_baseline fused_rnn_cpu_avx2 fused_rnn_cpu_avx512
          fused_rnn_cpu_avx512bf16)
    if(TARGET ${target})
      target_compile_options(${target} PRIVATE -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=undefined)
    endif()
  endforeach()
  target_link_options(fused_rnn_kernels PUBLIC -fsanitize=address,undefined)
endif()

# CUDA. The device code is compiled for every generation from sm_80 on, and as PTX for what comes later.
set(FUSED_RNN_CUDA_TARGETS "80-real;86-real;89-real;90-real;100-real;120;80-virtual" CACHE STRING "CUDA architectures")
include(CheckLanguage)
if(FUSED_RNN_CUDA STREQUAL "AUTO")
  check_language(CUDA)
  if(CMAKE_CUDA_COMPILER)
    set(build_cuda ON)
  else()
    set(build_cuda OFF)
    message(WARNING "nvcc was not found: building fused_rnn for CPU only. Put nvcc on the PATH for GPU kernels.")
  endif()
else()
  set(build_cuda ${FUSED_RNN_CUDA})
endif()
if(build_cuda)
  set(CMAKE_CUDA_STANDARD 17)
  set(CMAKE_CUDA_STANDARD_REQUIRED ON)
  set(CMAKE_CUDA_RUNTIME_LIBRARY Static)
  enable_language(CUDA)
  find_package(CUDAToolkit REQUIRED)
  file(GLOB cuda_sources CONFIGURE_DEPENDS ${csrc}/cuda/*.cu ${csrc}/cuda/*.cc)
  target_sources(fused_rnn_kernels PRIVATE ${cuda_sources})
  set_target_properties(fused_rnn_kernels PROPERTIES CUDA_ARCHITECTURES "${FUSED_RNN_CUDA_TARGETS}")
  target_compile_options(fused_rnn_kernels PRIVATE
    "$<$<COMPILE_LANGUAGE:CUDA>:--expt-relaxed-constexpr;--threads=2>")
  string(REGEX REPLACE "([0-9]+)-real" "sm_\\1" target_names "${FUSED_RNN_CUDA_TARGETS}")
  string(REGEX REPLACE "([0-9]+)-virtual" "compute_\\1" target_names "${target_names}")
  string(REGEX REPLACE "(^|;)([0-9]+)(;|$)" "\\1sm_\\2;compute_\\2\\3" target_names "${target_names}")
  string(REPLACE ";" " " target_names "${target_names}")
  target_compile_definitions(fused_rnn_kernels PUBLIC FUSED_RNN_CUDA PRIVATE
    "FUSED_RNN_CUDA_TARGETS=\"${target_names}\"")
  target_link_libraries(fused_rnn_kernels PUBLIC CUDA::cudart_static ${CMAKE_DL_LIBS})
endif()
