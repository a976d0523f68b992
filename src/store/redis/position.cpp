// SPDX-License-Identifier: Apache-2.0
#include "store/redis/position.hpp"

#include <charconv>

#include "base/utf8.hpp"
#include "millrace/error.hpp"

namespace millrace::store::redis {
namespace {

std::optional<std::uint64_t> parse_part(std::string_view text) {
  if (text.empty() || (text.size() > 1 && text[0] == '0')) return std::nullopt;
  std::uint64_t value = 0;
  const char* end = text.data() + text.size();
  const auto [stop, failure] = std::from_chars(text.data(), end, value);
  if (failure != std::errc{} || stop != end) return std::nullopt;
  return value;
}

}  // namespace

Ordinal pack(Position position, std::string_view operation) {
  if (!fits(position)) {
    throw Error(Errc::invalid_argument, std::string(operation), id_of(position),
                "not a position of Millrace on Redis: milliseconds are below " + std::to_string(kMillisecondsEnd) +
                    " (2^41) and sequence numbers below " + std::to_string(kSequenceEnd) + " (2^22)");
  }
  return position.high << kSequenceBits | position.low;
}

std::string id_of(Position position) {
  return std::to_string(position.high) + "-" + std::to_string(position.low);
}

std::optional<Position> parse_id(std::string_view text) {
  const auto dash = text.find('-');
  if (dash == std::string_view::npos) return std::nullopt;
  const auto high = parse_part(text.substr(0, dash));
  const auto low = parse_part(text.substr(dash + 1));
  if (!high || !low) return std::nullopt;
  return Position{*high, *low};
}

Position position_of(std::string_view text, std::string_view what) {
  if (const auto position = parse_id(text)) return *position;
  throw Error(Errc::corrupt, "read store", std::string(what),
              "a position such as 1526919030474-55 was expected here; somebody else wrote this",
              printable(text.substr(0, 100)));
}

Position last_before(Timestamp time) {
  const auto milliseconds = std::chrono::ceil<std::chrono::milliseconds>(time.time_since_epoch()).count();
  if (milliseconds <= 0) return {};
  const auto first = static_cast<std::uint64_t>(milliseconds);
  if (first >= kMillisecondsEnd) return kLastPosition;
  return {first - 1, kSequenceEnd - 1};
}

}  // namespace millrace::store::redis
