// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// One request on its way through the API, and what all handlers share.

#include <atomic>
#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/executor.hpp"
#include "daemon/config.hpp"
#include "daemon/params.hpp"
#include "daemon/timer.hpp"
#include "http/problem.hpp"
#include "http/server.hpp"
#include "millrace/bus.hpp"
#include "millrace/store.hpp"

namespace millrace::daemon {

class Metrics;
class Claims;
class Probe;
class Tails;
class Schemas;
class AccessTokens;
struct Route;
struct Principal;

/// What handlers work with. Everything in it is thread-safe.
struct Services {
  Store& store;
  Bus& bus;
  const Config& config;
  Metrics& metrics;
  Timer& timer;
  Executor& ingest;
  Executor& work;
  Claims& claims;
  Tails& tails;
  Schemas& schemas;
  const AccessTokens& access_tokens;
  std::function<http::Server::Stats()> server;  ///< empty when there is no server
  std::function<bool()> stopping;
  std::chrono::steady_clock::time_point started;
  Probe& probe;

  /// Runs `task` on `work` soon, without waiting for room and without losing it. `task` must not throw.
  void soon(std::function<void()> task);
};

/// Answers are given through it, so that each is counted once.
class Call {
 public:
  Call(Metrics& metrics, const Route& route, std::map<std::string, std::string> path, http::Request request,
       std::shared_ptr<http::Exchange> exchange, const Principal* who);

  const http::Request& request() const { return request_; }
  http::Request& request() { return request_; }
  const std::string& path(const std::string& name) const { return path_.at(name); }
  Query query() const;
  /// Who asks; null when nobody is asked for a token.
  const Principal* who() const { return who_; }
  http::Exchange& exchange() { return *exchange_; }

  void respond(http::Response response, std::function<void(bool)> sent = {});
  void json(std::string body, unsigned status = 200, std::function<void(bool)> sent = {});
  void fail(const Error& error);
  void fail(const http::Problem& problem);
  std::shared_ptr<http::Stream> start_stream(std::vector<http::Header> headers);

 private:
  void count(unsigned status);

  Metrics& metrics_;
  const Route& route_;
  std::map<std::string, std::string> path_;
  http::Request request_;
  std::shared_ptr<http::Exchange> exchange_;
  const Principal* who_;
  std::chrono::steady_clock::time_point began_;
  std::atomic<bool> counted_{false};
};

/// Whether the token is for the stream of the {group} of the path. Asks the store when the token is for some streams
/// only. \throws Error{permission_denied}, {unknown_group}
void check_group(Services& services, const Call& call);

/// Runs `body`; what it throws is the answer.
void guarded(const std::shared_ptr<Call>& call, const std::function<void()>& body);

}  // namespace millrace::daemon
