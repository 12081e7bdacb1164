# Writes version.h, which says what is built, at every build: rows and pixels kept in files are those of one build.
#   cmake -DSOURCE=DIR -DPROJECT_VERSION=X.Y.Z -DHEADER=FILE -P version.cmake
set(ENV{GIT_OPTIONAL_LOCKS} 0) # a build does not get in the way of a commit
execute_process(COMMAND git describe --always --dirty WORKING_DIRECTORY ${SOURCE}
  OUTPUT_VARIABLE DFT_GIT OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
if(NOT DFT_GIT)
  set(DFT_GIT "no revision") # built from a tree without git
elseif(DFT_GIT MATCHES "-dirty$")
  execute_process(COMMAND git diff HEAD COMMAND git hash-object --stdin WORKING_DIRECTORY ${SOURCE} OUTPUT_VARIABLE changes)
  string(SUBSTRING "${changes}" 0 7 changes)
  string(APPEND DFT_GIT "-${changes}")
endif()
configure_file(${SOURCE}/cmake/version.h.in ${HEADER}) # touches it only when it is another one
