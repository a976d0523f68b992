// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// The body of a publish request, in any of the modes of the CloudEvents HTTP binding or as NDJSON. Pure.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "http/problem.hpp"
#include "millrace/event.hpp"

namespace millrace::daemon {

enum class PublishMode { binary, structured, batch, ndjson };

/// Any `ce-specversion` header means binary; else the Content-Type says it.
/// \throws UnsupportedMediaType
PublishMode publish_mode(const http::Request& request);
struct UnsupportedMediaType {
  std::string content_type;
};

/// `Idempotency-Key`: a quoted structured-field string (RFC 8941 §3.3.3) or, as most clients send it, the bare text.
/// \throws Error{invalid_argument}
std::string parse_idempotency_key(std::string_view text);

struct PublishLimits {
  std::uint64_t max_event_bytes;   ///< of an event's data
  std::uint64_t max_header_bytes;  ///< of its attributes, as binary mode would carry them
};

struct Decoded {
  std::vector<Event> events;
  struct Bad {
    std::size_t index;
    Errc code;
    std::string object;
    std::string detail;
  };
  std::vector<Bad> bad;  ///< not empty: nothing must be stored. At most 100 are named
};

/// \throws Error{invalid_event} when the body as a whole cannot be read, {invalid_argument} for a misplaced key
Decoded decode_publish(const http::Request& request, PublishMode mode, const PublishLimits& limits);

}  // namespace millrace::daemon
