// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// The small value types every interface shares. All are plain values: copyable, comparable, thread-compatible.

#include <chrono>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

namespace millrace {

/// A point on the store's clock (UTC, microseconds). Printed as RFC 3339.
using Timestamp = std::chrono::sys_time<std::chrono::microseconds>;
using Milliseconds = std::chrono::milliseconds;

/// Where an event stands in its stream. Strictly increasing along a stream and never reused. Opaque outside:
/// compare it, keep it, hand it back. The embedded stores count 1, 2, 3 …; Redis has two parts.
/// The default-constructed position stands before every event.
struct Position {
  std::uint64_t high = 0;
  std::uint64_t low = 0;

  constexpr Position() = default;
  constexpr explicit Position(std::uint64_t ordinal) : low(ordinal) {}
  constexpr Position(std::uint64_t high_part, std::uint64_t low_part) : high(high_part), low(low_part) {}

  auto operator<=>(const Position&) const = default;

  /// "42", or "1526919030474-55" when there is a high part.
  [[nodiscard]] std::string to_string() const;
  /// The inverse of to_string. \throws Error{invalid_argument}
  static Position parse(std::string_view text);
};

/// A validated name: `[a-z0-9][a-z0-9._-]{0,127}`. Constructing one from anything else throws
/// Error{invalid_argument} that says which character is wrong, so a bad name cannot get past a signature.
template <class Tag>
class Name {
 public:
  Name(std::string_view text) : text_(checked(text)) {}            // NOLINT(google-explicit-constructor)
  Name(const std::string& text) : Name(std::string_view(text)) {}  // NOLINT(google-explicit-constructor)
  Name(const char* text) : Name(std::string_view(text)) {}         // NOLINT(google-explicit-constructor)

  [[nodiscard]] const std::string& str() const noexcept { return text_; }
  auto operator<=>(const Name&) const = default;

 private:
  static std::string checked(std::string_view text);
  std::string text_;
};

using StreamName = Name<struct StreamTag>;
using GroupName = Name<struct GroupTag>;
template <>
std::string StreamName::checked(std::string_view text);
template <>
std::string GroupName::checked(std::string_view text);

/// The stream that exists in every store and is meant when none is named.
inline const char* const kDefaultStream = "events";

/// How safe a write is when the call returns. Asked for by the caller; every answer states what was reached,
/// which may be more than was asked.
enum class Durability {
  relaxed,  ///< handed to the operating system: survives a crash of the process, not of the machine
  durable,  ///< on disk: survives a crash of the machine
  memory,   ///< the store keeps nothing beyond the process (only ever an answer, from `memory:`)
};
std::string_view to_string(Durability durability) noexcept;

}  // namespace millrace

template <>
struct std::hash<millrace::Position> {
  std::size_t operator()(const millrace::Position& p) const noexcept {
    return std::hash<std::uint64_t>{}(p.high * 0x9E3779B97F4A7C15ULL ^ p.low);
  }
};
template <class Tag>
struct std::hash<millrace::Name<Tag>> {
  std::size_t operator()(const millrace::Name<Tag>& name) const noexcept {
    return std::hash<std::string>{}(name.str());
  }
};
