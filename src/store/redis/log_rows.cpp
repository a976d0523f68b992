// SPDX-License-Identifier: Apache-2.0
#include "store/redis/log_rows.hpp"

#include <boost/json.hpp>
#include <charconv>

#include "base/utf8.hpp"
#include "millrace/error.hpp"
#include "store/redis/position.hpp"

namespace millrace::store::redis {
namespace {

namespace json = boost::json;

[[noreturn]] void corrupt(std::string_view what, std::string_view text) {
  throw Error(Errc::corrupt, "read store", std::string(what), "this does not hold what Millrace writes there",
              printable(text.substr(0, 200)));
}

json::value parsed(const char* what, std::string_view text) {
  json::error_code error;
  json::value value = json::parse(json::string_view(text.data(), text.size()), error);
  if (error) corrupt(what, text);
  return value;
}

std::uint64_t number(std::string_view what, std::string_view text) {
  std::uint64_t value = 0;
  const char* end = text.data() + text.size();
  const auto [stop, failure] = std::from_chars(text.data(), end, value);
  if (failure != std::errc{} || stop != end) corrupt(what, text);
  return value;
}

Timestamp time(std::string_view what, std::string_view text) {
  return Timestamp{std::chrono::microseconds{static_cast<std::int64_t>(number(what, text))}};
}

}  // namespace

std::string encode_retention(const RetentionRecord& record) {
  const Retention& retention = record.retention;
  json::object object{{"interval_s", retention.interval.count()}};
  if (retention.max_events) object.emplace("max_events", *retention.max_events);
  if (retention.max_bytes) object.emplace("max_bytes", *retention.max_bytes);
  if (retention.max_age) object.emplace("max_age_s", retention.max_age->count());
  if (record.applied_at) object.emplace("applied_at", record.applied_at->time_since_epoch().count());
  return json::serialize(object);
}

RetentionRecord decode_retention(std::string_view text) {
  RetentionRecord record;
  if (text.empty()) return record;
  const json::value value = parsed("retention", text);
  try {
    const json::object& object = value.as_object();
    const auto member = [&](const char* key) -> std::optional<std::int64_t> {
      const json::value* found = object.if_contains(key);
      return found ? std::optional(found->to_number<std::int64_t>()) : std::nullopt;
    };
    if (const auto most = member("max_events")) record.retention.max_events = static_cast<std::uint64_t>(*most);
    if (const auto most = member("max_bytes")) record.retention.max_bytes = static_cast<std::uint64_t>(*most);
    if (const auto most = member("max_age_s")) record.retention.max_age = std::chrono::seconds{*most};
    record.retention.interval = std::chrono::seconds{member("interval_s").value()};
    if (const auto at = member("applied_at")) record.applied_at = Timestamp{std::chrono::microseconds{*at}};
    return record;
  } catch (const std::exception&) {
    corrupt("retention", text);
  }
}

std::string encode_trim(const TrimResult& result) {
  json::array kept;
  for (const TrimResult::Kept& one : result.kept) kept.push_back({{"group", one.group.str()}, {"events", one.events}});
  return json::serialize(
      json::object{{"removed", result.removed}, {"trimmed_to", id_of(result.trimmed_to)}, {"kept", std::move(kept)}});
}

TrimResult decode_trim(std::string_view text) {
  TrimResult result;
  if (text.empty()) return result;
  const json::value value = parsed("last_trim", text);
  try {
    result.removed = value.at("removed").to_number<std::uint64_t>();
    result.trimmed_to = position_of(json::value_to<std::string>(value.at("trimmed_to")), "last_trim");
    for (const json::value& one : value.at("kept").as_array()) {
      result.kept.push_back(
          {GroupName(json::value_to<std::string>(one.at("group"))), one.at("events").to_number<std::uint64_t>()});
    }
    return result;
  } catch (const std::exception&) {
    corrupt("last_trim", text);
  }
}

std::optional<StreamRow> decode_stream(const Reply& hash) {
  const auto& fields = hash.as_array();
  StreamRow row;
  bool created = false;
  for (std::size_t i = 0; i + 1 < fields.size(); i += 2) {
    const std::string& name = fields[i].as_text();
    const std::string& value = fields[i + 1].as_text();
    if (name == "created_at") {
      row.created_at = time(name, value);
      created = true;
    } else if (name == "born") {
      row.born = position_of(value, name);
    } else if (name == "bytes") {
      // Another producer's entries do not count; when somebody removed ours, what is left may not cover the rest.
      row.bytes = value.starts_with('-') ? 0 : number(name, value);
    } else if (name == "last") {
      row.last = position_of(value, name);
    } else if (name == "trimmed_to") {
      row.trimmed_to = position_of(value, name);
    } else if (name == "trimmed_count") {
      row.trimmed_count = number(name, value);
    } else if (name == "days") {
      row.days = value;
    } else if (name == "retention") {
      row.retention = decode_retention(value);
    } else if (name == "last_trim_at") {
      row.last_trim_at = time(name, value);
    } else if (name == "last_trim") {
      row.last_trim = decode_trim(value);
    } else if (name == "aside_count") {
      row.aside = number(name, value);
    }
  }
  if (!created) return std::nullopt;
  return row;
}

NativeStream decode_native(const Reply& info) {
  NativeStream stream;
  if (info.is_error()) {
    if (info.text.find("no such key") != std::string::npos) return stream;
    throw Error(Errc::corrupt, "read stream", "", "the key of the stream holds something else", info.text);
  }
  const auto& fields = info.as_array();
  for (std::size_t i = 0; i + 1 < fields.size(); i += 2) {
    const std::string& name = fields[i].as_text();
    const Reply& value = fields[i + 1];
    if (name == "length") {
      stream.length = static_cast<std::uint64_t>(value.as_integer());
    } else if (name == "entries-added") {
      stream.added = static_cast<std::uint64_t>(value.as_integer());
    } else if (name == "last-generated-id") {
      stream.last = position_of(value.as_text(), name);
    } else if (name == "first-entry" && !value.is_nil()) {
      stream.first = position_of(value.as_array().at(0).as_text(), name);
    }
  }
  return stream;
}

}  // namespace millrace::store::redis
