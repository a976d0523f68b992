// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// Printing for people: tables, colour, a progress line. Colour and progress appear only on a terminal.

#include <boost/json.hpp>
#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace millrace::cli {

/// How many columns `text` (UTF-8) takes, one per code point.
std::size_t width(std::string_view text);

/// The first `columns` code points, with "…" for what was cut.
std::string shortened(std::string_view text, std::size_t columns);

/// A JSON value as a cell: text without quotes, "-" for null and empty.
std::string cell(const boost::json::value& value);

/// `{"lag": {"ahead": 1}}` and "lag.ahead" → "1"; "-" when it is not there.
std::string cell_at(const boost::json::value& value, std::string_view path);

/// 90061 s → "1d 1h"; for ages. Below a minute with one decimal.
std::string human_seconds(double seconds);

class Table {
 public:
  /// A column whose name begins with `#` is aligned right; the mark is not printed.
  explicit Table(std::vector<std::string> columns) : columns_(std::move(columns)) {}
  void row(std::vector<std::string> cells) { rows_.push_back(std::move(cells)); }
  [[nodiscard]] bool empty() const { return rows_.empty(); }
  /// Each line ends with a line break. Nothing but the heading when empty. With `columns`, no line is longer: the
  /// widest texts are shortened first, numbers never.
  [[nodiscard]] std::string text(bool colour, std::size_t columns = 0) const;
  /// To stdout, on a terminal as wide as that; `when_empty` instead of a heading without rows.
  void print(const std::string& when_empty) const;

 private:
  std::vector<std::string> columns_;
  std::vector<std::vector<std::string>> rows_;
};

enum class Colour { green, red };
/// `text` in colour, when stdout is a terminal and NO_COLOR is not set (https://no-color.org).
std::string coloured(std::string_view text, Colour colour);

/// A line to stdout, or the whole command fails: what cannot be written was not reported.
void print(std::string_view text);
void print_json(const boost::json::value& value);

/// A line on stderr that is rewritten at most ten times a second; silent when stderr is not a terminal.
class Progress {
 public:
  explicit Progress(std::uint64_t total_bytes);  ///< 0 = unknown
  ~Progress();                                   ///< erases the line
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  void update(std::uint64_t events, std::uint64_t bytes);
  [[nodiscard]] bool due();  ///< true at most ten times a second: worth making a line for `draw`
  void draw(const std::string& line);

 private:
  bool shown_;
  bool drawn_ = false;
  std::uint64_t total_;
  std::chrono::steady_clock::time_point start_, last_;
};

}  // namespace millrace::cli
