// SPDX-License-Identifier: Apache-2.0
#include "millrace/event.hpp"

#include <charconv>

#include "base/time.hpp"
#include "base/uuid.hpp"
#include "event/rules.hpp"
#include "millrace/error.hpp"

namespace millrace {

std::string to_string(const AttributeValue& value) {
  if (const auto* text = std::get_if<std::string>(&value)) return *text;
  if (const auto* boolean = std::get_if<bool>(&value)) return *boolean ? "true" : "false";
  return std::to_string(std::get<std::int32_t>(value));
}

const AttributeValue* Event::extension(std::string_view name) const noexcept {
  for (const Extension& extension : extensions) {
    if (extension.name == name) return &extension.value;
  }
  return nullptr;
}

void Event::set_extension(std::string_view name, AttributeValue value) {
  for (Extension& extension : extensions) {
    if (extension.name != name) continue;
    extension.value = std::move(value);
    return;
  }
  extensions.push_back({std::string(name), std::move(value)});
}

std::optional<std::string> Event::attribute(std::string_view name) const {
  const struct {
    std::string_view name;
    const std::string& value;
  } core[] = {{"id", id},
              {"source", source},
              {"type", type},
              {"subject", subject},
              {"time", time},
              {"datacontenttype", datacontenttype},
              {"dataschema", dataschema}};
  if (name == "specversion") return "1.0";
  for (const auto& attribute : core) {
    if (attribute.name == name) return attribute.value.empty() ? std::nullopt : std::optional(attribute.value);
  }
  if (const AttributeValue* value = extension(name)) return to_string(*value);
  return std::nullopt;
}

std::int32_t data_version(const Event& event) {
  const AttributeValue* value = event.extension("dataversion");
  if (value == nullptr) return 1;
  std::int32_t version = 0;
  if (const auto* number = std::get_if<std::int32_t>(value)) {
    version = *number;
  } else if (const auto* text = std::get_if<std::string>(value)) {  // HTTP binary mode has only strings
    const char* end = text->data() + text->size();
    const auto [stop, error] = std::from_chars(text->data(), end, version);
    if (error != std::errc{} || stop != end) version = 0;
  }
  if (version < 1) {
    throw Error(Errc::invalid_event, "read schema version", "dataversion", "must be an integer of at least 1");
  }
  return version;
}

EventBuilder::EventBuilder(std::string_view type, std::string_view source) {
  event_.type = type;
  event_.source = source;
}

EventBuilder& EventBuilder::id(std::string_view value) {
  event_.id = value;
  return *this;
}

EventBuilder& EventBuilder::time(std::string_view rfc3339) {
  event_.time = rfc3339;
  return *this;
}

EventBuilder& EventBuilder::subject(std::string_view value) {
  event_.subject = value;
  return *this;
}

EventBuilder& EventBuilder::dataschema(std::string_view uri) {
  event_.dataschema = uri;
  return *this;
}

EventBuilder& EventBuilder::extension(std::string_view name, AttributeValue value) {
  event_.set_extension(name, std::move(value));
  return *this;
}

EventBuilder& EventBuilder::partition_key(std::string_view key) {
  return extension("partitionkey", std::string(key));
}

EventBuilder& EventBuilder::data(std::string bytes, std::string_view content_type) {
  event_.data = std::move(bytes);
  event_.datacontenttype = content_type;
  return *this;
}

EventBuilder& EventBuilder::json(std::string text) {
  return data(std::move(text), "application/json");
}

EventBuilder& EventBuilder::text(std::string utf8) {
  return data(std::move(utf8), "text/plain; charset=utf-8");
}

Event EventBuilder::build() const {
  Event event = event_;
  if (event.id.empty()) event.id = new_uuid_v7();
  if (event.time.empty()) event.time = rfc3339_now_nanoseconds();
  validate(event, {.operation = "build event"});
  return event;
}

}  // namespace millrace
