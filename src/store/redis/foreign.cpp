// SPDX-License-Identifier: Apache-2.0
#include "store/redis/foreign.hpp"

#include <algorithm>
#include <charconv>
#include <set>

#include "base/time.hpp"
#include "base/utf8.hpp"
#include "event/rules.hpp"

namespace millrace::store::redis {
namespace {

/// Milliseconds since 1970 become RFC 3339; anything else is left to be judged as it is.
std::string time_text(const std::string& value) {
  std::int64_t milliseconds = 0;
  const char* end = value.data() + value.size();
  const auto [stop, failure] = std::from_chars(value.data(), end, milliseconds);
  constexpr std::int64_t kYear10000 = 253'402'300'800'000;
  if (failure != std::errc{} || stop != end || milliseconds < 0 || milliseconds >= kYear10000) return value;
  return format_rfc3339(Timestamp{std::chrono::milliseconds{milliseconds}});
}

class Fields {
 public:
  explicit Fields(std::vector<Reply>& fields) : fields_(fields), used_(fields.size() / 2, false) {}

  /// The value of the first of these names that has one. (An empty value means "none" to those who write them.)
  std::string take(const std::vector<std::string>& names) {
    for (const std::string& name : names) {
      for (std::size_t i = 0; i < used_.size(); ++i) {
        if (used_[i] || fields_[2 * i].as_text() != name || fields_[2 * i + 1].as_text().empty()) continue;
        used_[i] = true;
        return fields_[2 * i + 1].text;
      }
    }
    return {};
  }

  /// All others as one JSON object; nullopt when there are none, or `fault` says why it cannot be.
  std::optional<std::string> rest(std::string& fault) const {
    std::string json;
    std::set<std::string_view> names;
    for (std::size_t i = 0; i < used_.size(); ++i) {
      if (used_[i]) continue;
      const std::string& name = fields_[2 * i].as_text();
      const std::string& value = fields_[2 * i + 1].as_text();
      if (!is_utf8(name) || !is_utf8(value)) fault = "field " + printable(name) + " is not UTF-8";
      if (!names.insert(name).second) fault = "field " + printable(name) + " stands twice";
      json += json.empty() ? '{' : ',';
      append_json_string(json, name);
      json += ':';
      append_json_string(json, value);
    }
    if (json.empty()) return std::nullopt;
    return json + '}';
  }

 private:
  std::vector<Reply>& fields_;
  std::vector<bool> used_;
};

}  // namespace

void ForeignMapping::validate() const {
  std::set<std::string> seen;
  const auto check = [&](const char* what, const std::vector<std::string>& names) {
    for (const std::string& name : names) {
      if (name.empty()) throw Error(Errc::invalid_argument, "foreign mapping", what, "a field has a name");
      if (!seen.insert(name).second) {
        throw Error(Errc::invalid_argument, "foreign mapping", what,
                    "field " + printable(name) + " already means something else");
      }
    }
  };
  if (type.empty()) {
    throw Error(Errc::invalid_argument, "foreign mapping", "type", "name at least one field: every event has a type");
  }
  check("type", type);
  check("id", id);
  check("source", source);
  check("subject", subject);
  check("time", time);
  check("trace_id", trace_id);
}

std::string fault_of(const Event& event) {
  try {
    validate(event);
    return {};
  } catch (const Error& error) {
    return error.object() + " " + error.message();
  }
}

void map_foreign(Entry& entry, std::vector<Reply>& fields, const std::string& log_key, const ForeignMapping& mapping) {
  Fields all(fields);
  Event event;
  event.type = all.take(mapping.type);
  if (event.type.empty()) {
    entry.aside = "it has no type: no field named";
    for (const std::string& name : mapping.type) entry.aside += " " + printable(name);
    return;
  }
  event.id = all.take(mapping.id);
  if (event.id.empty()) event.id = id_of(entry.position);
  event.source = all.take(mapping.source);
  if (event.source.empty()) event.source = "redis:" + log_key;
  event.subject = all.take(mapping.subject);
  event.time = time_text(all.take(mapping.time));
  const std::string trace = all.take(mapping.trace_id);
  if (!trace.empty()) event.extensions.push_back({is_traceparent(trace) ? "traceparent" : "traceid", trace});
  event.data = all.rest(entry.aside);
  if (event.data) event.datacontenttype = "application/json";
  if (entry.aside.empty()) entry.aside = fault_of(event);
  if (entry.aside.empty()) entry.event = std::move(event);
}

}  // namespace millrace::store::redis
