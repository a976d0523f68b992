// SPDX-License-Identifier: Apache-2.0
#include "http/problem.hpp"

#include <utility>

#include "base/utf8.hpp"

namespace millrace::http {

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
    case Errc::upcast_failed:
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
  std::string out;
  append_json_string(out, text);
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
  // Over HTTP one that was told to stop is mostly one that starts again.
  const bool retryable = is_transient(error.code()) || error.code() == Errc::stopped;
  return {status_of(error.code()), std::string(to_string(error.code())), std::move(detail), retryable, error.object(),
          error.native()};
}

}  // namespace millrace::http
