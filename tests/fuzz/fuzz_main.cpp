// SPDX-License-Identifier: Apache-2.0

// One program for all targets, so that everything is built and linked once: FUZZ_TARGET names the one to run.
// (Not MILLRACE_…: those variables are the configuration that one of the targets reads.)

#include <cstdlib>
#include <iostream>

#include "fuzz.hpp"
#include "http/server.hpp"

/// Stands in for that of the server, which would be the greater part of the build: the one target that reaches it
/// listens on 127.0.0.1 only.
bool millrace::http::is_loopback(const std::string& listen) {
  return listen.starts_with("127.0.0.1:");
}

namespace {

const millrace::fuzz::Target* chosen = nullptr;

}  // namespace

extern "C" int LLVMFuzzerInitialize(int* /*argc*/, char*** /*argv*/) {
  const char* name = std::getenv("FUZZ_TARGET");
  for (const auto& target : millrace::fuzz::targets()) {
    if (name != nullptr && target.name == name) chosen = &target;
  }
  if (chosen == nullptr) {
    std::cerr << "FUZZ_TARGET must be one of:";
    for (const auto& target : millrace::fuzz::targets()) std::cerr << ' ' << target.name;
    std::cerr << '\n';
    std::exit(2);
  }
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    chosen->run({reinterpret_cast<const char*>(data), size});
  } catch (const std::exception& error) {
    std::cerr << chosen->name << ": " << error.what() << '\n';
    std::abort();
  }
  return 0;
}
