// SPDX-License-Identifier: Apache-2.0
#include "millrace/types.hpp"

#include <fmt/format.h>

#include <charconv>

#include "base/utf8.hpp"
#include "millrace/error.hpp"

namespace millrace {
namespace {

constexpr std::size_t kMaxNameLength = 128;

/// A decimal number without sign, spaces or leading zeros: the one way to write it.
std::optional<std::uint64_t> parse_ordinal(std::string_view text) {
  if (text.empty() || (text.size() > 1 && text[0] == '0')) return std::nullopt;
  std::uint64_t value = 0;
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc{} || stop != end) return std::nullopt;
  return value;
}

bool is_lower_or_digit(char c) {
  return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

std::string checked_name(std::string_view text, const char* kind) {
  const auto refuse = [&](std::string message) {
    throw Error(Errc::invalid_argument, fmt::format("check {} name", kind), printable(text.substr(0, kMaxNameLength)),
                std::move(message));
  };
  if (text.empty()) refuse("a name is not empty");
  if (text.size() > kMaxNameLength) {
    refuse(fmt::format("a name has at most {} characters, this has {}", kMaxNameLength, text.size()));
  }
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (is_lower_or_digit(c)) continue;
    const bool punctuation = c == '.' || c == '_' || c == '-';
    if (punctuation && i > 0) continue;
    refuse(fmt::format(
        "{} at byte {} is not allowed{}: a name is [a-z0-9][a-z0-9._-]*",
        c > 0x20 && c < 0x7F ? fmt::format("'{}'", c) : fmt::format("0x{:02X}", static_cast<unsigned char>(c)), i,
        punctuation ? " first" : ""));
  }
  return std::string(text);
}

}  // namespace

std::string Position::to_string() const {
  return high == 0 ? std::to_string(low) : fmt::format("{}-{}", high, low);
}

Position Position::parse(std::string_view text) {
  const auto dash = text.find('-');
  if (dash == std::string_view::npos) {
    if (const auto ordinal = parse_ordinal(text)) return Position(*ordinal);
  } else {
    const auto high_part = parse_ordinal(text.substr(0, dash));
    const auto low_part = parse_ordinal(text.substr(dash + 1));
    if (high_part && low_part && *high_part != 0) return {*high_part, *low_part};
  }
  throw Error(Errc::invalid_argument, "parse position", printable(text.substr(0, 64)),
              "a position is a number like \"42\", or two like \"1526919030474-55\"");
}

template <>
std::string StreamName::checked(std::string_view text) {
  return checked_name(text, "stream");
}

template <>
std::string GroupName::checked(std::string_view text) {
  return checked_name(text, "group");
}

std::string_view to_string(Durability durability) noexcept {
  switch (durability) {
    case Durability::relaxed:
      return "relaxed";
    case Durability::durable:
      return "durable";
    case Durability::memory:
      return "memory";
  }
  return "memory";
}

}  // namespace millrace
