// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include "base/time.hpp"
#include "base/utf8.hpp"
#include "event/rules.hpp"
#include "millrace/error.hpp"

namespace millrace {
namespace {

class Validation {
 public:
  Validation(const Event& event, const ValidateOptions& options) : event_(event), options_(options) {}

  void run() const {
    text("id", event_.id, options_.require_id);
    text("source", event_.source, options_.require_source);
    text("type", event_.type, true);
    text("subject", event_.subject, false);
    text("time", event_.time, false);
    text("datacontenttype", event_.datacontenttype, false);
    text("dataschema", event_.dataschema, false);

    if (!event_.source.empty() && !is_uri_reference(event_.source)) {
      refuse("source", "must be a URI-reference (RFC 3986); percent-encode what is not allowed in one");
    }
    if (!event_.time.empty() && !parse_rfc3339(event_.time)) {
      refuse("time", "must be a date-time of RFC 3339, like 2026-11-20T21:33:59.123Z");
    }
    if (!event_.datacontenttype.empty() && !is_media_type(event_.datacontenttype)) {
      refuse("datacontenttype", "must be a media type of RFC 2046, like application/json");
    }
    if (!event_.dataschema.empty() && !is_absolute_uri(event_.dataschema)) {
      refuse("dataschema", "must be an absolute URI (RFC 3986)");
    }
    extensions();
  }

 private:
  [[noreturn]] void refuse(std::string_view attribute, std::string rule) const {
    throw Error(Errc::invalid_event, options_.operation, printable(attribute.substr(0, 64)), std::move(rule));
  }

  void text(std::string_view name, const std::string& value, bool required) const {
    if (value.empty()) {
      if (required) refuse(name, "is required and must not be empty");
      return;
    }
    if (auto fault = string_fault(value)) refuse(name, std::move(*fault));
  }

  void extensions() const {
    for (const Extension& extension : event_.extensions) {
      if (auto fault = extension_name_fault(extension.name)) refuse(extension.name, std::move(*fault));
      if (const auto* value = std::get_if<std::string>(&extension.value)) {
        if (auto fault = string_fault(*value)) refuse(extension.name, std::move(*fault));
      }
    }
    if (event_.extensions.size() < 2) return;
    std::vector<std::string_view> names;
    names.reserve(event_.extensions.size());
    for (const Extension& extension : event_.extensions) names.emplace_back(extension.name);
    if (const auto repeated = repeated_name(names)) refuse(*repeated, "must not stand twice in one event");
  }

  const Event& event_;
  const ValidateOptions& options_;
};

}  // namespace

void validate(const Event& event, const ValidateOptions& options) {
  Validation(event, options).run();
}

void validate(const Event& event) {
  validate(event, ValidateOptions{});
}

}  // namespace millrace
