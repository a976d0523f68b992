// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// The HTTP API over an open store, without a socket: the daemon puts it behind its server, a tool may call it itself.

#include <functional>
#include <memory>

#include "daemon/config.hpp"
#include "http/server.hpp"
#include "millrace/bus.hpp"
#include "millrace/store.hpp"

namespace millrace::daemon {

/// Thread-safe. Never blocks: what asks the store runs on its own bounded threads.
class Api {
 public:
  /// All three must outlive it.
  Api(Store& store, Bus& bus, const Config& config);
  ~Api();  ///< end_waits(), finish()

  /// Judges a request by its head: token, path, method, parameters, media type; says how large its body may be.
  http::Admission admit(const http::Request& request);
  /// Answers an admitted request.
  void handle(http::Request request, std::shared_ptr<http::Exchange> exchange);

  /// What `/metrics` and `/v1/stats` say of the server. Before the first request.
  void set_server(std::function<http::Server::Stats()> stats);
  void end_waits();  ///< waiting claims answer empty, tails end; `/ready` says no
  void finish();     ///< runs what is queued, then takes no more

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace millrace::daemon
