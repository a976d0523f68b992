# SPDX-License-Identifier: Apache-2.0
# `cmake --install`: the program, one static library, the public headers, and find_package(millrace).
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

add_library(millrace STATIC $<TARGET_OBJECTS:millrace_base> $<TARGET_OBJECTS:millrace_event> $<TARGET_OBJECTS:millrace_io>
  $<TARGET_OBJECTS:millrace_store> $<TARGET_OBJECTS:millrace_replay> $<TARGET_OBJECTS:millrace_bus> $<TARGET_OBJECTS:millrace_delivery>)
add_library(millrace::millrace ALIAS millrace)
set_target_properties(millrace PROPERTIES LINKER_LANGUAGE CXX)
target_include_directories(millrace PUBLIC $<BUILD_INTERFACE:${CMAKE_SOURCE_DIR}/include>
  $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
target_compile_features(millrace PUBLIC cxx_std_20)
target_link_libraries(millrace PRIVATE Threads::Threads Boost::json Boost::url fmt::fmt
  spdlog::spdlog SQLite::SQLite3 OpenSSL::SSL OpenSSL::Crypto ${HIREDIS_LIBRARY})

install(TARGETS millrace_program RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
install(TARGETS millrace EXPORT millrace-targets ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(DIRECTORY include/millrace DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(EXPORT millrace-targets NAMESPACE millrace:: DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/millrace)
configure_package_config_file(cmake/millrace-config.cmake.in ${CMAKE_BINARY_DIR}/millrace-config.cmake
  INSTALL_DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/millrace)
write_basic_package_version_file(${CMAKE_BINARY_DIR}/millrace-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_BINARY_DIR}/millrace-config.cmake ${CMAKE_BINARY_DIR}/millrace-config-version.cmake
  DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/millrace)
