// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// Where a command's work is done: a running daemon over HTTP, or a store that the command opens itself. Both speak the
/// HTTP API (docs/http-api.md), so that a command is written once and `--json` prints the same shapes.

#include <boost/json.hpp>
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "http/message.hpp"

namespace millrace::cli {

using Query = std::vector<std::pair<std::string, std::string>>;

/// Not thread-safe. Every call blocks.
class Target {
 public:
  virtual ~Target() = default;
  /// The URL or the store, for messages.
  [[nodiscard]] virtual std::string name() const = 0;
  /// \throws CannotConnect; Error{outcome_unknown} when the connection broke after something was sent
  virtual http::Response send(const http::Request& request) = 0;
  /// A GET whose answer goes on; `chunk` gets the bytes as they come and answers false to end it. Returns when the
  /// other side ended it or `chunk` did, or nothing came for a minute. \throws CannotConnect, Error of a problem
  /// document
  virtual void stream(const http::Request& request, const std::function<bool(std::string_view)>& chunk) = 0;

  boost::json::value get(const std::string& path, Query query = {});
  boost::json::value put(const std::string& path, std::string json);
  boost::json::value post(const std::string& path, const boost::json::value& body);
  boost::json::value patch(const std::string& path, const boost::json::value& body);
  boost::json::value remove(const std::string& path, Query query = {});
};

/// How long one answer may take.
inline constexpr std::chrono::milliseconds kUsualPatience{60'000};

/// A daemon at `url`. \param ca_file PEM file of the CAs to trust; empty: those of the system. \throws
/// Error{invalid_argument} when it is no http URL
std::unique_ptr<Target> make_http_target(const std::string& url, const std::string& token, const std::string& ca_file,
                                         std::chrono::milliseconds patience = kUsualPatience);

/// The store at `url`, opened beside whoever owns it and never created. \throws Error as open_store
std::unique_ptr<Target> open_store_target(const std::string& url);

/// `/v1/groups/` + group + rest, percent-encoded.
std::string group_path(const std::string& group, std::string_view rest = {});
std::string stream_path(const std::string& stream, std::string_view rest = {});

/// What a problem document says. Never returns for a status below 400.
[[noreturn]] void throw_problem(const http::Response& response, const std::string& operation);

}  // namespace millrace::cli
