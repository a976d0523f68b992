// SPDX-License-Identifier: Apache-2.0
#include "io/endpoint.hpp"

namespace millrace::io {

std::string Endpoint::describe() const {
  if (!path.empty()) return path;
  const bool v6 = host.find(':') != std::string::npos;
  return (v6 ? "[" + host + "]" : host) + ":" + std::to_string(port);
}

}  // namespace millrace::io
