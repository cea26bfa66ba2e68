# The target cuda_resources: registers, memory and spills of every kernel on every GPU, as the assembler tells them.
# Each source is compiled once more for that, since an ordinary build keeps none of it. core.cmake includes this.

set(report_files)
foreach(source ${cuda_sources})
  if(NOT source MATCHES "\\.cu$")
    continue()
  endif()
  get_filename_component(name ${source} NAME_WE)
  set(to ${CMAKE_CURRENT_BINARY_DIR}/cuda_resources/${name})
  # Where nvcc fails, the report holds what it said.
  add_custom_command(
    OUTPUT ${to}.txt
    COMMAND ${CMAKE_CUDA_COMPILER} -O3 -std=c++17 ${cuda_options} --resource-usage -I${csrc}/.. -DFUSED_RNN_CUDA
            -fatbin ${source} -o ${to}.fatbin -MD -MF ${to}.d -MT ${to}.txt > ${to}.txt 2>&1 || ! cat ${to}.txt
    DEPFILE ${to}.d
    DEPENDS ${source}
    COMMENT "Asking for the resources of ${name}"
    VERBATIM)
  list(APPEND report_files ${to}.txt)
endforeach()
file(MAKE_DIRECTORY ${CMAKE_CURRENT_BINARY_DIR}/cuda_resources)
add_custom_target(cuda_resources
  COMMAND ${Python_EXECUTABLE} ${csrc}/../benchmarks/cuda_resources.py ${report_files}
          --compiler ${CMAKE_CUDA_COMPILER_VERSION} --docs check
  DEPENDS ${report_files} ${csrc}/../benchmarks/cuda_resources.py
  COMMENT "Kernels, each with the most it takes on any GPU"
  VERBATIM)
