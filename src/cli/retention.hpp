// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// How long a stream keeps its events, as flags and as words: shared by `streams`, `trim` and `status`.

#include <CLI/CLI.hpp>
#include <boost/json.hpp>
#include <cstdint>
#include <optional>
#include <string>

namespace millrace::cli {

/// The limits as they are typed: 1000, 30d, 10GiB.
struct LimitFlags {
  std::optional<std::uint64_t> max_events;
  std::string max_age, max_bytes;
  [[nodiscard]] bool any() const { return max_events || !max_age.empty() || !max_bytes.empty(); }
};
void add_limit_flags(CLI::App& command, LimitFlags& flags);
/// Sets the members of the HTTP surface that were given. \throws Error{invalid_argument} naming the flag
void put_limits(boost::json::object& body, const LimitFlags& flags);

struct RetentionFlags {
  LimitFlags limits;
  std::string interval;
};
void add_retention_flags(CLI::App& command, RetentionFlags& flags);
void put_retention(boost::json::object& body, const RetentionFlags& flags);

/// `{"max_events": 1000, …}` as "1000 events, 30d; looked at every 1d", or "everything".
std::string retention_text(const boost::json::value& retention);

/// `[{"group", "events"}]` as "mailer 30, billing 2", or "-".
std::string kept_text(const boost::json::value& kept);

/// A table of streams: what they hold, keep, and what the last trim did. Empty text when there are none.
void print_streams(const boost::json::value& streams);

}  // namespace millrace::cli
