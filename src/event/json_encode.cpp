// SPDX-License-Identifier: Apache-2.0
#include "base/utf8.hpp"
#include "event/base64.hpp"
#include "event/json_text.hpp"
#include "event/rules.hpp"
#include "millrace/codec.hpp"

namespace millrace {
namespace {

void append_member(std::string& out, std::string_view name, std::string_view value) {
  if (value.empty()) return;
  out += ",\"";
  out += name;
  out += "\":";
  append_json_string(out, value);
}

void append_extension(std::string& out, const Extension& extension) {
  out += ',';
  append_json_string(out, extension.name);
  out += ':';
  if (const auto* text = std::get_if<std::string>(&extension.value)) {
    append_json_string(out, *text);
  } else {
    out += to_string(extension.value);
  }
}

void append_data(std::string& out, const Event& event) {
  const std::string& data = *event.data;
  if (is_json_content_type(event.datacontenttype)) {
    // One level less, because the event around it is one. A bare null would be read as "no data".
    if (json_text::is_valid(data, kMaxJsonDepth - 1) && json_text::trim(data) != "null") {
      out += ",\"data\":";
      const bool one_line = data.find_first_of("\r\n") == std::string::npos;
      if (one_line) {
        out += json_text::trim(data);
      } else {
        json_text::append_minified(out, data);
      }
      return;
    }
  } else if (!event.datacontenttype.empty() && is_utf8(data)) {
    out += ",\"data\":";
    append_json_string(out, data);
    return;
  }
  out += ",\"data_base64\":\"";
  append_base64(out, data);
  out += '"';
}

}  // namespace

void encode_json_to(const Event& event, std::string& out) {
  out += R"({"specversion":"1.0")";
  append_member(out, "id", event.id);
  append_member(out, "source", event.source);
  append_member(out, "type", event.type);
  append_member(out, "subject", event.subject);
  append_member(out, "time", event.time);
  append_member(out, "datacontenttype", event.datacontenttype);
  append_member(out, "dataschema", event.dataschema);
  for (const Extension& extension : event.extensions) append_extension(out, extension);
  if (event.data) append_data(out, event);
  out += '}';
}

std::string encode_json(const Event& event) {
  std::string out;
  out.reserve(256 + (event.data ? event.data->size() : 0));
  encode_json_to(event, out);
  return out;
}

std::string encode_json_batch(std::span<const Event> events) {
  std::string out = "[";
  for (const Event& event : events) {
    if (out.size() > 1) out += ',';
    encode_json_to(event, out);
  }
  out += ']';
  return out;
}

}  // namespace millrace
