// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// A CloudEvents 1.0 event (https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md) as a plain value.

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace millrace {

/// The value of an extension attribute, in the CloudEvents types JSON can tell apart. Timestamps, URIs and binary
/// travel as their canonical string. Over HTTP binary mode everything is a string.
using AttributeValue = std::variant<std::string, bool, std::int32_t>;

/// Canonical string form: "true", "false", decimal, or the string itself.
std::string to_string(const AttributeValue& value);

struct Extension {
  std::string name;  ///< `[a-z0-9]+`, never `data` nor a core attribute
  AttributeValue value;
  bool operator==(const Extension&) const = default;
};

/// An event. An empty string means "absent" (CloudEvents forbids empty attributes). Nothing here validates on
/// assignment; `validate` does, and every door into a store calls it.
struct Event {
  std::string id;      ///< required
  std::string source;  ///< required, URI-reference; (source, id) identifies the event
  std::string type;    ///< required
  std::string subject;
  std::string time;                   ///< RFC 3339, kept exactly as it came
  std::string datacontenttype;        ///< RFC 2046
  std::string dataschema;             ///< absolute URI
  std::vector<Extension> extensions;  ///< in the order they came; names unique
  std::optional<std::string> data;    ///< opaque bytes; no value = no data at all, which differs from empty data

  /// The extension of that name, or nullptr.
  [[nodiscard]] const AttributeValue* extension(std::string_view name) const noexcept;
  /// Replaces or adds.
  void set_extension(std::string_view name, AttributeValue value);
  /// Any attribute by its CloudEvents name, core or extension, as its canonical string ("specversion" = "1.0");
  /// nullopt when absent.
  [[nodiscard]] std::optional<std::string> attribute(std::string_view name) const;

  bool operator==(const Event&) const = default;
};

/// The extension an erased event carries instead of its data: when it was erased. Only a store sets it; an event that
/// brings it along is refused when it is published.
inline constexpr std::string_view kErasedTime = "erasedtime";

/// Checks every CloudEvents rule on attributes. \throws Error{invalid_event}: object = the attribute, message = the
/// rule.
void validate(const Event& event);

/// The schema version (`dataversion` extension; absent = 1). \throws Error{invalid_event} unless an integer ≥ 1.
std::int32_t data_version(const Event& event);

/// Builds an event in C++, with `id` = a new UUIDv7 and `time` = now (nanoseconds, UTC) unless given.
///
///     Event e = EventBuilder("order.placed", "/shop").subject("order-42").json(R"({"total": 12})").build();
class EventBuilder {
 public:
  EventBuilder(std::string_view type, std::string_view source);
  EventBuilder& id(std::string_view value);
  EventBuilder& time(std::string_view rfc3339);
  EventBuilder& subject(std::string_view value);
  EventBuilder& dataschema(std::string_view uri);
  EventBuilder& extension(std::string_view name, AttributeValue value);
  /// The order key: the `partitionkey` extension.
  EventBuilder& partition_key(std::string_view key);
  EventBuilder& data(std::string bytes, std::string_view content_type);
  /// data with content type application/json; the text is not parsed.
  EventBuilder& json(std::string text);
  EventBuilder& text(std::string utf8);  ///< data with content type text/plain; charset=utf-8
  /// \throws Error{invalid_event}
  [[nodiscard]] Event build() const;

 private:
  Event event_;
};

}  // namespace millrace
