// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace millrace::cli {

/// Lines of a file descriptor, in bounded memory. Empty lines are counted and left out.
class LineReader {
 public:
  /// A line longer than `longest` bytes is refused.
  LineReader(int descriptor, std::size_t longest) : descriptor_(descriptor), longest_(longest) {}

  /// The next line without its end; nullopt at the end of the input. Blocks. \throws Error{too_large | unavailable}
  std::optional<std::string> next();
  /// True when `next` would answer at once; otherwise whoever collects lines should use what it has.
  [[nodiscard]] bool ready() const;

  [[nodiscard]] std::uint64_t line_number() const { return line_number_; }  ///< of the last one, from 1
  [[nodiscard]] std::uint64_t bytes_read() const { return bytes_read_; }

 private:
  bool fill();

  int descriptor_;
  std::size_t longest_;
  std::string buffer_;
  std::size_t from_ = 0;
  bool ended_ = false;
  std::uint64_t line_number_ = 0, bytes_read_ = 0;
};

}  // namespace millrace::cli
