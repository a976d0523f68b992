// SPDX-License-Identifier: Apache-2.0
#include "base/units.hpp"

#include <fmt/format.h>

#include <charconv>
#include <limits>
#include <span>

#include "base/utf8.hpp"
#include "millrace/error.hpp"

namespace millrace {
namespace {

struct Unit {
  std::string_view name;
  std::uint64_t factor;
};

constexpr Unit kDurationUnits[] = {{"d", 86'400'000}, {"h", 3'600'000}, {"m", 60'000}, {"s", 1000}, {"ms", 1}};
constexpr Unit kSizeUnits[] = {
    {"TiB", 1ULL << 40}, {"GiB", 1ULL << 30}, {"MiB", 1ULL << 20}, {"KiB", 1ULL << 10}, {"B", 1}};

struct Kind {
  const char* operation;
  const char* rule;
  std::span<const Unit> units;
  bool unit_required;
  std::uint64_t limit;
};

constexpr Kind kDuration{"parse duration",
                         "a duration is a whole number and one of ms, s, m, h, d, like \"500ms\" or \"7d\"",
                         kDurationUnits, true, static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())};
constexpr Kind kSize{"parse size",
                     "a size is a whole number of bytes, or with one of B, KiB, MiB, GiB, TiB, like \"8 MiB\"",
                     kSizeUnits, false, std::numeric_limits<std::uint64_t>::max()};

std::uint64_t parse(std::string_view text, const Kind& kind) {
  const auto refuse = [&](std::string message) {
    return Error(Errc::invalid_argument, kind.operation, fmt::format("\"{}\"", printable(text.substr(0, 64))),
                 std::move(message));
  };
  std::uint64_t value = 0;
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  if (error == std::errc::result_out_of_range) throw refuse("the number is too large");
  if (error != std::errc{}) throw refuse(kind.rule);
  std::string_view name(stop, static_cast<std::size_t>(end - stop));
  if (name.empty() && !kind.unit_required) return value;
  while (name.size() > 1 && name.front() == ' ') name.remove_prefix(1);
  for (const Unit& unit : kind.units) {
    if (unit.name != name) continue;
    if (value > kind.limit / unit.factor) throw refuse("the number is too large");
    return value * unit.factor;
  }
  throw refuse(kind.rule);
}

const Unit& largest_divisor(std::uint64_t value, std::span<const Unit> units) {
  for (const Unit& unit : units) {
    if (value % unit.factor == 0) return unit;
  }
  return units.back();
}

}  // namespace

Milliseconds parse_duration(std::string_view text) {
  return Milliseconds(static_cast<std::int64_t>(parse(text, kDuration)));
}

std::string format_duration(Milliseconds duration) {
  if (duration.count() == 0) return "0s";
  const bool negative = duration.count() < 0;
  const auto magnitude =
      negative ? 0 - static_cast<std::uint64_t>(duration.count()) : static_cast<std::uint64_t>(duration.count());
  const Unit& unit = largest_divisor(magnitude, kDurationUnits);
  return fmt::format("{}{}{}", negative ? "-" : "", magnitude / unit.factor, unit.name);
}

std::uint64_t parse_size(std::string_view text) {
  return parse(text, kSize);
}

std::string format_size(std::uint64_t bytes) {
  if (bytes == 0) return "0 B";
  const Unit& unit = largest_divisor(bytes, kSizeUnits);
  return fmt::format("{} {}", bytes / unit.factor, unit.name);
}

}  // namespace millrace
