// SPDX-License-Identifier: Apache-2.0
#include "http/problem.hpp"

#include <cstdint>
#include <utility>

namespace millrace::http {
namespace {

/// Length of the UTF-8 sequence that begins `text`, or 0 when it is not one (RFC 3629 §4).
std::size_t utf8_length(std::string_view text) noexcept {
  const auto at = [&](std::size_t i) { return static_cast<std::uint8_t>(text[i]); };
  const auto tail = [&](std::size_t i, std::uint8_t low = 0x80, std::uint8_t high = 0xBF) {
    return i < text.size() && at(i) >= low && at(i) <= high;
  };
  const std::uint8_t c = at(0);
  if (c < 0x80) return 1;
  if (c >= 0xC2 && c <= 0xDF) return tail(1) ? 2 : 0;
  if (c >= 0xE0 && c <= 0xEF) {
    return tail(1, c == 0xE0 ? 0xA0 : 0x80, c == 0xED ? 0x9F : 0xBF) && tail(2) ? 3 : 0;
  }
  if (c >= 0xF0 && c <= 0xF4) {
    return tail(1, c == 0xF0 ? 0x90 : 0x80, c == 0xF4 ? 0x8F : 0xBF) && tail(2) && tail(3) ? 4 : 0;
  }
  return 0;
}

}  // namespace

unsigned status_of(Errc code) noexcept {
  switch (code) {
    case Errc::invalid_argument:
    case Errc::invalid_event:
      return 400;
    case Errc::too_large:
      return 413;
    case Errc::unknown_stream:
    case Errc::unknown_group:
    case Errc::not_found:
      return 404;
    case Errc::already_exists:
    case Errc::group_mismatch:
      return 409;
    case Errc::permission_denied:
      return 403;
    case Errc::store_full:
      return 507;
    case Errc::busy:
    case Errc::unavailable:
    case Errc::outcome_unknown:
    case Errc::stopped:
    case Errc::read_only:
      return 503;
    case Errc::timed_out:
      return 504;
    case Errc::corrupt:
    case Errc::unsupported_version:
    case Errc::internal:
      return 500;
  }
  return 500;
}

std::string json_quote(std::string_view text) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string out = "\"";
  while (!text.empty()) {
    const std::size_t length = utf8_length(text);
    const char c = text.front();
    if (length == 0) {
      out += "\xEF\xBF\xBD";
      text.remove_prefix(1);
      continue;
    }
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '\r') {
      out += "\\r";
    } else if (c == '\t') {
      out += "\\t";
    } else if (static_cast<unsigned char>(c) < 0x20) {
      out += "\\u00";
      out += kDigits[static_cast<unsigned char>(c) >> 4U];
      out += kDigits[static_cast<unsigned char>(c) & 15U];
    } else {
      out += text.substr(0, length);
    }
    text.remove_prefix(length);
  }
  out += '"';
  return out;
}

Response to_response(const Problem& problem) {
  std::string body = "{\"type\":\"about:blank\",\"title\":" + json_quote(reason_phrase(problem.status)) +
                     ",\"status\":" + std::to_string(problem.status) + ",\"detail\":" + json_quote(problem.detail) +
                     ",\"code\":" + json_quote(problem.code) +
                     ",\"retryable\":" + (problem.retryable ? "true" : "false");
  if (!problem.object.empty()) body += ",\"object\":" + json_quote(problem.object);
  if (!problem.native.empty()) body += ",\"native\":" + json_quote(problem.native);
  body += problem.extra;
  body += '}';
  Response response{problem.status, {{"Content-Type", "application/problem+json"}}, std::move(body)};
  if (problem.status == 429 || problem.status == 503) response.headers.emplace_back("Retry-After", "1");
  return response;
}

Problem problem_of(const Error& error) {
  std::string detail = error.operation();
  if (!error.object().empty()) detail += (detail.empty() ? "" : " ") + error.object();
  if (!error.message().empty()) detail += (detail.empty() ? "" : ": ") + error.message();
  return {status_of(error.code()), std::string(to_string(error.code())),
          std::move(detail),       is_transient(error.code()),
          error.object(),          error.native()};
}

}  // namespace millrace::http
