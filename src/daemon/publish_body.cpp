// SPDX-License-Identifier: Apache-2.0
#include "daemon/publish_body.hpp"

#include <functional>

#include "bus/door.hpp"
#include "millrace/codec.hpp"

namespace millrace::daemon {
namespace {

constexpr std::size_t kMostNamed = 100;

/// "Application/JSON ; charset=utf-8" → "application/json"
std::string media_type(std::string_view text) {
  text = text.substr(0, text.find(';'));
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  std::string out(text);
  for (char& c : out) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return out;
}

Error bad_key(std::string why) {
  return {Errc::invalid_argument, "publish", "Idempotency-Key", std::move(why)};
}

void check_size(const Event& event, const PublishLimits& limits) {
  if (event.data && event.data->size() > limits.max_event_bytes) {
    throw Error(Errc::too_large, "publish", "data",
                "the data of the event has " + std::to_string(event.data->size()) +
                    " bytes, server.max_event_bytes is " + std::to_string(limits.max_event_bytes));
  }
  std::size_t attributes = event.id.size() + event.source.size() + event.type.size() + event.subject.size() +
                           event.time.size() + event.datacontenttype.size() + event.dataschema.size();
  for (const Extension& extension : event.extensions)
    attributes += extension.name.size() + to_string(extension.value).size();
  if (attributes > limits.max_header_bytes) {
    throw Error(Errc::too_large, "publish", "attributes",
                "the attributes of the event have " + std::to_string(attributes) +
                    " bytes, server.max_header_bytes is " + std::to_string(limits.max_header_bytes));
  }
}

/// Decodes one and judges it alone.
void add(Decoded& out, std::size_t index, const PublishLimits& limits, const std::function<Event()>& decode) {
  try {
    Event event = decode();
    check_size(event, limits);
    bus::check_not_erased(event);
    if (out.bad.empty()) out.events.push_back(std::move(event));
  } catch (const Error& error) {
    if (error.code() != Errc::invalid_event && error.code() != Errc::too_large) throw;
    if (out.bad.size() < kMostNamed) out.bad.push_back({index, error.code(), error.object(), error.message()});
  }
}

}  // namespace

PublishMode publish_mode(const http::Request& request) {
  if (request.header("ce-specversion") != nullptr) return PublishMode::binary;
  const std::string* header = request.header("Content-Type");
  const std::string type = header == nullptr ? "" : media_type(*header);
  if (type == "application/cloudevents+json") return PublishMode::structured;
  if (type == "application/cloudevents-batch+json") return PublishMode::batch;
  if (type == "application/x-ndjson") return PublishMode::ndjson;
  throw UnsupportedMediaType{header == nullptr ? "" : *header};
}

std::string parse_idempotency_key(std::string_view text) {
  if (text.empty()) throw bad_key("is empty");
  std::string out;
  const bool quoted = text.front() == '"';
  if (quoted) text.remove_prefix(1);
  bool closed = !quoted;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    const bool printable = c >= (quoted ? ' ' : '!') && c <= '~';
    if (!printable) throw bad_key("holds a character that is not printable ASCII");
    if (quoted && c == '"') {
      if (i + 1 != text.size()) throw bad_key("has something after the closing quote");
      closed = true;
    } else if (quoted && c == '\\') {
      if (i + 1 >= text.size() || (text[i + 1] != '"' && text[i + 1] != '\\')) throw bad_key("has a stray backslash");
      out += text[++i];
    } else if (!quoted && (c == '"' || c == ',')) {
      throw bad_key("is neither one quoted string nor one bare token");
    } else {
      out += c;
    }
  }
  if (!closed) throw bad_key("has no closing quote");
  if (out.empty()) throw bad_key("is empty");
  return out;
}

Decoded decode_publish(const http::Request& request, PublishMode mode, const PublishLimits& limits) {
  const std::string* header = request.header("Idempotency-Key");
  const bool single = mode == PublishMode::binary || mode == PublishMode::structured;
  if (header != nullptr && !single) throw bad_key("stands for the id of a single event, not of a batch");
  const std::string key = header == nullptr ? "" : parse_idempotency_key(*header);
  const auto keyed = [&](Event event) {
    if (header != nullptr && !event.id.empty() && event.id != key) {
      throw bad_key("'" + key + "' differs from the event's id '" + event.id + "'; send one of them");
    }
    if (event.id.empty()) event.id = key;
    validate(event);
    return event;
  };

  Decoded out;
  switch (mode) {
    case PublishMode::binary:
      add(out, 0, limits, [&] { return keyed(decode_http_binary(request.headers, request.body, header == nullptr)); });
      break;
    case PublishMode::structured:
      add(out, 0, limits,
          [&] { return header == nullptr ? decode_json(request.body) : keyed(decode_json_lenient(request.body)); });
      break;
    case PublishMode::batch: {
      std::size_t index = 0;
      for (const std::string& text : split_json_array(request.body)) {
        add(out, index++, limits, [&] { return decode_json(text); });
      }
      break;
    }
    case PublishMode::ndjson: {
      std::size_t index = 0;
      std::string_view rest = request.body;
      while (!rest.empty()) {
        const std::string_view line = rest.substr(0, rest.find('\n'));
        rest.remove_prefix(std::min(rest.size(), line.size() + 1));
        if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
        add(out, index++, limits, [&] { return decode_json(line); });
      }
      break;
    }
  }
  return out;
}

}  // namespace millrace::daemon
