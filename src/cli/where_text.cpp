// SPDX-License-Identifier: Apache-2.0
#include "cli/where_text.hpp"

#include <algorithm>
#include <chrono>

#include "base/time.hpp"
#include "cli/table.hpp"

namespace millrace::cli {
namespace {

using boost::json::value;

constexpr std::string_view kAbsent = "-";

/// "in 4.0s" or "3m 2s ago"; empty for what is no time.
std::string distance(std::string_view rfc3339, Timestamp now) {
  const auto time = parse_rfc3339(rfc3339);
  if (!time) return {};
  const double seconds = std::chrono::duration<double>(*time - now).count();
  return seconds >= 0 ? "in " + human_seconds(seconds) : human_seconds(-seconds) + " ago";
}

/// "13:02:11Z (in 4.0s)"
std::string with_distance(const std::string& rfc3339, Timestamp now) {
  const std::string far = distance(rfc3339, now);
  return short_time(rfc3339, now) + (far.empty() ? "" : " (" + far + ')');
}

std::uint64_t number_at(const value& from, std::string_view path) {
  const std::string text = cell_at(from, path);
  return text == kAbsent ? 0 : std::strtoull(text.c_str(), nullptr, 10);
}

std::string times(std::uint64_t count) {
  return count == 1 ? "once" : std::to_string(count) + " times";
}

/// What keeps the whole group from moving.
std::string held_up(const value& group) {
  if (const std::string stalled = cell_at(group, "stalled"); stalled != kAbsent) {
    return "; the group is stalled: " + stalled;
  }
  return cell_at(group, "paused") == "true" ? "; the group is paused" : "";
}

std::string ahead(const value& group) {
  const std::uint64_t behind = number_at(group, "behind");
  return (behind == 0 ? std::string("waiting: next in line")
                      : "waiting: " + std::to_string(behind) +
                            (behind == 1 ? " position is before it" : " positions are before it")) +
         held_up(group);
}

std::string claimed(const value& group, Timestamp now) {
  std::string out = "claimed by " + cell_at(group, "pending.consumer");
  if (const std::string until = cell_at(group, "pending.lease_until"); until != kAbsent) {
    out += " until " + with_distance(until, now);
  }
  return out + ", attempt " + cell_at(group, "pending.attempt");
}

std::string waiting(const value& group, Timestamp now) {
  const std::uint64_t failures = number_at(group, "pending.failures");
  std::string out =
      failures == 0 ? "given back, to be handed out again" : "failed " + times(failures) + ", to be tried again";
  if (const std::string next = cell_at(group, "pending.next_try"); next != kAbsent)
    out += " at " + with_distance(next, now);
  if (const std::string error = cell_at(group, "pending.last_error"); error != kAbsent) out += ": " + error;
  return out + held_up(group);
}

std::string parked(const value& group) {
  std::string out = "parked behind " + (cell_at(group, "key") == kAbsent ? "its key" : cell_at(group, "key"));
  if (const std::string first = cell_at(group, "parked_behind"); first != kAbsent) out += " at position " + first;
  return out + held_up(group);
}

std::string suspect(const value& group) {
  return "suspect: its consumer vanished " + times(std::max<std::uint64_t>(1, number_at(group, "pending.crashes"))) +
         "; it is handed out alone next" + held_up(group);
}

std::string settled(const value& group, Timestamp now) {
  const std::string after = cell_at(group, "settled_after");
  const std::string before = cell_at(group, "settled_before");
  if (before == kAbsent) return "settled; when and by whom is not known any more";
  if (after == kAbsent)
    return "settled before " + short_time(before, now) + ", or passed over by a start, seek or skip";
  std::string out = short_time(after, now) == short_time(before, now)
                        ? "settled at " + short_time(before, now)
                        : "settled between " + short_time(after, now) + " and " + short_time(before, now);
  if (const std::string consumer = cell_at(group, "consumer"); consumer != kAbsent) out += " by " + consumer;
  if (const std::string claim = cell_at(group, "claim"); claim != kAbsent) out += " in claim " + claim;
  return out;
}

std::string dead(const value& group, const value& match, Timestamp now) {
  std::string out = "dead";
  if (const std::string died = cell_at(group, "died_at"); died != kAbsent) out += " since " + short_time(died, now);
  return out + ": " + cell_at(group, "reason") + "; look: millrace dlq show " + cell_at(group, "group") + ' ' +
         cell_at(match, "position");
}

}  // namespace

std::string short_time(std::string_view rfc3339, Timestamp now) {
  const auto time = parse_rfc3339(rfc3339);
  if (!time) return std::string(rfc3339);
  const std::string text = format_rfc3339(*time);  // 2026-11-20T21:33:59.123456Z
  const std::string clock = text.substr(11, 8) + 'Z';
  const auto day = [](Timestamp t) { return std::chrono::floor<std::chrono::days>(t); };
  return day(*time) == day(now) ? clock : text.substr(0, 10) + ' ' + clock;
}

std::string describe_group(const value& group, const value& match, Timestamp now) {
  const std::string state = cell_at(group, "state");
  if (state == "ahead") return ahead(group);
  if (state == "claimed") return claimed(group, now);
  if (state == "waiting" || state == "retry") return waiting(group, now);
  if (state == "parked") return parked(group);
  if (state == "suspect") return suspect(group);
  if (state == "settled") return settled(group, now);
  if (state == "dead") return dead(group, match, now);
  if (state == "filtered_out") return "filtered out: its type is not one of the group's (by the filter as it is now)";
  return state;
}

std::string describe_match(const value& match, Timestamp now) {
  std::string out = "event " + cell_at(match, "event.id") + " from " + cell_at(match, "event.source");
  if (const std::string type = cell_at(match, "event.type"); type != kAbsent) out += ", type " + type;
  out += "\n  stream " + cell_at(match, "stream") + ", position " + cell_at(match, "position");
  if (const std::string stored = cell_at(match, "stored_at"); stored != kAbsent) {
    out += ", stored " + with_distance(stored, now) + ", " + cell_at(match, "durability");
  }
  if (const std::string trimmed = cell_at(match, "trimmed_at"); trimmed != kAbsent) {
    out += "\n  trimmed " + with_distance(trimmed, now) + ": only its id is still known";
  }
  if (const std::string erased = cell_at(match, "erased_at"); erased != kAbsent) {
    out += "\n  erased " + with_distance(erased, now) + ": its data is gone for good";
  }
  const auto& groups = match.at("groups").as_array();
  if (groups.empty()) return out + "\n  no group reads this stream";
  std::size_t widest = 0;
  for (const auto& group : groups) widest = std::max(widest, width(cell_at(group, "group")));
  for (const auto& group : groups) {
    const std::string name = cell_at(group, "group");
    out += "\n  " + name + std::string(widest - width(name) + 2, ' ') + describe_group(group, match, now);
  }
  return out;
}

}  // namespace millrace::cli
