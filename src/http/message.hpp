// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// HTTP requests and responses as plain values.

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace millrace::http {

using Header = std::pair<std::string, std::string>;

/// The value of the first header of that name (compared without case), or nullptr.
const std::string* find_header(const std::vector<Header>& headers, std::string_view name) noexcept;

/// Equal without regard to ASCII case.
bool iequals(std::string_view a, std::string_view b) noexcept;

struct Request {
  std::string method;
  std::string path;                                        ///< as it came, still percent-encoded, without the query
  std::vector<std::pair<std::string, std::string>> query;  ///< percent-decoded, in order
  std::vector<Header> headers;
  std::string body;
  std::string remote;  ///< "127.0.0.1:51234"

  [[nodiscard]] const std::string* header(std::string_view name) const noexcept { return find_header(headers, name); }
};

struct Response {
  unsigned status = 200;
  std::vector<Header> headers;  ///< without Content-Length, Connection and Date: the server's business
  std::string body;
};

/// Undoes percent-encoding. \throws Error{invalid_argument} for a `%` without two hex digits.
std::string percent_decode(std::string_view text);
std::string percent_encode(std::string_view text);

/// "a=1&b=%20" → pairs, `+` is a space. \throws Error{invalid_argument}
std::vector<std::pair<std::string, std::string>> parse_query(std::string_view text);

/// The words of a status code, "Not Found".
std::string_view reason_phrase(unsigned status) noexcept;

}  // namespace millrace::http
