// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// Boost.JSON's incremental parser, used once over a whole text with a handler of ours.

#include <boost/json/basic_parser_impl.hpp>
#include <string_view>

namespace millrace::json_text {

/// Takes everything and keeps nothing; a handler derives from it and replaces what it wants to see.
struct NullHandler {
  using Code = boost::system::error_code;
  using Text = boost::json::string_view;

  static constexpr std::size_t max_object_size = static_cast<std::size_t>(-1);
  static constexpr std::size_t max_array_size = static_cast<std::size_t>(-1);
  static constexpr std::size_t max_key_size = static_cast<std::size_t>(-1);
  static constexpr std::size_t max_string_size = static_cast<std::size_t>(-1);

  bool on_document_begin(Code&) { return true; }
  bool on_document_end(Code&) { return true; }
  bool on_object_begin(Code&) { return true; }
  bool on_object_end(std::size_t, Code&) { return true; }
  bool on_array_begin(Code&) { return true; }
  bool on_array_end(std::size_t, Code&) { return true; }
  bool on_key_part(Text, std::size_t, Code&) { return true; }
  bool on_key(Text, std::size_t, Code&) { return true; }
  bool on_string_part(Text, std::size_t, Code&) { return true; }
  bool on_string(Text, std::size_t, Code&) { return true; }
  bool on_number_part(Text, Code&) { return true; }
  bool on_int64(std::int64_t, Text, Code&) { return true; }
  bool on_uint64(std::uint64_t, Text, Code&) { return true; }
  bool on_double(double, Text, Code&) { return true; }
  bool on_bool(bool, Code&) { return true; }
  bool on_null(Code&) { return true; }
  bool on_comment_part(Text, Code&) { return true; }
  bool on_comment(Text, Code&) { return true; }
};

struct ParseResult {
  boost::system::error_code error;
  std::size_t byte = 0;  ///< where it stopped
};

template <class Parser>
ParseResult parse_whole(Parser& parser, std::string_view text) {
  ParseResult result;
  result.byte = parser.write_some(false, text.data(), text.size(), result.error);
  if (!result.error && result.byte < text.size()) result.error = boost::json::error::extra_data;
  return result;
}

inline boost::json::parse_options strict(std::size_t max_depth) {
  boost::json::parse_options options;
  options.max_depth = max_depth;
  return options;
}

}  // namespace millrace::json_text
