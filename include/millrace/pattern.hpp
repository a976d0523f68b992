// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// Glob patterns over `type`, `source` and `subject`.
///
/// `*` any run of characters, dots included · `?` one character (a UTF-8 code point) · `[abc]` `[a-z]` `[!a]` one of ·
/// `{a,b}` either · `\` takes the next character literally. The whole text must match; case matters.

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace millrace {

/// One compiled pattern. Immutable, cheap to copy, thread-safe. Exact ("order.placed") and prefix ("order.*")
/// patterns cost one comparison; nothing a pattern says can make matching exponential.
class Pattern {
 public:
  /// \throws Error{invalid_argument}: empty or malformed; the message shows the pattern and points at the byte.
  explicit Pattern(std::string_view text);
  [[nodiscard]] bool matches(std::string_view text) const noexcept;
  [[nodiscard]] const std::string& text() const noexcept;

 private:
  struct Compiled;
  std::shared_ptr<const Compiled> compiled_;
};

/// Any of several patterns; an empty list matches everything.
class PatternList {
 public:
  PatternList() = default;
  explicit PatternList(std::span<const std::string> patterns);
  [[nodiscard]] bool matches(std::string_view text) const noexcept;
  [[nodiscard]] bool matches_all() const noexcept { return patterns_.empty(); }
  [[nodiscard]] std::vector<std::string> texts() const;

 private:
  std::vector<Pattern> patterns_;
};

}  // namespace millrace
