// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// The daemon's own log: one line each to stderr, text or JSON, by spdlog. The library writes here too; until
/// `configure_log` is called only warnings and errors appear, as text.

#include <fmt/format.h>

#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>

#include "millrace/error.hpp"

namespace millrace::log {

enum class Level { debug, info, warn, error, off };
enum class Format { automatic, text, json };  ///< automatic: text on a terminal, JSON otherwise

/// \throws Error{invalid_argument}
Level parse_level(std::string_view text);
Format parse_format(std::string_view text);
void configure(Level level, Format format);

/// `code` is a stable snake_case word ("listener_failed"), `object` what it is about (a group, a path, an address),
/// `message` what happened and what to do.
void write(Level level, std::string_view code, std::string_view object, std::string_view message);
inline void debug(std::string_view code, std::string_view object, std::string_view message) {
  write(Level::debug, code, object, message);
}
inline void info(std::string_view code, std::string_view object, std::string_view message) {
  write(Level::info, code, object, message);
}
inline void warn(std::string_view code, std::string_view object, std::string_view message) {
  write(Level::warn, code, object, message);
}
inline void error(std::string_view code, std::string_view object, std::string_view message) {
  write(Level::error, code, object, message);
}
/// An Error with its own code, object and native words.
void write(Level level, const Error& error);

}  // namespace millrace::log
