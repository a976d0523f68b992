// SPDX-License-Identifier: Apache-2.0
#include "cli/retention.hpp"

#include "base/units.hpp"
#include "base/utf8.hpp"
#include "cli/table.hpp"
#include "millrace/error.hpp"

namespace millrace::cli {
namespace {

std::int64_t whole_seconds(const std::string& text, const std::string& flag) {
  Milliseconds parsed{};
  try {
    parsed = parse_duration(text);
  } catch (const Error&) {
    throw Error(Errc::invalid_argument, "read flags", flag, "'" + text + "' is no duration, such as 12h or 30d");
  }
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(parsed);
  if (seconds != parsed) throw Error(Errc::invalid_argument, "read flags", flag, "must be a whole number of seconds");
  return seconds.count();
}

std::uint64_t size_of(const std::string& text, const std::string& flag) {
  try {
    return parse_size(text);
  } catch (const Error&) {
    throw Error(Errc::invalid_argument, "read flags", flag, "'" + text + "' is no size, such as 500MiB or 10GiB");
  }
}

std::string duration_text(const boost::json::value& seconds) {
  return format_duration(std::chrono::seconds(seconds.to_number<std::int64_t>()));
}

}  // namespace

void add_limit_flags(CLI::App& command, LimitFlags& flags) {
  command.add_option("--max-events", flags.max_events, "Keep at most so many events");
  command.add_option("--max-age", flags.max_age, "Keep what was stored at most so long ago, e.g. 30d");
  command.add_option("--max-bytes", flags.max_bytes, "Keep at most so much, e.g. 10GiB");
}

void put_limits(boost::json::object& body, const LimitFlags& flags) {
  if (flags.max_events) body["max_events"] = *flags.max_events;
  if (!flags.max_age.empty()) body["max_age_s"] = whole_seconds(flags.max_age, "--max-age");
  if (!flags.max_bytes.empty()) body["max_bytes"] = size_of(flags.max_bytes, "--max-bytes");
}

void add_retention_flags(CLI::App& command, RetentionFlags& flags) {
  add_limit_flags(command, flags.limits);
  command.add_option("--interval", flags.interval, "How often the stream is trimmed, e.g. 1h; a day when never said");
}

void put_retention(boost::json::object& body, const RetentionFlags& flags) {
  put_limits(body, flags.limits);
  if (!flags.interval.empty()) body["interval_s"] = whole_seconds(flags.interval, "--interval");
}

std::string retention_text(const boost::json::value& retention) {
  std::string out;
  const auto add = [&out](const std::string& text) { out += (out.empty() ? "" : ", ") + text; };
  if (const auto& events = retention.at("max_events"); !events.is_null()) add(cell(events) + " events");
  if (const auto& age = retention.at("max_age_s"); !age.is_null()) add(duration_text(age));
  if (const auto& bytes = retention.at("max_bytes"); !bytes.is_null())
    add(format_size(bytes.to_number<std::uint64_t>()));
  return out.empty() ? "everything" : out + "; every " + duration_text(retention.at("interval_s"));
}

std::string kept_text(const boost::json::value& kept) {
  std::string out;
  for (const auto& entry : kept.as_array()) {
    out += (out.empty() ? "" : ", ") + cell_at(entry, "group") + ' ' + cell_at(entry, "events");
  }
  return out.empty() ? "-" : out;
}

void print_streams(const boost::json::value& streams) {
  Table table(
      {"STREAM", "#EVENTS", "#BYTES", "#FIRST", "#LAST", "OLDEST", "KEEPS", "LAST TRIM", "#REMOVED", "KEPT FOR"});
  for (const auto& stream : streams.as_array()) {
    const auto& trim = stream.at("last_trim");
    table.row({cell_at(stream, "name"), cell_at(stream, "events"), cell_at(stream, "bytes"), cell_at(stream, "first"),
               cell_at(stream, "last"), cell_at(stream, "oldest"), retention_text(stream.at("retention")),
               cell_at(stream, "last_trim_at"), cell_at(stream, "last_trim.removed"),
               trim.is_null() ? "-" : kept_text(trim.at("kept"))});
  }
  table.print("no streams");
}

}  // namespace millrace::cli
