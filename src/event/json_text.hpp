// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// JSON as text: is it valid, where do its parts stand. Nothing here builds values.

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace millrace::json_text {

/// RFC 8259, strictly: UTF-8, no byte order mark, nothing after the value, at most `max_depth` levels. An exponent
/// that does not fit 32 bits is refused too.
bool is_valid(std::string_view text, std::size_t max_depth);

// The rest expects valid JSON.

std::string_view trim(std::string_view text) noexcept;
/// The text of an array's elements, trimmed.
std::vector<std::string_view> elements(std::string_view array);
struct MemberText {
  std::string_view name;  ///< as it stands there, with its quotes
  std::string_view value;
};
/// An object's members, in order.
std::vector<MemberText> members(std::string_view object);
/// The text of the value of an object's n-th member, trimmed.
std::string_view member_value(std::string_view object, std::size_t index) noexcept;
/// Appends without any white space between tokens, which makes it one line.
void append_minified(std::string& out, std::string_view text);

}  // namespace millrace::json_text
