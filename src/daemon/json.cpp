// SPDX-License-Identifier: Apache-2.0
#include "daemon/json.hpp"

#include <fmt/format.h>

#include <cmath>

#include "base/time.hpp"
#include "millrace/codec.hpp"

namespace millrace::daemon {

void JsonWriter::name(std::string_view name) {
  if (!first_) out_ += ',';
  first_ = false;
  if (close_ == ']') return;
  append_json_string(out_, name);
  out_ += ':';
}

JsonWriter& JsonWriter::text(std::string_view member, std::string_view value) {
  name(member);
  append_json_string(out_, value);
  return *this;
}

JsonWriter& JsonWriter::text_or_null(std::string_view member, std::string_view value) {
  return value.empty() ? raw(member, "null") : text(member, value);
}

JsonWriter& JsonWriter::number(std::string_view member, std::uint64_t value) {
  return raw(member, std::to_string(value));
}

JsonWriter& JsonWriter::real(std::string_view member, double value) {
  return raw(member, std::isfinite(value) ? fmt::format("{}", value) : "null");  // JSON has no infinity
}

JsonWriter& JsonWriter::boolean(std::string_view member, bool value) {
  return raw(member, value ? "true" : "false");
}

JsonWriter& JsonWriter::raw(std::string_view member, std::string_view json) {
  name(member);
  out_ += json;
  return *this;
}

JsonWriter& JsonWriter::texts(std::string_view member, std::span<const std::string> values) {
  JsonWriter array('[');
  for (const std::string& value : values) array.text({}, value);
  return raw(member, array.finish());
}

JsonWriter& JsonWriter::element(std::string_view json) {
  return raw({}, json);
}

std::string JsonWriter::finish() {
  out_ += close_;
  return std::move(out_);
}

namespace {

void position_or_null(JsonWriter& json, std::string_view name, const Position& position) {
  json.text_or_null(name, position == Position{} ? std::string() : position.to_string());
}

void time_or_null(JsonWriter& json, std::string_view name, const std::optional<Timestamp>& time) {
  json.text_or_null(name, time ? format_rfc3339(*time) : std::string());
}

void number_or_null(JsonWriter& json, std::string_view name, const std::optional<std::uint64_t>& number) {
  if (number) {
    json.number(name, *number);
  } else {
    json.raw(name, "null");
  }
}

std::string retention_json(const Retention& retention) {
  JsonWriter json;
  number_or_null(json, "max_events", retention.max_events);
  number_or_null(json, "max_bytes", retention.max_bytes);
  std::optional<std::uint64_t> max_age;
  if (retention.max_age) max_age = static_cast<std::uint64_t>(retention.max_age->count());
  number_or_null(json, "max_age_s", max_age);
  return json.number("interval_s", static_cast<std::uint64_t>(retention.interval.count())).finish();
}

std::string backoff_json(const Backoff& backoff) {
  return JsonWriter()
      .number("first_ms", static_cast<std::uint64_t>(backoff.first.count()))
      .number("max_ms", static_cast<std::uint64_t>(backoff.max.count()))
      .finish();
}

std::string settings_json(const GroupSettings& settings) {
  const RetryPolicy& retry = settings.retry;
  JsonWriter json;
  json.raw("retry", JsonWriter()
                        .raw("transient_backoff", backoff_json(retry.transient_backoff))
                        .number("max_age_s", static_cast<std::uint64_t>(retry.max_age.count()))
                        .raw("handler_backoff", backoff_json(retry.handler_backoff))
                        .number("max_attempts", retry.max_attempts)
                        .number("max_crashes", retry.max_crashes)
                        .finish());
  json.number("max_parked", settings.max_parked);
  std::optional<std::uint64_t> expires;
  if (settings.expires) expires = static_cast<std::uint64_t>(settings.expires->count());
  number_or_null(json, "expires_s", expires);
  std::optional<std::uint64_t> pin;
  if (settings.max_dataversion) pin = static_cast<std::uint64_t>(*settings.max_dataversion);
  number_or_null(json, "max_dataversion", pin);
  return json.finish();
}

}  // namespace

void add_trim(JsonWriter& json, const TrimResult& result) {
  JsonWriter kept('[');
  for (const TrimResult::Kept& entry : result.kept) {
    kept.element(JsonWriter().text("group", entry.group.str()).number("events", entry.events).finish());
  }
  json.number("removed", result.removed);
  position_or_null(json, "trimmed_to", result.trimmed_to);
  json.raw("kept", kept.finish());
}

std::string stream_json(const StreamInfo& stream) {
  JsonWriter json;
  json.text("name", stream.name.str()).text("created_at", format_rfc3339(stream.created_at));
  json.number("events", stream.events).number("bytes", stream.bytes);
  position_or_null(json, "first", stream.first);
  position_or_null(json, "last", stream.last);
  position_or_null(json, "trimmed_to", stream.trimmed_to);
  time_or_null(json, "oldest", stream.oldest);
  json.raw("retention", retention_json(stream.retention));
  time_or_null(json, "last_trim_at", stream.last_trim_at);
  if (stream.last_trim_at) {
    JsonWriter trim;
    add_trim(trim, stream.last_trim);
    json.raw("last_trim", trim.finish());
  } else {
    json.raw("last_trim", "null");
  }
  return json.finish();
}

std::string lag_json(const Lag& lag) {
  return JsonWriter()
      .number("ahead", lag.ahead)
      .number("in_flight", lag.in_flight)
      .number("waiting", lag.waiting)
      .real("oldest_seconds", lag.oldest_seconds)
      .finish();
}

std::string group_json(const GroupInfo& group) {
  JsonWriter json;
  json.text("name", group.name.str()).text("stream", group.stream.str()).texts("types", group.types);
  json.text("start", group.start.to_string()).text("order", group.order.to_string()).boolean("paused", group.paused);
  json.text("created_at", format_rfc3339(group.created_at)).text("last_seen", format_rfc3339(group.last_seen));
  json.text("cursor", group.cursor.to_string()).raw("lag", lag_json(group.lag));
  json.number("parked", group.parked).number("suspects", group.suspects).number("dead", group.dead);
  json.number("processed", group.processed).number("failures", group.failures).number("crashes", group.crashes);
  json.number("rejected", group.rejected).number("expired", group.expired).number("skipped", group.skipped);
  json.text_or_null("stalled", group.stalled).texts("consumers", group.consumers);
  json.raw("settings", settings_json(group.settings));
  return json.finish();
}

std::string pending_json(const PendingEvent& event) {
  JsonWriter json;
  json.text("position", event.position.to_string()).text("id", event.id).text("source", event.source);
  json.text("type", event.type).text_or_null("subject", event.subject).text("state", to_string(event.state));
  json.text_or_null("consumer", event.consumer);
  json.text_or_null("lease", event.lease ? event.lease->to_string() : std::string());
  time_or_null(json, "lease_until", event.lease_until);
  time_or_null(json, "next_try", event.next_try);
  json.number("attempt", event.attempt).number("failures", event.failures).number("crashes", event.crashes);
  json.text_or_null("last_error", event.last_error);
  return json.finish();
}

std::string dead_letter_json(const DeadLetter& letter) {
  JsonWriter json;
  json.text("position", letter.position.to_string()).raw("event", encode_json(letter.event));
  json.text("stored_at", format_rfc3339(letter.stored_at)).text("died_at", format_rfc3339(letter.died_at));
  json.text("reason", letter.reason).number("attempts", letter.attempts);
  json.number("failures", letter.failures).number("crashes", letter.crashes);
  return json.finish();
}

std::string deliveries_json(std::span<const Delivery> deliveries) {
  JsonWriter array('[');
  for (const Delivery& delivery : deliveries) {
    JsonWriter json;
    json.text("lease", delivery.lease.to_string()).text("position", delivery.position.to_string());
    json.number("attempt", delivery.attempt).number("failures", delivery.failures).number("crashes", delivery.crashes);
    json.text("lease_until", format_rfc3339(delivery.lease_until)).raw("event", encode_json(delivery.event));
    array.element(json.finish());
  }
  return JsonWriter().raw("deliveries", array.finish()).finish();
}

void append_stored_event(const StoredEvent& stored, std::string& out) {
  out += "{\"position\":\"" + stored.position.to_string() + "\",\"stored_at\":\"" + format_rfc3339(stored.stored_at) +
         "\",\"event\":";
  encode_json_to(stored.event, out);
  out += '}';
}

std::string page_json(const Position& after, const Page& page) {
  std::string out = "{\"events\":[";
  for (const StoredEvent& stored : page.events) {
    append_stored_event(stored, out);
    out += ',';
  }
  if (out.back() == ',') out.pop_back();
  out += "],\"next\":\"" + page.next.to_string() + "\",\"at_end\":" + (page.at_end ? "true" : "false");
  if (page.gap) {
    out += ",\"gap\":" + JsonWriter().text("after", after.to_string()).text("first", page.gap->to_string()).finish();
  }
  out += '}';
  return out;
}

}  // namespace millrace::daemon
