// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>

#include "base/utf8.hpp"
#include "event/rules.hpp"
#include "millrace/codec.hpp"
#include "millrace/error.hpp"

namespace millrace {
namespace {

constexpr const char* kOperation = "decode event";
constexpr std::string_view kPrefix = "ce-";

[[noreturn]] void refuse(std::string_view attribute, std::string rule) {
  throw Error(Errc::invalid_event, kOperation, printable(attribute.substr(0, 64)), std::move(rule));
}

std::string lower(std::string_view text) {
  std::string out(text);
  std::transform(out.begin(), out.end(), out.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
  return out;
}

std::string_view trim(std::string_view text) {
  const auto is_space = [](char c) { return c == ' ' || c == '\t'; };
  while (!text.empty() && is_space(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_space(text.back())) text.remove_suffix(1);
  return text;
}

/// RFC 7230 §3.2.6: what a quoted-string says. Senders of earlier versions of the binding quote.
std::string unquoted(std::string_view attribute, std::string_view value) {
  if (!value.starts_with('"')) return std::string(value);
  std::string out;
  for (std::size_t i = 1; i < value.size(); ++i) {
    if (value[i] == '"') {
      if (i + 1 == value.size()) return out;
      break;
    }
    if (value[i] == '\\' && ++i == value.size()) break;
    out += value[i];
  }
  refuse(attribute, "begins with a quote, but is not one quoted string (RFC 7230)");
}

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return -1;
}

std::string percent_decoded(std::string_view attribute, std::string_view value) {
  std::string out;
  out.reserve(value.size());
  for (std::size_t i = 0; i < value.size(); ++i) {
    if (value[i] != '%') {
      out += value[i];
      continue;
    }
    const int high = i + 1 < value.size() ? hex_digit(value[i + 1]) : -1;
    const int low = i + 2 < value.size() ? hex_digit(value[i + 2]) : -1;
    if (high < 0 || low < 0) refuse(attribute, "a % must begin two hexadecimal digits; a percent sign itself is %25");
    out += static_cast<char>(high * 16 + low);
    i += 2;
  }
  if (!is_utf8(out)) refuse(attribute, "must be UTF-8 after percent-decoding");
  return out;
}

std::string percent_encoded(std::string_view value) {
  constexpr char kHex[] = "0123456789ABCDEF";
  std::string out;
  out.reserve(value.size());
  for (const char c : value) {
    if (c > 0x20 && c < 0x7F && c != '"' && c != '%') {
      out += c;
    } else {
      const auto byte = static_cast<unsigned char>(c);
      out += '%';
      out += kHex[byte >> 4U];
      out += kHex[byte & 0xFU];
    }
  }
  return out;
}

std::string* core_attribute(Event& event, std::string_view name) {
  if (name == "id") return &event.id;
  if (name == "source") return &event.source;
  if (name == "type") return &event.type;
  if (name == "subject") return &event.subject;
  if (name == "time") return &event.time;
  if (name == "dataschema") return &event.dataschema;
  return nullptr;
}

class HeaderReader {
 public:
  void take(const HttpHeader& header) {
    const std::string name = lower(header.first);
    if (name == "content-type") {
      if (!event_.datacontenttype.empty()) refuse("datacontenttype", "Content-Type must not stand twice");
      event_.datacontenttype = trim(header.second);
      if (event_.datacontenttype.empty()) refuse("datacontenttype", "Content-Type must not be empty");
    } else if (name.starts_with(kPrefix)) {
      const auto attribute = std::string_view(name).substr(kPrefix.size());
      take_attribute(attribute, percent_decoded(attribute, unquoted(attribute, trim(header.second))));
    }
  }

  Event finish(std::string_view body, bool require_id) {
    if (!versioned_) refuse("specversion", "is required: the header ce-specversion");
    validate(event_, {.operation = kOperation, .require_id = require_id});
    if (!body.empty() || !event_.datacontenttype.empty()) event_.data = body;
    return std::move(event_);
  }

 private:
  void take_attribute(std::string_view name, std::string value) {
    if (name == "datacontenttype") refuse(name, "is the header Content-Type, not ce-datacontenttype");
    if (name == "specversion") {
      if (versioned_) refuse(name, "must not stand twice in one event");
      if (value != "1.0") refuse(name, "must be 1.0");
      versioned_ = true;
      return;
    }
    if (std::string* attribute = core_attribute(event_, name)) {
      if (!attribute->empty()) refuse(name, "must not stand twice in one event");
      if (value.empty()) refuse(name, "must not be empty");
      *attribute = std::move(value);
      return;
    }
    event_.extensions.push_back({std::string(name), std::move(value)});  // names are judged with the whole event
  }

  Event event_;
  bool versioned_ = false;
};

}  // namespace

Event decode_http_binary(std::span<const HttpHeader> headers, std::string_view body, bool require_id) {
  HeaderReader reader;
  for (const HttpHeader& header : headers) reader.take(header);
  return reader.finish(body, require_id);
}

HttpMessage encode_http_binary(const Event& event) {
  HttpMessage message;
  const auto add = [&](std::string_view name, std::string_view value) {
    if (!value.empty()) message.headers.emplace_back(fmt::format("{}{}", kPrefix, name), percent_encoded(value));
  };
  add("specversion", "1.0");
  add("id", event.id);
  add("source", event.source);
  add("type", event.type);
  add("subject", event.subject);
  add("time", event.time);
  add("dataschema", event.dataschema);
  for (const Extension& extension : event.extensions) {
    message.headers.emplace_back(fmt::format("{}{}", kPrefix, extension.name),
                                 percent_encoded(to_string(extension.value)));
  }
  if (!event.datacontenttype.empty()) message.headers.emplace_back("Content-Type", event.datacontenttype);
  if (event.data) message.body = *event.data;
  return message;
}

}  // namespace millrace
