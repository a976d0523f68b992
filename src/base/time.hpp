// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "millrace/types.hpp"

namespace millrace {

/// The wall clock, UTC.
Timestamp wall_now();
/// RFC 3339 in UTC with microseconds: "2026-11-20T21:33:59.123456Z".
std::string format_rfc3339(Timestamp time);
/// Now with nanoseconds.
std::string rfc3339_now_nanoseconds();
/// Any RFC 3339 date-time (offsets, fractions beyond microseconds cut, leap second 60 = 59); nullopt otherwise.
std::optional<Timestamp> parse_rfc3339(std::string_view text);

/// The clock a store decides leases by: starts at max(wall clock, `not_before`) and runs with the steady clock, so that
/// a step of the wall clock moves no lease. Thread-safe.
class StoreClock {
 public:
  explicit StoreClock(Timestamp not_before = {});
  [[nodiscard]] Timestamp now() const;

 private:
  Timestamp base_;
  std::chrono::steady_clock::time_point start_;
};

}  // namespace millrace
