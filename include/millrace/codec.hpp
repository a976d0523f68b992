// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// CloudEvents on the wire: JSON event format and HTTP protocol binding, version 1.0.2
/// (cloudevents/formats/json-format.md, cloudevents/bindings/http-protocol-binding.md in the specification).
/// All functions are pure and thread-safe. Decoders validate; what they return obeys `validate`.

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "millrace/event.hpp"

namespace millrace {

/// How deep JSON may nest before it is refused.
inline constexpr std::size_t kMaxJsonDepth = 256;

/// One event in the JSON format. `data` is kept as the bytes that stood there (numbers keep their digits).
/// \throws Error{invalid_event}: object = the attribute (or "json"), message = the rule and, for syntax, the byte.
Event decode_json(std::string_view text);

/// As decode_json, but `id` and/or `source` may be absent: the caller fills them in and validates.
/// For the command line and Idempotency-Key.
Event decode_json_lenient(std::string_view text);

/// One line of JSON, no trailing newline. Data under a JSON content type that is valid JSON goes into `data` as it
/// is; other valid UTF-8 under a non-JSON content type goes in as a string; everything else into `data_base64`.
std::string encode_json(const Event& event);
void encode_json_to(const Event& event, std::string& out);  ///< appends

/// A JSON array of events. \throws Error{invalid_event} whose object begins with "[index]" of the first bad one.
std::vector<Event> decode_json_batch(std::string_view text);
/// Splits a JSON array into the raw text of its elements without decoding them, so that each can be judged alone.
std::vector<std::string> split_json_array(std::string_view text);
std::string encode_json_batch(std::span<const Event> events);

using HttpHeader = std::pair<std::string, std::string>;

/// HTTP binary mode: attributes in `ce-*` headers (names compared without case, values percent-decoded), body = data.
/// `require_id` = false lets `ce-id` be absent. A request with no body and no Content-Type has no data.
Event decode_http_binary(std::span<const HttpHeader> headers, std::string_view body, bool require_id = true);

struct HttpMessage {
  std::vector<HttpHeader> headers;
  std::string body;
};
HttpMessage encode_http_binary(const Event& event);

}  // namespace millrace
