// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// Short-lived tokens for browsers: an EventSource cannot send a header, and what stands in a URL ends up in histories
/// and logs. So a program that has a token asks for one that is good for tailing one stream for a while, and for
/// nothing else.

#include <chrono>
#include <string>
#include <string_view>

#include "millrace/types.hpp"

namespace millrace::daemon {

inline constexpr std::chrono::seconds kLongestAccessToken{3600};

/// Makes and knows them. Nothing is stored: a token says what it is good for, signed (HMAC-SHA256, RFC 2104) with a key
/// of this object's own, so it dies with it. Immutable, thread-safe.
class AccessTokens {
 public:
  AccessTokens();  ///< \throws Error{unavailable} when the machine has no randomness to give
  /// `<unix seconds>.<stream>.<hex>`: opaque to whoever carries it.
  [[nodiscard]] std::string make(const StreamName& stream, Timestamp expires) const;
  /// Whether `token` was made here, for this stream, and has not expired.
  [[nodiscard]] bool good_for(std::string_view token, std::string_view stream, Timestamp now) const;

 private:
  [[nodiscard]] std::string signature(std::string_view text) const;
  std::string key_;
};

}  // namespace millrace::daemon
