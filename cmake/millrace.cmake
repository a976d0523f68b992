# SPDX-License-Identifier: Apache-2.0
# One function makes a module: its library, its place in the house, its unit tests.

add_library(millrace_options INTERFACE)
target_compile_options(millrace_options INTERFACE -Wall -Wextra -Wpedantic -Wshadow -Wconversion
  $<$<BOOL:${MILLRACE_WERROR}>:-Werror>)
if(MILLRACE_SANITIZE)
  # g++ cannot follow an std::optional through the instrumented code and calls its value uninitialised.
  add_compile_options(-fsanitize=${MILLRACE_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all
    $<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized>)
  add_link_options(-fsanitize=${MILLRACE_SANITIZE})
endif()

# A module's headers are reached through a root that holds that module alone, so an include of a module that was not
# named as a dependency does not compile.
set(MILLRACE_ROOTS ${CMAKE_SOURCE_DIR}/build/roots CACHE INTERNAL "")
function(millrace_include_root target name folder)
  file(MAKE_DIRECTORY ${MILLRACE_ROOTS}/${name})
  if(NOT EXISTS ${MILLRACE_ROOTS}/${name}/${name})
    file(CREATE_LINK ${folder} ${MILLRACE_ROOTS}/${name}/${name} SYMBOLIC)
  endif()
  target_include_directories(${target} PUBLIC ${MILLRACE_ROOTS}/${name})
endfunction()

# millrace_module(name [DEPS module…] [LINK library…])
# Sources: src/<name>/**.cpp except main/. A folder src/<name>/<x>/CMakeLists.txt may add to target millrace_<name>
# what only that folder needs (a backend's client library).
function(millrace_module name)
  cmake_parse_arguments(arg "" "" "DEPS;LINK" ${ARGN})
  set(folder ${CMAKE_SOURCE_DIR}/src/${name})
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${folder}/*.cpp)
  list(FILTER sources EXCLUDE REGEX "/src/${name}/main/")
  add_library(millrace_${name} STATIC ${sources})
  target_include_directories(millrace_${name} PUBLIC ${CMAKE_SOURCE_DIR}/include)
  millrace_include_root(millrace_${name} ${name} ${folder})
  target_link_libraries(millrace_${name} PRIVATE millrace_options)
  target_link_libraries(millrace_${name} PUBLIC Threads::Threads ${arg_LINK})
  foreach(dep ${arg_DEPS})
    target_link_libraries(millrace_${name} PUBLIC millrace_${dep})
  endforeach()
  if(EXISTS ${folder}/pch.hpp)
    target_precompile_headers(millrace_${name} PRIVATE ${folder}/pch.hpp)
  endif()
  file(GLOB extras CONFIGURE_DEPENDS ${folder}/*/CMakeLists.txt)
  foreach(extra ${extras})
    include(${extra})
  endforeach()
endfunction()

# Unit tests of a module: tests/unit/<name>/*_test.cpp, one program.
function(millrace_unit_tests name)
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/tests/unit/${name}/*.cpp)
  if(sources)
    add_executable(${name}_test ${sources})
    target_link_libraries(${name}_test PRIVATE millrace_options millrace_${name} GTest::gmock GTest::gtest_main)
    gtest_discover_tests(${name}_test TEST_PREFIX unit.${name}. DISCOVERY_MODE PRE_TEST DISCOVERY_TIMEOUT 60
      PROPERTIES TIMEOUT 120 LABELS unit)
  endif()
endfunction()
