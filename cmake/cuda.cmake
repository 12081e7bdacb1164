# The GPU kernels, a module that is loaded where a device is to be seen (src/ops/device.c). DFT_CUDA=AUTO builds it
# where nvcc 12 or later, cuBLASLt and NCCL are found; ON insists; OFF does not look. The same sources are also
# built for the host (tests/CMakeLists.txt).
set(DFT_CUDA AUTO CACHE STRING "build the GPU kernels: AUTO, ON or OFF")
set_property(CACHE DFT_CUDA PROPERTY STRINGS AUTO ON OFF)
if(NOT DFT_CUDA MATCHES "^(AUTO|ON|OFF)$")
  message(FATAL_ERROR "DFT_CUDA=${DFT_CUDA}: use AUTO, ON or OFF")
endif()

# Sources of the module; folded.c is also the library's.
file(GLOB DFT_CUDA_SOURCES CONFIGURE_DEPENDS src/ops/cuda/*.cu)
set(DFT_CUDA_C_SOURCES ${PROJECT_SOURCE_DIR}/src/ops/folded.c ${PROJECT_SOURCE_DIR}/src/comm/nccl/nccl.c)

# A macro: what find_package finds is wanted outside.
macro(dft_find_cuda missing)
  set(${missing})
  find_program(DFT_NVCC nvcc HINTS ENV CUDACXX ENV CUDA_PATH ENV CUDA_HOME PATHS /usr/local/cuda PATH_SUFFIXES bin)
  if(DFT_NVCC)
    set(CMAKE_CUDA_COMPILER ${DFT_NVCC})
    find_package(CUDAToolkit QUIET)
  endif()
  if(NOT DFT_NVCC)
    set(${missing} "there is no nvcc (CUDA toolkit 12 or 13) on PATH or in /usr/local/cuda")
  elseif(NOT CUDAToolkit_FOUND OR CUDAToolkit_VERSION VERSION_LESS 12)
    set(${missing} "the CUDA toolkit is older than 12")
  elseif(NOT TARGET CUDA::cublasLt OR NOT TARGET CUDA::cudart_static)
    set(${missing} "the CUDA toolkit is without cuBLASLt or libcudart_static")
  endif()
  if(NOT ${missing})
    find_path(DFT_NCCL_INCLUDE nccl.h HINTS ${CUDAToolkit_INCLUDE_DIRS} ENV NCCL_HOME PATH_SUFFIXES include)
    find_library(DFT_NCCL_LIBRARY nccl HINTS ${CUDAToolkit_LIBRARY_DIR} ENV NCCL_HOME PATH_SUFFIXES lib lib64)
    if(NOT DFT_NCCL_INCLUDE OR NOT DFT_NCCL_LIBRARY)
      set(${missing} "NCCL (nccl.h, libnccl) is missing; set NCCL_HOME")
    endif()
  endif()
endmacro()

if(DFT_CUDA STREQUAL OFF)
  return()
endif()
dft_find_cuda(DFT_CUDA_MISSING)
if(DFT_CUDA_MISSING AND DFT_CUDA STREQUAL ON)
  message(FATAL_ERROR "DFT_CUDA=ON: ${DFT_CUDA_MISSING}")
elseif(DFT_CUDA_MISSING)
  message(STATUS "GPU kernels: not built, ${DFT_CUDA_MISSING}")
  return()
endif()

# Ampere, Ada, Hopper, Blackwell; what lies between or comes later compiles Hopper's PTX when it starts.
set(CMAKE_CUDA_ARCHITECTURES 80-real 86-real 89-real 90)
if(CUDAToolkit_VERSION VERSION_GREATER_EQUAL 12.8)
  list(APPEND CMAKE_CUDA_ARCHITECTURES 100-real 120-real)
endif()
set(CMAKE_CUDA_STANDARD 17)
set(CMAKE_CUDA_FLAGS_RELEASE "-O2")
enable_language(CUDA)
message(STATUS "GPU kernels: CUDA ${CUDAToolkit_VERSION} for ${CMAKE_CUDA_ARCHITECTURES}")

add_library(dft_cuda MODULE ${DFT_CUDA_SOURCES} ${DFT_CUDA_C_SOURCES})
# Where cuBLASLt and NCCL were found is where the module looks for them too, built or installed. (CMake leaves out
# directories that nvcc searches by itself; the loader does not search them.)
get_target_property(DFT_CUBLASLT CUDA::cublasLt IMPORTED_LOCATION)
get_filename_component(DFT_CUBLASLT_DIRECTORY ${DFT_CUBLASLT} DIRECTORY)
get_filename_component(DFT_NCCL_DIRECTORY ${DFT_NCCL_LIBRARY} DIRECTORY)
set(DFT_CUDA_RPATH ${DFT_CUBLASLT_DIRECTORY} ${DFT_NCCL_DIRECTORY})
list(REMOVE_DUPLICATES DFT_CUDA_RPATH)
set_target_properties(dft_cuda PROPERTIES PREFIX "" CUDA_RUNTIME_LIBRARY Static BUILD_WITH_INSTALL_RPATH ON
  INSTALL_RPATH "${DFT_CUDA_RPATH}")
target_compile_definitions(dft_cuda PRIVATE DFT_HAVE_NCCL _GNU_SOURCE)
target_include_directories(dft_cuda PRIVATE ${PROJECT_SOURCE_DIR}/include)
target_include_directories(dft_cuda SYSTEM PRIVATE ${CUDAToolkit_INCLUDE_DIRS} ${DFT_NCCL_INCLUDE})
target_compile_options(dft_cuda PRIVATE
  $<$<COMPILE_LANGUAGE:CUDA>:--fmad=false --threads=2 -Xcompiler=-Wall,-Wextra,-ffp-contract=off>
  $<$<COMPILE_LANGUAGE:C>:-Wall -Wextra -Wshadow>)
target_link_libraries(dft_cuda PRIVATE CUDA::cublasLt ${DFT_NCCL_LIBRARY})
target_link_options(dft_cuda PRIVATE -Wl,--no-undefined)
install(TARGETS dft_cuda LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}/dft OPTIONAL) # quickstart builds it where there is a GPU
