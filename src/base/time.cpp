// SPDX-License-Identifier: Apache-2.0
#include "base/time.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace millrace {
namespace {

using std::chrono::days;
using std::chrono::floor;
using std::chrono::hours;
using std::chrono::microseconds;
using std::chrono::minutes;
using std::chrono::nanoseconds;
using std::chrono::seconds;

/// Reads the text of a date-time from left to right.
class Reader {
 public:
  explicit Reader(std::string_view text) : rest_(text) {}

  [[nodiscard]] bool done() const { return rest_.empty(); }
  [[nodiscard]] bool at_digit() const { return !rest_.empty() && rest_[0] >= '0' && rest_[0] <= '9'; }
  bool take(char c) {
    if (rest_.empty() || rest_[0] != c) return false;
    rest_.remove_prefix(1);
    return true;
  }
  bool take_either(char a, char b) { return take(a) || take(b); }
  int digit() {
    const int value = rest_[0] - '0';
    rest_.remove_prefix(1);
    return value;
  }
  /// Exactly `count` digits within [low, high].
  std::optional<int> number(int count, int low, int high) {
    int value = 0;
    for (int i = 0; i < count; ++i) {
      if (!at_digit()) return std::nullopt;
      value = value * 10 + digit();
    }
    return value >= low && value <= high ? std::optional(value) : std::nullopt;
  }

 private:
  std::string_view rest_;
};

template <class Duration>
std::string format_utc(std::chrono::sys_time<Duration> time, int fraction_digits) {
  const auto day = floor<days>(time);
  const std::chrono::year_month_day date(day);
  const std::chrono::hh_mm_ss clock(time - day);
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:0{}}Z", static_cast<int>(date.year()),
                     static_cast<unsigned>(date.month()), static_cast<unsigned>(date.day()), clock.hours().count(),
                     clock.minutes().count(), clock.seconds().count(), clock.subseconds().count(), fraction_digits);
}

}  // namespace

Timestamp wall_now() {
  return floor<microseconds>(std::chrono::system_clock::now());
}

std::string format_rfc3339(Timestamp time) {
  return format_utc(time, 6);
}

std::string rfc3339_now_nanoseconds() {
  return format_utc(floor<nanoseconds>(std::chrono::system_clock::now()), 9);
}

std::optional<Timestamp> parse_rfc3339(std::string_view text) {
  Reader in(text);
  const auto year = in.number(4, 0, 9999);
  if (!year || !in.take('-')) return std::nullopt;
  const auto month = in.number(2, 1, 12);
  if (!month || !in.take('-')) return std::nullopt;
  const auto day = in.number(2, 1, 31);
  if (!day || !in.take_either('T', 't')) return std::nullopt;
  const auto hour = in.number(2, 0, 23);
  if (!hour || !in.take(':')) return std::nullopt;
  const auto minute = in.number(2, 0, 59);
  if (!minute || !in.take(':')) return std::nullopt;
  const auto second = in.number(2, 0, 60);
  if (!second) return std::nullopt;

  const std::chrono::year_month_day date(std::chrono::year(*year), std::chrono::month(static_cast<unsigned>(*month)),
                                         std::chrono::day(static_cast<unsigned>(*day)));
  if (!date.ok()) return std::nullopt;

  microseconds fraction{0};
  if (in.take('.')) {
    if (!in.at_digit()) return std::nullopt;
    for (int unit = 100'000; in.at_digit(); unit /= 10) fraction += microseconds(in.digit() * unit);
  }

  minutes offset{0};
  if (!in.take_either('Z', 'z')) {
    const bool behind = in.take('-');
    if (!behind && !in.take('+')) return std::nullopt;
    const auto offset_hour = in.number(2, 0, 23);
    if (!offset_hour || !in.take(':')) return std::nullopt;
    const auto offset_minute = in.number(2, 0, 59);
    if (!offset_minute) return std::nullopt;
    offset = hours(*offset_hour) + minutes(*offset_minute);
    if (behind) offset = -offset;
  }
  if (!in.done()) return std::nullopt;

  const auto whole_minute = std::chrono::sys_days(date) + hours(*hour) + minutes(*minute) - offset;
  // A leap second is inserted after 23:59:59 UTC and nowhere else.
  if (*second == 60 && whole_minute - floor<days>(whole_minute) != hours(23) + minutes(59)) return std::nullopt;
  return Timestamp(whole_minute) + seconds(std::min(*second, 59)) + fraction;
}

StoreClock::StoreClock(Timestamp not_before)
    : base_(std::max(wall_now(), not_before)), start_(std::chrono::steady_clock::now()) {}

Timestamp StoreClock::now() const {
  return base_ + floor<microseconds>(std::chrono::steady_clock::now() - start_);
}

}  // namespace millrace
