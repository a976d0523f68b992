// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// Who asks, and what it may: tokens, their scopes and their streams (docs/security.md). A null Principal is somebody a
/// daemon without any token does not ask; it may do everything.

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/config.hpp"
#include "http/message.hpp"
#include "millrace/pattern.hpp"

namespace millrace::daemon {

/// What a call asks of a token. `admin` is good for all of them.
enum class Needs {
  nothing,  ///< /health and /ready: what asks them has no secrets
  token,    ///< any token
  publish,
  consume,
  metrics,
  admin,
};

/// What a call touches, and so who looks whether the token is for it.
enum class Reach {
  nothing,  ///< no stream's content
  stream,   ///< the {stream} of its path; judged before the body is read
  group,    ///< the stream of the {group} of its path; judged before the handler runs
  handler,  ///< known to the handler only: it checks, or leaves out what the token is not for
  store,    ///< everything: needs a token for all streams
};

/// The owner of a token. Immutable.
struct Principal {
  std::string name;
  std::vector<Scope> scopes;
  PatternList streams;

  [[nodiscard]] bool may(Needs needs) const;
};

/// What a limited token is told when it asks for more: each throws Error{permission_denied} naming the token and the
/// missing scope or stream, and logs it.
void check_scope(const Principal* who, Needs needs);
void check_stream(const Principal* who, std::string_view stream);
void check_store(const Principal* who);

/// Whether what is listed may show a stream.
bool sees(const Principal* who, std::string_view stream);
/// Whether checking streams would change nothing.
bool sees_all(const Principal* who);

/// The tokens of a configuration. Immutable, thread-safe.
class Tokens {
 public:
  explicit Tokens(const Config& config);
  [[nodiscard]] bool asked() const { return !entries_.empty(); }
  /// Nobody for a request without a bearer token or with an unknown one. Takes as long whichever it is.
  [[nodiscard]] const Principal* owner(const http::Request& request) const;

 private:
  struct Entry {
    std::string secret;
    Principal principal;
  };
  std::vector<Entry> entries_;
};

}  // namespace millrace::daemon
