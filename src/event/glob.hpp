// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// The general form of a pattern: a small automaton without backtracking. Matching costs at most (characters of the
/// text) × (states), whatever the pattern says.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace millrace::glob {

/// Longest pattern in bytes. Each byte makes at most two states.
inline constexpr std::size_t kMaxPatternBytes = 1024;
inline constexpr std::size_t kMaxStates = 2 * kMaxPatternBytes + 2;

struct Range {
  char32_t first;
  char32_t last;
};

struct State {
  enum class Kind : std::uint8_t {
    literal,  ///< one character, `character`
    any_one,  ///< one character, whichever
    any_run,  ///< any number of them
    one_of,   ///< one character within `ranges`
    none_of,  ///< one character outside them
    fork,     ///< goes on at `next` and at `other` without taking a character
    jump,     ///< goes on at `next` without taking a character
    match,
  };
  Kind kind = Kind::match;
  std::uint16_t next = 0;
  std::uint16_t other = 0;
  char32_t character = 0;
  std::vector<Range> ranges;
};

struct Program {
  std::vector<State> states;
  std::uint16_t start = 0;
};

/// \throws Error{invalid_argument}
Program compile(std::string_view pattern);
bool matches(const Program& program, std::string_view text) noexcept;

}  // namespace millrace::glob
