// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// Errors as RFC 9457 problem documents. Pure, thread-safe.

#include <string>
#include <string_view>

#include "http/message.hpp"
#include "millrace/error.hpp"

namespace millrace::http {

/// The one mapping from what went wrong to an HTTP status.
unsigned status_of(Errc code) noexcept;

/// `text` as a JSON string with its quotes. Bytes that are not UTF-8 become U+FFFD, so the answer is always valid JSON.
std::string json_quote(std::string_view text);

/// A problem document. `extra` is more members, each `,"name":value` in JSON, appended as they are.
struct Problem {
  unsigned status = 500;
  std::string code;    ///< an Errc by name, or an HTTP condition ("not_found", "method_not_allowed")
  std::string detail;  ///< what was wrong and what to do, for a person
  bool retryable = false;
  std::string object = {};
  std::string native = {};
  std::string extra = {};
};

/// With `Retry-After` on 429 and 503.
Response to_response(const Problem& problem);

Problem problem_of(const Error& error);

}  // namespace millrace::http
