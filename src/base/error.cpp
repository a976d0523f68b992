// SPDX-License-Identifier: Apache-2.0
#include "millrace/error.hpp"

namespace millrace {
namespace {

std::string describe(Errc code, const std::string& operation, const std::string& object, const std::string& message,
                     const std::string& native) {
  std::string text = operation;
  if (!object.empty()) {
    if (!text.empty()) text += ' ';
    text += object;
  }
  if (!text.empty()) text += ": ";
  text += message;
  text += " [";
  text += to_string(code);
  if (!native.empty()) {
    text += "; ";
    text += native;
  }
  text += ']';
  return text;
}

}  // namespace

std::string_view to_string(Errc code) noexcept {
  switch (code) {
    case Errc::invalid_argument:
      return "invalid_argument";
    case Errc::invalid_event:
      return "invalid_event";
    case Errc::too_large:
      return "too_large";
    case Errc::unknown_stream:
      return "unknown_stream";
    case Errc::unknown_group:
      return "unknown_group";
    case Errc::already_exists:
      return "already_exists";
    case Errc::group_mismatch:
      return "group_mismatch";
    case Errc::not_found:
      return "not_found";
    case Errc::busy:
      return "busy";
    case Errc::store_full:
      return "store_full";
    case Errc::unavailable:
      return "unavailable";
    case Errc::outcome_unknown:
      return "outcome_unknown";
    case Errc::timed_out:
      return "timed_out";
    case Errc::stopped:
      return "stopped";
    case Errc::permission_denied:
      return "permission_denied";
    case Errc::read_only:
      return "read_only";
    case Errc::corrupt:
      return "corrupt";
    case Errc::upcast_failed:
      return "upcast_failed";
    case Errc::unsupported_version:
      return "unsupported_version";
    case Errc::internal:
      return "internal";
  }
  return "internal";
}

bool is_transient(Errc code) noexcept {
  switch (code) {
    case Errc::busy:
    case Errc::store_full:
    case Errc::unavailable:
    case Errc::outcome_unknown:
    case Errc::timed_out:
      return true;
    default:
      return false;
  }
}

Error::Error(Errc code, std::string operation, std::string object, std::string message, std::string native)
    : std::runtime_error(describe(code, operation, object, message, native)),
      code_(code),
      operation_(std::move(operation)),
      object_(std::move(object)),
      message_(std::move(message)),
      native_(std::move(native)) {}

}  // namespace millrace
