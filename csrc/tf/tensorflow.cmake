# The TensorFlow ops: fused_rnn/_ops.so, built with the flags of the TensorFlow that is installed.
execute_process(
  COMMAND ${CMAKE_COMMAND} -E env TF_CPP_MIN_LOG_LEVEL=3 ${Python_EXECUTABLE} -c
    "import tensorflow as tf; print(';'.join(['VERSION=' + tf.__version__] + tf.sysconfig.get_compile_flags() + tf.sysconfig.get_link_flags()))"
  OUTPUT_VARIABLE tensorflow_flags OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_VARIABLE error RESULT_VARIABLE failed)
if(failed)
  message(FATAL_ERROR "TensorFlow is not installed in ${Python_EXECUTABLE}. Install it first, or build the core alone "
                      "with FUSED_RNN_TENSORFLOW=OFF.\n${error}")
endif()

add_library(fused_rnn_ops MODULE csrc/tf/kernels.cc csrc/tf/ops.cc)
set_target_properties(fused_rnn_ops PROPERTIES PREFIX "" OUTPUT_NAME "_ops" SUFFIX ".so")
target_link_libraries(fused_rnn_ops PRIVATE fused_rnn_kernels)
if(build_cuda)
  target_sources(fused_rnn_ops PRIVATE csrc/tf/blas.cc)
endif()
foreach(flag ${tensorflow_flags})
  if(flag MATCHES "^VERSION=(.*)")
    set(FUSED_RNN_TENSORFLOW_VERSION ${CMAKE_MATCH_1})
  elseif(flag MATCHES "^-I(.*)")
    target_include_directories(fused_rnn_ops SYSTEM PRIVATE ${CMAKE_MATCH_1})
  elseif(flag MATCHES "^-std=")
    # The project's own standard, C++17, is TensorFlow's too.
  elseif(flag MATCHES "^-[Ll]")
    target_link_options(fused_rnn_ops PRIVATE ${flag})
    target_link_libraries(fused_rnn_ops PRIVATE ${flag})
  else()
    target_compile_options(fused_rnn_ops PRIVATE ${flag})
  endif()
endforeach()
message(STATUS "Building for TensorFlow ${FUSED_RNN_TENSORFLOW_VERSION}")

# What the library was built for, known before it is loaded: under another TensorFlow loading might crash.
configure_file(csrc/tf/build_config.py.in ${CMAKE_CURRENT_BINARY_DIR}/_build_config.py @ONLY)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/_build_config.py DESTINATION fused_rnn)
install(TARGETS fused_rnn_ops DESTINATION fused_rnn)
