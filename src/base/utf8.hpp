// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace millrace {

/// One code point at the front of a text. `length` 0 = the text is empty or does not begin with valid UTF-8
/// (RFC 3629: no surrogates, no overlong forms, nothing beyond U+10FFFF).
struct CodePoint {
  char32_t value = 0;
  std::size_t length = 0;
};
CodePoint first_code_point(std::string_view text) noexcept;

bool is_utf8(std::string_view text) noexcept;

/// For messages and logs: one line of valid UTF-8, with control characters escaped and bad bytes as \xNN.
std::string printable(std::string_view text);

/// Appends the text as a quoted JSON string; bytes that are not UTF-8 become U+FFFD.
void append_json_string(std::string& out, std::string_view text);

}  // namespace millrace
