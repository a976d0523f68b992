// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "millrace/error.hpp"

namespace millrace::cli {

/// What a command ends with.
enum Exit : int {
  kOk = 0,
  kFailed = 1,
  kUsage = 2,  ///< usage or configuration
  kCannotConnect = 3,
  kInvalidInput = 4,
  kNotFound = 5,
};

/// Nobody answers at the address: exit code 3.
class CannotConnect : public Error {
 public:
  using Error::Error;
};

/// What was given to the command (an event on stdin, not a flag) is refused: exit code 4.
class InvalidInput : public Error {
 public:
  using Error::Error;
};

Exit exit_code_of(const Error& error) noexcept;

/// Prints why `command` failed to stderr: one line for people, or one JSON object.
void print_error(const std::string& command, const Error& error, bool json);

}  // namespace millrace::cli
