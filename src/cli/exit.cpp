// SPDX-License-Identifier: Apache-2.0
#include "cli/exit.hpp"
#include "base/utf8.hpp"

#include <boost/json.hpp>
#include <cstdio>

#include "cli/table.hpp"

namespace millrace::cli {

Exit exit_code_of(const Error& error) noexcept {
  if (dynamic_cast<const CannotConnect*>(&error) != nullptr) return kCannotConnect;
  if (dynamic_cast<const InvalidInput*>(&error) != nullptr) return kInvalidInput;
  switch (error.code()) {
    case Errc::invalid_argument:
      return kUsage;
    case Errc::invalid_event:
    case Errc::too_large:
      return kInvalidInput;
    case Errc::unknown_stream:
    case Errc::unknown_group:
    case Errc::not_found:
      return kNotFound;
    default:
      return kFailed;
  }
}

void print_error(const std::string& command, const Error& error, bool json) {
  std::string line;
  if (json) {
    line = boost::json::serialize(boost::json::object{{"command", command},
                                                      {"code", std::string(to_string(error.code()))},
                                                      {"operation", error.operation()},
                                                      {"object", error.object()},
                                                      {"message", error.message()},
                                                      {"native", error.native()},
                                                      {"retryable", is_transient(error.code())},
                                                      {"exit", static_cast<int>(exit_code_of(error))}});
  } else {
    line = "millrace" + (command.empty() ? "" : ' ' + command) + ": ";
    // What a daemon says names its object already.
    const std::string prefix = error.object().empty() ? "" : error.object() + ": ";
    if (error.message().find(prefix) == std::string::npos) line += printable(prefix);
    line += printable(error.message()) + " [" + std::string(to_string(error.code()));
    if (!error.native().empty()) line += "; " + printable(error.native());
    line += ']';
  }
  std::fprintf(stderr, "%s\n", line.c_str());
}

}  // namespace millrace::cli
