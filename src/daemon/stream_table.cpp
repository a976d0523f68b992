// SPDX-License-Identifier: Apache-2.0
// [[stream]]: the streams that are to be there, and how long they keep their events.
#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "base/units.hpp"
#include "daemon/config_tables.hpp"

namespace millrace::daemon {
namespace {

using Row = std::vector<std::pair<std::string, std::string>>;

std::optional<std::chrono::seconds> seconds_of(const TableRow& row, const std::string& key) {
  if (row.find(key) == nullptr) return std::nullopt;
  const std::string text = row.text(key);
  Milliseconds parsed{};
  try {
    parsed = parse_duration(text);
  } catch (const Error&) {
    row.refuse(key, fmt::format("\"{}\" is not a duration, such as \"30d\"", text));
  }
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(parsed);
  if (seconds != parsed) row.refuse(key, "must be a whole number of seconds");
  return seconds;
}

std::optional<std::uint64_t> size_of(const TableRow& row, const std::string& key) {
  if (row.find(key) == nullptr) return std::nullopt;
  const std::string text = row.text(key);
  try {
    return parse_size(text);
  } catch (const Error&) {
    row.refuse(key, fmt::format("\"{}\" is not a size, such as \"10 GiB\"", text));
  }
}

void add_stream(Config& config, const TableRow& row) {
  Config::Stream stream;
  stream.name = row.text("name");
  try {
    static_cast<void>(StreamName(stream.name));
  } catch (const Error& error) {
    row.refuse("name", error.message());
  }
  if (std::any_of(config.streams.begin(), config.streams.end(),
                  [&](const Config::Stream& other) { return other.name == stream.name; })) {
    row.refuse("name", "stream " + stream.name + " stands here twice");
  }
  if (row.find("max_events") != nullptr) {
    stream.retention.max_events =
        static_cast<std::uint64_t>(row.number("max_events", 1, 1, std::numeric_limits<std::int64_t>::max()));
  }
  stream.retention.max_bytes = size_of(row, "max_bytes");
  stream.retention.max_age = seconds_of(row, "max_age");
  if (const auto interval = seconds_of(row, "interval")) stream.retention.interval = *interval;
  stream.create = row.flag("create", true);
  try {
    stream.retention.validate();
  } catch (const Error& error) {
    row.refuse(error.object(), error.message());
  }
  config.streams.push_back(std::move(stream));
}

std::string duration_toml(std::chrono::seconds duration) {
  return toml_text(format_duration(duration));
}

Row stream_row(const Config::Stream& stream) {
  const Retention& retention = stream.retention;
  Row row{{"name", toml_text(stream.name)}};
  if (retention.max_events) row.emplace_back("max_events", std::to_string(*retention.max_events));
  if (retention.max_age) row.emplace_back("max_age", duration_toml(*retention.max_age));
  if (retention.max_bytes) row.emplace_back("max_bytes", toml_text(format_size(*retention.max_bytes)));
  row.emplace_back("interval", duration_toml(retention.interval));
  row.emplace_back("create", stream.create ? "true" : "false");
  return row;
}

}  // namespace

TableKind stream_table() {
  return {
      "stream",
      "A stream and how long it keeps its events: at every start it gets exactly this retention, whatever `streams "
      "set` "
      "said before. Several limits: whatever any of them asks; none: it keeps everything. What a live group has not "
      "settled stays in any case.",
      {{"name", "Its name", "\"events\"", true},
       {"max_events", "Keep at most so many events", "1000000"},
       {"max_age", "Keep what was stored at most so long ago", "\"30d\""},
       {"max_bytes", "Keep at most so much", "\"10 GiB\""},
       {"interval", "How often it is trimmed; a day unless given", "\"1h\""},
       {"create", "Create it when it is not there; `false` refuses to start then. True unless given", "true"}},
      add_stream,
      [](const Config& config) {
        std::vector<Row> rows;
        for (const Config::Stream& stream : config.streams) rows.push_back(stream_row(stream));
        return rows;
      }};
}

}  // namespace millrace::daemon
