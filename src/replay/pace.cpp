// SPDX-License-Identifier: Apache-2.0
#include "replay/pace.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "millrace/error.hpp"

namespace millrace {
namespace {

constexpr double kSlowest = 0.001, kFastest = 1'000'000;

}  // namespace

ReplayPace ReplayPace::parse(std::string_view text) {
  if (text == "fast") return fast();
  if (text == "original") return original();
  double factor = 0;
  const char* end = text.data() + text.size();
  const auto [stopped_at, error] = std::from_chars(text.data(), end, factor);
  // Written so that not-a-number is refused, too.
  if (error != std::errc{} || stopped_at != end || !(factor >= kSlowest && factor <= kFastest)) {
    throw Error(Errc::invalid_argument, "read pace", std::string(text),
                "a pace is fast, original, or a factor from 0.001 to 1000000 times the original");
  }
  return original(factor);
}

std::string ReplayPace::to_string() const {
  if (factor == 0) return "fast";
  return factor == 1 ? "original" : fmt::format("{}", factor);
}

namespace replay {

std::chrono::microseconds due_in(const ReplayPace& pace, const PaceOrigin& origin, Timestamp stored_at,
                                 SteadyTime now) {
  using std::chrono::microseconds;
  if (pace.factor == 0) return microseconds{0};
  const double distance = static_cast<double>((stored_at - origin.stored_at).count()) / pace.factor;
  const auto passed = std::chrono::duration_cast<microseconds>(now - origin.given_at);
  // A pause of centuries at the slowest pace is still a number of microseconds.
  constexpr double kLongest = 9e18;
  return std::max(microseconds{0}, microseconds{static_cast<std::int64_t>(std::min(distance, kLongest))} - passed);
}

}  // namespace replay
}  // namespace millrace
