// SPDX-License-Identifier: Apache-2.0
#include "store/sqlite/rows.hpp"

#include <algorithm>
#include <boost/json.hpp>

namespace millrace::store::sqlite {
namespace {

namespace json = boost::json;

[[noreturn]] void corrupt(const char* what, std::string_view text) {
  throw Error(Errc::corrupt, "read store", what, "this column does not hold what Millrace writes there",
              std::string(text.substr(0, 200)));
}

json::value parsed(const char* what, std::string_view text) {
  json::error_code error;
  json::value value = json::parse(json::string_view(text.data(), text.size()), error);
  if (error) corrupt(what, text);
  return value;
}

json::object backoff(const Backoff& value) {
  return {{"first_ms", value.first.count()}, {"max_ms", value.max.count()}};
}

Backoff backoff(const json::value& value) {
  return {Milliseconds{value.at("first_ms").to_number<std::int64_t>()},
          Milliseconds{value.at("max_ms").to_number<std::int64_t>()}};
}

}  // namespace

std::string encode_extensions(const std::vector<Extension>& extensions) {
  if (extensions.empty()) return {};
  json::object object;
  object.reserve(extensions.size());
  for (const Extension& extension : extensions) {
    std::visit([&](const auto& value) { object.emplace(extension.name, json::value_from(value)); }, extension.value);
  }
  return json::serialize(object);
}

std::vector<Extension> decode_extensions(std::string_view text) {
  std::vector<Extension> extensions;
  if (text.empty()) return extensions;
  const json::value value = parsed("extensions", text);
  const json::object* object = value.if_object();
  if (!object) corrupt("extensions", text);
  extensions.reserve(object->size());
  for (const auto& member : *object) {
    const std::string name(member.key());
    if (const auto* string = member.value().if_string()) {
      extensions.push_back({name, std::string(*string)});
    } else if (const auto* flag = member.value().if_bool()) {
      extensions.push_back({name, *flag});
    } else if (const auto* number = member.value().if_int64()) {
      extensions.push_back({name, static_cast<std::int32_t>(*number)});
    } else {
      corrupt("extensions", text);
    }
  }
  return extensions;
}

std::string order_key(const Statement::Rows& row, int first) {
  // Parsing is for the few that have the attribute.
  const std::string_view extensions = row.text(first + kExtensionsColumn);
  if (extensions.find("\"partitionkey\":") != std::string_view::npos) {
    for (const Extension& extension : decode_extensions(extensions)) {
      if (extension.name == "partitionkey") return to_string(extension.value);
    }
  }
  return std::string(row.text(first + kSubjectColumn));
}

bool row_is_erased(const Statement::Rows& row, int first) {
  if (!row.is_null(first + kDataColumn)) return false;
  const std::string_view extensions = row.text(first + kExtensionsColumn);
  if (extensions.find(kErasedTime) == std::string_view::npos) return false;
  const std::vector<Extension> all = decode_extensions(extensions);
  return std::any_of(all.begin(), all.end(), [](const Extension& e) { return e.name == kErasedTime; });
}

Event decode_event(const Statement::Rows& row, int first) {
  Event event;
  event.id = row.text(first);
  event.source = row.text(first + 1);
  event.type = row.text(first + 2);
  event.subject = row.text(first + 3);
  event.time = row.text(first + 4);
  event.datacontenttype = row.text(first + 5);
  event.dataschema = row.text(first + 6);
  event.extensions = decode_extensions(row.text(first + 7));
  if (const auto data = row.blob(first + 8)) event.data.emplace(*data);
  return event;
}

std::string encode_settings(const GroupSettings& settings) {
  json::object object{{"transient_backoff", backoff(settings.retry.transient_backoff)},
                      {"max_age_s", settings.retry.max_age.count()},
                      {"handler_backoff", backoff(settings.retry.handler_backoff)},
                      {"max_attempts", settings.retry.max_attempts},
                      {"max_crashes", settings.retry.max_crashes},
                      {"max_parked", settings.max_parked}};
  if (settings.expires) object.emplace("expires_s", settings.expires->count());
  if (settings.max_dataversion) object.emplace("max_dataversion", *settings.max_dataversion);
  return json::serialize(object);
}

GroupSettings decode_settings(std::string_view text) {
  const json::value value = parsed("settings", text);
  try {
    GroupSettings settings;
    settings.retry.transient_backoff = backoff(value.at("transient_backoff"));
    settings.retry.max_age = std::chrono::seconds{value.at("max_age_s").to_number<std::int64_t>()};
    settings.retry.handler_backoff = backoff(value.at("handler_backoff"));
    settings.retry.max_attempts = value.at("max_attempts").to_number<std::uint32_t>();
    settings.retry.max_crashes = value.at("max_crashes").to_number<std::uint32_t>();
    settings.max_parked = value.at("max_parked").to_number<std::uint64_t>();
    if (const json::value* expires = value.as_object().if_contains("expires_s")) {
      settings.expires = std::chrono::seconds{expires->to_number<std::int64_t>()};
    }
    if (const json::value* version = value.as_object().if_contains("max_dataversion")) {
      settings.max_dataversion = version->to_number<std::int32_t>();
    }
    return settings;
  } catch (const std::exception&) {
    corrupt("settings", text);
  }
}

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
    const auto number = [&](const char* key) -> std::optional<std::int64_t> {
      const json::value* found = object.if_contains(key);
      return found ? std::optional(found->to_number<std::int64_t>()) : std::nullopt;
    };
    if (const auto most = number("max_events")) record.retention.max_events = static_cast<std::uint64_t>(*most);
    if (const auto most = number("max_bytes")) record.retention.max_bytes = static_cast<std::uint64_t>(*most);
    if (const auto most = number("max_age_s")) record.retention.max_age = std::chrono::seconds{*most};
    record.retention.interval = std::chrono::seconds{number("interval_s").value()};
    if (const auto at = number("applied_at")) record.applied_at = Timestamp{std::chrono::microseconds{*at}};
    return record;
  } catch (const std::exception&) {
    corrupt("retention", text);
  }
}

std::string encode_trim(const TrimResult& result) {
  json::array kept;
  for (const TrimResult::Kept& one : result.kept) kept.push_back({{"group", one.group.str()}, {"events", one.events}});
  return json::serialize(
      json::object{{"removed", result.removed}, {"trimmed_to", result.trimmed_to.low}, {"kept", std::move(kept)}});
}

TrimResult decode_trim(std::string_view text) {
  TrimResult result;
  if (text.empty()) return result;
  const json::value value = parsed("last_trim", text);
  try {
    result.removed = value.at("removed").to_number<std::uint64_t>();
    result.trimmed_to = Position(value.at("trimmed_to").to_number<std::uint64_t>());
    for (const json::value& one : value.at("kept").as_array()) {
      result.kept.push_back(
          {GroupName(json::value_to<std::string>(one.at("group"))), one.at("events").to_number<std::uint64_t>()});
    }
    return result;
  } catch (const std::exception&) {
    corrupt("last_trim", text);
  }
}

std::string encode_types(const std::vector<std::string>& types) {
  return json::serialize(json::value_from(types));
}

std::vector<std::string> decode_types(std::string_view text) {
  try {
    return json::value_to<std::vector<std::string>>(parsed("types", text));
  } catch (const std::exception&) {
    corrupt("types", text);
  }
}

}  // namespace millrace::store::sqlite
