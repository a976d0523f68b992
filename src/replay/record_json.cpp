// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <boost/json.hpp>
#include <initializer_list>

#include "base/time.hpp"
#include "millrace/error.hpp"
#include "replay/records.hpp"
#include "store/ledger/replay_id.hpp"

namespace millrace::replay {
namespace {

namespace json = boost::json;

[[noreturn]] void refuse(std::string_view member, std::string message) {
  throw Error(Errc::invalid_argument, "read replay record", std::string(member), std::move(message));
}

json::value text_or_null(const std::string& text) {
  return text.empty() ? json::value() : json::value(text);
}

json::value position_or_null(const std::optional<Position>& position) {
  return position ? json::value(position->to_string()) : json::value();
}

json::value position_or_null(Position position) {
  return position != Position{} ? json::value(position.to_string()) : json::value();
}

json::value time_or_null(const std::optional<Timestamp>& time) {
  return time ? json::value(format_rfc3339(*time)) : json::value();
}

/// Reads members strictly: an object's names must be known, each of its type. null = absent.
class Reader {
 public:
  Reader(const json::value& value, std::string_view name, std::initializer_list<std::string_view> known) {
    if (!value.is_object()) refuse(name, "must be a JSON object");
    object_ = &value.get_object();
    for (const auto& member : *object_) {
      const std::string_view key(member.key().data(), member.key().size());
      if (std::find(known.begin(), known.end(), key) == known.end()) refuse(key, "unknown member");
    }
  }

  [[nodiscard]] const json::value* find(std::string_view name) const {
    const json::value* value = object_->if_contains(json::string_view(name.data(), name.size()));
    return value == nullptr || value->is_null() ? nullptr : value;
  }
  [[nodiscard]] const json::value& required(std::string_view name) const {
    const json::value* value = find(name);
    if (value == nullptr) refuse(name, "is required");
    return *value;
  }
  [[nodiscard]] std::string text(std::string_view name) const {
    const json::value* value = find(name);
    if (value == nullptr) return {};
    if (!value->is_string()) refuse(name, "must be a string");
    return std::string(value->get_string());
  }
  [[nodiscard]] std::uint64_t number(std::string_view name) const {
    const json::value* value = find(name);
    if (value == nullptr) return 0;
    json::error_code bad;
    const auto number = value->is_number() ? value->to_number<std::uint64_t>(bad) : 0;
    if (!value->is_number() || bad) refuse(name, "must be a whole number from 0");
    return number;
  }
  [[nodiscard]] std::vector<std::string> texts(std::string_view name) const {
    const json::value* value = find(name);
    if (value == nullptr) return {};
    if (!value->is_array()) refuse(name, "must be an array of strings");
    std::vector<std::string> out;
    for (const json::value& element : value->get_array()) {
      if (!element.is_string()) refuse(name, "must be an array of strings");
      out.emplace_back(element.get_string());
    }
    return out;
  }
  [[nodiscard]] std::optional<Position> position(std::string_view name) const {
    const std::string value = text(name);
    return value.empty() ? std::nullopt : std::optional(Position::parse(value));
  }
  [[nodiscard]] std::optional<Timestamp> time(std::string_view name) const {
    const std::string value = text(name);
    if (value.empty()) return std::nullopt;
    const auto time = parse_rfc3339(value);
    if (!time) refuse(name, "must be an RFC 3339 time");
    return time;
  }
  /// One of `all`, by its name.
  template <class Choice>
  [[nodiscard]] Choice choice(std::string_view name, std::initializer_list<Choice> all) const {
    const std::string value = text(name);
    std::string names;
    for (const Choice one : all) {
      if (value == to_string(one)) return one;
      names += (names.empty() ? "" : ", ") + std::string(to_string(one));
    }
    refuse(name, '"' + value + "\" is none of " + names);
  }

 private:
  const json::object* object_ = nullptr;
};

json::object encode_query(const ReplayQuery& query) {
  json::object out;
  out["stream"] = query.stream.str();
  out["after"] = position_or_null(query.after);
  out["up_to"] = position_or_null(query.up_to);
  out["types"] = json::value_from(query.types);
  out["sources"] = json::value_from(query.sources);
  out["keys"] = json::value_from(query.keys);
  out["since"] = time_or_null(query.since);
  out["until"] = time_or_null(query.until);
  out["limit"] = query.limit;
  return out;
}

ReplayQuery decode_query(const json::value& value) {
  const Reader reader(value, "query",
                      {"stream", "after", "up_to", "types", "sources", "keys", "since", "until", "limit"});
  ReplayQuery query;
  query.stream = StreamName(reader.text("stream"));
  query.after = reader.position("after").value_or(Position{});
  query.up_to = reader.position("up_to");
  query.types = reader.texts("types");
  query.sources = reader.texts("sources");
  query.keys = reader.texts("keys");
  query.since = reader.time("since");
  query.until = reader.time("until");
  query.limit = reader.number("limit");
  query.validate();
  return query;
}

/// {"stream": name}, {"group": name}, or null.
void decode_target(const json::value* value, ReplayRecord& record) {
  if (value == nullptr) return;
  const Reader reader(*value, "target", {"stream", "group"});
  const std::string stream = reader.text("stream");
  const std::string group = reader.text("group");
  if (stream.empty() == group.empty()) refuse("target", "must name a stream or a group");
  record.target = group.empty() ? ReplayRecord::Target::stream : ReplayRecord::Target::group;
  record.target_name = group.empty() ? StreamName(stream).str() : GroupName(group).str();
}

}  // namespace

std::string encode_record(const ReplayRecord& record) {
  const ReplayReport& report = record.report;
  json::object out;
  out["replayid"] = report.replayid;
  out["state"] = std::string(to_string(report.state));
  out["query"] = encode_query(record.query);
  out["target"] = json::value();
  if (record.target == ReplayRecord::Target::stream) out["target"] = json::object{{"stream", record.target_name}};
  if (record.target == ReplayRecord::Target::group) out["target"] = json::object{{"group", record.target_name}};
  out["on_error"] = std::string(to_string(record.on_error));
  out["pace"] = record.pace.to_string();
  out["read"] = report.read;
  out["delivered"] = report.delivered;
  out["failed"] = report.failed;
  out["erased"] = report.erased;
  out["passed"] = report.passed;
  out["next"] = position_or_null(report.next);
  out["end"] = position_or_null(report.end);
  out["open_from"] = position_or_null(record.open_from);
  out["gap"] = position_or_null(report.gap);
  out["first_error"] = text_or_null(report.first_error);
  out["version"] = record.version;
  return json::serialize(out);
}

ReplayRecord decode_record(std::string_view text) {
  if (text.size() > kMostRecordBytes) {
    throw Error(Errc::too_large, "read replay record", "",
                "has more than " + std::to_string(kMostRecordBytes) + " bytes, the most a replay's record may have");
  }
  json::error_code bad;
  const json::value value = json::parse(json::string_view(text.data(), text.size()), bad);
  if (bad) refuse("body", "is not valid JSON: " + bad.message());
  const Reader reader(value, "record",
                      {"replayid", "state", "query", "target", "on_error", "pace", "read", "delivered", "failed",
                       "erased", "passed", "next", "end", "open_from", "gap", "first_error", "version"});
  ReplayRecord record;
  ReplayReport& report = record.report;
  report.replayid = reader.text("replayid");
  ledger::check_replay_id(report.replayid);
  report.state = reader.choice(
      "state", {ReplayState::running, ReplayState::interrupted, ReplayState::failed, ReplayState::finished});
  record.query = decode_query(reader.required("query"));
  decode_target(reader.find("target"), record);
  record.on_error = reader.choice("on_error", {ReplayOnError::stop, ReplayOnError::count});
  record.pace = ReplayPace::parse(reader.text("pace"));
  report.read = reader.number("read");
  report.delivered = reader.number("delivered");
  report.failed = reader.number("failed");
  report.erased = reader.number("erased");
  report.passed = reader.number("passed");
  report.next = reader.position("next").value_or(Position{});
  report.end = reader.position("end").value_or(Position{});
  record.open_from = reader.position("open_from");
  report.gap = reader.position("gap");
  report.first_error = reader.text("first_error");
  record.version = reader.number("version");
  return record;
}

}  // namespace millrace::replay
