// SPDX-License-Identifier: Apache-2.0
#include "store/records.hpp"

#include <boost/json.hpp>

#include "base/utf8.hpp"
#include "millrace/error.hpp"

namespace millrace::store {
namespace {

namespace json = boost::json;

/// Reads `text` by `read`; what is not as we write it is `what`, corrupt.
template <class Read>
auto decoded(const char* what, std::string_view text, Read read) {
  try {
    return read(json::parse(json::string_view(text.data(), text.size())));
  } catch (const std::exception&) {
    throw Error(Errc::corrupt, "read store", what, "this does not hold what Millrace writes there",
                printable(text.substr(0, 200)));
  }
}

json::object backoff(const Backoff& value) {
  return {{"first_ms", value.first.count()}, {"max_ms", value.max.count()}};
}

Backoff backoff(const json::value& value) {
  return {Milliseconds{value.at("first_ms").to_number<std::int64_t>()},
          Milliseconds{value.at("max_ms").to_number<std::int64_t>()}};
}

template <class Number>
std::optional<Number> number_at(const json::value& value, const char* member) {
  const json::value* found = value.as_object().if_contains(member);
  return found ? std::optional(found->to_number<Number>()) : std::nullopt;
}

json::value position(Position position, PositionForm form) {
  if (form == PositionForm::number) return position.low;
  // Not to_string(), which leaves out a first part that is 0.
  return json::string(std::to_string(position.high) + "-" + std::to_string(position.low));
}

Position position(const json::value& value) {
  if (!value.is_string()) return Position(value.to_number<std::uint64_t>());
  const std::string_view text(value.get_string());
  return Position::parse(text.starts_with("0-") ? text.substr(2) : text);
}

AttributeValue attribute(const json::value& value) {
  if (const bool* flag = value.if_bool()) return *flag;
  if (value.is_number()) return value.to_number<std::int32_t>();
  return json::value_to<std::string>(value);
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
  if (text.empty()) return {};
  return decoded("extensions", text, [](const json::value& value) {
    std::vector<Extension> extensions;
    extensions.reserve(value.as_object().size());
    for (const auto& [name, one] : value.as_object()) extensions.push_back({std::string(name), attribute(one)});
    return extensions;
  });
}

std::string encode_types(const std::vector<std::string>& types) {
  return json::serialize(json::value_from(types));
}

std::vector<std::string> decode_types(std::string_view text) {
  return decoded("types", text,
                 [](const json::value& value) { return json::value_to<std::vector<std::string>>(value); });
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
  return decoded("settings", text, [](const json::value& value) {
    GroupSettings settings;
    settings.retry.transient_backoff = backoff(value.at("transient_backoff"));
    settings.retry.max_age = std::chrono::seconds{value.at("max_age_s").to_number<std::int64_t>()};
    settings.retry.handler_backoff = backoff(value.at("handler_backoff"));
    settings.retry.max_attempts = value.at("max_attempts").to_number<std::uint32_t>();
    settings.retry.max_crashes = value.at("max_crashes").to_number<std::uint32_t>();
    settings.max_parked = value.at("max_parked").to_number<std::uint64_t>();
    if (const auto expires = number_at<std::int64_t>(value, "expires_s")) {
      settings.expires = std::chrono::seconds{*expires};
    }
    settings.max_dataversion = number_at<std::int32_t>(value, "max_dataversion");
    return settings;
  });
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
  if (text.empty()) return {};
  return decoded("retention", text, [](const json::value& value) {
    RetentionRecord record;
    record.retention.max_events = number_at<std::uint64_t>(value, "max_events");
    record.retention.max_bytes = number_at<std::uint64_t>(value, "max_bytes");
    if (const auto age = number_at<std::int64_t>(value, "max_age_s")) {
      record.retention.max_age = std::chrono::seconds{*age};
    }
    record.retention.interval = std::chrono::seconds{value.at("interval_s").to_number<std::int64_t>()};
    if (const auto at = number_at<std::int64_t>(value, "applied_at")) {
      record.applied_at = Timestamp{std::chrono::microseconds{*at}};
    }
    return record;
  });
}

std::string encode_trim(const TrimResult& result, PositionForm form) {
  json::array kept;
  for (const TrimResult::Kept& one : result.kept) kept.push_back({{"group", one.group.str()}, {"events", one.events}});
  return json::serialize(json::object{
      {"removed", result.removed}, {"trimmed_to", position(result.trimmed_to, form)}, {"kept", std::move(kept)}});
}

TrimResult decode_trim(std::string_view text) {
  if (text.empty()) return {};
  return decoded("last_trim", text, [](const json::value& value) {
    TrimResult result;
    result.removed = value.at("removed").to_number<std::uint64_t>();
    result.trimmed_to = position(value.at("trimmed_to"));
    for (const json::value& one : value.at("kept").as_array()) {
      result.kept.push_back(
          {GroupName(json::value_to<std::string>(one.at("group"))), one.at("events").to_number<std::uint64_t>()});
    }
    return result;
  });
}

}  // namespace millrace::store
