// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// A small blocking HTTP client for the command line and the tests.

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "http/message.hpp"
#include "millrace/types.hpp"

namespace millrace::http {

struct ClientOptions {
  std::string url = "http://127.0.0.1:8420";  ///< scheme, host and port, maybe a path prefix
  std::string token = {};                     ///< sent as `Authorization: Bearer`
  Milliseconds connect_timeout{5'000};
  std::string ca_file = {};  ///< PEM file of the CAs to trust; empty: those of the system
};

/// Not thread-safe: one per thread. Keeps its connection between calls. Follows no redirects.
class Client {
 public:
  explicit Client(ClientOptions options);
  ~Client();
  Client(Client&&) noexcept;
  Client& operator=(Client&&) noexcept;

  /// \param path begins with '/', query included, percent-encoded already.
  /// \param timeout of the whole call.
  /// Any status is an answer. \throws Error{unavailable} when nobody is there or its certificate is not trusted
  /// (nothing was sent), {timed_out}, {outcome_unknown} when the connection broke after the request was sent,
  /// {invalid_argument} for a bad URL.
  Response request(std::string_view method, std::string_view path, const std::vector<Header>& headers = {},
                   std::string_view body = {}, Milliseconds timeout = Milliseconds{60'000});

  /// GETs an answer that does not end by itself, piece by piece. `on_chunk` returns false to hang up. Blocks until the
  /// server ends it, `on_chunk` hangs up, or nothing came for `idle_timeout`. A status other than 200 is returned with
  /// its body; then `on_chunk` is not called.
  /// \throws Error as request.
  Response stream(std::string_view path, const std::vector<Header>& headers,
                  const std::function<bool(std::string_view)>& on_chunk, Milliseconds idle_timeout);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace millrace::http
